package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

// fixture is the application, with a fake DSS.
type fixture struct {
	dss     *dsstest.Server
	app     *app
	handler http.Handler
}

func newFake(t *testing.T) *dsstest.Server {
	fake := dsstest.NewServer(t)
	for _, u := range dsstest.DemoUsers() {
		fake.AddUser(u)
	}
	return fake
}

func newFixture(t *testing.T, prefix string) fixture {
	fake := newFake(t)
	auth, err := dssauth.New(dssauth.Config{Client: fake.Client(), LoginURL: func(*http.Request, string) string { return "/login/" }})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, auth.Close()) })
	a := &app{auth: auth, stopping: make(chan struct{})}
	return fixture{fake, a, under(prefix, a.newRouter())}
}

func TestApp(t *testing.T) {
	f := newFixture(t, "/app")
	ann := f.dss.SignIn("ann").String()
	for name, row := range map[string]struct {
		method, path string
		headers      []string
		status       int
		want         string
	}{
		"a probe":                                {"GET", "/healthz", nil, 200, "ok\n"},
		"a probe under the prefix":               {"GET", "/app/healthz", nil, 200, "ok\n"},
		"nobody":                                 {"GET", "/me", nil, 401, ""},
		"an anonymous visitor, under the prefix": {"GET", "/app/me", nil, 401, ""},
		"an anonymous visitor opens a page":      {"GET", "/app/", []string{"Accept", "text/html"}, 302, ""},
		"a neighbour of the prefix":              {"GET", "/apple", []string{"Cookie", ann}, 404, ""},
		"ann":                                    {"GET", "/me", []string{"Cookie", ann}, 200, `"login":"ann"`},
		"ann, under the prefix":                  {"GET", "/app/me", []string{"Cookie", ann}, 200, `"login":"ann"`},
		"ann's page":                             {"GET", "/app/", []string{"Cookie", ann}, 200, `Hello ann. <a href="me">`},
		"ann sends something":                    {"POST", "/app/upload", []string{"Cookie", ann, "Origin", "http://example.com"}, 200, "ann sent 4 bytes\n"},
		"another site sends something":           {"POST", "/app/upload", []string{"Cookie", ann, "Origin", "http://evil.example"}, 403, ""},
		"nobody may send":                        {"POST", "/upload", nil, 401, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(row.method, row.path, strings.NewReader("data"))
			for i := 0; i < len(row.headers); i += 2 {
				r.Header.Set(row.headers[i], row.headers[i+1])
			}
			w := httptest.NewRecorder()
			f.handler.ServeHTTP(w, r)
			assert.Equal(t, row.status, w.Code)
			assert.Contains(t, w.Body.String(), row.want)
		})
	}
}

func TestProbesDoNotAskDSS(t *testing.T) {
	f := newFixture(t, "")
	f.dss.SetDown(true)
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
	assert.Equal(t, http.StatusOK, w.Code)

	w = httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/me", nil)
	r.AddCookie(f.dss.SignIn("ann"))
	f.handler.ServeHTTP(w, r)
	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
}

func TestSettings(t *testing.T) {
	for name, row := range map[string]struct {
		args []string
		path string // DKU_CODE_STUDIO_BROWSER_PATH_8080
		want settings
	}{
		"a laptop":                    {nil, "", settings{addr: "127.0.0.1:8080"}},
		"another port":                {[]string{"-port", "9000"}, "", settings{addr: "127.0.0.1:9000"}},
		"beside DSS":                  {[]string{"-prefix", "/app", "-login", "/login/"}, "", settings{"127.0.0.1:8080", "/app", "/login/"}},
		"a container":                 {[]string{"-addr", ":8080", "-prefix", "/app"}, "", settings{addr: ":8080", prefix: "/app"}},
		"a Code Studio":               {nil, "/code-studios/CHURN/a1/8080", settings{addr: "127.0.0.1:8080", prefix: "/code-studios/CHURN/a1/8080"}},
		"a Code Studio's prefix wins": {[]string{"-prefix", "/app"}, "/code-studios/CHURN/a1/8080", settings{addr: "127.0.0.1:8080", prefix: "/code-studios/CHURN/a1/8080"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("DKU_CODE_STUDIO_BROWSER_PATH_8080", row.path)
			got, err := readSettings(row.args)
			require.NoError(t, err)
			assert.Equal(t, row.want, got)
		})
	}
	for _, prefix := range []string{"app", "/", "/app/", "//app", "/a/../b", "/{app", "/a b", "/a%20b", "/app?"} {
		_, err := readSettings([]string{"-prefix", prefix})
		assert.ErrorContains(t, err, "it must begin with a slash, not end with one", prefix)
	}
	_, err := readSettings([]string{"-port", "8080", "prefix", "/app"}) // a forgotten hyphen
	assert.EqualError(t, err, `unexpected argument "prefix": see -help`)
	t.Setenv("DKU_CODE_STUDIO_BROWSER_PATH_8080", "//evil.example")
	_, err = readSettings(nil)
	assert.ErrorContains(t, err, "DKU_CODE_STUDIO_BROWSER_PATH_8080")
}
