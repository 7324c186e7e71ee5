package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/examples/internal/routertest"
)

func TestRouter(t *testing.T) {
	// Authenticate has no response, so it does not clear the marks.
	routertest.RunServer(t, routertest.KeepsMarks, server(newApp))
}

func TestGatesOnly(t *testing.T) {
	routertest.RunServer(t, routertest.KeepsMarks, server(newGatedApp))
}

func TestWholeHandler(t *testing.T) {
	routertest.RunServer(t, routertest.ClearsMarks, server(newWholeApp))
}

// server serves an app on fasthttp, and returns its URL.
func server(newApp func(*dssauth.Middleware) *fiber.App) routertest.Server {
	return func(t *testing.T, auth *dssauth.Middleware, secure *tls.Config) string {
		app := newApp(auth)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		url := "http://" + listener.Addr().String()
		if secure != nil {
			listener, url = tls.NewListener(listener, secure), "https://"+listener.Addr().String()
		}
		ended := make(chan error, 1)
		go func() { ended <- app.Listener(listener, fiber.ListenConfig{DisableStartupMessage: true}) }()
		t.Cleanup(func() {
			assert.NoError(t, app.Shutdown())
			assert.NoError(t, <-ended)
		})
		return url
	}
}

// visit puts one request of ann to an app whose routes are made by add.
func visit(t *testing.T, cookie string, add func(*fiber.App, *dssauth.Middleware)) *http.Response {
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"analysts"}})
	auth, err := dssauth.New(dssauth.Config{Client: fake.Client()})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, auth.Close()) })
	url := server(func(auth *dssauth.Middleware) *fiber.App {
		app := fiber.New(config)
		add(app, auth)
		return app
	})(t, auth, nil)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/visit", nil)
	require.NoError(t, err)
	session := fake.SignIn("ann")
	r.Header.Set("Cookie", session.Name+"="+session.Value+cookie)
	resp, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

type key struct{}

func TestContextReachesTheHandler(t *testing.T) {
	for name, gated := range map[string]func(*dssauth.Middleware) []any{
		"by Authenticate":            func(a *dssauth.Middleware) []any { return []any{signedIn(a)} },
		"by a gate":                  func(a *dssauth.Middleware) []any { return []any{gate(a.Handler)} },
		"by Authenticate and a gate": func(a *dssauth.Middleware) []any { return []any{signedIn(a), gate(a.RequireGroup("analysts"))} },
	} {
		t.Run(name, func(t *testing.T) {
			var before any
			var login string
			resp := visit(t, "", func(app *fiber.App, auth *dssauth.Middleware) {
				app.Use(func(c fiber.Ctx) error {
					c.SetContext(context.WithValue(c.Context(), key{}, "from before"))
					return c.Next()
				})
				app.Use(gated(auth)...)
				app.Get("/visit", func(c fiber.Ctx) error {
					id, ok := dssauth.FromContext(c.Context())
					if !ok {
						return fiber.ErrInternalServerError
					}
					before, login = c.Context().Value(key{}), id.Login
					return nil
				})
			})
			assert.Equal(t, http.StatusOK, resp.StatusCode)
			assert.Equal(t, "from before", before)
			assert.Equal(t, "ann", login)
		})
	}
}

// The package comment warns of this. If this test fails, the warning can be
// removed.
func TestHTTPMiddlewareLosesTheContext(t *testing.T) {
	found := true
	resp := visit(t, "", func(app *fiber.App, auth *dssauth.Middleware) {
		app.Use(adaptor.HTTPMiddleware(auth.Handler))
		app.Get("/visit", func(c fiber.Ctx) error {
			_, found = dssauth.FromContext(c.Context())
			return nil
		})
	})
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	assert.False(t, found)
}

func TestAnswersArePrivate(t *testing.T) {
	for name, row := range map[string]struct{ said, want string }{
		"a handler without Cache-Control": {"", "private"},
		"a handler with public":           {"public, max-age=60", "public, max-age=60"},
		"a handler with no-store":         {"no-store", "no-store"},
	} {
		t.Run(name, func(t *testing.T) {
			resp := visit(t, "", func(app *fiber.App, auth *dssauth.Middleware) {
				app.Use(signedIn(auth))
				app.Get("/visit", func(c fiber.Ctx) error {
					if row.said != "" {
						c.Set("Cache-Control", row.said)
					}
					c.Vary("Accept")
					return c.SendString("hello")
				})
			})
			assert.Equal(t, []string{row.want}, resp.Header["Cache-Control"])
			vary := []string{"Accept, Cookie, Authorization"}
			if row.said == "no-store" {
				vary = []string{"Accept"}
			}
			assert.Equal(t, vary, resp.Header["Vary"])
		})
	}
}

func TestLargeCookiesAreAccepted(t *testing.T) {
	resp := visit(t, "; other="+strings.Repeat("x", 12<<10), func(app *fiber.App, auth *dssauth.Middleware) {
		app.Get("/visit", signedIn(auth), me)
	})
	assert.Equal(t, http.StatusOK, resp.StatusCode)
}

// docs/frameworks.md describes this for equal header lines. If this test fails,
// Fiber passes all of them on, and two different ones are a 400 as elsewhere.
func TestLastOfEqualHeaderLinesCounts(t *testing.T) {
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "ann"})
	fake.AddAPIKey("key-of-ann", "ann")
	auth, err := dssauth.New(dssauth.Config{Client: fake.Client()})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, auth.Close()) })
	url := server(newApp)(t, auth, nil)
	for _, row := range []struct {
		lines  []string
		status int
	}{
		{[]string{"Bearer wrong", "Bearer key-of-ann"}, http.StatusOK},
		{[]string{"Bearer key-of-ann", "Bearer wrong"}, http.StatusUnauthorized},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/me", nil)
		require.NoError(t, err)
		r.Header["Authorization"] = row.lines
		resp, err := http.DefaultTransport.RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, row.status, resp.StatusCode, row.lines)
		assert.Equal(t, row.lines[1], fake.LastBrowserHeaders()["Authorization"])
	}
}

// A middleware in front of the others learns the visitor, and why a gate refused.
func TestAccessOfAMiddlewareInFront(t *testing.T) {
	told := make(chan string, 1)
	resp := visit(t, "", func(app *fiber.App, auth *dssauth.Middleware) {
		app.Use(func(c fiber.Ctx) error {
			ctx, access := dssauth.WithAccess(c.Context())
			c.SetContext(ctx)
			err := c.Next()
			told <- access.LogValue().String()
			return err
		})
		app.Use(signedIn(auth))
		app.Get("/visit", gate(auth.RequireGroup("administrators")), open)
	})
	assert.Equal(t, 403, resp.StatusCode)
	assert.Equal(t, "[login=ann reason=dssauth: not allowed: the visitor is in none of the required groups]", <-told)
}

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
