// Impersonation calls DSS with the visitor's rights, in three ways: a method of
// the client, any endpoint by Do, and a reverse proxy.
//
// Without a DSS, start both of these, and sign in at
// http://127.0.0.1:11200/?redirect=http://127.0.0.1:8080/me:
//
//	go run ./dsstest/cmd/fakedss -addr 127.0.0.1:11200 -admin-key dev
//	DKU_DSS_URL=http://127.0.0.1:11200 DKU_API_KEY=dev go run ./examples/impersonation
package main

import (
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
)

// newRouter needs an auth with Config.Impersonation. dssURL is the URL of DSS.
func newRouter(auth *dssauth.Middleware, dssURL *url.URL) http.Handler {
	a := &app{auth}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /me", a.me)
	mux.HandleFunc("GET /projects", a.projects)
	mux.Handle("/dip/publicapi/", a.newProxy(dssURL))
	// The cookie identifies the visitor. It does not show that the visitor wanted
	// to write.
	return http.NewCrossOriginProtection().Handler(auth.Handler(mux))
}

type app struct{ auth *dssauth.Middleware }

// me answers with the user that DSS acts as in our calls.
func (a *app) me(w http.ResponseWriter, r *http.Request) {
	client, err := dssauth.ClientFromContext(r.Context())
	if err != nil {
		a.fail(w, r, err)
		return
	}
	info, err := client.AuthInfo(r.Context())
	if err != nil {
		a.fail(w, r, err)
		return
	}
	writeJSON(w, map[string]any{"login": info.Login(), "groups": info.Groups})
}

// projects answers the names of the projects that the visitor may see.
func (a *app) projects(w http.ResponseWriter, r *http.Request) {
	client, err := dssauth.ClientFromContext(r.Context())
	if err != nil {
		a.fail(w, r, err)
		return
	}
	var projects []struct {
		Name string `json:"name"`
	}
	if err := client.Do(r.Context(), http.MethodGet, "/projects/", nil, &projects); err != nil {
		a.fail(w, r, err)
		return
	}
	writeJSON(w, projects)
}

// newProxy gives front ends the whole API of DSS, with their visitors' rights.
func (a *app) newProxy(dssURL *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Transport: asVisitor{},
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(dssURL) },
		ModifyResponse: func(reply *http.Response) error {
			// DSS's headers for browsers are about DSS's own pages, not about ours.
			reply.Header.Del("Set-Cookie")
			reply.Header.Del("WWW-Authenticate")
			reply.Header.Set("Content-Security-Policy", "sandbox")
			reply.Header.Del("Cache-Control") // the Middleware has set private
			return nil
		},
		ErrorHandler: a.fail,
	}
}

// asVisitor sends a request to DSS as the visitor in its context.
type asVisitor struct{}

func (asVisitor) RoundTrip(r *http.Request) (*http.Response, error) {
	client, err := dssauth.ClientFromContext(r.Context())
	if err != nil {
		return nil, err
	}
	return client.Transport().RoundTrip(r)
}

// fail answers a request whose call to DSS failed. Refuse tells the reasons
// apart: the session has ended, DSS forbids the call, or DSS does not answer.
func (a *app) fail(w http.ResponseWriter, r *http.Request, err error) {
	log.Print(err)
	a.auth.Refuse(w, r, err)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "where to listen")
	flag.Parse()
	client, err := dss.FromEnv()
	if err != nil {
		log.Fatal(err)
	}
	dssURL, err := url.Parse(client.URL())
	if err != nil {
		log.Fatal(err)
	}
	auth, err := dssauth.New(dssauth.Config{Client: client, Impersonation: dssauth.ByTicket})
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: *addr, Handler: newRouter(auth, dssURL), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
