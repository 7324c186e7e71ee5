// Fakedss serves a fake Dataiku DSS on a port, with a page to sign in. It is
// for developing applications without a DSS, for scripts, and for clients in
// other languages. See its -help.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/dssauth/dssauth/dsstest"
)

const help = `Usage: fakedss [-addr 127.0.0.1:0] [-admin-key key] [-users users.json]

Serves a fake Dataiku DSS until it is interrupted. It knows users, API keys,
sessions and tickets, and forgets all of them when it ends.

To develop an application without a DSS, start both:

  fakedss -addr 127.0.0.1:11200 -admin-key dev
  DKU_DSS_URL=http://127.0.0.1:11200 DKU_API_KEY=dev your-application

Open http://127.0.0.1:11200/ and choose a user. An application at
127.0.0.1:8080 knows you then, since cookies do not know ports; one at
localhost:8080 does not. The page also changes groups, and takes the fake down.
With http://127.0.0.1:11200/?redirect=http://127.0.0.1:8080/ signing in leads
to the application. Scripts sign in with POST /sign-in (login=ann), and sign out
with POST /sign-out.

The first line of its standard output is one JSON object:

  {"url": "http://127.0.0.1:40513",
   "admin_key": "…",                        a global administrator's API key
   "users": {"ann": {"key": "…",            a personal API key
                     "cookie": "name=value"} …}}   a live session

Try it, with the values of that line:

  curl -u "$admin_key:" $url/dip/publicapi/users/ann
  curl -u "$key:" $url/dip/publicapi/auth/info
  curl -u "$admin_key:" $url/dip/publicapi/auth/info-from-browser-headers \
       -d '{"Cookie": "name=value"}'

Flags:

  -addr host:port
        the address to listen on (default 127.0.0.1:0; port 0 is any free one)
  -admin-key key
        the global administrator's API key (default: a new one each time), so
        that an application finds it in the same settings every day
  -users file
        the users, as JSON (default: ann, bob, eve and admin)
  -insecure-listen
        allow -addr other than this machine's own addresses. Anybody
        who reaches the port can then try keys and sessions on a server made for
        tests

The file of -users is a list of objects. Only login is required:

  [
    {"login": "ann", "displayName": "Ann", "email": "ann@example.com",
     "groups": ["analysts", "readers"], "profile": "DESIGNER"},
    {"login": "root", "admin": true},
    {"login": "old", "disabled": true}
  ]

The default profile is DESIGNER. admin gives an administrator's rights,
and so does the group "administrators". A disabled user's key and session are
listed and not accepted.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(help)
	case err != nil:
		fmt.Fprintln(os.Stderr, "fakedss:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends. Its errors name the setting to change.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("fakedss", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	addr := flags.String("addr", "127.0.0.1:0", "")
	adminKey := flags.String("admin-key", newKey(), "")
	file := flags.String("users", "", "")
	insecure := flags.Bool("insecure-listen", false, "")
	if err := flags.Parse(args); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			err = fmt.Errorf("%w: see -help", err)
		}
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: see -help", flags.Arg(0))
	}

	if !isKey(*adminKey) {
		return errors.New("-admin-key: want letters, digits and -._ only, as in -admin-key dev")
	}

	users := dsstest.DemoUsers()
	if *file != "" {
		var err error
		if users, err = readUsers(*file); err != nil {
			return err
		}
	}
	listener, err := listen(*addr, *insecure)
	if err != nil {
		return err
	}
	fake := dsstest.New()
	first := admit(fake, *adminKey, users, listener.Addr())
	if err := json.NewEncoder(stdout).Encode(first); err != nil {
		listener.Close()
		return fmt.Errorf("writing the first line: %w", err)
	}
	fmt.Fprintf(stderr, "Start your application with DKU_DSS_URL=%s DKU_API_KEY=%s, and sign in at %[1]s/\n", first.URL, *adminKey)
	return serve(ctx, listener, fake.SignInPage())
}

// listen refuses addresses that other machines can reach, unless insecure.
func listen(addr string, insecure bool) (net.Listener, error) {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("-addr %q: %w", addr, err)
	}
	if !tcp.IP.IsLoopback() && !insecure {
		return nil, fmt.Errorf("-addr %q: others can reach this address: use 127.0.0.1, or add -insecure-listen", addr)
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

// access is the first line of the output.
type access struct {
	URL      string                `json:"url"`
	AdminKey string                `json:"admin_key"`
	Users    map[string]userAccess `json:"users"`
}

type userAccess struct {
	Key    string `json:"key"`
	Cookie string `json:"cookie"`
}

// admit adds users, each with a key and a session, and an administrator's key.
func admit(fake *dsstest.DSS, adminKey string, users []dsstest.User, addr net.Addr) access {
	a := access{URL: "http://" + reachable(addr), AdminKey: adminKey, Users: map[string]userAccess{}}
	fake.AddAPIKey(a.AdminKey, "")
	for _, u := range users {
		fake.AddUser(u)
		key, cookie := newKey(), fake.SignIn(u.Login)
		fake.AddAPIKey(key, u.Login)
		a.Users[u.Login] = userAccess{Key: key, Cookie: cookie.Name + "=" + cookie.Value}
	}
	return a
}

// isKey reports whether a key is valid in every header, and in a file of
// settings.
func isKey(key string) bool {
	return key != "" && !strings.ContainsFunc(key, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("-._", c))
	})
}

func newKey() string { return "dkuaps-" + rand.Text() }

// reachable returns an address to connect to: 0.0.0.0 is only for listening.
func reachable(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return addr.String()
	}
	return (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: tcp.Port}).String()
}

// serve answers until ctx ends, and lets running calls end.
func serve(ctx context.Context, listener net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	// Not ctx, which has ended.
	grace, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if server.Shutdown(grace) != nil {
		server.Close()
	}
	return nil
}
