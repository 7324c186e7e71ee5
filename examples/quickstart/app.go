package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/dssauth/dssauth"
)

// app is the application. It has four routes for different visitors.
type app struct {
	handler http.Handler
	auth    *dssauth.Middleware
	page    page
}

// newApp wraps the routes. demo is nil with a real DSS.
func newApp(config dssauth.Config, demo *demo) (*app, error) {
	a := &app{page: page{ttl: config.TTL, client: config.Client, demo: demo}}
	config.UserDetails = true
	config.OnError = a.refuse
	if demo != nil {
		config.LoginURL = demo.signInURL
	}
	auth, err := dssauth.New(config)
	if err != nil {
		return nil, err
	}
	a.auth = auth

	mux := http.NewServeMux()
	mux.Handle(homePattern, auth.Optional(http.HandlerFunc(a.home)))
	mux.Handle("GET /me", auth.Handler(http.HandlerFunc(me)))
	mux.Handle("GET /report", auth.RequireGroup("analysts")(http.HandlerFunc(report)))
	mux.Handle("GET /as-me", auth.Handler(http.HandlerFunc(a.asMe)))
	if demo != nil {
		demo.addRoutes(mux, auth)
	}
	a.page.routes = mux
	// Cookies identify the visitor. They do not show that the visitor wanted this.
	a.handler = http.NewCrossOriginProtection().Handler(mux)
	return a, nil
}

// homePattern is the page that everybody may see, signed in or not.
const homePattern = "GET /{$}"

func (a *app) home(w http.ResponseWriter, r *http.Request) {
	a.page.show(w, r, http.StatusOK)
}

// refuse shows the page in an outage of the fake DSS too, since the page has
// the switch to end it.
func (a *app) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status := dssauth.StatusCode(err)
	if r.Pattern == homePattern && a.page.demo != nil && status == http.StatusServiceUnavailable {
		a.page.show(w, r, status)
		return
	}
	dssauth.WriteRefusal(w, r, err)
}

func me(w http.ResponseWriter, r *http.Request) {
	id, ok := dssauth.FromContext(r.Context())
	if !ok { // only where the middleware did not run
		http.Error(w, "no visitor", http.StatusInternalServerError)
		return
	}
	writeJSON(w, id)
}

func report(w http.ResponseWriter, r *http.Request) {
	id, ok := dssauth.FromContext(r.Context())
	if !ok { // only where the middleware did not run
		http.Error(w, "no visitor", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprintf(w, "The analysts' report, for %s.\n", id.Login)
}

// asMe calls DSS with the visitor's own rights.
func (a *app) asMe(w http.ResponseWriter, r *http.Request) {
	client, err := dssauth.ClientFromContext(r.Context())
	if err != nil {
		a.refuseCall(w, r, err)
		return
	}
	info, err := client.AuthInfo(r.Context())
	if err != nil {
		a.refuseCall(w, r, err)
		return
	}
	writeJSON(w, map[string]any{"calledDSSAs": info.Login(), "groups": info.Groups})
}

func (a *app) refuseCall(w http.ResponseWriter, r *http.Request, err error) {
	slog.Warn("a call to DSS as the visitor failed", "error", err)
	a.auth.Refuse(w, r, err)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // the answer is for this visitor only
	_ = json.NewEncoder(w).Encode(v)
}
