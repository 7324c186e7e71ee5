package promises

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

func TestHandler(t *testing.T) {
	tests := []struct {
		name    string
		headers []string
		status  int
		asked   int
	}{
		{"no credentials are refused without asking DSS", nil, 401, 0},
		{"empty credentials are refused without asking DSS", []string{"Cookie", "", "Authorization", ""}, 401, 0},
		{"stray cookies are not credentials", []string{"Cookie", "_ga=1"}, 401, 0},
		{"an unknown cookie is refused", []string{"Cookie", "session=nobody"}, 401, 1},
		{"two API keys are refused without asking DSS", []string{"Authorization", "Bearer a", "Authorization", "Bearer b"}, 400, 0},
		{"an unreadable API key is refused without asking DSS", []string{"Authorization", "Bearer \xff"}, 400, 0},
		{"too many bytes are refused without asking DSS", []string{"Cookie", strings.Repeat("a", 16<<10+1)}, 431, 0},
		{"an API key without a user is refused", []string{"Authorization", "Bearer key"}, 403, 1},
		{"X-DKU headers of a browser are not credentials", []string{"X-DKU-ProxyUser", "ann", "X-DKU-APITicket", "t"}, 401, 0},
		{"a visitor is admitted", []string{"Cookie", "session=ann"}, 200, 1},
		{"a visitor with stray cookies is admitted", []string{"Cookie", "_ga=1; session=ann; AWSALB=2"}, 200, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			known := newDoorman()
			m := newAuth(t, dssauth.Config{Resolver: known})
			for range 3 {
				w := serve(m.Handler(whoami), request("GET", "/", tt.headers...))
				assert.Equal(t, tt.status, w.Code)
				assert.Equal(t, tt.status == 200, w.Body.String() == "ann")
				assert.Equal(t, tt.asked, known.calls())
			}
		})
	}
}

func TestOptional(t *testing.T) {
	outage := errors.New("DSS is down")
	tests := []struct {
		name    string
		down    error
		headers []string
		status  int
		who     string
	}{
		{"an outage is not an anonymous visitor", outage, []string{"Cookie", "session=ann"}, 503, ""},
		{"malformed credentials are not an anonymous visitor", nil, []string{"Authorization", "\x01"}, 400, ""},
		{"too large credentials are not an anonymous visitor", nil, []string{"Cookie", strings.Repeat("a", 16<<10+1)}, 431, ""},
		{"an API key is not an anonymous visitor", nil, []string{"Authorization", "Bearer key"}, 403, ""},
		{"a visitor without credentials is anonymous", nil, nil, 200, "nobody"},
		{"a visitor without credentials is anonymous, also in an outage", outage, nil, 200, "nobody"},
		{"a visitor with an unknown cookie is anonymous", nil, []string{"Cookie", "session=nobody"}, 200, "nobody"},
		{"a visitor is known", nil, []string{"Cookie", "session=ann"}, 200, "ann"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			known := newDoorman()
			known.fails(tt.down)
			m := newAuth(t, dssauth.Config{Resolver: known})
			w := serve(m.Optional(whoami), request("GET", "/", tt.headers...))
			assert.Equal(t, tt.status, w.Code)
			if tt.status == 200 {
				assert.Equal(t, tt.who, w.Body.String())
			}
		})
	}
}

func TestOptionalHidesAnEarlierVisitor(t *testing.T) {
	here := newAuth(t, dssauth.Config{Resolver: newDoorman()})
	elsewhere := newAuth(t, dssauth.Config{Resolver: newDoorman(), Headers: []string{"Authorization"}, AllowAPIKeys: true})
	r := request("GET", "/", "Authorization", "Bearer key")
	cookieOnly := newAuth(t, dssauth.Config{Resolver: newDoorman(), Headers: []string{"Cookie"}})
	assert.Equal(t, "nobody", serve(elsewhere.Handler(cookieOnly.Optional(whoami)), r).Body.String(), "another DSS's visitor")

	signOut := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Cookie")
			next.ServeHTTP(w, r)
		})
	}
	assert.Equal(t, "nobody", serve(here.Handler(signOut(here.Optional(whoami))), fromAnn()).Body.String(), "its own visitor of before")
	w := serve(here.Handler(signOut(here.Optional(here.RequireGroup("readers")(unreachable(t))))), fromAnn())
	assert.Equal(t, 401, w.Code, "a gate behind it")
}

func TestRequireGroup(t *testing.T) {
	tests := []struct {
		name   string
		groups []string
		visit  func() *http.Request
		status int
	}{
		{"another group is refused", []string{"administrators"}, fromAnn, 403},
		{"the group in another case is refused", []string{"Analysts"}, fromAnn, 403},
		{"the beginning of the group is refused", []string{"analyst"}, fromAnn, 403},
		{"a group that begins as the visitor's is refused", []string{"analysts-lead"}, fromAnn, 403},
		{"the same letters composed differently are refused", []string{"cafe\u0301"}, func() *http.Request { return request("GET", "/", "Cookie", "session=cleo") }, 403},
		{"an API key is refused", []string{"analysts"}, func() *http.Request { return request("GET", "/", "Authorization", "Bearer key") }, 403},
		{"an anonymous visitor is refused as anonymous", []string{"analysts"}, func() *http.Request { return request("GET", "/") }, 401},
		{"a member is admitted", []string{"analysts"}, fromAnn, 200},
		{"a member of one of them is admitted", []string{"administrators", "readers"}, fromAnn, 200},
		{"a member by the same bytes is admitted", []string{"caf\u00e9"}, func() *http.Request { return request("GET", "/", "Cookie", "session=cleo") }, 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			known := newDoorman()
			known.is("session=cleo", dssauth.NewIdentity("cleo", "caf\u00e9"))
			m := newAuth(t, dssauth.Config{Resolver: known, AllowAPIKeys: true})
			gate := m.RequireGroup(tt.groups...)
			assert.Equal(t, tt.status, serve(gate(whoami), tt.visit()).Code, "by itself")
			assert.Equal(t, tt.status, serve(m.Handler(gate(whoami)), tt.visit()).Code, "behind Handler")
			if tt.status != 401 {
				assert.Equal(t, tt.status, serve(m.Optional(gate(whoami)), tt.visit()).Code, "behind Optional")
			}
		})
	}
}

func TestRequireGroupCopiesItsGroups(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: newDoorman()})
	groups := []string{"administrators"}
	gate := m.RequireGroup(groups...)
	groups[0] = "readers"
	assert.Equal(t, 403, serve(gate(unreachable(t)), fromAnn()).Code)
}

func TestSenselessGatesPanic(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: newDoorman()})
	assert.PanicsWithValue(t, "dssauth: RequireGroup without a group: name at least one, or use Handler to admit every DSS user", func() { m.RequireGroup() })
	for _, blank := range []string{"", " ", "\t\n", "\u00a0"} {
		assert.PanicsWithValue(t, fmt.Sprintf("dssauth: RequireGroup: group %q is blank: is a setting missing?", blank), func() { m.RequireGroup("analysts", blank) })
	}
	for wrong, message := range map[string]string{
		"analysts ":     `"analysts " has spaces at its ends, and names match exactly: write "analysts"`,
		"\tdata people": `"\tdata people" has spaces at its ends, and names match exactly: write "data people"`,
		"\u2003ana":     `"\u2003ana" has spaces at its ends, and names match exactly: write "ana"`,
		"ana\nlysts":    `"ana\nlysts" has control characters, which no group's name has: remove them`,
		"ana\x00lysts":  `"ana\x00lysts" has control characters, which no group's name has: remove them`,
		"ana\u0085x":    `"ana\u0085x" has control characters, which no group's name has: remove them`,
	} {
		assert.PanicsWithValue(t, "dssauth: RequireGroup: group "+message, func() { m.RequireGroup("analysts", wrong) })
	}
	assert.NotPanics(t, func() { m.RequireGroup("data people", "données", "a\u200bb", "-") })
	assert.PanicsWithValue(t, "dssauth: Require(nil): give a function that decides, or use Handler to admit every DSS user", func() { m.Require(nil) })
}

func TestRequire(t *testing.T) {
	tests := []struct {
		name   string
		admit  func(*http.Request, dssauth.Identity) error
		status int
	}{
		{"an unknown error is a mistake", func(*http.Request, dssauth.Identity) error { return errors.New("no database") }, 500},
		{"a malformed request is a mistake", func(*http.Request, dssauth.Identity) error { return dssauth.ErrMalformed }, 500},
		{"not signed in is a mistake", func(*http.Request, dssauth.Identity) error { return dssauth.ErrUnauthenticated }, 500},
		{"no answer now is an outage", func(*http.Request, dssauth.Identity) error {
			return fmt.Errorf("%w: no database", dssauth.ErrUnavailable)
		}, 503},
		{"not signed in and not allowed at once is a mistake", func(*http.Request, dssauth.Identity) error {
			return errors.Join(dssauth.ErrForbidden, dssauth.ErrUnauthenticated)
		}, 500},
		{"not allowed is refused", func(*http.Request, dssauth.Identity) error { return dssauth.ErrForbidden }, 403},
		{"not allowed for a reason is refused", func(*http.Request, dssauth.Identity) error { return fmt.Errorf("%w: on Sundays", dssauth.ErrForbidden) }, 403},
		{"by login and path", func(r *http.Request, id dssauth.Identity) error {
			if id.Login == "ann" && r.URL.Path == "/ann" {
				return nil
			}
			return dssauth.ErrForbidden
		}, 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newAuth(t, dssauth.Config{Resolver: newDoorman()})
			gate := m.Require(tt.admit)
			r := request("GET", "/ann", "Cookie", "session=ann")
			assert.Equal(t, tt.status, serve(gate(whoami), r).Code, "by itself")
			assert.Equal(t, tt.status, serve(m.Handler(gate(whoami)), r).Code, "behind Handler")
		})
	}
}

func TestGatesDecideOnEveryRequest(t *testing.T) {
	known := newDoorman()
	m := newAuth(t, dssauth.Config{Resolver: known})
	asked := 0
	gate := m.Require(func(*http.Request, dssauth.Identity) error {
		if asked++; asked%2 == 0 {
			return dssauth.ErrForbidden
		}
		return nil
	})
	for i := range 10 {
		assert.Equal(t, []int{200, 403}[i%2], serve(gate(whoami), fromAnn()).Code)
	}
	assert.Equal(t, 10, asked)
	assert.Equal(t, 1, known.calls(), "the answer was not shared")

	for range 2 {
		assert.Equal(t, 200, serve(m.RequireGroup("analysts")(whoami), fromAnn()).Code)
		assert.Equal(t, 403, serve(m.RequireGroup("administrators")(unreachable(t)), fromAnn()).Code, "one gate's verdict was another's")
	}
}

func TestGateBehindHandlerDoesNotAskAgain(t *testing.T) {
	known := newDoorman()
	m := newAuth(t, dssauth.Config{Resolver: known, TTL: -1})
	h := m.Handler(m.RequireGroup("readers")(m.RequireGroup("analysts")(whoami)))
	assert.Equal(t, 200, serve(h, fromAnn()).Code)
	assert.Equal(t, 1, known.calls())
	serve(m.RequireGroup("readers")(m.RequireGroup("analysts")(whoami)), fromAnn())
	assert.Equal(t, 2, known.calls())
}

func TestGatesTrustNewContext(t *testing.T) {
	known := newDoorman()
	m := newAuth(t, dssauth.Config{Resolver: known})
	gate := m.RequireGroup("analysts")
	r := request("GET", "/")
	w := serve(gate(whoami), r.WithContext(dssauth.NewContext(r.Context(), dssauth.NewIdentity("dan", "analysts"))))
	assert.Equal(t, "dan", w.Body.String())
	w = serve(gate(unreachable(t)), r.WithContext(dssauth.NewContext(r.Context(), dssauth.NewIdentity("dan"))))
	assert.Equal(t, 403, w.Code)
	assert.Zero(t, known.calls())

	w = serve(m.Handler(unreachable(t)), r.WithContext(dssauth.NewContext(r.Context(), dssauth.NewIdentity("dan"))))
	assert.Equal(t, 401, w.Code, "Handler asks for itself")
}

// Two DSS instances stand behind one application. Both know an ann, who is an
// administrator in one of them only.
func TestTwoInstancesBehindOneRouter(t *testing.T) {
	sales, ops := newDoorman(), newDoorman()
	sales.is("session=ann", dssauth.NewIdentity("ann", "administrators"))
	ops.is("session=ann", dssauth.NewIdentity("ann", "readers"))
	ops.is("session=eve", dssauth.NewIdentity("eve", "administrators"))
	s, o := newAuth(t, dssauth.Config{Resolver: sales}), newAuth(t, dssauth.Config{Resolver: ops})

	r := chi.NewRouter()
	r.With(s.Handler).Get("/sales", whoami)
	r.With(o.Handler).Get("/ops", whoami)
	r.With(s.Handler, o.RequireGroup("administrators")).Get("/sales-then-ops-admin", whoami)
	r.With(o.Handler, s.RequireGroup("administrators")).Get("/ops-then-sales-admin", whoami)
	r.With(s.Handler, o.Handler, s.RequireGroup("administrators")).Get("/both-then-sales-admin", whoami)
	r.With(s.Handler, o.Handler, o.RequireGroup("administrators")).Get("/both-then-ops-admin", whoami)
	r.With(s.Handler, o.Optional, o.RequireGroup("administrators")).Get("/optional-ops-admin", whoami)
	r.With(s.Handler, o.Optional, s.RequireGroup("administrators")).Get("/optional-ops-sales-admin", whoami)

	for _, tt := range []struct {
		path, cookie string
		status       int
	}{
		{"/sales", "session=eve", 401},
		{"/ops", "session=eve", 200},
		{"/sales-then-ops-admin", "session=ann", 403},
		{"/sales-then-ops-admin", "session=eve", 401},
		{"/ops-then-sales-admin", "session=eve", 401},
		{"/ops-then-sales-admin", "session=ann", 200},
		{"/both-then-sales-admin", "session=ann", 200},
		{"/both-then-ops-admin", "session=ann", 403},
		{"/optional-ops-admin", "session=ann", 403},
		{"/optional-ops-sales-admin", "session=ann", 200},
	} {
		for range 2 { // the second time from memory
			w := serve(r, request("GET", tt.path, "Cookie", tt.cookie))
			assert.Equal(t, tt.status, w.Code, "%s with %s", tt.path, tt.cookie)
		}
	}
}

func TestTwoInstancesShareNothing(t *testing.T) {
	one, two := dsstest.NewServer(t), dsstest.NewServer(t)
	for login, fake := range map[string]*dsstest.Server{"ann": one, "bob": two} {
		fake.AddUser(dsstest.User{Login: login})
		fake.AddSession("session", "same", login)
	}
	first, second := newAuth(t, dssauth.Config{Client: one.Client()}), newAuth(t, dssauth.Config{Client: two.Client()})
	for range 2 {
		assert.Equal(t, "ann", serve(first.Handler(whoami), request("GET", "/", "Cookie", "session=same")).Body.String())
		assert.Equal(t, "bob", serve(second.Handler(whoami), request("GET", "/", "Cookie", "session=same")).Body.String())
	}
}

func TestAuthenticate(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: newDoorman()})
	for status, visit := range map[int]func() *http.Request{
		401: func() *http.Request { return request("GET", "/") },
		400: func() *http.Request { return request("GET", "/", "Authorization", "\x00") },
		403: func() *http.Request { return request("GET", "/", "Authorization", "Bearer key") },
	} {
		r, err := m.Authenticate(visit())
		assert.Nil(t, r)
		assert.Equal(t, status, dssauth.StatusCode(err))
	}

	given := fromAnn()
	r, err := m.Authenticate(given)
	require.NoError(t, err)
	id, ok := dssauth.FromContext(r.Context())
	assert.True(t, ok)
	assert.Equal(t, "ann", id.Login)
	assert.Same(t, given, r, "net/http and loggers in front hold the one that was given")
	assert.Equal(t, 200, serve(m.RequireGroup("analysts")(whoami), r).Code)
}

func TestEveryMethodIsGatedAlike(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: newDoorman()})
	for name, gate := range map[string]func(http.Handler) http.Handler{"Handler": m.Handler, "RequireGroup": m.RequireGroup("analysts"), "both": func(h http.Handler) http.Handler { return m.Handler(m.RequireGroup("analysts")(h)) }} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "X"} {
			nobody := request(method, "/", "Origin", "https://evil.example", "Access-Control-Request-Method", "PUT")
			assert.Equal(t, 401, serve(gate(unreachable(t)), nobody).Code, "%s %s", name, method)
			if name != "Handler" {
				assert.Equal(t, 403, serve(gate(unreachable(t)), request(method, "/", "Cookie", "session=bob")).Code, "%s %s", name, method)
			}
			assert.Equal(t, "ann", serve(gate(whoami), request(method, "/", "Cookie", "session=ann")).Body.String(), "%s %s", name, method)
		}
		socket := request("GET", "/", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-Websocket-Version", "13", "Sec-Websocket-Key", "eA==")
		assert.Equal(t, 401, serve(gate(unreachable(t)), socket).Code, "%s websocket", name)
	}
}

// For every spelling of a path, the verdict is that of the handler that it reaches.
func TestOddPathsMeetTheGateOfTheirHandler(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: newDoorman()})
	admins := m.RequireGroup("administrators")
	secret := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "secret") })
	open := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "open") })

	mux := http.NewServeMux()
	mux.Handle("/admin/", admins(secret))
	mux.Handle("/", open)
	router := chi.NewRouter()
	router.With(admins).Handle("/admin", secret)
	router.With(admins).Handle("/admin/*", secret)
	router.Handle("/*", open)
	sub := chi.NewRouter()
	sub.Mount("/admin", chi.Chain(admins).Handler(secret))
	sub.Handle("/*", open)

	for name, h := range map[string]http.Handler{"net/http": mux, "chi": router, "chi's subrouter": sub} {
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		for _, target := range []string{
			"/admin/", "/admin/x", "//admin/", "/admin//", "/./admin/", "/x/../admin/", "/admin/../admin/x", "/%61dmin/", "/admin%2f", "/admin%2Fx", "/%2e/admin/",
			"/x/%2e%2e/admin/", "/admin/%2e%2e/open", "/admin;a=b/", "/admin/;x", "/ADMIN/", "/admin/%00", "/admin/?a=../open", "/open/..;/admin/", `/open/..\admin/`, "/admin%20/",
		} {
			status, body := rawGet(t, server.Listener.Addr().String(), target, "session=bob")
			assert.NotContains(t, body, "secret", "%s: %s reached the handler past its gate", name, target)
			assert.Contains(t, []int{200, 301, 307, 308, 400, 403, 404}, status, "%s: %s", name, target)
			if status == 200 {
				assert.Equal(t, "open", body, "%s: %s", name, target)
			}
		}
		status, _ := rawGet(t, server.Listener.Addr().String(), "/admin/x", "session=bob")
		assert.Equal(t, 403, status, name)
	}
}

// rawGet sends a path unchanged: http.Client would clean it.
func rawGet(t testing.TB, addr, target, cookie string) (status int, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: app.example\r\nCookie: %s\r\nConnection: close\r\n\r\n", target, cookie)
	require.NoError(t, err)
	reply, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	return reply.StatusCode, string(text)
}

func TestAPIKeyWithoutAUser(t *testing.T) {
	byKey := func() *http.Request { return request("GET", "/", "Authorization", "Bearer key") }
	known := newDoorman()
	// A Resolver may return wrong data beside the id of a key.
	known.is("Bearer key", func() dssauth.Identity {
		id := dssauth.NewIdentity("ann", "administrators")
		id.APIKeyID = "ann"
		return id
	}())

	strict := newAuth(t, dssauth.Config{Resolver: known})
	for _, gate := range []func(http.Handler) http.Handler{strict.Handler, strict.Optional, strict.RequireGroup("administrators")} {
		for range 2 {
			assert.Equal(t, 403, serve(gate(unreachable(t)), byKey()).Code)
		}
	}

	open := newAuth(t, dssauth.Config{Resolver: known, AllowAPIKeys: true})
	for range 2 {
		w := serve(open.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			id, ok := dssauth.FromContext(r.Context())
			assert.True(t, ok)
			assert.Equal(t, "ann", id.APIKeyID)
			assert.Empty(t, id.Login)
			assert.Empty(t, id.Groups())
			_, err := dssauth.ClientFromContext(r.Context())
			assert.ErrorIs(t, err, dssauth.ErrForbidden)
		})), byKey())
		assert.Equal(t, 200, w.Code)
		assert.Equal(t, 403, serve(open.RequireGroup("administrators")(unreachable(t)), byKey()).Code)
	}
}

func TestKeyIDIsNotALogin(t *testing.T) {
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"administrators"}})
	fake.AddAPIKey("global", "")
	fake.SetAPIKeyID("global", "ann")
	fake.AddAPIKey("personal", "ann")
	m := newAuth(t, dssauth.Config{Client: fake.Client(), AllowAPIKeys: true})

	global, personal := request("GET", "/", "Authorization", "Bearer global"), request("GET", "/", "Authorization", "Bearer personal")
	for range 2 {
		assert.Equal(t, "an API key", serve(m.Handler(whoami), global).Body.String())
		assert.Equal(t, 403, serve(m.RequireGroup("administrators")(unreachable(t)), global).Code)
		assert.Equal(t, "ann", serve(m.RequireGroup("administrators")(whoami), personal).Body.String())
	}
	assert.Equal(t, 2, m.Stats().Entries)
	m.ForgetUser("ann")
	assert.Equal(t, 1, m.Stats().Entries, "the API key ann was forgotten with the user ann, or neither was")
}

func TestDSSReceivesTheKeyedBytes(t *testing.T) {
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "ann"})
	session := fake.SignIn("ann").String()
	session, _, _ = strings.Cut(session, ";")
	m := newAuth(t, dssauth.Config{Client: fake.Client(), TTL: -1, Headers: []string{"cookie", "authorization", "X-Sso"}})

	r := request("GET", "/", "Cookie", `z="<&>\" é"; _ga=1`, "Cookie", session+"; bad=\xff; AWSALB=2", "X-Sso", `{"a":"b"}`,
		"X-DKU-ProxyUser", "admin", "X-DKU-APITicket", "ticket", "X_DKU_ProxyUser", "admin", "User-Agent", "x", "X-Forwarded-For", "::1", "X-Sso2", "y")
	r.Header["x-dku-proxyuser"] = []string{"admin"}
	assert.Equal(t, "ann", serve(m.Handler(whoami), r).Body.String())
	assert.Equal(t, map[string]string{"Cookie": `z="<&>\" é"; ` + session, "X-Sso": `{"a":"b"}`}, fake.LastBrowserHeaders())
}

func TestHeadersThatAreNotKeyedHaveNoEffect(t *testing.T) {
	known := newDoorman()
	m := newAuth(t, dssauth.Config{Resolver: known})
	for i := range 10 {
		r := request("GET", "/", "Cookie", "session=ann", "X-Dku-Proxyuser", fmt.Sprint("user", i), "User-Agent", fmt.Sprint(i), "X-Forwarded-User", "admin")
		assert.Equal(t, "ann", serve(m.Handler(whoami), r).Body.String())
	}
	assert.Equal(t, 1, known.calls())
	assert.Equal(t, http.Header{"Cookie": {"session=ann"}}, known.lastAsked())
}

func TestStrayCookiesCostNoLookups(t *testing.T) {
	known := newDoorman()
	m := newAuth(t, dssauth.Config{Resolver: known})
	for i := range 100 {
		r := request("GET", "/", "Cookie", fmt.Sprintf("_ga=%d; session=ann; AWSALB=%d", i, i))
		assert.Equal(t, "ann", serve(m.Handler(whoami), r).Body.String())
	}
	assert.Equal(t, 1, known.calls())
	assert.Equal(t, 1, m.Stats().Entries)
}

// The caller reuses its header map while the lookup runs: the question, and the bytes
// of the answer, do not change.
func TestCallerChangesItsHeadersDuringTheLookup(t *testing.T) {
	asked, goOn := make(chan struct{}), make(chan struct{})
	var calls atomic.Int64
	m := newAuth(t, dssauth.Config{Resolver: resolveFunc(func(_ context.Context, h http.Header) (dssauth.Identity, error) {
		calls.Add(1)
		asked <- struct{}{}
		<-goOn
		login, _ := strings.CutPrefix(h.Get("Cookie"), "session=")
		return dssauth.NewIdentity(login), nil
	})})
	ctx, leave := context.WithCancel(t.Context())
	r := request("GET", "/", "Cookie", "session=ann", "Authorization", "Bearer x").WithContext(ctx)
	var first sync.WaitGroup
	first.Go(func() {
		assert.Equal(t, 503, serve(m.Handler(unreachable(t)), r).Code)
		r.Header["Cookie"][0] = "session=admin"
		r.Header.Set("Authorization", "Bearer y")
		r.Header.Set("X-New", "z")
	})
	<-asked
	leave()
	first.Wait()
	close(goOn)

	same := request("GET", "/", "Cookie", "session=ann", "Authorization", "Bearer x")
	assert.Equal(t, "ann", serve(m.Handler(whoami), same).Body.String())
	assert.EqualValues(t, 1, calls.Load(), "the answer was not stored for what was asked")
}

func TestResponseWriterIsNotWrapped(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: newDoorman()})
	all := func(h http.Handler) http.Handler {
		return m.Optional(m.Handler(m.RequireGroup("analysts")(h)))
	}
	rec := httptest.NewRecorder()
	all(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		assert.Same(t, rec, w)
	})).ServeHTTP(rec, fromAnn())

	server := httptest.NewServer(all(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, flusher := w.(http.Flusher)
		assert.True(t, flusher)
		conn, rw, err := http.NewResponseController(w).Hijack()
		if !assert.NoError(t, err) {
			return
		}
		defer conn.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: test\r\nConnection: Upgrade\r\n\r\n")
		_ = rw.Flush()
	})))
	defer server.Close()
	status, _ := rawGet(t, server.Listener.Addr().String(), "/", "session=ann")
	assert.Equal(t, 101, status)
}
