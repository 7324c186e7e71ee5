package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/bench"
	"github.com/dssauth/dssauth/dss"
)

// children are processes that are this program in other roles.
type children struct {
	processes []*exec.Cmd
	ends      []io.Closer
}

// library is the comparison of the library: an application with and without it.
type library struct {
	children
	dss string
	app apps
}

// apps are the addresses of the application's servers.
type apps struct{ Empty, Ours, Uncached string }

func startLibrary(connections int) (*library, error) {
	l := &library{}
	if err := l.start(&l.dss, "-role", "dss", "-connections", strconv.Itoa(connections)); err != nil {
		return nil, err
	}
	if err := l.start(&l.app, "-role", "app", "-address", l.dss); err != nil {
		l.stop()
		return nil, err
	}
	return l, nil
}

// start runs this program in another role, and reads its first line. It ends
// when its standard input ends.
func (c *children) start(says any, args ...string) error {
	cmd, err := self(args...)
	if err != nil {
		return err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.ends, c.processes = append(c.ends, in), append(c.processes, cmd)
	if err := json.NewDecoder(out).Decode(says); err != nil {
		return fmt.Errorf("a child process did not start: %w", err)
	}
	return nil
}

func self(args ...string) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	return cmd, nil
}

func (c *children) stop() {
	for _, in := range c.ends {
		_ = in.Close()
	}
	for _, cmd := range c.processes {
		_ = cmd.Wait()
	}
}

// announce sends the parent a value, and returns when the parent is done.
func announce(v any) error {
	if err := json.NewEncoder(os.Stdout).Encode(v); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func serveDSS(users int) error {
	d, err := bench.StartDSS(users)
	if err != nil {
		return err
	}
	defer d.Close()
	return announce(d.URL)
}

// serveApps serves the same empty handler three times.
func serveApps(dssURL string) error {
	client, err := dss.New(dss.Config{URL: dssURL, APIKey: bench.APIKey})
	if err != nil {
		return err
	}
	cached, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		return err
	}
	each, err := dssauth.New(dssauth.Config{Client: client, TTL: -1})
	if err != nil {
		return err
	}
	nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	var a apps
	for _, s := range []struct {
		address *string
		handler http.Handler
	}{
		{&a.Empty, nothing},
		{&a.Ours, cached.Handler(nothing)},
		{&a.Uncached, each.Handler(nothing)},
	} {
		if *s.address, err = serve(s.handler); err != nil {
			return err
		}
	}
	return announce(a)
}

func serve(h http.Handler) (address string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	return listener.Addr().String(), nil
}
