// Demo shows the gateway in one command: it starts a fake DSS, an application that
// knows nothing of it, and the gateway between the two.
//
//	go run ./gateway/demo
//	go run ./gateway/demo -check
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/gateway/internal/config"
	"github.com/dssauth/dssauth/gateway/internal/server"
)

const help = `Usage: demo [-addr 127.0.0.1:8080] [-check]

Starts a fake DSS, an application that knows nothing of it, and the gateway
between the two, until it is interrupted.

Flags:

  -addr host:port
        where the gateway listens (default 127.0.0.1:8080; port 0 is any free one)
  -check
        send requests of several visitors, and fail if an answer is wrong
`

// rules are the demo's own.
const rules = `
  - {path: /open/, allow: everyone}
  - {path: /admin/, groups: [administrators]}
  - {path: /churn/, project: CHURN}
  - {path: /, allow: signed-in}
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(help)
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	addr := flags.String("addr", "127.0.0.1:8080", "")
	check := flags.Bool("check", false, "")
	if err := flags.Parse(args); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			err = fmt.Errorf("%w: see -help", err)
		}
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: see -help", flags.Arg(0))
	}
	if *check {
		return tell(ctx, stdout, rules)
	}
	d, err := start(ctx, *addr, rules, slog.New(slog.NewTextHandler(stderr, nil)))
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, `
Sign in to the fake DSS, as ann, bob, eve or admin:  %s/sign-in?redirect=%s/
The application, through the gateway:                %s/
The application alone, which knows nobody:           %s/

Open %s/ in a browser: it leads to the sign-in page and back. Or try

  curl -i %s/open/
  curl -i %s/admin/

The gateway's rules:
%s
`, d.dss, d.gateway, d.gateway, d.application, d.gateway, d.gateway, d.gateway, rules)
	return <-d.ended
}

// demo has the parts that run.
type demo struct {
	fake                      *dsstest.DSS
	dss, application, gateway string     // URLs
	ended                     chan error // the error with which the gateway ended, or nil
}

// start starts all three. They end with ctx.
func start(ctx context.Context, addr, rules string, log *slog.Logger) (*demo, error) {
	d := &demo{fake: dsstest.New(), ended: make(chan error, 1)}
	key := rand.Text()
	d.fake.AddAPIKey(key, "")
	for _, u := range dsstest.DemoUsers() {
		d.fake.AddUser(u)
	}
	d.fake.AddProject(dsstest.Project{Key: "CHURN", Owner: "ann"})

	front, err := free(addr)
	if err != nil {
		return nil, err
	}
	d.gateway = "http://" + front
	if d.dss, err = serve(ctx, d.fake.SignInPage()); err != nil {
		return nil, err
	}
	if d.application, err = serve(ctx, http.HandlerFunc(upstream)); err != nil {
		return nil, err
	}
	c, _, err := config.Load([]string{
		"-listen=" + front, "-upstream=" + d.application, "-rules=" + rules, "-dss_cookies=[dss_session_*]", "-user_details",
		"-assertion.issuer=" + d.gateway, "-assertion.audience=demo", "-login_url=" + d.dss + "/sign-in?redirect=" + d.gateway + "{back}",
	}, nil)
	if err != nil {
		return nil, err
	}
	client, err := dss.New(dss.Config{URL: d.dss, APIKey: key})
	if err != nil {
		return nil, err
	}
	gateway, err := server.New(c, client, log)
	if err != nil {
		return nil, err
	}
	go func() { d.ended <- gateway.Run(ctx) }()
	return d, d.await(ctx)
}

// free returns addr, with a port that is free.
func free(addr string) (string, error) {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return "", fmt.Errorf("-addr %q: %w", addr, err)
	}
	if !tcp.IP.IsLoopback() {
		return "", fmt.Errorf("-addr %q: others can reach this address, and sign in to the fake DSS as anybody: use 127.0.0.1", addr)
	}
	l, err := net.ListenTCP("tcp", tcp)
	if errors.Is(err, syscall.EADDRINUSE) {
		return "", fmt.Errorf("-addr %q is taken: end the program that listens there, or choose another port, as in -addr 127.0.0.1:%d", addr, tcp.Port+1)
	}
	if err != nil {
		return "", fmt.Errorf("-addr %q: %w", addr, err)
	}
	return l.Addr().String(), l.Close()
}

// serve serves h on a port of its own until ctx ends.
func serve(ctx context.Context, h http.Handler) (url string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = s.Close() })
	go func() { _ = s.Serve(l) }()
	return "http://" + l.Addr().String(), nil
}

// await returns when the gateway answers.
func (d *demo) await(ctx context.Context) error {
	for {
		if reply, err := http.Get(d.gateway + "/dssauth/" + "healthz"); err == nil {
			return reply.Body.Close()
		}
		select {
		case err := <-d.ended:
			return errors.Join(errors.New("the gateway has ended"), err)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
