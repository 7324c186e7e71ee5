package dsstest_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dsstest"
)

// person has a browser with one cookie.
type person struct {
	t      *testing.T
	fake   *dsstest.Server
	page   string // its URL
	cookie *http.Cookie
}

func newPerson(t *testing.T) *person {
	fake := dsstest.NewServer(t)
	for _, u := range dsstest.DemoUsers() {
		fake.AddUser(u)
	}
	fake.AddUser(dsstest.User{Login: "old", Disabled: true})
	server := httptest.NewServer(fake.SignInPage())
	t.Cleanup(server.Close)
	return &person{t: t, fake: fake, page: server.URL}
}

// asks sends a request to the page, with headers as name, value …
func (p *person) asks(method, path string, form url.Values, headers ...string) (*http.Response, string) {
	p.t.Helper()
	r, err := http.NewRequest(method, p.page+path, strings.NewReader(form.Encode()))
	require.NoError(p.t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if p.cookie != nil {
		r.AddCookie(p.cookie)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	r.Host = r.Header.Get("Host")
	resp, err := direct.Do(r)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	return resp, string(body)
}

// signsIn signs in, and returns the target.
func (p *person) signsIn(login, redirect string) (location string) {
	p.t.Helper()
	resp, body := p.asks("POST", "/sign-in", url.Values{"login": {login}, "redirect": {redirect}})
	require.Equal(p.t, http.StatusSeeOther, resp.StatusCode, body)
	require.NotEmpty(p.t, resp.Cookies())
	p.cookie = resp.Cookies()[len(resp.Cookies())-1]
	return resp.Header.Get("Location")
}

func TestPageSignsInAndOut(t *testing.T) {
	p := newPerson(t)
	_, body := p.asks("GET", "/", nil)
	assert.Contains(t, body, "You are signed out")

	assert.Equal(t, "/", p.signsIn("ann", ""))
	ann := p.cookie
	assert.Equal(t, "ann", whoIs(t, p.fake, cookieOf(ann)))
	_, body = p.asks("GET", "/sign-in", nil)
	assert.Contains(t, body, "You are Ann Analyst")
	assert.NotContains(t, body, "ZgotmplZ", "the template refused a value")

	p.signsIn("bob", "")
	assert.Equal(t, "bob", whoIs(t, p.fake, cookieOf(p.cookie)))
	assert.Empty(t, whoIs(t, p.fake, cookieOf(ann)), "the old session has ended")

	bob := p.cookie
	resp, _ := p.asks("POST", "/sign-out", nil)
	assert.Equal(t, http.StatusSeeOther, resp.StatusCode)
	assert.Negative(t, resp.Cookies()[0].MaxAge)
	assert.Empty(t, whoIs(t, p.fake, cookieOf(bob)))

	for _, login := range []string{"", "nobody", "old"} {
		resp, _ = p.asks("POST", "/sign-in", url.Values{"login": {login}})
		assert.Equal(t, http.StatusBadRequest, resp.StatusCode, login)
		assert.Empty(t, resp.Cookies(), login)
	}
}

func TestPageDoesNotChangeTheAPI(t *testing.T) {
	p := newPerson(t)
	p.fake.SetDown(true)
	resp, body := p.asks("GET", "/dip/publicapi/auth/info", nil)
	assert.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	assert.NotContains(t, body, "Bring it back")
	p.fake.SetDown(false)
	resp, body = p.asks("GET", "/dip/publicapi/auth/info", nil, "Authorization", "Bearer "+p.fake.AdminKey())
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	assert.Contains(t, body, "GLOBAL_API_KEY")
}

func TestPageChangesGroups(t *testing.T) {
	p := newPerson(t)
	groups := func() any {
		_, reply := call(t, p.fake, keyOf(p.fake.AdminKey()), "GET", "/users/ann", "")
		return decode(t, reply).(map[string]any)["groups"]
	}
	for _, step := range []struct {
		change url.Values
		status int
		after  []any
	}{
		{url.Values{"leave": {"analysts"}}, 303, []any{"readers"}},
		{url.Values{"join": {" R&D <all> "}}, 303, []any{"readers", "R&D <all>"}},
		{url.Values{"join": {"readers"}}, 303, []any{"R&D <all>", "readers"}},
		{url.Values{"join": {"  "}}, 400, []any{"R&D <all>", "readers"}},
		{url.Values{"join": {"a"}, "leave": {"readers"}}, 400, []any{"R&D <all>", "readers"}},
		{url.Values{"join": {"a\x00b"}}, 400, []any{"R&D <all>", "readers"}},
		{url.Values{"join": {strings.Repeat("a", 201)}}, 400, []any{"R&D <all>", "readers"}},
		{url.Values{"join": {"a"}, "login": {"nobody"}}, 400, []any{"R&D <all>", "readers"}},
	} {
		if !step.change.Has("login") {
			step.change.Set("login", "ann")
		}
		resp, _ := p.asks("POST", "/groups", step.change)
		assert.Equal(t, step.status, resp.StatusCode, step.change)
		assert.Equal(t, step.after, groups(), step.change)
	}
	_, body := p.asks("GET", "/", nil)
	assert.Contains(t, body, "Join analysts", "a group without members can still be joined")
	assert.Contains(t, body, "Leave R&amp;D &lt;all&gt;")
}

func TestPageTakesTheFakeDown(t *testing.T) {
	p := newPerson(t)
	p.signsIn("ann", "")
	p.asks("POST", "/outage", url.Values{"down": {"true"}})
	status, _ := call(t, p.fake, keyOf(p.fake.AdminKey()), "GET", authInfo, "")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	resp, body := p.asks("GET", "/", nil)
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	assert.Contains(t, body, "Bring it back")
	assert.Contains(t, body, "You are Ann Analyst")
	resp, _ = p.asks("POST", "/sign-in", url.Values{"login": {"bob"}})
	assert.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)

	p.asks("POST", "/outage", url.Values{"down": {"false"}})
	assert.Equal(t, "ann", whoIs(t, p.fake, cookieOf(p.cookie)))
}

func TestPageRefusesForeignForms(t *testing.T) {
	p := newPerson(t)
	for name, headers := range map[string][]string{
		"another site":                    {"Sec-Fetch-Site", "cross-site"},
		"another port of the same host":   {"Sec-Fetch-Site", "same-site"},
		"another site, in an old browser": {"Origin", "https://evil.example"},
		"another port, in an old browser": {"Origin", "http://127.0.0.1:8080"},
		"a foreign name for this address": {"Host", "evil.example", "Sec-Fetch-Site", "same-origin"},
	} {
		for path, form := range map[string]url.Values{
			"/sign-in":  {"login": {"ann"}},
			"/sign-out": {},
			"/groups":   {"login": {"ann"}, "join": {"administrators"}},
			"/outage":   {"down": {"true"}},
		} {
			resp, _ := p.asks("POST", path, form, headers...)
			assert.Equal(t, http.StatusForbidden, resp.StatusCode, "%s: %s", name, path)
			assert.Empty(t, resp.Cookies(), "%s: %s", name, path)
		}
	}
	resp, body := p.asks("GET", "/", nil, "Host", "evil.example")
	assert.Equal(t, http.StatusForbidden, resp.StatusCode)
	assert.Contains(t, body, `host "evil.example" is not a name of this machine: use 127.0.0.1 or localhost`)
	for _, host := range []string{"localhost:11200", "127.0.0.1", "[::1]:11200", "LOCALHOST"} {
		resp, _ := p.asks("GET", "/", nil, "Host", host)
		assert.Equal(t, http.StatusOK, resp.StatusCode, host)
	}
	policy := resp.Header.Get("Content-Security-Policy")
	assert.Empty(t, policy, "a refusal is plain text")
	resp, _ = p.asks("GET", "/", nil)
	assert.Contains(t, resp.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'")
	assert.Contains(t, resp.Header.Get("Content-Security-Policy"), "form-action 'self'")
	resp, _ = p.asks("GET", "/?redirect=http://127.0.0.1:8080/me", nil)
	assert.Contains(t, resp.Header.Get("Content-Security-Policy"), "form-action 'self' http://127.0.0.1:8080")
	for _, path := range []string{"/sign-out", "/groups", "/outage"} {
		resp, _ = p.asks("GET", path+"?down=true&login=ann&join=a", nil)
		assert.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode, path)
	}
}

func TestSignInRedirectsToThisMachineOnly(t *testing.T) {
	p := newPerson(t)
	for redirect, want := range map[string]string{
		"http://127.0.0.1:8080/me?a=1&b=2": "http://127.0.0.1:8080/me?a=1&b=2",
		"http://localhost:8080":            "http://localhost:8080",
		"https://[::1]:8443/":              "https://[::1]:8443/",
		"/report?year=2026&page=2":         "/report?year=2026&page=2",

		"":                                      "/",
		"report":                                "/",
		"https://evil.example/":                 "/",
		"//evil.example/":                       "/",
		"//127.0.0.1/":                          "/",
		"/\\evil.example/":                      "/",
		"\\\\evil.example/":                     "/",
		"/\t/evil.example/":                     "/",
		"http:/evil.example/":                   "/",
		"http:evil.example":                     "/",
		"http:///evil.example/":                 "/",
		"http://127.0.0.1@evil.example/":        "/",
		"http://evil.example@127.0.0.1/":        "/",
		"http://127.0.0.1.evil.example/":        "/",
		"http://localhost.evil.example/":        "/",
		"http://evil.example\\@127.0.0.1/":      "/",
		"http://evil.example#@127.0.0.1/":       "/",
		"http://192.0.2.1/":                     "/",
		"javascript:alert(1)":                   "/",
		"javascript://127.0.0.1/%0aalert(1)":    "/",
		"ftp://127.0.0.1/":                      "/",
		"http://127.0.0.1:8080//evil.example":   "/",
		"http://[::1%25%3b%20form-action%20*]/": "/", // another directive of the page's policy
	} {
		assert.Equal(t, want, p.signsIn("ann", redirect), redirect)
		_, body := p.asks("GET", "/?"+url.Values{"redirect": {redirect}}.Encode(), nil)
		if want == "/" {
			assert.NotContains(t, body, "evil", redirect)
			assert.NotContains(t, body, `id="go-on"`, redirect)
		} else {
			assert.Contains(t, body, `id="go-on"`, redirect)
		}
		resp, _ := p.asks("POST", "/sign-out", url.Values{"at": {redirect}})
		if !strings.HasPrefix(want, "/") {
			want = "/" // other forms stay on this server
		}
		assert.Equal(t, want, resp.Header.Get("Location"), redirect)
	}
	_, body := p.asks("GET", "/?redirect=http://localhost:8080/", nil)
	assert.Contains(t, body, "another host name", "the browser does not send the session there")
}

func TestPageKeepsFewCookiesOfOtherFakes(t *testing.T) {
	p := newPerson(t)
	others := "theme=dark; dss_session_A=1; dss_session_B=1; dss_session_C=1; dss_session_D=1; dss_session_E=1"
	resp, _ := p.asks("POST", "/sign-in", url.Values{"login": {"ann"}}, "Cookie", others)
	var gone []string
	for _, c := range resp.Cookies() {
		if c.MaxAge < 0 {
			gone = append(gone, c.Name)
		}
	}
	assert.Equal(t, []string{"dss_session_A", "dss_session_B"}, gone)
}
