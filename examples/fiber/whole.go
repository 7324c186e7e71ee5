package main

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"

	"github.com/dssauth/dssauth"
)

// newWholeApp serves a net/http handler with its gates. All of it is below the
// adaptor, so that no context is lost.
func newWholeApp(auth *dssauth.Middleware) *fiber.App {
	app := fiber.New(config)
	app.Use(adaptor.HTTPHandler(auth.Handler(newMux(auth))))
	return app
}

func newMux(auth *dssauth.Middleware) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /me", func(w http.ResponseWriter, r *http.Request) {
		id, ok := dssauth.FromContext(r.Context())
		if !ok { // only where the middleware did not run
			http.Error(w, "no visitor", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(id)
	})
	mux.Handle("GET /report", auth.RequireGroup("analysts")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, ok := dssauth.FromContext(r.Context())
		if !ok { // only where the middleware did not run
			http.Error(w, "no visitor", http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "the report, for %s\n", id.Login)
	})))
	mux.Handle("GET /admin/users/{login}", auth.RequireGroup("administrators")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, ok := dssauth.FromContext(r.Context())
		if !ok { // only where the middleware did not run
			http.Error(w, "no visitor", http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "user %s, shown to %s\n", r.PathValue("login"), id.Login)
	})))
	return mux
}
