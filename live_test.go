package dssauth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
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

// scene is a resolver whose answer to everybody changes as the test goes on.
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

func (s *scene) signsOut() { s.changes(dssauth.Identity{}, dssauth.ErrUnauthenticated) }

// outage is an error by which DSS is taken to be down.
var outage = &dss.Error{StatusCode: http.StatusBadGateway}

// connect returns what a handler behind m holds for a connection of r's visitor.
func connect(t *testing.T, m *dssauth.Middleware, r *http.Request, every time.Duration, still func(dssauth.Identity, error) error) (context.Context, context.CancelFunc) {
	t.Helper()
	r, err := m.Authenticate(r)
	require.NoError(t, err)
	return m.WhileSignedIn(r, every, still)
}

func mustBeAnalyst(id dssauth.Identity, err error) error {
	if err == nil && !id.InGroup("analysts") {
		return dssauth.ErrForbidden
	}
	return err
}

func anyIdentity(dssauth.Identity, error) error { return nil }

func TestAConnectionEndsWithinItsIntervalAfter(t *testing.T) {
	for _, test := range []struct {
		name   string
		still  func(dssauth.Identity, error) error
		change answer
		cause  error
	}{
		{"sign-out", nil, answer{err: dssauth.ErrUnauthenticated}, dssauth.ErrUnauthenticated},
		{"a second sign-in as somebody else", nil, answer{id: dssauth.NewIdentity("bob", "analysts")}, dssauth.ErrUnauthenticated},
		{"a second sign-in as somebody else, whatever the application says", anyIdentity, answer{id: dssauth.NewIdentity("bob", "analysts")}, dssauth.ErrUnauthenticated},
		{"the session became an API key's", anyIdentity, answer{id: dssauth.Identity{APIKey: "ann"}}, dssauth.ErrUnauthenticated},
		{"a lost group", mustBeAnalyst, answer{id: dssauth.NewIdentity("ann", "readers")}, dssauth.ErrForbidden},
		{"an outage, by choice", mustBeAnalyst, answer{err: outage}, dssauth.ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const every = 5 * time.Second
				ann := newScene(dssauth.NewIdentity("ann", "analysts"))
				m := newAuth(t, dssauth.Config{Resolver: ann, AllowAPIKeys: true, TTL: time.Hour})
				ctx, cancel := connect(t, m, browser("ann"), every, test.still)
				defer cancel()
				pass(time.Minute)
				require.NoError(t, ctx.Err(), "it lasts while nothing changes")
				ann.changes(test.change.id, test.change.err)
				pass(every)
				synctest.Wait()
				assert.ErrorIs(t, context.Cause(ctx), test.cause)
				calls := ann.calls.Load()
				pass(time.Minute)
				assert.Equal(t, calls, ann.calls.Load(), "then nobody asks any more")
			})
		})
	}
}

func TestAnOutageIsWaitedOut(t *testing.T) {
	for _, test := range []struct {
		name  string
		stale time.Duration
	}{
		{"while no answer is bridged", 0},
		{"while an old answer bridges it for requests", time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				m := newAuth(t, dssauth.Config{Client: client, StaleIfError: test.stale})
				c := d.SignIn("ann")
				ctx, cancel := connect(t, m, withCookies(c.Name+"="+c.Value), time.Second, nil)
				defer cancel()
				pass(10 * time.Second)
				d.Intercept("", -1, dsstest.Respond(502, "<html>"))
				pass(time.Hour)
				require.True(t, m.Stats().DSSDown)
				require.NoError(t, ctx.Err())
				d.Intercept("", 0, nil)
				pass(10 * time.Second)
				require.NoError(t, ctx.Err())
				d.SignOut(c)
				pass(time.Second)
				synctest.Wait()
				assert.ErrorIs(t, context.Cause(ctx), dssauth.ErrUnauthenticated)
			})
		})
	}
}

func TestAnAnswerThatBridgesAnOutageDoesNotHideIt(t *testing.T) {
	for _, test := range []struct {
		name string
		ttl  time.Duration
	}{
		{"while it is young", time.Hour},
		{"after its end", 3 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				m := newAuth(t, dssauth.Config{Client: client, TTL: test.ttl, StaleIfError: time.Hour})
				ann := signedIn(d, "ann")
				ctx, cancel := connect(t, m, ann, 5*time.Second, mustBeAnalyst)
				defer cancel()
				d.Intercept("", -1, dsstest.Respond(502, "<html>"))
				pass(5 * time.Second)
				synctest.Wait()
				assert.ErrorIs(t, context.Cause(ctx), dssauth.ErrUnavailable)
				assert.Equal(t, "ann", who(m, ann), "requests are bridged all the same")
				assert.LessOrEqual(t, d.Calls(""), 5)
			})
		})
	}
}

func TestAHundredConnectionsOfOneVisitorAreOneLookupAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const connections, every, intervals = 100, 3 * time.Second, 40
		dss := resolver(slowly(50*time.Millisecond, byCookie))
		m := newAuth(t, dssauth.Config{Resolver: dss})
		var all []context.Context
		for range connections {
			ctx, cancel := connect(t, m, browser("ann"), every, nil)
			defer cancel()
			all = append(all, ctx)
			pass(17 * time.Millisecond) // they do not begin at one moment
		}
		before := dss.calls.Load()
		pass(intervals * every)
		assert.LessOrEqual(t, dss.calls.Load()-before, int64(intervals+1))
		assert.GreaterOrEqual(t, dss.calls.Load()-before, int64(intervals-1), "and not fewer: it is asked")
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
			_, cancel := connect(t, m, browser(fmt.Sprint("user", i)), 10*time.Second, nil)
			defer cancel()
		}
		pass(10 * time.Second)
		synctest.Wait()
		assert.Greater(t, len(moments), visitors/2)
	})
}

func TestNoIntervalIsTooShort(t *testing.T) {
	for _, every := range []time.Duration{-time.Hour, 0, 1, 100*time.Millisecond - 1} {
		synctest.Test(t, func(t *testing.T) {
			dss := resolver(byCookie)
			m := newAuth(t, dssauth.Config{Resolver: dss})
			_, cancel := connect(t, m, browser("ann"), every, nil)
			defer cancel()
			pass(10 * time.Second)
			assert.LessOrEqual(t, dss.calls.Load(), int64(102))
			assert.GreaterOrEqual(t, dss.calls.Load(), int64(99))
		})
	}
}

func TestWhatEndsAConnectionBeside(t *testing.T) {
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
					ctx, cancel := connect(t, m, browser("ann").WithContext(parent), time.Second, func(dssauth.Identity, error) error {
						asked.Add(1)
						return nil
					})
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

func TestAPanicInStillEndsItsConnectionOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newAuth(t, dssauth.Config{Resolver: resolver(byCookie)})
		one, cancelOne := connect(t, m, browser("ann"), time.Second, func(dssauth.Identity, error) error { panic("no") })
		defer cancelOne()
		two, cancelTwo := connect(t, m, browser("ann"), time.Second, nil)
		defer cancelTwo()
		pass(10 * time.Second)
		assert.ErrorIs(t, context.Cause(one), dssauth.ErrUnavailable)
		assert.NoError(t, two.Err())
		assert.Equal(t, "ann", who(m, browser("ann")))
	})
}

func TestStillIsToldWhatDSSSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ann := newScene(dssauth.NewIdentity("ann", "analysts"))
		m := newAuth(t, dssauth.Config{Resolver: ann, TTL: time.Hour})
		var told []string
		_, cancel := connect(t, m, browser("ann"), time.Second, func(id dssauth.Identity, err error) error {
			if err != nil {
				assert.Zero(t, id)
				told = append(told, http.StatusText(dssauth.StatusCode(err)))
			} else {
				told = append(told, id.Groups()...)
			}
			return nil
		})
		defer cancel()
		pass(time.Second)
		ann.changes(dssauth.NewIdentity("ann", "readers"), nil)
		pass(time.Second)
		ann.changes(dssauth.Identity{}, outage)
		pass(time.Second)
		ann.signsOut()
		pass(time.Second)
		synctest.Wait()
		assert.Equal(t, []string{"analysts", "readers", "Service Unavailable", "Unauthorized"}, told)
	})
}

func TestConnectionsThatNeverBegin(t *testing.T) {
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
			ctx, cancel := test.m.WhileSignedIn(test.r(t), time.Second, nil)
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
		ctx, cancel := m.WhileSignedIn(r, time.Second, nil)
		defer cancel()
		assert.ErrorIs(t, context.Cause(ctx), dssauth.ErrUnavailable)
	})
}

func TestAConnectionOfATestsIdentityLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := resolver(byCookie)
		m := newAuth(t, dssauth.Config{Resolver: dss})
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r = r.WithContext(dssauth.NewContext(r.Context(), dssauth.NewIdentity("ann")))
		ctx, cancel := m.WhileSignedIn(r, time.Second, nil)
		pass(time.Hour)
		assert.NoError(t, ctx.Err())
		assert.Zero(t, dss.calls.Load())
		cancel()
		assert.ErrorIs(t, context.Cause(ctx), context.Canceled)
	})
}
