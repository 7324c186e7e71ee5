package promises

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
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

// refusingBy is a handler without Handler, as frameworks have it.
func refusingBy(m *dssauth.Middleware) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := m.Authenticate(r); err != nil {
			m.Refuse(w, r, err)
			return
		}
		whoami(w, r)
	})
}

func TestAuthenticateAndRefuseBehaveAsHandler(t *testing.T) {
	ownPage := func(w http.ResponseWriter, r *http.Request, err error) {
		w.WriteHeader(dssauth.StatusCode(err))
		fmt.Fprint(w, "our own page")
	}
	login := func(_ *http.Request, back string) string { return "/login?back=" + url.QueryEscape(back) }
	for config, c := range map[string]dssauth.Config{
		"by default":     {},
		"with a sign-in": {LoginURL: login},
		"with OnError":   {OnError: ownPage},
		"with both":      {LoginURL: login, OnError: ownPage, Headers: []string{"Cookie", "Authorization", "X-Sso"}},
	} {
		for status, ask := range refusedRequests {
			if status == 403 { // only a gate's
				continue
			}
			for _, kind := range [][]string{nil, pageHeaders} {
				t.Run(fmt.Sprint(config, " ", status, " ", len(kind)), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { // a redirect's mark holds the time
						var told []error
						c.Hooks.Refused = func(_ *http.Request, err error) { told = append(told, err) }
						c.Resolver = resolveFunc(func(ctx context.Context, h http.Header) (dssauth.Identity, error) {
							if h.Get("Cookie") == "session=outage" {
								return dssauth.Identity{}, errors.New("DSS is down")
							}
							return newDoorman().Resolve(ctx, h)
						})
						m := newAuth(t, c)
						answer := func(h http.Handler) *httptest.ResponseRecorder {
							r := ask()
							for i := 0; i < len(kind); i += 2 {
								r.Header.Add(kind[i], kind[i+1])
							}
							return serve(h, r)
						}
						want, got := answer(m.Handler(unreachable(t))), answer(refusingBy(m))
						assert.NotEqual(t, 200, want.Code)
						assert.Equal(t, want.Code, got.Code)
						assert.Equal(t, want.Header(), got.Header())
						assert.Equal(t, want.Body.String(), got.Body.String())
						require.Len(t, told, 2, "the hook runs once for each refusal")
						assert.Equal(t, dssauth.StatusCode(told[0]), dssauth.StatusCode(told[1]))
						_ = m.Close()
					})
				})
			}
		}
	}
}

// The page that OnError writes leads to sign in, if OnError passes on the request
// that it got.
func TestOnErrorsPageLeadsToSignIn(t *testing.T) {
	m := newAuth(t, dssauth.Config{
		Resolver: newDoorman(),
		LoginURL: func(_ *http.Request, back string) string { return "/sign-in?back=" + url.QueryEscape(back) },
		OnError:  func(w http.ResponseWriter, r *http.Request, err error) { dssauth.WriteRefusal(w, r, err) },
	})
	seen := serve(refusingBy(m), request("GET", "/report", pageHeaders...))
	require.Equal(t, 302, seen.Code)
	r := request("GET", "/report", pageHeaders...)
	for _, cookie := range seen.Result().Cookies() {
		r.AddCookie(cookie)
	}
	w := serve(refusingBy(m), r)
	assert.Equal(t, 401, w.Code)
	assert.Contains(t, w.Body.String(), `href="/sign-in?back=%2Freport"`)

	w = httptest.NewRecorder()
	dssauth.WriteRefusal(w, r, dssauth.ErrUnauthenticated)
	assert.NotContains(t, w.Body.String(), "/sign-in", "nothing refuses this request")
}

func TestOnErrorMayRefuse(t *testing.T) {
	calls, told := 0, 0
	var m *dssauth.Middleware
	m = newAuth(t, dssauth.Config{
		Resolver: newDoorman(),
		Hooks:    dssauth.Hooks{Refused: func(*http.Request, error) { told++ }},
		OnError: func(w http.ResponseWriter, r *http.Request, err error) {
			calls++
			m.Handler(unreachable(t)).ServeHTTP(w, r)
		},
	})
	assert.Equal(t, 401, serve(m.Handler(unreachable(t)), request("GET", "/")).Code)
	assert.Equal(t, []int{1, 1}, []int{calls, told}, "it is not called again for its own refusal")
}

// With only Authenticate's error, nothing is known about the request.
func TestRefuseWithoutARequest(t *testing.T) {
	m := newAuth(t, dssauth.Config{
		Resolver: newDoorman(),
		LoginURL: func(*http.Request, string) string { return "/login" },
		OnError: func(w http.ResponseWriter, r *http.Request, err error) {
			assert.NotNil(t, r.URL)
			dssauth.WriteRefusal(w, r, err)
		},
		Hooks: dssauth.Hooks{Refused: func(r *http.Request, _ error) { assert.NotNil(t, r) }},
	})
	r, err := m.Authenticate(request("GET", "/", pageHeaders...))
	require.Nil(t, r)
	w := httptest.NewRecorder()
	m.Refuse(w, r, err)
	assert.Equal(t, 401, w.Code)
	assert.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	assert.Contains(t, w.Header().Values("Vary"), "Cookie")
}

// net/http removes an upload's files by the request in front.
func TestUploadThatOnErrorReadsLeavesNoFile(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: newDoorman(), OnError: func(_ http.ResponseWriter, r *http.Request, _ error) {
		assert.NoError(t, r.ParseMultipartForm(1))
	}})
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	require.NoError(t, form.WriteField("a", "b"))
	require.NoError(t, form.Close())
	r := httptest.NewRequest("POST", "/", &body)
	r.Header.Set("Content-Type", form.FormDataContentType())
	serve(m.Handler(unreachable(t)), r)
	assert.NotNil(t, r.MultipartForm)
}

// The answers of DSS to a call as the visitor, and their refusals.
var dssSays = []struct {
	name   string
	answer dsstest.Interceptor
	want   int
}{
	{"DSS knows no session any more", dsstest.Respond(401, `{"errorType": "com.dataiku.dip.exceptions.NotAuthenticatedException"}`), 401},
	{"DSS forbids it with a 401", dsstest.Respond(401, `{"errorType": "com.dataiku.dip.exceptions.UnauthorizedException"}`), 403},
	{"a proxy wants a sign-in", dsstest.Respond(401, `<html>`), 502},
	{"DSS forbids it", dsstest.Respond(403, `{"errorType": "com.dataiku.dip.exceptions.UnauthorizedException"}`), 403},
	{"there is nothing", dsstest.Respond(404, `{"errorType": "com.dataiku.dip.server.controllers.NotFoundException"}`), 404},
	{"the call makes no sense", dsstest.Respond(400, `{"errorType": "x.E"}`), 502},
	{"somebody was faster", dsstest.Respond(409, ``), 502},
	{"DSS leads elsewhere", dsstest.Respond(302, ``, "Location", "/login"), 502},
	{"DSS answers nonsense", dsstest.Respond(200, `<html>`), 502},
	{"DSS is asked too often", dsstest.Respond(429, ``, "Retry-After", "7"), 503},
	{"DSS fails", dsstest.Respond(500, `{"errorType": "x.E"}`), 503},
	{"DSS starts", dsstest.Respond(502, `<html>`), 503},
	{"the connection breaks", dsstest.Reset, 503},
}

// DSS's answer to a handler's or a gate's call as the visitor keeps its meaning, for
// people and for programs, and no text of it is quoted.
func TestAnswersToCallsAsTheVisitorKeepTheirMeaning(t *testing.T) {
	list := func(r *http.Request) error {
		client, err := dssauth.ClientFromContext(r.Context())
		if err != nil {
			return err
		}
		return client.Do(r.Context(), "GET", projectsPath, nil, new([]any))
	}
	for _, tt := range dssSays {
		for _, mode := range []dssauth.Impersonation{dssauth.ByTicket, dssauth.ByProxyUser} {
			for _, byGate := range []bool{false, true} {
				t.Run(fmt.Sprint(tt.name, mode, byGate), func(t *testing.T) {
					var book logBook
					var told []error
					s := newSituation(t, mode, func(_ *situation, c *dssauth.Config) {
						c.Logger = book.logger()
						c.Hooks.Refused = func(_ *http.Request, err error) { told = append(told, err) }
					})
					s.fake.Intercept(projectsPath, -1, tt.answer)
					h := s.auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						s.auth.Refuse(w, r, fmt.Errorf("s3cret: %w", list(r)))
					}))
					if byGate {
						h = s.auth.Require(func(r *http.Request, _ dssauth.Identity) error { return fmt.Errorf("s3cret: %w", list(r)) })(unreachable(t))
					}
					w := serve(h, s.request())
					assert.Equal(t, tt.want, w.Code)
					var problem struct{ Title, Detail string }
					require.NoError(t, json.Unmarshal(w.Body.Bytes(), &problem))
					assert.NotEmpty(t, problem.Detail)
					assert.Equal(t, w.Code == 503, w.Header().Get("Retry-After") != "")
					if tt.name == "DSS is asked too often" {
						assert.Equal(t, "7", w.Header().Get("Retry-After"))
					}
					require.Len(t, told, 1)
					assert.Equal(t, tt.want, dssauth.StatusCode(told[0]))
					assert.NotContains(t, told[0].Error(), "s3cret")
					assert.Empty(t, book.with("level=ERROR"), "nothing is the application's fault")

					page := serve(h, request("GET", "/", append(pageHeaders, "Cookie", s.cookie.String())...))
					assert.Equal(t, tt.want, page.Code)
					assert.Contains(t, page.Body.String(), "<h1>")
				})
			}
		}
	}
}

// A session that ends while its answer is remembered ends with the next call.
func TestSessionThatEndedIsSeenByACall(t *testing.T) {
	s := newSituation(t, dssauth.ByTicket, func(_ *situation, c *dssauth.Config) {
		c.LoginURL = func(_ *http.Request, back string) string { return "/login?back=" + back }
	})
	h := s.auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := listProjects(r); err != nil {
			s.auth.Refuse(w, r, err)
		}
	}))
	page := func() *http.Request {
		r := request("GET", "/report", pageHeaders...)
		r.AddCookie(s.cookie)
		return r
	}
	require.Equal(t, 200, serve(h, page()).Code)
	asked := s.fake.Calls(lookupPath)
	s.fake.SignOut(s.cookie)
	s.fake.Intercept(projectsPath, -1, dssSays[0].answer) // a ticket ends with its session
	w := serve(h, page())
	assert.Equal(t, 302, w.Code)
	assert.Equal(t, "/login?back=/report", w.Header().Get("Location"))
	require.Equal(t, asked, s.fake.Calls(lookupPath), "the answer was remembered")
	assert.Equal(t, 401, serve(h, s.request()).Code)
	assert.Greater(t, s.fake.Calls(lookupPath), asked, "the answer is forgotten")
}

// The same reply of DSS about the application signs nobody out.
func TestCallsWithARejectedKeySignNobodyOut(t *testing.T) {
	for _, mode := range []dssauth.Impersonation{dssauth.ByTicket, dssauth.ByProxyUser} {
		for _, byGate := range []bool{false, true} {
			s := newSituation(t, mode, func(_ *situation, c *dssauth.Config) {
				c.LoginURL = func(*http.Request, string) string { return "/login" }
			})
			call := func(r *http.Request) error {
				s.fake.RemoveAPIKey(s.fake.AdminKey())
				return listProjects(r)
			}
			h := s.auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.auth.Refuse(w, r, call(r)) }))
			if byGate {
				h = s.auth.Require(func(r *http.Request, _ dssauth.Identity) error { return call(r) })(unreachable(t))
			}
			w := serve(h, request("GET", "/", append(pageHeaders, "Cookie", s.cookie.String())...))
			assert.Equal(t, 503, w.Code, "%d %v", mode, byGate)
		}
	}
}

// A missing right of the application has nothing to do with the visitor's groups.
func TestTicketRefusedToTheApplication(t *testing.T) {
	refused := dsstest.Respond(403, `{"errorType": "com.dataiku.dip.exceptions.UnauthorizedException"}`)
	for mode, refuses := range map[dssauth.Impersonation]func(*situation){
		dssauth.ByTicket: func(s *situation) { s.fake.Intercept(ticketPath, -1, refused) },
		dssauth.ByProxyUser: func(s *situation) {
			s.fake.Intercept(ownInfoPath, -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if r.Header.Get("X-DKU-ProxyUser") != "" {
					refused(w, r, next)
					return
				}
				next.ServeHTTP(w, r)
			})
		},
	} {
		var book logBook
		s := newSituation(t, mode, func(_ *situation, c *dssauth.Config) { c.Logger = book.logger() })
		refuses(s)
		h := s.auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.auth.Refuse(w, r, listProjects(r)) }))
		for range 3 {
			w := serve(h, s.request())
			assert.Equal(t, 503, w.Code)
			assert.NotContains(t, w.Body.String(), "groups")
		}
		lines := book.with("level=ERROR")
		require.Len(t, lines, 1, "once a minute")
		assert.Contains(t, lines[0], "Impersonation in webapps")
		assert.Zero(t, s.fake.Calls(projectsPath))
	}
}

// A proxy drops our header, or adds credentials: only the log can say so.
func TestActingAsAnotherUserIsLogged(t *testing.T) {
	other := dsstest.Respond(200, `{"authSource": "USER_FROM_UI", "authIdentifier": "admin", "groups": []}`)
	for mode, status := range map[dssauth.Impersonation]int{dssauth.ByTicket: 401, dssauth.ByProxyUser: 503} {
		for name, call := range map[string]func(*situation) http.Handler{
			"a call": func(s *situation) http.Handler {
				return s.auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.auth.Refuse(w, r, listProjects(r)) }))
			},
			"a gate": func(s *situation) http.Handler { return s.auth.RequireProject("CHURN")(unreachable(t)) },
		} {
			var book logBook
			s := newSituation(t, mode, func(_ *situation, c *dssauth.Config) { c.Logger = book.logger() })
			s.fake.Intercept(ownInfoPath, -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if r.Header.Get("X-DKU-ProxyUser") != "" || r.Header.Get("X-DKU-APITicket") != "" {
					other(w, r, next)
					return
				}
				next.ServeHTTP(w, r)
			})
			want := status
			if name == "a gate" {
				want = 503
			}
			for range 3 {
				assert.Equal(t, want, serve(call(s), s.request()).Code, "%s %v", name, mode)
			}
			lines := book.with("acts as another user")
			require.Len(t, lines, 1, "%s %v: once a minute", name, mode)
			assert.Contains(t, lines[0], "level=WARN")
			assert.Zero(t, s.fake.Calls(projectsPath))
		}
	}
}

// mistakes are errors of the application, not outages, one for each cause.
func mistakes(m *dssauth.Middleware) map[string]http.Handler {
	refuse := func(call func(*http.Request) error) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.Refuse(w, r, call(r)) })
	}
	client := func(r *http.Request) error {
		_, err := dssauth.ClientFromContext(r.Context())
		return err
	}
	return map[string]http.Handler{
		"wrap the handler with Middleware.Handler":     refuse(client),
		"set Config.Impersonation":                     m.Handler(refuse(client)),
		"a gate returned an error":                     m.Require(func(*http.Request, dssauth.Identity) error { return errors.New("s3cret") })(http.NotFoundHandler()),
		"Middleware.Refuse got an error that means no": m.Handler(refuse(func(*http.Request) error { return errors.New("s3cret") })),
	}
}

func TestMistakesAreNotOutages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		m := newAuth(t, dssauth.Config{Resolver: newDoorman(), Logger: book.logger(), LoginURL: func(*http.Request, string) string { return "/login" }})
		defer m.Close()
		began := time.Now()
		for minute := 1; minute <= 3; minute++ {
			for fix, h := range mistakes(m) {
				for range 3 {
					w := serve(h, request("GET", "/", append(pageHeaders, "Cookie", "session=ann")...))
					assert.Equal(t, 500, w.Code, fix)
					assert.Empty(t, w.Header().Values("Retry-After"))
					assert.Contains(t, w.Body.String(), "mistake")
				}
				assert.Len(t, book.with(fix), minute, "%s: once a minute", fix)
			}
			assert.Len(t, book.with("level=ERROR"), 4*minute, "one line for each cause")
			pass(time.Until(began.Add(time.Duration(minute) * time.Minute)))
		}
		assert.Empty(t, book.with("s3cret"))
	})
}

func TestRefuseOfNilIsAMistake(t *testing.T) {
	var book logBook
	m := newAuth(t, dssauth.Config{Resolver: newDoorman(), Logger: book.logger()})
	w := httptest.NewRecorder()
	m.Refuse(w, fromAnn(), nil)
	assert.Equal(t, 500, w.Code)
	assert.Len(t, book.with("level=ERROR"), 1)
}

// If a visitor left and a gate gave up, that is not a mistake of the gate.
func TestEndedRequestsAreNotMistakes(t *testing.T) {
	var book logBook
	m := newAuth(t, dssauth.Config{Resolver: newDoorman(), Logger: book.logger()})
	ctx, leave := context.WithCancel(t.Context())
	gate := m.Require(func(r *http.Request, _ dssauth.Identity) error {
		leave()
		return fmt.Errorf("no database: %w", r.Context().Err())
	})
	assert.Equal(t, 503, serve(gate(unreachable(t)), fromAnn().WithContext(ctx)).Code)
	assert.Empty(t, book.with("level=ERROR"))
}

// Three kinds of a gate's errors keep their status.
func TestGatesSendNobodyToSignIn(t *testing.T) {
	var other error // of another Middleware, about a request of its own
	_, other = newAuth(t, dssauth.Config{Resolver: newDoorman()}).Authenticate(request("GET", "/"))
	for name, err := range map[string]error{
		"not signed in":               dssauth.ErrUnauthenticated,
		"not signed in, for a reason": fmt.Errorf("%w: no token", dssauth.ErrUnauthenticated),
		"what Authenticate said":      other,
		"what looks like DSS's":       fmt.Errorf("%w: %w", dssauth.ErrUnauthenticated, &dss.Error{StatusCode: 401}),
		"with a prohibition":          errors.Join(dssauth.ErrForbidden, dssauth.ErrUnauthenticated),
		"malformed":                   dssauth.ErrMalformed,
		"too large":                   dssauth.ErrTooLarge,
		"late":                        context.DeadlineExceeded,
		"plain":                       io.ErrUnexpectedEOF,
	} {
		var told error
		m := newAuth(t, dssauth.Config{
			Resolver: newDoorman(), LoginURL: func(*http.Request, string) string { return "/login" },
			Hooks: dssauth.Hooks{Refused: func(_ *http.Request, err error) { told = err }},
		})
		gate := m.Require(func(*http.Request, dssauth.Identity) error { return err })
		w := serve(gate(unreachable(t)), request("GET", "/", append(pageHeaders, "Cookie", "session=ann")...))
		assert.Equal(t, 500, w.Code, name)
		assert.Equal(t, 500, dssauth.StatusCode(told), name)
		assert.NotErrorIs(t, told, dssauth.ErrUnauthenticated, name)
		assert.NotErrorIs(t, told, dssauth.ErrForbidden, name)
	}
}

// An API key has no groups, and signs in nowhere.
func TestAPIKeysAreNotToldAboutGroups(t *testing.T) {
	key := func() *http.Request { return request("GET", "/", "Authorization", "Bearer key") }
	for _, allowed := range []bool{false, true} {
		m := newAuth(t, dssauth.Config{Resolver: newDoorman(), AllowAPIKeys: allowed})
		forbids := m.Require(func(*http.Request, dssauth.Identity) error { return dssauth.ErrForbidden })
		for _, h := range []http.Handler{
			m.RequireGroup("analysts")(unreachable(t)), forbids(unreachable(t)), m.Handler(m.RequireGroup("analysts")(unreachable(t))),
			m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.Refuse(w, r, dssauth.ErrForbidden) })),
		} {
			w := serve(h, key())
			assert.Equal(t, 403, w.Code)
			assert.Contains(t, w.Body.String(), "API key")
			assert.NotContains(t, w.Body.String(), "groups")
		}
		w := serve(m.RequireGroup("analysts")(unreachable(t)), fromBob())
		assert.Contains(t, w.Body.String(), "groups", "a user is told")
	}

	// A framework's own response and request, without the request of a refusal.
	_, err := newAuth(t, dssauth.Config{Resolver: newDoorman()}).Authenticate(key())
	w := httptest.NewRecorder()
	dssauth.WriteRefusal(w, key(), err)
	assert.Equal(t, 403, w.Code)
	assert.NotContains(t, w.Body.String(), "groups")
}

// A handler that has set a Content-Length may still refuse: a browser would wait for
// the length that a redirect announces.
func TestRedirectDropsTheLengthOfAnotherBody(t *testing.T) {
	m := signingIn(t, newDoorman())
	w := serve(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5000")
		m.Refuse(w, r, dssauth.ErrUnauthenticated)
	})), request("GET", "/report", append(pageHeaders, "Cookie", "session=ann")...))
	assert.Equal(t, 302, w.Code)
	assert.Empty(t, w.Header().Values("Content-Length"))
}

// Behind Optional, a handler that acts as its visitor sends anonymous visitors to
// sign in.
func TestCallAsAnAnonymousVisitorLeadsToSignIn(t *testing.T) {
	s := newSituation(t, dssauth.ByTicket, func(_ *situation, c *dssauth.Config) {
		c.LoginURL = func(*http.Request, string) string { return "/login" }
	})
	h := s.auth.Optional(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.auth.Refuse(w, r, listProjects(r)) }))
	assert.Equal(t, 302, serve(h, request("GET", "/", pageHeaders...)).Code)
	assert.Equal(t, 401, serve(h, request("GET", "/", "Cookie", "session=old")).Code)
}

// compressed acts like a compressor: the header first, and then the whole body.
func compressed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer z.Close()
		next.ServeHTTP(compressor{w, z}, r)
	})
}

type compressor struct {
	http.ResponseWriter
	to *gzip.Writer
}

func (c compressor) Write(p []byte) (int, error) { return c.to.Write(p) }

func TestRefusalsBehindACompressorCanBeRead(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: newDoorman()})
	for _, kind := range [][]string{nil, pageHeaders} {
		w := serve(compressed(m.Handler(unreachable(t))), request("GET", "/", kind...))
		assert.Equal(t, 401, w.Code)
		require.Equal(t, "gzip", w.Header().Get("Content-Encoding"))
		z, err := gzip.NewReader(w.Body)
		require.NoError(t, err)
		text, err := io.ReadAll(z)
		require.NoError(t, err)
		assert.Contains(t, string(text), "Sign in to Dataiku DSS")
	}
}

// DSS's answer to a gate means the same for a connection as for a new request.
func TestRefusalOfDSSToAGateEndsAConnection(t *testing.T) {
	class := "com.dataiku.dip.exceptions."
	for name, row := range map[string]struct {
		said error
		want error // nil: the connection goes on
	}{
		"it forbids it":         {&dss.Error{StatusCode: 403, Type: class + "UnauthorizedException"}, dssauth.ErrForbidden},
		"there is nothing":      {&dss.Error{StatusCode: 404}, dssauth.ErrForbidden},
		"it knows no session":   {&dss.Error{StatusCode: 401, Type: class + "NotAuthenticatedException"}, dssauth.ErrUnauthenticated},
		"a proxy wants a login": {&dss.Error{StatusCode: 401}, nil},
		"it fails":              {&dss.Error{StatusCode: 500}, nil},
		"the wire breaks":       {&dss.WireError{Kind: "no reply in time"}, nil},
		"a mistake":             {errors.New("no database"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newAuth(t, dssauth.Config{Resolver: newDoorman()})
				defer m.Close()
				var verdict atomic.Pointer[error]
				ctx, cancel := connect(t, m, fromAnn(), time.Second, refuseOnly(m, &verdict))
				defer cancel()
				verdict.Store(&row.said)
				pass(5 * time.Second)
				if row.want == nil {
					assert.NoError(t, ctx.Err())
					return
				}
				assert.ErrorIs(t, context.Cause(ctx), row.want)
			})
		})
	}
}
