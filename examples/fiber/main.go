// Fiber gates routes by DSS group with Fiber.
//
// Fiber is built on fasthttp, and not on net/http, so its requests are
// converted. This program shows both ways:
//
//   - Fiber's own routes and handlers (newApp), with middleware made of
//     [dssauth.Middleware.Authenticate] and of gates
//   - a whole net/http handler with its gates (newWholeApp), in one line
//
// Do not use adaptor.HTTPMiddleware: a value that a middleware puts into a
// request's context reaches neither Fiber's handlers nor the next gate.
//
// Without a DSS, start both of these, and sign in at
// http://127.0.0.1:11200/?redirect=http://127.0.0.1:8080/me:
//
//	go run ./dsstest/cmd/fakedss -addr 127.0.0.1:11200 -admin-key dev
//	DKU_DSS_URL=http://127.0.0.1:11200 DKU_API_KEY=dev go run ./examples/fiber
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
)

func newApp(auth *dssauth.Middleware) *fiber.App {
	app := fiber.New(config)
	app.Use(signedIn(auth)) // signed-in DSS users only, on every route
	app.Get("/me", me)
	app.Get("/report", gate(auth.RequireGroup("analysts")), report)
	admin := app.Group("/admin", gate(auth.RequireGroup("administrators")))
	admin.Get("/users/:login", user)
	return app
}

var config = fiber.Config{
	// Also the limit of a request's headers. The default is 4 KiB, and the cookies
	// of one host name can be larger.
	ReadBufferSize: 64 << 10,
	ReadTimeout:    10 * time.Second,
	IdleTimeout:    time.Minute,
}

// signedIn admits signed-in DSS users only.
func signedIn(auth *dssauth.Middleware) fiber.Handler {
	return func(c fiber.Ctx) error {
		r, err := adaptor.ConvertRequest(c, true)
		if err != nil {
			return fiber.ErrBadRequest
		}
		// Not fasthttp's context, which is used again for another request.
		if r, err = auth.Authenticate(r.WithContext(c.Context())); err != nil {
			return refuse(c, auth, err)
		}
		// Fiber's handlers find the identity in its context only.
		c.SetContext(r.Context())
		err = c.Next()
		private(c)
		return err
	}
}

// refuse answers as the Middleware's Handler does. It is also for the errors of
// ClientFromContext, and of calls of DSS as the visitor.
func refuse(c fiber.Ctx, auth *dssauth.Middleware, err error) error {
	return adaptor.HTTPHandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth.Refuse(w, r.WithContext(c.Context()), err)
	})(c)
}

// identifying are the headers that identify a visitor, see Config.Headers.
var identifying = []string{fiber.HeaderCookie, fiber.HeaderAuthorization}

// private keeps one visitor's answer out of shared caches, unless the handler
// sets Cache-Control itself. A refusal has "no-store".
func private(c fiber.Ctx) {
	switch said := c.GetRespHeader(fiber.HeaderCacheControl); {
	case strings.Contains(said, "no-store"):
		return
	case said == "":
		c.Set(fiber.HeaderCacheControl, "private")
	}
	c.Vary(identifying...)
}

// gate makes a Fiber middleware from one for net/http.
func gate(middleware func(http.Handler) http.Handler) fiber.Handler {
	return func(c fiber.Ctx) error {
		var admitted context.Context
		gated := middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			admitted = r.Context()
			clear(w.Header()) // Fiber's handler answers admitted requests
		}))
		err := adaptor.HTTPHandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			gated.ServeHTTP(w, r.WithContext(c.Context())) // the identity is in Fiber's
		})(c)
		if err != nil || admitted == nil {
			return err // refused: the answer is written
		}
		c.SetContext(admitted)
		err = c.Next()
		private(c)
		return err
	}
}

func me(c fiber.Ctx) error {
	id, ok := dssauth.FromContext(c.Context())
	if !ok { // only where the middleware did not run
		return fiber.ErrInternalServerError
	}
	return c.JSON(id)
}

func report(c fiber.Ctx) error {
	id, ok := dssauth.FromContext(c.Context())
	if !ok { // only where the middleware did not run
		return fiber.ErrInternalServerError
	}
	return c.SendString(fmt.Sprintf("the report, for %s\n", id.Login))
}

func user(c fiber.Ctx) error {
	id, ok := dssauth.FromContext(c.Context())
	if !ok { // only where the middleware did not run
		return fiber.ErrInternalServerError
	}
	return c.SendString(fmt.Sprintf("user %s, shown to %s\n", c.Params("login"), id.Login))
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "where to listen")
	flag.Parse()
	client, err := dss.FromEnv()
	if err != nil {
		log.Fatal(err)
	}
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(newApp(auth).Listen(*addr))
}
