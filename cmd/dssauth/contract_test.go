package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// named returns the assumptions of a result that have a status.
func (r result) named(status string) []string {
	var names []string
	for _, line := range r.lines {
		if rest, ok := strings.CutPrefix(line, status); ok {
			name, _, _ := strings.Cut(strings.TrimSpace(rest), ":")
			names = append(names, name)
		}
	}
	return names
}

// withProjects adds a project that ann may read and one that she may only find.
func (s *scene) withProjects() {
	s.fake.AddProject(dsstest.Project{Key: "CHURN", Permissions: []dsstest.Permission{
		{Group: "readers", Rights: map[string]bool{"readProjectContent": true}},
	}})
	s.fake.AddProject(dsstest.Project{Key: "FINDABLE", Owner: "bob", Discoverable: true})
}

// endedCookieFile holds the cookie of a session of ann's that has ended.
func (s *scene) endedCookieFile() string {
	cookie := s.fake.SignIn("ann")
	s.secret(cookie.Value)
	s.fake.SignOut(cookie)
	return s.written(cookie.Name + "=" + cookie.Value)
}

// written returns the name of a file that holds text.
func (s *scene) written(text string) string {
	name := filepath.Join(s.TempDir(), "file")
	require.NoError(s, os.WriteFile(name, []byte(text), 0o600))
	return name
}

func TestContractHolds(t *testing.T) {
	all := func() (names []string) {
		for _, a := range assumptions {
			names = append(names, a.name)
		}
		return names
	}()
	t.Run("with all that it takes", func(t *testing.T) {
		s := newScene(t)
		s.withProjects()
		r := s.contract(s.cookie(), "-ended-cookie-file", s.endedCookieFile())
		assert.Equal(t, all, r.named(holds), r.out)
		assert.Len(t, r.lines, len(all)+2, "one line an assumption, after the settings and before the sum")
		assert.Equal(t, exitWell, r.code)
	})
	for name, row := range map[string]struct {
		options dsstest.Options
		as      string
		lacks   []string // these cannot be tried
	}{
		"with an administrator's key and a cookie":      {lacks: []string{"findable-project", "ended-session"}},
		"with a user's key and a cookie":                {as: "key", lacks: []string{"proxy-user-bytes", "findable-project", "ended-session"}},
		"inside DSS":                                    {as: "ticket", lacks: []string{"api-key-forms", "proxy-user-bytes", "findable-project", "ended-session"}},
		"where nobody has an empty authIdentifier":      {options: dsstest.Options{EmptyIdentifier: true}, lacks: []string{"findable-project", "ended-session"}},
		"where tickets are bare":                        {options: dsstest.Options{BareTickets: true}, lacks: []string{"findable-project", "ended-session"}},
		"where hidden projects are a 401":               {options: dsstest.Options{HiddenProjects: 401}, lacks: []string{"findable-project", "ended-session"}},
		"where no ticket is given out":                  {options: dsstest.Options{NoImpersonation: []string{"*"}}, lacks: []string{"ticket", "findable-project", "ended-session"}},
		"where users are hidden, from an administrator": {options: dsstest.Options{RestrictedUsers: true}, lacks: []string{"findable-project", "ended-session"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.fake.Configure(row.options)
			switch row.as {
			case "key":
				s.asRunner()
			case "ticket":
				s.insideDSS()
				s.fake.AddTicket("canary-ticket", "runner")
			}
			r := s.contract(s.cookie())
			assert.Empty(t, r.named(differs), r.out)
			assert.Equal(t, row.lacks, r.named(notTried))
			assert.GreaterOrEqual(t, len(r.named(holds)), 15)
			assert.Equal(t, exitWell, r.code)
		})
	}
	t.Run("without a cookie", func(t *testing.T) {
		s := newScene(t)
		r := s.contract("")
		assert.Empty(t, r.named(differs))
		assert.GreaterOrEqual(t, len(r.named(holds)), 12)
		s.shows(r, "not tried live-session: this needs the cookies of a signed-in user: see -cookie-file")
		assert.Equal(t, exitWell, r.code)
	})
}

// reply answers as DSS does, with its version.
func reply(status int, body string, header ...string) dsstest.Interceptor {
	return dsstest.Respond(status, body, append(header, "DSS-Version", "14.3.3", "DSS-API-Version", "1")...)
}

// when answers the calls that match, by their header and body.
func when(match func(h http.Header, body string) bool, answer dsstest.Interceptor) dsstest.Interceptor {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if match(r.Header, string(body)) {
			answer(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}
}

func holding(text string) func(http.Header, string) bool {
	return func(_ http.Header, body string) bool { return strings.Contains(body, text) }
}

const (
	refused401 = `{"errorType": "com.dataiku.dip.exceptions.NotAuthenticatedException", "message": "x"}`
	refused403 = `{"errorType": "com.dataiku.dip.exceptions.UnauthorizedException", "message": "x"}`
	answerAnn  = `{"authIdentifier": "ann", "authSource": "USER_FROM_UI", "associatedDSSUser": "ann", "groups": []}`
	answerBob  = `{"authIdentifier": "bob", "authSource": "USER_FROM_UI", "associatedDSSUser": "bob", "groups": []}`
)

// Each row breaks one assumption. The contract names that one and no other.
func TestContractNamesWhatDiffers(t *testing.T) {
	const tickets = "/auth/ticket-from-browser-headers"
	rows := []struct {
		assumption string
		seen       string
		runner     bool
		options    dsstest.Options
		breaks     func(*scene)
	}{
		{"live-session", "401, NotAuthenticatedException", false, dsstest.Options{HideAccessTokens: true}, nil},
		{"lookup-right", "403, UnauthorizedException", true, dsstest.Options{AdminLookupsOnly: true}, nil},
		{"user-details", "403, UnauthorizedException", true, dsstest.Options{RestrictedUsers: true}, nil},
		{"cookie-alone", `a user with "User-Agent" beside it`, false, dsstest.Options{LookupNeeds: "User-Agent"}, nil},
		{"login-case", "the same user", false, dsstest.Options{IgnoreLoginCase: true}, nil},
		{"proxy-user-bytes", "read as Latin-1", false, dsstest.Options{Latin1ProxyUser: true}, nil},
		{"findable-project", "2xx", false, dsstest.Options{DiscoverableJobs: true}, nil},
		{"dss-version", "DSS 12.6", false, dsstest.Options{Version: "12.6"}, nil},

		{"own-identity", "another program than DSS answered with success", false, dsstest.Options{}, func(s *scene) {
			s.fake.Intercept("/auth/info", 1, reply(200, "<html>canary-token</html>"))
		}},
		{"rejected-credentials", "403, UnauthorizedException", false, dsstest.Options{}, func(s *scene) {
			s.fake.Intercept("/auth/info", -1, when(func(h http.Header, _ string) bool {
				return strings.HasPrefix(h.Get("X-DKU-APITicket"), "dssauth-contract-")
			}, reply(403, refused403)))
		}},
		{"ambiguous-refusal", "empty authIdentifier", false, dsstest.Options{}, func(s *scene) {
			s.fake.Intercept(browserInfo, -1, when(func(h http.Header, _ string) bool {
				return strings.HasPrefix(h.Get("X-DKU-APITicket"), "dssauth-contract-")
			}, reply(200, `{"authIdentifier": ""}`)))
		}},
		{"no-session", "404, NotFoundException", false, dsstest.Options{}, func(s *scene) {
			s.fake.Intercept(browserInfo, -1, when(func(h http.Header, body string) bool {
				return h.Get("Authorization") != "" && strings.Contains(body, "dssauth_contract=")
			}, reply(404, `{"errorType": "a.NotFoundException", "message": "x"}`)))
		}},
		{"no-session", "403, UnauthorizedException", false, dsstest.Options{}, func(s *scene) {
			s.fake.Intercept(browserInfo, -1, when(func(h http.Header, body string) bool {
				return h.Get("Authorization") != "" && strings.Contains(body, "dssauth_contract=")
			}, reply(403, refused403)))
		}},
		{"api-key-forms", "as Bearer: 401", false, dsstest.Options{}, func(s *scene) {
			s.fake.Intercept(browserInfo, -1, when(holding("Bearer"), reply(401, refused401)))
		}},
		{"no-ticket", "a ticket", false, dsstest.Options{}, func(s *scene) {
			s.fake.Intercept(tickets, -1, when(holding("dssauth_contract="), reply(200, `{"msg": "ticket-canary"}`)))
		}},
		{"unknown-project", "401, NotAuthenticatedException", false, dsstest.Options{}, func(s *scene) {
			s.fake.Intercept("", -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if strings.Contains(r.URL.Path, "/DSSAUTH_") {
					next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { reply(401, refused401)(w, r, nil) })
				}
				next.ServeHTTP(w, r)
			})
		}},
		{"compression", "a reply that is not JSON", false, dsstest.Options{}, func(s *scene) {
			s.fake.Intercept("/auth/info", 2, func(w http.ResponseWriter, r *http.Request, next http.Handler) { next.ServeHTTP(w, r) })
			s.fake.Intercept("/auth/info", 1, reply(200, "no gzip", "Content-Encoding", "gzip"))
		}},
		{"compression", "another encoding than gzip", false, dsstest.Options{}, func(s *scene) {
			s.fake.Intercept("/auth/info", 2, func(w http.ResponseWriter, r *http.Request, next http.Handler) { next.ServeHTTP(w, r) })
			s.fake.Intercept("/auth/info", 1, reply(200, "x", "Content-Encoding", "br"))
		}},
		{"login-member", "no associatedDSSUser", false, dsstest.Options{}, func(s *scene) {
			s.fake.Intercept(browserInfo, -1, when(holding("dss_session_"), func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				rec := httptest.NewRecorder()
				next.ServeHTTP(rec, r)
				reply(rec.Code, strings.ReplaceAll(rec.Body.String(), `"associatedDSSUser":"ann",`, ""))(w, r, next)
			}))
		}},
		{"unknown-session", "a user", false, dsstest.Options{}, func(s *scene) {
			s.fake.Intercept(browserInfo, -1, when(holding("dss_session_"), reply(200, answerAnn)))
		}},
		{"client-address", "401, NotAuthenticatedException", false, dsstest.Options{}, func(s *scene) {
			s.fake.Intercept(browserInfo, -1, when(holding("X-Forwarded-For"), reply(401, refused401)))
		}},
		{"ticket", "somebody else", false, dsstest.Options{}, func(s *scene) {
			s.fake.AddTicket("ticket-of-bob", "bob")
			s.fake.Intercept(tickets, -1, when(holding("dss_session_"), reply(200, `{"msg": "ticket-of-bob"}`)))
		}},
		{"proxy-user", "somebody else", false, dsstest.Options{}, func(s *scene) {
			s.fake.Intercept("/auth/info", -1, when(func(h http.Header, _ string) bool { return h.Get("X-DKU-ProxyUser") == "ann" }, reply(200, answerBob)))
		}},
		{"own-settings", "no displayName", false, dsstest.Options{}, func(s *scene) {
			s.fake.Intercept("/current-user", -1, reply(200, `{"login": "ann"}`))
		}},
		{"readable-project", "another program than DSS answered with success", false, dsstest.Options{}, func(s *scene) {
			s.fake.Intercept("/projects/CHURN/jobs/", -1, reply(204, ""))
		}},
		{"ended-session", "a user", false, dsstest.Options{}, func(s *scene) {
			s.fake.AddSession("ended_session", "canary-old", "ann")
		}},
		{"redirects", "302 to GET /users/{login}", false, dsstest.Options{}, func(s *scene) {
			s.fake.Intercept("/users/ANN", -1, reply(302, "", "Location", "/elsewhere"))
		}},
		{"protocol", "HTTP/2.0", false, dsstest.Options{}, func(s *scene) {
			s.connect = func() (*dss.Client, error) {
				return dss.New(dss.Config{URL: s.fake.URL(), APIKey: s.key, HTTPClient: &http.Client{Transport: changed(func(r *http.Response) { r.Proto = "HTTP/2.0" })}})
			}
		}},
		{"dss-version", "a reply, of GET /users/{login}, without them", false, dsstest.Options{}, func(s *scene) {
			s.fake.Intercept("/users/ann", -1, dsstest.Respond(200, `{"login": "ann"}`))
		}},
		{"dss-version", "without them", false, dsstest.Options{Version: "canary-token"}, nil},
	}
	broken := []string{"x-dku-headers"} // only a deliberate fault of this library breaks it
	for _, row := range rows {
		broken = append(broken, row.assumption)
		t.Run(row.assumption+" "+row.seen, func(t *testing.T) {
			s := newScene(t)
			s.withProjects()
			s.secret("canary-token", "canary-old")
			if row.runner {
				s.asRunner()
			}
			s.fake.Configure(row.options)
			if row.breaks != nil {
				row.breaks(s)
			}
			ended := s.written("ended_session=canary-old")
			r := s.contract(s.cookie(), "-ended-cookie-file", ended, "-project", "FINDABLE")
			require.Equal(t, []string{row.assumption}, r.named(differs), r.out)
			assert.Contains(t, r.out, row.seen)
			assert.Contains(t, r.out, "For this library: ")
			assert.Contains(t, r.out, "What to set: ")
			assert.Equal(t, exitProblem, r.code)
		})
	}
	for _, a := range assumptions {
		assert.Contains(t, broken, a.name, "an assumption that nothing here breaks")
	}
}

// changed is a transport that changes each reply.
type changed func(*http.Response)

func (change changed) RoundTrip(r *http.Request) (*http.Response, error) {
	reply, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		change(reply)
	}
	return reply, err
}

// A missing answer proves nothing about an assumption.
func TestContractWithoutAnswers(t *testing.T) {
	t.Run("to one question", func(t *testing.T) {
		s := newScene(t)
		s.fake.Intercept("/users/ann", -1, dsstest.Reset)
		r := s.contract(s.cookie())
		assert.Empty(t, r.named(differs))
		s.shows(r, "not tried user-details: the connection was cut")
	})
	t.Run("to any", func(t *testing.T) {
		s := newScene(t)
		s.fake.SetDown(true)
		r := s.contract(s.cookie())
		assert.Equal(t, []string{"own-identity", "dss-version"}, r.named(differs))
		s.shows(r, "503 Service Unavailable, and it is from a proxy")
		assert.Equal(t, exitProblem, r.code)
		assert.Equal(t, 1, s.fake.Calls(""))
	})
	t.Run("as DSS rejects us", func(t *testing.T) {
		s := newScene(t)
		s.fake.RemoveAPIKey(s.key)
		r := s.contract(s.cookie())
		assert.Equal(t, []string{"own-identity"}, r.named(differs))
		assert.Equal(t, exitProblem, r.code)
	})
}

// Calls only read, and two start in a second at most.
func TestContractOnlyReadsAndIsPaced(t *testing.T) {
	for _, name := range []string{"DKU_API_TICKET", "DKU_API_KEY"} {
		t.Setenv(name, "")
	}
	fake := dsstest.New()
	fake.AddAPIKey("key", "")
	fake.AddUser(dsstest.User{Login: "ann"})
	cookie := fake.SignIn("ann")
	synctest.Test(t, func(t *testing.T) {
		var started []time.Time
		var wrote []string
		d, err := parseArgs([]string{"contract"}, strings.NewReader(cookie.Name+"="+cookie.Value), io.Discard)
		require.NoError(t, err)
		d.connect = func() (*dss.Client, error) {
			return dss.New(dss.Config{URL: "http://127.0.0.1", APIKey: "key", HTTPClient: &http.Client{Transport: inProcess(func(w http.ResponseWriter, r *http.Request) {
				started = append(started, time.Now())
				if r.Method != http.MethodGet && !strings.HasSuffix(r.URL.Path, "-from-browser-headers") {
					wrote = append(wrote, r.Method+" "+r.URL.Path)
				}
				fake.ServeHTTP(w, r)
			})}})
		}
		var out bytes.Buffer
		assert.Equal(t, exitWell, d.run(t.Context(), &out), out.String())
		assert.Empty(t, wrote)
		assert.Greater(t, len(started), 20)
		for i := 1; i < len(started); i++ {
			assert.GreaterOrEqual(t, started[i].Sub(started[i-1]), 500*time.Millisecond)
		}
	})
}

// inProcess is a transport to a handler, without a network.
type inProcess func(http.ResponseWriter, *http.Request)

func (serve inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r = r.WithContext(r.Context())
		r.Body = http.NoBody
	}
	rec := httptest.NewRecorder()
	serve(rec, r)
	return rec.Result(), nil
}

// The report holds no value, even if DSS repeats all that it was sent.
func TestContractReport(t *testing.T) {
	canaries := []string{"canary-login", "canary-group", "canary display", "canary@example.com", "CANARYKEY", "canary-secret", "canary-value", "canary-key", "canarymember"}
	for name, hostile := range map[string]bool{"of a DSS as it should be": false, "of one that repeats what it was sent": true} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.fake.AddUser(dsstest.User{Login: "canary-login", DisplayName: "Canary Display", Email: "canary@example.com", Groups: []string{"canary-group", "administrators"}})
			s.fake.AddAPIKey("canary-key-of-login", "canary-login")
			s.at(s.fake.URL(), "canary-key-of-login")
			s.fake.AddSession("session", "canary-value", "canary-login")
			s.fake.AddProject(dsstest.Project{Key: "CANARYKEY", Owner: "canary-login"})
			client, err := dss.FromEnv()
			require.NoError(t, err)
			require.NoError(t, client.UpdateOwnSettings(t.Context(), func(settings *dss.Settings) error {
				settings.AddSecret("canary-secret-name", "canary-secret")
				settings.SetProperty("canarymember", "canary-secret")
				return nil
			}))
			s.secret(canaries...)
			if hostile {
				s.fake.Intercept("", -1, repeating)
			}
			file := filepath.Join(t.TempDir(), "report.json")
			s.contract("session=canary-value", "-report", file, "-project", "CANARYKEY")

			text, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, canary := range canaries {
				assert.NotContains(t, strings.ToLower(string(text)), strings.ToLower(canary))
			}
			info, err := os.Stat(file)
			require.NoError(t, err)
			assert.Equal(t, os.FileMode(0o600), info.Mode())
			var report struct {
				Assumptions []outcome
				Calls       []recorded
			}
			require.NoError(t, json.Unmarshal(text, &report))
			assert.Len(t, report.Assumptions, len(assumptions))
			assert.Greater(t, len(report.Calls), 20)
			if hostile {
				return
			}
			assert.Contains(t, string(text), `"path": "/users/{login}"`)
			assert.Contains(t, string(text), `"path": "/projects/{key}/jobs/?limit=1"`)
			assert.Contains(t, string(text), `"dssVersion": "14.3.3"`)
			first := report.Calls[0]
			assert.Equal(t, recorded{
				Assumption: "own-identity", As: "own credentials", Method: "GET", Path: "/auth/info?withSecrets=False",
				Status: 200, Protocol: "HTTP/1.1", Headers: []string{"Content-Length", "Content-Type", "Date", "Dss-Api-Version", "Dss-Version"}, DSS: "14.3.3", API: "1",
				Reply: map[string]any{
					"associatedDSSUser": "word, 12 characters", "authIdentifier": "word, 12 characters", "authSource": "word, 16 characters: PERSONAL_API_KEY",
					"groups": []any{"list of 2", "word, 12 characters", "word, 14 characters"}, "userForImpersonation": "word, 12 characters",
					"userProfile": "word, 8 characters", "via": []any{"list of 0"},
				},
			}, first)
		})
	}
}

// repeating answers with the bytes of the request, and of DSS's answer to it,
// in every place of a reply.
func repeating(w http.ResponseWriter, r *http.Request, next http.Handler) {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, r)
	for name, values := range rec.Header() {
		w.Header()[name] = values
	}
	for _, value := range []string{"Canary-Value", "Canary-Login", "Canary-Group", "Canary-Key-Of-Login"} {
		w.Header().Set("X-"+value, value)
		w.Header().Set(value, value)
	}
	w.Header().Set("DSS-Version", "canary-value")
	w.Header().Set("DSS-API-Version", "canary-login")
	body := rec.Body.Bytes()
	var members map[string]any
	if json.Unmarshal(body, &members) == nil {
		for _, name := range []string{"canary-login", "canary-value", "canarymember"} {
			members[name] = map[string]any{name: name}
		}
		if members["errorType"] != nil && strings.HasPrefix(r.URL.Path, "/projects/") {
			members["errorType"] = "a.canary-valueException"
		}
		body, _ = json.Marshal(members)
	}
	w.Header().Del("Content-Length")
	w.WriteHeader(rec.Code)
	_, _ = w.Write(body)
}

func TestContractUsage(t *testing.T) {
	s := newScene(t)
	for name, row := range map[string]struct {
		args []string
		says string
	}{
		"a flag of the doctor's":      {[]string{"-user", "x"}, "flag provided but not defined: -user"},
		"an invalid project key":      {[]string{"-project", "canary/value"}, "-project: a key has letters, digits and underscores only"},
		"a report in no folder":       {[]string{"-report", "/no/canary/value"}, "-report: no such file or directory"},
		"no file of an ended session": {[]string{"-ended-cookie-file", "/no/canary/value"}, "-ended-cookie-file: no such file or directory"},
		"no time to wait":             {[]string{"-timeout", "0s"}, "it must be positive"},
		"a cookie in place of a flag": {[]string{"canary/value"}, "unexpected argument"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			assert.Equal(t, exitUsage, run(t.Context(), append([]string{"contract"}, row.args...), strings.NewReader(""), &stdout, &stderr))
			assert.Contains(t, stderr.String(), row.says)
			assert.NotContains(t, stderr.String(), "canary/value")
			assert.Zero(t, s.fake.Calls(""))
		})
	}
}

func TestKindsOfValues(t *testing.T) {
	for body, want := range map[string]string{
		``:                                     `null`,
		`<html>secret</html>`:                  `"not JSON, but a page of 19 bytes"`,
		`secret`:                               `"not JSON, but a text of 6 bytes"`,
		`{"a": 1} secret`:                      `"not JSON, but a text of 15 bytes"`,
		`"secret"`:                             `"word, 6 characters"`,
		`""`:                                   `"empty string"`,
		`12.5e300`:                             `"number"`,
		`[true, null, false, "éé"]`:            `["list of 4","boolean","null","word, 2 characters"]`,
		`[1, "a", "bb", "ccc", "dddd"]`:        `["list of 5","number","word, 1 characters","word, 2 characters"]`,
		`{"login": "a@b", "x": {"y": "1"}}`:    `{"(other members)":["a name of 1 characters: {\"(other members)\":[\"a name of 1 characters: \\\"string of digits, 1 characters\\\"\"]}"],"login":"string with an @, 3 characters"}`,
		`{"errorType": "a.b.SecretException"}`: `{"errorType":"class name, 19 characters"}`,
		`{"msg": "USER_FROM_UI"}`:              `{"msg":"word, 12 characters"}`,
		`{"message": "no such user"}`:          `{"message":"text, 12 characters"}`,
	} {
		got, err := json.Marshal(shapeOf([]byte(body)))
		require.NoError(t, err)
		assert.Equal(t, want, string(got), body)
	}
	deep := shapeOf([]byte(strings.Repeat(`[`, 1000) + strings.Repeat(`]`, 1000)))
	assert.Less(t, len(fmt.Sprint(deep)), 200)
}

// The page has the same text as the code.
func TestContractPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "contract.md"))
	require.NoError(t, err)
	assert.Contains(t, string(page), contractTable())
	names := map[string]bool{}
	for _, a := range assumptions {
		names[a.name] = true
	}
	assert.Len(t, names, len(assumptions), "two assumptions of one name")
}

// contractTable is the assumptions as a table of Markdown.
func contractTable() string {
	needs := map[need]string{anything: "nothing", acceptance: "own credentials", lookups: "own credentials", aVisitor: "a cookie", acting: "a cookie, and a ticket or an administrator's rights"}
	more := map[string]string{"live-session": "a cookie", "findable-project": "a project that the visitor may find but not read", "ended-session": "the cookie of an ended session",
		"api-key-forms": "an own API key", "proxy-user-bytes": "an administrator's rights", "own-identity": "own credentials"}
	var b strings.Builder
	b.WriteString("| Name | Assumed | Source | Takes | Where it differs, for this library | What to set |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, a := range assumptions {
		takes := needs[a.takes]
		if m := more[a.name]; m != "" {
			takes = m
		}
		b.WriteString("| " + strings.Join(slices.Concat([]string{"`" + a.name + "`"}, []string{a.says, a.source, takes, a.means, a.setting}), " | ") + " |\n")
	}
	return b.String()
}
