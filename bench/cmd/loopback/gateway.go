package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dssauth/dssauth/bench"
)

// gateway has three proxies before one upstream: ReverseProxy alone, the gateway as a
// reverse proxy, and Caddy. Caddy asks the gateway's check about each request.
type gateway struct {
	upstream, alone, door, caddy string // addresses; no caddy: empty
	children                     children
	programs                     []*program // the gateway, and Caddy
	dir                          string
}

// servers are the servers under load, each with the processes between the visitors
// and the upstream. One visitor has all connections, or many have one each.
func (g *gateway) servers(many bool) []server {
	alone := server{proxyAlone, g.alone, []*exec.Cmd{g.children.processes[1]}, !many}
	door := server{proxyGateway, g.door, []*exec.Cmd{g.programs[0].cmd}, !many}
	if g.caddy == "" {
		return []server{alone, door}
	}
	return []server{alone, door, {proxyCaddy, g.caddy, []*exec.Cmd{g.programs[0].cmd, g.programs[1].cmd}, !many}}
}

// gatewayConf has a rule of each kind, an assertion, and cookies that pass.
const gatewayConf = `
rules:
  - {path: /open/, allow: everyone}
  - {path: /admin/, groups: [administrators]}
  - {path: /churn/, project: CHURN}
  - {path: /, allow: signed-in}
assertion: {issuer: "https://apps.example", audience: report-app}
dss_cookies: ["dss_session_*"]
`

var errNoCaddy = errors.New("caddy is not installed")

// startGateway builds the gateway, and starts it and its peers. If Caddy is not
// installed, it returns errNoCaddy beside the other servers.
func startGateway(dss string) (g *gateway, err error) {
	g = &gateway{}
	defer func() {
		if err != nil && !errors.Is(err, errNoCaddy) {
			g.stop()
		}
	}()
	if g.dir, err = os.MkdirTemp("", "dssauth-gateway-*"); err != nil {
		return nil, err
	}
	if err = g.children.start(&g.upstream, "-role", "upstream"); err != nil {
		return nil, err
	}
	if err = g.children.start(&g.alone, "-role", "reverseproxy", "-address", g.upstream); err != nil {
		return nil, err
	}
	if err = g.startDoor(dss); err != nil {
		return nil, err
	}
	caddy := g.startCaddy()
	if caddy != nil && !errors.Is(caddy, errNoCaddy) {
		return nil, caddy
	}
	for address, want := range map[string]string{g.alone: "", g.door: bench.Login(0), g.caddy: bench.Login(0)} {
		if address == "" {
			continue
		}
		if err = tells(address, want); err != nil {
			return nil, err
		}
	}
	return g, caddy
}

// repository is the folder in which this module's go.mod finds the library.
func repository() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/dssauth/dssauth").Output()
	return strings.TrimSpace(string(out)), err
}

func (g *gateway) startDoor(dss string) error {
	top, err := repository()
	if err != nil {
		return err
	}
	file, conf := filepath.Join(g.dir, "gateway"), filepath.Join(g.dir, "gateway.yaml")
	build := exec.Command("go", "build", "-o", file, ".")
	build.Dir = filepath.Join(top, "gateway") // a module of its own
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	if g.door, err = freeAddress(); err != nil {
		return err
	}
	if err := os.WriteFile(conf, fmt.Appendf(nil, "listen: %s\nupstream: http://%s\n%s", g.door, g.upstream, gatewayConf), 0o600); err != nil {
		return err
	}
	cmd := exec.Command(file, "-config", conf)
	cmd.Env = append(os.Environ(), "DKU_DSS_URL="+dss, "DKU_API_KEY="+bench.APIKey)
	cmd.Stderr = os.Stderr // its access log, on standard output, goes to /dev/null
	return g.run(cmd, g.door)
}

// startCaddy starts it with gateway/Caddyfile. Only addresses and TLS are changed
// in it. It may keep as many connections as the others.
func (g *gateway) startCaddy() error {
	file, err := exec.LookPath("caddy")
	if err != nil {
		return errNoCaddy
	}
	top, err := repository()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(top, "gateway", "Caddyfile"))
	if err != nil {
		return err
	}
	if g.caddy, err = freeAddress(); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(g.caddy)
	if err != nil {
		return err
	}
	conf := string(text)
	const transport = "transport http {\nkeepalive_idle_conns_per_host 512\ncompression off\n}\n"
	for _, change := range [][2]string{
		{"app.example {", "http://app.example:" + port + " {\nbind " + host},
		{"\ttls /etc/ssl/app.example.pem /etc/ssl/private/app.example.key\n", ""},
		{"reverse_proxy 127.0.0.1:8080", "reverse_proxy " + g.door},
		{"forward_auth 127.0.0.1:8080 {", "forward_auth " + g.door + " {\n" + transport},
		{"reverse_proxy 127.0.0.1:3000", "reverse_proxy " + g.upstream + " {\n" + transport + "}"},
	} {
		if strings.Count(conf, change[0]) != 1 {
			return fmt.Errorf("%q stands not once in gateway/Caddyfile", change[0])
		}
		conf = strings.Replace(conf, change[0], change[1], 1)
	}
	name := filepath.Join(g.dir, "Caddyfile")
	if err := os.WriteFile(name, []byte("{\nadmin off\nauto_https off\n}\n"+conf), 0o600); err != nil {
		return err
	}
	cmd := exec.Command(file, "run", "--config", name, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+g.dir, "XDG_CONFIG_HOME="+g.dir, "XDG_DATA_HOME="+g.dir)
	return g.run(cmd, g.caddy)
}

func (g *gateway) run(cmd *exec.Cmd, address string) error {
	p, err := startProgram(cmd, address)
	if err == nil {
		g.programs = append(g.programs, p)
	}
	return err
}

func (g *gateway) stop() {
	for _, p := range g.programs {
		p.stop()
	}
	g.children.stop()
	_ = os.RemoveAll(g.dir)
}

// who is a path of the upstream. The upstream answers it with the login that
// the proxy sent.
const who = "/who"

// serveUpstream serves an empty handler, and the path who.
func serveUpstream() error {
	address, err := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != who {
			return
		}
		if login := r.Header.Get("Remote-User"); login != "" && r.Header.Get("X-Dssauth-Assertion") != "" {
			fmt.Fprint(w, login)
		}
	}))
	if err != nil {
		return err
	}
	return announce(address)
}

// tells makes sure that a server does its work: its upstream gets the visitor's
// login.
func tells(address, login string) error {
	r := bench.Request(bench.Session, 0, 350)
	r.RequestURI, r.URL = "", &url.URL{Scheme: "http", Host: address, Path: who}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != http.StatusOK || string(said) != login) {
		err = fmt.Errorf("%s: status %d, and the upstream was told %q, not %q", address, res.StatusCode, said, login)
	}
	return err
}

// serveReverseProxy serves httputil.ReverseProxy alone, with the gateway's settings
// of the transport, the buffers and the server.
func serveReverseProxy(upstream string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 3 * time.Minute, MaxHeaderBytes: 128 << 10}
	server.Handler = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: upstream})
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			MaxIdleConns:        512,
			MaxIdleConnsPerHost: 512,
			IdleConnTimeout:     4 * time.Second,
			DisableCompression:  true,
		},
		BufferPool: &buffers{},
	}
	go func() { _ = server.Serve(listener) }()
	return announce(listener.Addr().String())
}

type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if buffer, ok := b.pool.Get().(*[]byte); ok {
		return *buffer
	}
	return make([]byte, 32<<10)
}

func (b *buffers) Put(buffer []byte) { b.pool.Put(&buffer) }

// cpuTime is the time that processes have used on all cores, on Linux.
func cpuTime(processes []*exec.Cmd) (sum time.Duration, err error) {
	const tick = time.Second / 100 // of each Linux, for programs
	for _, p := range processes {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Process.Pid))
		if err != nil {
			return 0, err
		}
		_, rest, _ := strings.Cut(string(stat), ") ") // after the program's name
		fields := strings.Fields(rest)
		for _, field := range fields[11:13] { // utime and stime
			ticks, err := strconv.Atoi(field)
			if err != nil {
				return 0, err
			}
			sum += time.Duration(ticks) * tick
		}
	}
	return sum, nil
}
