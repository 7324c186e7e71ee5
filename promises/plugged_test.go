package promises

import (
	"context"
	"log/slog"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

// nilError is an error whose methods need a cause: a nil pointer to it is an
// error too, and panics when it is read.
type nilError struct{ cause error }

func (e *nilError) Error() string { return e.cause.Error() }
func (e *nilError) Unwrap() error { return e.cause }

// brokenLog is a handler of a Logger that panics.
type brokenLog struct{ slog.Handler }

func (brokenLog) Enabled(context.Context, slog.Level) bool { return true }

func (brokenLog) Handle(context.Context, slog.Record) error { panic("no space left on device") }

func TestPluggedInCodeBreaksOneLookupOnly(t *testing.T) {
	once := func() func(func()) {
		first := true
		return func(do func()) {
			if first {
				first = false
				do()
			}
		}
	}
	broken := func(do func()) dssauth.Resolver {
		first := once()
		return resolver(func(ctx context.Context, cookie string) (dssauth.Identity, error) {
			first(do)
			return byCookie(ctx, cookie)
		})
	}
	var none *nilError
	failing := once()
	for name, c := range map[string]dssauth.Config{
		"the resolver ends its goroutine":                 {Resolver: broken(runtime.Goexit)},
		"the hook at a lookup's start ends its goroutine": hookedAtStart(once(), runtime.Goexit),
		"the resolver's error is a nil pointer": {Resolver: resolver(func(ctx context.Context, cookie string) (id dssauth.Identity, err error) {
			id, err = byCookie(ctx, cookie)
			failing(func() { err = none })
			return id, err
		})},
		"the resolver panics, and so does the logger": {Resolver: broken(func() { panic("broken") }), Logger: slog.New(brokenLog{})},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newAuth(t, c)
				assert.Equal(t, "503", who(m, browser("ann")))
				synctest.Wait()
				assert.Zero(t, m.Stats().InFlight, "its place is given back")
				assert.Equal(t, "ann", who(m, browser("ann")))
			})
		})
	}
}

func hookedAtStart(first func(func()), do func()) dssauth.Config {
	return dssauth.Config{Resolver: resolver(byCookie), Hooks: dssauth.Hooks{
		LookupStart: func(context.Context, bool) context.Context {
			first(do)
			return nil
		},
	}}
}

func TestPanicsInHookAndLoggerEndNoProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newAuth(t, dssauth.Config{Resolver: resolver(byCookie), Logger: slog.New(brokenLog{}), Hooks: dssauth.Hooks{
			LookupEnd: func(context.Context, dssauth.Lookup) { panic("broken") },
		}})
		assert.Equal(t, "ann", who(m, browser("ann")))
		synctest.Wait()
		assert.Equal(t, "bob", who(m, browser("bob")))
	})
}

func TestGateThatExitsIsAFailedLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newAuth(t, dssauth.Config{Resolver: resolver(byCookie)})
		var exits atomic.Bool
		ctx, cancel := connect(t, m, browser("ann"), time.Second, m.Require(func(*http.Request, dssauth.Identity) error {
			if exits.Load() {
				runtime.Goexit()
			}
			return nil
		}))
		defer cancel()
		exits.Store(true)
		pass(5 * time.Second)
		exits.Store(false)
		pass(time.Minute)
		require.NoError(t, ctx.Err(), "it is asked again")
		exits.Store(true)
		pass(time.Minute)
		assert.ErrorIs(t, context.Cause(ctx), dssauth.ErrUnavailable)
	})
}

func TestResolverCannotChangeTheNextQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := make(chan http.Header, 10)
		m := newAuth(t, dssauth.Config{Resolver: resolveFunc(func(_ context.Context, h http.Header) (dssauth.Identity, error) {
			asked <- h.Clone()
			h.Set("Cookie", h.Get("Cookie")+"; session=bob")
			h.Set("Authorization", "Bearer "+ownKey)
			return dssauth.NewIdentity("ann"), nil
		})})
		r, err := m.Authenticate(browser("ann"))
		require.NoError(t, err)
		_, cancel := m.WhileSignedIn(r, time.Second)
		defer cancel()
		for range 4 {
			assert.Equal(t, http.Header{"Cookie": {"session=ann"}}, <-asked)
		}
	})
}

// curiousError is an error of plugged-in code, whose methods ask the Middleware
// something.
type curiousError struct{ ask func() }

func (e curiousError) Error() string { return "curious" }

func (e curiousError) Is(error) bool {
	e.ask()
	return false
}

func (e curiousError) As(any) bool {
	e.ask()
	return false
}

// Under a lock, such a method would wait for ever, and no visitor would be
// served any more.
func TestPluggedInErrorsAreReadWithoutALock(t *testing.T) {
	for _, from := range []string{"a resolver", "a transport, for a lookup", "a transport, for our own question"} {
		t.Run(from, func(t *testing.T) {
			var m *dssauth.Middleware
			var read, locked atomic.Int64
			curious := curiousError{func() {
				read.Add(1)
				answered := make(chan struct{})
				go func() {
					defer close(answered)
					m.Stats()
				}()
				select {
				case <-answered:
				case <-time.After(10 * time.Second):
					locked.Add(1)
				}
			}}
			w := newWatched(t)
			c := dssauth.Config{Client: w.client}
			switch from {
			case "a resolver":
				c.Resolver = resolver(func(context.Context, string) (dssauth.Identity, error) { return dssauth.Identity{}, curious })
			case "a transport, for a lookup":
				w.wire = map[string]error{lookupPath: curious}
			default:
				w.wire = map[string]error{ownInfoPath: curious}
				w.behaves(lookupPath, dsstest.Respond(401, nobodyReply)) // which waits for the question
			}
			m = newAuth(t, c)
			assert.Equal(t, "503", who(m, browser("ann")))
			require.NoError(t, m.Close(), "work under way ends")
			assert.NotZero(t, read.Load())
			assert.Zero(t, locked.Load())
		})
	}
}
