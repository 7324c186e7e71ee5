// Websocket keeps a connection open for as long as its visitor is signed in to
// DSS and in a group, and tells the browser why it ends.
//
// Without a DSS, start both of these, and sign in at
// http://127.0.0.1:11200/?redirect=http://127.0.0.1:8080/:
//
//	go run ./dsstest/cmd/fakedss -addr 127.0.0.1:11200 -admin-key dev
//	DKU_DSS_URL=http://127.0.0.1:11200 DKU_API_KEY=dev go run ./examples/websocket
package main

import (
	"context"
	_ "embed"
	"flag"
	"log"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
)

//go:embed page.html
var page string

// chat answers a visitor's messages.
type chat struct {
	auth  *dssauth.Middleware
	every time.Duration // the time between checks of the visitor
}

func (c *chat) newRouter() http.Handler {
	analysts := c.auth.RequireGroup("analysts")
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", c.auth.Handler(http.HandlerFunc(showPage)))
	mux.Handle("GET /chat", analysts(http.HandlerFunc(c.talk)))
	return mux
}

func (c *chat) talk(w http.ResponseWriter, r *http.Request) {
	id, ok := dssauth.FromContext(r.Context())
	if !ok { // only where the middleware did not run
		http.Error(w, "no visitor", http.StatusInternalServerError)
		return
	}
	allowed, stop := c.auth.WhileSignedIn(r, c.every)
	defer stop()

	// Accept refuses other origins: a visitor's cookies come with the connection
	// of any page. Behind a proxy that changes Host, name yours in
	// AcceptOptions.OriginPatterns.
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	closed := make(chan struct{})
	ended := context.AfterFunc(allowed, func() {
		defer close(closed)
		conn.Close(closeCode(context.Cause(allowed)))
	})
	defer func() {
		if !ended() {
			<-closed // the browser is getting the reason
		}
	}()

	for {
		// Not allowed: its end would cut the connection without a reason.
		kind, said, err := conn.Read(r.Context())
		if err != nil {
			return
		}
		if err := conn.Write(r.Context(), kind, append([]byte(id.Login+" said: "), said...)); err != nil {
			return
		}
	}
}

// closeCode gives the browser the reason: 4401, 4403 or 4503, from the codes
// for applications.
func closeCode(cause error) (websocket.StatusCode, string) {
	status := dssauth.StatusCode(cause)
	reason := "DSS cannot confirm your session"
	switch status {
	case http.StatusUnauthorized:
		reason = "you are signed out of DSS"
	case http.StatusForbidden:
		reason = "you are no longer in the group analysts"
	}
	return websocket.StatusCode(4000 + status), reason
}

func showPage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte(page))
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
	chat := &chat{auth: auth, every: 10 * time.Second}
	server := &http.Server{Addr: *addr, Handler: chat.newRouter(), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
