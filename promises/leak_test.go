package promises

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// TestMain makes sure that the tests leave no goroutine behind.
func TestMain(m *testing.M) {
	flag.Parse()
	if fuzzing := flag.Lookup("test.fuzz"); fuzzing != nil && fuzzing.Value.String() != "" {
		os.Exit(m.Run()) // its workers' goroutines are not ours
	}
	goleak.VerifyTestMain(m)
}

func TestNothingIsLeftAfterClose(t *testing.T) {
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "ann"})
	before := goleak.IgnoreCurrent()
	client, err := dss.New(dss.Config{URL: fake.URL(), APIKey: fake.AdminKey()})
	require.NoError(t, err)
	m := newAuth(t, dssauth.Config{Client: client, Timeout: 2 * time.Second})
	app := httptest.NewServer(m.Handler(sayLogin))
	browsers := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}}
	get := func(ctx context.Context, cookie *http.Cookie) {
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, app.URL, nil)
		r.AddCookie(cookie)
		if reply, err := browsers.Do(r); err == nil {
			_ = reply.Body.Close()
		}
	}

	var visits sync.WaitGroup
	for i := range 50 {
		visits.Go(func() {
			get(t.Context(), fake.SignIn("ann"))
			get(t.Context(), &http.Cookie{Name: "junk", Value: fmt.Sprint(i)})
		})
	}
	visits.Wait()
	var cancels []context.CancelFunc
	for range 20 {
		_, cancel := connect(t, m, signedIn(fake.DSS, "ann"), 200*time.Millisecond)
		cancels = append(cancels, cancel)
	}
	for _, cancel := range cancels[:10] {
		cancel()
	}
	fake.Intercept("", -1, dsstest.Hang)
	for range 20 { // visitors who leave while DSS hangs
		visits.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			get(ctx, fake.SignIn("ann"))
		})
	}
	visits.Wait()

	app.Close()
	browsers.CloseIdleConnections()
	require.NoError(t, m.Close())
	client.CloseIdleConnections()
	err = goleak.Find(before, goleak.IgnoreAnyFunction("net/http.(*conn).serve")) // those are the fake's
	require.NoError(t, err)
	t.Log("figure: 0 goroutines left after Close and CloseIdleConnections")
	for _, cancel := range cancels {
		cancel()
	}
}

func TestCancelledConnectionsLeaveNothing(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: resolver(byCookie)})
	before := goleak.IgnoreCurrent()
	for range 1000 {
		_, cancel := connect(t, m, browser("ann"), time.Hour)
		cancel()
	}
	assert.NoError(t, goleak.Find(before), "although the Middleware lives on")
}

func TestClose(t *testing.T) {
	for _, test := range []struct {
		name  string
		close func(*dssauth.Middleware) []error
	}{
		{"once", func(m *dssauth.Middleware) []error { return []error{m.Close()} }},
		{"twice", func(m *dssauth.Middleware) []error { return []error{m.Close(), m.Close()} }},
		{"by many at once", func(m *dssauth.Middleware) []error {
			errs := make([]error, 20)
			var all sync.WaitGroup
			for i := range errs {
				all.Go(func() { errs[i] = m.Close() })
			}
			all.Wait()
			return errs
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dss := resolver(byCookie)
				m := newAuth(t, dssauth.Config{Resolver: dss, MaxLookups: 2})
				require.Equal(t, "ann", who(m, browser("ann")))
				authenticated, err := m.Authenticate(browser("ann"))
				require.NoError(t, err)
				require.Equal(t, "401", who(m, browser("nobody")))
				dss.does(hangs)
				waiting := newcomers(m, 10) // some of them in the queue
				ctx, cancel := m.WhileSignedIn(authenticated, time.Second)
				defer cancel()

				start := time.Now()
				for _, err := range test.close(m) {
					assert.NoError(t, err)
				}
				assert.Zero(t, time.Since(start))
				synctest.Wait()
				assert.Equal(t, 10, count(waiting, refused), "a waiting request is refused")
				assert.ErrorIs(t, context.Cause(ctx), dssauth.ErrUnavailable)
				dss.does(byCookie)
				calls := dss.calls.Load()
				for _, login := range []string{"ann", "bob", "nobody"} {
					assert.Equal(t, "503", who(m, browser(login)), "a remembered answer no longer counts")
					assert.Equal(t, "503", who(m, navigation(login)))
				}
				m.Forget(browser("ann"))
				m.ForgetUser("ann")
				assert.Zero(t, m.Stats().Entries)
				assert.Equal(t, calls, dss.calls.Load(), "and nobody is asked")
				assert.Zero(t, time.Since(start))
			})
		})
	}
}

func TestCloseReportsAResolverThatDoesNotReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := newScript(t)
		m := newAuth(t, dssauth.Config{Resolver: dss, Timeout: 3 * time.Second})
		got := asks(m, browser("ann"))
		synctest.Wait()
		start := time.Now()
		assert.ErrorContains(t, m.Close(), "Resolver")
		assert.Equal(t, 4*time.Second, time.Since(start))
		assert.Equal(t, "503", <-got)
		dss.say(0, dssauth.NewIdentity("ann"), nil)
		assert.Zero(t, m.Stats().Entries, "an answer after Close is not stored")
		assert.NoError(t, m.Close())
	})
}

// Requests, lookups and connections begin while another goroutine closes.
func TestCloseWhileVisitorsCome(t *testing.T) {
	for range 50 {
		m := newAuth(t, dssauth.Config{Resolver: resolver(slowly(time.Millisecond, byCookie)), TTL: -1})
		var all sync.WaitGroup
		var begun atomic.Int64
		half := make(chan struct{})
		for i := range 20 {
			all.Go(func() {
				for range 20 {
					r, err := m.Authenticate(browser(fmt.Sprint("user", i)))
					if begun.Add(1) == 200 {
						close(half)
					}
					if err != nil {
						assert.ErrorIs(t, err, dssauth.ErrUnavailable)
						continue
					}
					_, cancel := m.WhileSignedIn(r, time.Second)
					cancel()
				}
			})
		}
		<-half
		assert.NoError(t, m.Close())
		all.Wait()
		assert.Equal(t, "503", who(m, browser("ann")))
	}
}

func TestShutdownEndsWithVisitorsWaiting(t *testing.T) {
	fake := dsstest.NewServer(t)
	fake.Intercept("", -1, dsstest.Hang)
	m := newAuth(t, dssauth.Config{Client: fake.Client(), Timeout: 100 * time.Millisecond})
	inside := make(chan struct{}, 10)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inside <- struct{}{}
		m.Handler(sayLogin).ServeHTTP(w, r)
	}))
	defer app.Close()
	var visits sync.WaitGroup
	for i := range 10 {
		visits.Go(func() {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, app.URL, nil)
			r.AddCookie(&http.Cookie{Name: "session", Value: fmt.Sprint(i)})
			reply, err := app.Client().Do(r)
			if assert.NoError(t, err) {
				assert.Equal(t, http.StatusServiceUnavailable, reply.StatusCode)
				_ = reply.Body.Close()
			}
		})
	}
	for range 10 {
		<-inside
	}
	assert.NoError(t, app.Config.Shutdown(t.Context()))
	visits.Wait()
}

func TestClosedMiddlewareRefusesAsInAnOutage(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: resolver(byCookie)})
	require.NoError(t, m.Close())
	_, err := m.Authenticate(browser("ann"))
	require.ErrorIs(t, err, dssauth.ErrUnavailable)
	assert.False(t, errors.Is(err, dssauth.ErrUnauthenticated), "nobody was signed out")
	assert.ErrorContains(t, err, "closed")
}
