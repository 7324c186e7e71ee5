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

// app serves the page to everybody, and its data to a group of DSS.
type app struct {
	auth   *dssauth.Middleware
	board  *board
	signIn string        // the URL of DSS for browsers
	every  time.Duration // the time between checks of an open page
}

func (a *app) newRouter() http.Handler {
	// One gate for all of it, so that the page can ask for /api/me to learn the
	// reason of another refusal.
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
	if err != nil { // only for a path that is not valid
		panic(err)
	}
	server := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache") // the files must have the same version
		server.ServeHTTP(w, r)
	})
}

// strict lets the page load its own script and style, and nothing else. A Code
// Studio shows the page in a frame of DSS, on the same host.
func strict(next http.Handler) http.Handler {
	const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

// sameOrigin refuses requests of other sites' pages. Reads follow the rules for
// writes, too: otherwise such a page could keep streams open with its visitors'
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
// when a new request of the visitor would be refused. Over HTTP/1 a browser
// opens at most six connections to a host: for many tabs, use HTTP/2 in the
// proxy in front.
func (a *app) events(w http.ResponseWriter, r *http.Request) {
	allowed, stop := a.auth.WhileSignedIn(r, a.every)
	defer stop()

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // otherwise nginx would hold events back
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
		list, err := json.Marshal(notes) // it has no line break
		if err == nil {
			err = send("event: notes\ndata: " + string(list))
		}
		for unchanged := true; unchanged && err == nil; {
			select {
			case <-changed:
				unchanged = false
			case <-quiet.C:
				err = send(": proxies end a silent stream")
			case <-allowed.Done():
				return // the page asks /api/me for the reason
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
		Login string // of the page's visitor
		Text  string
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<10)).Decode(&sent)
	text := strings.TrimSpace(sent.Text)
	switch {
	case err != nil || text == "" || utf8.RuneCountInString(text) > longestNote:
		http.Error(w, fmt.Sprintf("a note has 1 to %d characters", longestNote), http.StatusBadRequest)
	case sent.Login != id.Login:
		// Another user has signed in since, in another tab. A note must not be
		// published under another person's name.
		http.Error(w, "the page belongs to another user", http.StatusConflict)
	default:
		a.board.add(id.Login, text)
		w.WriteHeader(http.StatusNoContent)
	}
}
