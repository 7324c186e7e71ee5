// Sse streams server-sent events for as long as the visitor is signed in to
// DSS and in a group, and tells the browser why the stream ends.
//
// Without a DSS, start both of these, and sign in at
// http://127.0.0.1:11200/?redirect=http://127.0.0.1:8080/:
//
//	go run ./dsstest/cmd/fakedss -addr 127.0.0.1:11200 -admin-key dev
//	DKU_DSS_URL=http://127.0.0.1:11200 DKU_API_KEY=dev go run ./examples/sse
package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
)

//go:embed page.html
var page string

// feed tells visitors the time.
type feed struct {
	auth  *dssauth.Middleware
	every time.Duration // the time between checks of the visitor
}

func (f *feed) newRouter() http.Handler {
	analysts := f.auth.RequireGroup("analysts")
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", f.auth.Handler(http.HandlerFunc(showPage)))
	mux.Handle("GET /events", sameOrigin(analysts(http.HandlerFunc(f.stream))))
	return mux
}

// sameOrigin applies the rules for writes to a stream: otherwise another site
// could keep connections open with its visitors' cookies.
func sameOrigin(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		write := r.WithContext(r.Context())
		write.Method = http.MethodPost
		if err := protection.Check(write); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (f *feed) stream(w http.ResponseWriter, r *http.Request) {
	id, ok := dssauth.FromContext(r.Context())
	if !ok { // only where the middleware did not run
		http.Error(w, "no visitor", http.StatusInternalServerError)
		return
	}
	allowed, stop := f.auth.WhileSignedIn(r, f.every)
	defer stop()

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // otherwise nginx would hold events back
	stream := http.NewResponseController(w)
	send := func(event, data string) error {
		_ = stream.SetWriteDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, data)
		return stream.Flush()
	}

	clock := time.NewTicker(time.Second)
	defer clock.Stop()
	err := send("hello", id.Login)
	for err == nil {
		select {
		case now := <-clock.C:
			err = send("time", now.Format(time.TimeOnly))
		case <-allowed.Done():
			_ = send("end", why(context.Cause(allowed)))
			return
		}
	}
}

// why returns the reason for the browser.
func why(cause error) string {
	switch dssauth.StatusCode(cause) {
	case http.StatusUnauthorized:
		return "you are signed out of DSS"
	case http.StatusForbidden:
		return "you are no longer in the group analysts"
	}
	return "DSS cannot confirm your session"
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
	feed := &feed{auth: auth, every: 10 * time.Second}
	server := &http.Server{Addr: *addr, Handler: feed.newRouter(), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
