// Accesslog writes a line for each request, with the login of its visitor, and
// one for each call of DSS that is made as that visitor.
//
// The access log is in front of everything, so that it has refusals, 404s and a
// router's own answers. The Middleware inside tells it the visitor: DSS is not
// asked again, and no header is set. With chi, gorilla/mux, echo or gin in
// place of net/http the line in main is the same.
//
// Without a DSS, start both of these, and sign in at
// http://127.0.0.1:11200/?redirect=http://127.0.0.1:8080/report:
//
//	go run ./dsstest/cmd/fakedss -addr 127.0.0.1:11200 -admin-key dev
//	DKU_DSS_URL=http://127.0.0.1:11200 DKU_API_KEY=dev go run ./examples/accesslog
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/felixge/httpsnoop"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
)

// accessLog writes a line for each request to next, when it has been answered.
func accessLog(logger *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, access := dssauth.WithAccess(r.Context())
		inner := r.WithContext(ctx)
		method, path := r.Method, r.URL.Path // without the query, which may hold a secret
		answer := httpsnoop.Metrics{Code: http.StatusOK}
		panicked := true
		defer func() {
			// net/http removes the temporary files of an upload by its own request.
			r.MultipartForm, r.Pattern = inner.MultipartForm, inner.Pattern
			line := []slog.Attr{
				slog.String("method", method),
				slog.String("path", path),
				slog.Int("status", answer.Code),
				slog.Duration("duration", answer.Duration),
				slog.Any("", access), // login, and the reason of a refusal
			}
			if panicked {
				line = append(line, slog.Bool("panicked", true))
			}
			logger.LogAttrs(ctx, slog.LevelInfo, "request", line...)
		}()
		answer.CaptureMetrics(w, func(w http.ResponseWriter) { next.ServeHTTP(whenTakenOver(w, &answer.Code), inner) })
		panicked = false
	})
}

// whenTakenOver sets a status when a handler takes its connection over, as
// websockets do: then the answer does not come through w.
func whenTakenOver(w http.ResponseWriter, status *int) http.ResponseWriter {
	return httpsnoop.Wrap(w, httpsnoop.Hooks{Hijack: func(hijack httpsnoop.HijackFunc) httpsnoop.HijackFunc {
		return func() (net.Conn, *bufio.ReadWriter, error) {
			conn, buffered, err := hijack()
			if err == nil {
				*status = http.StatusSwitchingProtocols
			}
			return conn, buffered, err
		}
	}})
}

// visitorOf is [dssauth.ClientFromContext] with a line for each request to DSS.
func visitorOf(ctx context.Context, logger *slog.Logger) (*dss.Client, error) {
	visitor, err := dssauth.ClientFromContext(ctx)
	if err != nil {
		return nil, err
	}
	id, ok := dssauth.FromContext(ctx)
	if !ok { // never: the client comes from the Middleware
		return nil, dssauth.ErrUnauthenticated
	}
	return visitor.WrapTransport(func(next http.RoundTripper) http.RoundTripper {
		return callLog{next, logger, id.Login}
	}), nil
}

// callLog is a transport that writes a line for each request to DSS. It leaves
// out headers, which hold credentials, the query, and the text of network
// errors, which can quote both.
type callLog struct {
	next   http.RoundTripper
	logger *slog.Logger
	login  string
}

func (c callLog) RoundTrip(r *http.Request) (*http.Response, error) {
	start := time.Now()
	reply, err := c.next.RoundTrip(r)
	line := []slog.Attr{
		slog.String("login", c.login),
		slog.String("method", r.Method),
		slog.String("path", r.URL.Path),
		slog.Duration("duration", time.Since(start)),
	}
	if err == nil {
		line = append(line, slog.Int("status", reply.StatusCode))
	} else {
		line = append(line, slog.String("error", "no reply"))
	}
	c.logger.LogAttrs(r.Context(), slog.LevelInfo, "call of DSS", line...)
	return reply, err
}

func newRouter(auth *dssauth.Middleware, logger *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /report", auth.RequireGroup("analysts")(http.HandlerFunc(report)))
	mux.Handle("GET /projects", projects(auth, logger))
	return auth.Handler(mux) // signed-in DSS users only, on every route
}

func report(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintln(w, "the report")
}

// projects shows the projects that the visitor may read.
func projects(auth *dssauth.Middleware, logger *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		visitor, err := visitorOf(r.Context(), logger)
		if err != nil {
			auth.Refuse(w, r, err)
			return
		}
		var projects []struct {
			ProjectKey string `json:"projectKey"`
		}
		if err := visitor.Do(r.Context(), "GET", "/projects/", nil, &projects); err != nil {
			auth.Refuse(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(projects)
	})
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "where to listen")
	flag.Parse()
	client, err := dss.FromEnv()
	if err != nil {
		log.Fatal(err)
	}
	auth, err := dssauth.New(dssauth.Config{Client: client, Impersonation: dssauth.ByTicket})
	if err != nil {
		log.Fatal(err)
	}
	logger := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	router := newRouter(auth, logger) // or a *chi.Mux, a *mux.Router, an *echo.Echo or a *gin.Engine
	server := &http.Server{Addr: *addr, Handler: accessLog(logger, router), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
