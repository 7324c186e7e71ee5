package promises

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

// hookBook keeps the arguments of hooks.
type hookBook struct {
	mu      sync.Mutex
	started []bool // whether it was a renewal
	ended   []dssauth.Lookup
	refused []error
}

func (b *hookBook) hooks() dssauth.Hooks {
	return dssauth.Hooks{
		LookupStart: func(_ context.Context, renewal bool) context.Context {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.started = append(b.started, renewal)
			return nil
		},
		LookupEnd: func(_ context.Context, l dssauth.Lookup) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.ended = append(b.ended, l)
		},
		Refused: func(_ *http.Request, err error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.refused = append(b.refused, err)
		},
	}
}

// lookups returns how many lookups began and ended.
func (b *hookBook) lookups() (started, ended int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.started), len(b.ended)
}

func TestHooksSeeLookupsAndNoHits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book hookBook
		m := newAuth(t, dssauth.Config{Resolver: resolver(slowly(300*time.Millisecond, byCookie)), Hooks: book.hooks()})
		for range 10 {
			require.Equal(t, "ann", who(m, browser("ann")))
			require.Equal(t, "401", who(m, browser("nobody")))
		}
		pass(7 * time.Second)
		require.Equal(t, "ann", who(m, browser("ann")))
		pass(time.Second)
		synctest.Wait()
		assert.Equal(t, []bool{false, false, true}, book.started)
		require.Len(t, book.ended, 3)
		for i, want := range []dssauth.Lookup{
			{Outcome: dssauth.OutcomeIdentified, Duration: 300 * time.Millisecond},
			{Outcome: dssauth.OutcomeAnonymous, Duration: 300 * time.Millisecond, Err: dssauth.ErrUnauthenticated},
			{Outcome: dssauth.OutcomeIdentified, Duration: 300 * time.Millisecond, Renewal: true},
		} {
			assert.ErrorIs(t, book.ended[i].Err, want.Err)
			book.ended[i].Err = want.Err
			assert.Equal(t, want, book.ended[i])
		}
		assert.Len(t, book.refused, 10, "each request that is refused, remembered or not")
	})
}

func TestLookupsDurationExcludesItsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book hookBook
		m := newAuth(t, dssauth.Config{Resolver: resolver(slowly(400*time.Millisecond, byCookie)), Hooks: book.hooks(), MaxLookups: 2})
		newcomers(m, 2)
		pass(time.Second)
		synctest.Wait()
		require.Len(t, book.ended, 2)
		assert.Equal(t, 400*time.Millisecond, book.ended[1].Duration)
	})
}

func TestOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book hookBook
		w := newWatched(t)
		m := newAuth(t, dssauth.Config{Client: w.client, Hooks: book.hooks(), StaleIfError: time.Minute, RefusalTTL: -1})
		ann := signedIn(w.DSS, "ann")
		for _, step := range []struct {
			path  string
			reply dsstest.Interceptor
			want  string
		}{
			{"", nil, "ann"},
			{"", badGateway, "ann"},
			{lookupPath, dsstest.Respond(200, "<html>"), "503"},
			{lookupPath, dsstest.Respond(401, nobodyReply), "401"},
			{"", badGateway, "503"},
		} {
			w.behaves("", nil)
			w.behaves(step.path, step.reply)
			require.Equal(t, step.want, who(m, ann))
			synctest.Wait()
			pass(10 * time.Second)
		}
		var outcomes []dssauth.Outcome
		for _, l := range book.ended {
			outcomes = append(outcomes, l.Outcome)
			assert.Equal(t, l.Outcome == dssauth.OutcomeIdentified, l.Err == nil, "%s", l.Outcome)
		}
		assert.Equal(t, []dssauth.Outcome{dssauth.OutcomeIdentified, dssauth.OutcomeStale, dssauth.OutcomeUnavailable, dssauth.OutcomeAnonymous, dssauth.OutcomeUnavailable}, outcomes)
		s := m.Stats()
		assert.Equal(t, []uint64{5, 1, 1, 2, 1}, []uint64{s.Lookups, s.Identified, s.Anonymous, s.Unavailable, s.Stale})
	})
}

func TestHooksContextReachesLookupAndItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type span struct{}
		var atEnd any
		m := newAuth(t, dssauth.Config{
			Hooks: dssauth.Hooks{
				LookupStart: func(ctx context.Context, _ bool) context.Context { return context.WithValue(ctx, span{}, "a span") },
				LookupEnd:   func(ctx context.Context, _ dssauth.Lookup) { atEnd = ctx.Value(span{}) },
			},
			Resolver: resolver(func(ctx context.Context, cookie string) (dssauth.Identity, error) {
				assert.Equal(t, "a span", ctx.Value(span{}))
				return byCookie(ctx, cookie)
			}),
		})
		require.Equal(t, "ann", who(m, browser("ann")))
		synctest.Wait()
		assert.Equal(t, "a span", atEnd)
	})
}

func TestAHooksContextChangesNoDeadline(t *testing.T) {
	ended, end := context.WithCancel(context.Background())
	end()
	for _, test := range []struct {
		name string
		ctx  func(context.Context) context.Context
	}{
		{"none", func(context.Context) context.Context { return nil }},
		{"one without a deadline", func(context.Context) context.Context { return context.Background() }},
		{"one that has ended", func(context.Context) context.Context { return ended }},
		{"one with a deadline of its own", func(ctx context.Context) context.Context {
			ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
			context.AfterFunc(ctx, cancel)
			return ctx
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newAuth(t, dssauth.Config{
					Timeout:  3 * time.Second,
					Hooks:    dssauth.Hooks{LookupStart: func(ctx context.Context, _ bool) context.Context { return test.ctx(ctx) }},
					Resolver: resolver(hangs),
				})
				start := time.Now()
				assert.Equal(t, "503", who(m, browser("ann")))
				assert.Equal(t, 3*time.Second, time.Since(start))
			})
		})
	}
}

func TestPanicInHookIsOnlyLogged(t *testing.T) {
	for name, hooks := range map[string]dssauth.Hooks{
		"LookupStart": {LookupStart: func(context.Context, bool) context.Context { panic("secret") }},
		"LookupEnd":   {LookupEnd: func(context.Context, dssauth.Lookup) { panic("secret") }},
		"Refused":     {Refused: func(*http.Request, error) { panic("secret") }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var book logBook
				m := newAuth(t, dssauth.Config{Resolver: resolver(byCookie), Hooks: hooks, Logger: book.logger()})
				assert.Equal(t, "ann", who(m, browser("ann")))
				assert.Equal(t, "401", who(m, browser("nobody")))
				synctest.Wait()
				assert.NotEmpty(t, book.with("hook="+name))
				assert.Empty(t, book.with("secret"), "its value is not logged")
				assert.Equal(t, "bob", who(m, browser("bob")))
				synctest.Wait() // lookups are counted after their answer is out
				assert.EqualValues(t, 2, m.Stats().Identified)
			})
		})
	}
}

func TestRefusedRunsForEachRefusal(t *testing.T) {
	var book hookBook
	m := newAuth(t, dssauth.Config{Resolver: resolver(func(ctx context.Context, cookie string) (dssauth.Identity, error) {
		if strings.HasSuffix(cookie, "broken") {
			return dssauth.Identity{}, errBroken
		}
		return byCookie(ctx, cookie)
	}), Hooks: book.hooks()})
	two := browser("ann")
	two.Header["Authorization"] = []string{"Bearer a", "Bearer b"}
	for _, test := range []struct {
		h      http.Handler
		r      *http.Request
		status int // 0: none
	}{
		{m.Handler(sayLogin), browser("ann"), 0},
		{m.Optional(sayLogin), browser("nobody"), 0},
		{m.Optional(sayLogin), httptest.NewRequest(http.MethodGet, "/", nil), 0},
		{m.RequireGroup("readers")(sayLogin), browser("ann"), 0},
		{m.Handler(sayLogin), httptest.NewRequest(http.MethodGet, "/", nil), 401},
		{m.Handler(sayLogin), browser("nobody"), 401},
		{m.RequireGroup("analysts")(sayLogin), browser("ann"), 403},
		{m.Handler(sayLogin), browser("broken"), 503},
		{m.Optional(sayLogin), browser("broken"), 503},
		{m.Handler(sayLogin), two, 400},
		{m.Handler(sayLogin), browser(strings.Repeat("a", 20<<10)), 431},
	} {
		book.refused = nil
		test.h.ServeHTTP(httptest.NewRecorder(), test.r)
		if test.status == 0 {
			assert.Empty(t, book.refused)
			continue
		}
		if assert.Len(t, book.refused, 1, "%d", test.status) {
			assert.Equal(t, test.status, dssauth.StatusCode(book.refused[0]))
		}
	}
}

func TestHooksAndLogsCarryNoCredentialOrLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		var hooks hookBook
		var logs logBook
		m := newAuth(t, dssauth.Config{Client: client, Hooks: hooks.hooks(), Logger: logs.logger()})
		const canary = "canary0123456789"
		d.AddUser(dsstest.User{Login: "login-" + canary, Groups: []string{"group-" + canary}})
		d.AddSession("session", canary, "login-"+canary)
		visitor := withCookies("session=" + canary)
		visitor.Header.Set("Authorization", "Bearer "+canary)
		visit := func() {
			for _, h := range []http.Handler{m.Handler(sayLogin), m.RequireGroup("other")(sayLogin)} {
				h.ServeHTTP(httptest.NewRecorder(), visitor)
			}
			synctest.Wait()
			pass(10 * time.Second)
		}
		visit()
		for _, status := range []int{400, 401, 403, 404, 500, 503} {
			// DSS, or a proxy before it, quotes credentials.
			d.Intercept("", -1, dsstest.Respond(status, fmt.Sprintf(`{"errorType":"x","message":"session=%s Bearer %s %s"}`, canary, canary, ownKey)))
			visit()
			d.Intercept("", 0, nil)
			d.Intercept("", -1, dsstest.Respond(status, "<html>session="+canary+" "+ownKey))
			visit()
			d.Intercept("", 0, nil)
		}
		d.RemoveAPIKey(ownKey)
		visit()
		require.NotEmpty(t, logs.lines)
		require.Greater(t, len(hooks.ended), 5)
		printed := fmt.Sprintf("%+v %v %#v %+v", logs.lines, hooks.ended, hooks.started, m)
		for _, err := range hooks.refused {
			printed += fmt.Sprintf(" %v %+v", err, err)
		}
		assert.NotContains(t, printed, canary)
		assert.NotContains(t, printed, ownKey)
	})
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := resolver(byCookie)
		m := newAuth(t, dssauth.Config{Resolver: dss, MaxLookups: 2, MaxEntries: 3})
		assert.Equal(t, dssauth.Stats{Places: 2}, m.Stats())
		for _, login := range []string{"ann", "bob", "eve", "joe", "nobody", "nobody 2"} {
			who(m, browser(login))
		}
		synctest.Wait()
		assert.Equal(t, dssauth.Stats{Entries: 3, Refusals: 2, Evictions: 1, Lookups: 6, Identified: 4, Anonymous: 2, Places: 2}, m.Stats())
		m.Forget(browser("joe"))
		dss.does(hangs)
		newcomers(m, 3)
		s := m.Stats()
		assert.Equal(t, []int{2, 1, 2}, []int{s.Entries, s.InFlight, s.Queued})
		assert.EqualValues(t, 1, s.Evictions, "forgetting is none")
		pass(5 * time.Second)
		synctest.Wait()
		s = m.Stats()
		assert.Equal(t, []int{0, 0}, []int{s.InFlight, s.Queued})
		assert.EqualValues(t, 1, s.Unavailable, "a lookup without a turn asked no question")
		require.NoError(t, m.Close())
		assert.Zero(t, m.Stats().Entries)
		assert.Zero(t, m.Stats().Refusals)
	})
}
