package routertest

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

// Marks tells whether an admitted visitor's marks are cleared, see
// [dssauth.Config.LoginURL].
type Marks bool

const (
	ClearsMarks Marks = true
	KeepsMarks  Marks = false // requests admitted by Authenticate
)

// The headers of browsers, htmx and programs.
var (
	aPage   = []string{"Accept", "text/html,application/xhtml+xml,*/*;q=0.8", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "none", "Sec-Fetch-Dest", "document"}
	aPart   = []string{"Accept", "*/*", "Sec-Fetch-Mode", "cors", "HX-Request", "true"}
	aForm   = []string{"Accept", "text/html,*/*;q=0.8", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "same-origin", "Content-Type", "application/x-www-form-urlencoded"}
	inFrame = []string{"Accept", "text/html,*/*;q=0.8", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Dest", "iframe"}
	api     = []string{"Accept", "application/json"}
)

func with(headers []string, more ...string) []string {
	return append(append([]string(nil), headers...), more...)
}

const (
	html    = "text/html; charset=utf-8"
	problem = "application/problem+json"
	text    = "text/plain; charset=utf-8"
	signIn  = "https://dss.example/login?back="
)

// The fate of the marks.
const (
	untouched = ""
	marked    = "Max-Age=30"
	cleared   = "Max-Age=0"
)

// kinds are the kinds of request. HOST is replaced by the server's URL, and
// MARKS by the cookie of a redirect from /report.
var kinds = []struct {
	name    string
	method  string
	path    string
	login   string
	headers []string

	status      int
	contentType string
	back        string // of Location
	hxBack      string // of HX-Redirect
	setCookie   string
}{
	{"a page", "GET", "/me", "", aPage, 302, html, "/me", "", marked},
	{"its head", "HEAD", "/me", "", aPage, 302, html, "/me", "", marked},
	{"a page with a query", "GET", "/report?year=2025&month=3", "", aPage, 302, html, "/report?year=2025&month=3", "", marked},
	{"a page behind a gate in a group of routes", "GET", "/admin/users/bob", "", aPage, 302, html, "/admin/users/bob", "", marked},
	{"a page after a useless sign-in", "GET", "/report", "", with(aPage, "Cookie", "MARKS"), 401, html, "", "", untouched},
	{"another page after that", "GET", "/me", "", with(aPage, "Cookie", "MARKS"), 302, html, "/me", "", marked},
	{"a part by htmx", "GET", "/me", "", with(aPart, "HX-Current-URL", "HOST/app?tab=2"), 401, problem, "", "/app?tab=2", marked},
	{"a part by htmx on a page of another host", "GET", "/me", "", with(aPart, "HX-Current-URL", "https://evil.example/app"), 401, problem, "", "/", marked},
	{"a Turbo frame", "GET", "/me", "", with(aPage, "Turbo-Frame", "messages"), 401, problem, "", "", untouched},
	{"a prefetched page", "GET", "/me", "", with(aPage, "Sec-Purpose", "prefetch"), 401, problem, "", "", untouched},
	{"a form", "POST", "/me", "", aForm, 401, html, "", "", untouched},
	{"a program", "GET", "/me", "", api, 401, problem, "", "", untouched},
	{"a program that posts", "POST", "/me", "", api, 401, problem, "", "", untouched},
	{"a program with a wrong key", "GET", "/me", "", with(api, "Authorization", "Bearer wrong"), 401, problem, "", "", untouched},
	{"a websocket", "GET", "/me", "", with(api, "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="), 401, problem, "", "", untouched},
	{"a frame of another site", "GET", "/me", "", inFrame, 401, html, "", "", untouched},
	{"a page with unreadable credentials", "GET", "/me", "", with(aPage, "Authorization", "Bearer \xff"), 400, html, "", "", untouched},
	{"a known visitor's page", "GET", "/report", "ann", aPage, 200, text, "", "", untouched},
	{"a known visitor's page after a redirect", "GET", "/report", "ann", with(aPage, "Cookie", "MARKS"), 200, text, "", "", cleared},
	{"a known visitor's part", "GET", "/report", "ann", aPart, 200, text, "", "", untouched},
	{"a page for another group", "GET", "/report", "bob", aPage, 403, html, "", "", untouched},
	{"a part for another group", "GET", "/report", "bob", aPart, 403, problem, "", "", untouched},
	{"a program for another group", "GET", "/report", "bob", api, 403, problem, "", "", untouched},
	// Last, since the Middleware asks DSS only seldom after an outage.
	{"a page while DSS is down", "GET", "/me", "outage", aPage, 503, html, "", "", untouched},
	{"a part while DSS is down", "GET", "/me", "outage", aPart, 503, problem, "", "", untouched},
	{"a form while DSS is down", "POST", "/me", "outage", aForm, 503, html, "", "", untouched},
	{"a program while DSS is down", "GET", "/me", "outage", api, 503, problem, "", "", untouched},
}

// asks sends each kind of request to a router over one transport. The answer
// must fit the kind, and the hook must be called once for each refusal.
func asks(t *testing.T, over string, marks Marks, newServer Server) {
	dss := dsstest.NewServer(t)
	cookies := map[string]*http.Cookie{}
	for _, u := range dsstest.DemoUsers() {
		dss.AddUser(u)
		cookies[u.Login] = dss.SignIn(u.Login)
	}
	cookies["outage"] = cookies["ann"]
	var refusals atomic.Int64
	auth, err := dssauth.New(dssauth.Config{
		Client: dss.Client(), TTL: -1, RefusalTTL: -1,
		LoginURL: toSignIn,
		Hooks:    dssauth.Hooks{Refused: func(*http.Request, error) { refusals.Add(1) }},
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, auth.Close()) })
	var secure *tls.Config
	transport := &http.Transport{}
	cookieName := "dssauth_redirected"
	if over == "https" {
		secure, transport = certificate(t)
		cookieName = "__Host-" + cookieName
	}
	t.Cleanup(transport.CloseIdleConnections)
	router := newServer(t, auth, secure)
	left := ask(t, transport, "GET", router+"/report", aPage).Cookies()
	require.Len(t, left, 1)

	for _, tt := range kinds {
		t.Run(tt.name, func(t *testing.T) {
			dss.SetDown(tt.login == "outage")
			defer dss.SetDown(false)
			before := refusals.Load()
			headers := []string{}
			for _, h := range tt.headers {
				h = strings.ReplaceAll(h, "MARKS", left[0].Name+"="+left[0].Value)
				headers = append(headers, strings.ReplaceAll(h, "HOST", router))
			}
			if c := cookies[tt.login]; c != nil {
				headers = append(headers, "Cookie", c.Name+"="+c.Value)
			}
			got := ask(t, transport, tt.method, router+tt.path, headers)

			assert.Equal(t, tt.status, got.StatusCode)
			assert.Equal(t, tt.contentType, strings.ToLower(got.Header.Get("Content-Type")))
			assert.Equal(t, signInFor(tt.back), got.Header.Get("Location"))
			assert.Equal(t, signInFor(tt.hxBack), got.Header.Get("HX-Redirect"))
			switch set := got.Header.Values("Set-Cookie"); {
			case tt.setCookie == untouched || tt.setCookie == cleared && marks == KeepsMarks:
				assert.Empty(t, set)
			case assert.Len(t, set, 1):
				assert.True(t, strings.HasPrefix(set[0], cookieName+"="), set[0])
				assert.Contains(t, set[0], tt.setCookie)
				assert.Equal(t, over == "https", strings.Contains(set[0], "; Secure"), set[0])
			}
			refused, kept := int64(1), []string{"no-store"}
			if tt.status == http.StatusOK {
				refused, kept = 0, []string{"private"}
			}
			assert.Equal(t, refused, refusals.Load()-before, "refusals told to the hook")
			assert.Equal(t, kept, got.Header.Values("Cache-Control"))
			assert.Contains(t, strings.Join(got.Header.Values("Vary"), ", "), "Cookie, Authorization")
		})
	}
	t.Logf("figure: %d kinds of request over %s", len(kinds), over)
}

// ownPage asks with Config.OnError: OnError writes the visitor's answer, and
// nothing follows it.
func ownPage(t *testing.T, newServer Server) {
	dss := dsstest.NewServer(t)
	auth, err := dssauth.New(dssauth.Config{Client: dss.Client(), OnError: func(w http.ResponseWriter, _ *http.Request, err error) {
		w.Header().Set("Content-Type", text)
		w.WriteHeader(dssauth.StatusCode(err))
		_, _ = io.WriteString(w, "our own page")
	}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, auth.Close()) })
	got := get(t, newServer(t, auth, nil)+"/report", nil, "text/html")
	assert.Equal(t, http.StatusUnauthorized, got.status)
	assert.Equal(t, "our own page", got.body)
	assert.Equal(t, "Bearer", got.header.Get("WWW-Authenticate"))
}

func toSignIn(_ *http.Request, back string) string { return signInFor(back) }

func signInFor(back string) string {
	if back == "" {
		return ""
	}
	return signIn + url.QueryEscape(back)
}

// ask returns the answer to one request, and its body.
func ask(t *testing.T, transport *http.Transport, method, url string, headers []string) *http.Response {
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	if cookies := r.Header.Values("Cookie"); len(cookies) > 0 { // as browsers send them
		r.Header.Set("Cookie", strings.Join(cookies, "; "))
	}
	if r.Header.Get("Upgrade") != "" { // HTTP/2 has no reason phrase
		transport = transport.Clone()
		transport.ForceAttemptHTTP2 = false
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetHTTP1(true)
		defer transport.CloseIdleConnections()
	}
	reply, err := transport.RoundTrip(r)
	require.NoError(t, err)
	defer reply.Body.Close()
	_, err = io.Copy(io.Discard, reply.Body)
	require.NoError(t, err)
	return reply
}

// certificate returns a server's TLS settings, and a client that trusts them
// and speaks HTTP/2 if the server does.
func certificate(t *testing.T) (*tls.Config, *http.Transport) {
	known := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(known.Close)
	trusting := known.Client().Transport.(*http.Transport).TLSClientConfig
	return &tls.Config{Certificates: known.TLS.Certificates},
		&http.Transport{TLSClientConfig: trusting.Clone(), ForceAttemptHTTP2: true}
}
