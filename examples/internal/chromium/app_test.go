package chromium_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

// app is an application with all kinds of requests: pages, parts, forms,
// prefetched links, and frames. It has a page of its own to sign in.
type app struct {
	fake *dsstest.Server
	auth *dssauth.Middleware
	url  string // of the host app.example

	mu      sync.Mutex
	refused bool           // signing in does not help
	seen    map[string]int // the number of requests for each path
}

// newApp serves an application by http or https.
func newApp(t *testing.T, scheme string, htmx []byte) *app {
	a := &app{fake: dsstest.NewServer(t), seen: map[string]int{}}
	a.fake.AddUser(dsstest.User{Login: "ann"})
	auth, err := dssauth.New(dssauth.Config{
		Client:   a.fake.Client(),
		LoginURL: func(_ *http.Request, back string) string { return "/sign-in?back=" + url.QueryEscape(back) },
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, auth.Close()) })
	a.auth = auth

	mux := http.NewServeMux()
	mux.HandleFunc("GET /htmx.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = w.Write(htmx)
	})
	mux.HandleFunc("GET /sign-in", a.showSignIn)
	mux.HandleFunc("POST /sign-in", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, a.fake.SignIn("ann"))
		w.Header().Set("Location", r.PostFormValue("back")) // http.Redirect would clean its path
		w.WriteHeader(http.StatusSeeOther)
	})
	mux.HandleFunc("POST /sign-out", func(w http.ResponseWriter, r *http.Request) {
		a.signsOut(r)
		http.Redirect(w, r, "/public", http.StatusSeeOther)
	})

	protected := func(what string) http.Handler {
		return auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id, ok := dssauth.FromContext(r.Context())
			require.True(t, ok)
			show(w, fmt.Sprintf(`<h1 id="what">%s</h1><p id="who">%s</p><p id="where">%s</p><form method="post" action="/sign-out"><button id="sign-out">Sign out</button></form>`,
				what, id.Login, r.URL.RequestURI()))
		}))
	}
	mux.Handle("GET /page/", protected("a page"))
	mux.Handle("GET /files/bucket/{key...}", protected("a file"))
	mux.Handle("POST /save", auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		show(w, `<h1 id="what">saved</h1><p id="text">`+r.PostFormValue("text")+`</p>`)
	})))
	mux.Handle("GET /part/", auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, ok := dssauth.FromContext(r.Context())
		require.True(t, ok)
		fmt.Fprintf(w, "a part for %s", id.Login)
	})))

	for path, body := range map[string]string{
		"/public":   `<h1>public</h1><button id="get" hx-get="/part/1" hx-target="#part">Get it</button><div id="part">nothing</div>`,
		"/edit":     `<h1>edit</h1><form method="post" action="/save"><input id="text" name="text"><button id="save">Save</button></form>`,
		"/ahead":    `<h1>ahead</h1><script type="speculationrules">{"prefetch":[{"urls":["/page/ahead"],"eagerness":"immediate"}]}</script><a id="link" href="/page/ahead">the page</a>`,
		"/frames":   `<h1>frames</h1>` + repeat(`<iframe src="/page/frame-%d"></iframe>`),
		"/parts":    `<h1>parts</h1><p id="loads"></p><p id="failed"></p>` + repeat(`<div hx-get="/part/%d" hx-trigger="load"></div>`) + `<script>sessionStorage.loads = 1 + Number(sessionStorage.loads ?? 0); document.querySelector("#loads").textContent = sessionStorage.loads + " loads"; let n = 0; document.addEventListener("htmx:responseError", () => document.querySelector("#failed").textContent = ++n + " failed")</script>`,
		"/framed":   `<h1>framed</h1><script>location.href = "/page/linked"</script>`,
		"/embedder": `<h1>another site</h1><iframe src="APP/page/framed"></iframe><iframe src="APP/framed"></iframe>`,
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			show(w, strings.ReplaceAll(body, "APP", a.url))
		})
	}

	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.seen[r.URL.Path]++
		a.mu.Unlock()
		if strings.Contains(r.URL.Path, "//") { // which a ServeMux cleans
			protected("a file").ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
	server := httptest.NewUnstartedServer(counted)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // Chromium tries the certificate
	if scheme == "https" {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	_, port, _ := strings.Cut(server.Listener.Addr().String(), ":")
	a.url = scheme + "://app.example:" + port
	return a
}

func repeat(format string) (s string) {
	for i := range 6 {
		s += fmt.Sprintf(format, i)
	}
	return s
}

func show(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprint(w, `<!doctype html><title>app</title><link rel="icon" href="data:,"><script src="/htmx.js"></script>`, body)
}

// showSignIn has a button. If signing in does not help, it redirects back at
// once.
func (a *app) showSignIn(w http.ResponseWriter, r *http.Request) {
	back := r.FormValue("back")
	a.mu.Lock()
	refused := a.refused
	a.mu.Unlock()
	if refused {
		http.Redirect(w, r, back, http.StatusFound)
		return
	}
	show(w, `<h1>Who are you?</h1><form method="post"><input type="hidden" name="back" value="`+back+`"><button id="ann">Ann</button></form>`)
}

// signingInDoesNotHelp makes signing in useless from now on, and needs no
// click.
func (a *app) signingInDoesNotHelp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused = true
}

// sessionsEnd ends the sessions in DSS, and the application forgets them.
func (a *app) sessionsEnd() {
	a.fake.EndSessions()
	a.auth.ForgetUser("ann")
}

func (a *app) signsOut(r *http.Request) {
	for _, c := range r.Cookies() {
		a.fake.SignOut(c)
	}
	a.auth.Forget(r)
}

// asked returns the number of requests for a path.
func (a *app) asked(path string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen[path]
}
