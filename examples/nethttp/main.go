// Nethttp gates routes by DSS group with net/http alone.
//
// Without a DSS, start both of these, and sign in at
// http://127.0.0.1:11200/?redirect=http://127.0.0.1:8080/me:
//
//	go run ./dsstest/cmd/fakedss -addr 127.0.0.1:11200 -admin-key dev
//	DKU_DSS_URL=http://127.0.0.1:11200 DKU_API_KEY=dev go run ./examples/nethttp
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
)

func newRouter(auth *dssauth.Middleware) http.Handler {
	analysts := auth.RequireGroup("analysts")
	administrators := auth.RequireGroup("administrators")

	admin := http.NewServeMux()
	admin.HandleFunc("GET /admin/users/{login}", user)

	mux := http.NewServeMux()
	mux.HandleFunc("GET /me", me)
	mux.Handle("GET /report", analysts(http.HandlerFunc(report)))
	mux.Handle("/admin/", administrators(admin))
	return auth.Handler(mux) // signed-in DSS users only, on every route
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

func user(w http.ResponseWriter, r *http.Request) {
	id, ok := dssauth.FromContext(r.Context())
	if !ok { // only where the middleware did not run
		http.Error(w, "no visitor", http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, "user %s, shown to %s\n", r.PathValue("login"), id.Login)
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
