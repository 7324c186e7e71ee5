package promises

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
)

// doorman is a Resolver that knows visitors by the bytes of their headers.
type doorman struct {
	mu    sync.Mutex
	known map[string]dssauth.Identity
	err   error // answered to everybody, if set
	asked []http.Header
}

// newDoorman knows ann and bob, by the cookies session=ann and session=bob,
// and an API key without a user, by "Bearer key".
func newDoorman() *doorman {
	return &doorman{known: map[string]dssauth.Identity{
		"session=ann": dssauth.NewIdentity("ann", "analysts", "readers"),
		"session=bob": dssauth.NewIdentity("bob", "readers"),
		"Bearer key":  {APIKeyID: "key-id"},
	}}
}

func (d *doorman) Resolve(_ context.Context, h http.Header) (dssauth.Identity, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, h)
	if d.err != nil {
		return dssauth.Identity{}, d.err
	}
	for _, name := range []string{"Cookie", "Authorization"} {
		if id, ok := d.known[h.Get(name)]; ok {
			return id, nil
		}
	}
	return dssauth.Identity{}, fmt.Errorf("the doorman: %w", dssauth.ErrUnauthenticated)
}

// calls returns how often the doorman was asked.
func (d *doorman) calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.asked)
}

// lastAsked returns the last headers that the doorman got.
func (d *doorman) lastAsked() http.Header {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[len(d.asked)-1]
}

// is makes the bearer of a header another user from now on.
func (d *doorman) is(header string, id dssauth.Identity) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known[header] = id
}

// fails makes err the answer to everybody.
func (d *doorman) fails(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

// resolveFunc is a Resolver made of a function.
type resolveFunc func(context.Context, http.Header) (dssauth.Identity, error)

func (f resolveFunc) Resolve(ctx context.Context, h http.Header) (dssauth.Identity, error) {
	return f(ctx, h)
}

// newDoormanWithOutage is newDoorman, but DSS has no answer about session=outage.
func newDoormanWithOutage() dssauth.Resolver {
	known := newDoorman()
	return resolveFunc(func(ctx context.Context, h http.Header) (dssauth.Identity, error) {
		if h.Get("Cookie") == "session=outage" {
			return dssauth.Identity{}, errors.New("DSS is down")
		}
		return known.Resolve(ctx, h)
	})
}

// newAuth makes a Middleware that ends with the test. Without c.Logger it logs nothing.
func newAuth(t testing.TB, c dssauth.Config) *dssauth.Middleware {
	t.Helper()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := dssauth.New(c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// request is a request with some headers: name, value, name, value.
func request(method, target string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// fromAnn is a request of ann's browser.
func fromAnn() *http.Request { return request("GET", "/", "Cookie", "session=ann") }

// fromBob is a request of bob's browser.
func fromBob() *http.Request { return request("GET", "/", "Cookie", "session=bob") }

// serve returns h's answer to r.
func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// whoami answers with the visitor's login, "an API key" or "nobody".
var whoami = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	id, ok := dssauth.FromContext(r.Context())
	switch {
	case !ok:
		fmt.Fprint(w, "nobody")
	case id.Login == "":
		fmt.Fprint(w, "an API key")
	default:
		fmt.Fprint(w, id.Login)
	}
})

// unreachable fails the test when it is reached.
func unreachable(t testing.TB) http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s reached the handler", r.Method, r.URL)
	})
}
