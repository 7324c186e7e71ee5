package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"debug/elf"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/gateway/internal/upstreams"
)

const configuration = `listen: 127.0.0.1:8080
upstream: http://127.0.0.1:3000
check: /dssauth/check
rules:
  - {path: /open/, allow: everyone}
  - {path: /admin/, groups: [administrators]}
  - {path: /churn/, project: CHURN}
  - {path: /, allow: signed-in}
assertion: {issuer: "https://apps.example", audience: "report-app"}
`

// underTest is a variable that turns the test's own program into the gateway.
const underTest = "GATEWAY_UNDER_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(underTest) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// command returns a command for the gateway. It does not inherit the settings
// for DSS from this process.
func command(t *testing.T, fake *dsstest.Server, env []string, args ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), program, args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "DKU_") && !strings.HasPrefix(v, "DSSAUTH_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(append(cmd.Env, underTest+"=1", "HOME="+t.TempDir()), env...)
	if fake != nil {
		cmd.Env = append(cmd.Env, "DKU_DSS_URL="+fake.URL(), "DKU_API_KEY="+fake.AdminKey())
	}
	return cmd
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func newDSS(t *testing.T) *dsstest.Server {
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"administrators", "sales, EMEA"}})
	fake.AddUser(dsstest.User{Login: "bob", Groups: []string{"readers"}})
	fake.AddUser(dsstest.User{Login: "eve"})
	fake.AddProject(dsstest.Project{Key: "CHURN", Owner: "bob"})
	return fake
}

// gateway is a running program.
type gateway struct {
	t       *testing.T
	url     string
	metrics string
	cmd     *exec.Cmd
	lines   chan map[string]any // of the log, in order
	seen    []map[string]any    // the lines that awaits has read
	text    bytes.Buffer        // the log, once the program has ended
	ended   chan error
}

// start runs the program with the configuration, on a free port.
func start(t *testing.T, fake *dsstest.Server, upstream string, env ...string) *gateway {
	t.Helper()
	g := &gateway{t: t, lines: make(chan map[string]any, 10_000), ended: make(chan error, 1)}
	env = append([]string{"DSSAUTH_LISTEN=127.0.0.1:0", "DSSAUTH_UPSTREAM=" + upstream}, env...)
	g.cmd = command(t, fake, env, "-config", writeFile(t, "gateway.yaml", configuration))
	g.cmd.Stderr = t.Output()
	out, err := g.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, g.cmd.Start())
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			g.text.Write(append(lines.Bytes(), '\n'))
			var line map[string]any
			if json.Unmarshal(lines.Bytes(), &line) == nil {
				g.lines <- line
			}
		}
		close(g.lines)
		g.ended <- g.cmd.Wait()
	}()
	t.Cleanup(func() { g.cmd.Process.Kill() })
	g.url = "http://" + g.awaits("listening")["addr"].(string)
	for _, line := range g.seen {
		if line["msg"] == "metrics" {
			g.metrics = "http://" + line["addr"].(string)
		}
	}
	return g
}

// awaits returns the next line with this message and these attributes: names
// and values in turn.
func (g *gateway) awaits(msg string, attributes ...any) map[string]any {
	g.t.Helper()
	late := time.After(30 * time.Second)
	for {
		select {
		case line, ok := <-g.lines:
			require.True(g.t, ok, "the program has ended, without a line %q %v", msg, attributes)
			g.seen = append(g.seen, line)
			fits := line["msg"] == msg
			for i := 0; i < len(attributes); i += 2 {
				fits = fits && line[attributes[i].(string)] == attributes[i+1]
			}
			if fits {
				return line
			}
		case <-late:
			require.FailNow(g.t, "no such line", "%q %v\n%v", msg, attributes, g.seen)
		}
	}
}

// ends sends a signal, and returns how the program ended.
func (g *gateway) ends(s os.Signal) error {
	g.t.Helper()
	require.NoError(g.t, g.cmd.Process.Signal(s))
	return g.awaitEnd()
}

func (g *gateway) awaitEnd() error {
	g.t.Helper()
	select {
	case err := <-g.ended:
		g.ended <- err
		return err
	case <-time.After(30 * time.Second):
		require.FailNow(g.t, "it does not end")
		return nil
	}
}

func (g *gateway) get(path string, who *http.Cookie) (int, string) {
	g.t.Helper()
	return fetch(g.t, g.url+path, who)
}

func fetch(t *testing.T, url string, who *http.Cookie) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	if who != nil {
		r.AddCookie(who)
	}
	reply, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	return reply.StatusCode, string(body)
}

func hello(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello "+r.Header.Get("Remote-User")) }))
	t.Cleanup(s.Close)
	return s.URL
}

func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile("Dockerfile")
	require.NoError(t, err)
	var steps []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			steps = append(steps, line)
		}
	}
	assert.Equal(t, []string{
		"FROM golang:1.26 AS build",
		"WORKDIR /src",
		"COPY . .", // the repository, as in the command at the top of the Dockerfile
		"RUN CGO_ENABLED=0 go build -trimpath -ldflags=-s -o /gateway ./gateway",
		"FROM gcr.io/distroless/static-debian12:nonroot", // which has CA certificates and this user
		"COPY --from=build /gateway /gateway",
		"USER 65532:65532",
		"ENV DSSAUTH_LISTEN=0.0.0.0:8080",
		"EXPOSE 8080",
		`ENTRYPOINT ["/gateway"]`,
	}, steps)
	step := regexp.MustCompile(`^RUN (CGO_ENABLED=0 go build .*) -o /gateway (\S+)$`).FindStringSubmatch(steps[3])
	require.NotNil(t, step)
	program := filepath.Join(t.TempDir(), "gateway")
	cmd := exec.CommandContext(t.Context(), "sh", "-c", step[1]+` -o "$1" `+step[2], "sh", program)
	cmd.Dir = ".." // the folder that it copies
	cmd.Env = append(os.Environ(), "GOWORK=")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = exec.CommandContext(t.Context(), program, "-help").Output()
	require.NoError(t, err)
	assert.Contains(t, string(out), "Usage: gateway [flags]")
	if runtime.GOOS != "linux" {
		return // other systems' programs are never static
	}
	f, err := elf.Open(program)
	require.NoError(t, err)
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	require.NoError(t, err)
	assert.Empty(t, libraries, "the image has none")
}

func TestNodeApplicationKnowsItsVisitors(t *testing.T) {
	t.Parallel()
	fake := newDSS(t)
	g := start(t, fake, upstreams.Node(t, "app.js", ""))
	ann, bob, eve := fake.SignIn("ann"), fake.SignIn("bob"), fake.SignIn("eve")
	for _, row := range []struct {
		path                     string
		anonymous, ann, bob, eve int
	}{
		{"/", 401, 200, 200, 200},
		{"/open/page", 200, 200, 200, 200},
		{"/admin", 401, 200, 403, 403},
		{"/admin/users", 401, 200, 403, 403},
		{"/open/%2e%2e/admin/", 400, 400, 400, 400},
	} {
		for _, visitor := range []struct {
			login  string
			cookie *http.Cookie
			want   int
		}{{"", nil, row.anonymous}, {"ann", ann, row.ann}, {"bob", bob, row.bob}, {"eve", eve, row.eve}} {
			status, body := g.get(row.path, visitor.cookie)
			require.Equal(t, visitor.want, status, "%s as %q", row.path, visitor.login)
			if status != 200 {
				continue
			}
			var seen upstreams.Seen
			require.NoError(t, json.Unmarshal([]byte(body), &seen))
			assert.Equal(t, visitor.login, seen.Login)
			assert.Equal(t, row.path, seen.URL)
			assert.NotContains(t, body, "dss_session", "a cookie of DSS")
			assert.NotContains(t, strings.ToLower(body), `"cookie"`)
			if visitor.login == "ann" {
				assert.Equal(t, []string{"administrators", "sales, EMEA"}, seen.Groups)
			}
		}
	}
}

// Two gateways share a key file. The upstreams fetch the keys from the first,
// and get their requests through the second.
func TestUpstreamsVerifyTheAssertion(t *testing.T) {
	t.Parallel()
	fake := newDSS(t)
	key := "DSSAUTH_ASSERTION_KEY_FILES=[" + newKey(t) + "]"
	first := start(t, fake, "http://127.0.0.1:9", key)
	ann, bob := fake.SignIn("ann"), fake.SignIn("bob")
	for peer, begin := range map[string]func() string{
		"Node":   func() string { return upstreams.Node(t, "verified.js", first.url+"/dssauth/jwks.json") },
		"Python": func() string { return upstreams.Python(t, first.url+"/dssauth/jwks.json") },
	} {
		t.Run(peer, func(t *testing.T) {
			direct := begin()
			g := start(t, fake, direct, key)
			for login, cookie := range map[string]*http.Cookie{"ann": ann, "bob": bob} {
				status, body := g.get("/", cookie)
				require.Equal(t, 200, status, body)
				var seen upstreams.Seen
				require.NoError(t, json.Unmarshal([]byte(body), &seen))
				assert.Equal(t, login, seen.Login)
			}
			status, _ := g.get("/", nil)
			assert.Equal(t, 401, status)
			status, body := fetch(t, direct+"/", ann)
			assert.Equal(t, 401, status, "around the gateway: %s", body)
			status, _ = g.get("/open/", nil)
			assert.Equal(t, 401, status, "open, but this upstream wants an assertion")
		})
	}
}

func newKey(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return writeFile(t, "assertion.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

func TestSettingsAreChecked(t *testing.T) {
	fake := newDSS(t)
	const none = "-rules=[{path: /, allow: signed-in}]"
	wrong := writeFile(t, "wrong.yaml", "listen: nowhere\nupstrem: x\nrules:\n  - {path: /open/, allow: everyone}\n")
	notAKey := writeFile(t, "key.pem", "secret")
	keyless := writeFile(t, "keyless.yaml", "rules: [{path: /, allow: signed-in}]\nassertion: {issuer: i, audience: a, key_files: [nowhere.pem]}\n")
	tlsless := writeFile(t, "tlsless.yaml", "rules: [{path: /, allow: signed-in}]\ntls: {certificate: x, key: nowhere.pem}\n")
	for name, row := range map[string]struct {
		fake *dsstest.Server
		args []string
		code int
		out  string
		err  []string
	}{
		"a good file":       {fake, []string{"-check-config", "-config", writeFile(t, "gateway.yaml", configuration)}, 0, "the configuration is fine\n", nil},
		"the example":       {fake, []string{"-check-config", "-config", "gateway.yaml"}, 0, "the configuration is fine\n", nil},
		"a wrong file":      {fake, []string{"-check-config", "-config", wrong}, 2, "", []string{wrong + ":1", "listen", "nowhere", wrong + ":2", "upstrem", wrong + ":3", "no rule has the path"}},
		"a wrong file, run": {fake, []string{"-config", wrong}, 2, "", []string{wrong + ":1"}},
		"no such file":      {fake, []string{"-check-config", "-config", "there-is-none.yaml"}, 2, "", []string{"there-is-none.yaml"}},
		"a wrong key file":  {fake, []string{"-check-config", none, "-assertion.issuer=i", "-assertion.audience=a", "-assertion.key_files=[" + notAKey + "]"}, 2, "", []string{"flag -assertion.key_files[0]: ", notAKey, "is not PEM text", "openssl genpkey"}},
		"a wrong key file, run": {fake, []string{none, "-assertion.issuer=i", "-assertion.audience=a", "-assertion.key_files=[" + notAKey + "]"}, 2, "",
			[]string{notAKey, "is not PEM text"}},
		"a wrong certificate":    {fake, []string{none, "-tls.certificate=" + notAKey, "-tls.key=" + notAKey}, 2, "", []string{"flag -tls.certificate: "}},
		"a key file of the file": {fake, []string{"-check-config", "-config", keyless}, 2, "", []string{keyless + ":2: assertion.key_files[0]: open nowhere.pem"}},
		"a certificate's key":    {fake, []string{"-check-config", "-config", tlsless, "-tls.certificate=" + notAKey}, 2, "", []string{tlsless + ":2: tls.key: open nowhere.pem"}},
		"an unknown flag":        {fake, []string{"-upstrem=x"}, 2, "", []string{"upstrem"}},
		"no DSS":                 {nil, []string{none}, 2, "", []string{"DKU_DSS_URL"}},
		"help":                   {nil, []string{"-help"}, 0, "Usage: gateway [flags]", nil},
		"version":                {nil, []string{"-version"}, 0, "\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := command(t, row.fake, nil, row.args...)
			var stdout, stderr strings.Builder
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			_ = cmd.Run() // the exit code is checked below
			assert.Equal(t, row.code, cmd.ProcessState.ExitCode(), stderr.String())
			assert.Contains(t, stdout.String(), row.out)
			for _, text := range row.err {
				assert.Contains(t, stderr.String(), text)
			}
			assert.NotContains(t, stderr.String(), "secret")
			if row.code == 0 {
				assert.Empty(t, stderr.String())
			} else {
				assert.Empty(t, stdout.String())
			}
		})
	}
}

func TestVariablesWinOverTheFile(t *testing.T) {
	fake := newDSS(t)
	g := start(t, fake, hello(t), "DSSAUTH_RULES=[{path: /, allow: everyone}]", "DSSAUTH_HEADERS_USER=X-Who", "DSSAUTH_LOGIN_URRL=/x")
	status, body := g.get("/page", nil)
	assert.Equal(t, 200, status)
	assert.Equal(t, "hello ", body)
	status, body = g.get("/page", fake.SignIn("ann"))
	assert.Equal(t, 200, status)
	assert.Equal(t, "hello ", body, "the login is in another header")
}

// The proxy of a Code Studio removes the prefix. The path to come back to needs
// it.
func TestSignInFromACodeStudioLeadsBack(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := free.Addr().String()
	require.NoError(t, free.Close())
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	prefix := "/code-studios/CHURN/a1b2c3/" + port
	g := start(t, newDSS(t), hello(t), "DSSAUTH_LISTEN="+addr, "DKU_CODE_STUDIO_BROWSER_PATH_"+port+"="+prefix, "DSSAUTH_LOGIN_URL=/login?back={back}")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+"/report?a=1", nil)
	require.NoError(t, err)
	r.Header.Set("Accept", "text/html")
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	reply, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer reply.Body.Close()
	back, err := url.Parse(reply.Header.Get("Location"))
	require.NoError(t, err)
	assert.Equal(t, "/login", back.Path)
	assert.Equal(t, prefix+"/report?a=1", back.Query().Get("back"))
}

func TestTakenPortIsExplained(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	addr := taken.Addr().String()
	for setting, args := range map[string][]string{"listen": {"-listen=" + addr}, "metrics": {"-listen=127.0.0.1:0", "-metrics=" + addr}} {
		cmd := command(t, newDSS(t), nil, append(args, "-rules=[{path: /, allow: signed-in}]")...)
		out, _ := cmd.Output()
		assert.Equal(t, 1, cmd.ProcessState.ExitCode())
		assert.Contains(t, string(out), setting+`: \"`+addr+`\" is taken: end the program that listens there, or choose another port`)
	}
}

func TestLogAndMetrics(t *testing.T) {
	fake := newDSS(t)
	key := newKey(t)
	require.NoError(t, os.Chmod(key, 0o644))
	g := start(t, fake, hello(t), "DSSAUTH_METRICS=127.0.0.1:0", "DSSAUTH_ASSERTION_KEY_FILES=["+key+"]")
	exposed := g.awaits("others may read or change a key file, and sign as the gateway: chmod 600")
	assert.Equal(t, key, exposed["file"])
	g.awaits("check at start", "level", "INFO", "check", "connection")
	g.awaits("check at start", "level", "INFO", "check", "right to ask who a browser is")

	ann, eve := fake.SignIn("ann"), fake.SignIn("eve")
	for path, want := range map[string]string{"/dssauth/healthz": "ok\n", "/dssauth/readyz": "ok\n"} {
		status, body := g.get(path, nil)
		assert.Equal(t, 200, status, path)
		assert.Equal(t, want, body, path)
	}
	g.get("/report?token=hidden", ann)
	line := g.awaits("request", "login", "ann")
	assert.Equal(t, "/report", line["path"])
	assert.Equal(t, "GET", line["method"])
	assert.Equal(t, 200.0, line["status"])
	g.get("/admin/?token=hidden", eve)
	line = g.awaits("request", "path", "/admin/", "status", 403.0)
	assert.Equal(t, "eve", line["login"])
	assert.Contains(t, line["reason"], "none of the required groups")
	g.get("/?token=hidden", nil)
	line = g.awaits("request", "path", "/", "status", 401.0)
	assert.NotContains(t, line, "login")
	assert.Contains(t, line["reason"], "no credentials")
	g.get("/open//x?token=hidden", ann)
	line = g.awaits("request", "status", 400.0)
	assert.Contains(t, line["why"], "empty segment")
	assert.NotContains(t, line, "reason")

	status, body := fetch(t, g.metrics+"/metrics", nil)
	assert.Equal(t, 200, status)
	assert.Regexp(t, `(?m)^dssauth_lookups_total\{.*outcome="identified".*\} 2$`, body)
	for _, path := range []string{"/", "/metrics/x", "/debug/pprof/"} {
		status, _ = fetch(t, g.metrics+path, nil)
		assert.Equal(t, 404, status, path)
	}
	status, _ = g.get("/metrics", nil)
	assert.Equal(t, 401, status, "on the gateway's own port it is a path of the application")

	require.NoError(t, g.ends(syscall.SIGTERM))
	log := g.text.String()
	for _, secret := range []string{"hidden", ann.Value, eve.Value, fake.AdminKey()} {
		assert.NotContains(t, log, secret)
	}
}

// slow is an upstream. Its /slow answers after finish is called. Its /events is
// a stream without an end.
func slow(t *testing.T) (url string, begun <-chan struct{}, finish func()) {
	began, done := make(chan struct{}, 10), make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		select {
		case <-done:
			io.WriteString(w, "finished")
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		began <- struct{}{}
		<-r.Context().Done()
	})
	s := httptest.NewServer(mux)
	finish = sync.OnceFunc(func() { close(done) })
	t.Cleanup(func() { finish(); s.Close() })
	return s.URL, began, finish
}

func TestStopWaitsForAnswers(t *testing.T) {
	fake := newDSS(t)
	upstream, begun, finish := slow(t)
	g := start(t, fake, upstream)
	ann := fake.SignIn("ann")
	ask := func(path string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+path, nil)
		if err != nil {
			return nil, err
		}
		r.AddCookie(ann)
		return http.DefaultTransport.RoundTrip(r)
	}
	events, err := ask("/events")
	require.NoError(t, err)
	defer events.Body.Close()
	<-begun
	_, err = io.ReadFull(events.Body, make([]byte, len("data: 1\n\n")))
	require.NoError(t, err)
	type answer struct {
		body string
		err  error
	}
	request := make(chan answer, 1)
	go func() {
		reply, err := ask("/slow")
		if err != nil {
			request <- answer{err: err}
			return
		}
		defer reply.Body.Close()
		body, err := io.ReadAll(reply.Body)
		request <- answer{string(body), err}
	}()
	<-begun

	require.NoError(t, g.cmd.Process.Signal(syscall.SIGTERM))
	g.awaits("stopping")
	more, _ := io.ReadAll(events.Body) // to its end
	assert.Empty(t, more)
	status, body := g.get("/dssauth/readyz", nil)
	assert.Equal(t, 503, status)
	assert.Equal(t, "stopping\n", body)
	status, _ = g.get("/dssauth/healthz", nil)
	assert.Equal(t, 200, status)
	finish()
	assert.Equal(t, answer{"finished", nil}, <-request)
	assert.NoError(t, g.awaitEnd(), "exit code 0")
	assert.Contains(t, g.text.String(), `"msg":"stopped"`)
}

func TestSecondSignalEndsTheGatewayAtOnce(t *testing.T) {
	fake := newDSS(t)
	upstream, begun, _ := slow(t)
	g := start(t, fake, upstream, "DSSAUTH_SHUTDOWN=1h")
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url+"/slow", nil)
	require.NoError(t, err)
	r.AddCookie(fake.SignIn("ann"))
	go func() {
		if reply, err := http.DefaultTransport.RoundTrip(r); err == nil {
			reply.Body.Close()
		}
	}()
	<-begun
	require.NoError(t, g.cmd.Process.Signal(syscall.SIGTERM))
	g.awaits("stopping")
	var exit *exec.ExitError
	require.ErrorAs(t, g.ends(syscall.SIGTERM), &exit)
	if runtime.GOOS != "windows" {
		assert.Equal(t, "signal: terminated", exit.String())
	}
}

func TestGatewayStartsWhileDSSIsDown(t *testing.T) {
	fake := newDSS(t)
	ann := fake.SignIn("ann")
	fake.SetDown(true)
	g := start(t, fake, hello(t))
	found := g.awaits("check at start", "level", "WARN", "check", "connection")
	assert.NotEmpty(t, found["advice"])
	status, body := g.get("/open/", ann)
	assert.Equal(t, 200, status)
	assert.Equal(t, "hello ", body, "without a name")
	status, _ = g.get("/", ann)
	assert.Equal(t, 503, status)
	status, _ = g.get("/dssauth/readyz", nil)
	assert.Equal(t, 200, status)

	fake.SetDown(false)
	require.Eventually(t, func() bool {
		status, body = g.get("/", ann)
		return status == 200 && body == "hello ann"
	}, 20*time.Second, 50*time.Millisecond)
	assert.NoError(t, g.ends(os.Interrupt))
}
