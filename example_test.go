package dssauth_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// fakeDSS stands in for DSS in these examples. It knows ann, an analyst, bob,
// who is not one, and eve.
func fakeDSS() (fake *dsstest.DSS, client *dss.Client, stop func()) {
	fake = dsstest.New()
	for _, user := range dsstest.DemoUsers() {
		fake.AddUser(user)
	}
	fake.AddAPIKey("our-key", "")
	server := httptest.NewServer(fake)
	client, err := dss.New(dss.Config{URL: server.URL, APIKey: "our-key"})
	if err != nil {
		log.Fatal(err)
	}
	return fake, client, func() {
		client.CloseIdleConnections()
		server.Close()
	}
}

// open prints h's answers to a browser with these cookies.
func open(h http.Handler, path string, cookies ...*http.Cookie) {
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", path, nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		fmt.Println(path, w.Code)
		return
	}
	fmt.Println(path, w.Code, w.Body)
}

var hello = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	id, ok := dssauth.FromContext(r.Context())
	if !ok {
		fmt.Fprint(w, "hello stranger")
		return
	}
	fmt.Fprint(w, "hello ", id.Login)
})

var report = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "the report") })

func Example() {
	fake, client, stop := fakeDSS() // in an application: client, err := dss.FromEnv()
	defer stop()
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err) // wrong settings fail here, not in production
	}
	defer auth.Close()

	r := chi.NewRouter()
	r.Use(auth.Handler) // signed-in DSS users only
	r.Get("/me", func(w http.ResponseWriter, r *http.Request) {
		id, ok := dssauth.FromContext(r.Context())
		if !ok { // only where the middleware did not run
			http.Error(w, "no visitor", http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, id.Login, " ", id.Groups())
	})
	r.With(auth.RequireGroup("analysts")).Get("/report", report)

	ann, bob := fake.SignIn("ann"), fake.SignIn("bob")
	open(r, "/me", ann)
	open(r, "/report", ann)
	open(r, "/me", bob)
	open(r, "/report", bob)
	open(r, "/me")
	// Output:
	// /me 200 ann [analysts readers]
	// /report 200 the report
	// /me 200 bob [readers]
	// /report 403
	// /me 401
}

func ExampleNew() {
	_, err := dssauth.New(dssauth.Config{TTL: 30})
	fmt.Println(err)

	_, client, stop := fakeDSS()
	defer stop()
	_, err = dssauth.New(dssauth.Config{Client: client, TTL: 30})
	fmt.Println(err)
	// Output:
	// dssauth: Config.Client is missing: make one with dss.FromEnv or dss.New
	// dssauth: Config.TTL is 30ns: is a unit missing, as in 10*time.Second?
}

func ExampleMiddleware_Handler() {
	fake, client, stop := fakeDSS()
	defer stop()
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	defer auth.Close()

	mux := http.NewServeMux()
	mux.Handle("/", auth.Handler(hello))
	open(mux, "/", fake.SignIn("ann"))
	open(mux, "/")
	fake.SetDown(true)
	open(mux, "/", fake.SignIn("bob")) // DSS does not answer
	// Output:
	// / 200 hello ann
	// / 401
	// / 503
}

// A reverse proxy adds the headers of its upstream to those that Handler has set.
// Two lines let the upstream's Cache-Control win, and keep "private" where the
// upstream sends none. The second one also holds after a 103 (Early Hints) of the
// upstream, which makes ReverseProxy remove all headers set before, our Vary
// included.
func ExampleMiddleware_Handler_reverseProxy() {
	fake, client, stop := fakeDSS()
	defer stop()
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	defer auth.Close()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/logo.svg" {
			w.Header().Set("Cache-Control", "public, max-age=3600")
		}
	}))
	defer upstream.Close()
	target, err := url.Parse(upstream.URL)
	if err != nil {
		log.Fatal(err)
	}

	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(reply *http.Response) error {
			reply.Header.Set("Cache-Control", cmp.Or(reply.Header.Get("Cache-Control"), "private"))
			return nil
		},
	}
	h := auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Del("Cache-Control")
		proxy.ServeHTTP(w, r)
	}))

	ann := fake.SignIn("ann")
	for _, path := range []string{"/logo.svg", "/report"} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", path, nil)
		r.AddCookie(ann)
		h.ServeHTTP(w, r)
		fmt.Println(path, w.Header()["Cache-Control"], w.Header()["Vary"])
	}
	// Output:
	// /logo.svg [public, max-age=3600] [Cookie Authorization]
	// /report [private] [Cookie Authorization]
}

func ExampleMiddleware_Optional() {
	fake, client, stop := fakeDSS()
	defer stop()
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	defer auth.Close()

	h := auth.Optional(hello)
	open(h, "/", fake.SignIn("ann"))
	open(h, "/")
	fake.SetDown(true)
	open(h, "/", fake.SignIn("bob")) // an outage makes nobody a stranger
	// Output:
	// / 200 hello ann
	// / 200 hello stranger
	// / 503
}

func ExampleMiddleware_RequireGroup() {
	fake, client, stop := fakeDSS()
	defer stop()
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	defer auth.Close()

	h := auth.RequireGroup("analysts", "administrators")(report)
	open(h, "/report", fake.SignIn("ann"))
	open(h, "/report", fake.SignIn("bob"))
	open(h, "/report")
	// Output:
	// /report 200 the report
	// /report 403
	// /report 401
}

func ExampleMiddleware_Require() {
	fake, client, stop := fakeDSS()
	defer stop()
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	defer auth.Close()

	// Everybody has a page of their own; administrators see all of them.
	own := auth.Require(func(r *http.Request, id dssauth.Identity) error {
		if r.PathValue("login") == id.Login || id.InGroup("administrators") {
			return nil
		}
		return fmt.Errorf("%w: the page of somebody else", dssauth.ErrForbidden)
	})
	mux := http.NewServeMux()
	mux.Handle("/users/{login}", own(hello))
	open(mux, "/users/ann", fake.SignIn("ann"))
	open(mux, "/users/ann", fake.SignIn("bob"))
	open(mux, "/users/ann", fake.SignIn("admin"))
	// Output:
	// /users/ann 200 hello ann
	// /users/ann 403
	// /users/ann 200 hello admin
}

// Frameworks whose handlers are not an http.Handler call Authenticate in a
// middleware of their own. It has the response, and so sets the headers that
// keep shared caches from giving one visitor's page to another.
func ExampleMiddleware_Authenticate() {
	fake, client, stop := fakeDSS()
	defer stop()
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	defer auth.Close()

	handle := func(w http.ResponseWriter, r *http.Request) {
		if _, err := auth.Authenticate(r); err != nil {
			auth.Refuse(w, r, err)
			return
		}
		w.Header().Set("Cache-Control", "private")
		w.Header().Add("Vary", "Cookie, Authorization")
		hello(w, r)
	}
	open(http.HandlerFunc(handle), "/", fake.SignIn("ann"))
	open(http.HandlerFunc(handle), "/")
	// Output:
	// / 200 hello ann
	// / 401
}

func ExampleMiddleware_Forget() {
	fake, client, stop := fakeDSS()
	defer stop()
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	defer auth.Close()

	ann := fake.SignIn("ann")
	mux := http.NewServeMux()
	mux.Handle("/", auth.Handler(hello))
	mux.HandleFunc("/signed-out", func(w http.ResponseWriter, r *http.Request) {
		auth.Forget(r) // DSS is asked again, and not only after Config.TTL
		fmt.Fprint(w, "bye")
	})
	open(mux, "/", ann)
	fake.SignOut(ann)
	open(mux, "/", ann)
	open(mux, "/signed-out", ann)
	open(mux, "/", ann)
	// Output:
	// / 200 hello ann
	// / 200 hello ann
	// /signed-out 200 bye
	// / 401
}

func ExampleMiddleware_ForgetUser() {
	fake, client, stop := fakeDSS()
	defer stop()
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	defer auth.Close()

	h := auth.RequireGroup("analysts")(report)
	bob := fake.SignIn("bob")
	open(h, "/report", bob)
	fake.AddUser(dsstest.User{Login: "bob", Groups: []string{"analysts"}})
	auth.ForgetUser("bob")
	open(h, "/report", bob)
	// Output:
	// /report 403
	// /report 200 the report
}

// A connection that lasts ends within a minute after its visitor signed out or
// left the group, and at once when the application ends.
func ExampleMiddleware_WhileSignedIn() {
	fake, client, stop := fakeDSS()
	defer stop()
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	opened, ended := make(chan struct{}), make(chan struct{})
	stream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := auth.WhileSignedIn(r, time.Minute)
		defer cancel()
		close(opened)
		<-ctx.Done() // and send what there is to send
		fmt.Fprint(w, "ended: ", context.Cause(ctx))
	})
	go func() {
		defer close(ended)
		open(auth.RequireGroup("analysts")(stream), "/events", fake.SignIn("ann"))
	}()
	<-opened
	_ = auth.Close()
	<-ended
	// Output: /events 200 ended: dssauth: visitor cannot be identified now: this Middleware is closed
}

func ExampleMiddleware_Stats() {
	fake, client, stop := fakeDSS()
	defer stop()
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	defer auth.Close()

	h, ann := auth.Handler(hello), fake.SignIn("ann")
	for range 3 {
		open(h, "/", ann)
	}
	_ = auth.Close() // waits for lookups under way
	s := auth.Stats()
	fmt.Println("DSS was asked", s.Lookups, "time, with", s.Places, "places, after a wait of", s.Waited)
	// Output:
	// / 200 hello ann
	// / 200 hello ann
	// / 200 hello ann
	// DSS was asked 1 time, with 32 places, after a wait of 0s
}

func ExampleMiddleware_Close() {
	fake, client, stop := fakeDSS()
	defer stop()
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: auth.Handler(hello)}

	// When the application ends:
	_ = server.Shutdown(context.Background()) // requests first
	fmt.Println(auth.Close())
	client.CloseIdleConnections()

	open(auth.Handler(hello), "/", fake.SignIn("ann"))
	// Output:
	// <nil>
	// / 503
}

// A handler that cannot go on refuses, and Refuse decides what the visitor sees.
func ExampleMiddleware_Refuse() {
	fake, client, stop := fakeDSS()
	defer stop()
	auth, err := dssauth.New(dssauth.Config{Client: client, Impersonation: dssauth.ByTicket})
	if err != nil {
		log.Fatal(err)
	}
	defer auth.Close()

	projects := auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		visitor, err := dssauth.ClientFromContext(r.Context())
		if err == nil {
			err = visitor.Do(r.Context(), "GET", "/projects/GONE/", nil, w)
		}
		if err != nil {
			auth.Refuse(w, r, err)
		}
	}))
	open(projects, "/projects", fake.SignIn("ann"))
	fake.SetDown(true)
	open(projects, "/projects", fake.SignIn("ann"))
	// Output:
	// /projects 404
	// /projects 503
}

// OnError has a page of its own for one kind of refusal, and the default for others.
func ExampleWriteRefusal() {
	_, client, stop := fakeDSS()
	defer stop()
	auth, err := dssauth.New(dssauth.Config{Client: client, OnError: func(w http.ResponseWriter, r *http.Request, err error) {
		if dssauth.StatusCode(err) == http.StatusForbidden {
			http.Error(w, "ask the sales team for access", http.StatusForbidden)
			return
		}
		dssauth.WriteRefusal(w, r, err) // the request that OnError got
	}})
	if err != nil {
		log.Fatal(err)
	}
	defer auth.Close()

	for _, accept := range []string{"application/json", "text/html"} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept", accept)
		auth.Handler(hello).ServeHTTP(w, r)
		fmt.Println(w.Code, w.Header().Get("Content-Type"))
	}
	// Output:
	// 401 application/problem+json
	// 401 text/html; charset=utf-8
}

func ExampleStatusCode() {
	for _, err := range []error{
		dssauth.ErrMalformed, dssauth.ErrUnauthenticated, dssauth.ErrForbidden, dssauth.ErrTooLarge, dssauth.ErrUnavailable, errors.New("any other"),
	} {
		fmt.Println(dssauth.StatusCode(err), err)
	}
	// Output:
	// 400 dssauth: malformed credentials
	// 401 dssauth: not signed in to DSS
	// 403 dssauth: not allowed
	// 431 dssauth: credentials too large
	// 503 dssauth: visitor cannot be identified now
	// 500 any other
}

func ExampleConfig() {
	_, client, stop := fakeDSS()
	defer stop()
	auth, err := dssauth.New(dssauth.Config{
		Client:  client,
		TTL:     30 * time.Second, // who signs out keeps access for up to this
		Cookies: []string{"dss_access_token_*"},
		LoginURL: func(_ *http.Request, back string) string {
			// Of this application: a sign-in page on another host needs its address.
			return "https://dss.example/login/?redirectTo=" + url.QueryEscape("https://app.example"+back)
		},
		OnError: func(w http.ResponseWriter, r *http.Request, err error) {
			if dssauth.StatusCode(err) == http.StatusForbidden {
				w.WriteHeader(http.StatusForbidden)
				fmt.Fprint(w, "ask the sales team for access")
				return
			}
			dssauth.WriteRefusal(w, r, err)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer auth.Close()

	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/report?year=2025&month=3", nil)
	r.Header.Set("Accept", "text/html")
	auth.Handler(report).ServeHTTP(w, r)
	fmt.Println(w.Code, w.Header().Get("Location"))
	// Output: 302 https://dss.example/login/?redirectTo=https%3A%2F%2Fapp.example%2Freport%3Fyear%3D2025%26month%3D3
}

func ExampleHooks() {
	fake, client, stop := fakeDSS()
	defer stop()
	auth, err := dssauth.New(dssauth.Config{Client: client, Hooks: dssauth.Hooks{
		LookupStart: func(ctx context.Context, renewal bool) context.Context {
			return ctx // with a span, for example
		},
		LookupEnd: func(_ context.Context, l dssauth.Lookup) { fmt.Println("lookup:", l.Outcome) },
		Refused:   func(r *http.Request, err error) { fmt.Println("refused:", r.URL.Path, dssauth.StatusCode(err)) },
	}})
	if err != nil {
		log.Fatal(err)
	}
	h := auth.RequireGroup("analysts")(report)
	r := httptest.NewRequest("GET", "/report", nil)
	r.AddCookie(fake.SignIn("bob"))
	h.ServeHTTP(httptest.NewRecorder(), r)
	_ = auth.Close()
	// Unordered output:
	// lookup: identified
	// refused: /report 403
}

// Two observers, each with hooks of its own.
func ExampleJoinHooks() {
	fake, client, stop := fakeDSS()
	defer stop()
	counts := dssauth.Hooks{LookupEnd: func(_ context.Context, l dssauth.Lookup) { fmt.Println("count 1", l.Outcome) }}
	spans := dssauth.Hooks{
		LookupStart: func(ctx context.Context, _ bool) context.Context { fmt.Println("begin a span"); return ctx },
		LookupEnd:   func(context.Context, dssauth.Lookup) { fmt.Println("end the span") },
	}
	auth, err := dssauth.New(dssauth.Config{Client: client, Hooks: dssauth.JoinHooks(counts, spans)})
	if err != nil {
		log.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(fake.SignIn("ann"))
	auth.Handler(hello).ServeHTTP(httptest.NewRecorder(), r)
	_ = auth.Close()
	// Output:
	// begin a span
	// end the span
	// count 1 identified
}

// An access log in front of the Middleware names the visitor all the same.
func ExampleWithAccess() {
	fake, client, stop := fakeDSS()
	defer stop()
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	defer auth.Close()

	logged := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, access := dssauth.WithAccess(r.Context())
			next.ServeHTTP(w, r.WithContext(ctx))
			id, _ := access.Identity()
			fmt.Println(r.URL.Path, id.Login, access.Refusal())
		})
	}
	app := logged(auth.RequireGroup("analysts")(report))
	for _, login := range []string{"ann", "bob"} {
		r := httptest.NewRequest("GET", "/report", nil)
		r.AddCookie(fake.SignIn(login))
		app.ServeHTTP(httptest.NewRecorder(), r)
	}
	// Output:
	// /report ann <nil>
	// /report bob dssauth: not allowed: the visitor is in none of the required groups
}

func ExampleAccess_LogValue() {
	fake, client, stop := fakeDSS()
	defer stop()
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	defer auth.Close()

	r := httptest.NewRequest("GET", "/report", nil)
	r.AddCookie(fake.SignIn("bob"))
	ctx, access := dssauth.WithAccess(r.Context())
	auth.RequireGroup("analysts")(report).ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))

	timeless := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}
	logger := slog.New(slog.NewJSONHandler(os.Stdout, timeless))
	logger.Info("request", "path", r.URL.Path, slog.Any("", access))
	// Output: {"level":"INFO","msg":"request","path":"/report","login":"bob","reason":"dssauth: not allowed: the visitor is in none of the required groups"}
}

// A Resolver asks something else than DSS: here, for developing without one, a
// cookie that is believed.
func ExampleResolver() {
	auth, err := dssauth.New(dssauth.Config{Resolver: believing{}})
	if err != nil {
		log.Fatal(err)
	}
	defer auth.Close()
	open(auth.Handler(hello), "/", &http.Cookie{Name: "i_am", Value: "ann"})
	open(auth.Handler(hello), "/")
	// Output:
	// / 200 hello ann
	// / 401
}

type believing struct{}

func (believing) Resolve(_ context.Context, identifying http.Header) (dssauth.Identity, error) {
	login, ok := strings.CutPrefix(identifying.Get("Cookie"), "i_am=")
	if !ok {
		return dssauth.Identity{}, dssauth.ErrUnauthenticated
	}
	return dssauth.NewIdentity(login, "analysts"), nil
}

func ExampleNewIdentity() {
	id := dssauth.NewIdentity("ann", "analysts", "readers")
	fmt.Println(id.Login, id.Groups(), id.InGroup("analysts"))
	// Output: ann [analysts readers] true
}

func ExampleIdentity_Groups() {
	id := dssauth.NewIdentity("ann", "analysts", "readers")
	groups := id.Groups()
	groups[0] = "administrators" // changes the copy only
	fmt.Println(id.Groups())
	// Output: [analysts readers]
}

func ExampleIdentity_InGroup() {
	id := dssauth.NewIdentity("ann", "analysts")
	fmt.Println(id.InGroup("analysts"), id.InGroup("Analysts"))
	// Output: true false
}

func ExampleIdentity_String() {
	fmt.Println(dssauth.NewIdentity("ann", "analysts", "readers"))
	fmt.Println(dssauth.Identity{APIKeyID: "reporting"})
	fmt.Println(dssauth.Identity{})
	// Output:
	// ann ["analysts" "readers"]
	// API key reporting
	// anonymous
}

func ExampleIdentity_MarshalJSON() {
	id := dssauth.NewIdentity("ann", "analysts", "readers")
	id.Profile = "DESIGNER"
	text, err := json.Marshal(id)
	fmt.Println(string(text), err)
	// Output: {"login":"ann","groups":["analysts","readers"],"profile":"DESIGNER"} <nil>
}

// DSS decides who may open the pages of a project.
func ExampleMiddleware_RequireProject() {
	fake, client, stop := fakeDSS()
	defer stop()
	fake.AddProject(dsstest.Project{Key: "CHURN", Owner: "ann"})
	auth, err := dssauth.New(dssauth.Config{Client: client, Impersonation: dssauth.ByTicket})
	if err != nil {
		log.Fatal(err)
	}
	defer auth.Close()

	report := auth.RequireProject("CHURN")(http.HandlerFunc(hello))
	for _, login := range []string{"ann", "bob"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.AddCookie(fake.SignIn(login))
		w := httptest.NewRecorder()
		report.ServeHTTP(w, r)
		fmt.Println(login, w.Code)
	}
	// Output:
	// ann 200
	// bob 403
}

// One application shows many projects, each to those who may read it.
func ExampleMiddleware_RequireProjectOf() {
	fake, client, stop := fakeDSS()
	defer stop()
	fake.AddProject(dsstest.Project{Key: "CHURN", Owner: "ann"})
	fake.AddProject(dsstest.Project{Key: "SALES", Owner: "bob"})
	auth, err := dssauth.New(dssauth.Config{Client: client, Impersonation: dssauth.ByTicket})
	if err != nil {
		log.Fatal(err)
	}
	defer auth.Close()

	mux := http.NewServeMux()
	ofPath := auth.RequireProjectOf(func(r *http.Request) string { return r.PathValue("project") })
	mux.Handle("/reports/{project}", ofPath(http.HandlerFunc(hello)))
	cookie := fake.SignIn("ann")
	for _, path := range []string{"/reports/CHURN", "/reports/SALES", "/reports/no-key"} {
		r := httptest.NewRequest("GET", path, nil)
		r.AddCookie(cookie)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println(path, w.Code)
	}
	// Output:
	// /reports/CHURN 200
	// /reports/SALES 403
	// /reports/no-key 400
}

func ExampleFromContext() {
	h := func(w http.ResponseWriter, r *http.Request) {
		id, ok := dssauth.FromContext(r.Context())
		fmt.Printf("%q %t\n", id.Login, ok)
	}
	r := httptest.NewRequest("GET", "/", nil)
	h(nil, r) // no Middleware ran
	h(nil, r.WithContext(dssauth.NewContext(r.Context(), dssauth.NewIdentity("ann"))))
	// Output:
	// "" false
	// "ann" true
}

// A test of a handler needs no DSS.
func ExampleNewContext() {
	r := httptest.NewRequest("GET", "/", nil)
	r = r.WithContext(dssauth.NewContext(r.Context(), dssauth.NewIdentity("ann", "analysts")))
	w := httptest.NewRecorder()
	hello(w, r)
	fmt.Println(w.Body)
	// Output: hello ann
}

func ExampleClientFromContext() {
	fake, client, stop := fakeDSS()
	defer stop()
	auth, err := dssauth.New(dssauth.Config{Client: client, Impersonation: dssauth.ByTicket})
	if err != nil {
		log.Fatal(err)
	}
	defer auth.Close()

	projects := auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		visitor, err := dssauth.ClientFromContext(r.Context())
		if err != nil {
			auth.Refuse(w, r, err)
			return
		}
		var projects []struct{ ProjectKey string }
		if err := visitor.Do(r.Context(), "GET", "/projects/", nil, &projects); err != nil {
			auth.Refuse(w, r, err) // the session has ended, DSS forbids it, or does not answer
			return
		}
		fmt.Fprint(w, projects)
	}))
	open(projects, "/projects", fake.SignIn("bob"))
	fmt.Println("DSS acted as", fake.LastCaller())
	// Output:
	// /projects 200 [{CHURN} {SALES}]
	// DSS acted as bob
}

func ExampleSecretsFromContext() {
	fake, client, stop := fakeDSS()
	defer stop()
	fake.SetOwnSettings("ann", `{"secrets": [{"name": "crm", "value": "s3cr3t", "secret": true}]}`)
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	defer auth.Close()

	h := auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secrets, err := dssauth.SecretsFromContext(r.Context())
		if err != nil {
			auth.Refuse(w, r, err)
			return
		}
		for _, s := range secrets {
			fmt.Fprintf(w, "%s has %d characters; printed, it is %v", s.Name, len(s.Value()), s)
		}
	}))
	open(h, "/", fake.SignIn("ann"))
	// Output: / 200 crm has 6 characters; printed, it is secret "crm" [redacted]
}
