package main

import (
	"net/http"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/examples/internal/routertest"
)

// Each route refuses anonymous visitors, except those named after routes.
func TestNoRouteForgotten(t *testing.T) {
	auth, err := dssauth.New(dssauth.Config{Client: dsstest.NewServer(t).Client()})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, auth.Close()) })
	router := newRouter(auth)
	dsstest.NoRouteForgotten(t, router, routesOf(t, router))
}

func routesOf(t *testing.T, router chi.Routes) (routes []string) {
	require.NoError(t, chi.Walk(router, func(method, pattern string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		routes = append(routes, method+" "+pattern)
		return nil
	}))
	return routes
}

func TestForgottenRouteIsFound(t *testing.T) {
	auth := routertest.NewAuth(t)
	router := chi.NewRouter()
	router.Get("/healthz", open)
	router.Get("/forgotten/{id:[0-9]{3}}/*", open)
	router.With(auth.Handler).Handle("/me/{id}", http.HandlerFunc(me))
	routertest.FailsForgotten(t, router, routesOf(t, router), "GET /healthz", "GET /forgotten/{id:[0-9]{3}}/*")
}

func open(http.ResponseWriter, *http.Request) {}
