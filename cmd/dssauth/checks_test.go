package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dsstest"
)

const browserInfo = "/auth/info-from-browser-headers"

func TestRightToAsk(t *testing.T) {
	const check = "problem right to ask who a browser is: "
	for name, row := range map[string]struct {
		spoil func(*scene)
		what  string
		fix   string
	}{
		"a key without the right": {func(s *scene) {
			s.asRunner()
			s.fake.Configure(dsstest.Options{AdminLookupsOnly: true})
		}, `DSS does not give it to the user "runner"`, "Administration > Security > Groups"},
		"a DSS without the endpoint": {func(s *scene) {
			s.fake.Intercept(browserInfo, -1, dsstest.Respond(404, `{"errorType": "com.dataiku.dip.server.controllers.NotFoundException", "message": ""}`))
		}, "this DSS has no such endpoint", "upgrade it"},
		"a firewall that lets no cookies through": {func(s *scene) {
			s.fake.Intercept(browserInfo, -1, dsstest.Respond(403, "<html>"))
		}, "403 Forbidden, and it is not from DSS", "let its calls to /dip/publicapi pass"},
		"a proxy that signs everybody in": {func(s *scene) {
			s.fake.Intercept(browserInfo, -1, dsstest.Respond(200, `{"authIdentifier": "bob", "authSource": "USER_FROM_UI", "groups": []}`))
		}, `DSS identified made-up cookies as the user "bob"`, "do not use this deployment"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			row.spoil(s)
			r := s.run(s.cookie())
			s.shows(r, check, row.what, row.fix, "skipped everything else")
			assert.Equal(t, exitProblem, r.code)
			assert.Empty(t, r.stderr, "the doctor asks for nothing that cannot help")
		})
	}
}

func TestVisitor(t *testing.T) {
	t.Run("who signed out", func(t *testing.T) {
		for _, options := range []dsstest.Options{{}, {EmptyIdentifier: true}, {HideAccessTokens: true}, {LookupNeeds: "User-Agent"}} {
			s := newScene(t)
			cookie := s.cookie()
			s.fake.Configure(options)
			if !options.HideAccessTokens && options.LookupNeeds == "" {
				s.fake.EndSessions()
			}
			r := s.run(cookie)
			s.shows(r, "problem visitor: DSS says that nobody is signed in with these cookies",
				"“Hide access tokens”", "switch it off under Administration > Settings > Login & Security",
				"under the same host name as DSS", "“dssauth contract” finds them from the cookies alone", "sign in and copy again", "skipped acting as the visitor")
			assert.Equal(t, exitProblem, r.code)
		}
	})
	t.Run("whose session is in a cookie that is left out by default", func(t *testing.T) {
		s := newScene(t)
		s.fake.AddSession("AWSALB", "canary-value", "ann")
		s.secret("canary-value")
		for _, paste := range []string{"AWSALB=canary-value", "a=1; AWSALB=canary-value; b=2"} {
			r := s.run(paste)
			s.shows(r, "problem visitor: the session is in a cookie that the application does not send by default",
				`In dssauth.Config, write: Cookies: []string{"AWSALB"},`, "ok acting as the visitor by ticket")
			assert.Equal(t, exitProblem, r.code)
		}
	})
	t.Run("who has too many cookies", func(t *testing.T) {
		s := newScene(t)
		r := s.run(s.cookie() + "; a=" + strings.Repeat("x", 17<<10))
		s.shows(r, "problem cookies: they have 174", "raise Config.MaxHeaderBytes")
		assert.Equal(t, exitProblem, r.code)
	})
	t.Run("who is an API key", func(t *testing.T) {
		s := newScene(t)
		s.fake.Intercept(browserInfo, 1, dsstest.Respond(200, `{"authIdentifier": ""}`))
		s.fake.Intercept(browserInfo, -1, dsstest.Respond(200, `{"authIdentifier": "ann", "authSource": "GLOBAL_API_KEY"}`))
		r := s.run(s.cookie())
		s.shows(r, `problem visitor: the cookies are those of an API key without a user`, "Config.AllowAPIKeys")
	})
	t.Run("whom DSS cannot look up", func(t *testing.T) {
		s := newScene(t)
		s.fake.Intercept(browserInfo, 1, dsstest.Respond(200, `{"authIdentifier": ""}`))
		s.fake.Intercept(browserInfo, -1, dsstest.Respond(503, ""))
		r := s.run(s.cookie())
		s.shows(r, "problem visitor: the answer is 503 Service Unavailable", "skipped acting as the visitor")
		assert.Equal(t, exitProblem, r.code)
	})
}

// If DSS repeats a part of the cookies, at any place, it is not printed.
func TestEchoedCookies(t *testing.T) {
	for name, row := range map[string]struct {
		status int
		body   string
		shows  string
	}{
		"in the message of an error": {500, `{"errorType": "a.b.CookieException", "message": "COOKIE"}`, "DSS failed: the answer is 500 Internal Server Error, CookieException"},
		"in the type of an error":    {500, `{"errorType": "VALUE", "message": "COOKIE"}`, "DSS failed: the answer is 500 Internal Server Error DSS's log"},
		"in a class of an error":     {500, `{"errorType": "a.VALUEException", "message": "COOKIE"}`, "DSS failed: the answer is 500 Internal Server Error, [hidden]Exception DSS's log"},
		"in a page":                  {403, "<html>COOKIE</html>", "it is not from DSS"},
		"as the login":               {200, `{"authIdentifier": "VALUE", "authSource": "USER_FROM_UI", "groups": []}`, `the user "[hidden]"`},
		"within the login":           {200, `{"authIdentifier": "user VALUE", "authSource": "USER_FROM_UI", "groups": []}`, `the user "user [hidden]"`},
		"as a group":                 {200, `{"authIdentifier": "ann", "authSource": "USER_FROM_UI", "groups": ["COOKIE"]}`, `Groups: "[hidden]"`},
		"as the profile":             {200, `{"authIdentifier": "ann", "authSource": "USER_FROM_UI", "groups": [], "userProfile": "VALUE"}`, `profile "[hidden]"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.secret("canaryvalue")
			s.fake.Intercept(browserInfo, -1, browserEcho(row.status, row.body))
			s.shows(s.run("session=canaryvalue"), row.shows)
		})
	}
}

// DSS may use a key as its own name, and a broken DSS may name us by bytes that
// we sent.
func TestEchoedKeys(t *testing.T) {
	t.Run("as the key's id", func(t *testing.T) {
		s := newScene(t)
		s.fake.SetAPIKeyID(s.key, s.key)
		s.shows(s.run(""), "ok own credentials: to DSS, we are an API key without a user")
	})
	t.Run("as our login", func(t *testing.T) {
		s := newScene(t)
		s.fake.Intercept("/auth/info", 1, dsstest.Respond(200, `{"authIdentifier": "`+s.key+`", "authSource": "USER_FROM_UI"}`))
		s.shows(s.run(""), `we are the user "[hidden]"`)
	})
	t.Run("from the file of settings", func(t *testing.T) {
		s := newScene(t)
		s.Setenv("DKU_DSS_URL", "")
		s.Setenv("DKU_API_KEY", "")
		folder := filepath.Join(os.Getenv("HOME"), ".dataiku")
		require.NoError(t, os.Mkdir(folder, 0o700))
		settings := fmt.Sprintf(`{"dss_instances": {"here": {"url": %q, "api_key": %q}}, "default_instance": "here"}`, s.fake.URL(), s.key)
		require.NoError(t, os.WriteFile(filepath.Join(folder, "config.json"), []byte(settings), 0o600))
		s.fake.SetAPIKeyID(s.key, s.key)
		r := s.run(s.cookie())
		s.shows(r, `config.json, instance "here"`, `those of the user "ann"`)
		assert.Equal(t, exitWell, r.code)
	})
}

func TestImpersonation(t *testing.T) {
	const (
		runner = "as-runner"
		admin  = "as-admin"
	)
	refusing := dsstest.Options{NoImpersonation: []string{"readers"}}
	right := `give the group of the run-as user (the user "runner", profile "DESIGNER", in "run-as") the right “Impersonation in webapps” on a group of the visitor ("analysts", "readers").`
	for name, row := range map[string]struct {
		as      string
		options dsstest.Options
		mode    string
		code    int
		shows   []string
	}{
		"neither mode is allowed, and one may be needed": {runner, refusing, "either", exitProblem, []string{
			"problem acting as the visitor by ticket: not allowed", right,
			"problem acting as the visitor by proxy user: not allowed", "This mode needs an administrator's API key."}},
		"a ticket is needed and refused": {admin, refusing, "ticket", exitProblem, []string{
			"problem acting as the visitor by ticket", "ok acting as the visitor by proxy user: allowed"}},
		"an administrator is needed, and we are not one": {runner, dsstest.Options{}, "proxy-user", exitProblem, []string{
			"ok acting as the visitor by ticket: allowed", "problem acting as the visitor by proxy user"}},
		"neither mode is allowed, and none is needed": {runner, refusing, "none", exitWell, []string{
			"ok acting as the visitor by ticket: not allowed: this matters only if", right}},
		"a ticket is refused, but we are an administrator": {admin, refusing, "either", exitWell, []string{
			"ok acting as the visitor by ticket: not allowed", "ok acting as the visitor by proxy user: allowed"}},
		"a ticket is allowed, and we are not an administrator": {runner, dsstest.Options{}, "either", exitWell, []string{
			"ok acting as the visitor by ticket: allowed Config.Impersonation can be ByTicket",
			"ok acting as the visitor by proxy user: not allowed: this matters only if"}},
		"a very old DSS gives a bare ticket": {runner, dsstest.Options{BareTickets: true}, "ticket", exitWell, []string{
			"ok acting as the visitor by ticket: allowed"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			if row.as == runner {
				s.asRunner()
			}
			s.fake.Configure(row.options)
			r := s.run(s.cookie(), "-impersonation", row.mode)
			s.shows(r, "", row.shows...)
			assert.Equal(t, row.code, r.code, r.out)
		})
	}
}

// Nobody would notice that calls have the rights of another user.
func TestImpersonationAsAnotherUserIsAProblem(t *testing.T) {
	t.Run("by a ticket of another user", func(t *testing.T) {
		s := newScene(t)
		s.fake.AddTicket("canary-of-bob", "bob")
		s.secret("canary-of-bob")
		s.fake.Intercept("/auth/ticket-from-browser-headers", -1, dsstest.Respond(200, `{"msg": "canary-of-bob"}`))
		r := s.run(s.cookie())
		s.shows(r, "problem acting as the visitor by ticket: DSS acted as another user", "Do not use it")
		assert.Equal(t, exitProblem, r.code)
	})
	t.Run("by a ticket that is not accepted", func(t *testing.T) {
		s := newScene(t)
		s.secret("canary-of-nobody")
		s.fake.Intercept("/auth/ticket-from-browser-headers", -1, dsstest.Respond(200, `{"msg": "canary-of-nobody"}`))
		r := s.run(s.cookie())
		s.shows(r, "problem acting as the visitor by ticket: DSS failed: the answer is 401 Unauthorized, NotAuthenticatedException")
		assert.Equal(t, exitProblem, r.code)
	})
	t.Run("by a proxy that drops the proxy user", func(t *testing.T) {
		s := newScene(t)
		between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("X-DKU-ProxyUser")
			s.fake.ServeHTTP(w, r)
		}))
		t.Cleanup(between.Close)
		s.at(between.URL, s.key)
		r := s.run(s.cookie())
		s.shows(r, "problem acting as the visitor by proxy user: DSS acted as another user", "may drop X-DKU headers")
		assert.Equal(t, exitProblem, r.code)
	})
}

func TestAdministrator(t *testing.T) {
	for name, row := range map[string]struct {
		runner bool
		args   []string
		code   int
		shows  string
	}{
		"some user of DSS is found":                  {false, nil, exitWell, `ok administrator's rights: we have them: DSS lets us act as "ann"`},
		"we are not an administrator":                {true, nil, exitWell, `ok administrator's rights: we do not have them: this matters only if Config.Impersonation needs it DSS does not let us act as "ann"`},
		"we are not an administrator, and should be": {true, []string{"-impersonation", "proxy-user"}, exitProblem, "problem administrator's rights: we do not have them"},
		"a user is named":                            {false, []string{"-user", "bob"}, exitWell, `DSS lets us act as "bob"`},
		"a user is named who cannot be":              {false, []string{"-user", " "}, exitProblem, `problem administrator's rights: dss: As: the login is empty or blank Correct -user.`},
		"a user is named whom DSS does not know":     {false, []string{"-user", "zoe"}, exitProblem, `problem administrator's rights: DSS does not know the user "zoe"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			if row.runner {
				s.asRunner()
			}
			r := s.run("", row.args...)
			s.shows(r, row.shows)
			assert.Equal(t, row.code, r.code)
		})
	}
	t.Run("a user is found who is enabled, and not ourselves", func(t *testing.T) {
		s := newScene(t)
		s.fake.AddUser(dsstest.User{Login: "aaa", Disabled: true})
		s.fake.AddUser(dsstest.User{Login: "aab", Admin: true})
		s.fake.AddAPIKey("canary-of-aab", "aab")
		s.at(s.fake.URL(), "canary-of-aab")
		s.shows(s.run(""), `DSS lets us act as "ann"`)
	})
	t.Run("no user is found", func(t *testing.T) {
		s := newScene(t)
		s.fake.Intercept("/users", -1, dsstest.Respond(403, `{"errorType": "x.UnauthorizedException"}`))
		r := s.run("")
		s.shows(r, "skipped administrator's rights: we found no user to act as in a test: name one with -user")
		assert.Equal(t, exitWell, r.code)
	})
}

func TestChangingCookies(t *testing.T) {
	t.Run("are named, with what to set", func(t *testing.T) {
		s := newScene(t)
		session := s.cookie()
		name, _, _ := strings.Cut(session, "=")
		s.secret("canary-one", "canary-two", "canary-three", "canary-four")
		s.fake.AddSession("other", "canary-four", "bob")
		r := s.run("lb=canary-one; same=x; " + session + "; other=canary-four; gone=canary-three; _ga=1\n\n" +
			session + "; other=canary-four; new=canary-three; lb=canary-two; same=x; _ga=2\n")
		s.shows(r, `problem changing cookies: "lb", "gone", "new"`, `that identify a visitor: []string{"`+name+`"}.`)
		assert.Equal(t, exitProblem, r.code)
	})
	t.Run("among several of one name", func(t *testing.T) {
		s := newScene(t)
		session := s.cookie()
		r := s.run(session + "; a=1; a=2\n\n" + session + "; a=1; a=3\n")
		s.shows(r, `problem changing cookies: "a"`)
	})
	t.Run("where no single one identifies the visitor", func(t *testing.T) {
		s := newScene(t)
		s.secret("canary-one", "canary-two")
		s.fake.Intercept(browserInfo, -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			body, err := io.ReadAll(r.Body)
			require.NoError(t, err)
			var sent map[string]string
			require.NoError(t, json.Unmarshal(body, &sent))
			login := ""
			if strings.Contains(sent["Cookie"], "a=") && strings.Contains(sent["Cookie"], "b=") {
				login = "ann"
			}
			dsstest.Respond(200, `{"authIdentifier": "`+login+`", "authSource": "USER_FROM_UI", "groups": []}`)(w, r, next)
		})
		r := s.run("a=canary-one; b=2; c=1\n\na=canary-two; b=2; c=2\n", "-impersonation", "none")
		s.shows(r, `problem changing cookies: "a", "c"`, `no single one is enough, so find the needed ones among "a", "b", "c"`)
	})
	t.Run("of a text that is not a paste", func(t *testing.T) {
		s := newScene(t)
		r := s.run(s.cookie() + "\n\nnonsense\n")
		s.shows(r, "problem changing cookies: the second paste: it has no Cookie header")
		assert.Equal(t, exitProblem, r.code)
	})
	t.Run("of a second paste that is too large", func(t *testing.T) {
		s := newScene(t)
		cookie := s.cookie()
		r := s.run(cookie + "\n\n" + cookie + "; a=" + strings.Repeat("x", 17<<10))
		s.shows(r, "problem changing cookies: the second Cookie header is larger")
	})
}

// A cookie without a name is a bare value, and is not shown as a name.
func TestNamelessCookies(t *testing.T) {
	s := newScene(t)
	value := rand.Text()
	s.secret(value)
	r := s.run("Cookie: " + s.cookie() + "; " + value + "; =" + value)
	s.shows(r, "ok cookies: sent to DSS are", `"(without a name)"`)
	assert.Equal(t, exitWell, r.code)
}

// In base64 a bare value ends with an equals sign, which also separates a name
// from its value.
func TestValuesAreNotShownAsNames(t *testing.T) {
	const secret, other, third = "YW5uOmNhbmFyeQ", "c2Vzc2lvbmNhbmFyeQ", "sessioncanary"
	t.Run("among those that are sent, and change", func(t *testing.T) {
		s := newScene(t)
		s.secret(secret, other, third)
		session := s.cookie()
		name, _, _ := strings.Cut(session, "=")
		r := s.run(session + "; " + secret + "==; " + other + "=; _ga=1\n\n" + session + "; " + secret + "==; " + third + "=; " + other + "=x; _ga=1\n")
		s.shows(r, `ok cookies: sent to DSS are "`+name+`", "(name not shown)"`, `identify nobody: "_ga".`)
		s.shows(r, `problem changing cookies: "(name not shown)"`, `that identify a visitor: []string{"`+name+`"}.`)
	})
	t.Run("where one identifies the visitor", func(t *testing.T) {
		s := newScene(t)
		s.secret(secret)
		s.fake.AddSession(secret, "=", "ann")
		r := s.run(secret + "==; theme=1\n\n" + secret + "==; theme=2\n")
		s.shows(r, `problem changing cookies: "theme"`, "that identify a visitor: it has no name, or a name that may be a value and is not shown.")
	})
	t.Run("where DSS repeats it", func(t *testing.T) {
		s := newScene(t)
		s.secret(secret)
		s.fake.Intercept(browserInfo, -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			body, err := io.ReadAll(r.Body)
			require.NoError(t, err)
			login := ""
			if bytes.Contains(body, []byte(secret)) {
				login = secret
			}
			dsstest.Respond(200, `{"authIdentifier": "`+login+`", "authSource": "USER_FROM_UI", "groups": ["`+login+`"]}`)(w, r, next)
		})
		r := s.run(secret+"==", "-impersonation", "none")
		s.shows(r, `those of the user "[hidden]"`, `Groups: "[hidden]".`)
	})
}
