package promises

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
)

// The headers of browsers, htmx and programs, as recorded from them.
var (
	chromiumPage  = []string{"Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "none", "Sec-Fetch-Dest", "document", "Sec-Fetch-User", "?1"}
	plainHTTPPage = []string{"Accept", "text/html,application/xhtml+xml,*/*;q=0.8", "Upgrade-Insecure-Requests", "1"}
	sameOriginXHR = []string{"Accept", "*/*", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Dest", "empty"}
	htmxPart      = []string{"Accept", "*/*", "HX-Request", "true", "HX-Target", "part"}
	inFrame       = []string{"Accept", "text/html,*/*;q=0.8", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}
	sentForm      = []string{"Accept", "text/html,*/*;q=0.8", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Dest", "document", "Content-Type", "application/x-www-form-urlencoded"}
)

// A row for each kind of request, with everything that depends on the kind. HOST stands
// for the server's host.
func TestHowEachKindOfRequestIsRefused(t *testing.T) {
	const (
		page    = "text/html; charset=utf-8"
		problem = "application/problem+json"
		marked  = `dssauth_redirected=([0-9a-f]{16}-[0-9a-f]{11}\.){0,3}[0-9a-f]{16}-[0-9a-f]{11}; Path=/; Max-Age=30; HttpOnly`
		plain   = "^" + marked + "; SameSite=Lax$"
		secure  = "^__Host-" + marked + "; Secure; SameSite=Lax$"
	)
	ann, bob := []string{"Cookie", "session=ann"}, []string{"Cookie", "session=bob"}
	to := func(back string) string { return loginPage + "?back=" + url.QueryEscape(back) }
	tests := []struct {
		name    string
		over    string // http, https or h2
		method  string
		path    string
		headers []string

		status      int
		contentType string
		location    string
		hxRedirect  string
		setCookie   string
	}{
		{"a page in Chromium", "https", "GET", "/report?year=2025&month=3", chromiumPage, 302, page, to("/report?year=2025&month=3"), "", secure},
		{"a page over HTTP/2", "h2", "GET", "/report", chromiumPage, 302, page, to("/report"), "", secure},
		{"its head", "https", "HEAD", "/report", chromiumPage, 302, page, to("/report"), "", secure},
		{"a page over plain http", "http", "GET", "/report", plainHTTPPage, 302, page, to("/report"), "", plain},
		{"a page on this machine, where browsers send more", "http", "GET", "/report", chromiumPage, 302, page, to("/report"), "", plain},
		{"a page behind a proxy that ends TLS", "http", "GET", "/report", with(chromiumPage, "X-Forwarded-Proto", "https"), 302, page, to("/report"), "", secure},
		{"a page behind two proxies", "http", "GET", "/report", with(chromiumPage, "X-Forwarded-Proto", "HTTPS, http"), 302, page, to("/report"), "", secure},
		{"a page behind a proxy without TLS", "http", "GET", "/report", with(plainHTTPPage, "X-Forwarded-Proto", "http"), 302, page, to("/report"), "", plain},
		{"a page behind a proxy that speaks TLS with us only", "https", "GET", "/report", with(plainHTTPPage, "X-Forwarded-Proto", "http"), 302, page, to("/report"), "", secure},
		{"a page with two slashes in its path", "https", "GET", "/files/bucket//key", chromiumPage, 302, page, to("/files/bucket//key"), "", secure},
		{"a page with an old session", "https", "GET", "/report", with(chromiumPage, "Cookie", "session=old"), 302, page, to("/report"), "", secure},
		{"a page with a mark from a stranger", "https", "GET", "/report", with(chromiumPage, "Cookie", "dssauth_redirected=1; __Host-dssauth_redirected=1"), 302, page, to("/report"), "", secure},
		{"a page of ann's", "https", "GET", "/report", with(chromiumPage, ann...), 200, "text/plain; charset=utf-8", "", "", ""},
		{"a page that is not for bob", "https", "GET", "/analysts", with(chromiumPage, bob...), 403, page, "", "", ""},
		{"a page while DSS is down", "https", "GET", "/report", with(chromiumPage, "Cookie", "session=outage"), 503, page, "", "", ""},
		{"a page with unreadable credentials", "https", "GET", "/report", with(chromiumPage, "Authorization", "Bearer \xff"), 400, page, "", "", ""},

		{"a part by htmx", "https", "GET", "/part", with(htmxPart, "HX-Current-URL", "https://HOST/app?tab=2#x", "Sec-Fetch-Mode", "cors"), 401, problem, "", to("/app?tab=2"), secure},
		{"a part by htmx over HTTP/2", "h2", "GET", "/part", with(htmxPart, "HX-Current-URL", "https://HOST/app", "Sec-Fetch-Mode", "cors"), 401, problem, "", to("/app"), secure},
		{"a part by htmx over plain http", "http", "GET", "/part", with(htmxPart, "HX-Current-URL", "http://HOST/app"), 401, problem, "", to("/app"), plain},
		{"a part that htmx posts", "http", "POST", "/part", with(htmxPart, "HX-Current-URL", "http://HOST/app"), 401, problem, "", to("/app"), plain},
		{"a part by htmx that accepts HTML", "http", "GET", "/part", with(plainHTTPPage, "HX-Request", "true", "HX-Boosted", "true", "HX-Current-URL", "http://HOST/app"), 401, problem, "", to("/app"), plain},
		{"a part by htmx on an unknown page", "https", "GET", "/part", htmxPart, 401, problem, "", to("/"), secure},
		{"a part by htmx on a page of another host", "https", "GET", "/part", with(htmxPart, "HX-Current-URL", "https://evil.example/app"), 401, problem, "", to("/"), secure},
		{"a part by htmx on a page with a script's address", "https", "GET", "/part", with(htmxPart, "HX-Current-URL", "javascript://HOST/app"), 401, problem, "", to("/"), secure},
		{"a part by htmx on a page with two slashes", "https", "GET", "/part", with(htmxPart, "HX-Current-URL", "https://HOST/files/bucket//key"), 401, problem, "", to("/files/bucket//key"), secure},
		{"a part by htmx on a page that begins like a host", "https", "GET", "/part", with(htmxPart, "HX-Current-URL", "https://HOST//evil.example/app"), 401, problem, "", to("/evil.example/app"), secure},
		{"a part by htmx of ann's", "https", "GET", "/part", with(htmxPart, ann...), 200, "text/plain; charset=utf-8", "", "", ""},
		{"a part by htmx that is not for bob", "https", "GET", "/analysts", with(htmxPart, bob...), 403, problem, "", "", ""},
		{"a part by htmx while DSS is down", "https", "GET", "/part", with(htmxPart, "Cookie", "session=outage"), 503, problem, "", "", ""},
		{"a Turbo frame", "http", "GET", "/part", with(plainHTTPPage, "Turbo-Frame", "messages"), 401, problem, "", "", ""},
		{"a Turbo visit", "http", "GET", "/part", with(plainHTTPPage, "X-Turbo-Request-Id", "a-b-c"), 401, problem, "", "", ""},
		{"a fragment by Unpoly", "http", "GET", "/part", with(plainHTTPPage, "X-Up-Version", "3.9.0"), 401, problem, "", "", ""},
		{"a visit by Inertia", "http", "GET", "/part", with(plainHTTPPage, "X-Inertia", "true"), 401, problem, "", "", ""},

		{"a prefetched page", "https", "GET", "/report", with(chromiumPage, "Sec-Purpose", "prefetch"), 401, problem, "", "", ""},
		{"a prerendered page", "https", "GET", "/report", with(chromiumPage, "Sec-Purpose", "prefetch;prerender"), 401, problem, "", "", ""},
		{"a page prefetched over plain http", "http", "GET", "/report", with(plainHTTPPage, "Purpose", "prefetch"), 401, problem, "", "", ""},
		{"a part that htmx preloads", "https", "GET", "/part", with(htmxPart, "HX-Preloaded", "true"), 401, problem, "", "", ""},

		{"a form", "https", "POST", "/save", with(sentForm, "Referer", "https://HOST/edit"), 401, page, "", "", ""},
		{"a form over HTTP/2", "h2", "POST", "/save", sentForm, 401, page, "", "", ""},
		{"a form by PUT", "https", "PUT", "/save", sentForm, 401, page, "", "", ""},
		{"a form by an unknown method", "https", "PURGE", "/save", sentForm, 401, page, "", "", ""},
		{"a form while DSS is down", "https", "POST", "/save", with(sentForm, "Cookie", "session=outage"), 503, page, "", "", ""},
		{"a form of ann's", "https", "POST", "/save", with(sentForm, ann...), 200, "text/plain; charset=utf-8", "", "", ""},

		{"a frame of another site", "https", "GET", "/report", with(inFrame, "Sec-Fetch-Site", "cross-site"), 401, page, "", "", ""},
		{"a link in such a frame", "https", "GET", "/report", with(inFrame, "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Storage-Access", "none"), 401, page, "", "", ""},
		{"a form in such a frame", "https", "POST", "/save", with(inFrame, "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Storage-Access", "none"), 401, page, "", "", ""},
		{"a frame of this site", "https", "GET", "/report", with(inFrame, "Sec-Fetch-Site", "same-origin"), 302, page, to("/report"), "", secure},

		{"a program", "https", "GET", "/report", nil, 401, problem, "", "", ""},
		{"a program that takes anything", "h2", "GET", "/report", []string{"Accept", "*/*"}, 401, problem, "", "", ""},
		{"a program with a wrong key", "https", "GET", "/report", []string{"Accept", "application/json", "Authorization", "Bearer wrong"}, 401, problem, "", "", ""},
		{"a program that posts and takes HTML", "https", "POST", "/save", []string{"Accept", "text/html"}, 401, problem, "", "", ""},
		{"a program that wants anything but HTML", "https", "GET", "/report", []string{"Accept", "text/html;q=0, */*"}, 401, problem, "", "", ""},
		{"a script's fetch", "https", "GET", "/report", sameOriginXHR, 401, problem, "", "", ""},
		{"a script's fetch of HTML", "https", "GET", "/report", []string{"Accept", "text/html", "Sec-Fetch-Mode", "cors"}, 401, problem, "", "", ""},
		{"an XMLHttpRequest over plain http", "http", "GET", "/report", with(plainHTTPPage, "X-Requested-With", "XMLHttpRequest"), 401, problem, "", "", ""},
		{"an image", "https", "GET", "/logo.png", []string{"Accept", "image/avif,image/webp,*/*;q=0.8", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"}, 401, problem, "", "", ""},
		{"an event stream", "https", "GET", "/events", []string{"Accept", "text/event-stream", "Sec-Fetch-Mode", "cors"}, 401, problem, "", "", ""},
		{"a websocket", "https", "GET", "/socket", []string{"Accept", "text/html", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-Fetch-Mode", "websocket"}, 401, problem, "", "", ""},
		{"a preflight", "https", "OPTIONS", "/report", []string{"Origin", "https://other.example", "Access-Control-Request-Method", "GET", "Sec-Fetch-Mode", "cors"}, 401, problem, "", "", ""},
	}
	require.GreaterOrEqual(t, len(tests), 40)

	m := signingIn(t, newDoormanWithOutage())
	mux := http.NewServeMux()
	mux.Handle("/", m.Handler(whoami))
	mux.Handle("/analysts", m.Handler(m.RequireGroup("analysts")(unreachable(t))))
	// A ServeMux cleans paths by itself.
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "//") {
			m.Handler(whoami).ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
	h2 := httptest.NewUnstartedServer(app)
	h2.EnableHTTP2 = true
	h2.StartTLS()
	servers := map[string]*httptest.Server{"http": httptest.NewServer(app), "https": httptest.NewTLSServer(app), "h2": h2}
	for _, s := range servers {
		t.Cleanup(s.Close)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := servers[tt.over]
			host := server.Listener.Addr().String()
			r, err := http.NewRequestWithContext(t.Context(), tt.method, server.URL+tt.path, nil)
			require.NoError(t, err)
			for i := 0; i < len(tt.headers); i += 2 {
				r.Header.Add(tt.headers[i], strings.ReplaceAll(tt.headers[i+1], "HOST", host))
			}
			reply, err := server.Client().Transport.RoundTrip(r)
			require.NoError(t, err)
			defer reply.Body.Close()
			if tt.over == "h2" {
				require.Equal(t, 2, reply.ProtoMajor)
			}
			body, err := io.ReadAll(reply.Body)
			require.NoError(t, err)
			assert.Equal(t, tt.status, reply.StatusCode)
			assert.Equal(t, tt.contentType, reply.Header.Get("Content-Type"))
			assert.Equal(t, tt.location, reply.Header.Get("Location"))
			assert.Equal(t, tt.hxRedirect, reply.Header.Get("HX-Redirect"))
			if tt.setCookie == "" {
				assert.Empty(t, reply.Header.Values("Set-Cookie"))
			} else if assert.Len(t, reply.Header.Values("Set-Cookie"), 1) {
				assert.Regexp(t, tt.setCookie, reply.Header.Get("Set-Cookie"))
			}
			if tt.status >= 400 {
				assert.Equal(t, tt.contentType == page, strings.Contains(string(body), "<h1>"))
			}
		})
	}
}

// The links of the page, for each kind of refusal.
func TestLinksOfThePage(t *testing.T) {
	m := signingIn(t, newDoormanWithOutage())
	h := m.Handler(m.RequireGroup("analysts")(whoami))
	signIn := func(back string) string { return `href="` + loginPage + "?back=" + url.QueryEscape(back) + `"` }
	const again, lost, away = `<a href="">Try again</a>`, "Nothing was saved", ` target="_top"`
	marked := func() []string { return with(pageHeaders, "Cookie", markedFor(t, h, "/report")) }
	foreign := with(inFrame, "Sec-Fetch-Site", "cross-site")
	for _, tt := range []struct {
		name    string
		method  string
		headers []string
		shows   []string
		not     []string
	}{
		{"a page for which signing in did not help", "GET", marked(), []string{signIn("/report") + ">Sign in<", again}, []string{lost, away, "another account"}},
		{"a page for another group", "GET", with(pageHeaders, "Cookie", "session=bob"), []string{signIn("/report") + ">Use another account<", again}, []string{lost, away}},
		{"a page while DSS is down", "GET", with(pageHeaders, "Cookie", "session=outage"), []string{again, "Try again in a second."}, []string{loginPage, lost, away}},
		{"a form", "POST", with(sentForm, "Referer", "http://example.com/edit?id=7"), []string{signIn("/edit?id=7"), lost, "“back”"}, []string{`href=""`, away}},
		{"a form from another host", "POST", with(sentForm, "Referer", "http://evil.example/edit"), []string{signIn("/"), lost}, []string{`href=""`, "evil"}},
		{"a form from nowhere", "POST", sentForm, []string{signIn("/"), lost}, []string{`href=""`}},
		{"a form for another group", "POST", with(sentForm, "Cookie", "session=bob"), []string{"Use another account", lost}, []string{`href=""`}},
		{"a form while DSS is down", "POST", with(sentForm, "Cookie", "session=outage"), []string{lost}, []string{"<a "}},
		{"a frame of another site", "GET", foreign, []string{signIn("/report") + away, `<a href=""` + away}, []string{lost}},
		{"a frame of another site for another group", "GET", with(foreign, "Cookie", "session=bob"), []string{signIn("/report") + away, `<a href=""` + away}, []string{"keep nobody signed in"}},
		{"a form in a frame of another site", "POST", foreign, []string{signIn("/") + away, lost}, []string{`href=""`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			page := serve(h, request(tt.method, "/report", tt.headers...)).Body.String()
			for _, s := range tt.shows {
				assert.Contains(t, page, s)
			}
			for _, s := range tt.not {
				assert.NotContains(t, page, s)
			}
			if strings.Contains(page, away) {
				assert.Equal(t, strings.Count(page, "<a "), strings.Count(page, away), "a link stays in the frame")
			}
		})
	}
}

// A form can follow a sign-in in another tab as a page can.
func TestFormAsksAgainDespiteARememberedRefusal(t *testing.T) {
	door := newDoorman()
	m := newAuth(t, dssauth.Config{Resolver: door})
	h := m.Handler(whoami)
	post := func() *http.Request { return request("POST", "/save", with(sentForm, "Cookie", "session=new")...) }
	require.Equal(t, 401, serve(h, post()).Code)
	door.is("session=new", dssauth.NewIdentity("new"))
	assert.Equal(t, "new", serve(h, post()).Body.String())
}
