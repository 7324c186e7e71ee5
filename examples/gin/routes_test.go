package main

import (
	"net/http"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/examples/internal/routertest"
)

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
