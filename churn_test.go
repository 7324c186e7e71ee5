package dssauth_test

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
	var log logBook
	m := newAuth(t, dssauth.Config{Resolver: resolveFunc(bySession), Logger: log.logger()})
	visit := func(i int) {
		cookies := fmt.Sprintf("session=ann-s3cret; theme=dark; zz_trace=t%d; affinity=a%d; nameless-%d", i, i, i)
		require.Equal(t, 200, serve(m.Handler(whoami), request("GET", "/", "Cookie", cookies)).Code)
	}
	for i := range 9 {
		visit(i)
	}
	assert.Empty(t, log.with(churnWarning), "eight answers may be a user's")
	for i := range 20 {
		visit(100 + i)
	}
	lines := log.with(churnWarning)
	require.Len(t, lines, 1)
	assert.Contains(t, lines[0], "affinity zz_trace")
	for _, secret := range []string{"s3cret", "ann", "theme", "dark", "nameless-", "=t", "a100", "t100"} {
		assert.NotContains(t, strings.SplitN(lines[0], "msg=", 2)[1], secret)
	}
	assert.Equal(t, 8, m.Stats().Entries)
	assert.EqualValues(t, 21, m.Stats().Evictions)
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
