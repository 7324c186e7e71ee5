package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// front is nginx or Caddy with TLS, started with the very file that users copy.
type front struct {
	*testing.T
	name, dir, addr string
	options         string // more of nginx's
	tls             *tls.Config
}

// frontHost is the name that the certificate of httptest is for.
const frontHost = "example.com"

var fronts = map[string]func(f *front, gateway, application, port string) *exec.Cmd{
	"nginx": func(f *front, gateway, application, port string) *exec.Cmd {
		conf := "daemon off; worker_processes 1; error_log stderr; pid nginx.pid; events {}\n"
		if os.Getuid() == 0 { // otherwise its workers run as nobody, who cannot read this directory
			conf += "user root;\n"
		}
		conf += "http { access_log off; " + f.options + "\n"
		for _, what := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
			conf += what + "_temp_path " + what + ";\n"
		}
		f.write("nginx.conf", conf+f.changed("nginx.conf",
			"server 127.0.0.1:8080;", "server "+gateway+";",
			"server 127.0.0.1:3000;", "server "+application+";",
			"listen 443 ssl http2;", "listen 127.0.0.1:"+port+" ssl http2;")+"}\n")
		return f.command("nginx", "-p", f.dir, "-e", "stderr", "-c", f.file("nginx.conf"))
	},
	"caddy": func(f *front, gateway, application, port string) *exec.Cmd {
		f.write("Caddyfile", "{\n\tadmin off\n\tauto_https disable_redirects\n\thttps_port "+port+"\n\tdefault_bind 127.0.0.1\n\tskip_install_trust\n}\n"+
			f.changed("Caddyfile",
				"reverse_proxy 127.0.0.1:8080", "reverse_proxy "+gateway,
				"forward_auth 127.0.0.1:8080", "forward_auth "+gateway,
				"reverse_proxy 127.0.0.1:3000", "reverse_proxy "+application))
		cmd := f.command("caddy", "run", "--adapter", "caddyfile", "--config", f.file("Caddyfile"))
		cmd.Env = append(os.Environ(), "HOME="+f.dir, "XDG_DATA_HOME="+f.dir, "XDG_CONFIG_HOME="+f.dir)
		return cmd
	},
}

func (f *front) file(name string) string { return filepath.Join(f.dir, name) }

func (f *front) write(name, text string) {
	require.NoError(f, os.WriteFile(f.file(name), []byte(text), 0o600))
}

// changed returns a file of the gateway with replacements for what depends on the
// machine. Each text to replace occurs once in the file.
func (f *front) changed(name string, replacements ...string) string {
	data, err := os.ReadFile(filepath.Join("..", "..", name))
	require.NoError(f, err)
	_, text, found := strings.Cut(string(data), "\n\n") // without the comment at its head
	require.True(f, found)
	replacements = append(replacements, "/etc/ssl/app.example.pem", f.file("cert.pem"),
		"/etc/ssl/private/app.example.key", f.file("key.pem"), "app.example", frontHost)
	for i := 0; i < len(replacements); i += 2 {
		require.Equal(f, 1, strings.Count(text, replacements[i]), "%s in %s", replacements[i], name)
		text = strings.Replace(text, replacements[i], replacements[i+1], 1)
	}
	return text
}

func (f *front) command(name string, args ...string) *exec.Cmd {
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil && os.Getenv("CI") == "true" {
		f.Fatal(name + " is missing: apt-get install " + name)
	} else if err != nil {
		f.Skip(name + " is missing: apt-get install " + name)
	}
	return exec.Command(path, args...)
}

// newFront starts nginx or Caddy in front of an application.
func newFront(t *testing.T, name, gateway, application, options string) *front {
	f := &front{T: t, name: name, dir: t.TempDir(), options: options}
	f.certificate()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f.addr = free.Addr().String()
	require.NoError(t, free.Close())
	_, port, err := net.SplitHostPort(f.addr)
	require.NoError(t, err)
	cmd := fronts[name](f, gateway, application, port)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			end := said.String()
			t.Logf("%s said at last:\n%s", name, end[max(0, len(end)-3000):])
		}
	})
	require.Eventually(t, func() bool {
		conn, err := tls.Dial("tcp", f.addr, f.tls)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, 30*time.Second, 20*time.Millisecond, name)
	return f
}

// certificate writes the certificate of httptest.
func (f *front) certificate() {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	pair := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	require.NoError(f, err)
	f.write("cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})))
	f.write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	f.tls = &tls.Config{RootCAs: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: frontHost}
}

// client is a browser.
func (f *front) client(http2 bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, f.addr)
		},
		TLSClientConfig: f.tls.Clone(),
		Protocols:       protocols,
	}
	f.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// behind returns a world whose upstream stands behind nginx or Caddy.
func behind(t *testing.T, name string, args ...string) *world {
	w := newWorld(t, args...)
	f := newFront(t, name, strings.TrimPrefix(w.url, "http://"), strings.TrimPrefix(w.upstream.URL, "http://"), "")
	w.front, w.client = f, f.client(true)
	w.url = "https://" + frontHost
	return w
}

func eachFront(t *testing.T, test func(t *testing.T, w *world), args ...string) {
	for name := range fronts {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, behind(t, name, args...)) })
	}
}

func text(t *testing.T, reply *http.Response) string {
	body, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	return string(body)
}

var navigation = []string{"Accept", "text/html", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}

func TestUpstreamBehindAnotherProxyIsToldWhoAsks(t *testing.T) {
	eachFront(t, func(t *testing.T, w *world) {
		ann, bob, eve := w.dss.SignIn("ann"), w.dss.SignIn("bob"), w.dss.SignIn("eve")
		for _, who := range []struct {
			cookie                     *http.Cookie
			login, groups, name, email string
		}{{ann, "ann", "administrators,data%2C team", "%C3%84nn %C3%84rbel", "ann@example.com"}, {bob, "bob", "readers", "", ""}, {eve, "eve", "", "", ""}} {
			for _, others := range []string{"", "theme=dark; n={env.HOME}"} {
				headers := []string{"X-Forwarded-For", "192.0.2.1", "X-Forwarded-Host", "other.example", "X-Forwarded-Proto", "http"}
				if others != "" {
					headers = append(headers, "Cookie", others)
				}
				reply := w.get("/page%20x?a=1;b=%zz", who.cookie, headers...)
				require.Equal(t, 200, reply.StatusCode, who.login)
				assert.Equal(t, 2, reply.ProtoMajor)
				saw := w.upstream.last()
				assert.Equal(t, "/page%20x?a=1;b=%zz", saw.Target)
				assert.Equal(t, who.login, saw.Header.Get("Remote-User"))
				assert.Equal(t, who.groups, saw.Header.Get("Remote-Groups"))
				assert.Equal(t, who.name, saw.Header.Get("Remote-Name"))
				assert.Equal(t, who.email, saw.Header.Get("Remote-Email"))
				assert.NotEmpty(t, saw.Header.Get(assertionHeader))
				assert.Equal(t, others, strings.Join(saw.Header["Cookie"], "; "))
				if others == "" {
					assert.NotContains(t, saw.Header, "Cookie")
				}
				assert.NotContains(t, saw.Header, cookieHeader)
				assert.Equal(t, frontHost, saw.Host)
				assert.Equal(t, []string{"https"}, saw.Header["X-Forwarded-Proto"])
				assert.Equal(t, []string{"127.0.0.1"}, saw.Header["X-Forwarded-For"])
				assert.Equal(t, []string{frontHost}, saw.Header["X-Forwarded-Host"])
			}
		}
		require.Equal(t, 200, w.get("/open/", nil).StatusCode)
		saw := w.upstream.last()
		for _, name := range []string{"Remote-User", "Remote-Groups", "Remote-Name", "Remote-Email", assertionHeader, "Cookie"} {
			assert.Empty(t, strings.Join(saw.Header[name], ""), name)
		}
		w.dss.SetDown(true)
		assert.Equal(t, 200, w.get("/open/", w.dss.SignIn("bob")).StatusCode)
	}, "-user_details=true")
}

func TestRefusalsBehindAnotherProxy(t *testing.T) {
	eachFront(t, func(t *testing.T, w *world) {
		eve := w.dss.SignIn("eve")
		reply := w.get("/page?a=1&b=%2F", nil, navigation...)
		assert.Equal(t, 3, reply.StatusCode/100)
		assert.Equal(t, "https://dss.example/login/?to=%2Fpage%3Fa%3D1%26b%3D%252F", reply.Header.Get("Location"))
		reply = w.get("/api/x", nil, "Accept", "application/json")
		assert.Equal(t, 401, reply.StatusCode)
		assert.Contains(t, text(t, reply), "Sign in")

		reply = w.do("POST", "/form", nil, strings.NewReader("a=1"), append(navigation, "Content-Type", "application/x-www-form-urlencoded")...)
		assert.Equal(t, 401, reply.StatusCode)
		assert.Contains(t, text(t, reply), "<html")
		reply = w.get("/admin/", eve, navigation...)
		assert.Equal(t, 403, reply.StatusCode)
		assert.Contains(t, text(t, reply), "<html")
		assert.Equal(t, 403, w.do("DELETE", "/api/x", eve, nil).StatusCode)
		assert.Equal(t, 400, w.get("/open/..%2Fadmin", eve).StatusCode)
		for own, want := range map[string]map[string]int{
			"/dssauth/check": {"nginx": 404, "caddy": 400}, "/dssauth/refusal": {"nginx": 400, "caddy": 400}, "/dssauth/readyz": {"nginx": 400, "caddy": 400},
		} {
			assert.Equal(t, want[w.front.name], w.get(own, eve).StatusCode, own)
		}
		reply = w.get("/dssauth/jwks.json", nil)
		assert.Equal(t, 200, reply.StatusCode)
		assert.Contains(t, text(t, reply), `"keys"`)
		assert.Empty(t, w.upstream.all())

		// An upload without an end must be refused at once. It must not be
		// stored first.
		body, send := io.Pipe()
		defer send.Close()
		go func() {
			part := make([]byte, 64<<10)
			for _, err := send.Write(part); err == nil; _, err = send.Write(part) {
			}
		}()
		assert.Equal(t, 401, w.do("POST", "/upload", nil, body).StatusCode)

		w.dss.SetDown(true)
		reply = w.get("/page", w.dss.SignIn("bob"), navigation...)
		assert.Equal(t, 503, reply.StatusCode)
		assert.NotEmpty(t, reply.Header.Get("Retry-After"))
		assert.Contains(t, text(t, reply), "<html")
		assert.Empty(t, w.upstream.all())
	}, "-login_url=https://dss.example/login/?to={back}")
}

func TestOtherProxyPassesNothingIfTheGatewayIsGone(t *testing.T) {
	for name := range fronts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstream := newUpstream(t)
			gone := httptest.NewServer(nil)
			gone.Close()
			f := newFront(t, name, gone.Listener.Addr().String(), upstream.Listener.Addr().String(), "")
			for _, path := range []string{"/", "/open/", "/dssauth/check", "/dssauth/jwks.json"} {
				reply, err := f.client(true).Get("https://" + frontHost + path)
				require.NoError(t, err)
				reply.Body.Close()
				assert.Contains(t, []int{404, 500, 502}, reply.StatusCode, path)
			}
			assert.Empty(t, upstream.all())
		})
	}
}

func TestAnswersPassAnotherProxyUntouched(t *testing.T) {
	eachFront(t, func(t *testing.T, w *world) {
		w.upstream.mux.HandleFunc("/answer/{status}", func(rw http.ResponseWriter, r *http.Request) {
			status, _ := strconv.Atoi(r.PathValue("status"))
			rw.Header().Set("X-Own", "own")
			rw.WriteHeader(status)
			fmt.Fprint(rw, "own words")
		})
		for _, status := range []int{401, 403, 404, 500, 502, 503} {
			reply := w.get(fmt.Sprintf("/answer/%d", status), w.dss.SignIn("ann"))
			assert.Equal(t, status, reply.StatusCode)
			assert.Equal(t, "own", reply.Header.Get("X-Own"))
			assert.Equal(t, "own words", text(t, reply))
		}
	})
}

func TestStreamsPassAnotherProxy(t *testing.T) {
	eachFront(t, func(t *testing.T, w *world) {
		read := make(chan struct{})
		w.upstream.mux.HandleFunc("GET /socket", func(rw http.ResponseWriter, r *http.Request) {
			conn, err := websocket.Accept(rw, r, nil)
			if !assert.NoError(t, err) {
				return
			}
			defer conn.CloseNow()
			if kind, message, err := conn.Read(r.Context()); assert.NoError(t, err) {
				assert.NoError(t, conn.Write(r.Context(), kind, message))
				_, _, _ = conn.Read(r.Context())
			}
		})
		w.upstream.mux.HandleFunc("GET /events", func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(rw, "data: one\n\n")
			rw.(http.Flusher).Flush()
			select {
			case <-read:
			case <-r.Context().Done():
			}
		})
		arrived := make(chan struct{})
		w.upstream.mux.HandleFunc("POST /upload", func(rw http.ResponseWriter, r *http.Request) {
			_, err := io.ReadFull(r.Body, make([]byte, 1))
			assert.NoError(t, err)
			close(arrived)
			n, err := io.Copy(io.Discard, r.Body)
			assert.NoError(t, err)
			fmt.Fprint(rw, n+1)
		})
		ann := w.dss.SignIn("ann")
		conn, _, err := websocket.Dial(t.Context(), w.url+"/socket", &websocket.DialOptions{
			HTTPClient: w.front.client(false), HTTPHeader: http.Header{"Cookie": {ann.String()}},
		})
		require.NoError(t, err)
		defer conn.CloseNow()
		require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte("hello")))
		_, message, err := conn.Read(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "hello", string(message))
		_, reply, err := websocket.Dial(t.Context(), w.url+"/socket", &websocket.DialOptions{HTTPClient: w.front.client(false)})
		require.Error(t, err)
		assert.Equal(t, 401, reply.StatusCode)

		reply = w.get("/events", ann)
		first := make([]byte, 11)
		_, err = io.ReadFull(reply.Body, first)
		require.NoError(t, err, "it is not kept back")
		assert.Equal(t, "data: one\n\n", string(first))
		close(read)

		const size = 20 << 20
		body, send := io.Pipe()
		go func() {
			_, _ = send.Write([]byte("1"))
			<-arrived // it is not held back, either
			_, _ = send.Write(make([]byte, size-1))
			send.Close()
		}()
		assert.Equal(t, fmt.Sprint(size), text(t, w.do("POST", "/upload", ann, body)))
	})
}
