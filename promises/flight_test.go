package promises

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
)

func TestManyMissesOfOneKeyAreOneLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := resolver(slowly(time.Second, byCookie))
		m := newAuth(t, dssauth.Config{Resolver: dss})
		var seen sync.Map
		var visitors sync.WaitGroup
		for range 10_000 {
			visitors.Go(func() { seen.Store(who(m, browser("ann")), true) })
		}
		visitors.Wait()
		seen.Range(func(login, _ any) bool { return assert.Equal(t, "ann", login) })
		assert.EqualValues(t, 1, dss.calls.Load())
	})
}

func TestLookupOutlivesWaitersThatLeave(t *testing.T) {
	for _, test := range []struct {
		name  string
		leave func(i int) bool
	}{
		{"the one who started the lookup", func(i int) bool { return i == 0 }},
		{"every other one", func(i int) bool { return i%2 == 0 }},
		{"all but the last", func(i int) bool { return i < 9 }},
		{"all of them", func(int) bool { return true }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dss := resolver(slowly(time.Second, byCookie))
				m := newAuth(t, dssauth.Config{Resolver: dss})
				var cancels []context.CancelFunc
				var answers []<-chan string
				for range 10 {
					ctx, cancel := context.WithCancel(t.Context())
					cancels = append(cancels, cancel)
					answers = append(answers, asks(m, browser("ann").WithContext(ctx)))
					synctest.Wait()
				}
				for i, cancel := range cancels {
					if test.leave(i) {
						cancel()
						assert.Equal(t, "503", <-answers[i], "a request that leaves stops waiting")
					}
				}
				pass(time.Second)
				synctest.Wait()
				for i, cancel := range cancels {
					if !test.leave(i) {
						assert.Equal(t, "ann", <-answers[i])
					}
					cancel()
				}
				assert.Equal(t, "ann", who(m, browser("ann")), "the answer was stored for the next")
				assert.EqualValues(t, 1, dss.calls.Load())
			})
		})
	}
}

func TestLookupWithoutWaitersEndsAtItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int64
		start := time.Now()
		m := newAuth(t, dssauth.Config{Timeout: 3 * time.Second, Resolver: resolver(func(ctx context.Context, cookie string) (dssauth.Identity, error) {
			id, err := hangs(ctx, cookie)
			ended.Store(int64(time.Since(start)))
			return id, err
		})})
		ctx, cancel := context.WithCancel(t.Context())
		got := asks(m, browser("ann").WithContext(ctx))
		synctest.Wait()
		cancel()
		assert.Equal(t, "503", <-got)
		pass(time.Hour)
		assert.Equal(t, 3*time.Second, time.Duration(ended.Load()))
	})
}

func TestWaitersOutlastLateResolverBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := newScript(t)
		m := newAuth(t, dssauth.Config{Resolver: dss, Timeout: 3 * time.Second})
		start := time.Now()
		assert.Equal(t, "503", who(m, browser("ann")))
		assert.Equal(t, 4*time.Second, time.Since(start))

		assert.Equal(t, "503", who(m, browser("ann")))
		assert.Equal(t, 4*time.Second, time.Since(start), "later requests do not wait for a lookup beyond its deadline")

		pass(1)
		dss.say(0, dssauth.NewIdentity("ann"), nil)
		got := asks(m, browser("ann"))
		synctest.Wait()
		require.Equal(t, 2, dss.started(), "the late answer was not stored")
		dss.say(1, dssauth.NewIdentity("ann"), nil)
		assert.Equal(t, "ann", <-got)
	})
}

func TestPanicInTheResolverIsNotAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		var calls atomic.Int64
		m := newAuth(t, dssauth.Config{Logger: book.logger(), Resolver: resolver(func(ctx context.Context, cookie string) (dssauth.Identity, error) {
			if calls.Add(1) == 1 {
				pass(time.Second)
				panic("choked on " + cookie)
			}
			return byCookie(ctx, cookie)
		})})
		var waiting []<-chan string
		for range 10 {
			waiting = append(waiting, asks(m, browser("ann")))
		}
		for _, got := range waiting {
			assert.Equal(t, "503", <-got)
		}
		_, err := m.Authenticate(browser("bob"))
		require.NoError(t, err)
		assert.Equal(t, "ann", who(m, browser("ann")))
		assert.Empty(t, book.with("choked"), "the text of a panic is not logged")
	})
}

func TestInvalidAnswersAreAnOutage(t *testing.T) {
	for _, test := range []struct {
		name string
		id   dssauth.Identity
		err  error
		want string
	}{
		{"nothing at all", dssauth.Identity{}, nil, "503"},
		{"groups, but no login", dssauth.NewIdentity("", "admins"), nil, "503"},
		{"a blank login", dssauth.NewIdentity(" "), nil, "503"},
		{"a login with a space at its end", dssauth.NewIdentity("ann "), nil, "503"},
		{"a login with a space before it", dssauth.NewIdentity("\u00a0ann"), nil, "503"},
		{"a login with a line end", dssauth.NewIdentity("ann\n"), nil, "503"},
		{"a login with NUL", dssauth.NewIdentity("ann\x00"), nil, "503"},
		{"a login that is not UTF-8", dssauth.NewIdentity("ann\xff"), nil, "503"},
		{"an identity beside an error", dssauth.NewIdentity("ann"), errBroken, "503"},
		{"an identity beside an anonymous error", dssauth.NewIdentity("ann"), dssauth.ErrUnauthenticated, "401"},
		{"an error of an unknown kind", dssauth.Identity{}, errBroken, "503"},
		{"an outage", dssauth.Identity{}, dssauth.ErrUnavailable, "503"},
		{"an error that only a gate may return", dssauth.Identity{}, dssauth.ErrForbidden, "503"},
		{"anonymous and an outage at once", dssauth.Identity{}, fmt.Errorf("%w, %w", dssauth.ErrUnauthenticated, dssauth.ErrUnavailable), "503"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dss := resolver(func(context.Context, string) (dssauth.Identity, error) { return test.id, test.err })
				m := newAuth(t, dssauth.Config{Resolver: dss})
				assert.Equal(t, test.want, who(m, browser("ann")))
				if test.want == "401" {
					return
				}
				assert.Zero(t, m.Stats().Entries)
				assert.Zero(t, m.Stats().Refusals)
				assert.Equal(t, test.want, who(m, browser("ann")))
				assert.EqualValues(t, 2, dss.calls.Load(), "an error is not remembered")
				dss.does(byCookie)
				assert.Equal(t, "ann", who(m, browser("ann")))
			})
		})
	}
}

func TestRefusalsAreRememberedBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := resolver(byCookie)
		m := newAuth(t, dssauth.Config{Resolver: dss, RefusalTTL: 3 * time.Second})
		for range 100 {
			require.Equal(t, "401", who(m, browser("nobody")))
		}
		assert.EqualValues(t, 1, dss.calls.Load())
		pass(3*time.Second - 1)
		assert.Equal(t, "401", who(m, browser("nobody")))
		assert.EqualValues(t, 1, dss.calls.Load(), "until its end")
		pass(1)
		assert.Equal(t, "401", who(m, browser("nobody")))
		assert.EqualValues(t, 2, dss.calls.Load(), "and no longer")
	})
}

func TestPageLoadAsksAgainDespiteARememberedRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := resolver(func(context.Context, string) (dssauth.Identity, error) {
			return dssauth.Identity{}, dssauth.ErrUnauthenticated
		})
		m := newAuth(t, dssauth.Config{Resolver: dss})
		require.Equal(t, "401", who(m, navigation("ann")))
		require.Equal(t, "401", who(m, navigation("ann")))
		assert.EqualValues(t, 2, dss.calls.Load(), "each navigation asks")
		require.Equal(t, "401", who(m, browser("ann")))
		assert.EqualValues(t, 2, dss.calls.Load(), "and a script does not")
		dss.does(byCookie) // ann signs in, and comes back to the page
		assert.Equal(t, "ann", who(m, navigation("ann")))
		assert.Equal(t, "ann", who(m, browser("ann")))
		assert.Zero(t, m.Stats().Refusals)
	})
}

// A visitor signs in while an earlier lookup is under way, and keeps the same cookie.
// The page that opens then must show the new user.
func TestPageLoadAsksAnewBesideOlderLookup(t *testing.T) {
	nobody := answer{err: dssauth.ErrUnauthenticated}
	for _, test := range []struct {
		name   string
		before answer
		order  []int
		early  string
	}{
		{"which says nobody, first", nobody, []int{0, 1}, "401"},
		{"which says nobody, last", nobody, []int{1, 0}, "401"},
		{"which knows another user, first", answer{id: dssauth.NewIdentity("bob")}, []int{0, 1}, "bob"},
		{"which knows another user, last", answer{id: dssauth.NewIdentity("bob")}, []int{1, 0}, "bob"},
		{"which fails, first", answer{err: errBroken}, []int{0, 1}, "503"},
		{"which fails, last", answer{err: errBroken}, []int{1, 0}, "503"},
	} {
		for _, ttl := range []time.Duration{10 * time.Second, -1} {
			t.Run(fmt.Sprint(test.name, ", TTL ", ttl), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					dss := newScript(t)
					m := newAuth(t, dssauth.Config{Resolver: dss, TTL: ttl})
					early := asks(m, browser("ann"))
					synctest.Wait()
					pass(1)
					load := asks(m, navigation("ann"))
					synctest.Wait()
					require.Equal(t, 2, dss.started(), "the page load waits for the lookup of before")
					says := []answer{test.before, {id: dssauth.NewIdentity("ann")}}
					for _, n := range test.order {
						dss.say(n, says[n].id, says[n].err)
					}
					assert.Equal(t, test.early, <-early)
					assert.Equal(t, "ann", <-load)
					assert.Zero(t, m.Stats().Refusals, "the newest answer is remembered")
					if ttl > 0 {
						assert.Equal(t, "ann", who(m, browser("ann")), "the newest answer is remembered")
						assert.Equal(t, 2, dss.started())
					}
				})
			})
		}
	}
}

// Two lookups of the same bytes are enough, but both must be under way.
func TestPageLoadAsksAnewOnceAnOlderLookupEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := newScript(t)
		m := newAuth(t, dssauth.Config{Resolver: dss})
		early := asks(m, browser("ann"))
		synctest.Wait()
		first := asks(m, navigation("ann"))
		synctest.Wait()
		dss.say(0, dssauth.Identity{}, dssauth.ErrUnauthenticated)
		require.Equal(t, "401", <-early)
		second := asks(m, navigation("ann"))
		synctest.Wait()
		require.Equal(t, 3, dss.started(), "the lookup of before the second page load has to do for it")
		dss.say(1, dssauth.Identity{}, dssauth.ErrUnauthenticated)
		dss.say(2, dssauth.NewIdentity("ann"), nil)
		assert.Equal(t, "401", <-first)
		assert.Equal(t, "ann", <-second)
	})
}

func TestPageLoadJoinsLookupThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := newScript(t)
		m := newAuth(t, dssauth.Config{Resolver: dss, MaxLookups: 2})
		asks(m, browser("eve")) // has the only place for newcomers
		synctest.Wait()
		script := asks(m, browser("ann"))
		synctest.Wait()
		load := asks(m, navigation("ann"))
		synctest.Wait()
		dss.say(0, dssauth.NewIdentity("eve"), nil)
		require.Equal(t, 2, dss.started(), "one for both of ann's requests")
		dss.say(1, dssauth.Identity{}, dssauth.ErrUnauthenticated)
		assert.Equal(t, "401", <-script)
		assert.Equal(t, "401", <-load)
	})
}

// Several page loads may come during a sign-in, and all of them must show the new user.
func TestPageLoadsAtOnceShareTheirLookups(t *testing.T) {
	const loads = 1000
	for _, test := range []struct {
		name    string
		says    []answer // the first lookup's is that of a script before the page loads
		want    string
		lookups int
	}{
		{"the first lookup that asked anew knows them", []answer{{id: dssauth.NewIdentity("ann")}, {id: dssauth.NewIdentity("ann")}}, "ann", 2},
		{"later requests ask once more", []answer{{err: dssauth.ErrUnauthenticated}, {err: dssauth.ErrUnauthenticated}, {id: dssauth.NewIdentity("ann")}}, "ann", 3},
		{"an outage is an outage for all", []answer{{err: errBroken}, {err: errBroken}}, "503", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dss := newScript(t)
				m := newAuth(t, dssauth.Config{Resolver: dss})
				script := asks(m, browser("ann"))
				synctest.Wait()
				first := asks(m, navigation("ann"))
				synctest.Wait()
				var all []<-chan string
				for range loads {
					all = append(all, asks(m, navigation("ann")))
				}
				synctest.Wait()
				for n, a := range test.says {
					require.Greater(t, dss.started(), n)
					dss.say(n, a.id, a.err)
				}
				assert.Equal(t, test.lookups, dss.started())
				<-script
				<-first
				for _, load := range all {
					assert.Equal(t, test.want, <-load)
				}
			})
		})
	}
}

func TestOutdatedLookupIsNotJoined(t *testing.T) {
	for _, newer := range []answer{{id: dssauth.NewIdentity("ann")}, {err: dssauth.ErrUnauthenticated}} {
		synctest.Test(t, func(t *testing.T) {
			dss := newScript(t)
			m := newAuth(t, dssauth.Config{Resolver: dss, TTL: -1, RefusalTTL: -1})
			asks(m, browser("ann"))
			synctest.Wait()
			asks(m, navigation("ann"))
			synctest.Wait()
			require.Equal(t, 2, dss.started())
			dss.say(1, newer.id, newer.err)
			late := asks(m, browser("ann"))
			synctest.Wait()
			require.Equal(t, 3, dss.started())
			dss.say(2, dssauth.NewIdentity("ann"), nil)
			assert.Equal(t, "ann", <-late)
		})
	}
}

func TestForgettingReachesBothLookupsOfAPageLoad(t *testing.T) {
	for name, forget := range map[string]func(*dssauth.Middleware){
		"Forget":     func(m *dssauth.Middleware) { m.Forget(browser("ann")) },
		"ForgetUser": func(m *dssauth.Middleware) { m.ForgetUser("ann") },
	} {
		for _, first := range []int{0, 1} {
			t.Run(fmt.Sprint(name, ", lookup ", first, " lands first"), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					dss := newScript(t)
					m := newAuth(t, dssauth.Config{Resolver: dss})
					asks(m, browser("ann"))
					synctest.Wait()
					asks(m, navigation("ann"))
					synctest.Wait()
					pass(1)
					forget(m)
					pass(1)
					dss.say(first, dssauth.Identity{}, errBroken)
					late := asks(m, browser("ann"))
					synctest.Wait()
					waits := name == "ForgetUser" // since it may be about anybody
					require.Equal(t, waits, dss.started() == 2, "%d lookups", dss.started())
					dss.say(1-first, dssauth.NewIdentity("ann", "before"), nil)
					assert.Zero(t, m.Stats().Entries)
					require.Equal(t, 3, dss.started())
					require.Empty(t, late, "an answer of before")
					dss.say(2, dssauth.NewIdentity("ann", "after"), nil)
					assert.Equal(t, "ann", <-late)
					assert.Equal(t, []string{"after"}, identity(t, m, browser("ann")).Groups())
				})
			})
		}
	}
}

func TestRefusalsEvictNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := resolver(byCookie)
		m := newAuth(t, dssauth.Config{Resolver: dss, MaxEntries: 4})
		for _, login := range []string{"ann", "bob", "eve", "joe"} {
			require.Equal(t, login, who(m, browser(login)))
		}
		for i := range 100 {
			require.Equal(t, "401", who(m, browser(fmt.Sprint("nobody", i))))
		}
		before := dss.calls.Load()
		for _, login := range []string{"ann", "bob", "eve", "joe"} {
			assert.Equal(t, login, who(m, browser(login)))
		}
		assert.Equal(t, before, dss.calls.Load())
		assert.Equal(t, 4, m.Stats().Refusals, "refusals are bounded as well")
		assert.Zero(t, m.Stats().Evictions)
	})
}

func TestNewVisitorsEvictNoActiveVisitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := resolver(byCookie)
		m := newAuth(t, dssauth.Config{Resolver: dss, MaxEntries: 3})
		for _, login := range []string{"ann", "bob", "cat"} {
			require.Equal(t, login, who(m, browser(login)))
		}
		pass(2 * time.Second)
		require.Equal(t, "ann", who(m, browser("ann")))
		require.Equal(t, "dan", who(m, browser("dan")))
		require.EqualValues(t, 4, dss.calls.Load())
		assert.Equal(t, "ann", who(m, browser("ann")))
		assert.EqualValues(t, 4, dss.calls.Load(), "ann's answer was used a moment before, and bob's and cat's were not")
	})
}

func TestNegativeTTLsRememberNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := resolver(byCookie)
		m := newAuth(t, dssauth.Config{Resolver: dss, TTL: -1, RefusalTTL: -1})
		for range 3 {
			assert.Equal(t, "ann", who(m, browser("ann")))
			assert.Equal(t, "401", who(m, browser("nobody")))
		}
		assert.EqualValues(t, 6, dss.calls.Load())
		assert.Zero(t, m.Stats().Entries)
		assert.Zero(t, m.Stats().Refusals)
	})
}

// onlyOnce answers each cookie's first lookup, and fails on all later ones. So
// a test sees the end of an answer.
func onlyOnce() *fakeResolver {
	var asked sync.Map
	return resolver(func(ctx context.Context, cookie string) (dssauth.Identity, error) {
		if _, again := asked.LoadOrStore(cookie, true); again {
			return dssauth.Identity{}, errBroken
		}
		return byCookie(ctx, cookie)
	})
}

func TestReadsDoNotExtendAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const visitors, step = 200, 10 * time.Millisecond
		m := newAuth(t, dssauth.Config{Resolver: onlyOnce(), TTL: 10 * time.Second})
		start := time.Now()
		for i := range visitors {
			login := fmt.Sprint("user", i)
			require.Equal(t, login, who(m, browser(login)))
		}
		ends := map[string]time.Duration{}
		for len(ends) < visitors && time.Since(start) < time.Minute {
			pass(step)
			if age := time.Since(start); age < 8*time.Second && age%(time.Second/2) != 0 {
				continue // read less often at first, for speed
			}
			for i := range visitors {
				login := fmt.Sprint("user", i)
				if _, ended := ends[login]; !ended && who(m, browser(login)) == "503" {
					ends[login] = time.Since(start)
				}
			}
		}
		require.Len(t, ends, visitors)
		first, last := time.Hour, time.Duration(0)
		for _, end := range ends {
			first, last = min(first, end), max(last, end)
		}
		assert.GreaterOrEqual(t, first, 9*time.Second)
		assert.LessOrEqual(t, last, 10*time.Second)
		assert.Less(t, first, 9300*time.Millisecond, "the ends are spread")
		assert.Greater(t, last, 9700*time.Millisecond, "the ends are spread")
	})
}

func TestAnswersAgeCountsFromTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := true
		m := newAuth(t, dssauth.Config{TTL: 10 * time.Second, Resolver: resolver(func(ctx context.Context, cookie string) (dssauth.Identity, error) {
			if !first {
				return dssauth.Identity{}, errBroken
			}
			first = false
			pass(4 * time.Second)
			return byCookie(ctx, cookie)
		})})
		start := time.Now()
		id := identity(t, m, browser("ann"))
		assert.True(t, id.AsOf.Equal(start), "later changes in DSS are not in the answer")
		pass(6 * time.Second)
		assert.Equal(t, "503", who(m, browser("ann")))
	})
}

func TestARefreshAheadIsTriedOnce(t *testing.T) {
	for _, test := range []struct {
		name    string
		refresh answerer
		after   string // the answer to requests after the refresh has ended
		atEnd   string // the answer to the first request after the answer's end
		lookups int64
	}{
		{"and fails: the answer stays till its end",
			func(context.Context, string) (dssauth.Identity, error) { return dssauth.Identity{}, errBroken }, "ann", "503", 3},
		{"and panics: the answer stays till its end",
			func(context.Context, string) (dssauth.Identity, error) { panic("no") }, "ann", "503", 3},
		{"and hangs: the answer stays till its end", hangs, "ann", "503", 2},
		{"and DSS says nobody: the answer ends at once",
			func(context.Context, string) (dssauth.Identity, error) {
				return dssauth.Identity{}, dssauth.ErrUnauthenticated
			}, "401", "401", 3},
		{"and somebody else is signed in: the answer is theirs",
			func(context.Context, string) (dssauth.Identity, error) { return dssauth.NewIdentity("bob"), nil }, "bob", "bob", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dss := resolver(byCookie)
				m := newAuth(t, dssauth.Config{Resolver: dss, TTL: 10 * time.Second, RefusalTTL: time.Second})
				require.Equal(t, "ann", who(m, browser("ann")))
				dss.does(test.refresh)
				pass(6299 * time.Millisecond) // 0.7 of the shortest life, 9s
				require.Equal(t, "ann", who(m, browser("ann")))
				require.EqualValues(t, 1, dss.calls.Load(), "no refresh before its time")
				pass(701 * time.Millisecond) // 0.7 of the longest
				require.Equal(t, "ann", who(m, browser("ann")), "the request that starts the refresh does not wait for it")
				synctest.Wait()
				require.EqualValues(t, 2, dss.calls.Load())
				for range 100 {
					assert.Equal(t, test.after, who(m, browser("ann")))
				}
				synctest.Wait()
				assert.EqualValues(t, 2, dss.calls.Load(), "it is not tried again")
				pass(3 * time.Second)
				assert.Equal(t, test.atEnd, who(m, browser("ann")))
				synctest.Wait()
				assert.EqualValues(t, test.lookups, dss.calls.Load())
			})
		})
	}
}

func TestRefreshSendsTheKeyedBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []string
		m := newAuth(t, dssauth.Config{Resolver: resolver(func(_ context.Context, cookie string) (dssauth.Identity, error) {
			sent = append(sent, cookie)
			return dssauth.NewIdentity("ann"), nil
		})})
		require.Equal(t, "ann", who(m, withCookies("_ga=1; session=ann; lang=en")))
		pass(7 * time.Second)
		r := withCookies("session=ann; _gid=2; lang=en")
		require.Equal(t, "ann", who(m, r))
		r.Header.Set("Cookie", "session=bob") // the handler is done, its router reuses the request
		synctest.Wait()
		assert.Equal(t, []string{"session=ann; lang=en", "session=ann; lang=en"}, sent)
	})
}

func TestABusyVisitorWaitsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl, span = 10 * time.Second, 10 * time.Minute
		dss := resolver(slowly(200*time.Millisecond, byCookie))
		m := newAuth(t, dssauth.Config{Resolver: dss, TTL: ttl})
		waits := 0
		for start := time.Now(); time.Since(start) < span; pass(500 * time.Millisecond) {
			asked := time.Now()
			require.Equal(t, "ann", who(m, browser("ann")))
			if time.Since(asked) > 0 {
				waits++
			}
		}
		assert.Equal(t, 1, waits)
		earliest := 0.7 * 0.9 * ttl.Seconds()
		bound := int64(math.Ceil(span.Seconds()/earliest)) + 1
		assert.LessOrEqual(t, dss.calls.Load(), bound)
		assert.Greater(t, dss.calls.Load(), int64(span/ttl), "an answer lives no longer than its TTL")
	})
}

func TestAnswersOfOneMomentAreRenewedAtDifferentTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const visitors, limit = 1000, 8
		ask := func(m *dssauth.Middleware) {
			var all sync.WaitGroup
			for i := range visitors {
				all.Go(func() { who(m, browser(fmt.Sprint("user", i))) })
			}
			all.Wait()
			synctest.Wait()
		}
		dss := resolver(byCookie)
		m := newAuth(t, dssauth.Config{Resolver: dss, MaxLookups: limit})
		ask(m)
		require.EqualValues(t, visitors, dss.calls.Load())
		most := int64(0)
		for range 100 {
			before := dss.calls.Load()
			pass(100 * time.Millisecond)
			ask(m)
			most = max(most, dss.calls.Load()-before)
		}
		assert.GreaterOrEqual(t, dss.calls.Load(), int64(2*visitors), "all were renewed")
		assert.Less(t, most, int64(visitors/3), "not in the same tenth of a second")
		assert.LessOrEqual(t, dss.mostInFlight.Load(), int64(limit))
	})
}

func TestForgetAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := resolver(byCookie)
		m := newAuth(t, dssauth.Config{Resolver: dss})
		require.Equal(t, "ann", who(m, browser("ann")))
		require.Equal(t, "ann", who(m, withCookies("_ga=1; session=ann")))
		require.Equal(t, "bob", who(m, browser("bob")))
		require.Equal(t, "401", who(m, browser("nobody")))
		require.EqualValues(t, 3, dss.calls.Load())

		m.Forget(withCookies("session=ann; _ga=2")) // the same visitor to DSS
		require.Equal(t, "ann", who(m, withCookies("_ga=1; session=ann")))
		assert.EqualValues(t, 4, dss.calls.Load(), "also under headers with other stray cookies")
		require.Equal(t, "bob", who(m, browser("bob")))
		assert.EqualValues(t, 4, dss.calls.Load(), "nobody else was forgotten")
		m.Forget(browser("nobody"))
		require.Equal(t, "401", who(m, browser("nobody")))
		assert.EqualValues(t, 5, dss.calls.Load(), "refusals are forgotten as well")

		m.ForgetUser("bob")
		require.Equal(t, "ann", who(m, browser("ann")))
		assert.EqualValues(t, 5, dss.calls.Load(), "another login has no effect")
		m.ForgetUser("ann")
		require.Equal(t, "ann", who(m, browser("ann")))
		assert.EqualValues(t, 6, dss.calls.Load())
	})
}

func TestForgetUserForgetsAllOfAUsersAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := resolver(func(context.Context, string) (dssauth.Identity, error) { return dssauth.NewIdentity("ann"), nil })
		m := newAuth(t, dssauth.Config{Resolver: dss})
		for i := range 8 {
			require.Equal(t, "ann", who(m, browser(fmt.Sprint("tab", i))))
		}
		require.Equal(t, 8, m.Stats().Entries)
		m.ForgetUser("ann")
		assert.Zero(t, m.Stats().Entries)
		for i := range 8 {
			require.Equal(t, "ann", who(m, browser(fmt.Sprint("tab", i))))
		}
		assert.EqualValues(t, 16, dss.calls.Load())
	})
}

func TestALookupUnderWayCannotUndoForgetting(t *testing.T) {
	for name, forget := range map[string]func(*dssauth.Middleware){
		"Forget":     func(m *dssauth.Middleware) { m.Forget(browser("ann")) },
		"ForgetUser": func(m *dssauth.Middleware) { m.ForgetUser("ann") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dss := newScript(t)
				m := newAuth(t, dssauth.Config{Resolver: dss})
				early := asks(m, browser("ann"))
				synctest.Wait()
				pass(1)
				forget(m)
				dss.say(0, dssauth.NewIdentity("ann", "before"), nil)
				assert.Equal(t, "ann", <-early, "an earlier request gets the earlier answer")
				assert.Zero(t, m.Stats().Entries)
				pass(1)

				late := asks(m, browser("ann"))
				synctest.Wait()
				require.Equal(t, 2, dss.started())
				dss.say(1, dssauth.NewIdentity("ann", "after"), nil)
				assert.Equal(t, "ann", <-late)
				assert.Equal(t, []string{"after"}, identity(t, m, browser("ann")).Groups())
			})
		})
		t.Run(name+" while the answer is renewed", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dss := newScript(t)
				m := newAuth(t, dssauth.Config{Resolver: dss})
				first := asks(m, browser("ann"))
				synctest.Wait()
				dss.say(0, dssauth.NewIdentity("ann", "before"), nil)
				require.Equal(t, "ann", <-first)
				pass(7 * time.Second)
				require.Equal(t, "ann", who(m, browser("ann")))
				synctest.Wait()
				require.Equal(t, 2, dss.started(), "the refresh")
				pass(1)
				forget(m)
				dss.say(1, dssauth.NewIdentity("ann", "before"), nil)
				assert.Zero(t, m.Stats().Entries)
			})
		})
	}
}

func TestForgottenBytesDoNotJoinAnOlderLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := newScript(t)
		m := newAuth(t, dssauth.Config{Resolver: dss})
		early := asks(m, browser("ann"))
		synctest.Wait()
		m.Forget(browser("ann"))
		late := asks(m, browser("ann"))
		synctest.Wait()
		require.Equal(t, 2, dss.started())
		dss.say(1, dssauth.Identity{}, dssauth.ErrUnauthenticated)
		assert.Equal(t, "401", <-late)
		dss.say(0, dssauth.NewIdentity("ann"), nil)
		assert.Equal(t, "ann", <-early)
		assert.Equal(t, "401", who(m, browser("ann")), "the earlier answer is not stored")
	})
}

func TestForgettingTwiceWithThreeLookupsUnderWay(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		t.Run(fmt.Sprint("landing as ", order), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dss := newScript(t)
				m := newAuth(t, dssauth.Config{Resolver: dss})
				waiting := []<-chan string{asks(m, browser("ann"))}
				synctest.Wait()
				waiting = append(waiting, asks(m, navigation("ann")))
				synctest.Wait()
				pass(1)
				m.Forget(browser("ann")) // must reach both
				waiting = append(waiting, asks(m, browser("ann")))
				synctest.Wait()
				require.Equal(t, 3, dss.started())
				for _, n := range order {
					dss.say(n, dssauth.NewIdentity("ann", fmt.Sprint("lookup ", n)), nil)
				}
				for _, got := range waiting {
					assert.Equal(t, "ann", <-got)
				}
				assert.Equal(t, []string{"lookup 2"}, identity(t, m, browser("ann")).Groups())
				assert.Equal(t, 3, dss.started())
				assert.Equal(t, 1, m.Stats().Entries)
			})
		})
	}
}

func TestForgetReachesEveryLookupUnderWay(t *testing.T) {
	for _, test := range []struct {
		name   string
		before []int // lookups that land before Forget
		after  []int
	}{
		{"both of them", nil, []int{0, 1}},
		{"both of them, the newer one first", nil, []int{1, 0}},
		{"the older one, after the newer one has landed", []int{1}, []int{0}},
		{"the newer one, after the older one has landed", []int{0}, []int{1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dss := newScript(t)
				m := newAuth(t, dssauth.Config{Resolver: dss})
				asks(m, browser("ann"))
				synctest.Wait()
				asks(m, navigation("ann"))
				synctest.Wait()
				require.Equal(t, 2, dss.started())
				for _, n := range test.before {
					dss.say(n, dssauth.NewIdentity("ann"), nil)
				}
				pass(1)
				m.Forget(browser("ann"))
				for _, n := range test.after {
					dss.say(n, dssauth.NewIdentity("ann"), nil)
					assert.Zero(t, m.Stats().Entries)
				}
			})
		})
	}
}

func TestOlderLookupDoesNotUndoNewerOne(t *testing.T) {
	ann := dssauth.NewIdentity("ann", "now")
	for _, test := range []struct {
		name                 string
		older, newer         dssauth.Identity
		olderError, newerErr error
		want                 string
	}{
		{"nobody, then somebody", dssauth.Identity{}, ann, dssauth.ErrUnauthenticated, nil, "ann"},
		{"somebody, then nobody", ann, dssauth.Identity{}, nil, dssauth.ErrUnauthenticated, "401"},
		{"somebody, then somebody else", dssauth.NewIdentity("bob"), ann, nil, nil, "ann"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dss := newScript(t)
				m := newAuth(t, dssauth.Config{Resolver: dss})
				first := asks(m, browser("session"))
				synctest.Wait()
				pass(time.Millisecond)
				second := asks(m, navigation("session"))
				synctest.Wait()
				require.Equal(t, 2, dss.started())
				dss.say(1, test.newer, test.newerErr)
				assert.Equal(t, test.want, <-second)
				dss.say(0, test.older, test.olderError)
				<-first
				third := asks(m, browser("session"))
				synctest.Wait()
				assert.Equal(t, 2, dss.started(), "the newest answer is remembered")
				if assert.Len(t, third, 1) {
					assert.Equal(t, test.want, <-third)
				}
			})
		})
	}
}

// recycled is a request's context from a router with a pool: its fields belong to
// another request when the handler has returned.
type recycled struct {
	context.Context
	values map[any]any
}

func (c *recycled) Value(key any) any {
	if v, ok := c.values[key]; ok {
		return v
	}
	return c.Context.Value(key)
}

func TestNothingReadsARequestAfterItsHandlerReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []string
		dss := resolver(func(ctx context.Context, cookie string) (dssauth.Identity, error) {
			assert.Nil(t, ctx.Value("request"), "a lookup serves many requests: it sees no request's values")
			pass(time.Second)
			_ = ctx.Value("request")
			sent = append(sent, cookie)
			return byCookie(ctx, cookie)
		})
		m := newAuth(t, dssauth.Config{Resolver: dss})
		ctx, cancel := context.WithCancel(t.Context())
		pooled := &recycled{ctx, map[any]any{"request": 1}}
		r := browser("ann").WithContext(pooled)
		got := asks(m, r)
		synctest.Wait()
		cancel()
		require.Equal(t, "503", <-got)
		// The race detector sees any code that still reads these.
		pooled.Context, pooled.values = context.Background(), map[any]any{"request": 2}
		r.Header.Set("Cookie", "session=bob")
		r.Header.Set("Authorization", "Bearer x")
		pass(2 * time.Second)
		synctest.Wait()
		assert.Equal(t, []string{"session=ann"}, sent)
		assert.Equal(t, "ann", who(m, browser("ann")))
		assert.EqualValues(t, 1, dss.calls.Load())
	})
}

func TestAResolverGetsTheIdentifyingHeadersOnly(t *testing.T) {
	var got http.Header
	m := newAuth(t, dssauth.Config{Resolver: resolveFunc(func(_ context.Context, h http.Header) (dssauth.Identity, error) {
		got = h.Clone()
		h.Set("Cookie", "session=bob") // its copy
		return dssauth.NewIdentity("ann"), nil
	})})
	r := browser("ann")
	r.Header.Set("Authorization", "Bearer key")
	r.Header.Set("X-Forwarded-For", "192.0.2.1")
	r.Header.Set("X-DKU-ProxyUser", "admin")
	require.Equal(t, "ann", who(m, r))
	assert.Equal(t, http.Header{"Cookie": {"session=ann"}, "Authorization": {"Bearer key"}}, got)
	assert.Equal(t, "session=ann", r.Header.Get("Cookie"))
	assert.Equal(t, "192.0.2.1", r.Header.Get("X-Forwarded-For"))
}

func TestJunkBesideValidCookieIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := resolver(func(_ context.Context, cookie string) (dssauth.Identity, error) {
			login, _, _ := strings.Cut(strings.TrimPrefix(cookie, "session="), ";")
			return dssauth.NewIdentity(login), nil
		})
		m := newAuth(t, dssauth.Config{Resolver: dss, MaxEntries: 100, MaxEntriesPerUser: 8})
		for i := range 90 {
			require.Equal(t, fmt.Sprint("user", i), who(m, browser(fmt.Sprint("user", i))))
		}
		for i := range 1000 {
			require.Equal(t, "eve", who(m, withCookies(fmt.Sprintf("session=eve; junk=%d", i))))
		}
		assert.Equal(t, 98, m.Stats().Entries)
		before := dss.calls.Load()
		for i := range 90 {
			require.Equal(t, fmt.Sprint("user", i), who(m, browser(fmt.Sprint("user", i))))
		}
		assert.Equal(t, before, dss.calls.Load(), "it evicted nobody else")
	})
}

// crowd is this many groups with names of some 30 bytes.
func crowd(n int) []string {
	groups := make([]string, n)
	for i := range groups {
		groups[i] = fmt.Sprintf("group-%024d", i)
	}
	return groups
}

func TestAVisitorWithVeryManyGroupsGetsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		groups := crowd(1000)
		dss := resolver(func(context.Context, string) (dssauth.Identity, error) {
			return dssauth.NewIdentity("ann", groups...), nil
		})
		m := newAuth(t, dssauth.Config{Resolver: dss})
		for range 3 {
			require.Equal(t, "ann", who(m, browser("ann")))
		}
		require.EqualValues(t, 1, dss.calls.Load(), "a thousand groups are remembered")

		pass(time.Minute)
		groups = crowd(100_000)
		for range 3 {
			w := serve(m.RequireGroup(groups[99_999])(whoami), browser("ann"))
			assert.Equal(t, "ann", w.Body.String())
			assert.Equal(t, 403, serve(m.RequireGroup("others")(unreachable(t)), browser("ann")).Code)
		}
		assert.EqualValues(t, 7, dss.calls.Load(), "more are asked for again and again")
		assert.Zero(t, m.Stats().Entries)

		dss.does(slowly(time.Second, byCookie))
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() { assert.Equal(t, "ann", who(m, browser("ann"))) })
		}
		all.Wait()
		assert.EqualValues(t, 8, dss.calls.Load(), "and by many requests at once")
	})
}

func TestLargeAnswersKeepNoMemory(t *testing.T) {
	const visitors = 100
	dss := resolver(func(_ context.Context, cookie string) (dssauth.Identity, error) {
		login := strings.TrimPrefix(cookie, "session=")
		return dssauth.NewIdentity(login, login+strings.Repeat("g", 1<<20)), nil // text that visitors share is kept once
	})
	m := newAuth(t, dssauth.Config{Resolver: dss, TTL: time.Hour})
	heap := func() int64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	before := heap()
	for i := range visitors {
		require.Equal(t, fmt.Sprint("user", i), who(m, browser(fmt.Sprint("user", i))))
	}
	kept := heap() - before
	assert.Less(t, kept, int64(visitors*64<<10), "bytes, of answers of 1 MiB each")
	runtime.KeepAlive(m)
}

func TestUnkeptAnswerEndsRememberedRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := resolver(func(context.Context, string) (dssauth.Identity, error) {
			return dssauth.Identity{}, dssauth.ErrUnauthenticated
		})
		m := newAuth(t, dssauth.Config{Resolver: f, TTL: -1, RefusalTTL: time.Hour})
		require.Equal(t, "401", who(m, browser("ann")))
		f.does(byCookie)
		require.Equal(t, "401", who(m, browser("ann")), "remembered")
		require.Equal(t, "ann", who(m, navigation("ann")), "a page load after the sign-in")
		assert.Equal(t, "ann", who(m, browser("ann")))
	})
}
