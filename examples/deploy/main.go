// Deploy is a small application that is ready for production. It finds its DSS,
// its address and its path prefix by itself, answers health probes without a
// session, and lets requests finish before it ends. The files beside it deploy
// it: behind nginx or Caddy beside DSS, as an image, and in Kubernetes.
// docs/deploy.md has the steps.
//
// Without a DSS, start both of these, and sign in at
// http://127.0.0.1:11200/?redirect=http://127.0.0.1:8080/:
//
//	go run ./dsstest/cmd/fakedss -addr 127.0.0.1:11200 -admin-key dev
//	DKU_DSS_URL=http://127.0.0.1:11200 DKU_API_KEY=dev go run ./examples/deploy
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path"
	"syscall"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
)

// shutdownTimeout is the time for requests under way after the signal to stop.
// In Kubernetes, terminationGracePeriodSeconds must be longer.
const shutdownTimeout = 20 * time.Second

func main() {
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	slog.SetDefault(log) // for the warnings of dss.FromEnv
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], log)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		log.Error("ended", "error", err)
		os.Exit(1)
	}
}

// settings come from the command line, and in a Code Studio from DSS.
type settings struct {
	addr   string
	prefix string // the path under which browsers see the application
	login  string // the page to sign in to DSS; empty: no redirect to it
}

func readSettings(args []string) (settings, error) {
	flags := flag.NewFlagSet("deploy", flag.ContinueOnError)
	port := flags.Int("port", 8080, "the port to listen on: the one that a Code Studio exposes, or a port for this machine only")
	addr := flags.String("addr", "", "the address to listen on in place of -port, as in :8080 for other machines, too")
	prefix := flags.String("prefix", "", "the path under which a proxy serves the application, as in /app")
	login := flags.String("login", "", "the page to sign in to DSS, as in /login/ on the same host")
	if err := flags.Parse(args); err != nil {
		return settings{}, err
	}
	if flags.NArg() > 0 {
		return settings{}, fmt.Errorf("unexpected argument %q: see -help", flags.Arg(0))
	}
	escaped := (&url.URL{Path: *prefix}).EscapedPath() // a router would not find it
	if *prefix != "" && ((*prefix)[0] != '/' || *prefix == "/" || path.Clean(*prefix) != *prefix || escaped != *prefix) {
		return settings{}, fmt.Errorf("-prefix %q: it must begin with a slash, not end with one, and have no character that a URL escapes, as in /app", *prefix)
	}
	place, given, err := dss.CodeStudio(*port)
	if err != nil {
		return settings{}, err
	}
	return settings{cmp.Or(*addr, place), cmp.Or(given, *prefix), *login}, nil
}

// run serves until ctx ends, and then until the requests under way are answered.
func run(ctx context.Context, args []string, log *slog.Logger) error {
	set, err := readSettings(args)
	if err != nil {
		return err
	}
	client, err := dss.FromEnv()
	if err != nil {
		return err
	}
	auth, err := dssauth.New(dssauth.Config{
		Client:   client,
		Logger:   log,
		LoginURL: func(*http.Request, string) string { return set.login },
	})
	if err != nil {
		return err
	}
	app := &app{auth: auth, stopping: make(chan struct{})}
	server := &http.Server{
		Handler: under(set.prefix, app.newRouter()),
		// There is no ReadTimeout and no WriteTimeout: they would cut long uploads
		// and event streams. The proxy in front cuts silent senders.
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       3 * time.Minute, // longer than the proxy's, so that the proxy never uses a connection that just closed
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	server.RegisterOnShutdown(func() { close(app.stopping) })
	listener, err := net.Listen("tcp", set.addr)
	if err != nil {
		return err
	}
	log.Info("listening", "addr", listener.Addr().String(), "prefix", set.prefix, "dss", client.String())

	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err = <-served: // it did not start, or its listener broke
	case <-ctx.Done():
		log.Info("stopping")
		err = shutDown(server)
	}
	// In this order: a request under way may still need an answer of DSS.
	err = errors.Join(err, auth.Close())
	client.CloseIdleConnections()
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// shutDown takes no new requests, and waits for those under way.
func shutDown(server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("requests under way took longer than %s: %w", shutdownTimeout, err), server.Close())
	}
	return nil
}
