package promises

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
)

// A load balancer may send a new cookie with each answer. It is dropped, so the
// visitor is known without a lookup.
func TestStrayCookieThatChangesCostsNoLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known := newDoorman()
		m := newAuth(t, dssauth.Config{Resolver: known})
		for i := range 1000 {
			for _, r := range []*http.Request{
				request("GET", "/", "Cookie", fmt.Sprintf("AWSALB=%d; session=ann", i)),
				request("GET", "/", "Cookie", fmt.Sprintf("session=ann; AWSALB=%d", i)),
				request("GET", "/", "Cookie", "session=ann", "Cookie", fmt.Sprint("AWSALB=", i)),
			} {
				require.Equal(t, "ann", who(m, r))
			}
			require.Equal(t, "bob", who(m, request("GET", "/", "Cookie", fmt.Sprintf("AWSALB=%d; session=bob", i))))
		}
		assert.Equal(t, 2, known.calls())
		assert.Equal(t, http.Header{"Cookie": {"session=bob"}}, known.lastAsked())

		// Their answers do not live longer either.
		known.is("session=ann", dssauth.NewIdentity("carol"))
		pass(10 * time.Second)
		assert.Equal(t, "carol", who(m, request("GET", "/", "Cookie", "AWSALB=new; session=ann")))
	})
}

func TestStrayCookieThatChangesIsRefreshedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known := newDoorman()
		m := newAuth(t, dssauth.Config{Resolver: known})
		for i := range 60 {
			require.Equal(t, "ann", who(m, request("GET", "/", "Cookie", fmt.Sprintf("AWSALB=%d; session=ann", i))))
			synctest.Wait()
			pass(time.Second)
		}
		assert.LessOrEqual(t, known.calls(), 10, "one in the 6.3 s after which an answer is refreshed")
	})
}

// Cookies that are not sent to DSS count only as arriving bytes, and four times as many
// arriving bytes are accepted.
func TestDroppedCookiesDoNotLockVisitorsOut(t *testing.T) {
	const most = 16 << 10
	tests := []struct {
		name    string
		cookies []string // Config.Cookies
		headers []string
		says    string // the refusal; "" admits ann
	}{
		{"as many as allowed, and a byte more", nil, []string{"Cookie", "session=ann; _ga=" + strings.Repeat("x", 4*most-17+1)}, "4 times Config.MaxHeaderBytes (16384)"},
		{"so many headers of them", nil, append(slices.Repeat([]string{"Cookie", "_ga=" + strings.Repeat("x", most-4)}, 4), "Cookie", "session=ann"), "4 times Config.MaxHeaderBytes (16384)"},
		{"an API key beside as many as allowed", nil, []string{"Cookie", "_ga=" + strings.Repeat("x", 4*most-4), "Authorization", "Bearer key"}, "4 times Config.MaxHeaderBytes (16384)"},
		{"cookies to send of a byte too much", nil, []string{"Cookie", "session=ann; b=" + strings.Repeat("x", most-15+1)}, "more than Config.MaxHeaderBytes (16384)"},
		{"those in two headers", nil, []string{"Cookie", "session=ann", "Cookie", "b=" + strings.Repeat("x", most-15+1)}, "more than Config.MaxHeaderBytes (16384)"},
		{"a cookie and an API key of a byte too much", nil, []string{"Cookie", "session=ann", "Authorization", strings.Repeat("x", most-11+1)}, "more than Config.MaxHeaderBytes (16384)"},
		{"an API key of 20 kB", nil, []string{"Cookie", "session=ann", "Authorization", strings.Repeat("x", 20_000)}, "more than Config.MaxHeaderBytes (16384)"},

		{"20 kB of an analytics service", nil, []string{"Cookie", "_ga=" + strings.Repeat("x", 20_000) + "; session=ann"}, ""},
		{"20 kB of other applications", []string{"session"}, []string{"Cookie", "other=" + strings.Repeat("x", 20_000) + "; session=ann"}, ""},
		{"20 kB of many other applications", []string{"session"}, []string{"Cookie", strings.Repeat("other=xxxxxxxxxxxx; ", 1000) + "session=ann"}, ""},
		{"20 kB that JSON cannot carry", nil, []string{"Cookie", "other=\xff" + strings.Repeat("x", 20_000) + "; session=ann"}, ""},
		{"20 kB in two headers", nil, []string{"Cookie", "_ga=" + strings.Repeat("x", 10_000), "Cookie", "session=ann", "Cookie", "_gid=" + strings.Repeat("x", 10_000)}, ""},
		{"as many as allowed", nil, []string{"Cookie", "session=ann; _ga=" + strings.Repeat("x", 4*most-17)}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			known := newDoorman()
			var refused error
			m := newAuth(t, dssauth.Config{Resolver: known, Cookies: tt.cookies, OnError: func(w http.ResponseWriter, r *http.Request, err error) {
				refused = err
				dssauth.WriteRefusal(w, r, err)
			}})
			for range 3 {
				w := serve(m.Handler(whoami), request("GET", "/", tt.headers...))
				if tt.says != "" {
					assert.Equal(t, 431, w.Code)
					assert.ErrorIs(t, refused, dssauth.ErrTooLarge)
					assert.ErrorContains(t, refused, tt.says)
					assert.Zero(t, known.calls(), "DSS was asked")
					continue
				}
				require.Equal(t, 200, w.Code, refused)
				assert.Equal(t, "ann", w.Body.String())
				assert.Equal(t, 1, known.calls())
				assert.Equal(t, http.Header{"Cookie": {"session=ann"}}, known.lastAsked())
			}
		})
	}
}

// Text that visitors share is in memory once, and kept text is a copy: a Resolver may
// cut its answer out of the headers, or out of memory that it uses again.
func TestAnswersShareTextAndOwnTheirMemory(t *testing.T) {
	memory := reused("ann;DESIGNER;USER_FROM_UI;analysts;Ann A.;ann@example.com")
	resolve := resolveFunc(func(_ context.Context, h http.Header) (dssauth.Identity, error) {
		if h.Get("Cookie") == "session=bob" {
			memory.becomes("bob;DESIGNER;USER_FROM_UI;analysts;Bob B.;bob@example.com")
		}
		words := strings.Split(memory.string(), ";")
		id := dssauth.NewIdentity(words[0], words[3])
		id.Profile, id.Source, id.DisplayName, id.Email = words[1], words[2], words[4], words[5]
		return id, nil
	})
	m := newAuth(t, dssauth.Config{Resolver: resolve, TTL: time.Hour})
	visitor := func(r *http.Request) dssauth.Identity {
		r, err := m.Authenticate(r)
		require.NoError(t, err)
		id, ok := dssauth.FromContext(r.Context())
		require.True(t, ok)
		return id
	}
	visitor(fromAnn())
	bob := visitor(fromBob())
	memory.becomes(strings.Repeat("?", len(memory)))
	ann := visitor(fromAnn())
	for id, want := range map[*dssauth.Identity][3]string{&ann: {"ann", "Ann A.", "ann@example.com"}, &bob: {"bob", "Bob B.", "bob@example.com"}} {
		assert.Equal(t, want, [3]string{id.Login, id.DisplayName, id.Email})
		assert.Equal(t, "DESIGNER", id.Profile)
		assert.Equal(t, "USER_FROM_UI", id.Source)
		assert.Equal(t, []string{"analysts"}, id.Groups())
		assert.True(t, id.InGroup("analysts"))
	}
	for what, pair := range map[string][2]string{
		"profile": {ann.Profile, bob.Profile}, "source": {ann.Source, bob.Source}, "group": {ann.Groups()[0], bob.Groups()[0]},
	} {
		assert.Same(t, unsafe.StringData(pair[0]), unsafe.StringData(pair[1]), what)
	}
}

// A hundred visitors with the same groups take hardly more memory than one.
func TestSharedGroupsAreKeptOnce(t *testing.T) {
	const visitors, groups, bytes = 100, 100, 400
	resolve := resolveFunc(func(_ context.Context, h http.Header) (dssauth.Identity, error) {
		names := make([]string, groups)
		for i := range names {
			names[i] = fmt.Sprintf("%0*d", bytes, i)
		}
		return dssauth.NewIdentity(strings.TrimPrefix(h.Get("Cookie"), "session="), names...), nil
	})
	m := newAuth(t, dssauth.Config{Resolver: resolve, TTL: time.Hour})
	heap := func() int {
		var s runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&s)
		return int(s.HeapAlloc)
	}
	before := heap()
	for i := range visitors {
		login := fmt.Sprint("user", i)
		require.Equal(t, login, who(m, request("GET", "/", "Cookie", "session="+login)))
		if i%10 == 0 {
			runtime.GC()
		}
	}
	assert.Less(t, heap()-before, visitors*groups*bytes/10, "bytes")
	assert.Equal(t, visitors, m.Stats().Entries)
}
