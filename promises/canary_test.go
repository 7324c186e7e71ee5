package promises

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// Credentials and secrets that nothing may print. They have one part in common.
const (
	cookieCanary = "c4n4ry-cookie"
	bearerCanary = "c4n4ry-bearer"
	keyCanary    = "c4n4ry-key"
	ticketCanary = "c4n4ry-ticket"
	secretCanary = "c4n4ry-secret"
)

// forms are the ways in which a canary could be printed.
var forms = []string{
	"c4n4ry", fmt.Sprintf("%x", "c4n4ry"), fmt.Sprintf("%X", "c4n4ry"), strings.Trim(fmt.Sprint([]byte("c4n4ry")), "[]"),
	base64.StdEncoding.EncodeToString([]byte(keyCanary + ":"))[:8], base64.StdEncoding.EncodeToString([]byte("c4n4ry")),
}

// printed is everything that was printed in a story.
type printed struct {
	mu    sync.Mutex
	texts map[string]string // → what it was
}

func (p *printed) text(what, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.texts == nil {
		p.texts = map[string]string{}
	}
	p.texts[text] = what
}

// value prints v in every way, even if fmt cannot call v's own methods.
func (p *printed) value(what string, v any) {
	for _, v := range []any{v, []any{v}, map[string]any{"v": v}, struct{ v any }{v}, &struct{ v any }{struct{ v any }{v}}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			p.text(what+" "+verb, fmt.Sprintf(verb, v))
		}
		if text, err := json.Marshal(v); err == nil {
			p.text(what+" JSON", string(text))
		}
	}
	if err, ok := v.(error); ok {
		if reply := (*dss.Error)(nil); errors.As(err, &reply) {
			p.value(what+", its reply", *reply)
		}
		if wire := (*dss.WireError)(nil); errors.As(err, &wire) {
			p.value(what+", its kind", *wire)
		}
		for _, inner := range unwrapped(err) {
			p.value(what+", its cause", inner)
		}
	}
}

func unwrapped(err error) []error {
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return []error{inner}
		}
	case interface{ Unwrap() []error }:
		return e.Unwrap()
	}
	return nil
}

// logger notes what is logged, by handlers of all kinds.
func (p *printed) logger() *slog.Logger { return slog.New(noting{p}) }

type noting struct{ *printed }

func (noting) Enabled(context.Context, slog.Level) bool { return true }
func (n noting) WithAttrs([]slog.Attr) slog.Handler     { return n }
func (n noting) WithGroup(string) slog.Handler          { return n }

func (n noting) Handle(ctx context.Context, r slog.Record) error {
	var b bytes.Buffer
	_ = slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}).Handle(ctx, r)
	_ = slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}).Handle(ctx, r)
	n.text("log", b.String())
	r.Attrs(func(a slog.Attr) bool {
		n.value("log's "+a.Key, a.Value.Any())
		return true
	})
	return nil
}

func (p *printed) leaks() (leaks []string) { return p.showing(forms) }

// showing returns the texts that show one of these, and their places.
func (p *printed) showing(forms []string) (found []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for text, what := range p.texts {
		for _, form := range forms {
			if i := strings.Index(text, form); i >= 0 {
				found = append(found, what+": "+text[max(0, i-200):min(len(text), i+200)])
				break
			}
		}
	}
	return found
}

// story is a DSS, an application behind it and all that both print.
type story struct {
	*printed
	t      *testing.T
	fake   *dsstest.Server
	client *dss.Client
	auth   *dssauth.Middleware
	all    []*dssauth.Middleware // auth, and what the story made besides
}

func newStory(t *testing.T) *story {
	s := &story{printed: new(printed), t: t, fake: dsstest.NewServer(t)}
	s.fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"analysts"}})
	s.fake.SetOwnSettings("ann", `{"secrets": [{"name": "db", "value": "`+secretCanary+`", "secret": true}]}`)
	s.fake.AddSession("session", cookieCanary, "ann")
	s.fake.AddAPIKey(bearerCanary, "ann")
	s.fake.AddAPIKey(keyCanary, "")
	s.fake.AddTicket(ticketCanary, "ann")
	s.fake.Intercept("/auth/ticket-from-browser-headers", -1, dsstest.Respond(200, `{"msg": "`+ticketCanary+`"}`))

	var err error
	s.client, err = dss.New(dss.Config{URL: s.fake.URL(), APIKey: keyCanary})
	require.NoError(t, err)
	s.auth = s.middleware(dssauth.Config{Client: s.client, Impersonation: dssauth.ByTicket})
	return s
}

// middleware notes the arguments of hooks, logger and OnError.
func (s *story) middleware(c dssauth.Config) *dssauth.Middleware {
	c.Logger = s.logger()
	c.OnError = func(w http.ResponseWriter, r *http.Request, err error) {
		s.value("OnError's error", err)
		dssauth.WriteRefusal(w, r, err)
	}
	if c.Hooks.LookupEnd == nil {
		c.Hooks = dssauth.Hooks{
			LookupStart: func(ctx context.Context, _ bool) context.Context {
				s.text("LookupStart's context", fmt.Sprint(ctx))
				return nil
			},
			LookupEnd: func(ctx context.Context, l dssauth.Lookup) {
				s.text("LookupEnd's context", fmt.Sprint(ctx))
				s.value("Lookup", l)
			},
			Refused: func(_ *http.Request, err error) { s.value("Refused's error", err) },
		}
	}
	s.value("Config", c)
	m := newAuth(s.t, c)
	s.value("Middleware", m)
	s.all = append(s.all, m)
	return m
}

func (s *story) ann(more ...string) *http.Request {
	return request("GET", "/?q=1", append([]string{"Cookie", "session=" + cookieCanary}, more...)...)
}

// serve notes the answer to r.
func (s *story) serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := serve(h, r)
	s.text("response", fmt.Sprint(w.Header(), w.Body))
	return w
}

// app looks at everything that a handler can get at.
func (s *story) app() http.Handler {
	return s.auth.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		s.value("context", ctx)
		s.value("derived context", context.WithValue(ctx, contextKey{}, "x"))
		id, _ := dssauth.FromContext(ctx)
		s.value("Identity", id)
		live, end := s.auth.WhileSignedIn(r, time.Hour)
		s.text("live context", fmt.Sprint(live))
		end()
		s.value("live context's cause", context.Cause(live))

		secrets, err := dssauth.SecretsFromContext(ctx)
		s.value("secrets", secrets)
		s.value("secrets' error", err)
		client, err := dssauth.ClientFromContext(ctx)
		s.value("client", client)
		s.value("client's error", err)
		if err != nil {
			return
		}
		s.value("error of a call", client.Do(ctx, "GET", "/no/such/endpoint", nil, nil))
		info, err := client.AuthInfo(ctx)
		s.value("auth info", info)
		s.value("auth info's error", err)
		_, err = client.As("admin")
		s.value("As's error", err)
	}))
}

// echoing answers with the whole request.
func echoing(status int, format string, headers ...string) dsstest.Interceptor {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		body, _ := io.ReadAll(r.Body)
		quoted, _ := json.Marshal(fmt.Sprint(string(body), r.Header))
		said := strings.Trim(string(quoted), `"`)
		for i := 0; i < len(headers); i += 2 {
			headers[i+1] = strings.ReplaceAll(headers[i+1], "ECHO", cookieCanary)
		}
		dsstest.Respond(status, strings.ReplaceAll(format, "ECHO", said), headers...)(w, r, next)
	}
}

func TestNothingPrintsACanary(t *testing.T) {
	const (
		browserInfo = "/auth/info-from-browser-headers"
		dssError    = `{"errorType": "ECHO", "message": "ECHO", "detailedMessage": "ECHO"}`
		notSignedIn = `{"errorType": "com.dataiku.dip.exceptions.NotAuthenticatedException", "message": "ECHO"}`
	)
	echoes := func(path string, status int, format string, headers ...string) func(*story) {
		return func(s *story) {
			s.fake.Intercept("/auth/ticket-from-browser-headers", 0, nil)
			s.fake.Intercept(path, -1, echoing(status, format, headers...))
			s.serve(s.app(), s.ann())
			s.serve(s.app(), s.ann(pageHeaders...))
		}
	}
	tests := []struct {
		name string
		tell func(*story)
	}{
		{"a visitor comes", func(s *story) {
			assert.Equal(s.t, 200, s.serve(s.app(), s.ann()).Code)
			assert.Contains(s.t, s.fake.LastBrowserHeaders()["Cookie"], cookieCanary)
		}},
		{"a visitor comes with an API key", func(s *story) {
			assert.Equal(s.t, 200, s.serve(s.app(), request("GET", "/", "Authorization", "Bearer "+bearerCanary)).Code)
		}},
		{"a visitor is acted as by ProxyUser", func(s *story) {
			s.auth = s.middleware(dssauth.Config{Client: s.client, Impersonation: dssauth.ByProxyUser})
			assert.Equal(s.t, 200, s.serve(s.app(), s.ann()).Code)
		}},
		{"nobody comes", func(s *story) {
			r := request("GET", "/", "Cookie", "session=old-"+cookieCanary, "Authorization", "Bearer old-"+bearerCanary)
			assert.Equal(s.t, 401, s.serve(s.app(), r).Code)
		}},
		{"malformed credentials come", func(s *story) {
			assert.Equal(s.t, 400, s.serve(s.app(), s.ann("Authorization", "Bearer \x01"+bearerCanary)).Code)
			assert.Equal(s.t, 400, s.serve(s.app(), s.ann("Authorization", "Bearer "+bearerCanary, "Authorization", "Basic "+bearerCanary)).Code)
		}},
		{"too large credentials come", func(s *story) {
			assert.Equal(s.t, 431, s.serve(s.app(), request("GET", "/", "Cookie", strings.Repeat(cookieCanary, 2000))).Code)
		}},
		{"a global API key comes", func(s *story) {
			s.fake.AddAPIKey(bearerCanary, "")
			assert.Equal(s.t, 403, s.serve(s.app(), request("GET", "/", "Authorization", "Bearer "+bearerCanary)).Code)
		}},
		{"the visitor may not", func(s *story) {
			assert.Equal(s.t, 403, s.serve(s.auth.RequireGroup("administrators")(s.app()), s.ann()).Code)
		}},
		{"a resolver fails with what it sees", func(s *story) {
			for _, kind := range []error{errors.New("it fails"), dssauth.ErrUnavailable, &dss.Error{StatusCode: 502}} {
				m := s.middleware(dssauth.Config{Resolver: resolveFunc(func(_ context.Context, h http.Header) (dssauth.Identity, error) {
					return dssauth.Identity{}, fmt.Errorf("%w: cannot read %v", kind, h)
				})})
				assert.Equal(s.t, 503, s.serve(m.Handler(s.app()), s.ann()).Code)
			}
		}},
		{"a resolver says nobody, and what it saw", func(s *story) {
			m := s.middleware(dssauth.Config{Resolver: resolveFunc(func(_ context.Context, h http.Header) (dssauth.Identity, error) {
				return dssauth.Identity{}, fmt.Errorf("%w: no session %v", dssauth.ErrUnauthenticated, h)
			})})
			assert.Equal(s.t, 401, s.serve(m.Handler(s.app()), s.ann()).Code)
		}},
		{"a gate fails with what it sees", func(s *story) {
			gate := s.auth.Require(func(r *http.Request, _ dssauth.Identity) error { return fmt.Errorf("cannot read %v", r.Header) })
			assert.Equal(s.t, 500, s.serve(gate(s.app()), s.ann()).Code)
		}},
		{"a request ends with what it carried", func(s *story) {
			s.fake.Intercept(browserInfo, -1, dsstest.Hang)
			ctx, end := context.WithCancelCause(s.t.Context())
			end(fmt.Errorf("the visitor %s went away", cookieCanary))
			assert.Equal(s.t, 503, s.serve(s.app(), s.ann().WithContext(ctx)).Code)
		}},
		{"a gate fails", func(s *story) {
			gate := s.auth.Require(func(*http.Request, dssauth.Identity) error { return errors.New("no database") })
			assert.Equal(s.t, 500, s.serve(gate(s.app()), s.ann()).Code)
		}},
		{"a sign-in page is due", func(s *story) {
			m := s.middleware(dssauth.Config{Client: s.client, LoginURL: func(_ *http.Request, back string) string { return "/login?back=" + back }})
			assert.Equal(s.t, 302, s.serve(m.Handler(s.app()), request("GET", "/", append(pageHeaders, "Cookie", "session=old-"+cookieCanary)...)).Code)
		}},
		{"DSS is down", func(s *story) {
			s.fake.SetDown(true)
			for range 10 {
				assert.Equal(s.t, 503, s.serve(s.app(), s.ann()).Code)
			}
		}},
		{"DSS cannot be reached", func(s *story) {
			s.fake.Close()
			assert.Equal(s.t, 503, s.serve(s.app(), s.ann()).Code)
		}},
		{"DSS resets the connection", func(s *story) {
			s.fake.Intercept(browserInfo, -1, dsstest.Reset)
			assert.Equal(s.t, 503, s.serve(s.app(), s.ann()).Code)
		}},
		{"DSS cuts its answer short", func(s *story) {
			s.fake.Intercept(browserInfo, -1, dsstest.CutShort)
			assert.Equal(s.t, 503, s.serve(s.app(), s.ann()).Code)
		}},
		{"our own key is rejected", func(s *story) {
			s.fake.RemoveAPIKey(keyCanary)
			assert.Equal(s.t, 503, s.serve(s.app(), s.ann()).Code)
		}},
		{"our own key is rejected after the visitor was let in", func(s *story) {
			s.auth = s.middleware(dssauth.Config{Client: s.client, Impersonation: dssauth.ByProxyUser})
			s.serve(s.auth.Handler(whoami), s.ann())
			s.fake.RemoveAPIKey(keyCanary)
			assert.Equal(s.t, 200, s.serve(s.app(), s.ann()).Code)
		}},
		{"the ticket is rejected", func(s *story) {
			s.fake.ExpireTickets()
			assert.Equal(s.t, 200, s.serve(s.app(), s.ann()).Code)
		}},
		{"the ticket is another user's", func(s *story) {
			s.fake.AddUser(dsstest.User{Login: "bob"})
			s.fake.AddTicket(ticketCanary, "bob")
			assert.Equal(s.t, 200, s.serve(s.app(), s.ann()).Code)
		}},
		{"DSS echoes in an error", echoes(browserInfo, 500, dssError)},
		{"DSS echoes in a refusal", echoes(browserInfo, 401, notSignedIn)},
		{"DSS echoes in a prohibition", echoes(browserInfo, 403, dssError)},
		{"DSS echoes in a page", echoes(browserInfo, 502, "<h1>ECHO</h1>")},
		{"DSS echoes in a page with status 200", echoes(browserInfo, 200, "<h1>ECHO</h1>")},
		{"DSS echoes in an answer of the wrong type", echoes(browserInfo, 200, `{"authIdentifier": ["ECHO"], "ECHO": 1, "authSource": "ECHO"}`)},
		{"DSS redirects to what it was sent", echoes(browserInfo, 302, "ECHO", "Location", "https://evil.example/ECHO?x=ECHO", "Retry-After", "ECHO")},
		{"DSS echoes where tickets are", echoes("/auth/ticket-from-browser-headers", 500, dssError)},
		{"DSS echoes in place of a ticket", echoes("/auth/ticket-from-browser-headers", 200, `{"msg": "a ECHO"}`)},
		{"DSS echoes to a visitor's own call", echoes("/no/such/endpoint", 500, dssError)},
		{"DSS echoes where tickets are checked", echoes("/auth/info", 500, dssError)},
		{"hooks panic with what they see", func(s *story) {
			m := s.middleware(dssauth.Config{Client: s.client, Hooks: dssauth.Hooks{
				LookupStart: func(context.Context, bool) context.Context { panic(cookieCanary) },
				LookupEnd:   func(context.Context, dssauth.Lookup) { panic(errors.New(cookieCanary)) },
				Refused:     func(r *http.Request, _ error) { panic(r.Header) },
			}})
			assert.Equal(s.t, "ann", s.serve(m.Handler(whoami), s.ann()).Body.String())
			assert.Equal(s.t, 403, s.serve(m.RequireGroup("x")(s.app()), s.ann()).Code)
		}},
		{"a resolver panics with what it sees", func(s *story) {
			m := s.middleware(dssauth.Config{Resolver: resolveFunc(func(_ context.Context, h http.Header) (dssauth.Identity, error) {
				panic(fmt.Errorf("cannot read %v", h))
			})})
			assert.Equal(s.t, 503, s.serve(m.Handler(s.app()), s.ann()).Code)
		}},
		{"a cookie changes all the time", func(s *story) {
			for i := range 20 {
				r := request("GET", "/", "Cookie", fmt.Sprintf("session=%s; affinity=%s%d; %s-nameless", cookieCanary, cookieCanary, i, cookieCanary))
				assert.Equal(s.t, 200, s.serve(s.auth.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})), r).Code)
			}
		}},
		{"the visitor signs out", func(s *story) {
			s.serve(s.app(), s.ann())
			s.auth.Forget(s.ann())
			s.fake.EndSessions()
			assert.Equal(s.t, 401, s.serve(s.app(), s.ann()).Code)
		}},
		{"the application ends", func(s *story) {
			s.value("Close", s.auth.Close())
			assert.Equal(s.t, 503, s.serve(s.app(), s.ann()).Code)
		}},
	}
	texts, leaks := 0, 0
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStory(t)
			tt.tell(s)
			s.value("Stats", s.auth.Stats())
			for _, m := range s.all { // fmt reads the memory that lookups write, and their ends are printed too
				require.NoError(t, m.Close())
			}
			s.value("Middleware", s.auth)
			s.value("Client", s.client)
			for _, leak := range s.leaks() {
				t.Error(leak)
				leaks++
			}
			texts += len(s.texts)
		})
	}
	t.Logf("figure: %d credentials in %d printed texts", leaks, texts)
}

// DSS's text may hold anything, including other visitors' data.
func TestLogsQuoteNothingThatDSSWrote(t *testing.T) {
	fake := dsstest.NewServer(t)
	for _, status := range []int{400, 401, 403, 404, 429, 500, 502, 503} {
		var log logBook
		m := newAuth(t, dssauth.Config{Client: fake.Client(), Logger: log.logger(), UserDetails: true})
		for _, body := range []string{`{"errorType": "x", "message": "c4n4ry"}`, "<p>c4n4ry</p>"} {
			fake.Intercept("", 0, nil)
			fake.Intercept("", -1, dsstest.Respond(status, body))
			assert.Equal(t, 503, serve(m.Handler(unreachable(t)), fromAnn()).Code)
		}
		require.NoError(t, m.Close())
		assert.NotEmpty(t, log.with("level="), "%d: nothing was logged", status)
		assert.Empty(t, log.with("c4n4ry"), "%d", status)
	}
}

// The check above finds a canary in each form.
func TestPrintedCanaryIsFound(t *testing.T) {
	p := new(printed)
	p.value("anything", slog.LevelDebug)
	assert.Empty(t, p.leaks())
	for _, v := range []any{
		cookieCanary, []byte(bearerCanary), errors.New(keyCanary), fmt.Errorf("x: %w", errors.New(secretCanary)), &dss.Error{Type: "c4n4ry"}, http.Header{"A": {ticketCanary}},
		base64.StdEncoding.EncodeToString([]byte(keyCanary + ":")), &struct{ s string }{cookieCanary},
	} {
		p := new(printed)
		p.value("it", v)
		assert.NotEmpty(t, p.leaks(), "%v", v)
		p = new(printed)
		p.logger().Debug("x", "y", v)
		assert.NotEmpty(t, p.leaks(), "%v logged", v)
	}
	p.logger().Info(cookieCanary)
	assert.Len(t, p.leaks(), 1)
}
