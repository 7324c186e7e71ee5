package main

import (
	"maps"
	"net/http"
	"slices"
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

// Routes in a map can be listed.
func TestForgottenRouteIsFound(t *testing.T) {
	auth := routertest.NewAuth(t)
	open := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	handlers := map[string]http.Handler{
		"GET /healthz":                  open,
		"PUT /forgotten/{id}/{rest...}": open,
		"/me/{id}":                      auth.Handler(http.HandlerFunc(me)),
	}
	mux := http.NewServeMux()
	for pattern, h := range handlers {
		mux.Handle(pattern, h)
	}
	routertest.FailsForgotten(t, mux, slices.Collect(maps.Keys(handlers)), "GET /healthz", "PUT /forgotten/{id}/{rest...}")
}
