//go:build unix

package rediscache_test

import (
	"bufio"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/internal/seal"
	"github.com/dssauth/dssauth/rediscache/internal/redistest"
)

// modelTTL is short, so that answers expire during a test. A test takes longer
// with the race detector.
func modelTTL() time.Duration {
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return 3 * time.Second
	}
	return 300 * time.Millisecond
}

// TestIdentityModelOverRedis compares the answers of three replicas with DSS's,
// in many random steps of many visitors at once.
func TestIdentityModelOverRedis(t *testing.T) {
	steps := *stepsFlag
	if steps == 0 {
		steps = size(100_000, 20_000)
	}
	s := start(t)
	w := newWorld(t, 12, 3, modelTTL())
	inside(t, w, s, nil)
	wrong := w.run(16, w.steps(steps))
	require.Empty(t, wrong)
	total := w.store(t)
	t.Logf("figure: identity model, 3 replicas and Redis: %d steps, 0 wrong; %d identified, %d anonymous, %d unavailable; %d calls of DSS, %d answers from the store, of whose calls %d failed",
		steps, w.identified.Load(), w.anonymous.Load(), w.unavailable.Load(), w.fake.Calls(lookups), total.Hits, total.Failures)
	assert.NotZero(t, total.Hits, "replicas shared")
	assert.Greater(t, w.identified.Load(), int64(steps/3))
	assert.Less(t, w.unavailable.Load(), int64(steps/5))
}

// TestIdentityModelFindsAWrongDSS plants a fault that no library can repair.
func TestIdentityModelFindsAWrongDSS(t *testing.T) {
	s := start(t)
	w := newWorld(t, 12, 3, modelTTL())
	inside(t, w, s, nil)
	w.mix(100)
	wrong := w.run(16, w.steps(100_000))
	require.NotEmpty(t, wrong)
	t.Log("found: ", wrong[0])
}

// TestStoreCannotChangeAnIdentity lets a replica's own store give any value for any
// key.
func TestStoreCannotChangeAnIdentity(t *testing.T) {
	s := start(t)
	w := newWorld(t, 12, 3, modelTTL())
	inside(t, w, s, func(s dssauth.Store) dssauth.Store { return &swapping{Store: s} })
	require.Empty(t, w.run(16, w.steps(2_000)))
	total := w.store(t)
	assert.NotZero(t, total.Rejected)
	t.Logf("figure: a store that gives any value for one key in three: 0 wrong, %d values rejected, %d believed", total.Rejected, total.Hits)
}

// swapping sometimes returns another key's value.
type swapping struct {
	dssauth.Store
	mu     sync.Mutex
	values [][]byte
}

func (s *swapping) Get(ctx context.Context, key string) ([]byte, error) {
	value, err := s.Store.Get(ctx, key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if value != nil && len(s.values) < 1000 {
		s.values = append(s.values, value)
	}
	if err == nil && len(s.values) > 0 && rand.N(3) == 0 {
		return slices.Clone(s.values[rand.N(len(s.values))]), nil
	}
	return value, err
}

// inside starts the replicas of w in this process.
func inside(t *testing.T, w *world, s *redistest.Server, wrap func(dssauth.Store) dssauth.Store) {
	t.Helper()
	w.replicas = startReplicas(t, len(w.users[0].forgotten), func() *process { return startInside(t, w.setup(s.Address), wrap) })
}

// setup has room for fewer answers than visitors, so that replicas ask the
// store.
func (w *world) setup(redis string) setup {
	c := setupOf(w.fake, redis)
	c.TTL, c.Timeout, c.MaxEntries = w.ttl, min(time.Second, w.ttl), len(w.cookies)*9/10
	return c
}

// store sums up the replicas' reports about their store.
func (w *world) store(t *testing.T) (sum dssauth.StoreStats) {
	t.Helper()
	for _, p := range w.replicas {
		s := p.state(t).Stats.Store
		sum.Hits += s.Hits
		sum.Misses += s.Misses
		sum.Rejected += s.Rejected
		sum.Failures += s.Failures
	}
	return sum
}

// healthy waits until a replica has its store.
func healthy(t *testing.T, all ...*process) {
	t.Helper()
	for _, p := range all {
		require.True(t, redistest.Eventually(func() bool {
			s := p.state(t).Stats.Store
			return s.Hears && !s.Out
		}), "a replica does not find its store")
	}
}

// TestReplicasWhileRedisFails runs replicas as processes, under load, while
// their server fails in all common ways.
func TestReplicasWhileRedisFails(t *testing.T) {
	for _, program := range redistest.Programs(t) {
		t.Run(program, func(t *testing.T) {
			s := redistest.Start(t, program)
			p := redistest.StartProxy(t, s.Address)
			w := newWorld(t, 20, 3, time.Second)
			w.fake.SetLatency(time.Millisecond)
			w.replicas = startReplicas(t, 3, func() *process { return startReplica(t, w.setup(p.Address)) })

			var over atomic.Bool
			ended := make(chan []error, 1)
			go func() { ended <- w.run(6, func() bool { return !over.Load() }) }()
			phase := time.Duration(size(1000, 300)) * time.Millisecond
			for _, step := range []struct {
				name       string
				harm, heal func()
				out        bool // replicas notice that the store is out
			}{
				{"works", func() {}, func() {}, false},
				{"killed, and restarted empty", s.Kill, s.Restart, true},
				{"stopped", s.Stop, s.Continue, true},
				{"full", s.FillUp, func() { s.CLI("config", "set", "maxmemory", "0") }, false},
				{"slow", func() { p.Delay(10 * time.Millisecond) }, func() { p.Delay(0) }, false},
				{"too slow", func() { p.Delay(40 * time.Millisecond) }, func() { p.Delay(0) }, true},
				{"cut off", p.CutOff, p.Connect, true},
			} {
				before, calls := w.store(t), w.fake.Calls(lookups)
				w.latencies()
				step.harm()
				if step.out {
					w.costsNothing(t)
				}
				<-time.After(phase)
				after := w.store(t)
				if step.name == "full" { // a busy machine takes longer
					redistest.Eventually(func() bool { after = w.store(t); return after.Failures > before.Failures })
				}
				t.Logf("figure: %s: a request under load: %s; %d calls of DSS, %d calls of the store failed",
					step.name, w.latencies(), w.fake.Calls(lookups)-calls, after.Failures-before.Failures)
				if step.name == "full" {
					assert.Greater(t, after.Failures, before.Failures)
				}
				step.heal()
				healthy(t, w.replicas...)
			}
			w.lies(t, s, phase)
			over.Store(true)
			assert.Empty(t, <-ended)
			t.Logf("figure: %d requests identified, %d anonymous, %d unavailable, 0 wrong", w.identified.Load(), w.anonymous.Load(), w.unavailable.Load())
			assert.Less(t, w.unavailable.Load(), w.identified.Load()/5)

			for _, one := range w.replicas {
				one.close()
				for _, text := range []string{"cookie-number", w.fake.AdminKey(), string(w.setup("").Secret)} {
					assert.NotContains(t, one.log.String(), text, "in a replica's log")
				}
			}
			assert.True(t, redistest.Eventually(func() bool { return p.Open() == 0 }), "connections are left")
			assert.Regexp(t, `^[^\n]*cmd=client[^\n]*$`, s.CLI("client", "list"), "the server has no other connection")
		})
	}
}

// costsNothing waits until the replicas stop calling their store. Then no
// request may call it, so none waits for it.
func (w *world) costsNothing(t *testing.T) {
	t.Helper()
	for i, p := range w.replicas {
		var before, after state
		require.True(t, redistest.Eventually(func() bool {
			before = p.state(t)
			for n := range 20 {
				_, _, err := p.get("/who", fmt.Sprintf("session=stranger-%d-%d", i, n))
				require.NoError(t, err)
			}
			after = p.state(t)
			return before.Stats.Store.Out && after.Stats.Store.Out && before.Calls == after.Calls &&
				after.Stats.Lookups >= before.Stats.Lookups+20
		}), "a store that is out was called: %+v, then %+v", before, after)
	}
}

// liar writes values into Redis that a replica must not believe.
type liar struct {
	client rueidis.Client
	mine   *seal.Sealer // has the replicas' secret
	other  *seal.Sealer
	old    map[string][]string // all values that a key ever had
}

// lies writes one kind of wrong value after the other, under load.
func (w *world) lies(t *testing.T, s *redistest.Server, phase time.Duration) {
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.Address}, DisableCache: true})
	require.NoError(t, err)
	defer client.Close()
	l := &liar{
		client: client, mine: seal.New([][]byte{w.setup("").Secret}),
		other: seal.New([][]byte{[]byte("a secret that none of these replicas has")}), old: map[string][]string{},
	}
	for _, lie := range []struct {
		name string
		tell func(key, value, another string) string
	}{
		{"nothing false", func(_, value, _ string) string { return value }},
		{"values swapped between keys", func(_, _, another string) string { return another }},
		{"replayed", func(key, _, _ string) string { return l.old[key][rand.N(len(l.old[key]))] }},
		{"cut", func(_, value, _ string) string { return value[:len(value)/2+1] }},
		{"garbage", func(_, value, _ string) string { return string(make([]byte, len(value))) + "garbage" }},
		{"another secret", func(key, value, _ string) string {
			text, ok := l.mine.Open(0, key, []byte(value))
			if !ok {
				return value
			}
			return string(l.other.Seal(0, key, text))
		}},
		{"from the future", func(key, value, _ string) string {
			text, ok := l.mine.Open(0, key, []byte(value))
			var answer map[string]json.RawMessage
			if !ok || json.Unmarshal(text, &answer) != nil || answer["AsOf"] == nil {
				return value
			}
			answer["AsOf"] = json.RawMessage(strconv.FormatInt(time.Now().Add(time.Hour).UnixNano(), 10))
			text, err := json.Marshal(answer)
			require.NoError(t, err)
			return string(l.mine.Seal(0, key, text))
		}},
	} {
		before := w.store(t)
		w.latencies()
		told := 0
		long := phase
		if lie.name == "from the future" { // long enough for believed answers to expire
			long += 2 * w.ttl
		}
		began := time.Now()
		after := before
		for enough := false; !enough; enough = after.Rejected > before.Rejected || lie.name == "nothing false" || time.Since(began) > 20*time.Second {
			for time.Since(began) < long {
				told += l.tell(t, lie.tell)
			}
			long += phase // on a busy machine
			after = w.store(t)
		}
		rejected := after.Rejected - before.Rejected
		t.Logf("figure: a store that lies (%s): %d lies, %d values rejected, %d believed; a request under load: %s",
			lie.name, told, rejected, after.Hits-before.Hits, w.latencies())
		if lie.name != "nothing false" {
			assert.NotZero(t, told, lie.name)
			assert.NotZero(t, rejected, lie.name)
		}
	}
}

// tell replaces the values of some keys, and also of keys that have expired.
func (l *liar) tell(t *testing.T, lie func(key, value, another string) string) (told int) {
	ctx := t.Context()
	c := l.client
	found, err := c.Do(ctx, c.B().Keys().Pattern("dssauth:*").Build()).AsStrSlice()
	require.NoError(t, err)
	for _, name := range found {
		value, err := c.Do(ctx, c.B().Get().Key(name).Build()).ToString()
		if err != nil {
			continue // it has expired
		}
		key := name[len("dssauth:"):]
		if !slices.Contains(l.old[key], value) && len(l.old[key]) < 100 {
			l.old[key] = append(l.old[key], value)
		}
	}
	known := slices.Collect(maps.Keys(l.old))
	for range min(10, len(known)) {
		key, other := known[rand.N(len(known))], l.old[known[rand.N(len(known))]]
		last := l.old[key][len(l.old[key])-1]
		value := lie(key, last, other[len(other)-1])
		if value == last {
			continue
		}
		told++
		require.NoError(t, c.Do(ctx, c.B().Set().Key("dssauth:"+key).Value(value).PxMilliseconds(3000).Build()).Error())
		if rand.N(10) == 0 {
			require.NoError(t, c.Do(ctx, c.B().Publish().Channel("dssauth:forgotten").Message(value).Build()).Error())
		}
	}
	return told
}

// TestForgettingReachesAllProcesses measures the time of a notice.
func TestForgettingReachesAllProcesses(t *testing.T) {
	s := start(t)
	fake := dsstest.NewServer(t)
	all := startReplicas(t, 8, func() *process { return startReplica(t, setupOf(fake, s.Address)) })
	fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"0"}})
	cookie := fake.SignIn("ann").String()
	var took []time.Duration
	for i := range size(60, 30) {
		group := strconv.Itoa(i)
		for _, p := range all {
			require.Equal(t, []string{group}, p.who(t, cookie).Groups)
		}
		fake.AddUser(dsstest.User{Login: "ann", Groups: []string{strconv.Itoa(i + 1)}})
		began := time.Now()
		if i%2 == 0 {
			all[i%8].must(t, "/forget-user?login=ann", "")
		} else {
			all[i%8].must(t, "/forget", cookie)
		}
		var last int64
		for _, p := range all {
			var heard int64
			require.True(t, redistest.Eventually(func() bool {
				heard = p.state(t).Heard
				return heard > began.UnixNano()
			}), "a notice did not arrive")
			last = max(last, heard)
		}
		took = append(took, time.Duration(last-began.UnixNano()))
	}
	t.Logf("figure: a notice reached all 8 processes: %s (100ms is asked for)", percentiles(took))
	for _, p := range all {
		p.close()
	}
}

// TestEightReplicasCostAsMuchAsOne compares them at the same time, with visitors
// who reach another replica each time.
func TestEightReplicasCostAsMuchAsOne(t *testing.T) {
	t.Parallel()
	s := start(t)
	const ttl = 2 * time.Second
	var calls [3]int
	var failures uint64
	var all sync.WaitGroup
	for i, row := range []struct {
		replicas int
		redis    string
	}{{1, ""}, {8, s.Address}, {8, ""}} {
		fake := dsstest.NewServer(t)
		fake.SetLatency(5 * time.Millisecond)
		c := setupOf(fake, row.redis)
		c.TTL = ttl
		var replicas []*process
		for range row.replicas {
			replicas = append(replicas, startReplica(t, c))
		}
		if row.redis != "" {
			healthy(t, replicas...)
		}
		var cookies []string
		for n := range 20 {
			login := fmt.Sprint("visitor", n)
			fake.AddUser(dsstest.User{Login: login})
			cookies = append(cookies, fake.SignIn(login).String())
		}
		all.Go(func() {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for n, began := 0, time.Now(); time.Since(began) < time.Duration(size(8, 4))*time.Second; n++ {
				visitor, turn := n%len(cookies), n/len(cookies)
				status, _, err := replicas[(visitor+turn)%row.replicas].get("/who", cookies[visitor])
				assert.NoError(t, err)
				assert.Equal(t, http.StatusOK, status)
				<-tick.C
			}
			calls[i] = fake.Calls(lookups)
			if row.redis != "" {
				for _, p := range replicas {
					failures += p.state(t).Stats.Store.Failures
				}
			}
			for _, p := range replicas {
				p.close()
			}
		})
	}
	all.Wait()
	times := func(n int) float64 { return float64(n) / float64(calls[0]) }
	t.Logf("figure: calls of DSS, 20 visitors: %d by one process; by eight with Redis %d (%.2f times as many, 1.2 is asked for), without %d (%.2f); %d calls of the store failed",
		calls[0], calls[1], times(calls[1]), calls[2], times(calls[2]), failures)
	if failures < 3 { // otherwise the machine was busy, and a replica stopped calling the store
		assert.LessOrEqual(t, float64(calls[1]), 1.2*float64(calls[0])+float64(failures))
	}
	assert.Greater(t, calls[2], 2*calls[0], "without a store there are calls to save")
}

// TestFiftyReplicasMissAtOnce runs with warm connections.
func TestFiftyReplicasMissAtOnce(t *testing.T) {
	s := start(t)
	fake := dsstest.NewServer(t)
	fake.SetLatency(20 * time.Millisecond)
	all := startReplicas(t, 50, func() *process { return startInside(t, setupOf(fake, s.Address), nil) })
	fake.AddUser(dsstest.User{Login: "ann"})
	failures := func() (sum uint64) {
		for _, p := range all {
			sum += p.state(t).Stats.Store.Failures
		}
		return sum
	}
	var counts []int
	sound := 0
	for len(counts) < 50 && sound < 5 {
		cookie := fake.SignIn("ann").String()
		healthy(t, all...)
		before, failed := fake.Calls(lookups), failures()
		var done sync.WaitGroup
		for _, p := range all {
			done.Go(func() {
				status, _, err := p.get("/who", cookie)
				assert.NoError(t, err)
				assert.Equal(t, http.StatusOK, status)
			})
		}
		done.Wait()
		calls := fake.Calls(lookups) - before
		counts = append(counts, calls)
		failed = failures() - failed
		if failed == 0 { // otherwise the machine was busy
			sound++
		}
		assert.LessOrEqual(t, calls, 2+int(failed))
	}
	slices.Sort(counts)
	t.Logf("figure: 50 replicas that miss one visitor at once: %d calls of DSS in the median of %d rounds, %d at most; in %d no call of the store failed",
		counts[len(counts)/2], len(counts), counts[len(counts)-1], sound)
	assert.NotZero(t, sound)
}

// TestNothingInRedisIsReadable searches all bytes that are sent to a server,
// and its dump.
func TestNothingInRedisIsReadable(t *testing.T) {
	s := start(t)
	w := newWorld(t, 5, 2, 3*time.Second)
	c := w.setup(s.Address)
	c.Details = true
	monitor := record(t, s)
	w.replicas = startReplicas(t, 2, func() *process { return startInside(t, c, nil) })
	require.Empty(t, w.run(4, w.steps(size(3_000, 1_000))))
	w.replicas[0].must(t, "/forget-user?login="+w.users[0].name, "")
	w.replicas[0].must(t, "/forget", cookieName+"="+w.cookies[0].name)

	texts := []string{w.fake.AdminKey(), w.fake.URL(), string(c.Secret), "group-1-of", "@mail"}
	for _, things := range [][]*thing{w.users, w.cookies} {
		for _, one := range things {
			texts = append(texts, one.name, cookieName+"="+one.name)
		}
	}
	for _, text := range slices.Clone(texts) {
		for _, h := range []hash.Hash{md5.New(), sha1.New(), sha256.New(), sha512.New()} {
			h.Write([]byte(text))
			sum := h.Sum(nil)
			texts = append(texts, string(sum), hex.EncodeToString(sum), strings.ToUpper(hex.EncodeToString(sum)),
				base64.StdEncoding.EncodeToString(sum), base64.RawURLEncoding.EncodeToString(sum))
		}
	}
	find := func(all string) (found []string) {
		for _, text := range texts {
			if strings.Contains(all, text) {
				found = append(found, text)
			}
		}
		return found
	}
	sent, held := monitor(), dump(t, s)
	require.Greater(t, strings.Count(sent, "dssauth:"), 100)
	require.Greater(t, strings.Count(held, "dssauth:"), 5)
	assert.Empty(t, find(sent), "in what is sent")
	assert.Empty(t, find(held), "in what is held")
	t.Logf("figure: %d bytes that were sent to Redis and %d that it dumps: none of %d texts is in them", len(sent), len(held), len(texts))

	// The search finds a readable text.
	monitor = record(t, s)
	mustPut(t, open(t, option(s)), dssauth.StoreEntry{Key: "planted", Value: []byte("\x00\r\n\"" + w.users[1].name), TTL: time.Minute})
	assert.NotEmpty(t, find(monitor()))
	assert.NotEmpty(t, find(dump(t, s)))
}

// record returns a function. That function returns all words of all commands
// that a server has received since.
func record(t *testing.T, s *redistest.Server) func() string {
	t.Helper()
	c, err := net.Dial("tcp", s.Address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	lines := bufio.NewReader(c)
	_, err = c.Write([]byte("MONITOR\r\n"))
	require.NoError(t, err)
	_, err = lines.ReadString('\n')
	require.NoError(t, err)
	recorded := make(chan string, 1)
	go func() {
		var all strings.Builder
		word := regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
		for {
			line, err := lines.ReadString('\n')
			if err != nil || strings.Contains(line, `"the end"`) {
				recorded <- all.String()
				return
			}
			for _, quoted := range word.FindAllString(line, -1) {
				text, err := strconv.Unquote(quoted)
				assert.NoError(t, err, quoted)
				all.WriteString(text + "\n")
			}
		}
	}()
	return func() string {
		s.CLI("echo", "the end")
		return <-recorded
	}
}

// dump returns all keys and values of a server, raw and as a dump.
func dump(t *testing.T, s *redistest.Server) string {
	t.Helper()
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.Address}, DisableCache: true})
	require.NoError(t, err)
	defer c.Close()
	ctx := t.Context()
	var all strings.Builder
	for cursor := uint64(0); ; {
		page, err := c.Do(ctx, c.B().Scan().Cursor(cursor).Count(1000).Build()).AsScanEntry()
		require.NoError(t, err)
		for _, key := range page.Elements {
			for _, cmd := range []rueidis.Completed{c.B().Get().Key(key).Build(), c.B().Dump().Key(key).Build()} {
				value, err := c.Do(ctx, cmd).ToString()
				if !rueidis.IsRedisNil(err) { // the key has expired
					require.NoError(t, err)
				}
				all.WriteString(key + "\n" + value + "\n")
			}
		}
		if cursor = page.Cursor; cursor == 0 {
			return all.String()
		}
	}
}

// TestKilledReplicaBlocksNoOther kills the process with a visitor's lease.
func TestKilledReplicaBlocksNoOther(t *testing.T) {
	t.Parallel()
	s := start(t)
	fake := dsstest.NewServer(t)
	c := setupOf(fake, s.Address)
	c.Timeout = 2 * time.Second
	all := startReplicas(t, 3, func() *process { return startReplica(t, c) })
	fake.AddUser(dsstest.User{Login: "ann"})
	cookie := fake.SignIn("ann").String()
	asked := make(chan struct{})
	fake.Intercept(lookups, 1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		close(asked)
		dsstest.Hang(w, r, next)
	})
	gone := make(chan error)
	go func() {
		_, _, err := all[0].get("/who", cookie)
		gone <- err
	}()
	<-asked
	all[0].kill()
	require.Error(t, <-gone)
	began := time.Now()
	var others sync.WaitGroup
	for _, p := range all[1:] {
		// They must answer within the Timeout of a lookup; later, the answer is a
		// 503.
		others.Go(func() {
			status, body, err := p.get("/who", cookie)
			assert.NoError(t, err)
			assert.Equal(t, http.StatusOK, status, "%s", body)
		})
	}
	others.Wait()
	t.Logf("figure: a replica was killed with a lease: others answered after %v, with %d more calls of DSS (Timeout %v)",
		time.Since(began).Round(time.Millisecond), fake.Calls(lookups)-1, c.Timeout)
}

// TestShortStallOfRedis stops Redis long enough to miss some deadlines.
func TestShortStallOfRedis(t *testing.T) {
	s := start(t)
	fake := dsstest.NewServer(t)
	fake.SetLatency(20 * time.Millisecond)
	all := startReplicas(t, 8, func() *process { return startInside(t, setupOf(fake, s.Address), nil) })
	fake.AddUser(dsstest.User{Login: "ann"})
	for _, moment := range []string{"before the lease", "while one has it"} {
		healthy(t, all...)
		cookie := fake.SignIn("ann").String()
		before := fake.Calls(lookups)
		asked := make(chan struct{})
		fake.Intercept(lookups, 1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			close(asked)
			next.ServeHTTP(w, r)
		})
		if moment == "before the lease" {
			s.Stop()
		}
		began := time.Now()
		var done sync.WaitGroup
		for _, p := range all {
			done.Go(func() { p.who(t, cookie) })
		}
		<-asked
		if moment == "while one has it" {
			s.Stop()
		}
		<-time.After(100 * time.Millisecond)
		s.Continue()
		done.Wait()
		calls := fake.Calls(lookups) - before
		assert.LessOrEqual(t, calls, 8)
		t.Logf("figure: Redis stood still for 100ms %s: 8 replicas that missed one visitor had it after %v, with %d calls of DSS",
			moment, time.Since(began).Round(time.Millisecond), calls)
		healthy(t, all...)
		require.True(t, redistest.Eventually(func() bool { return leases(s) == 0 }), "a lease is left")
		for _, p := range all {
			p.who(t, cookie)
		}
		assert.Equal(t, before+calls, fake.Calls(lookups))
	}
}

// leases counts the values that are too short to be sealed.
func leases(s *redistest.Server) (n int) {
	n, _ = strconv.Atoi(s.CLI("eval", `local n = 0
for _, k in ipairs(redis.call("keys", "dssauth:*")) do if redis.call("strlen", k) < 100 then n = n + 1 end end
return n`, "0"))
	return n
}

// TestCloseOfReplicasLeavesNothing closes replicas under load.
func TestCloseOfReplicasLeavesNothing(t *testing.T) {
	for name, harm := range map[string]func(*redistest.Server, *redistest.Proxy){
		"works":   func(*redistest.Server, *redistest.Proxy) {},
		"stopped": func(s *redistest.Server, _ *redistest.Proxy) { s.Stop() },
		"cut off": func(_ *redistest.Server, p *redistest.Proxy) { p.CutOff() },
		"killed":  func(s *redistest.Server, _ *redistest.Proxy) { s.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			p := redistest.StartProxy(t, s.Address)
			w := newWorld(t, 10, 2, 3*time.Second)
			before := goleak.IgnoreCurrent()
			var closes []func()
			for range 2 {
				r, end, err := newReplica(w.setup(p.Address), func(s dssauth.Store) dssauth.Store { return s })
				require.NoError(t, err)
				closes = append(closes, end)
				w.replicas = append(w.replicas, inProcess(r))
			}
			healthy(t, w.replicas...)
			require.Empty(t, w.run(4, w.steps(200)))
			harm(s, p)
			require.Empty(t, w.run(4, w.steps(200)))
			for _, end := range closes {
				end()
			}
			assert.True(t, redistest.Eventually(func() bool { return p.Open() == 0 }), "connections are left")
			goleak.VerifyNone(t, before)
		})
	}
}
