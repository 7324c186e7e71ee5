package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gorilla/mux"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/examples/internal/routertest"
)

func TestRouter(t *testing.T) { routertest.Run(t, newRouter) }

// docs/frameworks.md describes this for routes that do not exist.
func TestUseRunsForRoutesOnly(t *testing.T) {
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
		if host, err := route.GetHostTemplate(); err == nil {
			pattern = host + pattern
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

// The same path can be open at one host, and closed at the others.
func TestForgottenRouteOfAHostIsFound(t *testing.T) {
	auth := routertest.NewAuth(t)
	router := mux.NewRouter()
	router.Host("{tenant:[a-z]+}.example").Path("/me").HandlerFunc(open)
	status := router.Host("status.example.com").Subrouter()
	status.HandleFunc("/me", open)
	router.Handle("/me", auth.Handler(http.HandlerFunc(me)))
	routertest.FailsForgotten(t, router, routesOf(t, router), "status.example.com/me", "{tenant:[a-z]+}.example/me")
}

func open(http.ResponseWriter, *http.Request) {}
