package main

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/examples/internal/routertest"
)

func TestRouter(t *testing.T) {
	routertest.Run(t, func(auth *dssauth.Middleware) http.Handler { return newRouter(auth) })
}

func TestReport(t *testing.T) {
	fake := dsstest.NewServer(t) // a fake DSS
	fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"analysts"}})
	auth, err := dssauth.New(dssauth.Config{Client: fake.Client()})
	require.NoError(t, err)
	r, w := httptest.NewRequest("GET", "/report", nil), httptest.NewRecorder()
	r.AddCookie(fake.SignIn("ann")) // without it: 401; without the group: 403; with fake.SetDown(true) before the request: 503
	newRouter(auth).ServeHTTP(w, r)
	assert.Equal(t, http.StatusOK, w.Code)
	require.NoError(t, auth.Close())
}

func TestEventsEndWithTheSession(t *testing.T) {
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"analysts"}})
	auth, err := dssauth.New(dssauth.Config{Client: fake.Client()})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, auth.Close()) })
	server := httptest.NewServer(newRouter(auth))
	t.Cleanup(server.Close)

	ann := fake.SignIn("ann")
	r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/events", nil)
	require.NoError(t, err)
	r.AddCookie(ann)
	reply, err := server.Client().Do(r)
	require.NoError(t, err)
	defer reply.Body.Close()
	assert.Equal(t, "text/event-stream", reply.Header.Get("Content-Type"))
	lines := bufio.NewScanner(reply.Body)
	require.True(t, lines.Scan())
	assert.Regexp(t, `^data: \d\d:\d\d:\d\d$`, lines.Text())

	fake.SignOut(ann)
	auth.ForgetUser("ann") // or else it takes up to Config.TTL
	for lines.Scan() {
	}
	assert.NoError(t, lines.Err(), "the stream ended by itself")
}

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
