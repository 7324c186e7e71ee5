package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/examples/internal/routertest"
)

func TestRouter(t *testing.T) { routertest.Run(t, newRouter) }

// This is the reason for wrap's Abort: gin calls the handler even if a
// middleware before it has answered. If this test fails, wrap does not need
// Abort.
func TestHandlerAnswersTooWithoutAbort(t *testing.T) {
	fake := dsstest.NewServer(t)
	auth, err := dssauth.New(dssauth.Config{Client: fake.Client()})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, auth.Close()) })
	ungated := func(c *gin.Context) {
		auth.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			c.Request = r
			c.Next()
		})).ServeHTTP(c.Writer, c.Request)
	}
	for name, row := range map[string]struct {
		middleware gin.HandlerFunc
		leaks      bool
	}{
		"with Abort":    {wrap(auth.Handler), false},
		"without Abort": {ungated, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := gin.New()
			r.GET("/report", row.middleware, func(c *gin.Context) { c.String(http.StatusOK, "the figures") })
			w := httptest.NewRecorder()
			r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/report", nil))
			assert.Equal(t, http.StatusUnauthorized, w.Code)
			assert.Equal(t, row.leaks, strings.Contains(w.Body.String(), "the figures"))
		})
	}
}

// Each route refuses anonymous visitors, except those named after routes.
func TestNoRouteForgotten(t *testing.T) {
	auth := routertest.NewAuth(t)
	router := newRouter(auth).(*gin.Engine)
	dsstest.NoRouteForgotten(t, router, routesOf(router))
}

func routesOf(router *gin.Engine) (routes []string) {
	for _, route := range router.Routes() {
		routes = append(routes, route.Method+" "+route.Path)
	}
	return routes
}

func TestForgottenRouteIsFound(t *testing.T) {
	auth := routertest.NewAuth(t)
	router := gin.New()
	router.GET("/healthz", open)
	router.PUT("/forgotten/:id/*rest", open)
	router.Group("/me", wrap(auth.Handler)).GET("/:id", me)
	routertest.FailsForgotten(t, router, routesOf(router), "GET /healthz", "PUT /forgotten/:id/*rest")
}

func open(c *gin.Context) { c.Status(http.StatusOK) }
