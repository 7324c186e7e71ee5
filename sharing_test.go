package dssauth

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/internal/seal"
)

// shelf is a Store that keeps all and tells nothing.
type shelf map[string][]byte

func (s shelf) Get(_ context.Context, key string) ([]byte, error) { return s[key], nil }

func (s shelf) Put(_ context.Context, e StoreEntry) (bool, error) {
	s[e.Key] = e.Value
	return true, nil
}

func (s shelf) Delete(_ context.Context, key string) error {
	delete(s, key)
	return nil
}

func (s shelf) Watch(ctx context.Context, ready func(), _ func([]byte)) error {
	<-ctx.Done()
	return ctx.Err()
}

var testSecret = []byte("a secret of more than 32 bytes of text")

// newReplica is a Middleware with a Store, whose DSS answers nothing.
func newReplica(t *testing.T, store Store, change func(*Config)) *Middleware {
	client, err := dss.New(dss.Config{URL: "https://dss.example", APIKey: "key"})
	require.NoError(t, err)
	c := Config{Client: client, Store: store, StoreSecrets: [][]byte{testSecret}, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&c)
	}
	m, err := New(c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func ofAnn(t *testing.T, m *Middleware) credentials {
	c, err := m.pick(http.Header{"Cookie": {"session=ann"}})
	require.NoError(t, err)
	return c
}

// TestStoredAnswersOfTheRightAge puts sealed answers into a store whose clocks
// differ.
func TestStoredAnswersOfTheRightAge(t *testing.T) {
	for name, test := range map[string]struct {
		asked    time.Duration // from now
		believed bool
		atMost   time.Duration // its age here
	}{
		"of now":                      {0, true, time.Second},
		"of eight seconds ago":        {-8 * time.Second, true, 9 * time.Second},
		"nearly as old as the TTL":    {-9 * time.Second, false, 0},
		"older than the TTL":          {-11 * time.Second, false, 0},
		"of a clock a second ahead":   {time.Second, true, time.Second},
		"of a clock 2.5s ahead":       {2500 * time.Millisecond, false, 0},
		"of a clock an hour ahead":    {time.Hour, false, 0},
		"of before the process began": {-time.Hour, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newReplica(t, shelf{}, nil)
				defer m.Close()
				s := m.answers.shared
				c := ofAnn(t, m)
				stored := s.keysOf(c).answer[0]
				text, err := json.Marshal(sharedAnswer{AsOf: time.Now().Add(test.asked).UnixNano(), Login: "ann", Groups: []string{"analysts"}})
				require.NoError(t, err)
				s.store.(shelf)[stored] = s.sealer.Seal(0, stored, text)
				var count atomic.Int64
				f, err := s.find(t.Context(), c, nil, false, &count, func() error { return nil }, func() {})
				require.NoError(t, err)
				assert.Equal(t, test.believed, f.isAnswer())
				rejected := map[bool]uint64{true: 0, false: 2}[test.believed] // find looks again when it has the lease
				assert.Equal(t, rejected, m.Stats().Store.Rejected)
				if test.believed {
					age := time.Duration(s.now() - f.asked)
					assert.LessOrEqual(t, age, test.atMost)
					assert.GreaterOrEqual(t, age, max(0, -test.asked))
				}
			})
		})
	}
}

func TestStoredValueThatIsTooLargeIsRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := shelf{"large": make([]byte, maxStored+1), "fits": make([]byte, maxStored)}
		m := newReplica(t, kept, nil)
		defer m.Close()
		s := m.answers.shared
		for key, want := range map[string]int{"large": 0, "fits": maxStored} {
			value, err := s.get(t.Context(), key)
			require.NoError(t, err)
			assert.Len(t, value, want)
		}
		assert.Equal(t, uint64(1), s.rejected.Load())
	})
}

// TestStoredTextWithoutAVisitorIsRefused has what no replica seals, though it opens.
func TestStoredTextWithoutAVisitorIsRefused(t *testing.T) {
	m := newReplica(t, shelf{}, nil)
	s := m.answers.shared
	stored := s.keysOf(ofAnn(t, m)).answer[0]
	for _, text := range []string{"", "{}", "null", "[]", `{"AsOf": 1`, `{"Login": " "}`, `{"Login": "a\nb"}`, `{"Login": 1}`} {
		assert.Nil(t, s.open(0, stored, s.sealer.Seal(0, stored, []byte(text))), text)
	}
}

// TestDoubtfulAnswerBridgesNoOutage adopts answers of other replicas, whose
// clocks can be ahead.
func TestDoubtfulAnswerBridgesNoOutage(t *testing.T) {
	for name, test := range map[string]struct {
		restored, asked time.Duration // ago
		before          bool          // DSS refused somebody, who may have been this visitor
		bridges         bool
	}{
		"heard ever since":               {5 * time.Second, 2 * time.Second, false, true},
		"asked before that":              {2 * time.Second, 3 * time.Second, false, false},
		"asked before that by its clock": {time.Second, 0, false, false},
		"from a clock that is ahead":     {time.Second, -time.Second, false, false},
		"refused here":                   {9 * time.Second, 2 * time.Second, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newReplica(t, shelf{}, func(c *Config) { c.StaleIfError = time.Hour })
				a, s, c := m.answers, m.answers.shared, ofAnn(t, m)
				<-time.After(9 * time.Second) // less than readyTime
				s.hears.Store(true)
				s.restored.Store(a.now() - int64(test.restored))
				stored := s.keysOf(c).answer[0]
				text, err := json.Marshal(sharedAnswer{AsOf: time.Now().Add(-test.asked).UnixNano(), Login: "ann"})
				require.NoError(t, err)
				s.store.(shelf)[stored] = s.sealer.Seal(0, stored, text)
				if test.before {
					old := &entry{node: node{key: c.key}, denied: true, identity: Identity{Login: "ann"}}
					a.cache.put(old)
				}
				e, err := a.who(t.Context(), c, false)
				require.NoError(t, err)
				assert.Equal(t, test.bridges, a.isBridge(e, a.now()))
			})
		})
	}
}

// TestForgettingOutlastsAClockThatIsSetBack has the later time first.
func TestForgettingOutlastsAClockThatIsSetBack(t *testing.T) {
	marks := newForgotten(int64(time.Minute))
	marks.add(1, 200, 10)
	marks.add(1, 100, 20)
	assert.NotZero(t, marks.since(1, 150))
	assert.Zero(t, marks.since(1, 200))
}

// TestForgedNoticesTakeLittleTime has as many parts as fit in front of a good one.
func TestForgedNoticesTakeLittleTime(t *testing.T) {
	s := newReplica(t, shelf{}, nil).answers.shared
	good := s.closed(forgetting{ID: "one", At: time.Now().UnixNano(), Owners: []string{"ann"}}, s.marksOf("ann"))
	forged := append(make([]byte, 0, seal.KeyLength+3), strings.Repeat("k", seal.KeyLength)...)
	forged = append(forged, 0, 0, 0)
	_, ok := s.openNotice(append(bytes.Repeat(forged, maxSecrets-1), good...))
	assert.True(t, ok, "which a replica with more secrets may send")
	_, ok = s.openNotice(append(bytes.Repeat(forged, maxSecrets), good...))
	assert.False(t, ok, "no further one is tried")
}

// TestTooLargeValuesAreNotPut forgets a login that no answer can have.
func TestTooLargeValuesAreNotPut(t *testing.T) {
	store := shelf{}
	m := newReplica(t, store, nil)
	m.ForgetUser(strings.Repeat("x", maxStored))
	assert.Empty(t, store)
}

func TestStoredKeysCoverWhatAnAnswerHolds(t *testing.T) {
	keys := map[string]string{}
	for name, change := range map[string]func(*Config){
		"as it is":      nil,
		"details":       func(c *Config) { c.UserDetails = true },
		"other headers": func(c *Config) { c.Headers = []string{"Cookie"} },
		"their order":   func(c *Config) { c.Headers = []string{"Authorization", "Cookie"} },
		"another DSS":   func(c *Config) { c.Client, _ = dss.New(dss.Config{URL: "https://dss.example/two", APIKey: "key"}) },
		"another secret": func(c *Config) {
			c.StoreSecrets = [][]byte{append([]byte("other"), testSecret...)}
		},
	} {
		m := newReplica(t, shelf{}, change)
		all := m.answers.shared.keysOf(ofAnn(t, m))
		for _, k := range []string{all.answer[0], all.lease[0], all.mark[0], m.answers.shared.marksOf("ann")[0]} {
			assert.Empty(t, keys[k], name)
			keys[k] = name
		}
	}
	again := newReplica(t, shelf{}, func(c *Config) { c.TTL = time.Minute })
	assert.Equal(t, "as it is", keys[again.answers.shared.keysOf(ofAnn(t, again)).answer[0]], "keys do not depend on the TTL")
}

func TestLogWarnsOfADSSAtALoopbackAddress(t *testing.T) {
	for url, warned := range map[string]bool{
		"http://127.0.0.1:11200": true, "http://localhost:11200": true, "http://[::1]:11200": true, "https://dss.example": false,
	} {
		t.Run(url, func(t *testing.T) {
			var log bytes.Buffer
			newReplica(t, shelf{}, func(c *Config) {
				var err error
				c.Client, err = dss.New(dss.Config{URL: url, APIKey: "key"})
				require.NoError(t, err)
				c.Logger = slog.New(slog.NewTextHandler(&log, nil))
			})
			assert.Equal(t, warned, strings.Contains(log.String(), "DSS is at a loopback address"))
		})
	}
}

// TestStrangersDoNotPushOutAWaitingNotice has a store that is out, and
// strangers who sign out again and again.
func TestStrangersDoNotPushOutAWaitingNotice(t *testing.T) {
	m := newReplica(t, shelf{}, nil)
	s := m.answers.shared
	s.out.Store(true)
	m.ForgetUser("ann")
	for i := range 3 * maxUnheard {
		s.tellLater(unheard{forgetting{Answer: []string{"answer"}}, []string{fmt.Sprint("stranger ", i)}})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	assert.Len(t, s.unheard, maxUnheard)
	assert.Contains(t, s.unheard, s.marksOf("ann")[0])
}

// TestDifferingClocksAreLogged greets as replicas do whose clocks are ahead or behind.
func TestDifferingClocksAreLogged(t *testing.T) {
	for by, said := range map[time.Duration]bool{0: false, 1500 * time.Millisecond: false, -1500 * time.Millisecond: false, 2500 * time.Millisecond: true, -2500 * time.Millisecond: true} {
		t.Run(by.String(), func(t *testing.T) {
			var log bytes.Buffer
			m := newReplica(t, shelf{}, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			s := m.answers.shared
			for i := range 3 {
				greeting := forgetting{ID: fmt.Sprint("greeting ", i), At: time.Now().Add(by).UnixNano()}
				s.hear(s.closed(greeting, s.sealer.Keys("hello", s.about...)))
			}
			assert.Equal(t, said, strings.Contains(log.String(), "the clocks of two replicas differ"))
			assert.LessOrEqual(t, strings.Count(log.String(), "\n"), 1, "once a minute")
		})
	}
}

func FuzzNotice(f *testing.F) {
	client, err := dss.New(dss.Config{URL: "https://dss.example", APIKey: "key"})
	require.NoError(f, err)
	m, err := New(Config{Client: client, Store: shelf{}, StoreSecrets: [][]byte{testSecret}, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(f, err)
	f.Cleanup(func() { _ = m.Close() })
	s := m.answers.shared
	forgot := ""
	s.forget = func(owners []string, _ []key) { forgot = owners[0] }
	f.Add(s.closed(forgetting{ID: "one", At: time.Now().UnixNano(), Owners: []string{"ann"}}, s.marksOf("ann")))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, value []byte) {
		forgot = ""
		s.hear(value)
		if forgot != "" && forgot != "ann" {
			t.Fatal("forgot somebody of whom nothing was sealed")
		}
	})
}

// tally is a shelf that counts.
type tally struct {
	shelf
	puts atomic.Int64
}

func (s *tally) Put(ctx context.Context, e StoreEntry) (bool, error) {
	s.puts.Add(1)
	return s.shelf.Put(ctx, e)
}

func TestForgetTellsEachOwnerOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &tally{shelf: shelf{}}
		m := newReplica(t, store, nil)
		defer m.Close()
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Cookie", "session=ann")
		puts := func() int64 {
			before := store.puts.Load()
			m.Forget(r)
			return store.puts.Load() - before
		}
		assert.Equal(t, int64(1), puts(), "of a stranger: the mark of the bytes")
		c := ofAnn(t, m)
		remembered := &entry{node: node{key: c.key}, identity: Identity{Login: "ann"}}
		remembered.expires = int64(time.Hour)
		m.answers.cache.put(remembered)
		r = m.attach(r, remembered)
		assert.Equal(t, int64(2), puts(), "the marks of the login and of the bytes")
	})
}

func TestLookupsWithTheSameBytesAreCounted(t *testing.T) {
	m := newReplica(t, shelf{}, nil)
	s, c := m.answers.shared, ofAnn(t, m)
	f := &found{keys: s.keysOf(c)}
	for range 3 {
		s.begins(f, c.key)
	}
	for range 3 {
		assert.NotEmpty(t, s.local(f.keys.answer))
		s.conclude(f)
	}
	assert.Empty(t, s.local(f.keys.answer))
}

// Another replica may have a newer answer, or one that a clock shows as newer.
func TestStoredAnswerIsNewerThanTheLastOne(t *testing.T) {
	for name, test := range map[string]struct {
		asOf, asked time.Duration // of the last answer, from those of the stored one
		believed    bool
	}{
		"newer":                        {-time.Second, -time.Second, true},
		"older":                        {time.Second, time.Second, false},
		"the same":                     {0, 0, false},
		"older by its own clock":       {time.Second, -time.Second, false},
		"older by the clock of here":   {-time.Second, time.Second, false},
		"as old by its own clock":      {0, -time.Second, false},
		"as old, by the clock of here": {-time.Second, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newReplica(t, shelf{}, nil)
				defer m.Close()
				<-time.After(time.Minute)
				s, c := m.answers.shared, ofAnn(t, m)
				stored := s.keysOf(c).answer[0]
				asOf := time.Now().Add(-3 * time.Second)
				text, err := json.Marshal(sharedAnswer{AsOf: asOf.UnixNano(), Login: "ann"})
				require.NoError(t, err)
				s.store.(shelf)[stored] = s.sealer.Seal(0, stored, text)
				last := &entry{identity: Identity{Login: "ann", AsOf: asOf.Add(test.asOf)}}
				last.asked = s.now() - int64(3*time.Second) + int64(test.asked)
				var count atomic.Int64
				f, err := s.find(t.Context(), c, last, false, &count, func() error { return nil }, func() {})
				require.NoError(t, err)
				assert.Equal(t, test.believed, f.isAnswer())
			})
		})
	}
}

func TestNoticeOfAnotherSecretIsLogged(t *testing.T) {
	var log bytes.Buffer
	s := newReplica(t, shelf{}, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) }).answers.shared
	other := newReplica(t, shelf{}, func(c *Config) { c.StoreSecrets = [][]byte{[]byte("another secret of more than 32 bytes")} }).answers.shared
	for i := range 3 {
		notice := forgetting{ID: fmt.Sprint("notice ", i), At: time.Now().UnixNano(), Owners: []string{"ann"}}
		s.hear(other.closed(notice, other.marksOf("ann")))
	}
	assert.Equal(t, 1, strings.Count(log.String(), "other Config.StoreSecrets"), "once")
}

func TestWaitingNoticesOfUsersStay(t *testing.T) {
	m := newReplica(t, shelf{}, nil)
	s := m.answers.shared
	s.out.Store(true)
	waits := func(owner string) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, ok := s.unheard[s.marksOf(owner)[0]]
		return ok && len(s.unheard) == maxUnheard
	}
	for i := range maxUnheard {
		m.ForgetUser(fmt.Sprint("user ", i))
	}
	s.tellLater(unheard{forgetting{Answer: []string{"answer"}}, []string{"stranger"}})
	for i := range maxUnheard {
		require.True(t, waits(fmt.Sprint("user ", i)), "%d", i)
	}
	m.ForgetUser("the last one")
	assert.True(t, waits("the last one"))
}

func TestNewestNoticeOfStrangersWaits(t *testing.T) {
	s := newReplica(t, shelf{}, nil).answers.shared
	s.out.Store(true)
	for i := range maxUnheard + 1 {
		s.tellLater(unheard{forgetting{Answer: []string{"answer"}}, []string{fmt.Sprint("stranger ", i)}})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	assert.Contains(t, s.unheard, fmt.Sprint("stranger ", maxUnheard))
}
