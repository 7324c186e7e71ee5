package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
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

	"github.com/dssauth/dssauth/examples/internal/chromium"
)

const host = "dss.example"

// beside is the application and a fake DSS, both behind one proxy.
type beside struct {
	*testing.T
	fixture
	ctx       context.Context
	dir       string // the proxy's
	http, tls string // its ports
	roots     *x509.CertPool
	client    *http.Client // a browser: it has a cookie jar, and does not follow redirects

	arrived, read chan struct{} // closed when the first byte of an upload, or of an answer, has arrived
}

// url returns the URL of a path, as a browser sees it.
func (b *beside) url(path string) string { return "https://" + net.JoinHostPort(host, b.tls) + path }

// upstreams starts DSS and the application, each with a few more routes, and
// returns their addresses.
func (b *beside) upstreams() (dss, application string) {
	front := http.NewServeMux()
	front.Handle("/", b.dss.DSS)
	front.HandleFunc("POST /login/", func(w http.ResponseWriter, _ *http.Request) { http.SetCookie(w, b.dss.SignIn("ann")) })
	front.HandleFunc("GET /socket", echo)
	dssServer := httptest.NewServer(front)
	b.Cleanup(dssServer.Close)

	mux := http.NewServeMux()
	mux.Handle("/", b.handler)
	mux.Handle("GET /app/test/socket", b.app.auth.Handler(http.HandlerFunc(echo)))
	mux.HandleFunc("GET /app/test/request", func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Host", r.Host)
		json.NewEncoder(w).Encode(r.Header)
	})
	mux.HandleFunc("POST /app/test/first-byte", func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadFull(r.Body, make([]byte, 1))
		assert.NoError(b, err)
		close(b.arrived)
		_, _ = io.Copy(w, r.Body)
	})
	mux.HandleFunc("GET /app/test/first-byte", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "x")
		assert.NoError(b, http.NewResponseController(w).Flush())
		<-b.read
	})
	appServer := httptest.NewServer(mux)
	b.Cleanup(appServer.Close)
	return dssServer.Listener.Addr().String(), appServer.Listener.Addr().String()
}

// echo sends back one message, to pages of its own host.
func echo(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	if kind, said, err := conn.Read(r.Context()); err == nil {
		_ = conn.Write(r.Context(), kind, said)
		_, _, _ = conn.Read(r.Context())
	}
}

// proxies start with the very files that users copy. Only this machine's ports
// and certificates are put in.
var proxies = map[string]func(b *beside, dss, application string) *exec.Cmd{
	"nginx": func(b *beside, dss, application string) *exec.Cmd {
		b.write("dss.conf", b.changed("nginx.conf",
			"server 127.0.0.1:11200;", "server "+dss+";",
			"server 127.0.0.1:8080;", "server "+application+";",
			"listen 80;", "listen 127.0.0.1:"+b.http+";",
			"listen 443 ssl http2;", "listen 127.0.0.1:"+b.tls+" ssl http2;",
			"/etc/ssl/dss.example.pem", b.file("cert.pem"),
			"/etc/ssl/private/dss.example.key", b.file("key.pem")))
		return nginx(b.T, b.dir, "include dss.conf;")
	},
	"caddy": func(b *beside, dss, application string) *exec.Cmd {
		const options = "{\n\tadmin off\n\thttp_port %s\n\thttps_port %s\n\tdefault_bind 127.0.0.1\n\tskip_install_trust\n}\n"
		b.write("Caddyfile", fmt.Sprintf(options, b.http, b.tls)+b.changed("Caddyfile",
			"reverse_proxy 127.0.0.1:11200", "reverse_proxy "+dss,
			"reverse_proxy 127.0.0.1:8080", "reverse_proxy "+application,
			"/etc/ssl/dss.example.pem", b.file("cert.pem"),
			"/etc/ssl/private/dss.example.key", b.file("key.pem")))
		cmd := command(b.T, "caddy", "run", "--adapter", "caddyfile", "--config", b.file("Caddyfile"))
		cmd.Env = append(os.Environ(), "HOME="+b.dir, "XDG_DATA_HOME="+b.dir, "XDG_CONFIG_HOME="+b.dir)
		return cmd
	},
}

func (b *beside) file(name string) string { return filepath.Join(b.dir, name) }

func (b *beside) write(name, text string) {
	require.NoError(b, os.WriteFile(b.file(name), []byte(text), 0o600))
}

// changed returns a file of this directory with replacements. Each replaced
// text occurs once.
func (b *beside) changed(name string, replacements ...string) string {
	data, err := os.ReadFile(name)
	require.NoError(b, err)
	text := string(data)
	for i := 0; i < len(replacements); i += 2 {
		require.Equal(b, 1, strings.Count(text, replacements[i]), "%s in %s", replacements[i], name)
		text = strings.Replace(text, replacements[i], replacements[i+1], 1)
	}
	return text
}

// nginx returns the command that runs nginx in dir with these servers.
func nginx(t *testing.T, dir, servers string) *exec.Cmd {
	conf := "daemon off; worker_processes 1; error_log stderr; pid nginx.pid; events {}\n"
	if os.Getuid() == 0 { // its workers would run as the user nobody, who cannot read this directory
		conf += "user root;\n"
	}
	conf += "http { access_log off;\n"
	for _, what := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		conf += what + "_temp_path " + what + ";\n"
	}
	file := filepath.Join(dir, "nginx.conf")
	require.NoError(t, os.WriteFile(file, []byte(conf+servers+"}\n"), 0o600))
	return command(t, "nginx", "-p", dir, "-e", "stderr", "-c", file)
}

func command(t *testing.T, name string, args ...string) *exec.Cmd {
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		chromium.Missing(t, name+" is missing: apt-get install "+name)
	}
	return exec.Command(path, args...)
}

// runProxy runs a proxy until t ends. If t failed, it logs the proxy's output.
func runProxy(t *testing.T, cmd *exec.Cmd) {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", cmd.Path, said.String())
		}
	})
}

// eventuallyOK waits until a URL answers with 200.
func eventuallyOK(t *testing.T, client *http.Client, url string) {
	require.Eventually(t, func() bool {
		resp, err := client.Get(url)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, 30*time.Second, 20*time.Millisecond, url)
}

// certificate writes a certificate of a test authority for the host.
func (b *beside) certificate() {
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(b, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(b, err)
	root, err := x509.CreateCertificate(rand.Reader, authority, authority, &authorityKey.PublicKey, authorityKey)
	require.NoError(b, err)
	cert, err := x509.CreateCertificate(rand.Reader, leaf, authority, &key.PublicKey, authorityKey)
	require.NoError(b, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(b, err)
	for name, block := range map[string]pem.Block{
		"ca.pem": {Type: "CERTIFICATE", Bytes: root}, "cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: secret},
	} {
		b.write(name, string(pem.EncodeToMemory(&block)))
	}
	ca, err := x509.ParseCertificate(root)
	require.NoError(b, err)
	b.roots = x509.NewCertPool()
	b.roots.AddCert(ca)
}

func freePort(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
}

func newBeside(t *testing.T, proxy string) *beside {
	b := &beside{T: t, fixture: newFixture(t, "/app"), dir: t.TempDir(), http: freePort(t), tls: freePort(t), arrived: make(chan struct{}), read: make(chan struct{})}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	b.ctx = ctx
	b.certificate()
	dss, application := b.upstreams()
	runProxy(t, proxies[proxy](b, dss, application))
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+b.tls)
		},
		TLSClientConfig:   &tls.Config{RootCAs: b.roots},
		ForceAttemptHTTP2: true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	b.client = &http.Client{Transport: transport, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	eventuallyOK(t, b.client, b.url("/app/healthz"))
	return b
}

// ask sends a request. It reads the body, unless it is an event stream.
func (b *beside) ask(method, path string, body io.Reader, headers ...string) (*http.Response, string) {
	b.Helper()
	r, err := http.NewRequestWithContext(b.ctx, method, b.url(path), body)
	require.NoError(b, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := b.client.Do(r)
	require.NoError(b, err)
	b.Cleanup(func() { resp.Body.Close() })
	if resp.Header.Get("Content-Type") == "text/event-stream" {
		return resp, ""
	}
	text, err := io.ReadAll(resp.Body)
	require.NoError(b, err)
	return resp, string(text)
}

func TestBesideDSSBehindOneProxy(t *testing.T) {
	for name := range proxies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBeside(t, name)
			b.refusesNobody()
			b.cookieOfDSSArrives()
			b.servesDSS()
			b.knowsThatBrowsersUseTLS()
			b.hidesWhatOnlyDSSMaySay()
			b.refusesOtherSites()
			b.passesWebsockets()
			b.passesUploads()
			b.passesChecksOfThePage()
			b.passesEventStreams()
		})
	}
}

func (b *beside) refusesNobody() {
	resp, _ := b.ask("GET", "/app/me", nil)
	assert.Equal(b, http.StatusUnauthorized, resp.StatusCode)
	resp, _ = b.ask("GET", "/app", nil)
	assert.Equal(b, 3, resp.StatusCode/100)
	assert.Equal(b, "/app/", resp.Header.Get("Location"))
}

// The browser sends DSS's cookie to the application, since both have the same
// host name. Over HTTP/2 browsers send each cookie in a header of its own.
func (b *beside) cookieOfDSSArrives() {
	resp, _ := b.ask("POST", "/login/", nil)
	require.Len(b, resp.Cookies(), 1)
	b.client.Jar.SetCookies(resp.Request.URL, []*http.Cookie{{Name: "other", Value: "1", Path: "/"}})
	resp, text := b.ask("GET", "/app/me", nil)
	assert.Equal(b, http.StatusOK, resp.StatusCode)
	assert.Equal(b, 2, resp.ProtoMajor)
	assert.Contains(b, text, `"login":"ann"`)
	assert.Equal(b, "private", resp.Header.Get("Cache-Control"))
}

func (b *beside) servesDSS() {
	r, err := http.NewRequestWithContext(b.ctx, http.MethodGet, b.url("/dip/publicapi/auth/info"), nil)
	require.NoError(b, err)
	r.SetBasicAuth(b.dss.AdminKey(), "")
	r.Header.Set("X-DKU-ProxyUser", "bob")
	resp, err := b.client.Do(r)
	require.NoError(b, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(b, err)
	assert.Equal(b, http.StatusOK, resp.StatusCode)
	assert.NotEmpty(b, resp.Header.Get("DSS-Version"))
	assert.Contains(b, string(text), `"authIdentifier":"bob"`, "clients of DSS's API may act as others")
}

// A browser's own headers about that are not believed.
func (b *beside) knowsThatBrowsersUseTLS() {
	_, text := b.ask("GET", "/app/test/request", nil, "X-Forwarded-Proto", "http", "X-Forwarded-For", "192.0.2.1")
	var got http.Header
	require.NoError(b, json.Unmarshal([]byte(text), &got))
	assert.Equal(b, []string{"https"}, got["X-Forwarded-Proto"])
	assert.Equal(b, []string{"127.0.0.1"}, got["X-Forwarded-For"])
	assert.Equal(b, []string{net.JoinHostPort(host, b.tls)}, got["Host"], "as the browser sent it")

	anonymous := *b.client
	anonymous.Jar = nil
	r, err := http.NewRequestWithContext(b.ctx, http.MethodGet, b.url("/app/"), nil)
	require.NoError(b, err)
	r.Header.Set("Accept", "text/html")
	r.Header.Set("X-Forwarded-Proto", "http")
	resp, err := anonymous.Do(r)
	require.NoError(b, err)
	defer resp.Body.Close()
	assert.Equal(b, http.StatusFound, resp.StatusCode)
	assert.Equal(b, "/login/", resp.Header.Get("Location"))
	require.Len(b, resp.Cookies(), 1)
	assert.True(b, resp.Cookies()[0].Secure)
	assert.True(b, strings.HasPrefix(resp.Cookies()[0].Name, "__Host-"), resp.Cookies()[0].Name)

	plain := anonymous.Transport.(*http.Transport).Clone()
	plain.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+b.http)
	}
	anonymous.Transport = plain
	resp, err = anonymous.Get("http://" + host + "/app/me?x=1")
	require.NoError(b, err)
	defer resp.Body.Close()
	defer plain.CloseIdleConnections()
	assert.Equal(b, 3, resp.StatusCode/100)
	assert.Regexp(b, `^https://dss\.example(:\d+)?/app/me\?x=1$`, resp.Header.Get("Location"))
}

func (b *beside) hidesWhatOnlyDSSMaySay() {
	spoof := []string{"X-DKU-APITicket", "canary", "X-DKU-ProxyUser", "canary"}
	_, text := b.ask("GET", "/app/test/request", nil, spoof...)
	assert.NotContains(b, text, "canary")

	b.app.auth.ForgetUser("ann")
	_, text = b.ask("GET", "/app/me", nil, append(spoof, "X-DKU-Other", "canary")...)
	assert.Contains(b, text, `"login":"ann"`)
	assert.NotContains(b, fmt.Sprint(b.dss.LastBrowserHeaders()), "canary")
}

func (b *beside) refusesOtherSites() {
	resp, _ := b.ask("POST", "/app/upload", strings.NewReader("data"), "Origin", "https://evil.example")
	assert.Equal(b, http.StatusForbidden, resp.StatusCode)
	resp, _ = b.ask("POST", "/app/upload", strings.NewReader("data"), "Origin", strings.TrimSuffix(b.url(""), "/"))
	assert.Equal(b, http.StatusOK, resp.StatusCode)
}

func (b *beside) passesWebsockets() {
	for _, path := range []string{"/app/test/socket", "/socket"} {
		dial := func(origin string) (*websocket.Conn, *http.Response, error) {
			transport := b.client.Transport.(*http.Transport).Clone()
			transport.ForceAttemptHTTP2, transport.TLSNextProto = false, map[string]func(string, *tls.Conn) http.RoundTripper{}
			transport.TLSClientConfig.NextProtos = nil
			b.Cleanup(transport.CloseIdleConnections)
			client := *b.client
			client.Transport = transport
			return websocket.Dial(b.ctx, b.url(path), &websocket.DialOptions{HTTPClient: &client, HTTPHeader: http.Header{"Origin": {origin}}})
		}
		_, resp, err := dial("https://evil.example")
		require.Error(b, err)
		assert.Equal(b, http.StatusForbidden, resp.StatusCode)

		conn, _, err := dial(b.url(""))
		require.NoError(b, err)
		require.NoError(b, conn.Write(b.ctx, websocket.MessageText, []byte("hello")))
		_, said, err := conn.Read(b.ctx)
		require.NoError(b, err)
		assert.Equal(b, "hello", string(said))
		conn.CloseNow()
	}
}

// passesChecksOfThePage runs the page's checks. curl finds the host on this
// machine, and trusts its certificate.
func (b *beside) passesChecksOfThePage() {
	b.write(".curlrc", fmt.Sprintf("cacert = %q\nconnect-to = %q\nconnect-to = %q\n", b.file("ca.pem"),
		host+":443:127.0.0.1:"+b.tls, host+":80:127.0.0.1:"+b.http))
	b.write("cookie", "Cookie: "+b.dss.SignIn("ann").String()+"\n")
	for _, section := range []string{"How the DSS cookie reaches your application", "Beside DSS, behind one reverse proxy", "Kubernetes"} {
		runChecks(b.T, section, b.dir, nil)
	}
}

// passesUploads sends more than nginx's default limit, and a body whose end is
// sent only after the application has read its beginning.
func (b *beside) passesUploads() {
	_, text := b.ask("POST", "/app/upload", bytes.NewReader(make([]byte, 20<<20)))
	assert.Equal(b, "ann sent 20971520 bytes\n", text)

	body, end := io.Pipe()
	defer end.Close()
	go func() {
		_, _ = io.WriteString(end, "x")
		select {
		case <-b.arrived:
			_, _ = io.WriteString(end, "yz")
			end.Close()
		case <-b.ctx.Done():
			end.CloseWithError(b.ctx.Err())
		}
	}()
	_, text = b.ask("POST", "/app/test/first-byte", body)
	assert.Equal(b, "yz", text)
}

// passesEventStreams reads an event while its stream stays open. It also reads
// the beginning of another answer, without the header that asks the proxy not
// to wait.
func (b *beside) passesEventStreams() {
	r, err := http.NewRequestWithContext(b.ctx, http.MethodGet, b.url("/app/test/first-byte"), nil)
	require.NoError(b, err)
	slow, err := b.client.Do(r)
	require.NoError(b, err)
	defer slow.Body.Close()
	_, err = io.ReadFull(slow.Body, make([]byte, 1))
	require.NoError(b, err)
	close(b.read)

	resp, _ := b.ask("GET", "/app/events", nil)
	require.Equal(b, http.StatusOK, resp.StatusCode)
	lines := bufio.NewScanner(resp.Body)
	require.True(b, lines.Scan())
	assert.Equal(b, "event: hello", lines.Text())
	close(b.app.stopping)
	var rest []string
	for lines.Scan() {
		rest = append(rest, lines.Text())
	}
	assert.Equal(b, []string{"data: ann", "", "event: restart", "data: ", ""}, rest)
}
