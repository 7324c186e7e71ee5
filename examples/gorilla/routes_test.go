package main

import (
	"net/http"
	"testing"

	"github.com/gorilla/mux"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/examples/internal/routertest"
)

// Each route refuses anonymous visitors, except those named after routes.
func TestNoRouteForgotten(t *testing.T) {
	auth := routertest.NewAuth(t)
	router := newRouter(auth).(*mux.Router)
	dsstest.NoRouteForgotten(t, router, routesOf(t, router))
}

func routesOf(t *testing.T, router *mux.Router) (routes []string) {
	require.NoError(t, router.Walk(func(route *mux.Route, _ *mux.Router, _ []*mux.Route) error {
		if route.GetHandler() == nil {
			return nil // a subrouter; its routes follow
		}
		pattern, err := route.GetPathTemplate()
		if err != nil {
			return err
		}
		methods, err := route.GetMethods()
		if err != nil {
			routes = append(routes, pattern) // any method
		}
		for _, method := range methods {
			routes = append(routes, method+" "+pattern)
		}
		return nil
	}))
	return routes
}

func TestForgottenRouteIsFound(t *testing.T) {
	auth := routertest.NewAuth(t)
	router := mux.NewRouter()
	router.HandleFunc("/healthz", open)
	router.PathPrefix("/forgotten").Subrouter().HandleFunc("/{id:[0-9]{3}}", open).Methods("PUT")
	router.Handle("/me/{id}", auth.Handler(http.HandlerFunc(me)))
	routertest.FailsForgotten(t, router, routesOf(t, router), "/healthz", "PUT /forgotten/{id:[0-9]{3}}")
}

func open(http.ResponseWriter, *http.Request) {}
