//go:build unix

package rediscache_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/rediscache"
	"github.com/dssauth/dssauth/rediscache/internal/redistest"
	"github.com/dssauth/dssauth/storetest"
)

const password = "correct-horse-battery"

// grant has the rights from the package's documentation.
const grant = "~dssauth:* &dssauth:forgotten -@all +get +set +del +publish +subscribe +ping"

func TestStore(t *testing.T) {
	t.Parallel()
	for _, program := range redistest.Programs(t) {
		run := func(name string, start func(t *testing.T) (rueidis.ClientOption, []*redistest.Server)) {
			t.Run(program+", "+name, func(t *testing.T) {
				t.Parallel()
				option, servers := start(t)
				storetest.Run(t, func(t *testing.T) dssauth.Store { return open(t, option) })
				for _, s := range servers {
					assert.Empty(t, s.CLI("acl", "log"), "a command was refused")
				}
			})
		}
		run("single", func(t *testing.T) (rueidis.ClientOption, []*redistest.Server) {
			s := redistest.Start(t, program)
			return option(s), []*redistest.Server{s}
		})
		run("TLS and a user with few rights", func(t *testing.T) (rueidis.ClientOption, []*redistest.Server) {
			args, config := certificates(t)
			s := redistest.Start(t, program, append(args, user(grant)...)...)
			o := option(s)
			o.TLSConfig = config
			o.Username, o.Password = "dssauth", password
			return o, nil
		})
		run("cluster, and a user with few rights", func(t *testing.T) (rueidis.ClientOption, []*redistest.Server) {
			nodes := redistest.StartCluster(t, program, 3, user(grant+" +cluster|slots +cluster|shards")...)
			o := option(nodes...)
			o.Username, o.Password = "dssauth", password
			return o, nodes
		})
		run("cluster, one address known", func(t *testing.T) (rueidis.ClientOption, []*redistest.Server) {
			return option(redistest.StartCluster(t, program, 3)[0]), nil
		})
		run("sentinel, and a user with few rights", func(t *testing.T) (rueidis.ClientOption, []*redistest.Server) {
			sentinel, master, _ := redistest.StartSentinel(t, program, user(grant+" +role")...)
			o := option(sentinel)
			o.Sentinel.MasterSet = redistest.MasterSet
			o.Username, o.Password = "dssauth", password
			return o, []*redistest.Server{master}
		})
	}
}

func TestDocumentationGrantsWhatIsTested(t *testing.T) {
	text, err := os.ReadFile("rediscache.go")
	require.NoError(t, err)
	assert.Contains(t, string(text), "ACL SETUSER dssauth on >PASSWORD "+grant+"\n")
}

func TestRedisHoldsOneKeyWithItsTTL(t *testing.T) {
	s := start(t)
	store := open(t, option(s))
	w := watch(t, store)
	mustPut(t, store, dssauth.StoreEntry{Key: "key", Value: []byte("value"), TTL: time.Minute, Notify: true})
	assert.Equal(t, "value", w.next(t))
	assert.Equal(t, "dssauth:key", s.CLI("keys", "*"))
	assert.Equal(t, "dssauth:forgotten", s.CLI("pubsub", "channels"))
	assert.Regexp(t, `^(59\d\d\d|60000)$`, s.CLI("pttl", "dssauth:key"))
}

func TestNewRefusesOptionsThatCannotWork(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*rueidis.ClientOption)
		want   string
	}{
		"no address": {func(o *rueidis.ClientOption) { o.InitAddress = nil }, "InitAddress: an address is required"},
		"no port":    {func(o *rueidis.ClientOption) { o.InitAddress = []string{"redis"} }, "InitAddress[0]: host and port are required"},
		"a URL": {func(o *rueidis.ClientOption) {
			o.InitAddress = []string{"redis:6379", "redis://dssauth:" + password + "@redis:6379"}
		}, "InitAddress[1]: host and port are required"},
		"no version of TLS": {func(o *rueidis.ClientOption) {
			o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS12}
		}, "TLSConfig: MinVersion is above MaxVersion"},
		"sentinels without a master": {func(o *rueidis.ClientOption) { o.Sentinel.Password = password }, "Sentinel.MasterSet: the name"},
		"sentinels without TLS": {func(o *rueidis.ClientOption) {
			o.Sentinel.MasterSet = "main"
			o.TLSConfig = &tls.Config{}
		}, "Sentinel.TLSConfig"},
		"TLS for sentinels only": {func(o *rueidis.ClientOption) {
			o.Sentinel.MasterSet = "main"
			o.Sentinel.TLSConfig = &tls.Config{}
		}, "Sentinel.TLSConfig"},
		"a replica": {func(o *rueidis.ClientOption) { o.ReplicaOnly = true }, "ReplicaOnly: a replica stores nothing"},
		"reads from replicas": {func(o *rueidis.ClientOption) {
			o.SendToReplicas = func(rueidis.Completed) bool { return true }
		}, "SendToReplicas: replicas may not know what was forgotten"},
		"replicas of a single server": {func(o *rueidis.ClientOption) {
			o.Standalone.ReplicaAddress = []string{"127.0.0.1:6380"}
		}, "Standalone.ReplicaAddress: replicas may not know"},
		"too many connections":          {func(o *rueidis.ClientOption) { o.PipelineMultiplex = 9 }, "PipelineMultiplex: 9: at most 8"},
		"sentinels asked in the past":   {func(o *rueidis.ClientOption) { o.Sentinel.TopologyRefreshInterval = -1 }, "Sentinel.TopologyRefreshInterval: -1ns"},
		"the cluster asked in the past": {func(o *rueidis.ClientOption) { o.ClusterOption.ShardsRefreshInterval = -1 }, "ClusterOption.ShardsRefreshInterval: -1ns"},
	} {
		t.Run(name, func(t *testing.T) {
			o := rueidis.ClientOption{InitAddress: []string{"127.0.0.1:6379"}}
			row.change(&o)
			_, err := rediscache.New(o)
			require.ErrorContains(t, err, "rediscache: ClientOption."+row.want)
			assert.NotContains(t, err.Error(), password)
		})
	}
}

func TestStoreWorksOnceTheServerIsBack(t *testing.T) {
	s := start(t)
	s.Kill()
	store := open(t, option(s))
	_, err := store.Get(t.Context(), "key")
	require.ErrorContains(t, err, "rediscache: "+s.Address+": not connected: ")
	require.ErrorContains(t, store.Watch(t.Context(), nil, nil), "not connected")
	s.Restart()
	works(t, store)
}

func TestServerThatIsRestartedIsEmpty(t *testing.T) {
	s := start(t)
	store := open(t, option(s))
	mustPut(t, store, dssauth.StoreEntry{Key: "key", Value: []byte("value"), TTL: time.Minute})
	s.Kill()
	_, err := store.Get(t.Context(), "key")
	require.ErrorContains(t, err, s.Address)
	s.Restart()
	works(t, store)
	value, err := store.Get(t.Context(), "key")
	require.NoError(t, err)
	assert.Nil(t, value)
	assert.Contains(t, s.CLI("info", "clients"), "connected_clients:2", "this one's, and one of the store's")
}

func TestDeadlineHoldsWhileServerIsStopped(t *testing.T) {
	for name, harm := range map[string]func(*redistest.Server, *redistest.Proxy){
		"stopped": func(s *redistest.Server, _ *redistest.Proxy) { s.Stop() },
		"cut off": func(_ *redistest.Server, p *redistest.Proxy) { p.CutOff() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			p := redistest.StartProxy(t, s.Address)
			store := open(t, rueidis.ClientOption{InitAddress: []string{p.Address}})
			works(t, store)
			harm(s, p)
			var longest time.Duration
			for range 100 {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				before := time.Now()
				_, err := store.Get(ctx, "key")
				longest = max(longest, time.Since(before))
				require.ErrorIs(t, err, context.DeadlineExceeded)
				cancel()
			}
			t.Logf("figure: longest of 100 calls with a deadline of 50ms, server %s: %v", name, longest.Round(100*time.Microsecond))
			if name == "stopped" {
				s.Continue()
			} else {
				p.Connect()
			}
			works(t, store)
		})
	}
}

// A connection may take longer than a call has time.
func TestConnectionOutlivesCall(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := redistest.StartProxy(t, s.Address)
	store := open(t, rueidis.ClientOption{InitAddress: []string{p.Address}})
	works(t, store)
	p.Delay(150 * time.Millisecond) // A round trip takes 300ms. A connection needs one round trip, and a call another.
	s.Kill()
	s.Restart()
	var err error
	for range 6 {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		_, err = store.Get(ctx, "key")
		cancel()
		if err == nil {
			return
		}
	}
	require.NoError(t, err, "each call tried to connect anew")
}

func TestFullServerStillSendsNotices(t *testing.T) {
	s := start(t)
	store := open(t, option(s))
	mustPut(t, store, dssauth.StoreEntry{Key: "key", Value: []byte("value"), TTL: time.Minute})
	w := watch(t, store)
	s.FillUp()
	kept, err := store.Put(t.Context(), dssauth.StoreEntry{Key: "other", Value: []byte("v"), TTL: time.Minute, IfAbsent: true, Notify: true})
	assert.ErrorContains(t, err, "OOM")
	assert.False(t, kept)
	// Notices are still sent.
	kept, err = store.Put(t.Context(), dssauth.StoreEntry{Key: "other", Value: []byte("forget"), TTL: time.Minute, Notify: true})
	assert.ErrorContains(t, err, "OOM")
	assert.False(t, kept)
	assert.Equal(t, "forget", w.next(t))
	value, err := store.Get(t.Context(), "key")
	require.NoError(t, err)
	assert.Equal(t, "value", string(value))
	require.NoError(t, store.Delete(t.Context(), "key"))
}

func TestWatchEndsWithItsConnection(t *testing.T) {
	for name, row := range map[string]struct {
		harm, heal func(*redistest.Server, *redistest.Proxy)
	}{
		"killed":  {func(s *redistest.Server, _ *redistest.Proxy) { s.Kill() }, func(s *redistest.Server, _ *redistest.Proxy) { s.Restart() }},
		"stopped": {func(s *redistest.Server, _ *redistest.Proxy) { s.Stop() }, func(s *redistest.Server, _ *redistest.Proxy) { s.Continue() }},
		"cut off": {func(_ *redistest.Server, p *redistest.Proxy) { p.CutOff() }, func(_ *redistest.Server, p *redistest.Proxy) { p.Connect() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			p := redistest.StartProxy(t, s.Address)
			store := open(t, rueidis.ClientOption{InitAddress: []string{p.Address}})
			w := watch(t, store)
			before := time.Now()
			row.harm(s, p)
			assert.ErrorContains(t, w.end(t), p.Address)
			t.Logf("figure: Watch ended %v after its server was %s", time.Since(before).Round(100*time.Millisecond), name)
			row.heal(s, p)
			works(t, store)
			w = watch(t, store)
			mustPut(t, store, dssauth.StoreEntry{Key: "key", Value: []byte("v"), TTL: time.Minute, Notify: true})
			assert.Equal(t, "v", w.next(t))
		})
	}
}

// unsubscribing is a connection whose server ends the subscription after a notice.
type unsubscribing struct {
	net.Conn
	more string
}

func (c *unsubscribing) Read(p []byte) (int, error) {
	if c.more != "" {
		n := copy(p, c.more)
		c.more = c.more[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p)
	if bytes.Contains(p[:n], []byte("dssauth:forgotten\r\n$4\r\nlast\r\n")) {
		c.more = ">3\r\n$11\r\nunsubscribe\r\n$17\r\ndssauth:forgotten\r\n:0\r\n"
	}
	return n, err
}

func TestWatchEndsWithItsSubscription(t *testing.T) {
	o := option(start(t))
	o.DialCtxFn = func(ctx context.Context, address string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
		c, err := d.DialContext(ctx, "tcp", address)
		return &unsubscribing{Conn: c}, err
	}
	store := open(t, o)
	works(t, store)
	w := watch(t, store)
	mustPut(t, store, dssauth.StoreEntry{Key: "key", Value: []byte("last"), TTL: time.Minute, Notify: true})
	assert.ErrorContains(t, w.end(t), "unsubscribed")
	works(t, store)
}

// A busy watcher delays no command, and never misses a notice without an error.
func TestWatchEndsWhenItIsTooSlow(t *testing.T) {
	t.Parallel()
	store := open(t, option(start(t)))
	ready, busy, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- store.Watch(t.Context(), func() { close(ready) }, func([]byte) { <-busy })
	}()
	<-ready
	for i := range 1100 {
		mustPut(t, store, dssauth.StoreEntry{Key: "key", Value: fmt.Append(nil, i), TTL: time.Minute, Notify: true})
	}
	_, err := store.Get(t.Context(), "key")
	require.NoError(t, err)
	close(busy)
	require.ErrorContains(t, <-ended, "too many notices waited for heard")
}

// TestNoticesBeforeTheAnswerToSubscribe has more of them than the library keeps, on a
// connection that is subscribed already.
func TestNoticesBeforeTheAnswerToSubscribe(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := redistest.StartProxy(t, s.Address)
	store, other := open(t, rueidis.ClientOption{InitAddress: []string{p.Address}}), open(t, option(s))
	first := watch(t, store)
	p.Delay(600 * time.Millisecond)
	go func() { _, _ = store.Get(t.Context(), "key") }() // its answer comes after the notices, too
	<-time.After(50 * time.Millisecond)
	ended := make(chan error, 1)
	go func() { ended <- store.Watch(t.Context(), func() {}, func([]byte) {}) }()
	<-time.After(50 * time.Millisecond)
	for i := range 100 {
		mustPut(t, other, dssauth.StoreEntry{Key: "key", Value: fmt.Append(nil, i), TTL: time.Minute, Notify: true})
	}
	assert.ErrorContains(t, watcher{ended: ended}.end(t), "SUBSCRIBE was not answered")
	p.Delay(0)
	works(t, store)
	next := watch(t, store)
	mustPut(t, store, dssauth.StoreEntry{Key: "key", Value: []byte("v"), TTL: time.Minute, Notify: true})
	assert.Equal(t, "v", next.next(t))
	for i := range 100 {
		require.Equal(t, fmt.Sprint(i), first.next(t), "it missed nothing")
	}
	assert.Equal(t, "v", first.next(t))
}

func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	sentinel, master, replica := redistest.StartSentinel(t, redistest.Programs(t)[0])
	o := option(sentinel)
	o.Sentinel.MasterSet = redistest.MasterSet
	store := open(t, o)
	w := watch(t, store)
	master.Kill()
	require.ErrorContains(t, w.end(t), sentinel.Address)
	works(t, store)
	assert.Contains(t, replica.CLI("info", "replication"), "role:master")
	w = watch(t, store)
	mustPut(t, store, dssauth.StoreEntry{Key: "key", Value: []byte("v"), TTL: time.Minute, Notify: true})
	assert.Equal(t, "v", w.next(t))
}

// The name of a server leads to another one, and the old one lives on as its
// replica.
func TestServerThatBecomesAReplicaIsLeft(t *testing.T) {
	t.Parallel()
	old, next := start(t), start(t)
	var named atomic.Pointer[redistest.Server]
	named.Store(old)
	o := rueidis.ClientOption{InitAddress: []string{"redis.example:6379"}}
	o.DialCtxFn = func(ctx context.Context, _ string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", named.Load().Address)
	}
	store := open(t, o)
	works(t, store)
	w := watch(t, store)
	host, port, err := net.SplitHostPort(next.Address)
	require.NoError(t, err)
	old.CLI("replicaof", host, port)
	_, err = store.Put(t.Context(), dssauth.StoreEntry{Key: "key", Value: []byte("v"), TTL: time.Minute})
	require.ErrorContains(t, err, "READONLY")
	named.Store(next)
	require.Error(t, w.end(t))
	works(t, store)
	assert.Equal(t, "v", next.CLI("get", "dssauth:works"))
	w = watch(t, store)
	mustPut(t, store, dssauth.StoreEntry{Key: "key", Value: []byte("v"), TTL: time.Minute, Notify: true})
	assert.Equal(t, "v", w.next(t))

	// A name that still leads to the replica is tried again and again.
	last := start(t)
	host, port, err = net.SplitHostPort(last.Address)
	require.NoError(t, err)
	next.CLI("replicaof", host, port)
	for range 3 {
		require.True(t, redistest.Eventually(func() bool {
			_, err = store.Put(t.Context(), dssauth.StoreEntry{Key: "key", Value: []byte("v"), TTL: time.Minute})
			return err != nil && strings.HasSuffix(err.Error(), "a read only replica.") && !strings.Contains(err.Error(), "not connected")
		}), "%v", err)
	}
	named.Store(last)
	works(t, store)
}

func TestClusterServesOnWithoutOneNode(t *testing.T) {
	t.Parallel()
	nodes := redistest.StartCluster(t, redistest.Programs(t)[0], 3)
	store := open(t, option(nodes...))
	works(t, store)
	nodes[0].Kill()
	served := 0
	for i := range 100 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := store.Put(ctx, dssauth.StoreEntry{Key: fmt.Sprint(i), Value: []byte("v"), TTL: time.Minute, Notify: true}); err == nil {
			served++
		}
		cancel()
	}
	assert.Greater(t, served, 50, "two thirds of the keys, with their notices")
	assert.Less(t, served, 100)
	nodes[0].Restart()
	nodes[0].CLI("ping")
}

// watchedCluster starts a cluster, and returns the number of the node that w listens to.
func watchedCluster(t *testing.T) (nodes []*redistest.Server, store *rediscache.Store, w watcher, at int) {
	t.Helper()
	nodes = redistest.StartCluster(t, redistest.Programs(t)[0], 3)
	store = open(t, option(nodes...))
	works(t, store)
	w = watch(t, store)
	at = slices.IndexFunc(nodes, func(s *redistest.Server) bool { return s.CLI("pubsub", "channels") != "" })
	require.GreaterOrEqual(t, at, 0)
	return nodes, store, w, at
}

func TestWatchEndsWhenItsNodeLeavesTheCluster(t *testing.T) {
	t.Parallel()
	nodes, store, w, at := watchedCluster(t)
	gone, id := nodes[at], nodes[at].CLI("cluster", "myid")
	for i, s := range nodes {
		if i != at {
			s.CLI("cluster", "forget", id)
		}
	}
	gone.CLI("flushall")
	gone.CLI("cluster", "reset") // it goes on serving, alone
	require.Error(t, w.end(t))
	w = watch(t, store)
	key := keyOf(t, nodes[(at+1)%3])
	mustPut(t, store, dssauth.StoreEntry{Key: key, Value: []byte("v"), TTL: time.Minute, Notify: true})
	assert.Equal(t, "v", w.next(t))
}

// A node that does not reach most others serves nothing, and gets no notice.
func TestWatchEndsWhenItsNodeIsCutOffFromTheOthers(t *testing.T) {
	t.Parallel()
	nodes, store, w, at := watchedCluster(t)
	others := slices.Delete(slices.Clone(nodes), at, at+1)
	for _, s := range others {
		s.Kill()
	}
	require.ErrorContains(t, w.end(t), "CLUSTERDOWN")
	for range 10 { // each may choose another node
		require.Error(t, store.Watch(t.Context(), func() { assert.Fail(t, "it listens to a node that hears nothing") }, func([]byte) {}))
	}
	for _, s := range others {
		s.Restart()
	}
	works(t, store)
	var err error
	require.True(t, redistest.Eventually(func() bool {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err = store.Watch(ctx, cancel, func([]byte) {})
		return errors.Is(err, context.Canceled)
	}), "%v", err)
}

// A slot that no node has does not keep the nodes from sending notices.
func TestWatchGoesOnWithoutASlot(t *testing.T) {
	t.Parallel()
	nodes := redistest.StartCluster(t, redistest.Programs(t)[0], 3)
	store := open(t, option(nodes...))
	slot := nodes[0].CLI("cluster", "keyslot", "dssauth:probe")
	for _, s := range nodes {
		s.CLI("cluster", "delslots", slot)
	}
	works(t, store)
	select {
	case err := <-watch(t, store).ended:
		assert.NotContains(t, err.Error(), "slot") // on a machine that stops for a while, a node may miss the others
	case <-time.After(2500 * time.Millisecond): // more than two looks
	}
}

// keyOf returns a key that is on this node of a cluster.
func keyOf(t *testing.T, node *redistest.Server) string {
	t.Helper()
	for i := range 1000 {
		key := fmt.Sprint("key", i)
		if node.CLI("get", "dssauth:"+key) == "" { // neither moved nor down
			return key
		}
	}
	require.Fail(t, "the node has no slot")
	return ""
}

// Without the right to ask for the nodes, one address must not pass for a single
// server: that would have some of the keys only, until the program ends.
func TestOneAddressOfAClusterNeedsTheRightToAskForTheOthers(t *testing.T) {
	t.Parallel()
	nodes := redistest.StartCluster(t, redistest.Programs(t)[0], 3, user(grant)...)
	o := option(nodes[0])
	o.Username, o.Password = "dssauth", password
	store := open(t, o)
	_, err := store.Get(t.Context(), "key")
	require.ErrorContains(t, err, "NOPERM")
	for _, s := range nodes {
		s.CLI("acl", "setuser", "dssauth", "+cluster|slots", "+cluster|shards")
	}
	works(t, store)
	for i := range 20 {
		mustPut(t, store, dssauth.StoreEntry{Key: fmt.Sprint(i), Value: []byte("v"), TTL: time.Minute})
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	store := open(t, option(start(t)))
	works(t, store)
	ctx, cancel := context.WithCancel(t.Context())
	err := store.Watch(ctx, cancel, func([]byte) {})
	assert.ErrorIs(t, err, context.Canceled)
}

func TestCloseEndsACallUnderWay(t *testing.T) {
	s := start(t)
	store := open(t, option(s))
	works(t, store)
	s.Stop()
	failed := make(chan error, 1)
	go func() {
		_, err := store.Get(t.Context(), "key")
		failed <- err
	}()
	select {
	case err := <-failed:
		require.NoError(t, err)
	case <-time.After(100 * time.Millisecond): // it waits for the server now
	}
	store.Close()
	assert.EqualError(t, <-failed, "rediscache: the store is closed")
}

func TestCloseLeavesNothing(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T, *redistest.Server, *redistest.Proxy, *rediscache.Store){
		"at once": func(*testing.T, *redistest.Server, *redistest.Proxy, *rediscache.Store) {},
		"connected, with a watcher": func(t *testing.T, _ *redistest.Server, _ *redistest.Proxy, store *rediscache.Store) {
			works(t, store)
			watch(t, store)
		},
		"the server is stopped": func(t *testing.T, s *redistest.Server, _ *redistest.Proxy, store *rediscache.Store) {
			works(t, store)
			watch(t, store)
			s.Stop()
			for range 20 {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
				_, err := store.Get(ctx, "key")
				require.Error(t, err)
				cancel()
			}
		},
		"the server is cut off": func(t *testing.T, _ *redistest.Server, p *redistest.Proxy, store *rediscache.Store) {
			works(t, store)
			watch(t, store)
			p.CutOff()
		},
		"the server is out": func(t *testing.T, s *redistest.Server, _ *redistest.Proxy, store *rediscache.Store) {
			works(t, store)
			s.Kill()
			_, err := store.Get(t.Context(), "key")
			require.Error(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			p := redistest.StartProxy(t, s.Address)
			before := goleak.IgnoreCurrent()
			store, err := rediscache.New(rueidis.ClientOption{InitAddress: []string{p.Address}})
			require.NoError(t, err)
			prepare(t, s, p, store)
			closed := make(chan struct{})
			go func() { store.Close(); close(closed) }()
			store.Close()
			<-closed
			_, err = store.Get(t.Context(), "key")
			require.EqualError(t, err, "rediscache: the store is closed")
			require.EqualError(t, store.Watch(t.Context(), nil, nil), "rediscache: the store is closed")
			require.True(t, redistest.Eventually(func() bool { return p.Open() == 0 }))
			goleak.VerifyNone(t, before)
		})
	}
}

// In a cluster, a goroutine of the library may sleep for a second before it ends.
func TestCloseOfAClusterLeavesNothing(t *testing.T) {
	for name, harm := range map[string]func(*redistest.Server){
		"works":   func(*redistest.Server) {},
		"stopped": func(s *redistest.Server) { s.Stop() },
		"killed":  func(s *redistest.Server) { s.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			nodes := redistest.StartCluster(t, redistest.Programs(t)[0], 3)
			proxies := make([]*redistest.Proxy, len(nodes))
			through := map[string]string{}
			for i, s := range nodes {
				proxies[i] = redistest.StartProxy(t, s.Address)
				through[s.Address] = proxies[i].Address
			}
			before := goleak.IgnoreCurrent()
			o := option(nodes...)
			o.DialCtxFn = func(ctx context.Context, address string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
				return d.DialContext(ctx, "tcp", through[address])
			}
			store, err := rediscache.New(o)
			require.NoError(t, err)
			works(t, store)
			watch(t, store)
			for _, s := range nodes {
				harm(s)
			}
			for i := range 20 {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
				_, _ = store.Get(ctx, fmt.Sprint(i))
				cancel()
			}
			store.Close()
			require.True(t, redistest.Eventually(func() bool {
				return !slices.ContainsFunc(proxies, func(p *redistest.Proxy) bool { return p.Open() > 0 })
			}), "connections are left")
			require.True(t, redistest.Eventually(func() bool { err = goleak.Find(before); return err == nil }), "%v", err)
			for _, p := range proxies {
				assert.Zero(t, p.Open(), "a closed store connects")
			}
		})
	}
}

func TestCloseWhileServerIsOutAtStart(t *testing.T) {
	s := start(t)
	s.Kill()
	before := goleak.IgnoreCurrent()
	store, err := rediscache.New(option(s))
	require.NoError(t, err)
	_, err = store.Get(t.Context(), "key")
	require.Error(t, err)
	store.Close()
	goleak.VerifyNone(t, before)
}

func TestNothingShowsCredentials(t *testing.T) {
	for name, row := range map[string]struct {
		args []string
		want string
	}{
		"another password":   {[]string{"--requirepass", "another"}, "WRONGPASS"},
		"no such command":    {[]string{"--rename-command", "HELLO", "", "--rename-command", "AUTH", ""}, "unknown command 'AUTH'"},
		"no password needed": {nil, "WRONGPASS"},
	} {
		for _, known := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, password known to New: %t", name, known), func(t *testing.T) {
				s := redistest.Start(t, redistest.Programs(t)[0], row.args...)
				o := option(s)
				o.Username, o.Password = "dssauth", password
				if !known {
					o.Username, o.Password = "", ""
					o.AuthCredentialsFn = func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
						return rueidis.AuthCredentials{Username: "dssauth", Password: password}, nil
					}
				}
				store := open(t, o)
				_, err := store.Get(t.Context(), "key")
				require.ErrorContains(t, err, "rediscache: "+s.Address+": not connected: "+row.want)
				for _, text := range []string{fmt.Sprintf("%+v %#v", err, err), fmt.Sprintf("%v %+v %#v", store, store, store), fmt.Sprintf("%+v", errors.Unwrap(err))} {
					assert.NotContains(t, text, password)
				}
			})
		}
	}
	store := open(t, option(start(t)))
	works(t, store)
	assert.NotContains(t, fmt.Sprintf("%v %+v %#v", store, store, store), password)
}

func start(t *testing.T) *redistest.Server {
	t.Helper()
	return redistest.Start(t, redistest.Programs(t)[0])
}

func option(servers ...*redistest.Server) rueidis.ClientOption {
	var o rueidis.ClientOption
	for _, s := range servers {
		o.InitAddress = append(o.InitAddress, s.Address)
	}
	return o
}

func open(t *testing.T, o rueidis.ClientOption) *rediscache.Store {
	t.Helper()
	store, err := rediscache.New(o)
	require.NoError(t, err)
	t.Cleanup(store.Close)
	return store
}

func mustPut(t *testing.T, store *rediscache.Store, e dssauth.StoreEntry) {
	t.Helper()
	kept, err := store.Put(t.Context(), e)
	require.NoError(t, err)
	require.True(t, kept)
}

// works waits until the store works.
func works(t *testing.T, store *rediscache.Store) {
	t.Helper()
	var err error
	require.True(t, redistest.Eventually(func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = store.Put(ctx, dssauth.StoreEntry{Key: "works", Value: []byte("v"), TTL: time.Minute})
		return err == nil
	}), "%v", err)
}

type watcher struct {
	heard chan string
	ended chan error
}

// next returns the next value that Watch heard.
func (w watcher) next(t *testing.T) string {
	t.Helper()
	select {
	case value := <-w.heard:
		return value
	case err := <-w.ended:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		require.Fail(t, "nothing was heard")
	}
	return ""
}

// watch returns when the watcher is ready.
func watch(t *testing.T, store *rediscache.Store) watcher {
	t.Helper()
	w := watcher{make(chan string, 1000), make(chan error, 1)}
	ready := make(chan struct{})
	go func() {
		w.ended <- store.Watch(t.Context(), func() { close(ready) }, func(value []byte) { w.heard <- string(value) })
	}()
	select {
	case <-ready:
	case err := <-w.ended:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		require.Fail(t, "Watch is not ready")
	}
	return w
}

// end waits until Watch returns by itself.
func (w watcher) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-w.ended:
		return err
	case <-time.After(20 * time.Second):
		require.Fail(t, "Watch did not return")
		return nil
	}
}

// user returns the arguments of a server with a user that has only these
// rights.
func user(grant string) []string {
	return append([]string{"--user", "dssauth", "on", ">" + password}, strings.Fields(grant)...)
}

// certificates returns the arguments of a server with TLS, and a configuration
// that trusts it.
func certificates(t *testing.T) (args []string, config *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redistest"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	folder := t.TempDir()
	write := func(name, kind string, data []byte) string {
		file := filepath.Join(folder, name)
		require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600))
		return file
	}
	cert := write("cert.pem", "CERTIFICATE", der)
	pool := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool.AddCert(parsed)
	return []string{
		"--tls-port", "PORT", "--tls-cert-file", cert, "--tls-key-file", write("key.pem", "PRIVATE KEY", private),
		"--tls-ca-cert-file", cert, "--tls-auth-clients", "no",
	}, &tls.Config{RootCAs: pool}
}
