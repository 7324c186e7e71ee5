package server

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/gateway/internal/config"
)

const issuer, audience = "https://apps.example", "report-app"

// world is a gateway between a fake DSS with some visitors and an upstream that
// remembers what it saw.
type world struct {
	*testing.T
	dss      *dsstest.Server
	upstream *upstream
	url      string
	server   *Server
	log      *logs
	client   *http.Client
	front    *front // nginx or Caddy, if one stands in front; then url is the URL of this one
}

// someRules are the rules of the gateway in most tests.
const someRules = `[{path: /open/, allow: everyone}, {path: /admin/, groups: [administrators]}, {path: /churn/, project: CHURN},
	{path: /closed/, allow: nobody}, {path: /api/, allow: signed-in}, {path: /api/, methods: [POST, DELETE], groups: [administrators]}, {path: /, allow: signed-in}]`

func newWorld(t *testing.T, args ...string) *world {
	upstream := newUpstream(t)
	w := newWorldBefore(t, upstream.URL, args...)
	w.upstream = upstream
	return w
}

func newWorldBefore(t *testing.T, upstream string, args ...string) *world {
	w := &world{T: t, dss: dsstest.NewServer(t), log: &logs{}, client: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	w.dss.AddUser(dsstest.User{Login: "ann", Groups: []string{"administrators", "data, team"}, DisplayName: "Änn Ärbel", Email: "ann@example.com"})
	w.dss.AddUser(dsstest.User{Login: "bob", Groups: []string{"readers"}})
	w.dss.AddUser(dsstest.User{Login: "eve"})
	w.dss.AddProject(dsstest.Project{Key: "CHURN", Owner: "bob"})
	args = append([]string{"-listen=127.0.0.1:0", "-upstream=" + upstream, "-rules=" + someRules,
		"-assertion.issuer=" + issuer, "-assertion.audience=" + audience, "-dss_cookies=[dss_session_*]"}, args...)
	c, _, err := config.Load(args, nil)
	require.NoError(t, err)
	w.server, err = New(c, w.dss.Client(), slog.New(slog.NewJSONHandler(w.log, nil)))
	require.NoError(t, err)
	front := httptest.NewUnstartedServer(nil)
	front.Config = newServer(w.server, slog.New(slog.DiscardHandler))
	front.Start()
	w.url = front.URL
	t.Cleanup(func() {
		w.server.end()
		front.Close()
		assert.NoError(t, w.server.Close())
	})
	return w
}

// logs keeps the text that was logged.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// seen is a request as the upstream saw it.
type seen struct {
	Method, Target string
	Header         http.Header
	Host           string
}

// upstream is an application. It answers with what it saw, and remembers it.
type upstream struct {
	*httptest.Server
	mux  *http.ServeMux
	mu   sync.Mutex
	seen []seen
}

func newUpstream(t *testing.T) *upstream {
	u := &upstream{mux: http.NewServeMux()}
	u.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		assert.NoError(t, json.NewEncoder(w).Encode(u.last()))
	})
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		u.seen = append(u.seen, seen{r.Method, r.RequestURI, r.Header.Clone(), r.Host})
		u.mu.Unlock()
		u.mux.ServeHTTP(w, r)
	}))
	t.Cleanup(u.Close)
	return u
}

// last returns the newest request.
func (u *upstream) last() seen {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.seen[len(u.seen)-1]
}

// all returns the requests, and forgets them.
func (u *upstream) all() []seen {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := u.seen
	u.seen = nil
	return all
}

// get sends a GET with the cookie who, or without one if who is nil, and
// returns the answer.
func (w *world) get(path string, who *http.Cookie, headers ...string) *http.Response {
	return w.do(http.MethodGet, path, who, nil, headers...)
}

func (w *world) do(method, path string, who *http.Cookie, body io.Reader, headers ...string) *http.Response {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), method, w.url, body)
	require.NoError(w, err)
	target, query, _ := strings.Cut(path, "?")
	r.URL.Opaque, r.URL.RawQuery = target, query
	if who != nil {
		r.AddCookie(who)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header[headers[i]] = append(r.Header[headers[i]], headers[i+1])
	}
	reply, err := w.client.Do(r)
	require.NoError(w, err)
	w.Cleanup(func() { reply.Body.Close() })
	return reply
}

func TestUpstreamIsToldWhoAsks(t *testing.T) {
	w := newWorld(t, "-user_details=true")
	reply := w.get("/page?a=1;b=%zz", w.dss.SignIn("ann"), "Accept-Language", "de")
	require.Equal(t, 200, reply.StatusCode)
	saw := w.upstream.last()
	assert.Equal(t, "/page?a=1;b=%zz", saw.Target)
	assert.Equal(t, "ann", saw.Header.Get("Remote-User"))
	assert.Equal(t, "administrators,data%2C team", saw.Header.Get("Remote-Groups"))
	assert.Equal(t, "%C3%84nn %C3%84rbel", saw.Header.Get("Remote-Name"))
	assert.Equal(t, "ann@example.com", saw.Header.Get("Remote-Email"))
	assert.NotEmpty(t, saw.Header.Get(assertionHeader))
	assert.Equal(t, "de", saw.Header.Get("Accept-Language"))
	assert.Equal(t, strings.TrimPrefix(w.url, "http://"), saw.Host)
	assert.Empty(t, saw.Header["Cookie"])
	assert.Equal(t, "127.0.0.1", saw.Header.Get("X-Forwarded-For"))
	assert.Equal(t, []string{"private"}, reply.Header["Cache-Control"])
	assert.Equal(t, []string{"Cookie", "Authorization"}, reply.Header["Vary"])
}

func TestRules(t *testing.T) {
	w := newWorld(t)
	ann, bob, eve := w.dss.SignIn("ann"), w.dss.SignIn("bob"), w.dss.SignIn("eve")
	for _, test := range []struct {
		method, path          string
		nobody, ann, bob, eve int
	}{
		{"GET", "/", 401, 200, 200, 200},
		{"GET", "/open/page", 200, 200, 200, 200},
		{"GET", "/admin", 401, 200, 403, 403},
		{"GET", "/admin/x", 401, 200, 403, 403},
		{"GET", "/administrator", 401, 200, 200, 200},
		{"GET", "/churn/x", 401, 200, 200, 403}, // ann is an administrator, bob the owner
		{"GET", "/closed/", 403, 403, 403, 403},
		{"GET", "/api/x", 401, 200, 200, 200},
		{"POST", "/api/x", 401, 200, 403, 403},
		{"DELETE", "/api/x", 401, 200, 403, 403},
		{"GET", "/ADMIN/x", 400, 400, 400, 400},
		{"GET", "/open/../admin", 400, 400, 400, 400},
		{"TRACE", "/open/", 405, 405, 405, 405},
		{"GET", "/dssauth/x", 400, 400, 400, 400},
	} {
		for who, cookie := range map[int]*http.Cookie{0: nil, 1: ann, 2: bob, 3: eve} {
			want := []int{test.nobody, test.ann, test.bob, test.eve}[who]
			for door, ask := range w.doors() {
				assert.Equal(t, want, ask(test.method, test.path, cookie), "%s %s, visitor %d, %s", test.method, test.path, who, door)
			}
		}
	}
}

// doors returns the ways to send a request. Each returns the status.
func (w *world) doors() map[string]func(method, path string, who *http.Cookie) int {
	return map[string]func(method, path string, who *http.Cookie) int{
		"proxy": func(method, path string, who *http.Cookie) int { return w.do(method, path, who, nil).StatusCode },
		"check": func(method, path string, who *http.Cookie) int {
			return w.get("/dssauth/check", who, "X-Forwarded-Method", method, "X-Forwarded-Uri", path).StatusCode
		},
	}
}

// awaits asks readyz until it answers want.
func (w *world) awaits(want string) {
	w.Helper()
	for {
		ready, err := io.ReadAll(w.get("/dssauth/readyz", nil).Body)
		require.NoError(w, err)
		if string(ready) == want {
			return
		}
	}
}

func TestOpenPagesStayOpenInAnOutage(t *testing.T) {
	w := newWorld(t)
	ann := w.dss.SignIn("ann")
	assert.Equal(t, 200, w.get("/open/", ann).StatusCode)
	assert.Equal(t, "ann", w.upstream.last().Header.Get("Remote-User"))
	bob := w.dss.SignIn("bob")
	w.dss.SetDown(true)
	assert.Equal(t, 200, w.get("/open/", bob).StatusCode)
	assert.Empty(t, w.upstream.last().Header["Remote-User"])
	assert.Equal(t, 503, w.get("/page", bob).StatusCode)
	w.awaits("ok; DSS is down\n") // the gateway's own question to DSS finds this out
}

func TestBrowserCannotSpeakForTheGateway(t *testing.T) {
	w := newWorld(t, "-headers.user=X-User")
	cookie := w.dss.SignIn("eve")
	require.Equal(t, 200, w.get("/open/", cookie,
		"X-User", "ann", "x-user", "ann", "X_User", "ann", "X.User", "ann",
		"Remote-Groups", "ann", "remote_groups", "ann", "REMOTE-NAME", "ann", "Remote_Email", "ann@example.com",
		"X-Dssauth-Assertion", "ann.y.z", "X_DSSAUTH_ASSERTION", "ann.y.z", "X-Dssauth-New", "ann", "X-DKU-APITicket", "ann", "x_dku_proxyuser", "ann",
		"X-Original-Url", "/ann/", "X-Rewrite-URL", "/ann/", "X-HTTP-Method-Override", "ann", "Forwarded", "for=ann",
		"X-Forwarded_Prefix", "/ann", "X-Forwarded-Prefix", "/app",
		"Connection", "Remote-User, X-Dssauth-Assertion, X-User, close", "X-Own", "stays", "Cookie", "theme=dark; "+cookie.Name+"=ann; a=b").StatusCode)
	saw := w.upstream.last()
	for name, values := range saw.Header {
		assert.NotContains(t, strings.Join(values, " "), "ann", name)
	}
	assert.Equal(t, "eve", saw.Header.Get("X-User"))
	assert.Equal(t, "stays", saw.Header.Get("X-Own"))
	assert.Equal(t, "theme=dark; a=b", saw.Header.Get("Cookie"))
	assert.Equal(t, "/app", saw.Header.Get("X-Forwarded-Prefix"), "from a proxy")
}
