package promises

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
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
)

// accessOf returns the login and the reason for r in an access log in front of h.
func accessOf(h http.Handler, r *http.Request) string {
	ctx, access := dssauth.WithAccess(r.Context())
	h.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
	return said(access)
}

func said(access *dssauth.Access) string {
	id, known := access.Identity()
	return fmt.Sprint(known, " ", id.Login, id.APIKeyID, " ", dssauth.StatusCode(access.Refusal()))
}

func TestAccessNamesTheVisitorInFront(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: newDoormanWithOutage()})
	withKeys := newAuth(t, dssauth.Config{Resolver: newDoormanWithOutage(), AllowAPIKeys: true})
	apart := newAuth(t, dssauth.Config{Resolver: resolver(func(context.Context, string) (dssauth.Identity, error) {
		return dssauth.Identity{}, dssauth.ErrUnauthenticated
	})})
	key := func() *http.Request { return request("GET", "/", "Authorization", "Bearer key") }
	byHand := func(f func(http.ResponseWriter, *http.Request)) http.Handler { return http.HandlerFunc(f) }
	authenticated := byHand(func(w http.ResponseWriter, r *http.Request) {
		if _, err := m.Authenticate(r); err != nil {
			m.Refuse(w, r, err)
		}
	})
	forbids := byHand(func(w http.ResponseWriter, r *http.Request) {
		m.Refuse(w, r, fmt.Errorf("%w: closed on Sundays", dssauth.ErrForbidden))
	})
	through := func(next http.Handler) http.Handler { // contexts in between
		return byHand(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), spanKey{}, "a span"), time.Minute)
			defer cancel()
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}
	for name, tt := range map[string]struct {
		h    http.Handler
		r    *http.Request
		want string
	}{
		"a visitor":                              {m.Handler(whoami), fromAnn(), "true ann 200"},
		"through other contexts":                 {through(m.Handler(through(whoami))), fromAnn(), "true ann 200"},
		"nobody":                                 {m.Handler(whoami), request("GET", "/"), "false  401"},
		"a stranger":                             {m.Handler(whoami), request("GET", "/", "Cookie", "session=who"), "false  401"},
		"an outage":                              {m.Handler(whoami), request("GET", "/", "Cookie", "session=outage"), "false  503"},
		"two kinds of credentials":               {m.Handler(whoami), request("GET", "/", "Authorization", "Bearer a", "Authorization", "Bearer b"), "false  400"},
		"a gate admits":                          {m.RequireGroup("analysts")(whoami), fromAnn(), "true ann 200"},
		"a gate refuses":                         {m.RequireGroup("analysts")(whoami), fromBob(), "true bob 403"},
		"a gate inside refuses":                  {m.Handler(m.RequireGroup("analysts")(whoami)), fromBob(), "true bob 403"},
		"a handler refuses":                      {m.Handler(forbids), fromAnn(), "true ann 403"},
		"optional, known":                        {m.Optional(whoami), fromAnn(), "true ann 200"},
		"optional, nobody":                       {m.Optional(whoami), request("GET", "/"), "false  200"},
		"Optional, and an anonymous visitor":     {m.Optional(whoami), request("GET", "/", "Cookie", "session=who"), "false  200"},
		"Optional, and then a gate":              {m.Optional(m.RequireGroup("analysts")(whoami)), request("GET", "/"), "false  401"},
		"by hand":                                {authenticated, fromAnn(), "true ann 200"},
		"Authenticate, and an anonymous visitor": {authenticated, request("GET", "/"), "false  401"},
		"no Middleware":                          {whoami, fromAnn(), "false  200"},
		"two, a stranger to the second":          {m.Handler(apart.Optional(whoami)), fromAnn(), "false  200"},
		"two, of two instances of DSS":           {m.Handler(withKeys.Handler(whoami)), fromAnn(), "true ann 200"},
		"an identity of NewContext is not told": {byHand(func(w http.ResponseWriter, r *http.Request) {
			dssauth.NewContext(r.Context(), dssauth.NewIdentity("eve"))
		}), fromAnn(), "false  200"},
		"a key that is not allowed": {m.Handler(whoami), key(), "false  403"},
		"a key that is allowed":     {withKeys.Handler(whoami), key(), "true key-id 200"},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tt.want, accessOf(tt.h, tt.r))
			assert.Equal(t, tt.want, accessOf(tt.h, tt.r), "and again, as a hit")
		})
	}
}

// An access log in front of a router, and another one inside of it.
func TestNestedAccessLogsGetTheSameResults(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: newDoormanWithOutage()})
	for _, tt := range []struct {
		r    *http.Request
		want string
	}{
		{request("GET", "/"), "false  401"},
		{fromBob(), "true bob 403"},
		{fromAnn(), "true ann 200"},
	} {
		var inner string
		assert.Equal(t, tt.want, accessOf(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			inner = accessOf(m.RequireGroup("analysts")(whoami), r)
		}), tt.r))
		assert.Equal(t, tt.want, inner)
	}
}

func TestAccessAsksDSSNothing(t *testing.T) {
	dss := resolver(byCookie)
	m := newAuth(t, dssauth.Config{Resolver: dss, TTL: -1})
	r := browser("ann")
	require.Equal(t, "true ann 200", accessOf(m.Handler(sayLogin), r))
	assert.EqualValues(t, 1, dss.calls.Load())
	assert.Equal(t, []string{"session=ann"}, r.Header.Values("Cookie"))
	assert.Len(t, r.Header, 1)
}

// A TimeoutHandler answers while the lookup still runs, and the handler behind it
// goes on. The log reads the results so far.
func TestAccessAfterATimeoutHandlerGaveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newAuth(t, dssauth.Config{Resolver: resolver(slowly(2*time.Second, byCookie))})
		reached := make(chan struct{})
		h := http.TimeoutHandler(m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(reached)
			<-r.Context().Done()
		})), 3*time.Second, "too slow")
		r := browser("ann")
		ctx, access := dssauth.WithAccess(r.Context())
		go h.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
		pass(time.Second)
		assert.Equal(t, "false  200", said(access))
		<-reached
		assert.Equal(t, "true ann 200", said(access))
		pass(time.Minute)
	})
	synctest.Test(t, func(t *testing.T) {
		m := newAuth(t, dssauth.Config{Resolver: resolver(slowly(2*time.Second, byCookie))})
		h := http.TimeoutHandler(m.Handler(sayLogin), time.Second, "too slow")
		r := browser("ann")
		ctx, access := dssauth.WithAccess(r.Context())
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r.WithContext(ctx))
		assert.Equal(t, http.StatusServiceUnavailable, w.Code)
		_, known := access.Identity() // beside the handler, which ends when its context does
		assert.False(t, known)
		synctest.Wait()
		assert.Equal(t, "false  503", said(access), "the request ended before DSS answered")
	})
}

// Concurrent requests do not get each other's visitor.
func TestAccessOfConcurrentRequests(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: resolver(byCookie)})
	h := m.RequireGroup("readers")(sayLogin)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			login := fmt.Sprint("user", i%5)
			assert.Equal(t, "true "+login+" 200", accessOf(h, browser(login)))
			assert.Equal(t, "false  401", accessOf(h, browser("nobody")))
		})
	}
	wg.Wait()
}

func TestAccessInALog(t *testing.T) {
	line := func(h http.Handler, r *http.Request) string {
		ctx, access := dssauth.WithAccess(r.Context())
		h.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
		var b bytes.Buffer
		plain := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}
		slog.New(slog.NewTextHandler(&b, plain)).Info("request", slog.Any("visitor", access))
		slog.New(slog.NewTextHandler(&b, plain)).Info("request", slog.Any("", access))
		return b.String()
	}
	m := newAuth(t, dssauth.Config{Resolver: newDoormanWithOutage(), AllowAPIKeys: true})
	for _, tt := range []struct {
		r       *http.Request
		attrs   []string // of the visitor
		refused string
	}{
		{r: fromAnn(), attrs: []string{"login=ann"}},
		{r: request("GET", "/", "Authorization", "Bearer key"), attrs: []string{"api_key=key-id", `reason="dssauth: not allowed: the visitor is in none of the required groups"`}},
		{r: fromBob(), attrs: []string{"login=bob", `reason="dssauth: not allowed: the visitor is in none of the required groups"`}},
		{r: request("GET", "/"), attrs: []string{`reason="dssauth: not signed in to DSS: the request has no credentials"`}},
	} {
		inline := strings.Join(tt.attrs, " ")
		grouped := "visitor." + strings.Join(tt.attrs, " visitor.")
		assert.Equal(t, "level=INFO msg=request "+grouped+"\nlevel=INFO msg=request "+inline+"\n", line(m.RequireGroup("analysts")(whoami), tt.r))
	}
	assert.Equal(t, "level=INFO msg=request\nlevel=INFO msg=request\n", line(whoami, fromAnn()), "where nothing is known")
}
