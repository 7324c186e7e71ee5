package server

import (
	"bufio"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/dssauth/dssauth"
)

// ServeHTTP serves both doors, and then writes a line to the log. The line has the
// path without its query, which may hold a secret.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, access := dssauth.WithAccess(r.Context())
	answer := &answer{ResponseWriter: w, status: http.StatusOK, method: r.Method, path: r.URL.Path}
	start := time.Now()
	done := false
	defer func() {
		said := slog.Any("", access)
		if answer.why != "" { // why says more than the reason in access, and DSS was not asked about the visitor
			said = slog.String("why", answer.why)
		}
		line := append(make([]slog.Attr, 0, 6),
			slog.String("method", answer.method), slog.String("path", answer.path), slog.Int("status", answer.status),
			slog.Duration("duration", time.Since(start)), said)
		if !done {
			line = append(line, slog.Bool("aborted", true))
		}
		s.log.LogAttrs(ctx, slog.LevelInfo, "request", line...)
	}()
	s.serve(answer, r.WithContext(ctx))
	done = true
}

// answer remembers what the log line needs.
type answer struct {
	http.ResponseWriter
	method, path string // of the request; for a proxy that asks, of the one it asks about
	why          string // what is wrong with a bad request
	status       int
	wrote        bool
}

func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) WriteHeader(status int) {
	if !a.wrote && (status >= 200 || status == http.StatusSwitchingProtocols) {
		a.status, a.wrote = status, true
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	a.wrote = true
	return a.ResponseWriter.Write(b)
}

// Hijack notes the switch to a websocket, whose 101 does not go through
// WriteHeader.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err == nil {
		a.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}
