package routertest

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

// NewAuth returns a Middleware whose fake DSS has no users.
func NewAuth(t *testing.T) *dssauth.Middleware {
	t.Helper()
	auth, err := dssauth.New(dssauth.Config{Client: dsstest.NewServer(t).Client()})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, auth.Close()) })
	return auth
}

// FailsForgotten tries the routes of a router. Two of them are open to
// everybody: the pattern open is named as such, and the pattern forgotten is
// not.
func FailsForgotten(t *testing.T, router http.Handler, routes []string, open, forgotten string) {
	t.Helper()
	assert.Greater(t, len(routes), 2, "none is protected")
	f := &failing{TB: t}
	dsstest.NoRouteForgotten(f, router, routes, open)
	require.Len(t, f.told, 1, "%q", f.told)
	assert.Contains(t, f.told[0], forgotten+": an anonymous visitor gets 200 OK")
}

// failing keeps a test's failures.
type failing struct {
	testing.TB
	told []string
}

func (f *failing) Errorf(format string, args ...any) {
	f.told = append(f.told, fmt.Sprintf(format, args...))
}
