package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// browser has the headers that Chrome sends. None of their values may be
// printed.
var browser = []string{
	"Accept: text/html,application/xhtml+xml", "Accept-Language: en", "Connection: keep-alive", "Referer: https://dss.example/?token=canary-referer",
	"Sec-Fetch-Mode: navigate", "User-Agent: canary-agent/1.0", "X-Forwarded-For: 192.0.2.77", "X-Sso-Token: canary-of-sso",
	"Authorization: Basic Y2FuYXJ5LXVzZXI6Y2FuYXJ5LXBhc3N3b3Jk", "X-DKU-ProxyUser: canary-proxy-user", "X_Dku_ApiTicket: canary-ticket-of-dku",
	"Content-Length: 0", "Sec-WebSocket-Protocol: canary-of-socket",
}

// copied is a browser's request as cURL has it.
func (s *scene) copied(cookie string, headers ...string) string {
	s.secret("canary-", "192.0.2.77", "Y2FuYXJ5LXVzZXI")
	if headers == nil {
		headers = browser
	}
	command := "curl 'http://dss.example:11200/projects/?token=canary-query' \\\n"
	for _, h := range headers {
		command += "  -H '" + h + "' \\\n"
	}
	return command + "  -b '" + cookie + "'\n\n"
}

// needs lets DSS see a session only with certain headers of the browser, in any
// case.
func (s *scene) needs(enough func(h http.Header) bool) *atomic.Int32 {
	var asked atomic.Int32
	s.fake.Intercept(browserInfo, -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		body, _ := io.ReadAll(r.Body)
		var sent map[string]string
		_ = json.Unmarshal(body, &sent)
		h := http.Header{}
		for name, value := range sent {
			h.Set(name, value)
		}
		asked.Add(1)
		assert.NotContains(s, strings.ToLower(strings.ReplaceAll(string(body), "_", "-")), "x-dku", "DSS could read it as an order")
		if r.Body = io.NopCloser(bytes.NewReader(body)); !enough(h) {
			r.Body = http.NoBody
			dsstest.Respond(401, `{"errorType": "com.dataiku.dip.exceptions.NotAuthenticatedException", "message": "canary-message"}`)(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	})
	return &asked
}

func has(names ...string) func(http.Header) bool {
	return func(h http.Header) bool {
		return !slices.ContainsFunc(names, func(name string) bool { return h.Get(name) == "" })
	}
}

// settings are the lines for dssauth.Config in a report, as Go reads them.
func settings(t testing.TB, r result) dssauth.Config {
	var code string
	for _, line := range r.lines {
		if strings.HasPrefix(line, "\t") {
			code += line + "\n"
		}
	}
	e, err := parser.ParseExpr("dssauth.Config{\n" + code + "}")
	require.NoError(t, err, "it is not Go: %s", code)
	var cfg dssauth.Config
	for _, element := range e.(*ast.CompositeLit).Elts {
		field := element.(*ast.KeyValueExpr)
		list := field.Value.(*ast.CompositeLit)
		assert.Equal(t, "string", list.Type.(*ast.ArrayType).Elt.(*ast.Ident).Name)
		var names []string
		for _, name := range list.Elts {
			text, err := strconv.Unquote(name.(*ast.BasicLit).Value)
			require.NoError(t, err)
			names = append(names, text)
		}
		switch field.Key.(*ast.Ident).Name {
		case "Headers":
			cfg.Headers = names
		case "Cookies":
			cfg.Cookies = names
		default:
			assert.Fail(t, "no setting of the search", code)
		}
	}
	return cfg
}

func TestSearch(t *testing.T) {
	const user, session = `it knows the user "ann"`, "SESSION=canary-session"
	for name, row := range map[string]struct {
		enough           func(http.Header) bool
		headers, cookies []string
		says             string
	}{
		"User-Agent":            {has("Cookie", "User-Agent"), []string{"Cookie", "User-Agent"}, []string{"SESSION"}, `Add "Authorization" to Headers where programs`},
		"a browser's address":   {has("Cookie", "X-Forwarded-For"), []string{"Cookie", "X-Forwarded-For"}, []string{"SESSION"}, "use a header that the proxy in front of the application sets anew"},
		"single sign-on":        {has("Cookie", "X-Sso-Token"), []string{"Cookie", "X-Sso-Token"}, []string{"SESSION"}, "Cookies may be left out"},
		"three of them":         {has("Cookie", "X-Sso-Token", "User-Agent", "X-Forwarded-For"), []string{"Cookie", "X-Sso-Token", "User-Agent", "X-Forwarded-For"}, []string{"SESSION"}, "This is the smallest set that is enough"},
		"one that comes last":   {has("Cookie", "Referer"), []string{"Cookie", "Referer"}, []string{"SESSION"}, "Referer may differ from page to page"},
		"Authorization as well": {has("Cookie", "Authorization", "User-Agent"), []string{"Cookie", "Authorization", "User-Agent"}, []string{"SESSION"}, user},
		"one of two": {func(h http.Header) bool { return has("Cookie")(h) && (has("X-Sso-Token")(h) || has("User-Agent")(h)) },
			[]string{"Cookie", "X-Sso-Token"}, []string{"SESSION"}, `As small, and enough as well: Headers of "Cookie", "User-Agent".`},
		"one, or two others": {func(h http.Header) bool {
			return has("Cookie")(h) && (has("X-Sso-Token", "User-Agent")(h) || has("X-Forwarded-For")(h))
		}, []string{"Cookie", "X-Forwarded-For"}, []string{"SESSION"}, user},
		"a cookie that is left out": {func(h http.Header) bool { return strings.Contains(h.Get("Cookie"), "AWSALB=") }, nil, []string{"SESSION", "AWSALB"},
			"the session is in a cookie that the application does not send by default"},
		"such a cookie and a header": {func(h http.Header) bool { return has("User-Agent")(h) && strings.Contains(h.Get("Cookie"), "AWSALB=") },
			[]string{"Cookie", "User-Agent"}, []string{"SESSION", "AWSALB"}, user},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.fake.AddSession("SESSION", "canary-session", "ann")
			asked := s.needs(row.enough)
			r := s.run(s.copied("lang=canary-lang; " + session + "; AWSALB=canary-balancer; _ga=canary-analytics"))

			s.shows(r, "problem visitor: ", row.says, "In dssauth.Config, write:", `"analysts"`, "ok acting as the visitor by ticket: allowed")
			assert.Equal(t, exitProblem, r.code)
			cfg := settings(t, r)
			assert.Equal(t, row.headers, cfg.Headers)
			assert.Equal(t, row.cookies, cfg.Cookies)
			assert.LessOrEqual(t, asked.Load(), int32(maxQuestions+2))
			s.identifies(cfg, s.copied("lang=canary-lang; "+session+"; AWSALB=canary-balancer; _ga=canary-analytics"))
		})
	}
}

// identifies asks an application with these settings.
func (s *scene) identifies(cfg dssauth.Config, paste string) {
	s.Helper()
	sent, err := parsePaste(paste)
	require.NoError(s, err)
	cfg.Client = s.fake.Client()
	auth, err := dssauth.New(cfg)
	require.NoError(s, err)
	defer auth.Close()
	r, err := http.NewRequestWithContext(s.Context(), http.MethodGet, "/", nil)
	require.NoError(s, err)
	r.Header = sent.headers()
	r, err = auth.Authenticate(r)
	require.NoError(s, err)
	id, _ := dssauth.FromContext(r.Context())
	assert.Equal(s, "ann", id.Login)
}

func TestSearchWithoutCookies(t *testing.T) {
	s := newScene(t)
	s.fake.Intercept(browserInfo, -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		body, _ := io.ReadAll(r.Body)
		answer := `{"authIdentifier": ""}`
		if strings.Contains(string(body), "canary-of-sso") {
			answer = `{"authIdentifier": "ann", "authSource": "USER_FROM_UI", "groups": []}`
		}
		dsstest.Respond(200, answer)(w, r, next)
	})
	r := s.run(s.copied("lang=canary-lang"))
	s.shows(r, "problem visitor: ", "DSS needs no cookie: anybody who can send these headers is the visitor.")
	cfg := settings(t, r)
	assert.Equal(t, []string{"X-Sso-Token"}, cfg.Headers)
	assert.Nil(t, cfg.Cookies)
	s.identifies(cfg, s.copied("lang=canary-lang"))
}

// Each way to copy a request brings all of its headers.
func TestSearchOfEachPaste(t *testing.T) {
	for name, paste := range map[string]string{
		"cURL for Windows": `curl ^"http://dss.example/^" -H ^"User-Agent: canary-agent/^%1^" ^` + "\r\n" + `  -b ^"SESSION=canary-session^"` + "\r\n",
		"cURL with -A":     `curl https://dss.example -A 'canary-agent' --cookie 'SESSION=canary-session'`,
		"C escapes":        `curl 'https://dss.example' -H $'user-agent: canary\u0021agent' -H $'cookie: SESSION=canary-session'`,
		"headers":          "GET / HTTP/1.1\nHost: dss.example\nUser-Agent: canary-agent\nCookie: SESSION=canary-session",
		"Chrome's list":    "Request headers\n:authority\ndss.example\n:scheme\nhttps\nuser-agent\ncanary-agent\ncookie\nSESSION=canary-session",
		"HTTP/2's headers": ":authority: dss.example\n:scheme: https\nuser-agent:\ncanary-agent\ncookie:\nSESSION=canary-session",
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.secret("canary-")
			s.fake.AddSession("SESSION", "canary-session", "ann")
			s.fake.Configure(dsstest.Options{LookupNeeds: "User-Agent"})
			r := s.run(paste, "-app-url", "https://other.example")
			assert.Equal(t, []string{"Cookie", "User-Agent"}, settings(t, r).Headers)
			s.shows(r, `the application is at "other.example", and DSS at "dss.example"`)
		})
	}
}

func TestSearchFindsNothing(t *testing.T) {
	s := newScene(t)
	asked := s.needs(func(http.Header) bool { return false })
	r := s.run(s.copied(s.cookie()))
	s.shows(r, "problem visitor: DSS says that nobody is signed in with these cookies", "with 8 other headers of it, DSS knows nobody either", "-H 'Name: value'")
	assert.NotContains(t, r.out, "Headers:")
	assert.EqualValues(t, 4, asked.Load(), "nobody's, the default, the likely ones, all")
}

// DSS or the session changes between two questions.
func TestSearchCopesWithChangesOfDSS(t *testing.T) {
	const needsAgent = "X-Sso-Token"
	for name, row := range map[string]struct {
		disturb func(s *scene, question int32) dsstest.Interceptor // nil: not
		says    []string
		headers []string
	}{
		"DSS answers 503 once in a while": {func(_ *scene, n int32) dsstest.Interceptor {
			if n > 2 && n%2 == 0 {
				return dsstest.Respond(503, "<html>canary-page")
			}
			return nil
		}, []string{"This is the smallest set that is enough"}, []string{"Cookie", needsAgent}},
		"DSS limits questions": {func(_ *scene, n int32) dsstest.Interceptor {
			if n > 6 && n < 50 {
				return dsstest.Respond(429, "")
			}
			return nil
		}, []string{"the search was interrupted: the answer is 429"}, nil},
		"DSS limits questions for a while": {func(_ *scene, n int32) dsstest.Interceptor {
			if n > 6 && n < 10 {
				return dsstest.Respond(429, "")
			}
			return nil
		}, []string{"This is enough, but perhaps not the smallest set, since the search was interrupted: the answer is 429"}, nil},
		"DSS goes down": {func(_ *scene, n int32) dsstest.Interceptor {
			if n > 6 {
				return dsstest.Respond(503, "<html>canary-page")
			}
			return nil
		}, []string{"the search was interrupted: the answer is 503 Service Unavailable", "Then run this again"}, nil},
		"DSS goes down at once": {func(_ *scene, n int32) dsstest.Interceptor {
			if n > 2 {
				return dsstest.Respond(503, "<html>canary-page")
			}
			return nil
		}, []string{"problem visitor: the answer is 503 Service Unavailable"}, nil},
		"the session ends": {func(s *scene, n int32) dsstest.Interceptor {
			if n == 6 {
				s.fake.EndSessions()
			}
			return nil
		}, []string{"the session ended during the search", "Sign in again"}, nil},
		"somebody else signs in": {func(s *scene, n int32) dsstest.Interceptor {
			if n == 6 {
				s.fake.AddSession("SESSION", "canary-session", "bob")
			}
			return nil
		}, []string{"the session ended during the search", "Sign in again"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.fake.AddSession("SESSION", "canary-session", "ann")
			var n atomic.Int32
			s.fake.Intercept(browserInfo, -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if f := row.disturb(s, n.Add(1)); f != nil {
					f(w, r, next)
					return
				}
				body, _ := io.ReadAll(r.Body)
				if r.Body = io.NopCloser(bytes.NewReader(body)); !strings.Contains(string(body), "canary-of-sso") {
					r.Body = http.NoBody
					dsstest.Respond(200, `{"authIdentifier": ""}`)(w, r, next)
					return
				}
				next.ServeHTTP(w, r)
			})
			r := s.run(s.copied("SESSION=canary-session"))
			s.shows(r, "problem visitor: ", row.says...)
			assert.Equal(t, exitProblem, r.code)
			if row.headers != nil {
				assert.Equal(t, row.headers, settings(t, r).Headers)
			}
			if strings.Contains(row.says[0], "cut short: the answer is 503") || strings.Contains(row.says[0], "session ended") {
				assert.NotContains(t, r.out, "Headers:")
				s.shows(r, "skipped acting as the visitor")
			}
		})
	}
}

// A reply may repeat any part of the paste in place of a name.
func TestSearchPrintsNoHeader(t *testing.T) {
	for name, value := range map[string]string{
		"a header":           "canary-of-sso",
		"what a scheme has":  "Y2FuYXJ5LXVzZXI6Y2FuYXJ5LXBhc3N3b3Jk",
		"a password":         "canary-password",
		"the name of a user": "canary-user",
		"a referrer":         "https://dss.example/?token=canary-referer",
		"what is not sent":   "canary-proxy-user",
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.fake.Intercept(browserInfo, -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				body, _ := io.ReadAll(r.Body)
				answer := `{"authIdentifier": ""}`
				if strings.Contains(string(body), "canary-of-sso") {
					answer = fmt.Sprintf(`{"authIdentifier": %q, "authSource": "USER_FROM_UI", "groups": [%[1]q], "userProfile": %[1]q}`, value)
				}
				dsstest.Respond(200, answer)(w, r, next)
			})
			r := s.run(s.copied("lang=canary-lang"))
			s.shows(r, `the user "[hidden]"`, `Groups: "[hidden]"`)
		})
	}
}

// Names of headers can be values that were pasted in a wrong place.
func TestSearchPrintsNoOddName(t *testing.T) {
	s := newScene(t)
	odd := "9f86d081884c7d659a2feaa0c55ad015"
	s.secret(odd)
	s.fake.AddSession("SESSION", "canary-session", "ann")
	s.needs(has("X-Sso-Token", "Cookie"))
	r := s.run(s.copied("SESSION=canary-session", odd+": 1", "X-Sso-Token: canary-of-sso"))
	assert.Equal(t, []string{"Cookie", "X-Sso-Token"}, settings(t, r).Headers)
}

// For anything that DSS needs, the found set is enough. It is the smallest one if the
// report says so.
func TestMinimal(t *testing.T) {
	source := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		n := 1 + source.IntN(40)
		var names []string
		for i := range n {
			names = append(names, fmt.Sprint("h", i))
		}
		var sets [][]string // each is enough
		for range 1 + source.IntN(3) {
			var set []string
			for range 1 + source.IntN(3) {
				if name := names[source.IntN(n)]; !slices.Contains(set, name) {
					set = append(set, name)
				}
			}
			sets = append(sets, set)
		}
		s, asked := &search{}, map[string]bool{}
		enough := func(some []string) bool {
			if len(some) == 0 || s.err != nil {
				return false
			}
			if asked[fmt.Sprint(some)] = true; len(asked) > maxQuestions {
				s.err = errQuestions
				return false
			}
			return isEnough(sets, some)
		}
		got, others, exact := s.minimal(names, enough)
		require.True(t, isEnough(sets, got), "%q of %q", got, sets)
		smallest := slices.MinFunc(sets, func(a, b []string) int { return len(a) - len(b) })
		if exact {
			require.Len(t, got, len(smallest), "%q of %q", got, sets)
		}
		for _, other := range others {
			require.True(t, isEnough(sets, other))
			require.Len(t, other, len(got))
		}
		if n <= 6 {
			require.True(t, exact, "so few are searched to the end")
		}
	}
}

func isEnough(sets [][]string, some []string) bool {
	return slices.ContainsFunc(sets, func(set []string) bool { return len(without(set, some)) == 0 })
}

// The number of questions to DSS is bounded for any paste.
func TestSearchIsBounded(t *testing.T) {
	s := newScene(t)
	s.fake.AddSession("SESSION", "canary-session", "ann")
	var headers []string
	cookies := "SESSION=canary-session"
	for i := range 200 {
		headers = append(headers, fmt.Sprintf("X-Part-%d: canary-part", i))
		cookies += fmt.Sprintf("; part%d=canary-part", i)
	}
	asked := s.needs(func(h http.Header) bool {
		return len(h) > 100 || h.Get("X-Part-7") != "" && h.Get("X-Part-70") != "" && h.Get("X-Part-170") != ""
	})
	r := s.run(s.copied(cookies, headers...))
	assert.LessOrEqual(t, asked.Load(), int32(maxQuestions+2))
	s.shows(r, "problem visitor: ", "In dssauth.Config, write:")
	s.identifies(settings(t, r), s.copied(cookies, headers...))
}

func TestHostNames(t *testing.T) {
	for name, row := range map[string]struct {
		dss, app, pasted string
		known            bool
		says             string
	}{
		"one name":                  {"https://dss.example", "https://dss.example/app", "", true, `ok host names: the application and DSS share "dss.example"`},
		"one name in two spellings": {"https://DSS.example.", "https://dss.example:8443", "", true, `ok host names: the application and DSS share "dss.example"`},
		"one name, two ports":       {"http://127.0.0.1:11200", "http://127.0.0.1:8080", "", false, "cookies do not know ports"},
		"one name, without TLS":     {"https://dss.example", "http://dss.example", "", true, "marks its session cookie as Secure"},
		"one name, without TLS, but the paste is from there": {"https://dss.example", "http://dss.example", "http://dss.example", true, "ok host names"},
		"one name, and the paste is from DSS":                {"https://dss.example", "http://dss.example:8080", "https://dss.example/", true, "marks its session cookie as Secure"},
		"the same, and we use another name":                  {"http://10.0.0.7:11200", "http://dss.example:8080", "https://dss.example/", true, "marks its session cookie as Secure"},
		"one name, and only DSS without TLS":                 {"http://10.0.0.7:11200", "https://dss.example", "http://dss.example/", true, `the application and DSS share "dss.example"`},
		"we know DSS by another name":                        {"http://10.0.0.7:11200", "https://dss.example/app", "https://dss.example/", true, `but the paste is from a request to the application`},
		"two names of this machine":                          {"http://127.0.0.1:11200", "http://localhost:8080", "", true, `problem host names: the application is at "localhost", and DSS at "127.0.0.1"`},
		"two names":                                          {"https://dss.example", "https://apps.test", "", true, "they do not send its session cookie to the application"},
		"two names, one from the paste":                      {"https://10.0.0.7", "https://apps.test", "https://dss.example", true, `DSS at "dss.example"`},
		"two names of a domain":                              {"https://dss.corp.example", "https://apps.corp.example", "", true, `skipped host names: the application is at "apps.corp.example", and DSS at "dss.corp.example": browsers send DSS's session cookie to the application only if it has a Domain that covers both, such as "corp.example"`},
		"two names of a domain, and the cookie arrived":      {"https://dss.corp.example", "https://apps.corp.example", "https://apps.corp.example", true, "or the session cookie has a Domain that covers both"},
		"two names of a domain, without a user":              {"https://dss.corp.example", "https://apps.corp.example", "https://apps.corp.example", false, "skipped host names"},
		"a name below another":                               {"https://corp.example", "https://apps.corp.example", "", true, `such as "corp.example"`},
		"two addresses":                                      {"https://10.0.0.7", "https://10.1.0.7", "", true, "problem host names"},
		"one name, once with a dot at its end":               {"https://dss.example", "https://dss.example.", "", true, `problem host names: the application is at "dss.example."`},
		"the same in the paste":                              {"https://dss.example", "https://dss.example", "https://dss.example.", true, `and DSS at "dss.example."`},
		"IPv6 in two spellings":                              {"http://[0:0:0:0:0:0:0:1]:11200", "http://[::1]:8080", "", true, `share "::1"`},
		"IPv6":                                               {"http://[::1]:11200", "http://[::1]:8080", "", true, `share "::1"`},
		"two names with a suffix of one label":               {"https://dss.test", "https://apps.test", "", true, "problem host names"},
		"a name that only ends like the other's":             {"https://dss.example", "https://notdss.example", "", true, "problem host names"},
		"nothing to compare":                                 {"https://dss.example", "", "https://dss.example", true, "add -app-url"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			client, err := dss.New(dss.Config{URL: row.dss, APIKey: "canary-key"})
			require.NoError(t, err)
			d := &doctor{client: client, env: func(string) string { return "" }, report: &report{out: &out, muted: func() bool { return false }}}
			d.copied = newRequest(http.Header{}, "a=b")
			d.copied.to = asSite(row.pasted)
			assert.Equal(t, row.app != "", d.setApp(row.app))
			d.hostNames(row.known)
			assert.Contains(t, words(out.String()), row.says)
		})
	}
	t.Run("inside DSS", func(t *testing.T) {
		s := newScene(t)
		s.insideDSS()
		s.fake.AddTicket("canary-ticket", "")
		r := s.run(s.cookie(), "-app-url", "https://apps.example.com")
		s.shows(r, "skipped host names: ", "inside DSS we do not know the address at which browsers find DSS")
	})
}

func TestMissingVersionIsReported(t *testing.T) {
	s := newScene(t)
	s.fake.Intercept("/auth/info", -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		w.Header().Del("DSS-Version")
		dsstest.Respond(200, `{"authIdentifier": "runner", "authSource": "USER_FROM_UI", "groups": []}`)(w, r, next)
	})
	s.shows(s.run(""), "ok connection: DSS answers, without its version ok own credentials")
}

func TestHeadersThatChange(t *testing.T) {
	s := newScene(t)
	s.fake.Configure(dsstest.Options{LookupNeeds: "X-Sso-Token"})
	cookie := s.cookie()
	r := s.run(s.copied(cookie, "X-Sso-Token: canary-of-sso") + s.copied(cookie, "X-Sso-Token: canary-of-another"))
	s.shows(r, `problem changing headers: "X-Sso-Token"`, "ok changing cookies: none")
	r = s.run(s.copied(cookie, "X-Sso-Token: canary-of-sso") + s.copied(cookie, "X-Sso-Token: canary-of-sso", "Dnt: 1"))
	assert.NotContains(t, r.out, "changing headers")
}

type answers func(*http.Request) (*http.Response, error)

func (f answers) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// At most ten questions start in a second, and fewer if none is answered.
func TestSearchIsPaced(t *testing.T) {
	for status, least := range map[int]time.Duration{200: searchPause, 503: 33 * searchPause} {
		synctest.Test(t, func(t *testing.T) {
			client, err := dss.New(dss.Config{URL: "http://127.0.0.1", APIKey: "canary-key", HTTPClient: &http.Client{
				Transport: answers(func(r *http.Request) (*http.Response, error) {
					return &http.Response{
						StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, Header: http.Header{"Content-Type": {"application/json"}},
						Body: io.NopCloser(strings.NewReader(`{"authIdentifier": ""}`)),
					}, nil
				}),
			}})
			require.NoError(t, err)
			d, err := parseArgs([]string{"doctor"}, strings.NewReader(""), io.Discard)
			require.NoError(t, err)
			d.client = client
			begun := time.Now()
			_, err = (&search{doctor: d, ctx: t.Context()}).ask(http.Header{"Cookie": {"a=b"}})
			assert.Equal(t, status == 503, err != nil)
			assert.Equal(t, least, time.Since(begun))
		})
	}
}

func TestSearchFindsWhatIsTooLarge(t *testing.T) {
	s := newScene(t)
	s.fake.Configure(dsstest.Options{LookupNeeds: "X-Sso-Token"})
	r := s.run(s.copied(s.cookie(), "X-Sso-Token: canary-"+strings.Repeat("x", 17<<10)))
	s.shows(r, "problem visitor: ", "larger than a Middleware sends by default: raise Config.MaxHeaderBytes")
	assert.Equal(t, []string{"Cookie", "X-Sso-Token"}, settings(t, r).Headers)
}
