// Package upstreams starts the applications of gateway/testdata, which are not Go.
package upstreams

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Issuer and Audience are what the applications require of an assertion.
const (
	Issuer   = "https://apps.example"
	Audience = "report-app"
)

// Seen is an application's answer: the request that reached it. If the
// application refuses the assertion, it answers 401, with an Error.
type Seen struct {
	Method, URL string
	Headers     []string // names and values in turn, as they were sent
	Login       string
	Groups      []string
	Name, Email string
	Claims      map[string]any
	Error       string
}

// Node starts a script of testdata/node, with its packages from the npm registry,
// and returns the application's URL. If the application verifies assertions, it
// fetches the public keys at jwks. env has more environment variables for it. The
// script verified.js keeps keys for JWKS_MAX_AGE seconds.
func Node(t *testing.T, script, jwks string, env ...string) string {
	t.Helper()
	node, npm := find(t, "node", "nodejs"), find(t, "npm", "npm")
	folder := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", script} {
		data, err := os.ReadFile(filepath.Join(testdata(), "node", name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), data, 0o600))
	}
	install := exec.CommandContext(t.Context(), npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline",
		"--fetch-retries=1", "--fetch-timeout=20000")
	install.Dir = folder
	if out, err := install.CombinedOutput(); err != nil {
		if unreachable.Match(out) {
			missing(t, "the npm registry cannot be reached: "+string(out))
		}
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	return start(t, exec.CommandContext(t.Context(), node, filepath.Join(folder, script)), jwks, env)
}

var unreachable = regexp.MustCompile(`ENOTFOUND|EAI_AGAIN|ECONN|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET_TIMEOUT|FETCH_ERROR|npm (ERR!|error) code E(403|407|5\d\d)`)

// Python starts testdata/python/app.py with Debian's Python and packages. The
// application keeps public keys for JWKS_MAX_AGE seconds. See [Node].
func Python(t *testing.T, jwks string, env ...string) string {
	t.Helper()
	const python = "/usr/bin/python3" // another one on the PATH does not have Debian's packages
	if err := exec.CommandContext(t.Context(), python, "-c", "import jwt, cryptography").Run(); err != nil {
		missing(t, "PyJWT is missing: apt-get install python3-jwt python3-cryptography")
	}
	return start(t, exec.CommandContext(t.Context(), python, filepath.Join(testdata(), "python", "app.py")), jwks, env)
}

// start returns the URL that the program prints.
func start(t *testing.T, program *exec.Cmd, jwks string, env []string) string {
	t.Helper()
	program.Env = append(append(os.Environ(), "JWKS="+jwks, "ISSUER="+Issuer, "AUDIENCE="+Audience, "NODE_ENV=production"), env...)
	program.Stderr = t.Output()
	program.WaitDelay = 5 * time.Second
	out, err := program.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, program.Start())
	t.Cleanup(func() {
		program.Process.Kill()
		program.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err, "%s ended before it listened", program)
	return strings.TrimSpace(line)
}

// Ask sends an assertion, and returns the answer's status and content.
func Ask(t *testing.T, url, assertion string) (int, Seen) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	r.Header.Set("X-Dssauth-Assertion", assertion)
	reply, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body) // to its end, so that the connection is used again
	require.NoError(t, err)
	var seen Seen
	require.NoError(t, json.Unmarshal(body, &seen), "%s", body)
	return reply.StatusCode, seen
}

func find(t *testing.T, program, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		missing(t, program+" is missing: apt-get install "+pkg)
	}
	return path
}

func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// testdata returns the path of gateway/testdata. It starts from this file,
// since tests run in the folders of their packages.
func testdata() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "testdata")
}
