package main

import (
	"testing"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"

	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/examples/internal/routertest"
)

// Each route refuses anonymous visitors, except those named after routes.
func TestNoRouteForgotten(t *testing.T) {
	auth := routertest.NewAuth(t)
	app := newApp(auth)
	dsstest.NoRouteForgotten(t, adaptor.FiberApp(app), routesOf(app))
}

func routesOf(app *fiber.App) (routes []string) {
	for _, route := range app.GetRoutes(true) { // without the routes of Use
		routes = append(routes, route.Method+" "+route.Path)
	}
	return routes
}

func TestForgottenRouteIsFound(t *testing.T) {
	auth := routertest.NewAuth(t)
	app := fiber.New()
	app.Post("/healthz", open)
	app.Put("/forgotten/:id<int>/*", open)
	app.Group("/me", signedIn(auth)).Get("/:id?", me)
	routertest.FailsForgotten(t, adaptor.FiberApp(app), routesOf(app), "POST /healthz", "PUT /forgotten/:id<int>/*")
}

func open(fiber.Ctx) error { return nil }
