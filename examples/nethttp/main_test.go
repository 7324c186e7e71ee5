package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/examples/internal/routertest"
)

func TestRouter(t *testing.T) { routertest.Run(t, newRouter) }

// Each route refuses anonymous visitors, except those named after routes.
func TestNoRouteForgotten(t *testing.T) {
	auth, err := dssauth.New(dssauth.Config{Client: dsstest.NewServer(t).Client()})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, auth.Close()) })
	// A ServeMux does not list its patterns.
	routes := []string{"GET /me", "GET /report", "GET /admin/users/{login}"}
	dsstest.NoRouteForgotten(t, newRouter(auth), routes)
}
