package server

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCheckTellsTheProxyWhoAsks(t *testing.T) {
	w := newWorld(t)
	ann := w.dss.SignIn("ann")
	for _, say := range [][]string{
		{"X-Original-Uri", "/admin/x?y=1", "X-Original-Method", "GET"},
		{"X-Forwarded-Uri", "/admin/x?y=1", "X-Forwarded-Method", "POST", "X-Forwarded-Host", "app.example"},
	} {
		reply := w.get("/dssauth/check", ann, append(say, "Cookie", "theme=dark", "X-Dku-Apiticket", "t")...)
		require.Equal(t, 200, reply.StatusCode)
		h := reply.Header
		assert.Equal(t, "ann", h.Get("Remote-User"))
		assert.Equal(t, "administrators,data%2C team", h.Get("Remote-Groups"))
		assert.Equal(t, []string{""}, h["Remote-Name"])
		assert.Equal(t, []string{""}, h["Remote-Email"])
		assert.NotEmpty(t, h.Get(assertionHeader))
		assert.Equal(t, "theme=dark", h.Get(cookieHeader))
		assert.Contains(t, w.log.String(), `"method":"`+say[3]+`","path":"/admin/x","status":200`, "the request that the proxy asks about")
	}
	reply := w.get("/dssauth/check", nil, "X-Original-Uri", "/open/", "X-Original-Method", "GET")
	require.Equal(t, 200, reply.StatusCode)
	for _, name := range []string{"Remote-User", "Remote-Groups", "Remote-Name", "Remote-Email", assertionHeader, cookieHeader} {
		assert.Equal(t, []string{""}, reply.Header[name], "the browser's value must not stay")
	}
	assert.Empty(t, w.upstream.all())
}

func TestCheckRefusesHeadersOfBrowsers(t *testing.T) {
	w := newWorld(t)
	ann := w.dss.SignIn("ann")
	const uri, method, forwardedURI, forwardedMethod = "X-Original-Uri", "X-Original-Method", "X-Forwarded-Uri", "X-Forwarded-Method"
	for name, say := range map[string][]string{
		"nothing":                  {},
		"no method":                {uri, "/"},
		"no path":                  {method, "GET"},
		"both kinds":               {uri, "/", method, "GET", forwardedURI, "/"},
		"both kinds of methods":    {uri, "/", method, "GET", forwardedMethod, "GET"},
		"twice":                    {uri, "/", uri, "/", method, "GET"},
		"twice, other case":        {uri, "/", "x-original-uri", "/admin", method, "GET"},
		"method twice":             {forwardedURI, "/", forwardedMethod, "GET", forwardedMethod, "GET"},
		"no slash":                 {uri, "page", method, "GET"},
		"an address":               {uri, "http://app.example/", method, "GET"},
		"a path that is not clean": {uri, "/open/..%2fadmin", method, "GET"},
		"the gateway's own":        {uri, "/dssauth/jwks.json", method, "GET"},
		"an identity":              {uri, "/", method, "GET", "Remote-User", "ann"},
		"an identity, as CGI":      {uri, "/", method, "GET", "remote_user", "ann"},
		"an assertion":             {uri, "/", method, "GET", "X-Dssauth_Assertion", "x"},
		"cookies":                  {uri, "/", method, "GET", cookieHeader, "x"},
		"another path":             {uri, "/", method, "GET", "X-Rewrite-Url", "/admin"},
		"another method":           {uri, "/", method, "GET", "X-Http-Method-Override", "DELETE"},
	} {
		for _, path := range []string{"/dssauth/check", "/dssauth/refusal"} {
			assert.Equal(t, 400, w.get(path, ann, say...).StatusCode, "%s: %s", path, name)
		}
	}
	assert.Equal(t, 405, w.get("/dssauth/check", ann, uri, "/", method, "TRACE").StatusCode)

	r := httptest.NewRequest("GET", "/dssauth/check", nil)
	r.RemoteAddr = "192.0.2.7:1234"
	r.Header.Set(uri, "/")
	r.Header.Set(method, "GET")
	reply := httptest.NewRecorder()
	w.server.ServeHTTP(reply, r)
	assert.Equal(t, 403, reply.Code, "it comes from no proxy")
	assert.Contains(t, reply.Body.String(), "proxies")
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, "-login_url=https://dss.example/login/?to={back}")
	eve := w.dss.SignIn("eve")
	const html = "text/html"
	nginx := func(path string) []string {
		return []string{"X-Original-Uri", path, "X-Original-Method", "GET", "Accept", html, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}
	}
	caddy := func(path string) []string {
		return []string{"X-Forwarded-Uri", path, "X-Forwarded-Method", "GET", "Accept", html, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}
	}
	const signIn = "https://dss.example/login/?to=%2Fpage%3Fa%3D1"

	assert.Equal(t, 401, w.get("/dssauth/check", nil, nginx("/page?a=1")...).StatusCode, "nginx takes a redirect for an error")
	for _, reply := range []*http.Response{
		w.get("/dssauth/refusal", nil, nginx("/page?a=1")...),
		w.get("/dssauth/check", nil, caddy("/page?a=1")...),
		w.get("/page?a=1", nil, "Accept", html, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"),
	} {
		assert.Equal(t, 3, reply.StatusCode/100)
		assert.Equal(t, signIn, reply.Header.Get("Location"))
	}
	assert.Equal(t, 403, w.get("/dssauth/check", eve, nginx("/admin/")...).StatusCode)
	assert.Equal(t, 403, w.get("/dssauth/refusal", eve, nginx("/admin/")...).StatusCode)

	reply := w.get("/dssauth/refusal", eve, nginx("/page?a=1")...)
	assert.Equal(t, 503, reply.StatusCode, "admitted in the meantime")
	assert.NotEmpty(t, reply.Header.Get("Retry-After"))
	assert.Empty(t, reply.Header["Remote-User"])
	assert.Empty(t, reply.Header[assertionHeader])
	reply = w.get("/dssauth/refusal", eve, "X-Original-Uri", "/page", "X-Original-Method", "POST")
	assert.Equal(t, 503, reply.StatusCode)
	assert.NotEmpty(t, reply.Header.Get("Retry-After"))

	w.dss.SetDown(true)
	bob := w.dss.SignIn("bob")
	assert.Equal(t, 503, w.get("/dssauth/check", bob, nginx("/page")...).StatusCode)
	reply = w.get("/dssauth/refusal", bob, nginx("/page")...)
	assert.Equal(t, 503, reply.StatusCode)
	assert.NotEmpty(t, reply.Header.Get("Retry-After"))
}
