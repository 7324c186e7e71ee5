// Package rediscache shares answers between the replicas of an application
// through Redis or Valkey: a single server, one behind sentinels, or a cluster.
// Use it if each visitor's requests reach many replicas: then only one of them
// asks DSS about a visitor. Three lines switch it on:
//
//	store, err := rediscache.New(rueidis.ClientOption{InitAddress: []string{"redis:6379"}})
//	...
//	auth, err := dssauth.New(dssauth.Config{Client: client, Store: store, StoreSecrets: [][]byte{secret}})
//
// Addresses, TLS, users, sentinels and clusters are options of
// [github.com/redis/rueidis], whose ParseURL reads URLs.
//
// # What to grant
//
// All keys begin with "dssauth:", and notices go through the channel
// "dssauth:forgotten". A user needs only these rights:
//
//	ACL SETUSER dssauth on >PASSWORD ~dssauth:* &dssauth:forgotten -@all +get +set +del +publish +subscribe +ping
//
// Redis forgets this user when it restarts, unless redis.conf has the line,
// with "user" in place of "ACL SETUSER". Set ClientOption.Username and Password
// to this user's.
//
// A cluster also needs "+cluster|slots". From version 8 on it needs
// "+cluster|shards" in place of that. A server behind sentinels also needs
// "+role". The server needs no disk: DSS is asked again about lost answers. Set
// its maxmemory, and volatile-ttl as its maxmemory-policy: then a full server
// drops an answer before it drops the mark that the answer is forgotten.
package rediscache

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/dssauth/dssauth"
)

const (
	prefix  = "dssauth:"
	channel = prefix + "forgotten"

	// patience bounds a command, and the connection that it needs. Some
	// connections take longer than a caller's context. The command then goes on
	// without the caller, so that the next one finds a connection.
	patience = 2 * time.Second
	// maxCommands bounds the commands that wait for the server: dssauth never has
	// more under way.
	maxCommands = 2048
	// maxNotices bounds the notices that were received and not yet passed to
	// heard.
	maxNotices = 1024

	firstWait, maxWait = 100 * time.Millisecond, 2 * time.Second
	// closing is the time that connections get to end in good order.
	closing = 200 * time.Millisecond
)

var errClosed = errors.New("rediscache: the store is closed")

// Store is a [dssauth.Store] in Redis or Valkey. Make it with [New].
//
// An error names the addresses, and holds no password. A call returns when its
// context ends. Its command may still take effect up to 2 seconds later.
type Store struct {
	addresses string
	// clean removes credentials from a server's texts. It is a function, because
	// fmt does not print the values inside a function.
	clean func(string) string
	// connect connects in the background; a function, too, since options hold
	// credentials.
	connect func()

	// life ends with Close.
	life     context.Context
	end      context.CancelFunc
	commands chan struct{}
	// tried is closed after the first attempt to connect.
	tried chan struct{}

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
	client  rueidis.Client // nil until connected
	err     error          // of the last attempt
}

var _ dssauth.Store = (*Store)(nil)

// New returns a store that connects in the background. If it cannot connect, it
// tries again, at most 2 seconds later. Until then all calls of the store fail
// at once. New returns an error only for options that can never work.
//
// InitAddress has the addresses: one, those of some nodes of a cluster, or with
// Sentinel.MasterSet those of sentinels. Zero means 2 seconds for
// Dialer.Timeout and ConnWriteTimeout, 1 second for Dialer.KeepAlive, and 5
// seconds for Sentinel.TopologyRefreshInterval and
// ClusterOption.ShardsRefreshInterval. So a dead connection ends Watch after 4
// seconds at most, and a node that leaves its cluster after 7. For
// PipelineMultiplex zero means one connection to each server. Client-side
// caching and retries are always off, and reads from replicas are refused: a
// replica may not know yet that an answer was forgotten.
func New(option rueidis.ClientOption) (*Store, error) {
	if err := check(&option); err != nil {
		return nil, fmt.Errorf("rediscache: ClientOption.%w", err)
	}
	option = withDefaults(option)
	s := &Store{
		addresses: strings.Join(option.InitAddress, ", "),
		clean:     cleaner(option.Password, option.Sentinel.Password),
		commands:  make(chan struct{}, maxCommands),
		tried:     make(chan struct{}),
	}
	s.life, s.end = context.WithCancel(context.Background())
	s.connect = func() { s.connectWith(option) }
	s.running.Go(s.connect)
	return s, nil
}

// check returns an error for an option that can never work. It does not quote a
// malformed address: that may be a URL with a password.
func check(option *rueidis.ClientOption) error {
	if len(option.InitAddress) == 0 {
		return errors.New(`InitAddress: an address is required, as in "127.0.0.1:6379"`)
	}
	for i, address := range option.InitAddress {
		_, port, err := net.SplitHostPort(address)
		ownDial := option.DialFn != nil || option.DialCtxFn != nil
		if strings.ContainsAny(address, "@?") || !ownDial && (err != nil || port == "" || strings.Contains(address, "/")) {
			return fmt.Errorf(`InitAddress[%d]: host and port are required, as in "127.0.0.1:6379"; rueidis.ParseURL reads URLs`, i)
		}
	}
	sentinel, config := &option.Sentinel, option.TLSConfig
	switch {
	case config != nil && config.MaxVersion != 0 && config.MinVersion > config.MaxVersion:
		return errors.New("TLSConfig: MinVersion is above MaxVersion")
	case sentinel.MasterSet == "" && (sentinel.TLSConfig != nil || sentinel.Username != "" || sentinel.Password != ""):
		return errors.New("Sentinel.MasterSet: the name that the sentinels have for the master is required with their credentials or TLS")
	case sentinel.MasterSet != "" && (sentinel.TLSConfig == nil) != (config == nil):
		return errors.New("Sentinel.TLSConfig: it and TLSConfig are used together: set both, or neither")
	case option.ReplicaOnly:
		return errors.New("ReplicaOnly: a replica stores nothing: leave it out")
	case option.SendToReplicas != nil:
		return errors.New("SendToReplicas: replicas may not know what was forgotten: leave it out")
	case option.PipelineMultiplex > rueidis.MaxPipelineMultiplex:
		return fmt.Errorf("PipelineMultiplex: %d: at most %d is possible", option.PipelineMultiplex, rueidis.MaxPipelineMultiplex)
	case sentinel.TopologyRefreshInterval < 0:
		return fmt.Errorf("Sentinel.TopologyRefreshInterval: %v is negative", sentinel.TopologyRefreshInterval)
	case option.ClusterOption.ShardsRefreshInterval < 0:
		return fmt.Errorf("ClusterOption.ShardsRefreshInterval: %v is negative", option.ClusterOption.ShardsRefreshInterval)
	case len(option.Standalone.ReplicaAddress) > 0:
		return errors.New("Standalone.ReplicaAddress: replicas may not know what was forgotten: leave it out")
	}
	return nil
}

// withDefaults returns option with what New sets itself.
func withDefaults(option rueidis.ClientOption) rueidis.ClientOption {
	for _, d := range []*net.Dialer{&option.Dialer, &option.Sentinel.Dialer} {
		setDefault(&d.Timeout, patience)
		setDefault(&d.KeepAlive, time.Second)
	}
	setDefault(&option.ConnWriteTimeout, patience)
	setDefault(&option.Sentinel.TopologyRefreshInterval, 5*time.Second)
	setDefault(&option.ClusterOption.ShardsRefreshInterval, 5*time.Second)
	if option.PipelineMultiplex == 0 {
		option.PipelineMultiplex = -1 // Commands that share a connection share writes.
	}
	option.InitAddress = slices.Clone(option.InitAddress) // ShuffleInit changes it
	option.DisableCache = true
	option.DisableRetry = true // Watch must return when it may have missed a notice.
	if option.ClientSetInfo == nil {
		option.ClientSetInfo = rueidis.DisableClientSetInfo // needs no permission
	}
	return option
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// cleaner returns a function that cuts the parts of a command that a server
// repeats, and removes passwords.
func cleaner(passwords ...string) func(string) string {
	return func(text string) string {
		text, _, _ = strings.Cut(text, ", with args beginning with")
		for _, p := range passwords {
			if p != "" {
				text = strings.ReplaceAll(text, p, "[removed]")
			}
		}
		return text
	}
}

// connectWith tries until there is a client. The client's connections then renew
// themselves.
func (s *Store) connectWith(option rueidis.ClientOption) {
	for wait := firstWait; ; wait = min(2*wait, maxWait) {
		client, err := s.newClient(option)
		s.mu.Lock()
		s.client, s.err = client, err
		first := s.tried
		s.mu.Unlock()
		select {
		case <-first:
		default:
			close(first)
		}
		if err == nil {
			return
		}
		if !s.pause(wait) {
			return
		}
	}
}

// pause waits for about this time, since many replicas start together. It reports
// false at Close.
func (s *Store) pause(about time.Duration) bool {
	select {
	case <-time.After(about/2 + rand.N(about)):
		return true
	case <-s.life.Done():
		return false
	}
}

// leaveReplica connects anew if err says that the server has become a replica. The
// address can be a name that leads to the new master from now on, while the
// connections to the old one stay.
func (s *Store) leaveReplica(client rueidis.Client, err error) {
	reply, ok := rueidis.IsRedisErr(err)
	if !ok || !strings.HasPrefix(reply.Error(), "READONLY ") {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.client != client {
		return
	}
	s.client, s.err = nil, err
	s.running.Go(func() {
		client.Close()
		if s.pause(maxWait / 2) {
			s.connect()
		}
	})
}

// newClient connects once. It closes everything if it fails.
func (s *Store) newClient(option rueidis.ClientOption) (rueidis.Client, error) {
	option.DialCtxFn = dialUntil(s.life, option)
	if !option.ForceSingleClient && option.Sentinel.MasterSet == "" && len(option.InitAddress) == 1 {
		// The library's own detection uses commands that the user may not be
		// permitted to run. Also, its cluster client leaves a goroutine behind for a
		// second when it fails.
		single := option
		single.ForceSingleClient = true
		client, err := newClient(single)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(s.life, patience)
		defer cancel()
		hello, err := client.Do(ctx, client.B().Arbitrary("HELLO").Build()).AsMap()
		mode := hello["mode"]
		if text, _ := mode.ToString(); err == nil && text != "cluster" {
			return client, nil
		}
		client.Close()
		if err == nil {
			// The library takes a single address for a single server if the user may not
			// ask for the cluster's nodes. Such a client would never find the other nodes.
			option.InitAddress = slices.Repeat(option.InitAddress, 2)
		}
	}
	return newClient(option)
}

// newClient returns either a client or an error.
func newClient(option rueidis.ClientOption) (rueidis.Client, error) {
	client, err := rueidis.NewClient(option)
	if err != nil && client != nil {
		client.Close()
	}
	if err != nil {
		return nil, err
	}
	return client, nil
}

type dialFunc = func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error)

// dialUntil returns a dial function whose connections end with life.
func dialUntil(life context.Context, option rueidis.ClientOption) dialFunc {
	return func(ctx context.Context, address string, dialer *net.Dialer, config *tls.Config) (net.Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(life, cancel)()
		var c net.Conn
		var err error
		switch {
		case option.DialCtxFn != nil:
			c, err = option.DialCtxFn(ctx, address, dialer, config)
		case option.DialFn != nil:
			c, err = option.DialFn(address, dialer, config)
		case config != nil:
			c, err = (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext(ctx, "tcp", address)
		default:
			c, err = dialer.DialContext(ctx, "tcp", address)
		}
		if err != nil {
			return nil, err
		}
		return conn{c, context.AfterFunc(life, func() { _ = c.Close() })}, nil
	}
}

// conn is a connection that is closed when the store is closed. stop ends this
// tie.
type conn struct {
	net.Conn
	stop func() bool
}

func (c conn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// Close ends all connections and goroutines of the store. In a cluster, a goroutine
// of the library may sleep for up to a second longer. Calls under way return an
// error. It can be called twice.
func (s *Store) Close() {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	client := s.client
	s.mu.Unlock()
	if !first {
		s.running.Wait()
		return
	}
	ended := make(chan struct{})
	go func() {
		if client != nil {
			client.Close()
		}
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(closing):
	}
	s.end() // closes the connections of a server that does not answer
	<-ended
	s.running.Wait()
	// The attempt that was under way may have succeeded.
	if s.client != nil && client == nil {
		s.client.Close()
	}
}

// start runs f until Close.
func (s *Store) start(f func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	s.running.Go(f)
	return nil
}

// connected returns the client. It waits only for the first attempt to connect.
func (s *Store) connected(ctx context.Context) (rueidis.Client, error) {
	select {
	case <-s.tried:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, errClosed
	case s.client == nil:
		return nil, fmt.Errorf("not connected: %w", s.err)
	}
	return s.client, nil
}

// do runs f, and waits for it until ctx ends. After that f goes on by itself.
func do[T any](ctx context.Context, s *Store, f func(context.Context, rueidis.Client) (T, error)) (result T, err error) {
	if ctx.Err() != nil {
		return result, s.failed(ctx.Err())
	}
	client, err := s.connected(ctx)
	if err != nil {
		return result, s.failed(err)
	}
	select {
	case s.commands <- struct{}{}:
	case <-ctx.Done():
		return result, s.failed(ctx.Err())
	}
	type outcome struct {
		result T
		err    error
	}
	done := make(chan outcome, 1)
	err = s.start(func() {
		defer func() { <-s.commands }()
		ctx, cancel := context.WithTimeout(s.life, patience)
		defer cancel()
		r, err := f(ctx, client)
		s.leaveReplica(client, err)
		done <- outcome{r, err}
	})
	if err != nil {
		<-s.commands
		return result, err
	}
	select {
	case o := <-done:
		if o.err != nil {
			return result, s.failed(o.err)
		}
		return o.result, nil
	case <-ctx.Done():
		return result, s.failed(ctx.Err())
	}
}

// failed names the addresses. It wraps only the errors that callers find with
// errors.Is. The library's other errors repeat the server's words.
func (s *Store) failed(err error) error {
	switch {
	case err == errClosed || s.life.Err() != nil:
		return errClosed
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("rediscache: %s: %w", s.addresses, err)
	}
	return fmt.Errorf("rediscache: %s: %s", s.addresses, s.clean(err.Error()))
}

// Get implements [dssauth.Store].
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	return do(ctx, s, func(ctx context.Context, c rueidis.Client) ([]byte, error) {
		value, err := c.Do(ctx, c.B().Get().Key(prefix+key).Build()).AsBytes()
		if rueidis.IsRedisNil(err) {
			return nil, nil
		}
		return value, err
	})
}

// Put implements [dssauth.Store].
func (s *Store) Put(ctx context.Context, e dssauth.StoreEntry) (bool, error) {
	value := string(e.Value) // the command may be sent after the caller has left
	ttl := max(e.TTL.Milliseconds(), 1)
	return do(ctx, s, func(ctx context.Context, c rueidis.Client) (bool, error) {
		set := c.B().Set().Key(prefix + e.Key).Value(value)
		publish := func() rueidis.Completed { return c.B().Publish().Channel(channel).Message(value).Build() }
		if e.Notify && !e.IfAbsent {
			// Together, so that both go to the node of a cluster that has the key.
			results := c.DoMulti(ctx, set.PxMilliseconds(ttl).Build(), publish())
			return true, cmp.Or(results[0].Error(), results[1].Error())
		}
		if !e.IfAbsent {
			return true, c.Do(ctx, set.PxMilliseconds(ttl).Build()).Error()
		}
		err := c.Do(ctx, set.Nx().PxMilliseconds(ttl).Build()).Error()
		if rueidis.IsRedisNil(err) {
			return false, nil
		}
		if err == nil && e.Notify {
			err = c.Do(ctx, publish()).Error()
		}
		return true, err
	})
}

// Delete implements [dssauth.Store].
func (s *Store) Delete(ctx context.Context, key string) error {
	_, err := do(ctx, s, func(ctx context.Context, c rueidis.Client) (struct{}, error) {
		return struct{}{}, c.Do(ctx, c.B().Del().Key(prefix+key).Build()).Error()
	})
	return err
}

// Watch implements [dssauth.Store].
func (s *Store) Watch(ctx context.Context, ready func(), heard func(value []byte)) error {
	if ctx.Err() != nil {
		return s.failed(ctx.Err())
	}
	client, err := s.connected(ctx)
	if err != nil {
		return s.failed(err)
	}
	subscribe := client.B().Subscribe().Channel(channel).Build()
	in, gone := client, func(context.Context) error { return nil }
	if client.Mode() == rueidis.ClientModeCluster {
		for address, node := range client.Nodes() {
			in, gone = node, func(ctx context.Context) error { return outside(ctx, client, address, node) }
			break
		}
	}
	subscribed := make(chan struct{}, 1)
	notices := make(chan string, maxNotices)
	missed := make(chan struct{}, 1)
	ended := make(chan error, 1)
	receiving, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	// This function must not wait for heard: all commands share the
	// connection.
	err = s.start(func() {
		hooked := rueidis.WithOnSubscriptionHook(receiving, func(rueidis.PubSubSubscription) { offer(subscribed, struct{}{}) })
		ended <- in.Receive(hooked, subscribe, func(m rueidis.PubSubMessage) {
			if !offer(notices, m.Message) {
				offer(missed, struct{}{})
			}
		})
	})
	if err != nil {
		return err
	}
	look := time.NewTicker(time.Second)
	defer look.Stop()
	// More notices before the answer to SUBSCRIBE than the library keeps would block
	// the connection for good. They arrive if it was subscribed before.
	late := time.NewTimer(patience)
	defer late.Stop()
	isReady := false
	for {
		listen := notices
		if !isReady {
			listen = nil
		}
		select {
		case <-subscribed:
			if !isReady {
				if err := gone(receiving); err != nil {
					return s.failed(err)
				}
				isReady = true
				ready()
			}
		case value := <-listen:
			if ctx.Err() == nil {
				heard([]byte(value))
			}
		case <-look.C:
			if err := gone(receiving); err != nil {
				return s.failed(err)
			}
		case <-late.C:
			if !isReady {
				return s.failed(errors.New("SUBSCRIBE was not answered in time"))
			}
		case <-missed:
			return s.failed(errors.New("too many notices waited for heard"))
		case err := <-ended:
			if err == nil {
				err = errors.New("unsubscribed")
			}
			return s.failed(err)
		case <-ctx.Done():
			return s.failed(ctx.Err())
		case <-s.life.Done():
			return errClosed
		}
	}
}

// outside returns an error if a node of a cluster has left it, or does not reach the
// others. The connection to such a node stays, and no notice comes. A node that reaches
// them, too, has another CLUSTERDOWN, if no node has the slot.
func outside(ctx context.Context, client rueidis.Client, address string, node rueidis.Client) error {
	if client.Nodes()[address] == nil {
		return errors.New("the node has left the cluster")
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err := node.Do(ctx, client.B().Get().Key(prefix+"probe").Build()).Error()
	if reply, ok := rueidis.IsRedisErr(err); ok && strings.HasPrefix(reply.Error(), "CLUSTERDOWN The cluster is down") {
		return err
	}
	return nil
}

// offer sends without waiting, and reports whether it could send.
func offer[T any](c chan T, value T) bool {
	select {
	case c <- value:
		return true
	default:
		return false
	}
}
