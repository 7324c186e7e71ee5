// Quickstart is a small web application that knows its visitors. It starts a
// fake DSS and signs users in on a page of its own, so that nothing has to be
// installed. With -real it asks the configured DSS:
//
//	go run ./examples/quickstart
//	go run ./examples/quickstart -check
//	go run ./examples/quickstart -real
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
)

const help = `Usage: quickstart [-addr 127.0.0.1:8080] [-real | -check]

Serves a small application whose visitors are users of Dataiku DSS: of a fake
one that it starts, whatever is configured.

Flags:

  -addr host:port
        where to listen (default 127.0.0.1:8080; port 0 is any free one)
  -check
        play the whole story without a person, on the fake DSS; fail if
        anything is wrong
  -real
        the visitors are users of the DSS that is configured: inside DSS, by
        DKU_DSS_URL and DKU_API_KEY, or in ~/.dataiku/config.json
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(help)
	case err != nil:
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	addr := flags.String("addr", "127.0.0.1:8080", "")
	check := flags.Bool("check", false, "")
	realDSS := flags.Bool("real", false, "")
	if err := flags.Parse(args); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			err = fmt.Errorf("%w: see -help", err)
		}
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: see -help", flags.Arg(0))
	}
	if *check && *realDSS {
		return errors.New("-check and -real: set one of them, since -check plays on the fake DSS")
	}
	if *check {
		return tell(ctx, stdout, newApp, wholeStory)
	}

	client, demo, err := connect(*realDSS)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	if demo != nil {
		defer demo.close()
	}
	app, err := newApp(dssauth.Config{Client: client, TTL: 10 * time.Second, Impersonation: dssauth.ByTicket}, demo)
	if err != nil {
		return err
	}
	defer app.auth.Close()
	listener, err := listen(*addr, demo != nil)
	if err != nil {
		return err
	}
	greet(stdout, "http://"+reachable(listener.Addr()), client, demo)
	return serve(ctx, listener, app.handler)
}

// connect returns a client of a fake DSS, or of the configured one.
func connect(realDSS bool) (*dss.Client, *demo, error) {
	if realDSS {
		client, err := dss.FromEnv()
		if err != nil {
			err = fmt.Errorf("-real: %w", err)
		}
		return client, nil, err
	}
	demo, err := startDemo()
	if err != nil {
		return nil, nil, err
	}
	client, err := demo.client()
	return client, demo, err
}

func listen(addr string, demo bool) (net.Listener, error) {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("-addr %q: %w", addr, err)
	}
	if demo && !tcp.IP.IsLoopback() {
		return nil, fmt.Errorf("-addr %q: others can reach this address, and sign in to the fake DSS as any user: use 127.0.0.1, or -real", addr)
	}
	listener, err := net.ListenTCP("tcp", tcp)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("-addr %q is taken: end the program that listens there, or choose another port, as in -addr 127.0.0.1:%d", addr, tcp.Port+1)
	}
	if err != nil {
		return nil, fmt.Errorf("-addr %q: %w", addr, err)
	}
	return listener, nil
}

// reachable returns an address to connect to: 0.0.0.0 is only for listening.
func reachable(addr net.Addr) string {
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return fmt.Sprintf("127.0.0.1:%d", tcp.Port)
	}
	return addr.String()
}

func greet(out io.Writer, url string, client *dss.Client, demo *demo) {
	fmt.Fprintf(out, "Open %s/ in a browser, or try\n\n  curl -i %s/me\n", url, url)
	if demo == nil {
		fmt.Fprintf(out, "  curl -i %s/me -H 'Authorization: Bearer <a personal API key of DSS>'\n\nVisitors are users of %v.\n", url, client)
		return
	}
	fmt.Fprintf(out, "  curl -i %s/me -H 'Authorization: Bearer ann-key'\n\n", url)
	fmt.Fprint(out, "This is a fake DSS: sign in as any user. -real asks the configured one.\n")
}

// serve answers until ctx ends, and lets running requests end.
func serve(ctx context.Context, listener net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler:           http.MaxBytesHandler(h, 64<<10),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second) // ctx has ended
	defer cancel()
	return server.Shutdown(grace)
}
