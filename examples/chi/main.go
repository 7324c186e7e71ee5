// Chi gates routes by DSS group with chi.
//
// Without a DSS, start both of these, and sign in at
// http://127.0.0.1:11200/?redirect=http://127.0.0.1:8080/me:
//
//	go run ./dsstest/cmd/fakedss -addr 127.0.0.1:11200 -admin-key dev
//	DKU_DSS_URL=http://127.0.0.1:11200 DKU_API_KEY=dev go run ./examples/chi
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
)

func newRouter(auth *dssauth.Middleware) chi.Router {
	r := chi.NewRouter()
	r.Use(auth.Handler) // signed-in DSS users only, on every route
	r.Get("/me", me)
	r.With(auth.RequireGroup("analysts")).Get("/report", report)
	r.With(auth.RequireGroup("analysts")).Get("/events", events(auth))
	r.Route("/admin", func(r chi.Router) {
		r.Use(auth.RequireGroup("administrators"))
		r.Get("/users/{login}", user)
	})
	return r
}

func me(w http.ResponseWriter, r *http.Request) {
	id, ok := dssauth.FromContext(r.Context())
	if !ok { // only where the middleware did not run
		http.Error(w, "no visitor", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(id)
}

func report(w http.ResponseWriter, r *http.Request) {
	id, ok := dssauth.FromContext(r.Context())
	if !ok { // only where the middleware did not run
		http.Error(w, "no visitor", http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, "the report, for %s\n", id.Login)
}

// events streams the time until the visitor signs out of DSS or leaves the group.
// examples/sse also says why it ends, and keeps other sites from opening one.
func events(auth *dssauth.Middleware) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		allowed, stop := auth.WhileSignedIn(r, 0) // zero: DSS is asked again after each Config.TTL
		defer stop()
		w.Header().Set("Content-Type", "text/event-stream")
		for ; allowed.Err() == nil; time.Sleep(time.Second) {
			fmt.Fprintf(w, "data: %s\n\n", time.Now().Format(time.TimeOnly))
			_ = http.NewResponseController(w).Flush()
		}
	}
}

func user(w http.ResponseWriter, r *http.Request) {
	id, ok := dssauth.FromContext(r.Context())
	if !ok { // only where the middleware did not run
		http.Error(w, "no visitor", http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, "user %s, shown to %s\n", chi.URLParam(r, "login"), id.Login)
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
