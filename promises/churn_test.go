package promises

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
)

const churnWarning = "MaxEntriesPerUser allows"

// bySession uses the text before a dash in the cookie session as the login.
func bySession(_ context.Context, h http.Header) (dssauth.Identity, error) {
	r := http.Request{Header: h}
	c, err := r.Cookie("session")
	if err != nil {
		return dssauth.Identity{}, dssauth.ErrUnauthenticated
	}
	login, _, _ := strings.Cut(c.Value, "-")
	return dssauth.NewIdentity(login), nil
}

func TestCookiesThatChangeAreNamedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBook
		m := newAuth(t, dssauth.Config{Resolver: resolveFunc(bySession), Logger: log.logger()})
		visit := func(i int) {
			cookies := fmt.Sprintf("session=ann-s3cret; theme=dark; zz_trace=t%d; affinity=a%d; nameless-%d", i, i, i)
			require.Equal(t, 200, serve(m.Handler(whoami), request("GET", "/", "Cookie", cookies)).Code)
		}
		for i := range 63 {
			visit(100 + i)
		}
		synctest.Wait()
		assert.Empty(t, log.with(churnWarning), "so many may be a user's browsers, and come back")
		visit(163)
		synctest.Wait() // the line is written once the visitor has the answer
		lines := log.with(churnWarning)
		require.Len(t, lines, 1)
		assert.Contains(t, lines[0], `changing="(name not shown) affinity zz_trace"`)
		assert.Contains(t, lines[0], "raise Config.MaxEntriesPerUser")
		for i := range 200 {
			visit(1000 + i)
			pass(time.Second)
		}
		assert.Len(t, log.with(churnWarning), 1)
		for _, secret := range []string{"s3cret", "ann", "theme", "dark", "nameless-", "=t", "a100", "t100"} {
			assert.NotContains(t, strings.SplitN(lines[0], "msg=", 2)[1], secret)
		}
		assert.Equal(t, 32, m.Stats().Entries)
		assert.EqualValues(t, 264-32, m.Stats().Evictions)
	})
}

func TestBareValuesThatChangeAreNotLogged(t *testing.T) {
	for name, cookie := range map[string]string{
		"a bare value": "c4n4ry-%d",
		"a bare value in base64, which ends with =":   "dHJhY2UtYzRuNHJ5LWlk%dQ=",
		"a bare value in base64, which ends with ==":  "dHJhY2UtYzRuNHJ5LWlkLT%d==",
		"a random name with a value":                  "dHJhY2UtYzRuNHJ5LWlk%d=1",
		"a name with a space":                         "c4n4ry trace%d=1",
		"a name as long as a value":                   "trace_c4n4ry_trace_trace_trace_trace_trace_trace%d=1",
		"a bare value beside others, which stay same": "dHJhY2UtYzRuNHJ5LWlk%dQ=; dHJhY2UtYzRuNHJ5=; c4n4ry",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				line := churnLine(t, 20, func(i int) string { return fmt.Sprintf("theme=%d; "+cookie, i, i) })
				assert.Contains(t, line, `"(name not shown) theme"`)
				assert.NotContains(t, line, "c4n4ry")
				assert.NotContains(t, line, "dHJhY2")
			})
		})
	}
}

// churnLine returns the one line about cookies that change, after n requests of a user
// with other cookies each time.
func churnLine(t *testing.T, n int, others func(i int) string) string {
	t.Helper()
	var log logBook
	m := newAuth(t, dssauth.Config{Resolver: resolveFunc(bySession), Logger: log.logger(), MaxEntriesPerUser: 8})
	for i := range n {
		r := request("GET", "/", "Cookie", "session=ann-s3cret; "+others(i))
		require.Equal(t, 200, serve(m.Handler(whoami), r).Code)
	}
	synctest.Wait() // the line is written once the visitor has the answer
	lines := log.with(churnWarning)
	require.Len(t, lines, 1)
	return lines[0]
}

func TestChangeOfOneOfSeveralCookiesIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := churnLine(t, 20, func(i int) string { return fmt.Sprintf("trace=%d; trace=same", i) })
		assert.Contains(t, line, "changing=trace")
	})
}

func TestRefreshedSessionsAreNotChurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBook
		m := newAuth(t, dssauth.Config{Resolver: resolveFunc(bySession), Logger: log.logger(), MaxEntriesPerUser: 8})
		for range 20 {
			for i := range 8 {
				r := request("GET", "/", "Cookie", fmt.Sprintf("session=ann-%d", i))
				require.Equal(t, 200, serve(m.Handler(whoami), r).Code)
			}
			pass(4 * time.Second)
		}
		assert.Greater(t, m.Stats().Identified, uint64(40), "nothing was refreshed")
		assert.Empty(t, log.with(churnWarning))
	})
}

func TestEndedSessionsAreNotChurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBook
		m := newAuth(t, dssauth.Config{Resolver: resolveFunc(bySession), Logger: log.logger(), MaxEntriesPerUser: 8})
		for i := range 50 {
			r := request("GET", "/", "Cookie", fmt.Sprintf("session=ann-%d", i))
			require.Equal(t, 200, serve(m.Handler(whoami), r).Code)
			pass(2 * time.Second)
		}
		assert.Empty(t, log.with(churnWarning))
	})
}

// screens are browsers of one account. A hit takes no virtual time, a lookup does.
type screens struct {
	t          *testing.T
	auth       *dssauth.Middleware
	hits, asks int
}

func newScreens(t *testing.T, c dssauth.Config) *screens {
	c.Resolver = resolveFunc(func(ctx context.Context, h http.Header) (dssauth.Identity, error) {
		pass(time.Millisecond)
		return bySession(ctx, h)
	})
	return &screens{t: t, auth: newAuth(t, c)}
}

func (s *screens) visit(cookies string) {
	start := time.Now()
	require.Equal(s.t, 200, serve(s.auth.Handler(whoami), request("GET", "/", "Cookie", cookies)).Code)
	if time.Since(start) == 0 {
		s.hits++
	} else {
		s.asks++
	}
}

// takeTurns lets n screens send requests, each once per every, for a while.
func (s *screens) takeTurns(n int, every, while time.Duration) (hitRatio float64) {
	s.hits, s.asks = 0, 0
	for start := time.Now(); time.Since(start) < while; {
		for i := range n {
			s.visit(fmt.Sprintf("session=ann-%d; theme=dark", i))
			pass(every / time.Duration(n))
		}
	}
	return float64(s.hits) / float64(s.hits+s.asks)
}

func TestAccountOnManyScreensHasItsShareOfHits(t *testing.T) {
	for _, test := range []struct{ screens, bound int }{
		{8, 8}, {9, 8}, {14, 8}, {9, 0}, {32, 0}, {33, 0}, {40, 0}, {60, 0},
	} {
		for _, every := range []time.Duration{200 * time.Millisecond, 2 * time.Second, 8 * time.Second} {
			t.Run(fmt.Sprintf("%d on a bound of %d every %s", test.screens, test.bound, every), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var log logBook
					s := newScreens(t, dssauth.Config{Logger: log.logger(), MaxEntriesPerUser: test.bound})
					s.takeTurns(test.screens, every, time.Minute) // till it is settled
					got := s.takeTurns(test.screens, every, 2*time.Minute)
					bound := cmp.Or(test.bound, 32)
					want := 1.0
					if test.screens > bound {
						want = float64(bound-1) / float64(test.screens)
					}
					t.Logf("figure: %d screens of one account on a bound of %d, each every %s: hit ratio %.3f, (bound-1)/n is %.3f", test.screens, bound, every, got, want)
					assert.InDelta(t, want, got, 0.02)
					assert.LessOrEqual(t, s.auth.Stats().Entries, bound)
					assert.Empty(t, log.with(churnWarning), "sessions that come back")
				})
			})
		}
	}
}

// An active session stays remembered beside any amount of junk of the same user, and a
// new session is remembered, too. Only the junk costs lookups.
func TestSessionStaysRememberedBesideJunk(t *testing.T) {
	for _, test := range []struct {
		ttl  time.Duration
		junk int // a second
	}{{10 * time.Second, 10}, {10 * time.Second, 100}, {time.Hour, 10}, {time.Hour, 100}} {
		t.Run(fmt.Sprintf("TTL %s, %d a second", test.ttl, test.junk), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScreens(t, dssauth.Config{TTL: test.ttl})
				work := func(session string, seconds int) (hits int) {
					for range seconds {
						for i := range test.junk {
							s.visit(fmt.Sprintf("session=ann-first; junk=%d", rand.Int64()))
							if i == test.junk/2 {
								s.hits = 0
								s.visit(session)
								hits += s.hits
							}
							pass(time.Second / time.Duration(test.junk))
						}
					}
					return hits
				}
				s.visit("session=ann-first")
				pass(1500 * time.Millisecond)
				s.visit("session=ann-first")
				assert.Equal(t, 100, work("session=ann-first", 100), "a session that came back stays")
				in := 0
				for in < 600 && work("session=ann-second", 1) == 0 {
					in++
				}
				t.Logf("figure: a new session beside %d junk requests a second of its user, TTL %s, is remembered after %d s", test.junk, test.ttl, in)
				assert.Less(t, in, 600, "a new session never gets in")
				assert.Greater(t, work("session=ann-second", 100), 95)
				assert.Equal(t, 32, s.auth.Stats().Entries)
			})
		})
	}
}

func TestHeadersThatChangeAreNamed(t *testing.T) {
	for name, test := range map[string]struct {
		pace    time.Duration
		cookies string // %d counts up
		want    string
	}{
		"beside a stable cookie":                      {0, "session=ann-s3cret", "Authorization X-Ticket"},
		"slowly, so that it does not fill its places": {time.Second, "session=ann-s3cret", "Authorization X-Ticket"},
		"beside a cookie that changes":                {0, "session=ann-s3cret; trace=%d", "Authorization X-Ticket trace"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logBook
				m := newAuth(t, dssauth.Config{Resolver: resolveFunc(bySession), Logger: log.logger(), Headers: []string{"Cookie", "Authorization", "x-ticket", "X-Stable"}})
				for i := range 64 {
					synctest.Wait()
					require.Empty(t, log.with(churnWarning), "after %d", i)
					cookies := test.cookies
					if strings.Contains(cookies, "%d") {
						cookies = fmt.Sprintf(cookies, i)
					}
					r := request("GET", "/", "Cookie", cookies, "Authorization", fmt.Sprintf("Negotiate c4n4ry%d", i), "X-Ticket", fmt.Sprint("c4n4ry-t", i), "X-Stable", "c4n4ry")
					require.Equal(t, 200, serve(m.Handler(whoami), r).Code)
					pass(test.pace)
				}
				synctest.Wait() // the line is written once the visitor has the answer
				lines := log.with(churnWarning)
				require.Len(t, lines, 1, "twice the limit")
				assert.Regexp(t, `changing="?`+test.want+`"?\n`, lines[0])
				assert.NotContains(t, lines[0], "c4n4ry")
				assert.NotContains(t, lines[0], "s3cret")
			})
		})
	}
}

func TestCookieHeaderIsNamedIfNoSingleCookieIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := churnLine(t, 16, func(i int) string { return fmt.Sprintf("csrf_%d=1", i) })
		assert.Contains(t, line, "changing=Cookie")
	})
}

// If the browsers of one account work one after the other, their sessions come back,
// even if there are many.
func (s *screens) comeAndGo(n int) {
	for i := range n {
		for range 20 {
			s.visit(fmt.Sprintf("session=ann-%d; theme=dark", i))
			pass(time.Second)
		}
	}
}

func TestFindingNothingDoesNotUseUpTheWarning(t *testing.T) {
	for name, test := range map[string]struct {
		cookies string // %d counts up
		changes string
	}{
		"another user's cookie changes":         {"session=bob; trace=%d", "trace"},
		"another cookie of this user changes":   {"session=ann; trace=%d", "trace"},
		"the cookie that came back now changes": {"session=ann-new%d", "session"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logBook
				s := newScreens(t, dssauth.Config{Logger: log.logger(), MaxEntriesPerUser: 8})
				s.takeTurns(9, 2*time.Second, time.Minute)
				s.comeAndGo(40)
				s.takeTurns(14, 2*time.Second, time.Minute)
				require.Empty(t, log.with(churnWarning))
				for i := range 40 {
					s.visit(fmt.Sprintf(test.cookies, i))
				}
				synctest.Wait() // the line is written once the visitor has the answer
				lines := log.with(churnWarning)
				require.Len(t, lines, 1)
				assert.Contains(t, lines[0], "changing="+test.changes)
			})
		})
	}
}

// One account on twice as many screens as its bound looks like a cookie that changes:
// the log line names both causes.
func TestManyScreensNameTheBoundInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBook
		s := newScreens(t, dssauth.Config{Logger: log.logger(), MaxEntriesPerUser: 8})
		ratio := s.takeTurns(40, 2*time.Second, time.Minute)
		lines := log.with(churnWarning)
		require.Len(t, lines, 1)
		assert.Contains(t, lines[0], "changing=session")
		assert.Contains(t, lines[0], "raise Config.MaxEntriesPerUser")
		assert.Greater(t, ratio, 0.1, "7 in 40 survive")
	})
}

// Each name has a line of its own, once a minute at most.
func TestEachChangeIsNamedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBook
		s := newScreens(t, dssauth.Config{Logger: log.logger(), MaxEntriesPerUser: 8})
		for range 3 {
			for _, name := range []string{"one", "two", "three"} {
				for i := range 50 {
					s.visit(fmt.Sprintf("session=%s; %s=%d", name, name, i))
				}
			}
			synctest.Wait()
			pass(time.Minute)
		}
		lines := log.with(churnWarning)
		require.Len(t, lines, 3)
		for i, name := range []string{"one", "two", "three"} {
			assert.Contains(t, lines[i], "changing="+name)
		}
	})
}

func TestManyUsersAreNotChurn(t *testing.T) {
	var log logBook
	m := newAuth(t, dssauth.Config{Resolver: resolveFunc(bySession), Logger: log.logger()})
	for i := range 1000 {
		r := request("GET", "/", "Cookie", fmt.Sprintf("session=user%d-%d", i, i))
		require.Equal(t, 200, serve(m.Handler(whoami), r).Code)
	}
	assert.Empty(t, log.with(churnWarning))
}
