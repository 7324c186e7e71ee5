package main

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
	"github.com/dssauth/dssauth/dsstest"
)

func TestDSSActsAsTheVisitor(t *testing.T) {
	for way, impersonation := range map[string]dssauth.Impersonation{
		"by ticket": dssauth.ByTicket, "by an administrator's key": dssauth.ByProxyUser,
	} {
		t.Run(way, func(t *testing.T) {
			for name, row := range map[string]struct {
				method, path string
				headers      map[string]string
				body         string
				endpoint     string // of DSS
				answer       string
			}{
				"a method of the client":  {path: "/me", endpoint: "/auth/info", answer: `"login":"ann"`},
				"Do":                      {path: "/projects", endpoint: "/projects/", answer: `"name":"Churn"`},
				"the proxy":               {path: "/dip/publicapi/projects/", endpoint: "/projects/", answer: `"projectKey":"CHURN"`},
				"a write through a proxy": {method: http.MethodPut, path: "/dip/publicapi/current-user", body: `{"userProperties":{"colour":"red"}}`, endpoint: "/current-user"},
				"a proxy told to act as another user": {path: "/dip/publicapi/auth/info", headers: map[string]string{"X-DKU-ProxyUser": "admin"},
					endpoint: "/auth/info", answer: `"authIdentifier":"ann"`},
				"a proxy told so with an underscore": {path: "/dip/publicapi/auth/info", headers: map[string]string{"X_DKU_ProxyUser": "admin"},
					endpoint: "/auth/info", answer: `"authIdentifier":"ann"`},
				"a proxy told to drop the credentials": {path: "/dip/publicapi/auth/info", headers: map[string]string{"Connection": "X-DKU-ProxyUser, X-DKU-APITicket, Authorization, Cookie"},
					endpoint: "/auth/info", answer: `"authIdentifier":"ann"`},
			} {
				t.Run(name, func(t *testing.T) {
					app, dss := newApp(t, impersonation)
					r, err := http.NewRequestWithContext(t.Context(), row.method, app+row.path, strings.NewReader(row.body))
					require.NoError(t, err)
					r.AddCookie(dss.SignIn("ann"))
					for name, value := range row.headers {
						r.Header[name] = []string{value}
					}
					status, body := send(t, r)
					assert.Equal(t, http.StatusOK, status, body)
					assert.Contains(t, body, row.answer)

					calls := dss.Log(row.endpoint)
					require.NotEmpty(t, calls)
					last := calls[len(calls)-1]
					assert.Equal(t, "ann", last.Caller)
					assert.False(t, last.Admin, "it had an administrator's rights")
					assert.Equal(t, "ann", dss.LastCaller(), "there was another call after it")
				})
			}
		})
	}
}

func TestDSSIsNotCalled(t *testing.T) {
	for name, row := range map[string]struct {
		request func(*dsstest.Server, *http.Request)
		status  int
	}{
		"for nobody": {func(*dsstest.Server, *http.Request) {}, 401},
		"for an API key without a user": {func(dss *dsstest.Server, r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+dss.AdminKey())
		}, 403},
		"for another site's page": {func(dss *dsstest.Server, r *http.Request) {
			r.AddCookie(dss.SignIn("ann"))
			r.Header.Set("Sec-Fetch-Site", "cross-site")
		}, 403},
		"for a visitor that may not be impersonated": {func(dss *dsstest.Server, r *http.Request) {
			r.AddCookie(dss.SignIn("ann"))
			dss.Configure(dsstest.Options{NoImpersonation: []string{"*"}})
		}, 503}, // the application lacks a right, the visitor does not
	} {
		t.Run(name, func(t *testing.T) {
			app, dss := newApp(t, dssauth.ByTicket)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, app+"/dip/publicapi/current-user", strings.NewReader("{}"))
			require.NoError(t, err)
			row.request(dss, r)
			status, _ := send(t, r)
			assert.Equal(t, row.status, status)
			assert.Zero(t, dss.Calls("/current-user"))
		})
	}
}

func TestProxyDropsHeadersForBrowsers(t *testing.T) {
	app, dss := newApp(t, dssauth.ByTicket)
	dss.Intercept("/projects/", 1, dsstest.Respond(http.StatusOK, "<script>", "Set-Cookie", "a=b", "WWW-Authenticate", "Basic", "Cache-Control", "public"))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, app+"/dip/publicapi/projects/", nil)
	require.NoError(t, err)
	r.AddCookie(dss.SignIn("ann"))
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	assert.Empty(t, resp.Header.Get("Set-Cookie"))
	assert.Empty(t, resp.Header.Get("WWW-Authenticate"))
	assert.Equal(t, "sandbox", resp.Header.Get("Content-Security-Policy"))
	assert.Equal(t, []string{"private"}, resp.Header.Values("Cache-Control"))
}

func newApp(t *testing.T, way dssauth.Impersonation) (string, *dsstest.Server) {
	dss := dsstest.NewServer(t)
	for _, u := range dsstest.DemoUsers() {
		dss.AddUser(u)
	}
	auth, err := dssauth.New(dssauth.Config{Client: dss.Client(), Impersonation: way})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, auth.Close()) })
	dssURL, err := url.Parse(dss.URL())
	require.NoError(t, err)
	app := httptest.NewServer(newRouter(auth, dssURL))
	t.Cleanup(app.Close)
	return app.URL, dss
}

func send(t *testing.T, r *http.Request) (status int, body string) {
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}
