package promises

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
)

// told records the calls of hooks, in order.
type told struct {
	mu    sync.Mutex
	order []string
}

func (b *told) note(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.order = append(b.order, what)
}

// all returns the records, and begins again.
func (b *told) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer func() { b.order = nil }()
	return slices.Clone(b.order)
}

type spanKey struct{}

// spans is like a tracer: the span is in the context, and its end ends the span in its
// own context.
func (b *told) spans(name string) dssauth.Hooks {
	return dssauth.Hooks{
		LookupStart: func(ctx context.Context, _ bool) context.Context {
			within, _ := ctx.Value(spanKey{}).(string)
			b.note("start " + name + " in " + within)
			return context.WithValue(ctx, spanKey{}, name)
		},
		LookupEnd: func(ctx context.Context, l dssauth.Lookup) {
			span, _ := ctx.Value(spanKey{}).(string)
			b.note("end " + span + " by " + name + ", " + string(l.Outcome))
		},
		Refused: func(*http.Request, error) { b.note("refused " + name) },
	}
}

func TestJoinedHooksEachEndTheirOwnSpan(t *testing.T) {
	for name, join := range map[string]func(a, b, c dssauth.Hooks) dssauth.Hooks{
		"at once": func(a, b, c dssauth.Hooks) dssauth.Hooks {
			return dssauth.JoinHooks(a, dssauth.Hooks{}, b, c)
		},
		"twice": func(a, b, c dssauth.Hooks) dssauth.Hooks {
			return dssauth.JoinHooks(dssauth.JoinHooks(a, b), dssauth.JoinHooks(dssauth.JoinHooks(), dssauth.JoinHooks(c)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var book told
				var inside any
				m := newAuth(t, dssauth.Config{
					Hooks: join(book.spans("a"), book.spans("b"), book.spans("c")),
					Resolver: resolver(func(ctx context.Context, cookie string) (dssauth.Identity, error) {
						inside = ctx.Value(spanKey{})
						return byCookie(ctx, cookie)
					}),
				})
				require.Equal(t, "ann", who(m, browser("ann")))
				require.Equal(t, "ann", who(m, browser("ann")), "a hit, of which hooks are not told")
				synctest.Wait()
				assert.Equal(t, "c", inside)
				assert.Equal(t, []string{
					"start a in ", "start b in a", "start c in b",
					"end c by c, identified", "end b by b, identified", "end a by a, identified",
				}, book.all())
				require.Equal(t, "401", who(m, httptest.NewRequest(http.MethodGet, "/", nil)))
				assert.Equal(t, []string{"refused a", "refused b", "refused c"}, book.all())
			})
		})
	}
}

// A hook that returns a new context removes neither other hooks' contexts nor the
// lookup's deadline.
func TestJoinedHookWithAContextOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book told
		deadline := false
		m := newAuth(t, dssauth.Config{
			Hooks: dssauth.JoinHooks(book.spans("a"), dssauth.Hooks{
				LookupStart: func(context.Context, bool) context.Context { return context.Background() },
			}),
			Resolver: resolver(func(ctx context.Context, cookie string) (dssauth.Identity, error) {
				_, deadline = ctx.Deadline()
				return byCookie(ctx, cookie)
			}),
		})
		require.Equal(t, "ann", who(m, browser("ann")))
		synctest.Wait()
		assert.True(t, deadline)
		assert.Equal(t, []string{"start a in ", "end a by a, identified"}, book.all())
	})
}

// A hook that fails in any way does not keep the others before and after it from their
// calls.
func TestFailingJoinedHookDoesNotStopOthers(t *testing.T) {
	for end, quit := range map[string]func(){"a panic": func() { panic("secret") }, "Goexit": runtime.Goexit} {
		for hook, broken := range map[string]dssauth.Hooks{
			"LookupStart": {LookupStart: func(context.Context, bool) context.Context { quit(); return nil }},
			"LookupEnd":   {LookupEnd: func(context.Context, dssauth.Lookup) { quit() }},
			"Refused":     {Refused: func(*http.Request, error) { quit() }},
		} {
			t.Run(end+" in "+hook, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var book told
					var logs logBook
					hooks := dssauth.JoinHooks(dssauth.JoinHooks(book.spans("a"), broken, book.spans("b")), book.spans("c"))
					m := newAuth(t, dssauth.Config{Resolver: resolver(byCookie), Hooks: hooks, Logger: logs.logger()})
					got := asks(m, browser("ann"))
					synctest.Wait()
					if end == "Goexit" && hook == "LookupStart" { // it ends the lookup, too
						assert.Equal(t, "503", <-got)
						assert.Equal(t, []string{
							"start a in ", "start b in a", "end b by b, unavailable", "end a by a, unavailable",
							"start c in ", "end c by c, unavailable",
							"refused a", "refused b", "refused c",
						}, book.all())
						return
					}
					assert.Equal(t, "ann", <-got)
					assert.Equal(t, []string{
						"start a in ", "start b in a", "start c in b",
						"end c by c, identified", "end b by b, identified", "end a by a, identified",
					}, book.all())
					ended := make(chan struct{})
					go func() { // which Goexit ends
						defer close(ended)
						who(m, httptest.NewRequest(http.MethodGet, "/", nil))
					}()
					<-ended
					assert.Equal(t, []string{"refused a", "refused b", "refused c"}, book.all())
					if end == "a panic" {
						assert.NotEmpty(t, logs.with("hook="+hook))
						assert.Empty(t, logs.with("secret"), "its value is not logged")
					}
				})
			})
		}
	}
}

// A stranger's requests must not fill the log.
func TestPanicOfAHookIsLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		broken := dssauth.Hooks{
			LookupStart: func(context.Context, bool) context.Context { panic("start") },
			LookupEnd:   func(context.Context, dssauth.Lookup) { panic("end") },
			Refused:     func(*http.Request, error) { panic("refused") },
		}
		m := newAuth(t, dssauth.Config{Resolver: newDoorman(), Logger: book.logger(), Hooks: broken, RefusalTTL: -1})
		defer m.Close()
		for minute := 1; minute <= 2; minute++ {
			for range 50 {
				assert.Equal(t, "401", who(m, withCookies("session=who")))
			}
			synctest.Wait()
			for _, hook := range []string{"LookupStart", "LookupEnd", "Refused"} {
				assert.Len(t, book.with("hook="+hook), minute, hook)
			}
			pass(time.Minute)
		}
	})
}
