package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/gorilla/mux"
	"github.com/labstack/echo/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

// routers have the same routes, each in its own way.
var routers = map[string]func(*dssauth.Middleware, *slog.Logger) http.Handler{
	"net/http": newRouter,
	"chi": func(auth *dssauth.Middleware, logger *slog.Logger) http.Handler {
		r := chi.NewRouter()
		r.Use(auth.Handler)
		r.With(auth.RequireGroup("analysts")).Get("/report", report)
		r.Method("GET", "/projects", projects(auth, logger))
		return r
	},
	"gorilla": func(auth *dssauth.Middleware, logger *slog.Logger) http.Handler {
		r := mux.NewRouter()
		r.Handle("/report", auth.RequireGroup("analysts")(http.HandlerFunc(report)))
		r.Handle("/projects", projects(auth, logger))
		return auth.Handler(r)
	},
	"echo": func(auth *dssauth.Middleware, logger *slog.Logger) http.Handler {
		e := echo.New()
		e.Use(echo.WrapMiddleware(auth.Handler))
		e.GET("/report", echo.WrapHandler(http.HandlerFunc(report)), echo.WrapMiddleware(auth.RequireGroup("analysts")))
		e.GET("/projects", echo.WrapHandler(projects(auth, logger)))
		return e
	},
	"gin": func(auth *dssauth.Middleware, logger *slog.Logger) http.Handler {
		gin.SetMode(gin.ReleaseMode)
		wrap := func(middleware func(http.Handler) http.Handler) gin.HandlerFunc {
			return func(c *gin.Context) {
				admitted := false
				middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					admitted = true
					c.Request = r
					c.Next()
				})).ServeHTTP(c.Writer, c.Request)
				if !admitted {
					c.Abort()
				}
			}
		}
		r := gin.New()
		r.Use(wrap(auth.Handler))
		r.GET("/report", wrap(auth.RequireGroup("analysts")), gin.WrapF(report))
		r.GET("/projects", gin.WrapH(projects(auth, logger)))
		return r
	},
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// all returns the lines without their times.
func (l *lines) all(t *testing.T) (all []map[string]any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		var attrs map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &attrs))
		for _, name := range []string{"time", "duration"} {
			assert.Contains(t, attrs, name)
			delete(attrs, name)
		}
		assert.Equal(t, "INFO", attrs["level"])
		delete(attrs, "level")
		all = append(all, attrs)
	}
	l.text.Reset()
	return all
}

// app serves the handler that wrap returns, with a DSS behind it.
type app struct {
	t    *testing.T
	fake *dsstest.Server
	url  string
	log  *lines
}

func newApp(t *testing.T, c dssauth.Config, newHandler func(*dssauth.Middleware, *slog.Logger) http.Handler) *app {
	a := &app{t: t, fake: dsstest.NewServer(t), log: &lines{}}
	for _, u := range dsstest.DemoUsers() {
		a.fake.AddUser(u)
		a.fake.AddSession("session", "s3cr3t-cookie-of-"+u.Login, u.Login)
	}
	c.Client, c.Logger = a.fake.Client(), slog.New(slog.DiscardHandler)
	auth, err := dssauth.New(c)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, auth.Close()) })
	logger := slog.New(slog.NewJSONHandler(a.log, nil))
	server := httptest.NewUnstartedServer(accessLog(logger, newHandler(auth, logger)))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of a handler that panics
	server.Start()
	t.Cleanup(server.Close)
	a.url = server.URL
	return a
}

// get returns the answer for login's browser; "" is an anonymous visitor.
func (a *app) get(path, login string, headers ...string) (status int) {
	r, err := http.NewRequestWithContext(a.t.Context(), "GET", a.url+path, nil)
	require.NoError(a.t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	if login != "" {
		r.AddCookie(&http.Cookie{Name: "session", Value: "s3cr3t-cookie-of-" + login})
	}
	reply, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		return 0
	}
	defer reply.Body.Close()
	_, _ = io.Copy(io.Discard, reply.Body)
	assert.Empty(a.t, reply.Header.Get("X-Login"))
	return reply.StatusCode
}

func request(path string, status float64, more ...any) map[string]any {
	return line("request", append([]any{"path", path, "status", status}, more...)...)
}

func line(msg string, attrs ...any) map[string]any {
	line := map[string]any{"msg": msg, "method": "GET"}
	for i := 0; i < len(attrs); i += 2 {
		line[attrs[i].(string)] = attrs[i+1]
	}
	return line
}

func TestLinesOfEachRouter(t *testing.T) {
	for name, newHandler := range routers {
		t.Run(name, func(t *testing.T) {
			a := newApp(t, dssauth.Config{Impersonation: dssauth.ByTicket, LoginURL: func(*http.Request, string) string { return "/sign-in" }}, newHandler)
			for _, tt := range []struct {
				path, login string
				headers     []string
				want        []map[string]any
			}{
				{"/report?token=s3cr3t", "ann", nil, []map[string]any{request("/report", 200, "login", "ann")}},
				{"/report?token=s3cr3t", "ann", nil, []map[string]any{request("/report", 200, "login", "ann")}}, // a hit
				{"/report", "bob", nil, []map[string]any{
					request("/report", 403, "login", "bob", "reason", "dssauth: not allowed: the visitor is in none of the required groups")}},
				{"/report", "", nil, []map[string]any{
					request("/report", 401, "reason", "dssauth: not signed in to DSS: the request has no credentials")}},
				{"/report", "", []string{"Accept", "text/html", "Sec-Fetch-Mode", "navigate"}, []map[string]any{
					request("/report", 302, "reason", "dssauth: not signed in to DSS: the request has no credentials")}},
				{"/nowhere", "eve", nil, []map[string]any{request("/nowhere", 404, "login", "eve")}},
				{"/projects", "bob", nil, []map[string]any{
					line("call of DSS", "path", "/dip/publicapi/projects/", "status", 200.0, "login", "bob"),
					request("/projects", 200, "login", "bob")}},
			} {
				a.get(tt.path, tt.login, tt.headers...)
				assert.Equal(t, tt.want, a.log.all(t), "%s by %q", tt.path, tt.login)
			}
			assert.Equal(t, 3, a.fake.Calls("/auth/info-from-browser-headers"), "one lookup for each of ann, bob and eve")
		})
	}
}

func TestLinesOfCallsThatFail(t *testing.T) {
	a := newApp(t, dssauth.Config{Impersonation: dssauth.ByTicket}, newRouter)
	require.Equal(t, 200, a.get("/projects", "ann"))
	a.log.all(t)

	a.fake.Intercept("/projects/", 1, dsstest.Respond(403, `{"errorType":"com.dataiku.dip.exceptions.UnauthorizedException","message":"ann s3cr3t"}`))
	require.Equal(t, 403, a.get("/projects", "ann"))
	assert.Equal(t, []map[string]any{
		line("call of DSS", "path", "/dip/publicapi/projects/", "status", 403.0, "login", "ann"),
		request("/projects", 403, "login", "ann", "reason",
			"dssauth: not allowed: a call of DSS: dss: 403 com.dataiku.dip.exceptions.UnauthorizedException"),
	}, a.log.all(t))

	a.fake.Intercept("/projects/", -1, dsstest.Reset)
	require.Equal(t, 503, a.get("/projects", "ann"))
	assert.Contains(t, a.log.all(t), line("call of DSS", "path", "/dip/publicapi/projects/", "error", "no reply", "login", "ann"))
}

// The log has logins, and no other facts about a visitor.
func TestLinesHoldNoCredential(t *testing.T) {
	a := newApp(t, dssauth.Config{Impersonation: dssauth.ByTicket, TTL: -1, RefusalTTL: -1}, newRouter)
	everywhere := func() {
		for _, path := range []string{"/report?token=s3cr3t", "/projects?token=s3cr3t", "/nowhere?s3cr3t"} {
			a.get(path, "ann", "Authorization", "Bearer s3cr3t", "Referer", "http://app.example/?s3cr3t", "X-DKU-APITicket", "s3cr3t")
			a.get(path, "", "Cookie", "session=s3cr3t", "User-Agent", "s3cr3t")
			a.get(path, "", "Authorization", "Bearer \xffs3cr3t")
			a.get(path, "", "Cookie", "c="+strings.Repeat("s3cr3t", 3<<10))
		}
	}
	everywhere()
	for _, status := range []int{200, 302, 401, 403, 404, 500, 503} {
		a.fake.Intercept("/projects/", -1, dsstest.Respond(status, `{"errorType":"x.Y","message":"s3cr3t"}`, "Location", "/s3cr3t"))
		everywhere()
		a.fake.Intercept("", -1, dsstest.Respond(status, "s3cr3t <html>"))
		everywhere()
		a.fake.Intercept("", 0, nil)
		a.fake.Intercept("/projects/", 0, nil)
	}
	a.log.mu.Lock()
	defer a.log.mu.Unlock()
	text := a.log.text.String()
	require.Contains(t, text, `"status":503`)
	require.Contains(t, text, `"path":"/dip/publicapi/projects/"`)
	assert.NotContains(t, text, "s3cr3t")
	assert.NotContains(t, text, a.fake.AdminKey())
	assert.NotContains(t, text, "analysts")
}

// The log and a handler that a TimeoutHandler gave up run side by side.
func TestLineOfARequestThatTookTooLong(t *testing.T) {
	answers := make(chan struct{})
	a := newApp(t, dssauth.Config{}, func(auth *dssauth.Middleware, logger *slog.Logger) http.Handler {
		return http.TimeoutHandler(newRouter(auth, logger), 50*time.Millisecond, "too slow")
	})
	a.fake.Intercept("/auth/info-from-browser-headers", 1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		<-answers
		next.ServeHTTP(w, r)
	})
	require.Equal(t, 503, a.get("/report", "ann"))
	close(answers)
	got := a.log.all(t)
	require.Len(t, got, 1)
	delete(got[0], "reason") // the request's end, if the handler noticed it
	assert.Equal(t, request("/report", 503), got[0])
}

func TestLineOfAHandlerThatPanics(t *testing.T) {
	a := newApp(t, dssauth.Config{}, func(auth *dssauth.Middleware, _ *slog.Logger) http.Handler {
		return auth.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("s3cr3t") }))
	})
	assert.Zero(t, a.get("/report", "ann"))
	assert.Equal(t, []map[string]any{request("/report", 200, "login", "ann", "panicked", true)}, a.log.all(t))
}

func TestLineOfAWebsocket(t *testing.T) {
	a := newApp(t, dssauth.Config{}, func(auth *dssauth.Middleware, _ *slog.Logger) http.Handler {
		return auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if conn, err := websocket.Accept(w, r, nil); assert.NoError(t, err) {
				_ = conn.Close(websocket.StatusNormalClosure, "") // waits for the visitor, who closes too
			}
		}))
	})
	for _, tt := range []struct {
		login string
		want  map[string]any
	}{
		{"ann", request("/live", 101, "login", "ann")},
		{"", request("/live", 401, "reason", "dssauth: not signed in to DSS: the request has no credentials")},
	} {
		h := http.Header{}
		if tt.login != "" {
			h.Set("Cookie", "session=s3cr3t-cookie-of-"+tt.login)
		}
		conn, reply, err := websocket.Dial(t.Context(), a.url+"/live", &websocket.DialOptions{HTTPHeader: h})
		assert.EqualValues(t, tt.want["status"], reply.StatusCode)
		if err == nil {
			_, _, err = conn.Read(t.Context())
			assert.Equal(t, websocket.StatusNormalClosure, websocket.CloseStatus(err))
		}
		var got []map[string]any
		require.Eventually(t, func() bool { got = a.log.all(t); return len(got) > 0 }, 10*time.Second, time.Millisecond)
		assert.Equal(t, []map[string]any{tt.want}, got)
	}
}

// The files of an upload are removed, even though the log passes a copy of the
// request on.
func TestUploadsLeaveNoFiles(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	a := newApp(t, dssauth.Config{}, func(auth *dssauth.Middleware, _ *slog.Logger) http.Handler {
		return auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			assert.NoError(t, r.ParseMultipartForm(1))
			files, err := filepath.Glob(filepath.Join(os.TempDir(), "multipart-*"))
			assert.NoError(t, err)
			fmt.Fprint(w, len(files))
		}))
	})
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	file, err := form.CreateFormFile("file", "figures.csv")
	require.NoError(t, err)
	_, err = file.Write(bytes.Repeat([]byte("x"), 12<<20))
	require.NoError(t, err)
	require.NoError(t, form.Close())
	r, err := http.NewRequestWithContext(t.Context(), "POST", a.url, &body)
	require.NoError(t, err)
	r.Header.Set("Content-Type", form.FormDataContentType())
	r.AddCookie(&http.Cookie{Name: "session", Value: "s3cr3t-cookie-of-ann"})
	reply, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer reply.Body.Close()
	said, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	require.Equal(t, "1", string(said))
	require.EventuallyWithT(t, func(c *assert.CollectT) { // net/http removes it when the answer is out
		left, err := os.ReadDir(os.TempDir())
		assert.NoError(c, err)
		assert.Empty(c, left)
	}, 10*time.Second, time.Millisecond)
}
