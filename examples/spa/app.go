package main

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dssauth/dssauth"
)

//go:embed web
var web embed.FS

// app serves the page to everybody, and what it shows to a group of DSS.
type app struct {
	auth   *dssauth.Middleware
	board  *board
	signIn string        // where a browser finds DSS
	every  time.Duration // how often DSS is asked whether an open page may stay
}

func (a *app) newRouter() http.Handler {
	// One gate for all of it, so that the page can ask for /api/me to learn why
	// anything else was refused.
	api := http.NewServeMux()
	api.HandleFunc("GET /api/me", a.me)
	api.HandleFunc("GET /api/events", a.events)
	api.HandleFunc("POST /api/notes", a.write)

	mux := http.NewServeMux()
	mux.Handle("/api/", sameOrigin(a.auth.RequireGroup("analysts")(api)))
	mux.Handle("/sign-in", http.RedirectHandler(a.signIn, http.StatusFound))
	mux.Handle("/", page()) // without data, so that it can say "Sign in again"; health probes may ask for it
	return strict(mux)
}

// page serves the embedded files.
func page() http.Handler {
	files, err := fs.Sub(web, "web")
	if err != nil { // only for a path that is none
		panic(err)
	}
	server := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache") // a new version of one file needs that of the others
		server.ServeHTTP(w, r)
	})
}

// strict lets the page load its own script and style, and nothing else. A Code
// Studio shows it in a frame of DSS, on the same host.
func strict(next http.Handler) http.Handler {
	const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

// sameOrigin refuses what a page of another site asks for. Reads are held to the
// rules for writes: else that page could keep streams open with its visitors'
// cookies.
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

func (a *app) me(w http.ResponseWriter, r *http.Request) {
	id, ok := dssauth.FromContext(r.Context())
	if !ok { // only where the middleware did not run
		http.Error(w, "no visitor", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(id)
}

// events sends the board, and sends it again after each change. The stream ends
// when the visitor would not be let in any more. Over HTTP/1 a browser opens six
// connections to a host and no more: for many tabs, the proxy in front speaks HTTP/2.
func (a *app) events(w http.ResponseWriter, r *http.Request) {
	allowed, stop := a.auth.WhileSignedIn(r, a.every)
	defer stop()

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep events back
	stream := http.NewResponseController(w)
	send := func(event string) error {
		_ = stream.SetWriteDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprint(w, event, "\n\n")
		return stream.Flush()
	}

	quiet := time.NewTicker(20 * time.Second)
	defer quiet.Stop()
	for {
		notes, changed := a.board.read()
		list, err := json.Marshal(notes) // which has no line break
		if err == nil {
			err = send("event: notes\ndata: " + string(list))
		}
		for unchanged := true; unchanged && err == nil; {
			select {
			case <-changed:
				unchanged = false
			case <-quiet.C:
				err = send(": proxies end a stream on which nothing happens")
			case <-allowed.Done():
				return // the page asks for /api/me to learn why
			}
		}
		if err != nil {
			return
		}
	}
}

const longestNote = 1000 // characters, as in the page

func (a *app) write(w http.ResponseWriter, r *http.Request) {
	id, ok := dssauth.FromContext(r.Context())
	if !ok { // only where the middleware did not run
		http.Error(w, "no visitor", http.StatusInternalServerError)
		return
	}
	var sent struct {
		Login string // of the visitor to whom the page belongs
		Text  string
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<10)).Decode(&sent)
	text := strings.TrimSpace(sent.Text)
	switch {
	case err != nil || text == "" || utf8.RuneCountInString(text) > longestNote:
		http.Error(w, fmt.Sprintf("a note has 1 to %d characters", longestNote), http.StatusBadRequest)
	case sent.Login != id.Login:
		// Somebody else has signed in since, in another tab: what one person
		// wrote is not published under another's name.
		http.Error(w, "the page belongs to somebody else", http.StatusConflict)
	default:
		a.board.add(id.Login, text)
		w.WriteHeader(http.StatusNoContent)
	}
}
