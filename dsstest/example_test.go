package dsstest_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var hello = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	id, ok := dssauth.FromContext(r.Context())
	if !ok { // only where the middleware did not run
		http.Error(w, "no visitor", http.StatusInternalServerError)
		return
	}
	fmt.Fprint(w, "hello ", id.Login)
})

func TestHello(t *testing.T) {
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"analysts"}})
	auth, _ := dssauth.New(dssauth.Config{Client: fake.Client()})
	r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
	r.AddCookie(fake.SignIn("ann"))
	auth.Handler(hello).ServeHTTP(w, r)
	if w.Body.String() != "hello ann" {
		t.Errorf("ann was greeted with %q", w.Body)
	}
}

// The package comment opens with this TestHello.
func TestThePackageComment(t *testing.T) {
	doc, err := os.ReadFile("dsstest.go")
	require.NoError(t, err)
	example, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	_, shown, _ := strings.Cut(string(doc), "//\n//\tfunc TestHello")
	shown, _, found := strings.Cut(shown, "\n//\n")
	require.True(t, found)
	assert.Contains(t, string(example), "\nfunc TestHello"+strings.ReplaceAll(shown, "\n//\t", "\n")+"\n")
}

// A program serves the fake itself.
func ExampleNew() {
	fake := dsstest.New()
	fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"analysts"}})
	fake.AddAPIKey("ann-key", "ann")
	server := httptest.NewServer(fake)
	defer server.Close()

	client, err := dss.New(dss.Config{URL: server.URL, APIKey: "ann-key"})
	if err != nil {
		fmt.Println(err)
		return
	}
	info, err := client.AuthInfo(context.Background())
	fmt.Println(info.Login(), info.Groups, err)
	// Output: ann [analysts] <nil>
}

// A test of impersonation checks the user that DSS acted as.
func ExampleDSS_LastCaller() {
	fake := dsstest.New()
	fake.AddUser(dsstest.User{Login: "ann"})
	fake.AddAPIKey("key", "") // an administrator's
	server := httptest.NewServer(fake)
	defer server.Close()

	admin, _ := dss.New(dss.Config{URL: server.URL, APIKey: "key"})
	ann, _ := admin.As("ann")
	err := ann.Do(context.Background(), "GET", "/projects/", nil, nil)
	fmt.Println(fake.LastCaller(), err)
	// Output: ann <nil>
}

// DSS is overloaded for one call.
func ExampleDSS_Intercept() {
	fake := dsstest.New()
	fake.Intercept("/auth/info", 1, dsstest.Respond(429, "", "Retry-After", "3"))

	w := httptest.NewRecorder()
	fake.ServeHTTP(w, httptest.NewRequest("GET", "/dip/publicapi/auth/info", nil))
	fmt.Println(w.Code, w.Header().Get("Retry-After"))
	// Output: 429 3
}

// An application with a DSS that hides the sessions of its users.
func ExampleDSS_Configure() {
	fake := dsstest.New()
	fake.AddUser(dsstest.User{Login: "ann"})
	fake.AddAPIKey("key", "")
	fake.Configure(dsstest.Options{HideAccessTokens: true})

	cookie := fake.SignIn("ann")
	r := httptest.NewRequest("POST", "/dip/publicapi/auth/info-from-browser-headers", strings.NewReader(`{"Cookie": "`+cookie.Name+"="+cookie.Value+`"}`))
	r.Header.Set("Authorization", "Bearer key")
	w := httptest.NewRecorder()
	fake.ServeHTTP(w, r)
	fmt.Println(w.Code)
	// Output: 401
}

// An application's other calls to DSS, answered by the test.
func ExampleDSS_Handle() {
	fake := dsstest.New()
	fake.AddUser(dsstest.User{Login: "ann"})
	fake.AddAPIKey("ann-key", "ann")
	fake.Handle("GET /projects/{key}/datasets/", func(w http.ResponseWriter, r *http.Request, caller string) {
		fmt.Fprintf(w, "datasets of %s for %s", r.PathValue("key"), caller)
	})

	r, w := httptest.NewRequest("GET", "/dip/publicapi/projects/SALES/datasets/", nil), httptest.NewRecorder()
	r.SetBasicAuth("ann-key", "")
	fake.ServeHTTP(w, r)
	fmt.Println(w.Body)
	// Output: datasets of SALES for ann
}

// A project's owner and the members of a group may read it.
func ExampleDSS_AddProject() {
	fake := dsstest.New()
	fake.AddProject(dsstest.Project{Key: "SALES", Owner: "ann", Permissions: []dsstest.Permission{
		{Group: "readers", Rights: map[string]bool{"readProjectContent": true}},
	}})
	fake.AddUser(dsstest.User{Login: "ann"})
	fake.AddUser(dsstest.User{Login: "bob", Groups: []string{"readers"}})
	fake.AddUser(dsstest.User{Login: "eve"})

	for _, login := range []string{"ann", "bob", "eve"} {
		fake.AddAPIKey(login+"-key", login)
		r, w := httptest.NewRequest("GET", "/dip/publicapi/projects/SALES/jobs/?limit=1", nil), httptest.NewRecorder()
		r.SetBasicAuth(login+"-key", "")
		fake.ServeHTTP(w, r)
		fmt.Println(login, w.Code)
	}
	// Output:
	// ann 200
	// bob 200
	// eve 403
}

// A project is deleted while somebody works with it.
func ExampleDSS_RemoveProject() {
	fake := dsstest.New()
	fake.AddAPIKey("key", "") // an administrator's
	fake.RemoveProject("SALES")

	r, w := httptest.NewRequest("GET", "/dip/publicapi/projects/SALES", nil), httptest.NewRecorder()
	r.SetBasicAuth("key", "")
	fake.ServeHTTP(w, r)
	fmt.Println(w.Code)
	// Output: 404
}

func ExampleDSS_SignInPage() {
	fake := dsstest.New()
	fake.AddAPIKey("dev", "")
	fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"analysts"}})
	server := httptest.NewServer(fake.SignInPage())
	defer server.Close()

	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	reply, err := browser.PostForm(server.URL+"/sign-in", url.Values{
		"login":    {"ann"},
		"redirect": {"http://127.0.0.1:8080/report"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reply.Body.Close()
	fmt.Println(len(reply.Cookies()), "cookie, then on to", reply.Header.Get("Location"))
	// Output: 1 cookie, then on to http://127.0.0.1:8080/report
}

// An application's own page may have the controls of the fake's.
func ExampleDSS_SignInControls() {
	fake := dsstest.New()
	fake.AddUser(dsstest.User{Login: "ann"})
	mux := http.NewServeMux()
	mux.Handle("POST /", fake.SignInPage()) // the forms of the controls
	mux.HandleFunc("GET /home", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, dsstest.PageHead("Home")+"</head><body><main>"+fake.SignInControls(r, "/home")+"</main></body></html>")
	})
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/home", nil))
	fmt.Println(strings.Contains(w.Body.String(), `aria-label="Sign in as ann"`))
	// Output: true
}

func ExamplePageHead() {
	head := dsstest.PageHead("Who is browsing?")
	fmt.Println(strings.Contains(string(head), "<title>Who is browsing?</title>"))
	// Output: true
}

// A test that prints its failures.
type printing struct{ testing.TB }

func (printing) Helper() {}

func (printing) Errorf(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// The patterns of a net/http router are the list that it was made from.
func ExampleNoRouteForgotten() {
	fake := dsstest.New()
	fake.AddAPIKey("our-key", "")
	server := httptest.NewServer(fake)
	defer server.Close()
	client, _ := dss.New(dss.Config{URL: server.URL, APIKey: "our-key"})
	auth, _ := dssauth.New(dssauth.Config{Client: client})
	defer auth.Close()

	health := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
	routes := map[string]http.Handler{
		"GET /me":            auth.Handler(hello),
		"POST /reports/{id}": auth.Handler(hello),
		"GET /healthz":       http.HandlerFunc(health),
		"GET /forgotten":     http.HandlerFunc(health),
	}
	mux := http.NewServeMux()
	for pattern, handler := range routes {
		mux.Handle(pattern, handler)
	}

	t := printing{} // in a test, this is its *testing.T
	dsstest.NoRouteForgotten(t, mux, slices.Sorted(maps.Keys(routes)), "GET /healthz")
	// Output:
	// dsstest: GET /forgotten: an anonymous visitor gets 204 No Content, and not 401, 403 or 503: have the middleware wrap this route, or name "GET /forgotten" as open
}

// Chi walks its own routes.
func ExampleNoRouteForgotten_chi() {
	fake := dsstest.New()
	fake.AddAPIKey("our-key", "")
	server := httptest.NewServer(fake)
	defer server.Close()
	client, _ := dss.New(dss.Config{URL: server.URL, APIKey: "our-key"})
	auth, _ := dssauth.New(dssauth.Config{Client: client})
	defer auth.Close()

	r := chi.NewRouter()
	r.Get("/forgotten", func(http.ResponseWriter, *http.Request) {})
	r.Group(func(r chi.Router) {
		r.Use(auth.Handler)
		r.Method("GET", "/reports/{id:[0-9]+}", hello)
	})

	t := printing{} // in a test, this is its *testing.T
	var routes []string
	_ = chi.Walk(r, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		routes = append(routes, method+" "+route)
		return nil
	})
	dsstest.NoRouteForgotten(t, r, routes)
	// Output:
	// dsstest: GET /forgotten: an anonymous visitor gets 200 OK, and not 401, 403 or 503: have the middleware wrap this route, or name "GET /forgotten" as open
}
