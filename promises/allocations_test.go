//go:build !race

// The race detector allocates, so these tests run without it: .ci/run has a step for that.

package promises

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
)

// An access log costs only its own allocations, and the Middleware makes none for it.
func TestAccessLogCostsOnlyItsOwnAllocations(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: newDoorman()})
	h := m.Handler(m.RequireGroup("analysts")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	w := httptest.NewRecorder()
	admit := func(r *http.Request) {
		clear(w.Header())
		h.ServeHTTP(w, r)
	}
	r := fromAnn()
	require.Equal(t, "true ann 200", accessOf(h, r))
	assert.LessOrEqual(t, testing.AllocsPerRun(1000, func() { admit(r) }), 1.0)
	logged := func() {
		ctx, _ := dssauth.WithAccess(r.Context())
		admit(r.WithContext(ctx))
	}
	assert.LessOrEqual(t, testing.AllocsPerRun(1000, logged), 4.0, "an Access, a context and a copy of the request besides")
}

func TestHitAllocatesOnce(t *testing.T) {
	check := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if id, ok := dssauth.FromContext(r.Context()); !ok || id.Login != "ann" {
			t.Error("not ann")
		}
	})
	w := httptest.NewRecorder()
	admit := func(h http.Handler, r *http.Request) {
		clear(w.Header()) // each response begins without headers
		h.ServeHTTP(w, r)
	}
	for name, r := range map[string]*http.Request{
		"plain":              fromAnn(),
		"with stray cookies": request("GET", "/", "Cookie", "_ga=1; session=ann"),
		"in two headers":     request("GET", "/", "Cookie", "_ga=1", "Cookie", "session=ann"),
	} {
		// The first request asks DSS, the second one makes an alias for its
		// stray cookies.
		m := newAuth(t, dssauth.Config{Resolver: newDoorman()})
		h := m.Handler(m.RequireGroup("analysts")(check))
		admit(h, r)
		admit(h, r)
		assert.LessOrEqual(t, testing.AllocsPerRun(1000, func() { admit(h, r) }), 1.0, name)
		assert.Equal(t, http.Header{"Cache-Control": {"private"}, "Vary": {"Cookie", "Authorization"}}, w.Header())

		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 1000 {
			admit(h, r)
		}
		runtime.ReadMemStats(&after)
		assert.LessOrEqual(t, (after.TotalAlloc-before.TotalAlloc)/1000, uint64(368), name)
	}
}

func TestGatesAllocateNothing(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: newDoorman()})
	r, err := m.Authenticate(fromAnn())
	require.NoError(t, err)
	gate := m.RequireGroup("others", "analysts")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	assert.Zero(t, testing.AllocsPerRun(1000, func() { gate.ServeHTTP(nil, r) }))
}

func TestHitWithChangingCookieAllocatesOnce(t *testing.T) {
	for _, size := range []int{100, 350, 1536, 2000} {
		known := newDoorman()
		kept := "session=ann; prefs=" + strings.Repeat("x", size)
		known.is(kept, dssauth.NewIdentity("ann", "analysts"))
		m := newAuth(t, dssauth.Config{Resolver: known})
		reached := 0
		h := m.Handler(m.RequireGroup("analysts")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ })))
		var requests []*http.Request
		for i := range 2002 {
			requests = append(requests, request("GET", "/", "Cookie", fmt.Sprintf("AWSALB=%d; %s", i, kept)))
		}
		w := httptest.NewRecorder()
		admit := func() {
			clear(w.Header())
			h.ServeHTTP(w, requests[reached])
		}
		admit() // asks
		// One request in a second also makes an alias.
		assert.InDelta(t, 1, testing.AllocsPerRun(2000, admit), 0.01, "%d bytes of cookies", size)
		assert.Equal(t, 2002, reached)
		assert.Equal(t, 1, known.calls())
	}
}
