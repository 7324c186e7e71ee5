package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/examples/internal/routertest"
)

func TestRouter(t *testing.T) { routertest.Run(t, newRouter) }

// docs/frameworks.md describes this for routes that do not exist.
func TestUseIsForRoutesOnly(t *testing.T) {
	auth, err := dssauth.New(dssauth.Config{Client: dsstest.NewServer(t).Client()})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, auth.Close()) })
	for _, row := range []struct {
		method, path     string
		byUse, byHandler int
	}{
		{"GET", "/nowhere", http.StatusNotFound, http.StatusUnauthorized},
		{"POST", "/report", http.StatusMethodNotAllowed, http.StatusUnauthorized},
		{"GET", "/report", http.StatusUnauthorized, http.StatusUnauthorized},
	} {
		r := newRouter(auth)
		for _, tt := range []struct {
			app    http.Handler
			status int
		}{{r, row.byUse}, {auth.Handler(r), row.byHandler}} {
			w := httptest.NewRecorder()
			tt.app.ServeHTTP(w, httptest.NewRequest(row.method, row.path, nil))
			assert.Equal(t, tt.status, w.Code, "%s %s", row.method, row.path)
		}
	}
}
