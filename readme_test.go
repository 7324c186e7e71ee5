package dssauth_test

import (
	"encoding/json"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dsstest"
)

// README's program is built unchanged, except for its address, and knows its
// visitors.
func TestReadmeProgram(t *testing.T) {
	address := freeAddress(t)
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"analysts"}})

	program := exec.Command(buildReadme(t, address))
	program.Env = append(os.Environ(), "HOME="+t.TempDir(), "DKU_API_TICKET=", "DKU_DSS_URL="+fake.URL(), "DKU_API_KEY="+fake.AdminKey())
	program.Stderr = os.Stderr
	require.NoError(t, program.Start())
	t.Cleanup(func() {
		_ = program.Process.Kill()
		_ = program.Wait()
	})

	status, _ := getWhenUp(t, address, nil)
	assert.Equal(t, http.StatusUnauthorized, status, "a visitor without a session")
	status, body := getWhenUp(t, address, fake.SignIn("ann"))
	assert.Equal(t, http.StatusOK, status, "ann")
	assert.Equal(t, "ann [analysts]\n", body)
}

// A program that ignores whether there is a visitor takes nobody for a user
// without a name.
func TestExamplesCheckWhetherThereIsAVisitor(t *testing.T) {
	ignores := regexp.MustCompile(`, _ :?= (dssauth\.)?FromContext\(`)
	require.True(t, ignores.MatchString("id, _ := dssauth.FromContext(ctx)"))
	read := 0
	check := func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() || filepath.Ext(path) != ".go" && filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		assert.NotRegexp(t, ignores, string(text), path)
		read++
		return err
	}
	for _, root := range []string{"README.md", "example_test.go", "docs", "examples", "dsstest", "dss"} {
		require.NoError(t, filepath.WalkDir(root, check))
	}
	assert.Greater(t, read, 30)
}

func buildReadme(t *testing.T, address string) string {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "```go\n")
	require.True(t, found, "README has no program")
	code, _, found := strings.Cut(rest, "```")
	require.True(t, found, "README's program does not end")
	require.Contains(t, code, "127.0.0.1:8080")
	code = strings.Replace(code, "127.0.0.1:8080", address, 1)

	// An overlay builds it as a package of this module, without putting it there.
	dir := t.TempDir()
	source, overlay, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "program")
	require.NoError(t, os.WriteFile(source, []byte(code), 0o600))
	here, err := os.Getwd()
	require.NoError(t, err)
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(here, "readmeprogram", "main.go"): source}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(overlay, list, 0o600))
	out, err := exec.Command("go", "build", "-overlay", overlay, "-o", binary, "./readmeprogram").CombinedOutput()
	require.NoError(t, err, "README's program does not build:\n%s", out)
	return binary
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// getWhenUp asks until the program listens.
func getWhenUp(t *testing.T, address string, cookie *http.Cookie) (status int, body string) {
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		r, err := http.NewRequest(http.MethodGet, "http://"+address+"/", nil)
		require.NoError(c, err)
		if cookie != nil {
			r.AddCookie(cookie)
		}
		reply, err := http.DefaultClient.Do(r)
		require.NoError(c, err)
		defer reply.Body.Close()
		text, err := io.ReadAll(reply.Body)
		require.NoError(c, err)
		status, body = reply.StatusCode, string(text)
	}, 30*time.Second, 50*time.Millisecond)
	return status, body
}
