package promises

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// errBroken is an error of an unknown kind.
var errBroken = errors.New("something broke")

// answerer identifies the sender of a cookie.
type answerer = func(ctx context.Context, cookie string) (dssauth.Identity, error)

// fakeResolver answers in place of DSS, and counts the questions.
type fakeResolver struct {
	answer atomic.Pointer[answerer]

	calls, inFlight, mostInFlight atomic.Int64
}

func (f *fakeResolver) Resolve(ctx context.Context, identifying http.Header) (dssauth.Identity, error) {
	f.calls.Add(1)
	now := f.inFlight.Add(1)
	defer f.inFlight.Add(-1)
	for most := f.mostInFlight.Load(); now > most && !f.mostInFlight.CompareAndSwap(most, now); most = f.mostInFlight.Load() {
	}
	return (*f.answer.Load())(ctx, identifying.Get("Cookie"))
}

func resolver(a answerer) *fakeResolver {
	f := &fakeResolver{}
	f.does(a)
	return f
}

// does makes a the answer from now on.
func (f *fakeResolver) does(a answerer) { f.answer.Store(&a) }

// byCookie uses a cookie's value as the login; the value nobody is anonymous.
func byCookie(_ context.Context, cookie string) (dssauth.Identity, error) {
	_, login, _ := strings.Cut(cookie, "=")
	if strings.HasPrefix(login, "nobody") {
		return dssauth.Identity{}, dssauth.ErrUnauthenticated
	}
	return dssauth.NewIdentity(login, "readers"), nil
}

// slowly gives an answer d later, or the context's error if that ends first.
func slowly(d time.Duration, answer answerer) answerer {
	return func(ctx context.Context, cookie string) (dssauth.Identity, error) {
		select {
		case <-time.After(d):
			return answer(ctx, cookie)
		case <-ctx.Done():
			return dssauth.Identity{}, ctx.Err()
		}
	}
}

// hangs never answers before its context ends.
func hangs(ctx context.Context, _ string) (dssauth.Identity, error) {
	<-ctx.Done()
	return dssauth.Identity{}, ctx.Err()
}

// answer is the result of a scripted lookup.
type answer struct {
	id  dssauth.Identity
	err error
}

// script is a resolver whose lookups wait until the test answers them, each by
// its number, counted from 0. They ignore their context.
type script struct {
	over chan struct{} // closed when the test ends

	mu      sync.Mutex
	lookups []chan answer
}

func newScript(t testing.TB) *script {
	s := &script{over: make(chan struct{})}
	t.Cleanup(func() { close(s.over) })
	return s
}

func (s *script) Resolve(context.Context, http.Header) (dssauth.Identity, error) {
	c := make(chan answer, 1)
	s.mu.Lock()
	s.lookups = append(s.lookups, c)
	s.mu.Unlock()
	select {
	case a := <-c:
		return a.id, a.err
	case <-s.over:
		return dssauth.Identity{}, errBroken
	}
}

func (s *script) started() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.lookups)
}

// say answers lookup n, and returns after all effects of the answer.
func (s *script) say(n int, id dssauth.Identity, err error) {
	s.mu.Lock()
	c := s.lookups[n]
	s.mu.Unlock()
	c <- answer{id, err}
	synctest.Wait()
}

// browser is a script's request with a session cookie.
func browser(login string) *http.Request { return withCookies("session=" + login) }

func withCookies(cookies string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Cookie", cookies)
	return r
}

// navigation is the request of a browser when a person opens the page.
func navigation(login string) *http.Request {
	r := browser(login)
	r.Header.Set("Accept", "text/html,*/*;q=0.8")
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	return r
}

// who returns the login that a handler behind m sees, or the status of a refusal.
func who(m *dssauth.Middleware, r *http.Request) string {
	w := httptest.NewRecorder()
	m.Handler(sayLogin).ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		return strconv.Itoa(w.Code)
	}
	return w.Body.String()
}

var sayLogin = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	id, _ := dssauth.FromContext(r.Context())
	_, _ = io.WriteString(w, id.Login)
})

// asks is who in a goroutine of its own.
func asks(m *dssauth.Middleware, r *http.Request) <-chan string {
	got := make(chan string, 1)
	go func() { got <- who(m, r) }()
	return got
}

// identity returns r's visitor as a handler behind m sees it.
func identity(t testing.TB, m *dssauth.Middleware, r *http.Request) dssauth.Identity {
	t.Helper()
	r, err := m.Authenticate(r)
	require.NoError(t, err)
	id, ok := dssauth.FromContext(r.Context())
	require.True(t, ok)
	return id
}

// pass lets virtual time go by.
func pass(d time.Duration) { <-time.After(d) }

// logBook keeps log lines.
type logBook struct {
	mu     sync.Mutex
	lines  []string
	waits  string        // part of the line that wait waits for
	waited chan struct{} // closed when it has come
}

func (b *logBook) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, string(line))
	if b.waited != nil && strings.Contains(string(line), b.waits) {
		close(b.waited)
		b.waited = nil
	}
	return len(line), nil
}

// wait returns once a line with part in it was logged.
func (b *logBook) wait(t testing.TB, part string) {
	t.Helper()
	came := make(chan struct{})
	b.mu.Lock()
	if slices.ContainsFunc(b.lines, func(line string) bool { return strings.Contains(line, part) }) {
		close(came)
	} else {
		b.waits, b.waited = part, came
	}
	b.mu.Unlock()
	select {
	case <-came:
	case <-time.After(30 * time.Second):
		require.Fail(t, "never logged: "+part)
	}
}

func (b *logBook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// with returns the lines that have part in them.
func (b *logBook) with(part string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []string
	for _, line := range b.lines {
		if strings.Contains(line, part) {
			found = append(found, line)
		}
	}
	return found
}

const ownKey = "dkuaps-our-own-key"

// newMemory returns a fake DSS that is called without sockets, as virtual time
// requires. It knows ann, an analyst, and bob, who is not one.
func newMemory(t testing.TB) (*dsstest.DSS, *dss.Client) {
	t.Helper()
	d := dsstest.New()
	d.AddAPIKey(ownKey, "")
	d.AddUser(dsstest.User{Login: "ann", DisplayName: "Ann Analyst", Email: "ann@example.com", Groups: []string{"analysts"}})
	d.AddUser(dsstest.User{Login: "bob", Groups: []string{"readers"}})
	client, err := dss.New(dss.Config{URL: "https://dss.example", APIKey: ownKey, HTTPClient: &http.Client{Transport: inMemory(d)}})
	require.NoError(t, err)
	return d, client
}

// signedIn is a request of a browser with a session of its own.
func signedIn(d *dsstest.DSS, login string) *http.Request {
	c := d.SignIn(login)
	return withCookies(c.Name + "=" + c.Value)
}
