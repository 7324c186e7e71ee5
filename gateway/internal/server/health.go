package server

import (
	"fmt"
	"net/http"
)

// healthy answers that the process serves requests.
func healthy(w *answer, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprintln(w, "ok")
}

// serveReady says whether requests may be sent here. While DSS is down they may:
// the gateway still serves open pages, and refuses the rest with a page that
// says why. No other replica could do better.
func (s *Server) serveReady(w *answer, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if s.running.Err() != nil {
		http.Error(w, "stopping", http.StatusServiceUnavailable)
		return
	}
	if s.auth.Stats().DSSDown {
		fmt.Fprintln(w, "ok; DSS is down")
		return
	}
	fmt.Fprintln(w, "ok")
}
