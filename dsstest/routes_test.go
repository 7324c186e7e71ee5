package dsstest

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Handlers with an answer for an anonymous visitor, and the failure that each one causes.
var routeHandlers = map[string]struct {
	handler http.HandlerFunc
	told    string // "" if the route refuses
}{
	"401":                    {answering(401), ""},
	"403":                    {answering(403), ""},
	"503":                    {answering(503), ""},
	"200":                    {answering(200), "200 OK"},
	"204":                    {answering(204), "204 No Content"},
	"an empty answer":        {func(http.ResponseWriter, *http.Request) {}, "200 OK"},
	"400":                    {answering(400), "400 Bad Request"},
	"404":                    {answering(404), "404 Not Found at /r (where no route fits that, give a path without parameters)"},
	"405":                    {answering(405), "405 Method Not Allowed at /r"},
	"407":                    {answering(407), "407 Proxy Authentication Required"},
	"500":                    {answering(500), "500 Internal Server Error"},
	"a redirect":             {http.RedirectHandler("https://dss.example/login?token=canary", http.StatusFound).ServeHTTP, "302 Found to /login, and"},
	"a panic":                {func(http.ResponseWriter, *http.Request) { panic("of the handler") }, "a panic (of the handler)"},
	"an aborted answer":      {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "a panic (net/http: abort Handler)"},
	"a cut connection":       {hijacked(""), "no answer that is HTTP"},
	"other bytes":            {hijacked("hello\r\n\r\n"), "no answer that is HTTP"},
	"a hijacked answer":      {hijacked("HTTP/1.1 200 OK\r\n\r\n"), "200 OK"},
	"a hijacked refusal":     {hijacked("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"), ""},
	"no answer":              {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "no answer within 100ms"},
	"no answer at all":       {func(http.ResponseWriter, *http.Request) { select {} }, "no answer within 100ms"},
	"a stream without end":   {stream, "200 OK"},
	"a stream of a refusal":  {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(401); stream(w, r) }, ""},
	"a refusal of pages":     {refuseIf(func(r *http.Request) bool { return r.Header.Get("Accept") != "application/json" }), "200 OK"},
	"a refusal of no socket": {refuseIf(func(r *http.Request) bool { return r.Header.Get("Upgrade") == "" }), "101 Switching Protocols for a websocket"},
}

func answering(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

func hijacked(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		fmt.Fprint(conn, answer)
		conn.Close()
	}
}

func stream(w http.ResponseWriter, r *http.Request) {
	fmt.Fprint(w, "data: 1\n\n")
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func refuseIf(refuses func(*http.Request) bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case refuses(r):
			w.WriteHeader(401)
		case r.Header.Get("Upgrade") == "websocket":
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "websocket")
			w.WriteHeader(101)
		}
	}
}

func TestForgottenRoutes(t *testing.T) {
	for name, row := range routeHandlers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := forgotten(row.handler, []string{"GET /r"}, nil, patienceFor(row.told))
			if row.told == "" {
				assert.Empty(t, told)
				return
			}
			require.Len(t, told, 1)
			assert.Contains(t, told[0], "GET /r: an anonymous visitor gets "+row.told)
			assert.Contains(t, told[0], `or name "GET /r" as open`)
			assert.NotContains(t, told[0], "canary")

			assert.Empty(t, forgotten(row.handler, []string{"GET /r"}, []string{"GET /r"}, patienceFor(row.told)), "it is named")
		})
	}
}

// patienceFor returns a long time, unless the test waits for no answer.
func patienceFor(told string) time.Duration {
	if strings.Contains(told, "within") {
		return 100 * time.Millisecond
	}
	return time.Minute
}

func TestOpenRoutes(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/closed", answering(401))
	mux.HandleFunc("/open", answering(200))
	mux.HandleFunc("GET /half", answering(200))
	mux.HandleFunc("POST /half", answering(401))
	mux.HandleFunc("/get", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.WriteHeader(401)
		}
	})
	for name, row := range map[string]struct {
		routes, open []string
		told         []string
	}{
		"nothing is listed":                                {nil, nil, []string{"there are no routes"}},
		"only an exception is listed":                      {nil, []string{"/open"}, []string{"there are no routes"}},
		"an exception names no route":                      {[]string{"/closed"}, []string{"/open"}, []string{`"/open" is named as open, and there is no such route`}},
		"an exception names a longer route":                {[]string{"/open"}, []string{"/op"}, []string{`/open: an`, `"/op" is named as open, and there is no such`}},
		"an exception is spelled in another way":           {[]string{"GET /open"}, []string{"get /open"}, []string{`GET /open: an`, `no such route`}},
		"an exception is not needed":                       {[]string{"/closed", "/open"}, []string{"/open", "/closed"}, []string{`"/closed" is named as open, but /closed refuses anonymous visitors: remove the name`}},
		"an exception is too wide":                         {[]string{"GET /half", "POST /half"}, []string{"/half"}, []string{`"/half" is named as open, but POST /half refuses anonymous visitors: remove the name`}},
		"an exception of one method is not one of another": {[]string{"GET /open", "PUT /open"}, []string{"GET /open"}, []string{"PUT /open: an anonymous visitor gets 200"}},
		"an exception of one method":                       {[]string{"GET /half", "POST /half"}, []string{"GET /half"}, nil},
		"an exception of all methods":                      {[]string{"GET /open", "POST /open"}, []string{"/open"}, nil},
		"GET is open on a route without a method":          {[]string{"/get"}, nil, []string{"/get: an anonymous visitor gets 200 OK for GET, and"}},
		"POST is open on a route without a method":         {[]string{"/post"}, nil, []string{"/post: an anonymous visitor gets 200 OK for POST, and"}},
		"any method, in echo's spelling":                   {[]string{"echo_route_any /open"}, nil, []string{"echo_route_any /open: an anonymous visitor gets 200 OK for GET"}},
		"a route is listed twice":                          {[]string{"/open", "/open"}, nil, []string{"/open: an"}},
		"a route does not exist":                           {[]string{"GET /nowhere"}, nil, []string{"gets 404 Not Found at /nowhere"}},
		"a route is not a path":                            {[]string{"GET open"}, nil, []string{"its pattern has no slash"}},
		"a route has half a parameter":                     {[]string{"GET /{id"}, nil, []string{"does not close"}},
		"a route has no expression":                        {[]string{"GET /{id:[}"}, nil, []string{"cannot be read"}},
		"a route matches nothing":                          {[]string{"GET /{id:a{0}}"}, nil, []string{"no value was found"}},
		"a method is not one":                              {[]string{"A,B /open"}, nil, []string{"no request: "}},
		"each method is tried":                             {[]string{"CONNECT /open", "TRACE /open", "OPTIONS /open", "HEAD /open"}, []string{"/open"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			post := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/post" {
					w.WriteHeader(map[string]int{"GET": 401, "POST": 200}[r.Method])
					return
				}
				mux.ServeHTTP(w, r)
			})
			told := forgotten(post, row.routes, row.open, time.Minute)
			require.Len(t, told, len(row.told), "%q", told)
			for i := range told {
				assert.Contains(t, told[i], row.told[i])
			}
		})
	}
}

// Each pattern is filled so that a router finds it.
func TestPatternsAreFilled(t *testing.T) {
	for pattern, want := range map[string]string{
		"/":                            "/",
		"":                             "/",
		"/a/b":                         "/a/b",
		"/a/{id}":                      "/a/1",
		"/a/{$}":                       "/a/",
		"/a/{rest...}":                 "/a/1",
		"/{a}/{b}":                     "/1/1",
		"/{slug}-{date}":               "/1-1",
		"/{id:[0-9]+}":                 "/1",
		"/{id:[0-9]{3}}":               "/111",
		"/{id:[a-z]{2}[0-9]{2}}/x":     "/aa11/x",
		"/{id:(?:en|fr)}":              "/en",
		"/{id:^v\\d+\\.\\d+$}":         "/v1.1",
		"/{id:[^/]+}":                  "/1",
		"/{id:.*}":                     "/1",
		"/{id:[[:upper:]]+}":           "/A",
		"/{id:[\\p{Greek}]+}":          "/Ͱ",
		"/{id:x?y*}":                   "/xy",
		"/{id:[0-9a-f]{8}-[0-9a-f]{4}": "",
		"/*":                           "/1",
		"/a/*rest":                     "/a/1",
		"/a/:id":                       "/a/1",
		"/a/:id/b":                     "/a/1/b",
		"/a/:id?":                      "/a/1",
		"/a/:id<int>/b":                "/a/1/b",
		"/a/:from-:to":                 "/a/1-:to",
		"/v1/items:batch":              "/v1/items:batch",
		"/a*b":                         "/a*b",
	} {
		host, path, err := fill(pattern, "1")
		if want == "" {
			assert.Error(t, err, pattern)
			continue
		}
		require.NoError(t, err, pattern)
		assert.Empty(t, host)
		assert.Equal(t, want, path, pattern)
	}
	host, path, err := fill("dss.example/a/{id}", "1")
	require.NoError(t, err)
	assert.Equal(t, "dss.example", host)
	assert.Equal(t, "/a/1", path)
	host, path, err = fill("{tenant:[a-z]+}.example:{port}/a", "1")
	require.NoError(t, err)
	assert.Equal(t, "a.example:1", host)
	assert.Equal(t, "/a", path)
	_, _, err = fill("{tenant:[a-z}.example/a", "1")
	assert.Error(t, err)
}

// Chi has regular expressions, and finds the values in its patterns.
func TestRoutersFindFilledPatterns(t *testing.T) {
	for _, pattern := range []string{
		"/{id}", "/a/{id:[0-9]{3}}", "/{slug:[a-z-]+}-{date:\\d+}", "/b/*", "/c/{lang:(?:en|fr)}/x", "/{id:^v\\d+\\.\\d+$}",
	} {
		var found atomic.Bool
		r := chi.NewRouter()
		r.Get(pattern, func(w http.ResponseWriter, _ *http.Request) { found.Store(true); w.WriteHeader(401) })
		assert.Empty(t, forgotten(r, []string{"GET " + pattern}, nil, time.Minute))
		assert.True(t, found.Load(), pattern)
	}
	mux := http.NewServeMux()
	for _, pattern := range []string{"GET dss.example/{id}", "/x/{rest...}", "POST /y/{$}"} {
		mux.HandleFunc(pattern, answering(403))
		assert.Empty(t, forgotten(mux, []string{pattern}, nil, time.Minute))
	}
}

// Routers prefer a path to a pattern that fits it, too.
func TestPathHidesNoPattern(t *testing.T) {
	r := chi.NewRouter()
	for _, closed := range []string{"/v/1", "/v/11/{id}"} {
		r.Get(closed, answering(401))
	}
	r.Get("/v/{id}", answering(200))
	told := forgotten(r, []string{"GET /v/1", "GET /v/11/{id}", "GET /v/{id}"}, nil, time.Minute)
	require.Len(t, told, 1)
	assert.Contains(t, told[0], "GET /v/{id}: an anonymous visitor gets 200 OK")
}

// A handler is asked once, without any credentials.
func TestRoutesAreAskedAnonymously(t *testing.T) {
	var asked atomic.Int32
	h := func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		assert.Empty(t, r.Header["Cookie"])
		assert.Empty(t, r.Header["Authorization"])
		assert.Zero(t, r.ContentLength)
		conn, _, err := http.NewResponseController(w).Hijack()
		if assert.NoError(t, err) {
			conn.Close()
		}
	}
	assert.Len(t, forgotten(http.HandlerFunc(h), []string{"GET /", "PUT /"}, nil, time.Minute), 2)
	assert.EqualValues(t, 2, asked.Load(), "a route that was found open is not asked again")
}

// failing is a test that fails without an end.
type failing struct {
	testing.TB
	told []string
}

func (f *failing) Helper() {}
func (f *failing) Errorf(format string, args ...any) {
	f.told = append(f.told, fmt.Sprintf(format, args...))
}

func TestNoRouteForgottenFails(t *testing.T) {
	f := &failing{TB: t}
	NoRouteForgotten(f, answering(200), []string{"/a", "/b"}, "/c")
	require.Len(t, f.told, 3)
	for _, told := range f.told {
		assert.Regexp(t, `^dsstest: ("/c"|/[ab]: )`, told)
	}
	NoRouteForgotten(t, answering(401), []string{"/a", "/b"})
}

func FuzzRoute(f *testing.F) {
	for _, pattern := range []string{"/a/{id:[0-9]{3}}", "GET /:a/*", "h/{x...}{$}", "/{a:(b|c)*d+?}", "/:a<int>?", ""} {
		f.Add(pattern)
	}
	f.Fuzz(func(t *testing.T, route string) {
		_, pattern := cutMethod(route)
		host, path, err := fill(pattern, "1")
		if err != nil {
			return
		}
		assert.True(t, strings.HasPrefix(path, "/"), "%q", path)
		assert.NotContains(t, host, "/")
		if pattern != "" && !strings.ContainsAny(pattern, "{*:") {
			assert.Equal(t, pattern, host+path)
		}
		// An expression matches its filled value.
		e, begins := strings.CutPrefix(pattern, "/{a:")
		if e, ends := strings.CutSuffix(e, "}"); begins && ends && !strings.ContainsAny(e, "{}") {
			assert.Regexp(t, regexp.MustCompile("^/(?:"+e+")$"), path)
		}
	})
}
