package promises

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

const lookups = "/auth/info-from-browser-headers"

func TestReplicasShareAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _, all := sharing(t, 3, func(c *dssauth.Config) { c.UserDetails = true })
		r := signedIn(d, "ann")
		first := identity(t, all[0], r.Clone(t.Context()))
		synctest.Wait() // no request waits for the store's calls
		for _, m := range all[1:] {
			assert.Equal(t, first, identity(t, m, r.Clone(t.Context())))
			assert.Equal(t, uint64(0), m.Stats().Lookups)
			assert.Equal(t, uint64(1), m.Stats().Store.Hits)
		}
		assert.Equal(t, "Ann Analyst", first.DisplayName)
		assert.Equal(t, 1, d.Calls(lookups))
		assert.Equal(t, "bob", who(all[1], signedIn(d, "bob")), "others are others")
	})
}

func TestReplicasThatMissAtOnceAskOnce(t *testing.T) {
	for _, latency := range []time.Duration{0, time.Millisecond, 100 * time.Millisecond, 2 * time.Second} {
		t.Run(latency.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				d.SetLatency(latency)
				store := newStore()
				store.waits = 200 * time.Microsecond
				all := replicas(t, 50, client, store)
				synctest.Wait()
				r := signedIn(d, "ann")
				var answers []<-chan string
				for _, m := range all {
					answers = append(answers, asks(m, r.Clone(t.Context())))
				}
				for _, a := range answers {
					assert.Equal(t, "ann", <-a)
				}
				assert.Equal(t, 1, d.Calls(lookups))
			})
		})
	}
}

// TestReplicasAskAsSeldomAsOneProcess compares the cost of busy visitors to several replicas
// and to one.
func TestReplicasAskAsSeldomAsOneProcess(t *testing.T) {
	calls := func(n int, store bool) (calls int) {
		synctest.Test(t, func(t *testing.T) {
			d, client := newMemory(t)
			d.SetLatency(50 * time.Millisecond)
			s := newStore()
			s.waits = 200 * time.Microsecond
			all := replicas(t, n, client, s, func(c *dssauth.Config) {
				if !store {
					c.Store, c.StoreSecrets = nil, nil
				}
			})
			synctest.Wait()
			var visitors []func() string
			for i := range 20 {
				login := fmt.Sprint("visitor", i)
				d.AddUser(dsstest.User{Login: login})
				r := signedIn(d, login)
				at := i
				visitors = append(visitors, func() string {
					at++ // another replica each time
					return who(all[at%n], r.Clone(t.Context()))
				})
			}
			for began := time.Now(); time.Since(began) < time.Minute; {
				for _, v := range visitors {
					v()
					pass(3 * time.Millisecond)
				}
			}
			calls = d.Calls(lookups)
		})
		return calls
	}
	one, shared, apart := calls(1, false), calls(8, true), calls(8, false)
	t.Logf("figure: 20 busy visitors for a minute: %d calls of DSS by one process, %d by eight with a store, %d without", one, shared, apart)
	assert.LessOrEqual(t, float64(shared), 1.2*float64(one))
	assert.Greater(t, apart, 4*one, "without a store there is something to save")
}

func TestAgeOfAnAnswerCountsFromWhenDSSWasAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _, all := sharing(t, 2)
		r := signedIn(d, "ann")
		began := time.Now()
		require.Equal(t, "ann", who(all[0], r.Clone(t.Context())))
		d.EndSessions()
		pass(8 * time.Second) // no refresh: there was no request
		require.Equal(t, "ann", who(all[1], r.Clone(t.Context())), "another replica's answer is good for as long as that one's own")
		for who(all[1], r.Clone(t.Context())) == "ann" {
			require.Less(t, time.Since(began), 10*time.Second)
			pass(10 * time.Millisecond)
		}
	})
}

func TestForgettingAUserReachesAllReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _, all := sharing(t, 3)
		r := signedIn(d, "ann")
		for _, m := range all {
			require.Equal(t, []string{"analysts"}, identity(t, m, r.Clone(t.Context())).Groups())
		}
		d.AddUser(dsstest.User{Login: "ann", Groups: []string{"readers"}})
		all[0].ForgetUser("ann")
		synctest.Wait()
		for i, m := range all {
			assert.Equal(t, []string{"readers"}, identity(t, m, r.Clone(t.Context())).Groups(), i)
		}
	})
}

func TestASignOutReachesAllReplicas(t *testing.T) {
	for name, test := range map[string]struct{ knows bool }{
		"from the replica that knows the visitor": {true},
		"from one that does not":                  {false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				store := newStore()
				all := replicas(t, 3, client, store)
				synctest.Wait()
				c := d.SignIn("ann")
				r := withCookies(c.Name + "=" + c.Value)
				for _, m := range all[1:] {
					require.Equal(t, "ann", who(m, r.Clone(t.Context())))
				}
				if test.knows {
					require.Equal(t, "ann", who(all[0], r.Clone(t.Context())))
				} else { // and no notice reaches it
					store.set(func(s *memory) { clear(s.entries) })
				}
				d.SignOut(c)
				all[0].Forget(r.Clone(t.Context()))
				synctest.Wait()
				for i, m := range all {
					assert.Equal(t, "401", who(m, r.Clone(t.Context())), i)
				}
			})
		})
	}
}

// A replica that does not know the visitor learns the login from the store.
func TestSignOutForgetsTheOtherSessionsOfItsLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		all := replicas(t, 2, client, newStore())
		synctest.Wait()
		one, other := signedIn(d, "ann"), signedIn(d, "ann")
		for _, r := range []*http.Request{one, other} {
			require.Equal(t, []string{"analysts"}, identity(t, all[1], r.Clone(t.Context())).Groups())
		}
		synctest.Wait()
		d.AddUser(dsstest.User{Login: "ann", Groups: []string{"readers"}})
		all[0].Forget(one.Clone(t.Context()))
		synctest.Wait()
		for i, m := range all {
			assert.Equal(t, []string{"readers"}, identity(t, m, other.Clone(t.Context())).Groups(), i)
		}
	})
}

// afterForgetUser returns two replicas that have forgotten ann, whose groups changed,
// their client and store, ann's request, and the values that the store had before.
func afterForgetUser(t *testing.T) (*dss.Client, *memory, []*dssauth.Middleware, *http.Request, map[string][]byte) {
	d, client := newMemory(t)
	store := newStore()
	all := replicas(t, 2, client, store)
	synctest.Wait()
	r := signedIn(d, "ann")
	require.Equal(t, "ann", who(all[0], r.Clone(t.Context())))
	synctest.Wait()
	old := store.live()
	d.AddUser(dsstest.User{Login: "ann", Groups: []string{"readers"}})
	all[0].ForgetUser("ann")
	return client, store, all, r, old
}

// TestStoredAnswerFromBeforeForgetIsNotUsed stores, after ForgetUser, the answer
// of a lookup that began before it.
func TestStoredAnswerFromBeforeForgetIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, store, all, r, old := afterForgetUser(t)
		store.set(func(s *memory) {
			for k, v := range old {
				s.entries[k] = stored{v, time.Now().Add(time.Hour)}
			}
		})
		late := replica(t, client, store)                               // it has heard no notice
		for i, m := range append([]*dssauth.Middleware{late}, all...) { // that one before another answer is stored
			assert.Equal(t, []string{"readers"}, identity(t, m, r.Clone(t.Context())).Groups(), i)
		}
	})
}

// TestForgettingHoldsHereDespiteTheStore makes the store lose its marks.
func TestForgettingHoldsHereDespiteTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, store, all, r, old := afterForgetUser(t)
		synctest.Wait()
		store.set(func(s *memory) { s.lies = func(key string, _ []byte) []byte { return bytes.Clone(old[key]) } })
		for i, m := range all {
			assert.Equal(t, []string{"readers"}, identity(t, m, r.Clone(t.Context())).Groups(), i)
		}
	})
}

// TestConcurrentRefreshesAreOneLookup has a visitor's answer grow old in all replicas at once.
func TestConcurrentRefreshesAreOneLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		d.SetLatency(100 * time.Millisecond)
		all := replicas(t, 8, client, newStore())
		synctest.Wait()
		r := signedIn(d, "ann")
		for range 3 {
			for _, m := range all {
				require.Equal(t, "ann", who(m, r.Clone(t.Context())))
			}
			pass(7500 * time.Millisecond)
		}
		assert.Equal(t, 3, d.Calls(lookups))
	})
}

func TestLyingStoreIsNotBelieved(t *testing.T) {
	for name, lie := range map[string]func(s *memory, key string, value []byte) []byte{
		"any other value": func(s *memory, key string, value []byte) []byte {
			for k, e := range s.entries {
				if k != key && value != nil {
					return bytes.Clone(e.value)
				}
			}
			return nil
		},
		"garbage": func(*memory, string, []byte) []byte { return bytes.Repeat([]byte{7}, 300) },
		"cut":     func(_ *memory, _ string, value []byte) []byte { return value[:len(value)/2] },
		"one bit": func(_ *memory, _ string, value []byte) []byte {
			value = bytes.Clone(value)
			if len(value) > 0 {
				value[len(value)/2] ^= 1
			}
			return value
		},
		"much": func(*memory, string, []byte) []byte { return make([]byte, 10<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				store := newStore()
				store.lies = func(key string, value []byte) []byte { return lie(store, key, value) }
				all := replicas(t, 2, client, store)
				synctest.Wait()
				ann, bob := signedIn(d, "ann"), signedIn(d, "bob")
				for range 3 {
					for _, m := range all {
						assert.Equal(t, "ann", who(m, ann.Clone(t.Context())))
						assert.Equal(t, "bob", who(m, bob.Clone(t.Context())))
						assert.Equal(t, "401", who(m, browser("stranger")))
					}
				}
			})
		})
	}
}

// TestReplayAfterASignOutIsNotBelieved lets the store return earlier answers.
func TestReplayAfterASignOutIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		store := newStore()
		m := replica(t, client, store)
		synctest.Wait()
		c := d.SignIn("ann")
		r := withCookies(c.Name + "=" + c.Value)
		require.Equal(t, "ann", who(m, r.Clone(t.Context())))
		synctest.Wait()
		old := store.live()
		store.set(func(s *memory) { s.lies = func(key string, _ []byte) []byte { return bytes.Clone(old[key]) } })
		d.SignOut(c)
		pass(10 * time.Second)
		assert.Equal(t, "401", who(m, r.Clone(t.Context())), "here")
		assert.Equal(t, "401", who(replica(t, client, store), r.Clone(t.Context())), "in a replica that is new")
		assert.NotZero(t, m.Stats().Store.Rejected)
	})
}

// TestStoreDoesNotUndoARefusalOfDSS has DSS say "anonymous" to a refresh, while the
// store goes on giving the older answer.
func TestStoreDoesNotUndoARefusalOfDSS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, store, all := sharing(t, 1)
		m := all[0]
		greeting := slices.Collect(maps.Keys(store.live()))[0]
		c := d.SignIn("ann")
		r := withCookies(c.Name + "=" + c.Value)
		require.Equal(t, "ann", who(m, r.Clone(t.Context())))
		synctest.Wait()
		old := maps.Clone(store.live())
		maps.DeleteFunc(old, func(k string, _ []byte) bool { return k == greeting })
		d.SignOut(c)
		pass(7500 * time.Millisecond)
		require.Equal(t, "ann", who(m, r.Clone(t.Context())), "which starts a refresh")
		synctest.Wait()
		for k := range old {
			assert.NotContains(t, store.live(), k, "other replicas do not find it either")
		}
		store.set(func(s *memory) { s.lies = func(key string, _ []byte) []byte { return bytes.Clone(old[key]) } })
		for range 5 {
			assert.Equal(t, "401", who(m, navigationWith(r)))
			pass(300 * time.Millisecond)
		}
	})
}

// navigationWith is a page load with r's cookies.
func navigationWith(r *http.Request) *http.Request {
	n := navigation("")
	n.Header["Cookie"] = r.Header["Cookie"]
	return n
}

func TestNoticesCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, store, all := sharing(t, 2)
		r := signedIn(d, "ann")
		all[0].ForgetUser("ann")
		pass(3 * time.Second) // the mark does not reach that far
		require.Equal(t, "ann", who(all[1], r.Clone(t.Context())))
		synctest.Wait()
		calls := d.Calls(lookups)
		for _, e := range store.written() {
			if e.Notify {
				store.set(func(s *memory) { s.tell(e.Value); s.tell(e.Value[1:]); s.tell(nil) })
			}
		}
		synctest.Wait()
		assert.Equal(t, 1, all[1].Stats().Entries)
		assert.Equal(t, "ann", who(all[1], r.Clone(t.Context())))
		assert.Equal(t, calls, d.Calls(lookups))
	})
}

// TestUnsentNoticesAreSentLater cuts one replica off from the store while it
// forgets. Another replica reaches the store all the time.
func TestUnsentNoticesAreSentLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		store := newStore()
		way := &cutOff{memory: store}
		cut := replica(t, client, way)
		hears := replica(t, client, store, func(c *dssauth.Config) { c.StaleIfError = time.Hour })
		pass(time.Second)
		r, other := signedIn(d, "ann"), signedIn(d, "bob")
		require.Equal(t, "ann", who(hears, r.Clone(t.Context())))
		require.Equal(t, "bob", who(hears, other.Clone(t.Context())))
		way.is.Store(true)
		for i := range 3 {
			who(cut, browser(fmt.Sprint("stranger", i)))
		}
		require.True(t, cut.Stats().Store.Out)
		cut.ForgetUser("ann")
		cut.ForgetUser("bob")
		d.SetDown(true)
		pass(12 * time.Second)
		require.Equal(t, "ann", who(hears, r.Clone(t.Context())), "no notice reached it")
		way.is.Store(false)
		pass(3 * time.Second)
		assert.Equal(t, "503", who(hears, r.Clone(t.Context())))
		assert.Equal(t, "503", who(hears, other.Clone(t.Context())))
		told := store.notices()
		pass(time.Minute)
		assert.Equal(t, told, store.notices(), "it is told once")
	})
}

// cutOff is one replica's way to a store.
type cutOff struct {
	*memory
	is atomic.Bool
}

func (c *cutOff) Get(ctx context.Context, key string) ([]byte, error) {
	if c.is.Load() {
		return nil, errStoreBroken
	}
	return c.memory.Get(ctx, key)
}

func (c *cutOff) Put(ctx context.Context, e dssauth.StoreEntry) (bool, error) {
	if c.is.Load() {
		return false, errStoreBroken
	}
	return c.memory.Put(ctx, e)
}

// TestSignOutReachesAnswersThatWereNotStored identifies a visitor while the
// store is out. A replica that does not know the login signs the visitor out.
func TestSignOutReachesAnswersThatWereNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		store := newStore()
		way := &cutOff{memory: store}
		all := []*dssauth.Middleware{replica(t, client, store), replica(t, client, way)}
		synctest.Wait()
		way.is.Store(true)
		for i := range 3 {
			who(all[1], browser(fmt.Sprint("stranger", i)))
		}
		require.True(t, all[1].Stats().Store.Out)
		c := d.SignIn("ann")
		r := withCookies(c.Name + "=" + c.Value)
		require.Equal(t, "ann", who(all[1], r.Clone(t.Context())))
		way.is.Store(false)
		pass(1500 * time.Millisecond)
		require.False(t, all[1].Stats().Store.Out)
		d.SignOut(c)
		all[0].Forget(r.Clone(t.Context()))
		synctest.Wait()
		assert.Equal(t, "401", who(all[1], r.Clone(t.Context())))
	})
}

// TestASignOutReachesTheSecondLookup ends one of two lookups for a visitor. Then the
// visitor signs out on another replica.
func TestASignOutReachesTheSecondLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, store, all := sharing(t, 2)
		r := signedIn(d, "ann")
		d.SetLatency(time.Second)
		d.Intercept(lookups, 1, dsstest.Respond(http.StatusBadGateway, "no"))
		first := asks(all[1], r.Clone(t.Context()))
		pass(500 * time.Millisecond)
		store.set(func(s *memory) { clear(s.entries) }) // the lease
		second := asks(all[1], navigationWith(r))
		require.Equal(t, "503", <-first)
		synctest.Wait()
		all[0].Forget(r.Clone(t.Context()))
		require.Equal(t, "ann", <-second, "which came before")
		calls := d.Calls(lookups)
		pass(3 * time.Second)
		require.Equal(t, "ann", who(all[1], r.Clone(t.Context())))
		assert.Equal(t, calls+1, d.Calls(lookups))
	})
}

// TestJunkOfOneUserDoesNotHideASignOut has many answers about one user, of
// which few are remembered.
func TestJunkOfOneUserDoesNotHideASignOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, store, all := sharing(t, 2, func(c *dssauth.Config) { c.MaxEntries, c.MaxEntriesPerUser = 100, 2 })
		c := d.SignIn("ann")
		r := withCookies(c.Name + "=" + c.Value)
		require.Equal(t, "ann", who(all[1], r.Clone(t.Context())))
		bob := d.SignIn("bob")
		for i := range 300 {
			require.Equal(t, "bob", who(all[1], withCookies(fmt.Sprintf("%s=%s; junk=%d", bob.Name, bob.Value, i))))
		}
		d.SignOut(c)
		store.set(func(s *memory) { clear(s.entries) }) // nobody knows the login
		all[0].Forget(r.Clone(t.Context()))
		synctest.Wait()
		assert.Equal(t, "401", who(all[1], r.Clone(t.Context())))
	})
}

func TestReplicaThatHearsNothingForgetsWithinTheTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		store := newStore()
		store.deaf = func([]byte) bool { return false }
		all := replicas(t, 2, client, store)
		synctest.Wait()
		c := d.SignIn("ann")
		r := withCookies(c.Name + "=" + c.Value)
		began := time.Now()
		for _, m := range all {
			require.Equal(t, "ann", who(m, r.Clone(t.Context())))
		}
		d.SignOut(c)
		all[0].Forget(r.Clone(t.Context()))
		assert.Equal(t, "401", who(all[0], r.Clone(t.Context())))
		for who(all[1], r.Clone(t.Context())) == "ann" {
			require.Less(t, time.Since(began), 10*time.Second)
			pass(10 * time.Millisecond)
		}
	})
}

// TestStoreThatCannotBeWatchedIsLogged checks the only sign for an operator: nothing else
// fails.
func TestStoreThatCannotBeWatchedIsLogged(t *testing.T) {
	for name, test := range map[string]struct {
		ends func() error
		says string
	}{
		"fails":                    {func() error { return errStoreBroken }, errStoreBroken.Error()},
		"returns":                  {func() error { return nil }, "without an error"},
		"panics":                   {func() error { panic("choked") }, "without an error"},
		"has an error that panics": {func() error { return (*fs.PathError)(nil) }, "without an error"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				store := &unwatched{memory: newStore(), ends: test.ends}
				var book logBook
				lines := func() []string { return book.with("cannot be watched") }
				m := replica(t, client, store, func(c *dssauth.Config) { c.Logger = book.logger() })
				require.Equal(t, "ann", who(m, signedIn(d, "ann")))
				pass(500 * time.Millisecond)
				assert.Empty(t, lines(), "a short gap is usual")
				pass(50 * time.Second)
				if assert.Len(t, lines(), 1) {
					assert.Contains(t, lines()[0], test.says)
				}
				assert.False(t, m.Stats().Store.Hears)
				assert.Zero(t, m.Stats().Store.Failures, "all else works")
				pass(15 * time.Second)
				assert.Len(t, lines(), 2, "once a minute")
				store.works.Store(true)
				pass(5 * time.Minute)
				assert.True(t, m.Stats().Store.Hears)
				store.cut()
				pass(5 * time.Minute)
				assert.Len(t, lines(), 2)
				assert.Empty(t, book.with("choked"), "the text of a panic is not logged")
			})
		})
	}
}

func TestWatchThatNeverListensIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, client := newMemory(t)
		var book logBook
		m := replica(t, client, &unready{memory: newStore()}, func(c *dssauth.Config) { c.Logger = book.logger() })
		pass(9 * time.Second)
		assert.Empty(t, book.with("cannot be watched"))
		pass(2 * time.Second)
		assert.Len(t, book.with("did not call ready"), 1)
		assert.True(t, m.Stats().Store.Hears)
		pass(time.Hour)
		assert.Len(t, book.with("cannot be watched"), 1, "the next one goes on")
	})
}

// unready is a store whose first Watch only waits for its end.
type unready struct {
	*memory
	watched atomic.Bool
}

func (u *unready) Watch(ctx context.Context, ready func(), heard func([]byte)) error {
	if !u.watched.Swap(true) {
		<-ctx.Done()
		return ctx.Err()
	}
	return u.memory.Watch(ctx, ready, heard)
}

// unwatched is a store of which only Watch does not work.
type unwatched struct {
	*memory
	ends  func() error
	works atomic.Bool
}

func (u *unwatched) Watch(ctx context.Context, ready func(), heard func([]byte)) error {
	if u.works.Load() {
		return u.memory.Watch(ctx, ready, heard)
	}
	return u.ends()
}

// TestStoreThatIsOutDelaysFewRequests counts, in virtual time, how long requests wait for it.
func TestStoreThatIsOutDelaysFewRequests(t *testing.T) {
	for name, breaks := range map[string]func(*memory){
		"fails":          func(s *memory) { s.fails = errStoreBroken },
		"hangs":          func(s *memory) { s.waits = time.Hour },
		"hangs for good": func(s *memory) { s.waits, s.hangs = 15*time.Second, true },
		"is late":        func(s *memory) { s.waits = 60 * time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				store := newStore()
				var book logBook
				m := replica(t, client, store, func(c *dssauth.Config) { c.Logger = book.logger() })
				synctest.Wait()
				store.set(breaks)
				took := func() time.Duration {
					began := time.Now()
					require.Equal(t, "ann", who(m, signedIn(d, "ann")))
					return time.Since(began)
				}
				for range 3 {
					assert.LessOrEqual(t, took(), 50*time.Millisecond, "one call, and no further one")
				}
				synctest.Wait()
				require.True(t, m.Stats().Store.Out)
				for range 100 {
					assert.LessOrEqual(t, took(), time.Millisecond)
					pass(100 * time.Millisecond)
				}
				began := time.Now()
				m.ForgetUser("ann")
				assert.Zero(t, time.Since(began))
				assert.Len(t, book.with("Config.Store does not answer"), 1)
				store.set(func(s *memory) { s.fails, s.waits, s.hangs = nil, 0, false })
				pass(16100 * time.Millisecond) // as soon as no call hangs any more
				assert.False(t, m.Stats().Store.Out)
				store.set(func(s *memory) { s.fails = errStoreBroken })
				took()
				assert.Empty(t, book.with("fails one kind of call"), "a failure after an outage of all kinds")
				store.set(func(s *memory) { s.fails = nil })
				hits := m.Stats().Store.Misses
				took()
				assert.Greater(t, m.Stats().Store.Misses, hits, "it is asked again")
				assert.Len(t, book.with("Config.Store answers again"), 1)
				require.NoError(t, m.Close())
			})
		})
	}
}

// TestStoreIsBackDespiteCallsThatNeverReturn leaves some under way when the store goes out.
func TestStoreIsBackDespiteCallsThatNeverReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, store, all := sharing(t, 1)
		m := all[0]
		broken := func(broken bool) {
			store.set(func(s *memory) { s.waits, s.hangs = 0, broken })
			if broken {
				store.set(func(s *memory) { s.waits = 24 * time.Hour })
			}
		}
		broken(true)
		for range 3 {
			require.Equal(t, "ann", who(m, signedIn(d, "ann")))
		}
		synctest.Wait()
		require.True(t, m.Stats().Store.Out)
		require.Positive(t, store.under())
		pass(time.Minute)
		assert.LessOrEqual(t, store.under(), 15, "each probe adds one: they become rare")
		broken(false)
		pass(20 * time.Second)
		assert.Positive(t, store.under())
		assert.False(t, m.Stats().Store.Out)
		require.NoError(t, m.Close())
		pass(24 * time.Hour)
	})
}

// A store that fails one kind of call, as Redis does without a right, is not out: other
// calls succeed in between. The log says so.
func TestStoreThatFailsOneKindOfCallIsNamed(t *testing.T) {
	for _, kind := range []string{"get", "put", "notify", "delete"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				var book logBook
				m := replica(t, client, forbidding{newStore(), kind}, func(c *dssauth.Config) { c.Logger = book.logger() })
				for range 10 {
					require.Equal(t, "ann", who(m, signedIn(d, "ann")))
					m.ForgetUser("ann")
					pass(3 * time.Second)
				}
				assert.False(t, m.Stats().Store.Out)
				assert.Len(t, book.with("fails one kind of call"), 1, "said once a minute")
				require.NoError(t, m.Close())
			})
		})
	}
}

// forbidding fails one kind of call.
type forbidding struct {
	*memory
	kind string
}

func (f forbidding) Get(ctx context.Context, key string) ([]byte, error) {
	if f.kind == "get" {
		return nil, errStoreBroken
	}
	return f.memory.Get(ctx, key)
}

func (f forbidding) Put(ctx context.Context, e dssauth.StoreEntry) (bool, error) {
	if f.kind == "put" && !e.Notify || f.kind == "notify" && e.Notify {
		return false, errStoreBroken
	}
	return f.memory.Put(ctx, e)
}

func (f forbidding) Delete(ctx context.Context, key string) error {
	if f.kind == "delete" {
		return errStoreBroken
	}
	return f.memory.Delete(ctx, key)
}

func TestStoreThatFailsNowAndThenIsNotOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, store, all := sharing(t, 1)
		m := all[0]
		for range 10 {
			for _, fails := range []error{errStoreBroken, nil} {
				store.set(func(s *memory) { s.fails = fails })
				require.Equal(t, "ann", who(m, signedIn(d, "ann")))
				synctest.Wait()
				require.False(t, m.Stats().Store.Out)
			}
		}
		assert.GreaterOrEqual(t, m.Stats().Store.Failures, uint64(10))
	})
}

// TestKilledReplicaDelaysALookupBriefly leaves a lease without an end.
func TestKilledReplicaDelaysALookupBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		store := newStore()
		killed := replica(t, client, store)
		m := replica(t, client, store)
		synctest.Wait()
		r := signedIn(d, "ann")
		d.SetLatency(time.Hour)
		go who(killed, r.Clone(t.Context()))
		synctest.Wait()
		d.SetLatency(0)
		lease := store.live()
		require.Len(t, leasesOf(lease), 1)
		began := time.Now()
		assert.Equal(t, "ann", who(m, r.Clone(t.Context())), "a replica that waits for it asks itself, in time")
		assert.LessOrEqual(t, time.Since(began), 4*time.Second)
		for _, e := range store.written() {
			assert.LessOrEqual(t, e.TTL, time.Minute, "nothing stays")
		}
	})
}

// TestNewerLookupDoesNotWaitForTheOlderOne has one that hangs, and has the lease.
func TestNewerLookupDoesNotWaitForTheOlderOne(t *testing.T) {
	for name, test := range map[string]struct{ forgets, navigates bool }{
		"a sign-out":  {forgets: true},
		"a page load": {navigates: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, store, all := sharing(t, 1)
				m, r := all[0], signedIn(d, "ann")
				d.Intercept(lookups, 1, dsstest.Hang)
				older := asks(m, r.Clone(t.Context()))
				synctest.Wait()
				require.Len(t, leasesOf(store.live()), 1)
				newer := r.Clone(t.Context())
				if test.forgets {
					m.Forget(r.Clone(t.Context()))
				}
				if test.navigates {
					newer = navigationWith(r)
				}
				began := time.Now()
				assert.Equal(t, "ann", who(m, newer))
				assert.Zero(t, time.Since(began))
				<-older
			})
		})
	}
}

// orphan restores each lease that was ever taken, as if its replica was killed.
func (s *memory) orphan() {
	for _, e := range s.written() {
		if e.IfAbsent {
			s.set(func(s *memory) { s.entries[e.Key] = stored{[]byte("killed"), time.Now().Add(e.TTL)} })
		}
	}
}

// TestRefreshesThatWaitForAnotherReplicaHoldNoPlace starts more refreshes than there
// are places. Leases of a killed replica, or of a lying store, make them wait.
func TestRefreshesThatWaitForAnotherReplicaHoldNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, store, all := sharing(t, 1)
		m := all[0]
		var known []*http.Request
		for i := range 40 {
			login := fmt.Sprint("visitor", i)
			d.AddUser(dsstest.User{Login: login})
			r := signedIn(d, login)
			require.Equal(t, login, who(m, r.Clone(t.Context())))
			known = append(known, r)
		}
		pass(7500 * time.Millisecond)
		store.orphan()
		for i, r := range known {
			require.Equal(t, fmt.Sprint("visitor", i), who(m, r.Clone(t.Context())), "which starts a refresh")
		}
		synctest.Wait()
		began := time.Now()
		assert.Equal(t, "bob", who(m, signedIn(d, "bob")))
		assert.Less(t, time.Since(began), 100*time.Millisecond)
		calls := d.Calls(lookups)
		pass(5 * time.Second)
		assert.Equal(t, calls+40, d.Calls(lookups), "they ask DSS afterwards")
	})
}

// leasesOf returns the values of leases: they seal no text.
func leasesOf(all map[string][]byte) (leases []string) {
	for k, v := range all {
		if len(v) < 100 {
			leases = append(leases, k)
		}
	}
	return leases
}

// TestOutagesAreBridgedOnlyWhereForgettingIsHeard cuts a replica off for a moment.
// In this moment another one forgets the visitor.
func TestOutagesAreBridgedOnlyWhereForgettingIsHeard(t *testing.T) {
	for name, test := range map[string]struct {
		during func(*memory)
		want   string
	}{
		"heard all the time": {func(*memory) {}, "ann"},
		"cut off":            {func(s *memory) { s.cut() }, "503"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				store := newStore()
				m := replica(t, client, store, func(c *dssauth.Config) { c.StaleIfError = time.Hour })
				pass(time.Second)
				r := signedIn(d, "ann")
				require.Equal(t, "ann", who(m, r.Clone(t.Context())))
				test.during(store)
				pass(5 * time.Second)
				d.SetDown(true)
				pass(10 * time.Second)
				assert.Equal(t, test.want, who(m, r.Clone(t.Context())))
				if test.want == "503" {
					d.SetDown(false)
					pass(5 * time.Second)
					require.Equal(t, "ann", who(m, r.Clone(t.Context())))
					d.SetDown(true)
					pass(11 * time.Second)
					assert.Equal(t, "ann", who(m, r.Clone(t.Context())), "which was asked since it hears again")
				}
			})
		})
	}
}

func TestFreshAnswersAreSharedInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _, all := sharing(t, 2)
		r := signedIn(d, "ann")
		require.Equal(t, "ann", who(all[0], r.Clone(t.Context())))
		d.SetDown(true)
		require.Equal(t, "503", who(all[1], signedIn(d, "bob")))
		synctest.Wait()
		assert.Equal(t, "ann", who(all[1], r.Clone(t.Context())))
	})
}

// TestSecretsAreReplacedStepByStep counts what each step of a rotation costs.
func TestSecretsAreReplacedStepByStep(t *testing.T) {
	old, fresh := bytes.Repeat([]byte("old secret "), 3), bytes.Repeat([]byte("new secret "), 3)
	for name, test := range map[string]struct {
		a, b  [][]byte
		calls int
	}{
		"one":                 {[][]byte{old}, [][]byte{old}, 1},
		"the new one opens":   {[][]byte{old}, [][]byte{old, fresh}, 1},
		"the new one seals":   {[][]byte{old, fresh}, [][]byte{fresh, old}, 1},
		"the old one is gone": {[][]byte{fresh, old}, [][]byte{fresh}, 1},
		"in one step":         {[][]byte{old}, [][]byte{fresh}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				d.SetLatency(50 * time.Millisecond)
				store := newStore()
				var book logBook
				with := func(secrets [][]byte) *dssauth.Middleware {
					return replica(t, client, store, func(c *dssauth.Config) { c.StoreSecrets, c.Logger = secrets, book.logger() })
				}
				all := []*dssauth.Middleware{with(test.a), with(test.b), with(test.a), with(test.b)}
				synctest.Wait()
				atOnce, inTurn := signedIn(d, "ann"), signedIn(d, "bob")
				var answers []<-chan string
				for _, m := range all {
					answers = append(answers, asks(m, atOnce.Clone(t.Context())))
				}
				for _, a := range answers {
					assert.Equal(t, "ann", <-a)
				}
				assert.Equal(t, test.calls, d.Calls(lookups), "at once")
				for _, m := range all {
					assert.Equal(t, "bob", who(m, inTurn.Clone(t.Context())))
				}
				assert.Equal(t, 2*test.calls, d.Calls(lookups), "in turn")
				d.AddUser(dsstest.User{Login: "bob", Groups: []string{"fired"}})
				all[0].ForgetUser("bob")
				synctest.Wait()
				assert.Equal(t, []string{"fired"}, identity(t, all[2], inTurn.Clone(t.Context())).Groups())
				if test.calls == 1 {
					assert.Equal(t, []string{"fired"}, identity(t, all[1], inTurn.Clone(t.Context())).Groups())
				}
				strangers := 0
				if test.calls == 2 {
					strangers = len(all)
				}
				assert.Len(t, book.with("other Config.StoreSecrets"), strangers, "each says it once, the last one too")
			})
		})
	}
}

// TestReplicasWithTwoSecretsWaitForOneWithOne has three of them miss a visitor, with
// their leases in any order.
func TestReplicasWithTwoSecretsWaitForOneWithOne(t *testing.T) {
	old, fresh := bytes.Repeat([]byte("old secret "), 3), bytes.Repeat([]byte("new secret "), 3)
	for name, one := range map[string][]byte{"old": old, "new": fresh} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				d.SetLatency(100 * time.Millisecond)
				store := newStore()
				store.waits = time.Millisecond
				with := func(secrets ...[]byte) *dssauth.Middleware {
					return replica(t, client, store, func(c *dssauth.Config) { c.StoreSecrets = secrets })
				}
				all := []*dssauth.Middleware{with(one), with(old, fresh), with(old, fresh)}
				synctest.Wait()
				r := signedIn(d, "ann")
				var answers []<-chan string
				for _, m := range all {
					answers = append(answers, asks(m, r.Clone(t.Context())))
					if len(answers) == 1 {
						pass(10 * time.Millisecond)
					}
				}
				for _, a := range answers {
					assert.Equal(t, "ann", <-a)
				}
				assert.Equal(t, 1, d.Calls(lookups))
				synctest.Wait()
				pass(10 * time.Millisecond)
				assert.Empty(t, leasesOf(store.live()))
			})
		})
	}
}

// TestNothingReadableIsStored searches all that was ever put.
func TestNothingReadableIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		d.AddUser(dsstest.User{Login: "canary-login", DisplayName: "canary-name", Email: "canary@mail", Groups: []string{"canary-group"}})
		d.SetOwnSettings("canary-login", `{"login": "canary-login", "secrets": [{"name": "canary-secret", "value": "canary-value"}]}`)
		store := newStore()
		m := replica(t, client, store, func(c *dssauth.Config) {
			c.UserDetails, c.Impersonation = true, dssauth.ByTicket
		})
		synctest.Wait()
		d.AddSession("canary-cookie", "canary-session", "canary-login")
		r := withCookies("canary-cookie=canary-session")
		require.Equal(t, "canary-login", who(m, r.Clone(t.Context())))
		require.Equal(t, "401", who(m, withCookies("junk=canary-junk")))
		m.ForgetUser("canary-login")
		m.Forget(r)
		synctest.Wait()
		texts := []string{"canary", ownKey, "dss.example", "session", string(sharedSecret)}
		for _, text := range []string{"canary-login", "canary-group", "canary-cookie=canary-session", "canary-session", ownKey} {
			for _, sum := range [][]byte{sum(sha256.New(), text), sum(sha1.New(), text), sum(md5.New(), text), sum(sha512.New(), text)} {
				texts = append(texts, string(sum), hex.EncodeToString(sum), base64.StdEncoding.EncodeToString(sum), base64.RawURLEncoding.EncodeToString(sum))
			}
		}
		all := store.written()
		require.Greater(t, len(all), 5)
		for _, e := range all {
			for _, text := range texts {
				assert.NotContains(t, e.Key, text)
				assert.NotContains(t, string(e.Value), text)
			}
			assert.LessOrEqual(t, e.TTL, time.Minute)
		}
	})
}

func sum(h hash.Hash, text string) []byte {
	h.Write([]byte(text))
	return h.Sum(nil)
}

// TestOnlyIdentitiesAreStored has strangers, failures and project verdicts.
func TestOnlyIdentitiesAreStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, store, all := sharing(t, 1)
		m := all[0]
		before := len(store.live()) // a greeting
		require.Equal(t, "401", who(m, browser("stranger")))
		d.Intercept(lookups, 1, dsstest.Respond(http.StatusBadGateway, "no"))
		require.Equal(t, "503", who(m, signedIn(d, "ann")))
		synctest.Wait()
		assert.Len(t, store.live(), before)
	})
}

// TestSessionThatACallFindsEndedStaysEnded must not be revived by the store.
func TestSessionThatACallFindsEndedStaysEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _, all := sharing(t, 2, func(c *dssauth.Config) { c.Impersonation = dssauth.ByTicket })
		c := d.SignIn("ann")
		r := withCookies(c.Name + "=" + c.Value)
		for _, m := range all {
			require.Equal(t, "ann", who(m, r.Clone(t.Context())))
		}
		d.SignOut(c)
		admitted, err := all[0].Authenticate(r.Clone(t.Context()))
		require.NoError(t, err)
		visitor, err := dssauth.ClientFromContext(admitted.Context())
		if err == nil {
			_, err = visitor.AuthInfo(t.Context())
		}
		require.Equal(t, http.StatusUnauthorized, dssauth.StatusCode(err))
		all[0].Refuse(httptest.NewRecorder(), admitted, err)
		assert.Equal(t, "401", who(all[0], r.Clone(t.Context())))
	})
}

func TestConnectionsAskDSSThroughTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _, all := sharing(t, 2)
		c := d.SignIn("ann")
		r, err := all[0].Authenticate(withCookies(c.Name + "=" + c.Value))
		require.NoError(t, err)
		signedIn, cancel := all[0].WhileSignedIn(r, 2*time.Second)
		defer cancel()
		for range 30 {
			who(all[1], withCookies(c.Name+"="+c.Value))
			pass(time.Second)
		}
		require.NoError(t, signedIn.Err())
		d.SignOut(c)
		pass(12 * time.Second)
		assert.Error(t, signedIn.Err())
	})
}

// TestCallsOfAStoreAreBounded has a store that never returns, and a crowd.
func TestCallsOfAStoreAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, store, all := sharing(t, 1)
		m := all[0]
		known := signedIn(d, "ann")
		require.Equal(t, "ann", who(m, known.Clone(t.Context())))
		pass(12 * time.Second)
		store.set(func(s *memory) { s.waits, s.hangs = time.Minute, true })
		for i := range 3000 {
			go who(m, browser(fmt.Sprint("stranger", i)))
		}
		synctest.Wait()
		newcomers := store.under()
		assert.Equal(t, 768, newcomers)
		assert.Equal(t, "ann", who(m, known.Clone(t.Context())), "a known visitor still finds room")
		assert.Greater(t, store.under(), newcomers)
		for i := range 3000 {
			go who(m, browser(fmt.Sprint("another", i)))
		}
		synctest.Wait()
		assert.LessOrEqual(t, store.under(), 2048)
		store.set(func(s *memory) { s.waits = 0 })
		pass(2 * time.Minute)
		assert.Zero(t, store.under())
	})
}

// TestACrowdLeavesRoomForForgetting lets as many lookups as allowed wait for a slow
// store.
func TestACrowdLeavesRoomForForgetting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, store, all := sharing(t, 1)
		m := all[0]
		var known []*http.Request
		for i := range 300 {
			login := fmt.Sprint("visitor", i)
			d.AddUser(dsstest.User{Login: login})
			known = append(known, signedIn(d, login))
			require.Equal(t, login, who(m, known[i].Clone(t.Context())))
		}
		pass(12 * time.Second)
		store.set(func(s *memory) { s.waits = 49 * time.Millisecond })
		for i := range 1000 {
			go who(m, browser(fmt.Sprint("stranger", i)))
		}
		synctest.Wait()
		for _, r := range known {
			go who(m, r.Clone(t.Context()))
		}
		synctest.Wait()
		require.GreaterOrEqual(t, store.under(), 1024)
		told := store.notices()
		m.ForgetUser("ann")
		assert.Equal(t, told+1, store.notices())
	})
}

// TestStoreThatPanicsEndsNothingElse shows that a panic or Goexit of a store ends nothing else.
func TestStoreThatPanicsEndsNothingElse(t *testing.T) {
	for name, does := range map[string]func(){"panics": func() { panic("store") }, "calls Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				m := replica(t, client, &ending{newStore(), does})
				for range 5 {
					assert.Equal(t, "ann", who(m, signedIn(d, "ann")))
				}
				m.ForgetUser("ann")
				require.NoError(t, m.Close())
			})
		})
	}
}

// ending is a store whose methods end in another way than by returning.
type ending struct {
	*memory
	does func()
}

func (e *ending) Get(context.Context, string) ([]byte, error)           { e.does(); return nil, nil }
func (e *ending) Put(context.Context, dssauth.StoreEntry) (bool, error) { e.does(); return true, nil }
func (e *ending) Delete(context.Context, string) error                  { e.does(); return nil }
func (e *ending) Watch(context.Context, func(), func([]byte)) error     { e.does(); return nil }

// TestLeasesEnd checks that no lookup leaves a lease behind, for every kind of
// end.
func TestLeasesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, store, all := sharing(t, 1)
		m := all[0]
		require.Equal(t, "ann", who(m, signedIn(d, "ann")))
		require.Equal(t, "401", who(m, browser("stranger")))
		d.Intercept(lookups, 1, dsstest.Respond(http.StatusBadGateway, "no"))
		require.Equal(t, "503", who(m, signedIn(d, "bob")))
		synctest.Wait()
		assert.Empty(t, leasesOf(store.live()))

		d.SetLatency(time.Hour)
		go who(m, signedIn(d, "bob"))
		synctest.Wait()
		require.Len(t, leasesOf(store.live()), 1)
		require.NoError(t, m.Close())
		synctest.Wait()
		assert.Empty(t, leasesOf(store.live()), "Close ends them, so that a deployment keeps nobody waiting")
	})
}

// TestLeaseIsEndedOnceTheStoreAnswers has the store fail while DSS is asked.
func TestLeaseIsEndedOnceTheStoreAnswers(t *testing.T) {
	for name, fails := range map[string]time.Duration{"at once": time.Millisecond, "after an outage": 3 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, store, all := sharing(t, 2)
				d.Intercept(lookups, 1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					store.set(func(s *memory) { s.fails = errStoreBroken })
					next.ServeHTTP(w, r)
				})
				r := signedIn(d, "ann")
				require.Equal(t, "ann", who(all[0], r.Clone(t.Context())))
				pass(fails)
				require.Len(t, leasesOf(store.live()), 1)
				store.set(func(s *memory) { s.fails = nil })
				pass(1100 * time.Millisecond)
				assert.Empty(t, leasesOf(store.live()))
				began := time.Now()
				assert.Equal(t, "ann", who(all[1], r.Clone(t.Context())))
				assert.Zero(t, time.Since(began), "for another replica's lookup that has ended long ago")
			})
		})
	}
}

// maxLook is how often a replica that waits for another one's lookup looks.
const maxLook = 25 * time.Millisecond

// TestReplicasDoNotWaitInTurnForAnonymous must not make them wait for each other in turn.
func TestReplicasDoNotWaitInTurnForAnonymous(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		d.SetLatency(200 * time.Millisecond)
		all := replicas(t, 20, client, newStore())
		synctest.Wait()
		began := time.Now()
		var answers []<-chan string
		for _, m := range all {
			answers = append(answers, asks(m, browser("stranger")))
		}
		for _, a := range answers {
			assert.Equal(t, "401", <-a)
		}
		// Of each two calls: the lookup, and the question whether DSS accepts us.
		assert.LessOrEqual(t, time.Since(began), 2*400*time.Millisecond+maxLook)
	})
}

func TestStoreSettings(t *testing.T) {
	_, client := newMemory(t)
	good := [][]byte{sharedSecret}
	for message, c := range map[string]dssauth.Config{
		"Config.StoreSecrets has no effect without Config.Store": {Client: client, StoreSecrets: good},
		"Config.Store is a nil *promises.memory":                 {Client: client, Store: (*memory)(nil), StoreSecrets: good},
		"Config.Store needs Config.StoreSecrets":                 {Client: client, Store: newStore()},
		"Config.StoreSecrets[1] has 31 bytes":                    {Client: client, Store: newStore(), StoreSecrets: [][]byte{sharedSecret, sharedSecret[:31]}},
		"Config.StoreSecrets[0] repeats one byte":                {Client: client, Store: newStore(), StoreSecrets: [][]byte{make([]byte, 32)}},
		"Config.StoreSecrets[1] is the same as an earlier one":   {Client: client, Store: newStore(), StoreSecrets: [][]byte{sharedSecret, sharedSecret}},
		"Config.StoreSecrets has 5 secrets":                      {Client: client, Store: newStore(), StoreSecrets: make([][]byte, 5)},
		"Config.Store cannot be set beside Config.Resolver":      {Resolver: newDoorman(), Store: newStore(), StoreSecrets: good},
		"Config.Store needs remembered answers, but Config.TTL":  {Client: client, Store: newStore(), StoreSecrets: good, TTL: -1},
	} {
		_, err := dssauth.New(c)
		require.ErrorContains(t, err, message)
		assert.NotContains(t, err.Error(), string(sharedSecret))
		for _, printed := range []string{fmt.Sprint(c), fmt.Sprintf("%+v %#v", c, c), fmt.Sprint(&c)} {
			assert.NotContains(t, printed, "48 49 50")
			assert.NotContains(t, printed, "0x30, 0x31")
		}
	}
}

// No place towards DSS is free, and none is needed: DSS is down.
func TestDownIsSaidAtOnceWithAStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		m := replicas(t, 1, client, newStore(), func(c *dssauth.Config) { c.MaxLookups = 2 })[0]
		synctest.Wait()
		d.Intercept("", -1, dsstest.Hang)
		hangs := asks(m, browser("hangs"))
		pass(3500 * time.Millisecond)
		require.True(t, m.Stats().DSSDown)
		require.Empty(t, hangs)
		start := time.Now()
		assert.Equal(t, "503", who(m, browser("new")))
		assert.Zero(t, time.Since(start))
		<-hangs
	})
}
