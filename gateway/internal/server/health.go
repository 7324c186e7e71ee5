package server

import (
	"fmt"
	"net/http"
)

// stop makes readyz say 503, so that whatever spreads requests sends no new ones,
// and ends websockets and event streams, which would keep the process.
func (s *Server) stop() { s.end() }

// healthy says that the process serves.
func healthy(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprintln(w, "ok")
}

// serveReady says whether requests may be sent here. While DSS is down they may:
// the gateway still opens what is open to everybody, and refuses the rest with a
// page that says why, which no other replica could do better.
func (s *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
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
