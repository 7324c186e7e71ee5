//go:build unix

package main

import (
	"bufio"
	"context"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/dssauth/dssauth/dsstest"
)

// imageUser is the user of the Dockerfile and of the manifest.
const imageUser = 65532

func TestDockerfile(t *testing.T) {
	data, err := os.ReadFile("Dockerfile")
	require.NoError(t, err)
	var steps []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			steps = append(steps, line)
		}
	}
	assert.Equal(t, []string{
		"FROM gcr.io/distroless/static-debian12:nonroot", // which has CA certificates and this user
		"COPY --from=build /app /app",
		"USER 65532:65532",
		"EXPOSE 8080",
		`ENTRYPOINT ["/app"]`,
		`CMD ["-addr", ":8080"]`,
	}, steps[4:])
}

// The program, built by the Dockerfile's command.
func TestProgram(t *testing.T) {
	program := build(t)
	t.Run("is static", func(t *testing.T) { isStatic(t, program) })
	t.Run("ends after its requests", func(t *testing.T) { endsAfterItsRequests(t, program) })
	t.Run("names the missing setting", func(t *testing.T) { saysWhatIsMissing(t, program) })
	t.Run("in a Code Studio", func(t *testing.T) { inACodeStudio(t, program) })
	t.Run("on a laptop", func(t *testing.T) { onALaptop(t, program) })
}

func isStatic(t *testing.T, program string) {
	if runtime.GOOS != "linux" {
		return // on other systems, programs are never static
	}
	f, err := elf.Open(program)
	require.NoError(t, err)
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	require.NoError(t, err)
	assert.Empty(t, libraries)
	for _, p := range f.Progs {
		assert.NotEqual(t, elf.PT_INTERP, p.Type, "it needs a loader, and the image has none")
	}
}

// build runs the Dockerfile's own go build.
func build(t *testing.T) (program string) {
	data, err := os.ReadFile("Dockerfile")
	require.NoError(t, err)
	step := regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0 go build -trimpath .*) -o /app (\S+)$`).FindStringSubmatch(string(data))
	require.NotNil(t, step)
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755), "another user runs it")
	program = filepath.Join(dir, "app")
	cmd := exec.Command("sh", "-c", step[1]+` -o "$1" `+step[2], "sh", program)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "GOWORK=") // as in the image, in any environment of this test
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return program
}

// deployment holds the fields of the manifest's Deployment that the tests read.
type deployment struct {
	Kind string
	Spec struct {
		Template struct {
			Spec struct {
				TerminationGracePeriodSeconds int
				SecurityContext               struct {
					RunAsNonRoot bool
					RunAsUser    int
				}
				Containers []struct {
					Args  []string
					Ports []struct {
						Name          string
						ContainerPort int
					}
					Env []struct {
						Name, Value string
					}
					VolumeMounts []struct {
						Name, MountPath string
					}
					ReadinessProbe struct {
						HTTPGet struct{ Path, Port string }
					}
					LivenessProbe struct {
						TCPSocket struct{ Port string }
					}
					Lifecycle struct {
						PreStop struct {
							Sleep struct{ Seconds int }
						}
					}
				}
				Volumes []struct {
					Name   string
					Secret struct{ SecretName string }
				}
			}
		}
	}
}

// manifest returns the Deployment of kubernetes.yaml.
func manifest(t *testing.T) deployment {
	f, err := os.Open("kubernetes.yaml")
	require.NoError(t, err)
	defer f.Close()
	var d deployment
	// The package takes field names in lower case, and the API in camel case.
	var tree map[string]any
	require.NoError(t, yaml.NewDecoder(f).Decode(&tree))
	text, err := json.Marshal(tree)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &d))
	require.Equal(t, "Deployment", d.Kind)
	return d
}

func TestManifestFitsTheProgram(t *testing.T) {
	spec := manifest(t).Spec.Template.Spec
	c := spec.Containers[0]
	set, err := readSettings(c.Args)
	require.NoError(t, err)
	assert.Equal(t, settings{addr: ":8080", prefix: "/app", login: "/login/"}, set)
	assert.Equal(t, 8080, c.Ports[0].ContainerPort)
	assert.Equal(t, c.Ports[0].Name, c.ReadinessProbe.HTTPGet.Port)
	assert.Equal(t, c.Ports[0].Name, c.LivenessProbe.TCPSocket.Port)

	assert.True(t, spec.SecurityContext.RunAsNonRoot)
	assert.Equal(t, imageUser, spec.SecurityContext.RunAsUser)

	// The key is in the file that the program reads.
	assert.Equal(t, "DKU_API_KEY_FILE", c.Env[1].Name)
	assert.Equal(t, c.VolumeMounts[0].MountPath+"/api-key", c.Env[1].Value)
	assert.Equal(t, c.VolumeMounts[0].Name, spec.Volumes[0].Name)
	assert.Equal(t, "dss-api-key", spec.Volumes[0].Secret.SecretName)

	const lookupTimeout = 5 * time.Second // the default of dssauth.Config.Timeout
	least := time.Duration(c.Lifecycle.PreStop.Sleep.Seconds)*time.Second + shutdownTimeout + lookupTimeout
	assert.Greater(t, time.Duration(spec.TerminationGracePeriodSeconds)*time.Second, least)
}

// process is the running program.
type process struct {
	*testing.T
	ctx context.Context
	cmd *exec.Cmd
	log *bufio.Scanner
	url string
}

// start runs the program, as the image's user if possible, with this
// environment only: an image has no HOME either.
func start(t *testing.T, program string, env []string, args ...string) *process {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	p := &process{T: t, ctx: ctx, cmd: exec.CommandContext(ctx, program, args...)}
	p.cmd.Env = append([]string{}, env...)
	if os.Getuid() == 0 {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: imageUser, Gid: imageUser}}
	}
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.log = bufio.NewScanner(stdout)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		cancel()
		_ = p.cmd.Wait()
	})
	p.url = "http://" + p.next("listening")["addr"]
	return p
}

// startPod runs the program with the manifest's arguments and environment.
func startPod(t *testing.T, program string, fake *dsstest.Server) *process {
	c := manifest(t).Spec.Template.Spec.Containers[0]
	var env []string
	for _, v := range c.Env {
		switch v.Name {
		case "DKU_DSS_URL":
			v.Value = fake.URL()
		case "DKU_API_KEY_FILE":
			v.Value = filepath.Join(filepath.Dir(program), "api-key")
			require.NoError(t, os.WriteFile(v.Value, []byte(fake.AdminKey()+"\n"), 0o644))
		}
		env = append(env, v.Name+"="+v.Value)
	}
	return start(t, program, env, append(c.Args, "-addr", "127.0.0.1:0")...) // the last one counts
}

// next returns the next line of the log. Its message must be msg.
func (p *process) next(msg string) map[string]string {
	p.Helper()
	require.True(p, p.log.Scan(), "the process ended before it said %q", msg)
	var line map[string]string
	require.NoError(p, json.Unmarshal(p.log.Bytes(), &line), "%s", p.log.Text())
	require.Equal(p, msg, line["msg"])
	return line
}

// do sends a request, and returns its answer with an unread body.
func (p *process) do(ctx context.Context, method, path string, session *http.Cookie, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, p.url+path, body)
	if err != nil {
		return nil, err
	}
	if session != nil {
		r.AddCookie(session)
	}
	if body != nil {
		r.Header.Set("Expect", "100-continue")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: time.Minute}}
	return client.Do(r)
}

// answer is the result of a request.
type answer struct {
	status int
	text   string
	err    error
}

func (p *process) ask(ctx context.Context, method, path string, session *http.Cookie, body io.Reader) (a answer) {
	resp, err := p.do(ctx, method, path, session, body)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(text), err}
}

// The process gets the signal to end during an upload, during a lookup, and
// during an event stream.
func endsAfterItsRequests(t *testing.T, program string) {
	fake := newFake(t)
	p := startPod(t, program, fake)
	runChecks(t, "An image", t.TempDir(), nil, "http://127.0.0.1:8080", p.url)
	ann, bob := fake.SignIn("ann"), fake.SignIn("bob")
	assert.Equal(t, answer{200, "ok\n", nil}, p.ask(p.ctx, "GET", manifest(t).Spec.Template.Spec.Containers[0].ReadinessProbe.HTTPGet.Path, nil, nil))
	assert.Contains(t, p.ask(p.ctx, "GET", "/app/me", ann, nil).text, `"login":"ann"`)

	stream, err := p.do(p.ctx, "GET", "/app/events", ann, nil)
	require.NoError(t, err)
	defer stream.Body.Close()
	events := bufio.NewReader(stream.Body)
	line, err := events.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "event: hello\n", line)

	body, rest := io.Pipe()
	reading := make(chan struct{})
	traced := httptrace.WithClientTrace(p.ctx, &httptrace.ClientTrace{Got100Continue: func() { close(reading) }})
	uploaded := make(chan answer, 1)
	go func() { uploaded <- p.ask(traced, "POST", "/app/upload", ann, body) }()
	<-reading // the handler is

	asked, goOn := make(chan struct{}), make(chan struct{})
	fake.Intercept("/auth/info-from-browser-headers", 1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		close(asked)
		<-goOn
		next.ServeHTTP(w, r)
	})
	identified := make(chan answer, 1)
	go func() { identified <- p.ask(p.ctx, "GET", "/app/me", bob, nil) }()
	<-asked

	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	p.next("stopping")
	end, err := io.ReadAll(events)
	require.NoError(t, err)
	assert.Equal(t, "data: ann\n\nevent: restart\ndata: \n\n", string(end))
	_, err = net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	assert.ErrorIs(t, err, syscall.ECONNREFUSED, "no new requests")

	close(goOn)
	got := <-identified
	assert.Equal(t, 200, got.status)
	assert.Contains(t, got.text, `"login":"bob"`)
	_, err = io.WriteString(rest, "the rest")
	require.NoError(t, err)
	require.NoError(t, rest.Close())
	assert.Equal(t, answer{200, "ann sent 8 bytes\n", nil}, <-uploaded)
	p.next("stopped")
	assert.False(t, p.log.Scan())
	assert.NoError(t, p.cmd.Wait(), "its exit code")
}

func saysWhatIsMissing(t *testing.T, program string) {
	cmd := exec.Command(program)
	cmd.Env = []string{}
	out, err := cmd.Output()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 1, exit.ExitCode())
	assert.Contains(t, string(out), "dss: no DSS is configured")

	cmd = exec.Command(program, "-addr", "8080")
	cmd.Env = []string{"DKU_DSS_URL=http://dss.example", "DKU_API_KEY=x"}
	out, err = cmd.Output()
	require.ErrorAs(t, err, &exit)
	assert.Empty(t, string(exit.Stderr), "the whole log is JSON, on standard output")
	assert.Contains(t, string(out), `"dss: credentials and identities go to DSS unencrypted; use https"`)
	assert.Contains(t, string(out), "address 8080: missing port in address")
}

// The proxy of DSS is nginx, and its proxy_pass ends with the template's "proxied
// subpath".
func inACodeStudio(t *testing.T, program string) {
	fake := newFake(t)
	ticket, err := fake.Client().TicketFromBrowserHeaders(t.Context(), http.Header{"Cookie": {fake.SignIn("admin").String()}})
	require.NoError(t, err)
	_, backend, err := net.SplitHostPort(strings.TrimPrefix(fake.URL(), "http://"))
	require.NoError(t, err)
	port := freePort(t)
	p := start(t, program, []string{
		"DKU_API_TICKET=" + ticket,
		"DKU_BACKEND_PORT=" + backend,
		"DKU_CODE_STUDIO_BROWSER_PATH=/web-apps-backends/CHURN/Xy_${K8S_POD_NAME}",
		"DKU_CODE_STUDIO_BROWSER_PATH_" + port + "=/web-apps-backends/CHURN/Xy_${K8S_POD_NAME}/" + port,
		"DKU_CODE_STUDIO_IS_PUBLIC_PORT_" + port + "=0",
		"K8S_POD_NAME=app-7d4b",
	}, "-port", port)
	assert.Equal(t, "http://127.0.0.1:"+port, p.url)
	prefix := "/web-apps-backends/CHURN/Xy_app-7d4b/" + port
	for _, path := range []string{prefix, "/web-apps-backends/CHURN/Xy_${K8S_POD_NAME}/" + port} {
		runChecks(t, "A Code Studio", t.TempDir(), []string{"K8S_POD_NAME=app-7d4b", "DKU_CODE_STUDIO_BROWSER_PATH_" + port + "=" + path}, "8080", port)
	}

	for _, subpath := range []string{"/", "$request_uri"} {
		proxy := "127.0.0.1:" + freePort(t)
		runProxy(t, nginx(t, t.TempDir(), fmt.Sprintf("server { listen %s; location %s/ { proxy_pass http://127.0.0.1:%s%s; } }", proxy, prefix, port, subpath)))
		eventuallyOK(t, http.DefaultClient, "http://"+proxy+prefix+"/healthz")
		p.url = "http://" + proxy
		assert.Equal(t, 401, p.ask(p.ctx, "GET", prefix+"/me", nil, nil).status, subpath)
		page := p.ask(p.ctx, "GET", prefix+"/", fake.SignIn("ann"), nil)
		link := regexp.MustCompile(`href="([^"]*)"`).FindStringSubmatch(page.text)
		require.NotNil(t, link, "%+v", page)
		at, err := url.Parse(p.url + prefix + "/")
		require.NoError(t, err)
		at, err = at.Parse(link[1])
		require.NoError(t, err)
		assert.Contains(t, p.ask(p.ctx, "GET", at.Path, fake.SignIn("ann"), nil).text, `"login":"ann"`, subpath)
	}
}

func onALaptop(t *testing.T, program string) {
	fake := newFake(t)
	fake.AddAPIKey("dev", "")
	server := httptest.NewServer(fake.SignInPage())
	t.Cleanup(server.Close)
	port := freePort(t)
	env := []string{"DKU_DSS_URL=" + server.URL, "DKU_API_KEY=dev"}
	start(t, program, env, "-port", port)
	dir := t.TempDir()
	runChecks(t, "A laptop", dir, nil, "http://127.0.0.1:11200", server.URL, "8080", port)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "cookie"), []byte("Cookie: "+fake.SignIn("ann").String()+"\n"), 0o600))
	const doctor = "go run github.com/dssauth/dssauth/cmd/dssauth"
	const latest = doctor + "@latest" // of a release
	here, err := os.Getwd()
	require.NoError(t, err)
	runChecks(t, "What to grant in DSS", dir, env, latest, "go run -C '"+here+"' "+strings.TrimPrefix(doctor, "go run "), "-cookie-file cookie", "-cookie-file '"+dir+"/cookie'")
}
