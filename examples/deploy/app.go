package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"time"

	"github.com/dssauth/dssauth"
)

// app holds the handlers for visitors.
type app struct {
	auth     *dssauth.Middleware
	stopping chan struct{} // closed when streams are to end
}

func (a *app) newRouter() http.Handler {
	visitors := http.NewServeMux()
	visitors.HandleFunc("GET /{$}", showPage)
	visitors.HandleFunc("GET /me", me)
	visitors.HandleFunc("GET /events", a.events)
	visitors.HandleFunc("POST /upload", upload)

	mux := http.NewServeMux()
	// A probe has no session, and does not ask DSS: while DSS is down, a process
	// that reports it is better than none.
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("/", http.NewCrossOriginProtection().Handler(a.auth.Handler(visitors)))
	return mux
}

// under serves app at prefix as well as at the root: some proxies remove the
// prefix from the path, and others keep it.
func under(prefix string, app http.Handler) http.Handler {
	if prefix == "" {
		return app
	}
	mux := http.NewServeMux()
	mux.Handle("/", app)
	mux.Handle(prefix+"/", http.StripPrefix(prefix, app))
	return mux
}

// page has relative links only: they are right under any prefix.
var page = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Deployed</title>
<p>Hello {{.Login}}. <a href="me">Who am I?</a>
`))

func showPage(w http.ResponseWriter, r *http.Request) {
	if id, ok := visitor(w, r); ok {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = page.Execute(w, id)
	}
}

func me(w http.ResponseWriter, r *http.Request) {
	if id, ok := visitor(w, r); ok {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(id)
	}
}

// maxUpload is above the default limit of proxies.
const maxUpload = 1 << 30

func upload(w http.ResponseWriter, r *http.Request) {
	id, ok := visitor(w, r)
	if !ok {
		return
	}
	n, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxUpload))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
	case err != nil:
		http.Error(w, "the upload broke off", http.StatusBadRequest)
	default:
		fmt.Fprintf(w, "%s sent %d bytes\n", id.Login, n)
	}
}

// events tells the visitor the reason of its end: the session ended, or this
// process ends. If the process ends, the browser connects again, to another
// process.
func (a *app) events(w http.ResponseWriter, r *http.Request) {
	id, ok := visitor(w, r)
	if !ok {
		return
	}
	allowed, end := a.auth.WhileSignedIn(r, 0)
	defer end()

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // otherwise nginx would hold events back
	stream := http.NewResponseController(w)
	send := func(text string) error {
		_ = stream.SetWriteDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprint(w, text, "\n\n")
		return stream.Flush()
	}

	beat := time.NewTicker(15 * time.Second) // proxies cut connections that are silent
	defer beat.Stop()
	err := send("event: hello\ndata: " + id.Login)
	for err == nil {
		select {
		case <-beat.C:
			err = send(": still here")
		case <-allowed.Done():
			_ = send(fmt.Sprintf("event: end\ndata: %d", dssauth.StatusCode(context.Cause(allowed))))
			return
		case <-a.stopping:
			_ = send("event: restart\ndata: ")
			return
		}
	}
}

// visitor returns the user that sent r. The middleware has attached it, or this
// program has a mistake.
func visitor(w http.ResponseWriter, r *http.Request) (dssauth.Identity, bool) {
	id, ok := dssauth.FromContext(r.Context())
	if !ok {
		http.Error(w, "no visitor", http.StatusInternalServerError)
	}
	return id, ok
}
