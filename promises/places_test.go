package promises

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/internal/simulated"
)

// many is more workers than any test needs.
const many = 1 << 20

func TestEverybodyGetsInWithinTheSupply(t *testing.T) {
	for _, test := range []struct {
		name     string
		visitors int
		arriving time.Duration
		latency  time.Duration
		most     int
		quickly  int // of 100, within 0.3 s
	}{
		{"5,000 in a second, DSS takes 100 ms", 5000, time.Second, 100 * time.Millisecond, 0, 0},
		{"5,000 in a TTL, DSS takes 100 ms", 5000, 10 * time.Second, 100 * time.Millisecond, 0, 99},
		{"2,500 in a second, DSS takes 400 ms", 2500, time.Second, 400 * time.Millisecond, 0, 0},
		{"2,500 in a TTL, DSS takes 400 ms", 2500, 10 * time.Second, 400 * time.Millisecond, 0, 0},
		{"all that 32 places can supply, and no more", 2720, time.Second, 100 * time.Millisecond, 32, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dss := simulated.NewDSS(many, test.latency)
				m := newAuth(t, dssauth.Config{Resolver: dss, MaxLookups: test.most})
				seen := simulated.Visitors{Count: test.visitors, Arriving: test.arriving, Every: 4 * time.Second,
					Staying: 40 * time.Second, Settling: 30 * time.Second}.Visit(m)
				pass(10 * time.Second)
				t.Logf("figure: %d visitors, who come within %s, of a DSS that takes %s: refused once settled %s, known visitors %s; let in within 0.3 s %.1f %%, the last one after %s; %d lookups in flight at most",
					test.visitors, test.arriving, test.latency, seen.Settled, seen.Known, 100*float64(seen.Quickly)/float64(test.visitors), seen.Longest.Round(time.Millisecond), dss.Load().Most)
				assert.Zero(t, seen.Settled.Part)
				assert.Zero(t, seen.Known.Part)
				assert.Equal(t, test.visitors, seen.In)
				assert.LessOrEqual(t, seen.Longest, 30*time.Second)
				assert.GreaterOrEqual(t, seen.Quickly*100, test.quickly*test.visitors)
				assert.Zero(t, m.Stats().InFlight)
				assert.Zero(t, m.Stats().Queued)
			})
		})
	}
}

// A DSS of 8 workers of 400 ms can name 20 visitors a second: 170 at a time.
func TestOverloadedDSSServesKnownVisitors(t *testing.T) {
	for _, arriving := range []time.Duration{time.Second, 10 * time.Second} {
		t.Run(fmt.Sprint("in ", arriving), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dss := simulated.NewDSS(8, 400*time.Millisecond)
				m := newAuth(t, dssauth.Config{Resolver: dss})
				seen := simulated.Visitors{Count: 340, Arriving: arriving, Every: 2 * time.Second, Staying: 2 * time.Minute, Settling: time.Minute}.Visit(m)
				pass(10 * time.Second)
				load := dss.Load()
				t.Logf("figure: 340 visitors, who come within %s, of a DSS of 8 workers of 400 ms: known visitors refused %s; %d let in; %d lookups in flight at most, %d abandoned",
					arriving, seen.Known, seen.In, load.Most, load.Abandoned)
				assert.LessOrEqual(t, seen.Known.Percent(), 1.0)
				assert.GreaterOrEqual(t, seen.In, 170, "as many as it can supply")
				assert.LessOrEqual(t, load.Most, 48)
				assert.Zero(t, load.Abandoned)
			})
		})
	}
}

func TestJunkOpensNoPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const second, lasts = 10_000, 15 * time.Second
		dss := simulated.NewDSS(many, 100*time.Millisecond)
		m := newAuth(t, dssauth.Config{Resolver: dss})
		visitors := simulated.Visitors{Count: 500, Arriving: time.Second, Every: 2 * time.Second, Staying: 10 * time.Second}
		require.Equal(t, 500, visitors.Visit(m).In)
		var flood sync.WaitGroup
		flood.Go(func() {
			junk := m.Handler(sayLogin)
			for i := range int(lasts.Milliseconds()) {
				for j := range second / 1000 {
					flood.Go(func() { simulated.Status(junk, fmt.Sprint("nobody", i, "-", j)) })
				}
				pass(time.Millisecond)
			}
		})
		before := dss.Load().Calls
		visitors.Staying = lasts
		seen := visitors.Visit(m)
		flood.Wait()
		calls := float64(dss.Load().Calls-before) / lasts.Seconds()
		t.Logf("figure: %d junk requests a second beside 500 known visitors: %.0f calls of DSS a second, known visitors refused %s, %d places", second, calls, seen.All, m.Stats().Places)
		assert.Zero(t, seen.All.Part)
		assert.LessOrEqual(t, calls, 400.0)
		assert.Equal(t, 32, m.Stats().Places)
	})
}

// The result and the duration of a lookup open and close places.
func TestPlacesFollowTheSpeedOfDSS(t *testing.T) {
	named := func(login string) answer { return answer{id: dssauth.NewIdentity(login)} }
	nobody, broken := answer{err: dssauth.ErrUnauthenticated}, answer{err: errBroken}
	repeat := func(n int, a answer) (all []answer) {
		for range n {
			all = append(all, a)
		}
		return all
	}
	users := func(n int) (all []answer) {
		for i := range n {
			all = append(all, named(fmt.Sprint("user", i)))
		}
		return all
	}
	for _, test := range []struct {
		name    string
		most    int
		asking  int      // newcomers
		answers []answer // within Timeout/4, to the oldest lookups
		late    []answer // and those that come after it
		want    int
	}{
		{"at first there are 32", 0, 0, nil, nil, 32},
		{"at first there are MaxLookups if that is less", 8, 0, nil, nil, 8},
		{"no place opens if no lookup waits", 0, 24, users(24), nil, 32},
		{"four named users while a lookup waits open a place", 0, 60, users(4), nil, 33},
		{"three named users open no place", 0, 60, users(3), nil, 32},
		{"places never exceed MaxLookups", 34, 100, users(40), nil, 34},
		{"places never exceed a MaxLookups below the floor", 8, 100, users(40), nil, 8},
		{"junk opens no place", 0, 60, repeat(8, nobody), nil, 32},
		{"junk closes open places", 0, 90, append(users(16), repeat(8, nobody)...), nil, 34},
		{"junk closes no place if no lookup waits", 0, 43, append(users(16), repeat(27, nobody)...), nil, 36},
		{"junk closes no place below the floor", 0, 90, append(users(8), repeat(20, nobody)...), nil, 32},
		{"failures close half a place each", 0, 90, append(users(16), repeat(4, broken)...), nil, 34},
		{"failures close no place below the floor", 0, 90, append(users(4), repeat(20, broken)...), nil, 32},
		{"slow answers close half a place each", 0, 90, users(16), users(4), 34},
		{"slow answers close no place below the floor", 0, 90, users(8), users(20), 32},
		{"an answer that replaces another one of its user opens no place", 0, 90, repeat(40, named("eve")), nil, 34},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dss := newScript(t)
				m := newAuth(t, dssauth.Config{Resolver: dss, MaxLookups: test.most, MaxEntriesPerUser: 8})
				newcomers(m, test.asking)
				for n, a := range test.answers {
					dss.say(n, a.id, a.err)
				}
				if test.late != nil {
					pass(1250*time.Millisecond + 1)
				}
				for n, a := range test.late {
					dss.say(len(test.answers)+n, a.id, a.err)
				}
				assert.Equal(t, test.want, m.Stats().Places)
			})
		})
	}
}

// busy is a script's Middleware with four places. Bob, eve and two newcomers
// have them. Bob, eve and ann are known. Lookup 5 and later ones are the
// newcomers'.
func busy(t *testing.T, dss *script) *dssauth.Middleware {
	m := newAuth(t, dssauth.Config{Resolver: dss, MaxLookups: 4})
	for n, login := range []string{"ann", "bob", "eve"} {
		got := asks(m, browser(login))
		synctest.Wait()
		dss.say(n, dssauth.NewIdentity(login), nil)
		require.Equal(t, login, <-got)
	}
	pass(11 * time.Second)
	for n, login := range []string{"bob", "eve", "first", "second"} {
		asks(m, browser(login))
		synctest.Wait()
		require.Equal(t, 4+n, dss.started())
	}
	return m
}

func TestKnownVisitorsGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := newScript(t)
		m := busy(t, dss)
		third := asks(m, browser("third"))
		synctest.Wait()
		ann := asks(m, browser("ann"))
		synctest.Wait()
		require.Equal(t, 7, dss.started(), "both wait")
		dss.say(3, dssauth.NewIdentity("bob"), nil)
		require.Equal(t, 8, dss.started(), "one of them asks")
		dss.say(7, dssauth.NewIdentity("ann"), nil)
		assert.Equal(t, "ann", <-ann, "though she came last")
		dss.say(8, dssauth.NewIdentity("third"), nil)
		assert.Equal(t, "third", <-third)
	})
}

// A visitor who was forgotten is asked about again, in the line of known visitors.
func TestForgottenVisitorIsNotANewcomer(t *testing.T) {
	for name, forget := range map[string]func(*dssauth.Middleware){
		"by login":   func(m *dssauth.Middleware) { m.ForgetUser("ann") },
		"by request": func(m *dssauth.Middleware) { m.Forget(browser("ann")) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dss := newScript(t)
				m := busy(t, dss)
				forget(m)
				third := asks(m, browser("third"))
				synctest.Wait()
				ann := asks(m, browser("ann"))
				synctest.Wait()
				require.Equal(t, 7, dss.started(), "both wait")
				dss.say(3, dssauth.NewIdentity("bob"), nil)
				dss.say(7, dssauth.NewIdentity("ann"), nil)
				assert.Equal(t, "ann", <-ann, "though she came last")
				dss.say(8, dssauth.NewIdentity("third"), nil)
				assert.Equal(t, "third", <-third)
			})
		})
	}
}

func TestNewcomersAreServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := newScript(t)
		m := busy(t, dss)
		var waiting []<-chan string
		for i := range 8 {
			waiting = append(waiting, asks(m, browser(fmt.Sprint("later", i))))
			synctest.Wait()
		}
		for i := range 8 {
			dss.say(5+i, dssauth.NewIdentity(fmt.Sprint("login", i)), nil)
			require.Equal(t, 8+i, dss.started())
		}
		// The lookups came in this order, except for the first two.
		for i := range 6 {
			assert.Equal(t, fmt.Sprint("login", i+2), <-waiting[i])
		}
	})
}

// userByCookie names eve for each session that begins so.
func userByCookie(ctx context.Context, cookie string) (dssauth.Identity, error) {
	if strings.Contains(cookie, "=eve") {
		return dssauth.NewIdentity("eve"), nil
	}
	return byCookie(ctx, cookie)
}

func TestOneUserLeavesRoomForOtherKnownVisitors(t *testing.T) {
	for _, most := range []int{8, 32, 0} {
		for _, refreshing := range []bool{false, true} {
			t.Run(fmt.Sprint("MaxLookups ", most, ", refreshing ", refreshing), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					const sessions = 32
					dss := resolver(userByCookie)
					m := newAuth(t, dssauth.Config{Resolver: dss, MaxLookups: most, MaxEntriesPerUser: sessions})
					require.Equal(t, "ann", who(m, browser("ann")))
					for i := range sessions {
						require.Equal(t, "eve", who(m, browser(fmt.Sprint("eve", i))))
					}
					pass(11 * time.Second)
					if refreshing {
						require.Equal(t, "ann", who(m, browser("ann")))
						for i := range sessions {
							require.Equal(t, "eve", who(m, browser(fmt.Sprint("eve", i))))
						}
						synctest.Wait()
						pass(7200 * time.Millisecond)
					}
					dss.does(hangs)
					newcomers(m, 100) // a stranger's lookups hang as well
					for i := range sessions {
						asks(m, browser(fmt.Sprint("eve", i)))
					}
					synctest.Wait()
					dss.does(userByCookie)
					for range 40 { // beyond her answer's end
						start := time.Now()
						require.Equal(t, "ann", who(m, browser("ann")))
						require.Zero(t, time.Since(start))
						pass(100 * time.Millisecond)
					}
					pass(10 * time.Second)
				})
			})
		}
	}
}

// An account on many screens that all ask at once, beside more junk than places.
func TestJunkDoesNotLockOutAnAccountOnManyScreens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const screens = 20
		dss := resolver(slowly(100*time.Millisecond, func(ctx context.Context, cookie string) (dssauth.Identity, error) {
			if strings.Contains(cookie, "=junk") {
				return dssauth.Identity{}, dssauth.ErrUnauthenticated
			}
			return userByCookie(ctx, cookie)
		}))
		m := newAuth(t, dssauth.Config{Resolver: dss})
		for i := range screens {
			require.Equal(t, "eve", who(m, browser(fmt.Sprint("eve", i))))
		}
		pass(11 * time.Second)
		for i := range 2000 {
			asks(m, browser(fmt.Sprint("junk", i)))
		}
		synctest.Wait()
		var all []<-chan string
		for i := range screens {
			all = append(all, asks(m, browser(fmt.Sprint("eve", i))))
		}
		for _, got := range all {
			require.Equal(t, "eve", <-got)
		}
		pass(10 * time.Second)
		assert.Zero(t, m.Stats().InFlight)
		assert.Zero(t, m.Stats().Queued)
	})
}

// The same account's lookups hang: newcomers have half of the shared places.
func TestHangingAccountLeavesHalfToNewcomers(t *testing.T) {
	for most, want := range map[int]int{2: 0, 8: 3, 32: 12} {
		t.Run(fmt.Sprint("MaxLookups ", most), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dss := resolver(userByCookie)
				m := newAuth(t, dssauth.Config{Resolver: dss, MaxLookups: most})
				for i := range 32 {
					require.Equal(t, "eve", who(m, browser(fmt.Sprint("eve", i))))
				}
				pass(11 * time.Second)
				dss.does(hangs)
				for i := range 32 {
					asks(m, browser(fmt.Sprint("eve", i)))
				}
				synctest.Wait()
				taken := m.Stats().InFlight
				newcomers(m, 100)
				assert.Equal(t, want, m.Stats().InFlight-taken)
				pass(10 * time.Second)
				assert.Zero(t, m.Stats().InFlight)
				assert.Zero(t, m.Stats().Queued)
			})
		})
	}
}

func TestOneUsersShareIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := resolver(userByCookie)
		m := newAuth(t, dssauth.Config{Resolver: dss, MaxLookups: 2})
		require.Equal(t, "eve", who(m, browser("eve")))
		for range 3 { // by refreshes, and by lookups
			pass(8 * time.Second)
			require.Equal(t, "eve", who(m, browser("eve")))
			synctest.Wait()
			pass(11 * time.Second)
			require.Equal(t, "eve", who(m, browser("eve")))
		}
		pass(11 * time.Second)
		release := make(chan struct{})
		dss.does(held(release))
		newcomers(m, 1)
		asks(m, browser("eve"))
		synctest.Wait()
		assert.Equal(t, 2, m.Stats().InFlight, "she has the reserved place")
		close(release)
	})
}

// taken makes a Middleware of two places, on which ann's answer is due, and both
// places are taken by others, until release is closed.
func taken(t *testing.T, hooks dssauth.Hooks) (m *dssauth.Middleware, dss *fakeResolver, release chan struct{}) {
	dss = resolver(byCookie)
	m = newAuth(t, dssauth.Config{Resolver: dss, MaxLookups: 2, Hooks: hooks})
	require.Equal(t, "bob", who(m, browser("bob")))
	pass(10 * time.Second)
	require.Equal(t, "ann", who(m, browser("ann")))
	pass(due)
	release = make(chan struct{})
	dss.does(held(release))
	asks(m, browser("newcomer"))
	asks(m, browser("bob"))
	synctest.Wait()
	require.Equal(t, 2, m.Stats().InFlight)
	dss.does(byCookie)
	return m, dss, release
}

// An answer lives for 9 to 10 s, and is refreshed when it is 6.3 to 7 s old. So
// its last second begins after 8 s.
const due, dueStill = 7 * time.Second, 900 * time.Millisecond

func TestRefreshWaitsWhileAllPlacesAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book hookBook
		m, dss, release := taken(t, book.hooks())
		for range 9 {
			require.Equal(t, "ann", who(m, browser("ann")))
			pass(dueStill / 9)
		}
		calls := dss.calls.Load()
		assert.Zero(t, m.Stats().Queued, "nobody waits for it")
		close(release)
		synctest.Wait()
		assert.Equal(t, calls+1, dss.calls.Load(), "once, as soon as there is a place, and without another hit")
		assert.Zero(t, m.Stats().InFlight)
		pass(5 * time.Second)
		start := time.Now()
		assert.Equal(t, "ann", who(m, browser("ann")), "her answer is a new one")
		assert.Zero(t, time.Since(start))
		assert.Zero(t, m.Stats().Waited)
		book.mu.Lock()
		defer book.mu.Unlock()
		assert.True(t, slices.ContainsFunc(book.ended, func(l dssauth.Lookup) bool { return l.Renewal }), "hooks are told that it is one")
	})
}

func TestRefreshWaitsUntilTheLastSecondOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, dss, release := taken(t, dssauth.Hooks{})
		require.Equal(t, "ann", who(m, browser("ann")))
		pass(dueStill)
		require.Zero(t, m.Stats().Queued)
		for m.Stats().Queued == 0 {
			require.Equal(t, "ann", who(m, browser("ann")))
			pass(10 * time.Millisecond)
		}
		for range 50 { // the answer lasts on: this is not its end
			require.Equal(t, "ann", who(m, browser("ann")))
			pass(10 * time.Millisecond)
		}
		calls := dss.calls.Load()
		close(release)
		synctest.Wait()
		assert.Equal(t, calls+1, dss.calls.Load())
		pass(5 * time.Second)
		start := time.Now()
		assert.Equal(t, "ann", who(m, browser("ann")), "her answer is a new one")
		assert.Zero(t, time.Since(start))
	})
}

// A refresh that finds no place ends with its answer, unless requests wait for it.
func TestRequestThatJoinsARefreshWaitsForItsSecond(t *testing.T) {
	for range 20 { // answers end at random
		synctest.Test(t, func(t *testing.T) {
			m, dss, release := taken(t, dssauth.Hooks{})
			pass(1900 * time.Millisecond) // her answer's last second, most times
			require.Equal(t, "ann", who(m, browser("ann")))
			ann := asks(m, browser("ann"))
			for synctest.Wait(); len(ann) == 1; synctest.Wait() {
				require.Equal(t, "ann", <-ann)
				pass(10 * time.Millisecond)
				ann = asks(m, browser("ann"))
			}
			require.Equal(t, 1, m.Stats().Queued, "her refresh, which is hers now")
			pass(990 * time.Millisecond)
			require.Empty(t, ann)
			calls := dss.calls.Load()
			close(release)
			require.Equal(t, "ann", <-ann)
			require.Equal(t, calls+1, dss.calls.Load())
		})
	}
	synctest.Test(t, func(t *testing.T) {
		m, _, release := taken(t, dssauth.Hooks{})
		for range 300 {
			pass(10 * time.Millisecond)
			start := time.Now()
			got := who(m, browser("ann"))
			if got == "ann" {
				require.Zero(t, time.Since(start), "from memory")
				continue
			}
			assert.Equal(t, "503", got)
			assert.Equal(t, time.Second, time.Since(start))
			close(release)
			return
		}
		assert.Fail(t, "her answer outlives its time")
	})
}

func TestUnneededRefreshGivesItsPlaceBack(t *testing.T) {
	for name, forget := range map[string]func(*dssauth.Middleware){
		"her browser is forgotten": func(m *dssauth.Middleware) { m.Forget(browser("ann")) },
		"she is forgotten":         func(m *dssauth.Middleware) { m.ForgetUser("ann") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, dss, release := taken(t, dssauth.Hooks{})
				require.Equal(t, "ann", who(m, browser("ann")))
				forget(m)
				calls := dss.calls.Load()
				close(release)
				synctest.Wait()
				assert.Equal(t, calls, dss.calls.Load())
				assert.Zero(t, m.Stats().InFlight)
				assert.Equal(t, "ann", who(m, browser("ann")))
			})
		})
	}
}

func TestCloseEndsRefreshesThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, dss, release := taken(t, dssauth.Hooks{})
		require.Equal(t, "ann", who(m, browser("ann")))
		calls := dss.calls.Load()
		close(release)
		require.NoError(t, m.Close())
		synctest.Wait()
		assert.LessOrEqual(t, dss.calls.Load(), calls+1)
		assert.Zero(t, m.Stats().InFlight)
	})
}

func TestShortageOfPlacesIsExplained(t *testing.T) {
	const line = "because no place towards DSS was free"
	for _, test := range []struct {
		name   string
		most   int
		answer answerer
		says   []string
	}{
		{"all places are open", 8, slowly(600*time.Millisecond, byCookie), []string{"raise Config.MaxLookups, or Config.TTL", "places=8", "MaxLookups=8", "latency="}},
		{"DSS is slow", 0, slowly(1500*time.Millisecond, byCookie), []string{"raise Config.TTL", "DSS is slow", "places=32", "MaxLookups=256", "latency=1."}},
		{"junk", 0, slowly(900*time.Millisecond, func(context.Context, string) (dssauth.Identity, error) {
			return dssauth.Identity{}, dssauth.ErrUnauthenticated
		}), []string{"whom DSS does not know", "raise Config.TTL", "places=32"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var book logBook
				m := newAuth(t, dssauth.Config{Resolver: resolver(test.answer), MaxLookups: test.most, Logger: book.logger()})
				newcomers(m, 1)
				pass(2 * time.Second)
				for range 20 {
					newcomers(m, 200)
					pass(2 * time.Second)
				}
				lines := book.with(line)
				require.Len(t, lines, 1)
				for _, part := range test.says {
					assert.Contains(t, lines[0], part)
				}
				pass(time.Minute)
				newcomers(m, 200)
				pass(2 * time.Second)
				synctest.Wait()
				assert.Len(t, book.with(line), 2, "once a minute")
			})
		})
	}
}

func TestEvictionsAreExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const line = "make room for those about other visitors"
		var book logBook
		m := newAuth(t, dssauth.Config{Resolver: resolver(userByCookie), MaxEntries: 4, MaxEntriesPerUser: 2, Logger: book.logger()})
		for i := range 9 {
			who(m, browser(fmt.Sprint("eve", i)))
		}
		who(m, browser("ann"))
		who(m, browser("bob"))
		require.Empty(t, book.with(line), "eve pushes out her own")
		pass(10 * time.Second)
		who(m, browser("joe"))
		synctest.Wait()
		require.Empty(t, book.with(line), "an ended answer is not removed early")
		for i := range 9 {
			who(m, browser(fmt.Sprint("user", i)))
		}
		synctest.Wait() // a line is written after the answer
		require.Len(t, book.with(line), 1)
		assert.Contains(t, book.with(line)[0], "MaxEntries=4")
		pass(time.Minute)
		for i := range 9 {
			who(m, browser(fmt.Sprint("user", i)))
		}
		synctest.Wait()
		assert.Len(t, book.with(line), 2, "once a minute")
	})
}

func TestWaitingIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newAuth(t, dssauth.Config{Resolver: resolver(slowly(400*time.Millisecond, byCookie)), MaxLookups: 2})
		answers := newcomers(m, 4)
		pass(2 * time.Second)
		synctest.Wait()
		assert.Equal(t, 3, count(answers, identified))
		assert.Equal(t, 400*time.Millisecond+800*time.Millisecond+time.Second, m.Stats().Waited, "two found a place, one did not")
		w := serve(m.Handler(unreachable(t)), request(http.MethodGet, "/"))
		assert.Equal(t, http.StatusUnauthorized, w.Code)
		assert.Equal(t, 2200*time.Millisecond, m.Stats().Waited)
	})
}
