package promises

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
)

const churnWarning = "MaxEntriesPerUser allows"

// bySession takes what comes before a dash in the cookie session for the login.
func bySession(_ context.Context, h http.Header) (dssauth.Identity, error) {
	r := http.Request{Header: h}
	c, err := r.Cookie("session")
	if err != nil {
		return dssauth.Identity{}, dssauth.ErrUnauthenticated
	}
	login, _, _ := strings.Cut(c.Value, "-")
	return dssauth.NewIdentity(login), nil
}

func TestCookiesThatChangeAreNamedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBook
		m := newAuth(t, dssauth.Config{Resolver: resolveFunc(bySession), Logger: log.logger()})
		visit := func(i int) {
			cookies := fmt.Sprintf("session=ann-s3cret; theme=dark; zz_trace=t%d; affinity=a%d; nameless-%d", i, i, i)
			require.Equal(t, 200, serve(m.Handler(whoami), request("GET", "/", "Cookie", cookies)).Code)
		}
		for i := range 9 {
			visit(i)
		}
		synctest.Wait()
		assert.Empty(t, log.with(churnWarning), "eight answers may be a user's")
		for i := range 20 {
			visit(100 + i)
		}
		synctest.Wait() // the line is written once the visitor has the answer
		lines := log.with(churnWarning)
		require.Len(t, lines, 1)
		assert.Contains(t, lines[0], "affinity zz_trace")
		for _, secret := range []string{"s3cret", "ann", "theme", "dark", "nameless-", "=t", "a100", "t100"} {
			assert.NotContains(t, strings.SplitN(lines[0], "msg=", 2)[1], secret)
		}
		assert.Equal(t, 8, m.Stats().Entries)
		assert.EqualValues(t, 21, m.Stats().Evictions)
	})
}

func TestBareValuesThatChangeAreNotLogged(t *testing.T) {
	for name, cookie := range map[string]string{
		"a bare value": "c4n4ry-%d",
		"a bare value in base64, which ends with =":   "dHJhY2UtYzRuNHJ5LWlk%dQ=",
		"a bare value in base64, which ends with ==":  "dHJhY2UtYzRuNHJ5LWlkLT%d==",
		"a random name with a value":                  "dHJhY2UtYzRuNHJ5LWlk%d=1",
		"a name with a space":                         "c4n4ry trace%d=1",
		"a name as long as a value":                   "trace_c4n4ry_trace_trace_trace_trace_trace_trace%d=1",
		"a bare value beside others, which stay same": "dHJhY2UtYzRuNHJ5LWlk%dQ=; dHJhY2UtYzRuNHJ5=; c4n4ry",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logBook
				m := newAuth(t, dssauth.Config{Resolver: resolveFunc(bySession), Logger: log.logger()})
				for i := range 20 {
					r := request("GET", "/", "Cookie", fmt.Sprintf("session=ann-s3cret; theme=%d; "+cookie, i, i))
					require.Equal(t, 200, serve(m.Handler(whoami), r).Code)
				}
				synctest.Wait() // the line is written once the visitor has the answer
				lines := log.with(churnWarning)
				require.Len(t, lines, 1)
				assert.Contains(t, lines[0], `"(name not shown) theme"`)
				assert.NotContains(t, lines[0], "c4n4ry")
				assert.NotContains(t, lines[0], "dHJhY2")
			})
		})
	}
}

func TestChangeOfOneOfSeveralCookiesIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBook
		m := newAuth(t, dssauth.Config{Resolver: resolveFunc(bySession), Logger: log.logger()})
		for i := range 20 {
			r := request("GET", "/", "Cookie", fmt.Sprintf("session=ann-s3cret; trace=%d; trace=same", i))
			require.Equal(t, 200, serve(m.Handler(whoami), r).Code)
		}
		synctest.Wait() // the line is written once the visitor has the answer
		lines := log.with(churnWarning)
		require.Len(t, lines, 1)
		assert.Contains(t, lines[0], "changing=trace")
	})
}

func TestSessionsThatAreRefreshedAreNoChurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBook
		m := newAuth(t, dssauth.Config{Resolver: resolveFunc(bySession), Logger: log.logger()})
		for range 20 {
			for i := range 8 {
				r := request("GET", "/", "Cookie", fmt.Sprintf("session=ann-%d", i))
				require.Equal(t, 200, serve(m.Handler(whoami), r).Code)
			}
			pass(4 * time.Second)
		}
		assert.Greater(t, m.Stats().Identified, uint64(40), "nothing was refreshed")
		assert.Empty(t, log.with(churnWarning))
	})
}

func TestSessionsThatCameAndWentAreNoChurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBook
		m := newAuth(t, dssauth.Config{Resolver: resolveFunc(bySession), Logger: log.logger()})
		for i := range 50 {
			r := request("GET", "/", "Cookie", fmt.Sprintf("session=ann-%d", i))
			require.Equal(t, 200, serve(m.Handler(whoami), r).Code)
			pass(2 * time.Second)
		}
		assert.Empty(t, log.with(churnWarning))
	})
}

func TestManyUsersAreNoChurn(t *testing.T) {
	var log logBook
	m := newAuth(t, dssauth.Config{Resolver: resolveFunc(bySession), Logger: log.logger()})
	for i := range 1000 {
		r := request("GET", "/", "Cookie", fmt.Sprintf("session=user%d-%d", i, i))
		require.Equal(t, 200, serve(m.Handler(whoami), r).Code)
	}
	assert.Empty(t, log.with(churnWarning))
}
