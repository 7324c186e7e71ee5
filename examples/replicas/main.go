// Replicas is an application that runs twice. The two replicas share answers
// about visitors through Redis, so only one of them asks DSS about a visitor.
// The program starts redis-server from PATH, a fake DSS that signs in any user
// without a password, and both replicas. Each page is renewed every second:
// sign out on one, and watch the session end on the other.
//
//	go run ./examples/replicas
//	go run ./examples/replicas -redis 127.0.0.1:6379
//	go run ./examples/replicas -addr 127.0.0.1:9001 -addr2 127.0.0.1:9002
//
// DSSAUTH_STORE_SECRETS has the secrets in base64, with commas between them.
// Without it the program makes a random secret.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/redis/rueidis"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

func main() {
	redis := flag.String("redis", "", "address of a running Redis or Valkey; without it redis-server is started")
	first := flag.String("addr", "127.0.0.1:8081", "the address of the first replica")
	second := flag.String("addr2", "127.0.0.1:8082", "the address of the second replica, on the same host name")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, *redis, *first, *second); err != nil {
		fmt.Fprintln(os.Stderr, "replicas:", err)
		os.Exit(1)
	}
}

// ttl is long, so that only the notice can end a session on the other replica.
const ttl = time.Minute

// run serves until ctx ends.
func run(ctx context.Context, stdout io.Writer, redis string, addresses ...string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	secrets := [][]byte{make([]byte, 32)}
	_, _ = rand.Read(secrets[0]) // it never fails
	if list := os.Getenv("DSSAUTH_STORE_SECRETS"); list != "" {
		var err error
		if secrets, err = secretsOf(list); err != nil {
			return fmt.Errorf("DSSAUTH_STORE_SECRETS: %w", err)
		}
	}
	if redis == "" {
		address, ended, err := startRedis(ctx)
		if err != nil {
			return err
		}
		defer ended()
		redis = address
	}
	defer stop() // before redis-server is waited for
	fake, key := dsstest.New(), rand.Text()
	fake.AddAPIKey(key, "")
	for _, u := range dsstest.DemoUsers() {
		fake.AddUser(u)
	}
	listener, err := listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	servers := []server{{listener, fake}}
	for i, address := range addresses {
		client, err := dss.New(dss.Config{URL: "http://" + listener.Addr().String(), APIKey: key})
		if err != nil {
			return err
		}
		defer client.CloseIdleConnections()
		r, err := newReplica(client, rueidis.ClientOption{InitAddress: []string{redis}}, secrets, ttl)
		if err != nil {
			return err
		}
		defer r.close()
		at, err := listen(address)
		if err != nil {
			return err
		}
		servers = append(servers, server{at, newRouter(r, fake, fmt.Sprintf("Replica %d", i+1))})
		fmt.Fprintf(stdout, "replica %d: http://%s/\n", i+1, at.Addr())
	}
	fmt.Fprintf(stdout, "redis: %s\nThis DSS is a fake. Sign in on one page, and open the other.\n", redis)
	return serve(ctx, servers)
}

// startRedis starts a server that ends with ctx. The function ended waits for
// that.
func startRedis(ctx context.Context) (address string, ended func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	address = l.Addr().String()
	_ = l.Close()
	_, port, _ := net.SplitHostPort(address)
	server := exec.CommandContext(ctx, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", os.TempDir())
	if err := server.Start(); err != nil {
		return "", nil, fmt.Errorf("%w: install Redis, or name a running one, as in -redis 127.0.0.1:6379", err)
	}
	// Without this wait the replicas would log warnings, and connect later.
	for range 500 {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return address, func() { _ = server.Wait() }, nil
}

// listen refuses addresses that others can reach: the fake DSS asks for no
// password.
func listen(address string) (net.Listener, error) {
	tcp, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	if !tcp.IP.IsLoopback() {
		return nil, fmt.Errorf("address %q: others can reach it, and sign in to the fake DSS as any user: use 127.0.0.1", address)
	}
	return net.ListenTCP("tcp", tcp)
}

type server struct {
	listener net.Listener
	handler  http.Handler
}

func serve(ctx context.Context, servers []server) error {
	failed := make(chan error, len(servers))
	for _, s := range servers {
		h := &http.Server{Handler: s.handler, ReadHeaderTimeout: 5 * time.Second}
		defer h.Close()
		go func() { failed <- h.Serve(s.listener) }()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// newRouter is the application: a page with the visitor's identity and its
// source, beside the fake DSS's forms.
func newRouter(r *replica, fake *dsstest.DSS, name string) http.Handler {
	page := fake.SignInPage()
	show := func(w http.ResponseWriter, request *http.Request) { showPage(w, request, r, fake, name) }
	mux := http.NewServeMux()
	// Also in an outage: the page has the switch to end it.
	mux.HandleFunc("GET /{$}", show)
	mux.HandleFunc("GET /status", show)
	mux.Handle("GET /me", r.auth.Handler(http.HandlerFunc(me)))
	mux.Handle("POST /sign-in", r.toldAll(page))
	mux.Handle("POST /sign-out", r.toldAll(endSession(fake)))
	mux.Handle("POST /groups", r.regroup(page))
	mux.Handle("POST /outage", page)
	return http.NewCrossOriginProtection().Handler(http.MaxBytesHandler(mux, 64<<10))
}

// endSession leaves the browser its cookie, so that the page on the other
// replica shows whether that replica got the notice.
func endSession(fake *dsstest.DSS) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, c := range r.Cookies() {
			fake.SignOut(c)
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
}

func me(w http.ResponseWriter, r *http.Request) {
	id, ok := dssauth.FromContext(r.Context())
	if !ok { // only where the middleware did not run
		http.Error(w, "no visitor", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprintln(w, id.Login, id.Groups())
}

// pageTemplate is a page with the fake DSS's forms. A frame in it shows the
// replica's knowledge, and is renewed every second.
var pageTemplate = template.Must(template.New("").Parse(`{{.Head}}{{if .Status}}<meta http-equiv="refresh" content="1">{{end}}
</head>
<body>
{{if .Status}}<section aria-label="You">
<div class="row wrap"><div class="grow">
<div class="who">{{if .Known}}You are {{.Identity.Login}}{{else if .Down}}DSS does not answer{{else}}You are not signed in{{end}}</div>
<div class="quiet small">{{if .Known}}In {{.Identity.Groups}}; DSS was asked at {{.Identity.AsOf.Format "15:04:05"}}. {{end}}Lookups of this replica in DSS: {{.Stats.Lookups}}. Answers from the store: {{.Stats.Store.Hits}}.{{if .Stats.Store.Out}} The store is out.{{end}}</div>
</div>
{{if .Known}}<form method="post" action="sign-out" target="_top"><button>Sign out</button></form>{{end}}
</div>
</section>
{{else}}<header><h1>{{.Name}}</h1></header>
<main>
<iframe src="status" title="You" style="border: 0; width: 100%; height: 8rem"></iframe>
{{.SignIn}}
</main>
{{end}}</body>
</html>
`))

func showPage(w http.ResponseWriter, request *http.Request, r *replica, fake *dsstest.DSS, name string) {
	view := struct {
		Name                string
		Head, SignIn        template.HTML
		Status, Known, Down bool
		Identity            dssauth.Identity
		Stats               dssauth.Stats
	}{Name: name, Head: dsstest.PageHead(name), SignIn: fake.SignInControls(request, "/"), Status: request.URL.Path == "/status"}
	request, err := r.auth.Authenticate(request)
	view.Down = errors.Is(err, dssauth.ErrUnavailable)
	if err == nil {
		view.Identity, view.Known = dssauth.FromContext(request.Context())
	}
	view.Stats = r.auth.Stats()
	var body bytes.Buffer
	if err := pageTemplate.Execute(&body, view); err != nil {
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = body.WriteTo(w)
}
