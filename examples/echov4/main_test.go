package main

import (
	"net/http"
	"testing"

	"github.com/labstack/echo/v4"

	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/examples/internal/routertest"
)

func TestRouter(t *testing.T) { routertest.Run(t, newRouter) }

// Each route refuses anonymous visitors, except those named after routes.
func TestNoRouteForgotten(t *testing.T) {
	auth := routertest.NewAuth(t)
	router := newRouter(auth).(*echo.Echo)
	dsstest.NoRouteForgotten(t, router, routesOf(router))
}

func routesOf(router *echo.Echo) (routes []string) {
	for _, route := range router.Routes() {
		if route.Method != echo.RouteNotFound { // a group's answer for a path without a route
			routes = append(routes, route.Method+" "+route.Path)
		}
	}
	return routes
}

func TestForgottenRouteIsFound(t *testing.T) {
	auth := routertest.NewAuth(t)
	router := echo.New()
	router.GET("/healthz", open)
	router.PUT("/forgotten/:id/*", open)
	router.Group("/me", echo.WrapMiddleware(auth.Handler)).GET("/:id", me)
	routertest.FailsForgotten(t, router, routesOf(router), "GET /healthz", "PUT /forgotten/:id/*")
}

func open(c echo.Context) error { return c.NoContent(http.StatusOK) }
