package promises

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// scene is a resolver. The test changes its answer.
type scene struct{ fakeResolver }

func newScene(id dssauth.Identity) *scene {
	s := &scene{}
	s.changes(id, nil)
	return s
}

func (s *scene) changes(id dssauth.Identity, err error) {
	s.does(func(ctx context.Context, _ string) (dssauth.Identity, error) {
		if s.calls.Load() > 20_000 { // or a loop without end would stop the clock
			<-ctx.Done()
		}
		return id, err
	})
}

// connect returns the context of a connection of r's visitor, from a handler
// behind m and some gates.
func connect(t *testing.T, m *dssauth.Middleware, r *http.Request, every time.Duration, gates ...func(http.Handler) http.Handler) (ctx context.Context, cancel context.CancelFunc) {
	t.Helper()
	var h http.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ctx, cancel = m.WhileSignedIn(r, every)
	})
	for _, gate := range slices.Backward(gates) {
		h = gate(h)
	}
	w := serve(m.Handler(h), r)
	require.Equal(t, 200, w.Code)
	return ctx, cancel
}

// refuseOnly is a gate that returns verdict's current result.
func refuseOnly(m *dssauth.Middleware, verdict *atomic.Pointer[error]) func(http.Handler) http.Handler {
	return m.Require(func(*http.Request, dssauth.Identity) error {
		if v := verdict.Load(); v != nil {
			return *v
		}
		return nil
	})
}

func TestConnectionEndsLikeANewRequest(t *testing.T) {
	const every, ttl, timeout = 4 * time.Second, 10 * time.Second, 5 * time.Second
	analysts := func(m *dssauth.Middleware) func(http.Handler) http.Handler { return m.RequireGroup("analysts") }
	for _, test := range []struct {
		name   string
		gate   func(*dssauth.Middleware) func(http.Handler) http.Handler
		change answer
		within time.Duration
		cause  error
	}{
		{"she signed out", nil, answer{err: dssauth.ErrUnauthenticated}, every, dssauth.ErrUnauthenticated},
		{"somebody else signed in", nil, answer{id: dssauth.NewIdentity("bob", "analysts")}, every, dssauth.ErrUnauthenticated},
		{"the session became an API key's", nil, answer{id: dssauth.Identity{APIKeyID: "ann"}}, every, dssauth.ErrUnauthenticated},
		{"she lost the group that let her in", analysts, answer{id: dssauth.NewIdentity("ann", "readers")}, every, dssauth.ErrForbidden},
		{"DSS answers 403 about her", nil, answer{err: &dss.Error{StatusCode: 403}}, every + ttl + every, dssauth.ErrUnavailable},
		{"DSS answers 404 about her", nil, answer{err: &dss.Error{StatusCode: 404}}, every + ttl + every, dssauth.ErrUnavailable},
		{"DSS answers 400 about her", nil, answer{err: &dss.Error{StatusCode: 400}}, every + ttl + every, dssauth.ErrUnavailable},
		{"DSS answers 500 about her", nil, answer{err: &dss.Error{StatusCode: 500}}, every + ttl + every, dssauth.ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ann := newScene(dssauth.NewIdentity("ann", "analysts"))
				m := newAuth(t, dssauth.Config{Resolver: ann, AllowAPIKeys: true, TTL: ttl, Timeout: timeout})
				var gates []func(http.Handler) http.Handler
				if test.gate != nil {
					gates = append(gates, test.gate(m))
				}
				ctx, cancel := connect(t, m, browser("ann"), every, gates...)
				defer cancel()
				pass(time.Minute)
				require.NoError(t, ctx.Err(), "it lasts while nothing changes")
				ann.changes(test.change.id, test.change.err)
				pass(test.within)
				synctest.Wait()
				assert.ErrorIs(t, context.Cause(ctx), test.cause)
				calls := ann.calls.Load()
				pass(time.Minute)
				assert.Equal(t, calls, ann.calls.Load(), "then no request asks any more")
			})
		})
	}
}

func TestConnectionOutlastsShortFailures(t *testing.T) {
	for _, every := range []time.Duration{time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			d, client := newMemory(t)
			m := newAuth(t, dssauth.Config{Client: client})
			ctx, cancel := connect(t, m, signedIn(d, "ann"), every)
			defer cancel()
			for range 10 {
				d.Intercept(lookupPath, 1, dsstest.Respond(502, "<html>"))
				pass(every + 5*time.Second)
				require.NoError(t, ctx.Err(), "a 502 ends nothing")
			}
		})
	}
}

func TestFailedLookIsRepeatedASecondLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		m := newAuth(t, dssauth.Config{Client: client})
		c := d.SignIn("ann")
		ctx, cancel := connect(t, m, withCookies(c.Name+"="+c.Value), time.Minute)
		defer cancel()
		var failed time.Time
		d.Intercept(lookupPath, 1, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			failed = time.Now()
			d.SignOut(c)
			w.WriteHeader(http.StatusBadGateway)
		})
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), dssauth.ErrUnauthenticated)
		assert.LessOrEqual(t, time.Since(failed), 2*time.Second)
	})
}

// StaleIfError bridges outages of DSS, but not a firewall's refusal of one visitor.
func TestStaleIfErrorKeepsNoConnectionWhileUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const every, ttl, lastLook = time.Second, 10 * time.Second, 5 * time.Second
		d, client := newMemory(t)
		m := newAuth(t, dssauth.Config{Client: client, TTL: ttl, StaleIfError: time.Hour})
		ctx, cancel := connect(t, m, signedIn(d, "ann"), every)
		defer cancel()
		d.Intercept(lookupPath, -1, dsstest.Respond(502, "<html>"))
		start := time.Now()
		<-ctx.Done()
		assert.ErrorIs(t, context.Cause(ctx), dssauth.ErrUnavailable)
		assert.Greater(t, time.Since(start), every+ttl)
		assert.LessOrEqual(t, time.Since(start), every+ttl+lastLook)
	})
}

// A connection outlasts an outage for every + TTL since DSS last confirmed the visitor,
// and for StaleIfError more.
func TestConnectionOutlastsAnOutageToItsLimit(t *testing.T) {
	for _, test := range []struct {
		name                     string
		every, ttl, stale, limit time.Duration
	}{
		{"with StaleIfError", time.Second, 10 * time.Second, time.Minute, 71 * time.Second},
		{"without", time.Second, 10 * time.Second, 0, 11 * time.Second},
		{"every so often of a TTL", 0, 10 * time.Second, 0, 20 * time.Second},
		{"with an interval of a minute", time.Minute, 10 * time.Second, 0, 70 * time.Second},
		{"without a memory", 2 * time.Second, -1, 0, 7 * time.Second},
		{"every so often of a Timeout", 0, -1, 0, 10 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				m := newAuth(t, dssauth.Config{Client: client, TTL: test.ttl, StaleIfError: test.stale})
				start := time.Now()
				ctx, cancel := connect(t, m, signedIn(d, "ann"), test.every)
				defer cancel()
				d.SetDown(true)
				pass(test.limit - 1 - time.Since(start))
				synctest.Wait()
				require.NoError(t, ctx.Err())
				pass(3 * time.Second)
				assert.ErrorIs(t, context.Cause(ctx), dssauth.ErrUnavailable)
			})
		})
	}
}

func TestConnectionSurvivesAnOutageThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		m := newAuth(t, dssauth.Config{Client: client, StaleIfError: time.Hour})
		c := d.SignIn("ann")
		ctx, cancel := connect(t, m, withCookies(c.Name+"="+c.Value), 5*time.Second)
		defer cancel()
		d.SetDown(true)
		pass(30 * time.Minute)
		require.NoError(t, ctx.Err())
		d.SetDown(false)
		pass(2 * time.Second) // the next look is a second away
		d.SignOut(c)
		pass(5 * time.Second)
		assert.ErrorIs(t, context.Cause(ctx), dssauth.ErrUnauthenticated)
	})
}

// A look that failed because DSS was down is not judged as if DSS had been up.
func TestOutageThatEndsDuringALookEndsNoConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		m := newAuth(t, dssauth.Config{Client: client, StaleIfError: time.Hour, TTL: 3 * time.Second})
		slow := m.Require(func(r *http.Request, _ dssauth.Identity) error {
			if r.Context().Value(http.LocalAddrContextKey) == nil { // it is asked again
				pass(1500 * time.Millisecond) // our own question ends meanwhile
			}
			return nil
		})
		r := signedIn(d, "ann")
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, "here"))
		ctx, cancel := connect(t, m, r, time.Second, slow)
		defer cancel()
		for range 20 {
			d.SetDown(true)
			pass(10 * time.Second)
			require.NoError(t, ctx.Err())
			d.SetDown(false)
			pass(10 * time.Second)
			require.NoError(t, ctx.Err())
		}
	})
}

// A gate that cannot answer proves nothing about the visitor. The connection ends when
// the gate has not answered for every + TTL.
func TestGateThatCannotAnswerIsAFailedLook(t *testing.T) {
	for name, fail := range map[string]func() error{
		"an error":           func() error { return errBroken },
		"ErrUnavailable":     func() error { return dssauth.ErrUnavailable },
		"ErrUnauthenticated": func() error { return dssauth.ErrUnauthenticated },
		"a panic":            func() error { panic("no") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newAuth(t, dssauth.Config{Resolver: resolver(byCookie)})
				var failing atomic.Bool
				gate := m.Require(func(*http.Request, dssauth.Identity) error {
					if failing.Load() {
						return fail()
					}
					return nil
				})
				ctx, cancel := connect(t, m, browser("ann"), time.Second, gate)
				defer cancel()
				other, cancelOther := connect(t, m, browser("ann"), time.Second)
				defer cancelOther()
				failing.Store(true)
				pass(9 * time.Second)
				require.NoError(t, ctx.Err())
				failing.Store(false)
				pass(2 * time.Second)
				failing.Store(true)
				pass(9 * time.Second)
				require.NoError(t, ctx.Err(), "it counts from when the gate last admitted her")
				pass(5 * time.Second)
				assert.ErrorIs(t, context.Cause(ctx), dssauth.ErrUnavailable)
				assert.NoError(t, other.Err(), "another connection of hers")
			})
		})
	}
}

func TestEveryGateThatAdmittedIsAskedAgain(t *testing.T) {
	for failing := range 4 {
		synctest.Test(t, func(t *testing.T) {
			m, other := newAuth(t, dssauth.Config{Resolver: resolver(byCookie)}), newAuth(t, dssauth.Config{Resolver: resolver(byCookie)})
			var verdicts [4]atomic.Pointer[error]
			ctx, cancel := connect(t, m, browser("ann"), time.Second,
				refuseOnly(m, &verdicts[0]), refuseOnly(m, &verdicts[1]), refuseOnly(other, &verdicts[3]), refuseOnly(m, &verdicts[2]))
			defer cancel()
			pass(10 * time.Second)
			require.NoError(t, ctx.Err())
			refusal := fmt.Errorf("no: %w", dssauth.ErrForbidden)
			verdicts[failing].Store(&refusal)
			pass(time.Second)
			synctest.Wait()
			if failing == 3 {
				assert.NoError(t, ctx.Err(), "the gate of another Middleware")
			} else {
				assert.ErrorIs(t, context.Cause(ctx), dssauth.ErrForbidden, "gate %d", failing)
			}
		})
	}
}

// A gate that is asked again reads the request's own data, although the server has
// reused the request's memory, and the router its context.
func TestGateReadsALastingCopy(t *testing.T) {
	type routers struct{}
	synctest.Test(t, func(t *testing.T) {
		m := newAuth(t, dssauth.Config{Resolver: resolver(func(context.Context, string) (dssauth.Identity, error) {
			return dssauth.NewIdentity("ann"), nil
		})})
		value := func() reused { return reused("ann") }
		memory := map[string]reused{}
		piece := func(name string) string {
			memory[name] = value()
			return memory[name].string()
		}
		read := func(r *http.Request) map[string]string {
			seen := map[string]string{
				"method": r.Method, "host": r.Host, "path": r.URL.Path, "query": r.URL.RawQuery, "remote": r.RemoteAddr, "uri": r.RequestURI,
				"header": r.Header.Get("X-Project"), "cookie": r.Header.Get("Cookie"), "path value": r.PathValue("key"), "form": r.Form.Get("key"),
			}
			for name, s := range seen {
				seen[name] = string([]byte(s))
			}
			return seen
		}
		var mu sync.Mutex
		var seen []map[string]string
		var again *http.Request
		gate := m.Require(func(r *http.Request, _ dssauth.Identity) error {
			mu.Lock()
			defer mu.Unlock()
			seen, again = append(seen, read(r)), r
			return nil
		})
		r := request("POST", "/")
		r.Method, r.Host, r.URL.Path, r.URL.RawQuery, r.RemoteAddr, r.RequestURI = piece("method"), piece("host"), piece("path"), piece("query"), piece("remote"), piece("uri")
		r.Header = http.Header{"X-Project": {piece("header")}, "Cookie": {piece("cookie")}}
		r.Pattern = "/projects/{key}"
		r.SetPathValue("key", piece("path value"))
		r.Form = map[string][]string{"key": {piece("form")}}
		r = r.WithContext(context.WithValue(r.Context(), routers{}, "of this request"))
		ctx, cancel := connect(t, m, r, time.Second, gate)
		defer cancel()
		for _, m := range memory {
			m.becomes("bob")
		}
		pass(3 * time.Second)
		require.NoError(t, ctx.Err())
		mu.Lock()
		defer mu.Unlock()
		require.GreaterOrEqual(t, len(seen), 3)
		for _, s := range seen {
			assert.Equal(t, seen[0], s)
		}
		assert.Nil(t, again.Context().Value(routers{}))
		assert.Equal(t, http.NoBody, again.Body)
		id, ok := dssauth.FromContext(again.Context())
		assert.True(t, ok)
		assert.Equal(t, "ann", id.Login)
	})
}

// Not every router that sets path values sets the pattern as well.
func TestGateReadsLastingPathValuesOfAnyRouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newAuth(t, dssauth.Config{Resolver: resolver(byCookie)})
		seen := make(chan string, 100)
		gate := m.Require(func(r *http.Request, _ dssauth.Identity) error {
			seen <- r.PathValue("key") + " " + r.PathValue("of")
			return nil
		})
		name, value := reused("key"), reused("ann")
		r := browser("ann")
		r.SetPathValue(name.string(), value.string())
		r.SetPathValue("of", "ann")
		_, cancel := connect(t, m, r, time.Second, gate)
		defer cancel()
		require.Equal(t, "ann ann", string([]byte(<-seen)))
		name.becomes("KEY")
		value.becomes("bob")
		for range 3 {
			assert.Equal(t, "ann ann", <-seen)
		}
	})
}

func TestCancelWaitsForARunningGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newAuth(t, dssauth.Config{Resolver: resolver(byCookie)})
		var first sync.Once
		entered, release := make(chan struct{}), make(chan struct{})
		gate := m.Require(func(r *http.Request, _ dssauth.Identity) error {
			admitted := true
			first.Do(func() { admitted = false })
			if admitted { // asked again
				close(entered)
				<-r.Context().Done()
				<-release
			}
			return nil
		})
		_, cancel := connect(t, m, browser("ann"), time.Second, gate)
		<-entered
		canceled := make(chan struct{})
		go func() {
			cancel()
			close(canceled)
		}()
		synctest.Wait()
		select {
		case <-canceled:
			t.Error("cancel returned while the gate runs")
		default:
		}
		close(release)
		<-canceled
	})
}

func TestConnectionsOfOneVisitorShareLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const connections, every, intervals = 100, 3 * time.Second, 40
		dss := resolver(slowly(50*time.Millisecond, byCookie))
		m := newAuth(t, dssauth.Config{Resolver: dss})
		var all []context.Context
		for range connections {
			ctx, cancel := connect(t, m, browser("ann"), every)
			defer cancel()
			all = append(all, ctx)
			pass(17 * time.Millisecond) // they do not begin at one moment
		}
		before := dss.calls.Load()
		pass(intervals * every)
		calls := dss.calls.Load() - before
		// An interval is up to a tenth shorter, as the life of an answer is.
		assert.LessOrEqual(t, calls, int64(intervals*10/9+1))
		assert.GreaterOrEqual(t, calls, int64(intervals-1), "and not fewer: it is asked")
		for _, ctx := range all {
			assert.NoError(t, ctx.Err())
		}
	})
}

func TestVisitorsAreAskedAboutAtDifferentMoments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const visitors = 100
		var mu sync.Mutex
		moments := map[time.Duration]bool{}
		start := time.Now()
		dss := resolver(func(ctx context.Context, cookie string) (dssauth.Identity, error) {
			mu.Lock()
			defer mu.Unlock()
			moments[time.Since(start)] = true
			return byCookie(ctx, cookie)
		})
		m := newAuth(t, dssauth.Config{Resolver: dss})
		for i := range visitors {
			_, cancel := connect(t, m, browser(fmt.Sprint("user", i)), 10*time.Second)
			defer cancel()
		}
		pass(10 * time.Second)
		synctest.Wait()
		assert.Greater(t, len(moments), visitors/2)
	})
}

func TestShortIntervalIsRaisedToTheLeast(t *testing.T) {
	for _, every := range []time.Duration{-time.Hour, 1, 100*time.Millisecond - 1} {
		synctest.Test(t, func(t *testing.T) {
			dss := resolver(byCookie)
			m := newAuth(t, dssauth.Config{Resolver: dss})
			_, cancel := connect(t, m, browser("ann"), every)
			defer cancel()
			pass(10 * time.Second)
			assert.LessOrEqual(t, dss.calls.Load(), int64(113))
			assert.GreaterOrEqual(t, dss.calls.Load(), int64(99))
		})
	}
}

func TestConnectionEndsWithItsRequestOrTheMiddleware(t *testing.T) {
	errStop := errors.New("the handler had enough")
	for _, test := range []struct {
		name  string
		end   func(m *dssauth.Middleware, cancel context.CancelFunc, request context.CancelCauseFunc)
		cause error
	}{
		{"its cancel function", func(_ *dssauth.Middleware, cancel context.CancelFunc, _ context.CancelCauseFunc) { cancel() }, context.Canceled},
		{"the end of its request", func(_ *dssauth.Middleware, _ context.CancelFunc, end context.CancelCauseFunc) { end(errStop) }, errStop},
		{"Close", func(m *dssauth.Middleware, _ context.CancelFunc, _ context.CancelCauseFunc) { _ = m.Close() }, dssauth.ErrUnavailable},
	} {
		for _, moment := range []string{"between two looks", "during a look"} {
			t.Run(test.name+", "+moment, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					dss := resolver(byCookie)
					m := newAuth(t, dssauth.Config{Resolver: dss})
					parent, endRequest := context.WithCancelCause(t.Context())
					defer endRequest(nil)
					var asked atomic.Int64
					ctx, cancel := connect(t, m, browser("ann").WithContext(parent), time.Second, m.Require(func(*http.Request, dssauth.Identity) error {
						asked.Add(1)
						return nil
					}))
					defer cancel()
					synctest.Wait()
					if moment == "during a look" {
						dss.does(hangs)
						pass(time.Second)
						synctest.Wait()
						require.EqualValues(t, 1, dss.inFlight.Load())
					}
					start := time.Now()
					test.end(m, cancel, endRequest)
					synctest.Wait()
					assert.Zero(t, time.Since(start))
					assert.ErrorIs(t, context.Cause(ctx), test.cause)
					asked.Store(0)
					pass(time.Minute)
					assert.Zero(t, asked.Load(), "nothing goes on")
				})
			})
		}
	}
}

func TestConnectionWithoutItsVisitorEndsAtOnce(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: resolver(byCookie)})
	authenticated := func(t *testing.T) *http.Request {
		r, err := m.Authenticate(browser("ann"))
		require.NoError(t, err)
		return r
	}
	other := newAuth(t, dssauth.Config{Resolver: resolver(byCookie)})
	closed := newAuth(t, dssauth.Config{Resolver: resolver(byCookie)})
	require.NoError(t, closed.Close())
	for _, test := range []struct {
		name  string
		m     *dssauth.Middleware
		r     func(*testing.T) *http.Request
		cause error
	}{
		{"no middleware ran", m, func(*testing.T) *http.Request { return browser("ann") }, nil},
		{"another middleware ran", other, authenticated, nil},
		{"the cookies were changed since", m, func(t *testing.T) *http.Request {
			r := authenticated(t)
			r.Header.Set("Cookie", "session=bob")
			return r
		}, dssauth.ErrUnauthenticated},
		{"the cookies were removed since", m, func(t *testing.T) *http.Request {
			r := authenticated(t)
			r.Header.Del("Cookie")
			return r
		}, dssauth.ErrUnauthenticated},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := test.m.WhileSignedIn(test.r(t), time.Second)
			defer cancel()
			require.Error(t, ctx.Err())
			require.Error(t, context.Cause(ctx))
			if test.cause != nil {
				assert.ErrorIs(t, context.Cause(ctx), test.cause)
			}
		})
	}
	t.Run("the middleware was closed since", func(t *testing.T) {
		m := newAuth(t, dssauth.Config{Resolver: resolver(byCookie)})
		r, err := m.Authenticate(browser("ann"))
		require.NoError(t, err)
		require.NoError(t, m.Close())
		ctx, cancel := m.WhileSignedIn(r, time.Second)
		defer cancel()
		assert.ErrorIs(t, context.Cause(ctx), dssauth.ErrUnavailable)
	})
}

func TestConnectionOfNewContextLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := resolver(byCookie)
		m := newAuth(t, dssauth.Config{Resolver: dss})
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r = r.WithContext(dssauth.NewContext(r.Context(), dssauth.NewIdentity("ann")))
		ctx, cancel := m.WhileSignedIn(r, time.Second)
		pass(time.Hour)
		assert.NoError(t, ctx.Err())
		assert.Zero(t, dss.calls.Load())
		cancel()
		assert.ErrorIs(t, context.Cause(ctx), context.Canceled)
	})
}

// chi gives its route context to the next request when a handler has returned.
func TestChiGateReadsItsOwnPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newAuth(t, dssauth.Config{Resolver: resolver(byCookie)})
		var asked, wrong atomic.Int64
		gate := m.Require(func(r *http.Request, _ dssauth.Identity) error {
			asked.Add(1)
			if "/projects/"+r.PathValue("key") != r.URL.Path {
				wrong.Add(1)
			}
			return nil
		})
		router := chi.NewRouter()
		router.Use(m.Handler)
		var watched []context.Context
		router.With(gate).Get("/projects/{key}", func(_ http.ResponseWriter, r *http.Request) {
			ctx, _ := m.WhileSignedIn(r.WithContext(context.WithoutCancel(r.Context())), time.Second)
			watched = append(watched, ctx)
		})
		for i := range 100 {
			r := browser("ann")
			r.URL.Path = fmt.Sprint("/projects/P", i)
			require.Equal(t, 200, serve(router, r).Code)
		}
		for range 10 {
			pass(time.Second)
			for i := range 100 { // other requests, which get the same contexts
				r := browser("bob")
				r.URL.Path = fmt.Sprint("/elsewhere/", i)
				serve(router, r)
			}
		}
		assert.Greater(t, asked.Load(), int64(1000))
		assert.Zero(t, wrong.Load())
		for _, ctx := range watched {
			assert.NoError(t, ctx.Err())
		}
	})
}

func TestAuthenticateBehindAGateKeepsTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ann := newScene(dssauth.NewIdentity("ann", "analysts"))
		m := newAuth(t, dssauth.Config{Resolver: ann})
		var ctx context.Context
		var cancel context.CancelFunc
		h := m.RequireGroup("analysts")(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			r, err := m.Authenticate(r)
			require.NoError(t, err)
			ctx, cancel = m.WhileSignedIn(r, time.Second)
		}))
		require.Equal(t, 200, serve(h, browser("ann")).Code)
		defer cancel()
		ann.changes(dssauth.NewIdentity("ann", "readers"), nil)
		pass(5 * time.Second)
		assert.ErrorIs(t, context.Cause(ctx), dssauth.ErrForbidden)
	})
}

// A gate may rely on those in front of it.
func TestOuterGatesAreAskedAgainFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ann := newScene(dssauth.NewIdentity("ann", "analysts"))
		m := newAuth(t, dssauth.Config{Resolver: ann})
		inner := m.Require(func(_ *http.Request, id dssauth.Identity) error {
			if !id.InGroup("analysts") {
				panic("the outer gate admits analysts only")
			}
			return nil
		})
		ctx, cancel := connect(t, m, browser("ann"), time.Second, m.RequireGroup("analysts"), inner)
		defer cancel()
		ann.changes(dssauth.NewIdentity("ann", "readers"), nil)
		pass(2 * time.Second)
		assert.ErrorIs(t, context.Cause(ctx), dssauth.ErrForbidden)
	})
}

func TestGateErrorThatCannotBeReadIsAFailedLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newAuth(t, dssauth.Config{Resolver: resolver(byCookie)})
		var failing atomic.Bool
		var none *nilError
		ctx, cancel := connect(t, m, browser("ann"), time.Second, m.Require(func(r *http.Request, _ dssauth.Identity) error {
			if failing.Load() {
				return none
			}
			return nil
		}))
		defer cancel()
		failing.Store(true)
		pass(5 * time.Second)
		require.NoError(t, ctx.Err())
		failing.Store(false)
		pass(time.Minute)
		require.NoError(t, ctx.Err())
	})
}

func TestGateOfAClosedMiddlewareIsAFailedLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, other := newAuth(t, dssauth.Config{Resolver: resolver(byCookie)}), newAuth(t, dssauth.Config{Resolver: resolver(byCookie)})
		require.NoError(t, other.Close())
		var failing atomic.Bool
		ctx, cancel := connect(t, m, browser("ann"), time.Second, m.Require(func(r *http.Request, _ dssauth.Identity) error {
			if failing.Load() {
				_, err := other.Authenticate(browser("ann"))
				return err
			}
			return nil
		}))
		defer cancel()
		failing.Store(true)
		pass(5 * time.Second)
		assert.NoError(t, ctx.Err())
	})
}

// An old answer admits a new request, and the new request asks the gates.
func TestGateEndsAConnectionInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		m := newAuth(t, dssauth.Config{Client: client, StaleIfError: time.Hour})
		var verdict atomic.Pointer[error]
		ann := signedIn(d, "ann")
		gate := refuseOnly(m, &verdict)
		ctx, cancel := connect(t, m, ann, time.Second, gate)
		defer cancel()
		d.SetDown(true)
		pass(30 * time.Second)
		require.NoError(t, ctx.Err())
		no := fmt.Errorf("no: %w", dssauth.ErrForbidden)
		verdict.Store(&no)
		require.Equal(t, 403, serve(m.Handler(gate(whoami)), ann).Code, "a new request")
		pass(10 * time.Second)
		assert.ErrorIs(t, context.Cause(ctx), dssauth.ErrForbidden)
	})
}

func TestGateCannotChangeItsNextRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newAuth(t, dssauth.Config{Resolver: resolver(byCookie)})
		var mu sync.Mutex
		var seen [][]string
		gate := m.Require(func(r *http.Request, _ dssauth.Identity) error {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, append([]string{r.URL.Path}, r.Header["X-Seen"]...))
			r.Header.Add("X-Seen", "yes")
			r.URL.Path += "/seen"
			return nil
		})
		_, cancel := connect(t, m, browser("ann"), time.Second, gate)
		defer cancel()
		pass(5 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		for _, s := range seen[1:] {
			assert.Equal(t, seen[1], s)
		}
	})
}

func TestCloseEndsARunningGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newAuth(t, dssauth.Config{Resolver: resolver(byCookie), Timeout: time.Minute})
		var asked atomic.Int64
		ctx, cancel := connect(t, m, browser("ann"), time.Second, m.Require(func(r *http.Request, _ dssauth.Identity) error {
			if asked.Add(1) > 1 {
				<-r.Context().Done()
				return r.Context().Err()
			}
			return nil
		}))
		defer cancel()
		pass(2 * time.Second)
		synctest.Wait()
		start := time.Now()
		assert.NoError(t, m.Close())
		assert.Zero(t, time.Since(start))
		assert.ErrorIs(t, context.Cause(ctx), dssauth.ErrUnavailable)
	})
}

// If a refusal may mean the visitor or us, no old answer stands in.
func TestConnectionOfARefusedVisitorIsNotBridged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		m := newAuth(t, dssauth.Config{Client: w.client, StaleIfError: time.Hour, TTL: 3 * time.Second})
		c := w.SignIn("ann")
		ann := withCookies(c.Name + "=" + c.Value)
		ctx, cancel := connect(t, m, ann, 3*time.Second)
		defer cancel()
		pass(5 * time.Second)
		require.NoError(t, ctx.Err())
		w.SignOut(c)
		w.behaves(ownInfoPath, badGateway)
		pass(3 * time.Second)
		require.NoError(t, ctx.Err(), "a refusal that may mean us ends no connection")
		pass(5 * time.Second)
		require.True(t, m.Stats().DSSDown)
		require.Equal(t, "503", who(m, ann))
		assert.ErrorIs(t, context.Cause(ctx), dssauth.ErrUnavailable)
	})
}

// A gate that does not even end with its context.
func TestHangingGateKeepsNoConnectionOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const every, ttl, timeout = time.Second, 10 * time.Second, 5 * time.Second
		m := newAuth(t, dssauth.Config{Resolver: resolver(byCookie), TTL: ttl, Timeout: timeout})
		var asked, running atomic.Int64
		release := make(chan struct{})
		ctx, cancel := connect(t, m, browser("ann"), every, m.Require(func(*http.Request, dssauth.Identity) error {
			running.Add(1)
			defer running.Add(-1)
			if asked.Add(1) > 1 {
				<-release
			}
			return nil
		}))
		pass(every + timeout)
		synctest.Wait()
		require.NoError(t, ctx.Err(), "a failed look ends nothing")
		pass(ttl)
		synctest.Wait()
		assert.ErrorIs(t, context.Cause(ctx), dssauth.ErrUnavailable)
		assert.EqualValues(t, 1, running.Load(), "it is not asked twice at once")
		canceled := make(chan struct{})
		go func() {
			cancel()
			close(canceled)
		}()
		synctest.Wait()
		close(release)
		<-canceled
		assert.Zero(t, running.Load(), "the CancelFunc waits for it")
	})
}

func TestUnwrappedStreamIsLogged(t *testing.T) {
	var book logBook
	m := newAuth(t, dssauth.Config{Resolver: newDoorman(), Logger: book.logger()})
	mux := http.NewServeMux()
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		allowed, stop := m.WhileSignedIn(r, 0)
		defer stop()
		assert.Error(t, allowed.Err())
		m.Refuse(w, r, context.Cause(allowed))
	})
	assert.Equal(t, 500, serve(mux, request("GET", "/events", "Cookie", "session=ann")).Code)
	lines := book.with("wrap the handler with Middleware.Handler")
	require.Len(t, lines, 1)
	assert.Contains(t, lines[0], "route=/events")
}

// A stranger must not cause a log line about a mistake of the application.
func TestStreamOfAnAnonymousVisitorEnds(t *testing.T) {
	var book logBook
	m := newAuth(t, dssauth.Config{Resolver: newDoorman(), Logger: book.logger()})
	stream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		allowed, stop := m.WhileSignedIn(r, 0)
		defer stop()
		assert.ErrorIs(t, context.Cause(allowed), dssauth.ErrUnauthenticated)
		m.Refuse(w, r, context.Cause(allowed))
	})
	assert.Equal(t, 401, serve(m.Optional(stream), request("GET", "/events")).Code)
	assert.Equal(t, 401, serve(m.Optional(stream), request("GET", "/events", "Cookie", "session=who")).Code)
	r := request("GET", "/events")
	assert.Equal(t, 401, serve(stream, r.WithContext(dssauth.NewContext(r.Context(), dssauth.Identity{}))).Code)
	assert.Empty(t, book.with("level=ERROR"))
}
