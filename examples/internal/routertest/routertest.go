// Package routertest is the test that the example of every router passes.
package routertest

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

// Run sends requests to newRouter's handler, over a socket and with a fake DSS
// behind it. Refusals must equal net/http's, to the byte, and no shared cache
// may keep one visitor's answer. Run sends each kind of request over plain
// HTTP, and over TLS with HTTP/2.
func Run(t *testing.T, newRouter func(*dssauth.Middleware) http.Handler) {
	RunServer(t, ClearsMarks, func(t *testing.T, auth *dssauth.Middleware, secure *tls.Config) string {
		return serve(t, newRouter(auth), secure)
	})
}

// Server starts a server with a router, over TLS if secure is not nil, and
// returns its URL.
type Server func(t *testing.T, auth *dssauth.Middleware, secure *tls.Config) string

// RunServer is Run for a router with a server of its own.
func RunServer(t *testing.T, marks Marks, newServer Server) {
	t.Run("to the byte", func(t *testing.T) { refusals(t, newServer) })
	for _, over := range []string{"http", "https"} {
		t.Run("asked over "+over, func(t *testing.T) { asks(t, over, marks, newServer) })
	}
	t.Run("the application's own page", func(t *testing.T) { ownPage(t, newServer) })
}

func refusals(t *testing.T, newServer Server) {
	dss := dsstest.NewServer(t)
	cookies := map[string]*http.Cookie{}
	for _, u := range dsstest.DemoUsers() {
		dss.AddUser(u)
		cookies[u.Login] = dss.SignIn(u.Login)
	}
	// There is no cache, so that an outage is visible at once.
	auth, err := dssauth.New(dssauth.Config{Client: dss.Client(), TTL: -1, RefusalTTL: -1})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, auth.Close()) })
	router := newServer(t, auth, nil)
	plain := serve(t, plainRouter(auth), nil)

	for _, tt := range []struct {
		name, login, path string
		accept            string
		down              bool
		status            int
		body              string // of an answer that is not a refusal
	}{
		{name: "an anonymous visitor gets no identity", path: "/me", status: 401},
		{name: "an anonymous visitor does not read the report", path: "/report", status: 401},
		{name: "an anonymous visitor does not see the administrators' pages", path: "/admin/users/bob", status: 401},
		{name: "a browser without a session is shown a page", path: "/me", accept: "text/html", status: 401},
		{name: "a reader does not read the analysts' report", login: "bob", path: "/report", status: 403},
		{name: "a reader's browser is shown a page", login: "bob", path: "/report", accept: "text/html", status: 403},
		{name: "an analyst does not see the administrators' pages", login: "ann", path: "/admin/users/bob", status: 403},
		{name: "an administrator outside analysts does not read the report", login: "admin", path: "/report", status: 403},
		{name: "a user without groups sees their identity", login: "eve", path: "/me", status: 200,
			body: `{"login":"eve","groups":[],"profile":"READER"}`},
		{name: "an analyst sees their identity", login: "ann", path: "/me", status: 200,
			body: `{"login":"ann","groups":["analysts","readers"],"profile":"DESIGNER"}`},
		{name: "an analyst reads the report", login: "ann", path: "/report", status: 200,
			body: "the report, for ann"},
		{name: "an administrator sees a user, named by the path", login: "admin", path: "/admin/users/bob", status: 200,
			body: "user bob, shown to admin"},
		// Last, since DSS is left alone for a while after an outage.
		{name: "in an outage nobody sees an identity", login: "ann", path: "/me", down: true, status: 503},
		{name: "in an outage analysts do not read the report", login: "ann", path: "/report", down: true, status: 503},
		{name: "in an outage administrators do not see their pages", login: "admin", path: "/admin/users/bob", down: true, status: 503},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dss.SetDown(tt.down)
			defer dss.SetDown(false)
			asked := dss.Calls("/auth/info-from-browser-headers")
			got := get(t, router+tt.path, cookies[tt.login], tt.accept)
			assert.Equal(t, tt.status, got.status)
			if !tt.down && tt.login != "" {
				// A gate that does not find the identity would ask once more.
				assert.Equal(t, asked+1, dss.Calls("/auth/info-from-browser-headers"), "the context is lost between two gates")
			}
			if tt.status == http.StatusOK {
				assert.Equal(t, tt.body, got.body)
				assert.Equal(t, []string{"private"}, got.header.Values("Cache-Control"))
				assert.Equal(t, "Cookie, Authorization", strings.Join(got.header.Values("Vary"), ", "))
				return
			}
			want := get(t, plain+tt.path, cookies[tt.login], tt.accept)
			assert.Equal(t, want.dump, got.dump, "the refusal differs from net/http's")
		})
	}
}

// plainRouter refuses as all routers should. No request reaches its handlers.
func plainRouter(auth *dssauth.Middleware) http.Handler {
	unreachable := http.NotFoundHandler()
	mux := http.NewServeMux()
	mux.Handle("/me", auth.Handler(unreachable))
	mux.Handle("/report", auth.RequireGroup("analysts")(unreachable))
	mux.Handle("/admin/", auth.RequireGroup("administrators")(unreachable))
	return mux
}

func serve(t *testing.T, h http.Handler, secure *tls.Config) string {
	server := httptest.NewUnstartedServer(h)
	t.Cleanup(server.Close)
	if secure == nil {
		server.Start()
		return server.URL
	}
	server.TLS, server.EnableHTTP2 = secure, true
	server.StartTLS()
	return server.URL
}

type answer struct {
	status int
	header http.Header
	body   string // without spaces at its ends
	dump   string // everything except the date
}

func get(t *testing.T, url string, cookie *http.Cookie, accept string) answer {
	r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	require.NoError(t, err)
	if cookie != nil {
		r.AddCookie(cookie)
	}
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.NotEmpty(t, resp.Header.Get("Date"))
	resp.Header.Del("Date")
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	// In pieces or as a whole: each server decides that by a size of its own.
	resp.TransferEncoding, resp.ContentLength = nil, int64(len(body))
	resp.Header.Del("Content-Length")
	resp.Body = io.NopCloser(bytes.NewReader(body))
	dump, err := httputil.DumpResponse(resp, true)
	require.NoError(t, err)
	return answer{resp.StatusCode, resp.Header, strings.TrimSpace(string(body)), string(dump)}
}
