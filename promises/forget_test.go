package promises

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
)

// byFirstCookie is byCookie for a session cookie in front of others. A key-…
// has no login, but an id.
func byFirstCookie(ctx context.Context, cookies string) (dssauth.Identity, error) {
	session, _, _ := strings.Cut(cookies, ";")
	if _, id, ok := strings.Cut(session, "=key-"); ok {
		return dssauth.Identity{APIKeyID: id}, nil
	}
	return byCookie(ctx, session)
}

// forgets is a handler that forgets its visitor.
func forgets(m *dssauth.Middleware) http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { m.Forget(r) })
}

func TestForgetForgetsTheVisitor(t *testing.T) {
	with := func(id dssauth.Identity, cookies string) *http.Request {
		r := withCookies(cookies)
		return r.WithContext(dssauth.NewContext(r.Context(), id))
	}
	all := []string{"session=ann", "session=ann; theme=dark", "session=bob", "session=nobody", "session=nobody; theme=dark", "session=key-ann", "session=key-ann; theme=dark"}
	for _, test := range []struct {
		name   string
		forget func(*dssauth.Middleware)
		asked  []string
	}{
		{"the attached identity", func(m *dssauth.Middleware) { serve(m.Handler(forgets(m)), withCookies("session=ann; theme=light")) }, all[:2]},
		{"the attached identity, behind a gate", func(m *dssauth.Middleware) { serve(m.RequireGroup("readers")(forgets(m)), withCookies("session=ann")) }, all[:2]},
		{"the attached identity, when the cookies have changed", func(m *dssauth.Middleware) {
			serve(m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				r.Header.Set("Cookie", "session=")
				m.Forget(r)
			})), withCookies("session=ann"))
		}, all[:2]},
		{"the attached identity, when the cookies are too many", func(m *dssauth.Middleware) {
			serve(m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				r.Header.Set("Cookie", "session="+strings.Repeat("x", 100_000))
				m.Forget(r)
			})), withCookies("session=ann"))
		}, all[:2]},
		{"the remembered answer", func(m *dssauth.Middleware) { m.Forget(withCookies("session=ann")) }, all[:2]},
		{"the remembered answer, found by other raw bytes", func(m *dssauth.Middleware) { m.Forget(withCookies("_ga=1; session=ann")) }, all[:2]},
		{"an identity from NewContext, and the remembered answer", func(m *dssauth.Middleware) { m.Forget(with(dssauth.NewIdentity("bob"), "session=ann")) }, all[:3]},
		{"an anonymous visitor from NewContext", func(m *dssauth.Middleware) { m.Forget(with(dssauth.Identity{}, "session=nobody")) }, all[3:4]},
		{"an anonymous visitor", func(m *dssauth.Middleware) { serve(m.Optional(forgets(m)), withCookies("session=nobody")) }, all[3:4]},
		{"an API key", func(m *dssauth.Middleware) { m.Forget(withCookies("session=key-ann")) }, all[5:]},
		{"an API key, attached", func(m *dssauth.Middleware) { serve(m.Handler(forgets(m)), withCookies("session=key-ann; theme=dark")) }, all[5:]},
		{"another DSS's visitor", func(m *dssauth.Middleware) {
			other, err := dssauth.New(dssauth.Config{Resolver: resolver(byFirstCookie)})
			if err == nil {
				serve(other.Handler(forgets(m)), withCookies("session=bob; theme=dark"))
			}
		}, nil},
		{"bytes that are not known", func(m *dssauth.Middleware) { m.Forget(withCookies("session=ann; theme=light")) }, nil},
		{"no credentials", func(m *dssauth.Middleware) { m.Forget(request("GET", "/")) }, nil},
		{"ForgetUser", func(m *dssauth.Middleware) { m.ForgetUser("ann") }, all[:2]},
		{"ForgetUser of nobody", func(m *dssauth.Middleware) { m.ForgetUser("") }, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dss := resolver(byFirstCookie)
				m := newAuth(t, dssauth.Config{Resolver: dss, AllowAPIKeys: true, RefusalTTL: time.Minute})
				status := func(cookies string) int { return serve(m.Handler(whoami), withCookies(cookies)).Code }
				for _, cookies := range all {
					status(cookies)
					status("_ga=1; " + cookies) // an alias
				}
				require.EqualValues(t, len(all), dss.calls.Load())
				test.forget(m)
				var asked []string
				for _, cookies := range all {
					before := dss.calls.Load()
					status("_ga=1; " + cookies)
					status(cookies)
					if dss.calls.Load() > before {
						asked = append(asked, cookies)
					}
				}
				assert.Equal(t, test.asked, asked)
			})
		})
	}
}

// All in one moment of the clock: a counter gives the order.
func TestLookupOfAForgottenLoginIsAskedAgain(t *testing.T) {
	for name, forget := range map[string]func(*dssauth.Middleware){
		"Forget":     func(m *dssauth.Middleware) { m.Forget(browser("ann")) },
		"ForgetUser": func(m *dssauth.Middleware) { m.ForgetUser("ann") },
		"Forget, again and again": func(m *dssauth.Middleware) {
			for range 100 {
				serve(m.Handler(forgets(m)), browser("ann").WithContext(dssauth.NewContext(context.Background(), dssauth.NewIdentity("ann"))))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dss := newScript(t)
				m := newAuth(t, dssauth.Config{Resolver: dss})
				known := asks(m, browser("ann"))
				synctest.Wait()
				dss.say(0, dssauth.NewIdentity("ann"), nil)
				require.Equal(t, "ann", <-known)

				const other = "session=ann; theme=dark"
				groups := func() <-chan []string {
					got := make(chan []string, 1)
					go func() { got <- identity(t, m, withCookies(other)).Groups() }()
					return got
				}
				early := groups()
				synctest.Wait()
				if strings.Contains(name, "again") {
					serve(m.Handler(forgets(m)), browser("ann"))
				} else {
					forget(m)
				}
				late := groups()
				synctest.Wait()
				require.Equal(t, 2, dss.started(), "it may be about anybody")
				dss.say(1, dssauth.NewIdentity("ann", "before"), nil)
				assert.Equal(t, []string{"before"}, <-early, "it came before")
				require.Equal(t, 3, dss.started(), "it asks again")
				assert.Zero(t, m.Stats().Entries, "stored")
				dss.say(2, dssauth.NewIdentity("ann", "after"), nil)
				assert.Equal(t, []string{"after"}, <-late)
				assert.Equal(t, []string{"after"}, <-groups())
				assert.Equal(t, 3, dss.started(), "the lookup right after it is stored")
			})
		})
	}
}

// A page load that waits for two earlier lookups, and an answer that is
// refreshed.
func TestLaterRequestGetsNoAnswerFromBeforeForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := newScript(t)
		m := newAuth(t, dssauth.Config{Resolver: dss})
		asks(m, browser("ann"))
		synctest.Wait()
		asks(m, navigation("ann"))
		synctest.Wait()
		m.ForgetUser("ann")
		late := asks(m, browser("ann"))
		synctest.Wait()
		require.Equal(t, 2, dss.started())
		dss.say(1, dssauth.NewIdentity("ann"), nil)
		require.Equal(t, 3, dss.started())
		dss.say(0, dssauth.NewIdentity("ann"), nil)
		require.Empty(t, late)
		m.ForgetUser("ann") // the waiting one came before
		dss.say(2, dssauth.NewIdentity("ann"), nil)
		assert.Equal(t, "ann", <-late)
		assert.Zero(t, m.Stats().Entries)
	})
}

func TestSignOutDoesNotAffectOthersLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := newScript(t)
		m := newAuth(t, dssauth.Config{Resolver: dss})
		ann := asks(m, browser("ann"))
		synctest.Wait()
		dss.say(0, dssauth.NewIdentity("ann"), nil)
		require.Equal(t, "ann", <-ann)

		var bobs []<-chan string
		for range 100 {
			bobs = append(bobs, asks(m, browser("bob")))
			synctest.Wait()
			m.Forget(browser("ann"))
			m.ForgetUser("ann")
			m.Forget(browser("stranger"))
		}
		assert.Equal(t, 2, dss.started(), "they share one")
		dss.say(1, dssauth.NewIdentity("bob"), nil)
		for _, bob := range bobs {
			require.Equal(t, "bob", <-bob)
		}
		assert.Equal(t, 1, m.Stats().Entries, "and it is stored")
	})
}

// A lookup that waits for its place while its visitor is forgotten asks DSS
// afterwards. It is shared, so that signing out again and again fills no queue.
func TestLookupThatHasNotAskedYetIsNotForgotten(t *testing.T) {
	for name, forget := range map[string]func(*dssauth.Middleware){
		"Forget":     func(m *dssauth.Middleware) { m.Forget(browser("ann")) },
		"ForgetUser": func(m *dssauth.Middleware) { m.ForgetUser("ann") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dss := resolver(slowly(time.Millisecond, byCookie))
				m := newAuth(t, dssauth.Config{Resolver: dss, MaxLookups: 2})
				newcomers(m, 1)
				var anns []<-chan string
				for range 50 {
					anns = append(anns, asks(m, browser("ann")))
					synctest.Wait()
					forget(m)
				}
				require.Equal(t, 1, m.Stats().Queued)
				for _, ann := range anns {
					require.Equal(t, "ann", <-ann)
				}
				before := dss.calls.Load()
				assert.Equal(t, "ann", who(m, browser("ann")))
				assert.Equal(t, before, dss.calls.Load(), "it is stored")
			})
		})
	}
}

// A connection with a forgotten visitor lasts as long as one with an answer that cannot
// be confirmed. It is not bridged.
func TestForgottenConnectionIsNotBridged(t *testing.T) {
	for name, forget := range map[string]func(*dssauth.Middleware, *http.Request){
		"by its own bytes": func(m *dssauth.Middleware, r *http.Request) { m.Forget(r) },
		"by its login":     func(m *dssauth.Middleware, _ *http.Request) { m.ForgetUser("ann") },
		"not":              func(m *dssauth.Middleware, _ *http.Request) { m.ForgetUser("bob") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatched(t)
				m := newAuth(t, dssauth.Config{Client: w.client, StaleIfError: time.Hour, TTL: 3 * time.Second})
				ann := signedIn(w.DSS, "ann")
				ctx, cancel := connect(t, m, ann, 3*time.Second)
				defer cancel()
				w.SetDown(true)
				forget(m, ann)
				pass(5 * time.Second)
				assert.NoError(t, ctx.Err(), "interval and TTL")
				pass(5 * time.Second)
				synctest.Wait()
				assert.Equal(t, name == "not", ctx.Err() == nil)
				assert.Equal(t, name == "not", who(m, ann) == "ann", "one rule for requests and connections")
			})
		})
	}
}

// The connection's answer may be older than the call of Forget, or than the refusal of
// a request beside it.
func TestConnectionIsBridgedLikeItsRequests(t *testing.T) {
	const refreshed, ended = 2800 * time.Millisecond, 3 * time.Second // of an answer's life of three seconds at most
	for name, row := range map[string]struct {
		at   time.Duration // after the connection began, a request comes
		who  string
		meet func(*dssauth.Middleware)
	}{
		"nothing happened":                       {refreshed, "ann", func(*dssauth.Middleware) {}},
		"a newer answer was forgotten":           {refreshed, "ann", func(m *dssauth.Middleware) { m.ForgetUser("ann") }},
		"DSS knew a request's session no longer": {ended, "401", func(*dssauth.Middleware) {}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatched(t)
				m := newAuth(t, dssauth.Config{Client: w.client, StaleIfError: time.Hour, TTL: 3 * time.Second})
				ann := signedIn(w.DSS, "ann")
				ctx, cancel := connect(t, m, ann, 6*time.Second)
				defer cancel()
				pass(row.at)
				if row.who != "ann" {
					w.EndSessions()
				}
				require.Equal(t, row.who, who(m, ann))
				synctest.Wait()
				row.meet(m)
				w.SetDown(true)
				pass(30 * time.Second)
				synctest.Wait()
				open := who(m, ann) == "ann"
				assert.Equal(t, name == "nothing happened", open)
				assert.Equal(t, open, ctx.Err() == nil, "one rule for requests and connections")
			})
		})
	}
}

// After another session of its login signed out, a connection asks DSS at its next
// look, and does not use an earlier question.
func TestConnectionUsesNoAnswerFromBeforeForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := newScript(t)
		m := newAuth(t, dssauth.Config{Resolver: dss})
		known := asks(m, browser("ann"))
		synctest.Wait()
		dss.say(0, dssauth.NewIdentity("ann"), nil)
		require.Equal(t, "ann", <-known)
		ctx, cancel := connect(t, m, browser("ann"), 8*time.Second)
		defer cancel()
		pass(7 * time.Second)
		require.Equal(t, "ann", who(m, browser("ann")))
		synctest.Wait()
		require.Equal(t, 2, dss.started(), "a refresh")
		m.ForgetUser("ann")
		pass(time.Second) // the connection joins it
		synctest.Wait()
		dss.say(1, dssauth.NewIdentity("ann"), nil)
		require.Equal(t, 3, dss.started(), "the connection asks again")
		require.NoError(t, ctx.Err())
		dss.say(2, dssauth.Identity{}, dssauth.ErrUnauthenticated)
		assert.ErrorIs(t, context.Cause(ctx), dssauth.ErrUnauthenticated)
	})
}

// between is a middleware that does something before it calls the next handler.
func between(do func(*http.Request)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			do(r)
			next.ServeHTTP(w, r)
		})
	}
}

func TestNestedMiddlewareAsksOnce(t *testing.T) {
	nothing := func(*http.Request) {}
	for name, ttl := range map[string]time.Duration{"no caching": -1, "a millisecond": time.Millisecond, "a second": time.Second, "the default": 0} {
		for _, test := range []struct {
			name    string
			request func() *http.Request
			between func(*http.Request)
			status  int
		}{
			{"a member", fromAnn, nothing, 200},
			{"no member", fromBob, nothing, 403},
			{"an anonymous visitor", func() *http.Request { return browser("nobody") }, nothing, 401},
			{"a page load of an anonymous visitor", func() *http.Request { return navigation("nobody") }, nothing, 401},
			{"a member, a minute later", fromAnn, func(*http.Request) { pass(time.Minute) }, 200},
			{"an anonymous visitor, a minute later", func() *http.Request { return browser("nobody") }, func(*http.Request) { pass(time.Minute) }, 401},
			{"a member, with another stray cookie", fromAnn, func(r *http.Request) { r.Header.Set("Cookie", "_ga=1; session=ann") }, 200},
		} {
			t.Run(test.name+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					known := newDoorman()
					m := newAuth(t, dssauth.Config{Resolver: known, TTL: ttl, RefusalTTL: ttl})
					m.ForgetUser("ann") // in the same moment, but before
					m.Forget(test.request())
					chain := m.Optional(m.Optional(between(test.between)(m.Handler(m.RequireGroup("analysts")(whoami)))))
					assert.Equal(t, test.status, serve(chain, test.request()).Code)
					assert.Equal(t, 1, known.calls())
					pass(2 * time.Hour)
					assert.Equal(t, test.status, serve(m.Optional(m.RequireGroup("analysts")(whoami)), test.request()).Code)
					assert.Equal(t, 2, known.calls())
				})
			})
		}
	}
}

func TestNestedMiddlewareAsksAgain(t *testing.T) {
	for _, test := range []struct {
		name    string
		cookie  string
		between func(m *dssauth.Middleware, known *doorman, r *http.Request)
		want    string
		calls   int
	}{
		{"about other bytes", "ann", func(_ *dssauth.Middleware, _ *doorman, r *http.Request) { r.Header.Set("Cookie", "session=bob") }, "bob", 2},
		{"about other bytes, of an anonymous visitor", "nobody", func(_ *dssauth.Middleware, _ *doorman, r *http.Request) { r.Header.Set("Cookie", "session=bob") }, "bob", 2},
		{"about no bytes", "ann", func(_ *dssauth.Middleware, _ *doorman, r *http.Request) { r.Header.Del("Cookie") }, "401", 1},
		{"after Forget", "ann", func(m *dssauth.Middleware, _ *doorman, r *http.Request) { m.Forget(r) }, "401", 2},
		{"after Forget of these bytes elsewhere", "ann", func(m *dssauth.Middleware, _ *doorman, _ *http.Request) { m.Forget(fromAnn()) }, "401", 2},
		{"after Forget by another session", "ann", func(m *dssauth.Middleware, known *doorman, _ *http.Request) {
			known.is("session=2", dssauth.NewIdentity("ann"))
			serve(m.Handler(forgets(m)), browser("2"))
		}, "401", 3},
		{"after Forget by another visitor", "ann", func(m *dssauth.Middleware, _ *doorman, _ *http.Request) {
			serve(m.Handler(forgets(m)), fromBob())
		}, "ann", 2},
		{"after ForgetUser", "ann", func(m *dssauth.Middleware, _ *doorman, _ *http.Request) { m.ForgetUser("ann") }, "401", 2},
		{"after ForgetUser of another", "ann", func(m *dssauth.Middleware, _ *doorman, _ *http.Request) { m.ForgetUser("bob") }, "ann", 1},
		{"after Forget of an anonymous visitor", "nobody", func(m *dssauth.Middleware, _ *doorman, r *http.Request) { m.Forget(r) }, "eve", 2},
		{"by Authenticate", "ann", func(m *dssauth.Middleware, _ *doorman, r *http.Request) { _, _ = m.Authenticate(r) }, "401", 3},
		{"long after Forget", "ann", func(m *dssauth.Middleware, _ *doorman, r *http.Request) {
			m.Forget(r)
			pass(time.Hour)
			for i := range 1000 {
				m.ForgetUser(fmt.Sprint("user", i))
			}
		}, "401", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				known := newDoorman()
				m := newAuth(t, dssauth.Config{Resolver: known, TTL: -1, RefusalTTL: -1})
				chain := m.Optional(between(func(r *http.Request) {
					known.is("session=ann", dssauth.Identity{}) // signs out
					known.is("session=nobody", dssauth.NewIdentity("eve"))
					test.between(m, known, r)
				})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.Handler(sayLogin).ServeHTTP(w, r) })))
				got := serve(chain, browser(test.cookie))
				if test.want == "401" {
					assert.Contains(t, []int{401, 503}, got.Code)
				} else {
					assert.Equal(t, test.want, got.Body.String())
				}
				assert.Equal(t, test.calls, known.calls())
			})
		})
	}
}

// A handler inside does not take a missing answer of DSS for "anonymous", nor another
// Middleware's identity for DSS's answer.
func TestNestedMiddlewareTakesNoOtherAnswer(t *testing.T) {
	known, other := newDoorman(), newDoorman()
	m, elsewhere := newAuth(t, dssauth.Config{Resolver: known, TTL: -1}), newAuth(t, dssauth.Config{Resolver: other, TTL: -1})
	other.is("session=ann", dssauth.NewIdentity("eve", "analysts"))
	assert.Equal(t, "ann", serve(elsewhere.Optional(m.Handler(whoami)), fromAnn()).Body.String())
	assert.Equal(t, "ann", serve(elsewhere.Optional(m.Handler(whoami)), fromAnn()).Body.String())
	assert.Equal(t, 2, known.calls())

	r := fromAnn()
	r = r.WithContext(dssauth.NewContext(r.Context(), dssauth.NewIdentity("eve")))
	assert.Equal(t, "ann", serve(m.Handler(whoami), r).Body.String(), "NewContext")

	known.fails(errBroken)
	hidden := fromAnn().WithContext(dssauth.NewContext(context.Background(), dssauth.NewIdentity("eve")))
	_, err := m.Authenticate(hidden)
	require.ErrorIs(t, err, dssauth.ErrUnavailable)
	known.fails(nil)
	assert.Equal(t, "ann", serve(m.Handler(whoami), hidden).Body.String(), "a hidden identity is not an answer of DSS")
}

// By Authenticate, a request that is handled for long, or served again, keeps its
// visitor in only as long as the answer is good.
func TestAnswerOfAuthenticateExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known := newDoorman()
		m := newAuth(t, dssauth.Config{Resolver: known, TTL: time.Second, Timeout: time.Second})
		r, err := m.Authenticate(fromAnn())
		require.NoError(t, err)
		pass(2 * time.Second)
		assert.Equal(t, "ann", serve(m.Handler(whoami), r).Body.String())
		assert.Equal(t, 1, known.calls(), "one request, one answer")
		pass(time.Second)
		assert.Equal(t, "ann", serve(m.Handler(whoami), r).Body.String())
		assert.Equal(t, 2, known.calls())
	})
}

// countedContext counts the looks into it, except those for an Access: they happen
// only in programs with an access log, such as this package's tests.
type countedContext struct {
	context.Context
	looks int
}

func (c *countedContext) Value(k any) any {
	if fmt.Sprintf("%T", k) != "dssauth.accessKey" {
		c.looks++
	}
	return c.Context.Value(k)
}

func TestHitDoesNotLookIntoTheContext(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: newDoorman()})
	ctx := &countedContext{Context: t.Context()}
	nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	serve(m.Handler(nothing), fromAnn().WithContext(ctx))
	require.Equal(t, 1, ctx.looks, "a miss does, once")
	for _, cookies := range []string{"session=ann", "_ga=1; session=ann", "_ga=1; session=ann"} {
		serve(m.Handler(nothing), withCookies(cookies).WithContext(ctx))
	}
	assert.Equal(t, 1, ctx.looks)
}
