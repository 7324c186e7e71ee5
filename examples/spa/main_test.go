package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

// prefix is that of a webapp with several pods.
const prefix = "/web-apps-backends/CHURN/Xy_app-7d4b/8080"

// fixture is a host like DSS behind its proxy: the application under the
// prefix, and DSS's own pages above.
type fixture struct {
	*testing.T
	fake  *dsstest.Server
	auth  *dssauth.Middleware
	board *board
	url   string        // of the application, without a slash at its end
	proxy atomic.Int32  // the status of the proxy for the API; 0: the application answers
	turn  chan struct{} // a test that has filled it holds back calls of the API
}

// newFixture starts a host whose proxy keeps the prefix, or removes it.
func newFixture(t *testing.T, strips bool) *fixture {
	f := &fixture{T: t, fake: dsstest.NewServer(t), board: newBoard(), turn: make(chan struct{}, 1)}
	for _, u := range dsstest.DemoUsers() {
		f.fake.AddUser(u)
	}
	var err error
	f.auth, err = dssauth.New(dssauth.Config{Client: f.fake.Client(), TTL: time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, f.auth.Close()) })
	a := &app{auth: f.auth, board: f.board, signIn: "/", every: 100 * time.Millisecond}
	server := httptest.NewServer(under(prefix, a.newRouter()))
	t.Cleanup(server.Close)

	target, err := url.Parse(server.URL)
	require.NoError(t, err)
	var toApp http.Handler = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}}
	if strips {
		toApp = http.StripPrefix(prefix, toApp)
	}
	host := http.NewServeMux()
	host.HandleFunc(prefix+"/", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, prefix+"/api/") {
			select {
			case f.turn <- struct{}{}:
				<-f.turn
			case <-f.Context().Done():
			}
			if status := f.proxy.Load(); status != 0 {
				w.Header().Set("Retry-After", "30")
				w.Header().Set("Location", "/")
				w.WriteHeader(int(status))
				return
			}
		}
		toApp.ServeHTTP(w, r)
	})
	host.Handle("/", f.fake.SignInPage())
	site := httptest.NewServer(host)
	t.Cleanup(site.Close)
	f.url = site.URL + prefix
	return f
}

// as returns a cookie header.
func (f *fixture) as(login string) []string {
	c := f.fake.SignIn(login)
	return []string{"Cookie", c.Name + "=" + c.Value}
}

// ask sends a request of the page, with these headers changed.
func (f *fixture) ask(method, path, body string, headers ...string) *http.Response {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), 20*time.Second)
	f.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, f.url+path, strings.NewReader(body))
	require.NoError(f, err)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	reply, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(f, err)
	f.Cleanup(func() { reply.Body.Close() })
	return reply
}

func TestServesUnderAPrefixThatIsKeptOrStripped(t *testing.T) {
	for name, strips := range map[string]bool{"kept": false, "stripped": true} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, strips)
			ann := f.as("ann")
			for _, row := range []struct {
				path, contentType, starts string
			}{
				{"/", "text/html; charset=utf-8", "<!doctype html>"},
				{"/app.js", "text/javascript; charset=utf-8", "//"},
				{"/app.css", "text/css; charset=utf-8", ":root"},
				{"/api/me", "application/json", `{"login":"ann"`},
				{"/api/events", "text/event-stream", "event: notes\ndata: []\n\n"},
			} {
				got := f.ask("GET", row.path, "", ann...)
				assert.Equal(t, http.StatusOK, got.StatusCode, row.path)
				assert.Equal(t, row.contentType, got.Header.Get("Content-Type"), row.path)
				start, err := bufio.NewReader(got.Body).Peek(len(row.starts))
				require.NoError(t, err, row.path)
				assert.Equal(t, row.starts, string(start), row.path)
			}
			assert.Equal(t, http.StatusNotFound, f.ask("GET", "/nothing", "", ann...).StatusCode)
			to := f.ask("GET", "/sign-in", "")
			assert.Equal(t, http.StatusFound, to.StatusCode)
			assert.Equal(t, "/", to.Header.Get("Location"))
		})
	}
}

func TestAddressAndPrefixComeFromACodeStudio(t *testing.T) {
	fake := dsstest.NewServer(t)
	t.Setenv("DKU_API_TICKET", "")
	t.Setenv("DKU_DSS_URL", fake.URL())
	t.Setenv("DKU_API_KEY", fake.AdminKey())
	t.Setenv("DKU_CODE_STUDIO_BROWSER_PATH_8123", "/web-apps-backends/CHURN/Xy_${K8S_POD_NAME}/8123")
	t.Setenv("DKU_CODE_STUDIO_IS_PUBLIC_PORT_8123", "1")
	t.Setenv("K8S_POD_NAME", "app-7d4b")
	server, err := newServer(8123)
	require.NoError(t, err)
	assert.Equal(t, "0.0.0.0:8123", server.Addr)
	for path, want := range map[string]string{
		"/sign-in": fake.URL(),
		"/web-apps-backends/CHURN/Xy_app-7d4b/8123/sign-in": fake.URL(),
		"/web-apps-backends/CHURN/Xy_app-7d4b/8123":         "/web-apps-backends/CHURN/Xy_app-7d4b/8123/",
	} {
		w := httptest.NewRecorder()
		server.Handler.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		assert.Equal(t, want, w.Header().Get("Location"), path)
	}
}

// A sign-in page must not lead to the application itself, for any source of the
// settings.
func TestSignInLeadsToDSS(t *testing.T) {
	home := t.TempDir()
	require.NoError(t, os.Mkdir(home+"/.dataiku", 0o700))
	require.NoError(t, os.WriteFile(home+"/.dataiku/config.json",
		[]byte(`{"dss_instances": {"a": {"url": "https://dss.example/", "api_key": "key"}}, "default_instance": "a"}`), 0o600))
	t.Setenv("HOME", home)
	for name, row := range map[string]struct {
		ticket, url, want string
	}{
		"a laptop's file":       {"", "", "https://dss.example"},
		"the environment":       {"", "https://other.example/", "https://other.example"},
		"inside DSS":            {"ticket", "", "/"},
		"inside DSS, with both": {"ticket", "https://other.example/", "/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("DKU_API_TICKET", row.ticket)
			t.Setenv("DKU_BACKEND_PORT", "11201")
			t.Setenv("DKU_DSS_URL", row.url)
			t.Setenv("DKU_API_KEY", "key")
			server, err := newServer(8123)
			require.NoError(t, err)
			w := httptest.NewRecorder()
			server.Handler.ServeHTTP(w, httptest.NewRequest("GET", "/sign-in", nil))
			assert.Equal(t, row.want, w.Header().Get("Location"))
		})
	}
}

// The page must keep to the policy.
func TestPageKeepsToItsPolicy(t *testing.T) {
	f := newFixture(t, false)
	for _, path := range []string{"/", "/app.js", "/nothing", "/api/me"} {
		policy := f.ask("GET", path, "").Header.Get("Content-Security-Policy")
		assert.Contains(t, policy, "default-src 'none'; script-src 'self'; style-src 'self';", path)
		assert.NotContains(t, policy, "unsafe", path)
	}
	page, err := os.ReadFile("web/index.html")
	require.NoError(t, err)
	for _, inline := range []string{`<script[^>]*>[^<]`, `<style`, ` style=`, ` on[a-z]+=`} {
		assert.NotRegexp(t, inline, string(page))
	}
	for _, name := range []string{"web/index.html", "web/app.js"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		assert.Empty(t, regexp.MustCompile(`(src="|href="|ask\("|EventSource\(")(/|\w+:/)[^"]*"`).FindAllString(string(text), -1), "%s: an address that no prefix reaches", name)
	}
}

func TestRequestIsRefused(t *testing.T) {
	f := newFixture(t, false)
	crossSite := []string{"Sec-Fetch-Site", "cross-site"}
	sameSite := []string{"Sec-Fetch-Site", "same-site"}
	oldBrowser := []string{"Sec-Fetch-Site", "", "Origin", "https://evil.example"}
	const note = `{"login":"ann","text":"hello"}`
	for name, row := range map[string]struct {
		method, path, body, login string
		headers                   []string
		status                    int
	}{
		"an anonymous visitor asks for /api/me":           {"GET", "/api/me", "", "", nil, 401},
		"an anonymous visitor listens":                    {"GET", "/api/events", "", "", nil, 401},
		"an anonymous visitor writes":                     {"POST", "/api/notes", note, "", nil, 401},
		"an anonymous visitor asks for an unknown path":   {"GET", "/api/nothing", "", "", nil, 401},
		"a reader asks for /api/me":                       {"GET", "/api/me", "", "bob", nil, 403},
		"a reader listens":                                {"GET", "/api/events", "", "bob", nil, 403},
		"a reader writes":                                 {"POST", "/api/notes", `{"login":"bob","text":"hello"}`, "bob", nil, 403},
		"an analyst lured by another site into a note":    {"POST", "/api/notes", note, "ann", crossSite, 403},
		"an analyst lured by a neighbour into a note":     {"POST", "/api/notes", note, "ann", sameSite, 403},
		"an analyst lured in an old browser":              {"POST", "/api/notes", note, "ann", oldBrowser, 403},
		"an analyst lured by another site into listening": {"GET", "/api/events", "", "ann", crossSite, 403},
		"a note of another user's page":                   {"POST", "/api/notes", `{"login":"bob","text":"hello"}`, "ann", nil, 409},
		"a note without a user":                           {"POST", "/api/notes", `{"text":"hello"}`, "ann", nil, 409},
		"a note without text":                             {"POST", "/api/notes", `{"login":"ann","text":" \n"}`, "ann", nil, 400},
		"a note that is too long":                         {"POST", "/api/notes", `{"login":"ann","text":"` + strings.Repeat("ä", longestNote+1) + `"}`, "ann", nil, 400},
		"a note that is very much too long":               {"POST", "/api/notes", `{"login":"ann","text":"` + strings.Repeat(" ", 1<<20) + `"}`, "ann", nil, 400},
		"a note that is not JSON":                         {"POST", "/api/notes", `hello`, "ann", nil, 400},
		"a note by GET":                                   {"GET", "/api/notes", note, "ann", nil, 405},
	} {
		headers := row.headers
		if row.login != "" {
			headers = append(f.as(row.login), headers...)
		}
		assert.Equal(t, row.status, f.ask(row.method, row.path, row.body, headers...).StatusCode, name)
	}
	notes, _ := f.board.read()
	assert.Empty(t, notes)

	f.fake.SetDown(true)
	got := f.ask("GET", "/api/me", "", f.as("ann")...)
	assert.Equal(t, http.StatusServiceUnavailable, got.StatusCode)
	assert.NotEmpty(t, got.Header.Get("Retry-After"))
	assert.Equal(t, http.StatusOK, f.ask("GET", "/", "").StatusCode, "the page for that")
}

func TestStreamSendsNotesAndEndsSoonAfter(t *testing.T) {
	for name, happens := range map[string]func(*fixture){
		"a sign-out":        func(f *fixture) { f.fake.EndSessions() },
		"the group is lost": func(f *fixture) { f.fake.AddUser(dsstest.User{Login: "ann"}) },
		"an outage":         func(f *fixture) { f.fake.SetDown(true) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, false)
			ann := f.as("ann")
			stream := bufio.NewReader(f.ask("GET", "/api/events", "", ann...).Body)
			next := func() string {
				_, _ = stream.ReadString('\n')
				data, err := stream.ReadString('\n')
				require.NoError(t, err)
				_, _ = stream.ReadString('\n')
				return data
			}
			assert.Equal(t, "data: []\n", next())
			longest := strings.Repeat("ä", longestNote)
			assert.Equal(t, http.StatusNoContent, f.ask("POST", "/api/notes", `{"login":"ann","text":"\n`+longest+`\n"}`, ann...).StatusCode)
			assert.Contains(t, next(), `"by":"ann","text":"`+longest+`"`)

			happens(f)
			rest, err := io.ReadAll(stream)
			assert.NoError(t, err)
			assert.Empty(t, string(rest))
		})
	}
}

func TestBoardKeepsTheLastNotes(t *testing.T) {
	b := newBoard()
	before, changed := b.read()
	for range mostNotes {
		b.add("ann", "an old one")
	}
	b.add("bob", "the last one")
	<-changed
	assert.Empty(t, before, "the notes that were read have changed")
	notes, _ := b.read()
	require.Len(t, notes, mostNotes)
	assert.Equal(t, "an old one", notes[0].Text)
	assert.Equal(t, "the last one", notes[mostNotes-1].Text)
}
