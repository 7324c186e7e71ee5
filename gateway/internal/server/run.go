package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dssprom"
	"github.com/dssauth/dssauth/gateway/internal/config"
	"github.com/dssauth/dssauth/internal/diagnose"
)

// Run serves until ctx ends. Then it waits until the requests under way are
// answered, for Config.Shutdown at most, and closes the Server.
func (s *Server) Run(ctx context.Context) (err error) {
	c, log := s.config, s.log
	defer func() {
		// In this order: a request under way may still need an answer of DSS.
		err = errors.Join(err, s.Close())
		s.client.CloseIdleConnections()
	}()

	ends := make(chan error, 2)
	requests := &underWay{handler: s}
	server := newServer(requests, log)
	listener, err := listen("listen", c.Listen)
	if err != nil {
		return err
	}
	servers := []*http.Server{server}
	if c.Metrics != "" {
		s.metrics.MustRegister(dssprom.NewCollector(s.auth), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{}))
		metrics := newServer(mux, log)
		other, err := listen("metrics", c.Metrics)
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		servers = append(servers, metrics)
		go func() { ends <- metrics.Serve(other) }()
		log.Info("metrics", "addr", other.Addr().String())
	}
	go func() { ends <- s.serveOn(listener, server) }()
	log.Info("listening", "addr", listener.Addr().String(), "upstream", hostOf(c), "check", c.Check, "dss", s.client.String())
	s.say(c)
	checking, given := context.WithCancel(ctx)
	defer given()
	go examine(checking, c, s.client, log)

	select {
	case err = <-ends: // a listener broke
	case <-ctx.Done():
		log.Info("stopping")
	}
	s.end()
	stopping, cancel := context.WithTimeout(context.Background(), c.Shutdown)
	defer cancel()
	requests.wait(stopping, c.Shutdown/2)
	for _, server := range servers {
		if late := server.Shutdown(stopping); late != nil {
			err = errors.Join(err, fmt.Errorf("requests under way took longer than %s: %w", c.Shutdown, late), server.Close())
		}
	}
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// underWay counts the requests that are being answered.
type underWay struct {
	handler http.Handler
	n       atomic.Int64
}

func (u *underWay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.n.Add(1)
	defer u.n.Add(-1)
	u.handler.ServeHTTP(w, r)
}

// wait returns when no request is under way, or after the time most. Run waits
// before it calls Shutdown, which closes the listener at once. Until then probes
// still reach readyz, which answers 503, and requests that were sent here too late
// are still answered.
func (u *underWay) wait(ctx context.Context, most time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for u.n.Load() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// listen opens a listener. Its errors name the setting.
func listen(setting, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s: %q is taken: end the program that listens there, or choose another port", setting, addr)
	case err != nil:
		return nil, fmt.Errorf("%s: %q: %w", setting, addr, err)
	}
	return l, nil
}

// newServer has no ReadTimeout and no WriteTimeout: they would cut long uploads and
// event streams.
func newServer(h http.Handler, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       3 * time.Minute, // longer than that of a proxy in front
		MaxHeaderBytes:    128 << 10,       // identifying headers may use half of it
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

func (s *Server) serveOn(l net.Listener, server *http.Server) error {
	if s.certificate == nil {
		return server.Serve(l)
	}
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*s.certificate}}
	return server.ServeTLS(l, "", "")
}

func hostOf(c config.Config) string {
	if c.Upstream == nil {
		return "none: only the check is served"
	}
	return c.Upstream.String()
}

// say logs what the settings cause, where it may surprise at a first start.
func (s *Server) say(c config.Config) {
	if len(c.DSSCookies) == 0 && !c.ForwardCredentials {
		s.log.Info("no cookie reaches the upstream, since each one may be DSS's: name DSS's in dss_cookies, and the others pass")
	}
	if s.identity.signer != nil {
		for _, file := range s.identity.signer.Exposed() {
			s.log.Warn("others may read or change a key file, and sign as the gateway: chmod 600", "file", file)
		}
	}
	if s.identity.signer == nil && c.Upstream == nil {
		s.log.Info("no assertion is sent: the upstream must be reachable only through the proxy")
	}
}

// examine logs what the doctor finds out without a visitor. It delays nothing: the
// gateway serves even if DSS is down at the start.
func examine(ctx context.Context, c config.Config, client *dss.Client, log *slog.Logger) {
	app := &diagnose.Application{
		Client: client, Inside: os.Getenv("DKU_API_TICKET") != "",
		ByProxyUser: impersonation(c) == dssauth.ByProxyUser, Timeout: 10 * time.Second,
	}
	for f := range app.Start(ctx) {
		level := slog.LevelInfo
		if f.Status == diagnose.Problem {
			level = slog.LevelWarn
		}
		line := []any{"check", f.Check, "found", f.Found}
		if len(f.Advice) > 0 {
			line = append(line, "advice", strings.Join(f.Advice, " "))
		}
		log.Log(ctx, level, "check at start", line...)
	}
}
