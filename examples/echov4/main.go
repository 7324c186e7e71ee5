// Echov4 gates routes by DSS group with echo v4.
//
// Without a DSS, start both of these, and sign in at
// http://127.0.0.1:11200/?redirect=http://127.0.0.1:8080/me:
//
//	go run ./dsstest/cmd/fakedss -addr 127.0.0.1:11200 -admin-key dev
//	DKU_DSS_URL=http://127.0.0.1:11200 DKU_API_KEY=dev go run ./examples/echov4
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
)

func newRouter(auth *dssauth.Middleware) http.Handler {
	e := echo.New()
	e.Use(echo.WrapMiddleware(auth.Handler)) // signed-in DSS users only, on every route
	e.GET("/me", me)
	e.GET("/report", report, echo.WrapMiddleware(auth.RequireGroup("analysts")))
	admin := e.Group("/admin", echo.WrapMiddleware(auth.RequireGroup("administrators")))
	admin.GET("/users/:login", user)
	return e
}

func me(c echo.Context) error {
	id, ok := dssauth.FromContext(c.Request().Context())
	if !ok { // only where the middleware did not run
		return echo.ErrInternalServerError
	}
	return c.JSON(http.StatusOK, id)
}

func report(c echo.Context) error {
	id, ok := dssauth.FromContext(c.Request().Context())
	if !ok { // only where the middleware did not run
		return echo.ErrInternalServerError
	}
	return c.String(http.StatusOK, fmt.Sprintf("the report, for %s\n", id.Login))
}

func user(c echo.Context) error {
	id, ok := dssauth.FromContext(c.Request().Context())
	if !ok { // only where the middleware did not run
		return echo.ErrInternalServerError
	}
	return c.String(http.StatusOK, fmt.Sprintf("user %s, shown to %s\n", c.Param("login"), id.Login))
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
	server := &http.Server{Addr: *addr, Handler: newRouter(auth), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
