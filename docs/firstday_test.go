package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var namedFile = regexp.MustCompile("(?m)^`([a-z_.]+)`[^`\n]*:\n\n```(?:go)?\n((?:[^`].*\n|\n)*)```$")

// The test writes the program and the test of the page into an empty folder.
// There it follows the page, with an empty home.
func TestFirstDayPageWorksAsWritten(t *testing.T) {
	page, err := os.ReadFile("first-day.md")
	require.NoError(t, err)
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	folder := filepath.Join(t.TempDir(), "report")
	require.NoError(t, os.Mkdir(folder, 0o700))
	require.NoError(t, os.Symlink(root, filepath.Join(folder, "../dssauth"))) // the clone of step 1
	var names []string
	for _, file := range namedFile.FindAllStringSubmatch(string(page), -1) {
		names = append(names, file[1])
		require.NoError(t, os.WriteFile(filepath.Join(folder, file[1]), []byte(file[2]), 0o600))
	}
	require.Equal(t, []string{"main.go", ".env", "main_test.go", ".gitignore"}, names)

	env, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE", "GOMODCACHE").Output()
	require.NoError(t, err)
	caches := strings.Fields(string(env))
	do := func(command string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
		cmd.Dir = folder
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "GOCACHE="+caches[0], "GOMODCACHE="+caches[1], "GOWORK=off", "GOFLAGS=")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", command, out)
		return string(out)
	}
	says := func(command string) string {
		t.Helper()
		require.Contains(t, string(page), "\n"+command+"\n")
		return do(command)
	}
	says("go mod init example.com/report")
	fromClone := "go mod edit -replace github.com/dssauth/dssauth=../dssauth && go get github.com/dssauth/dssauth@v0.0.0"
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	require.Contains(t, string(readme), "\n"+fromClone+"\n")
	says(fromClone)
	ofModule := "go mod edit -replace github.com/dssauth/dssauth/dssprom=../dssauth/dssprom && go get github.com/dssauth/dssauth/dssprom@v0.0.0"
	require.Contains(t, string(page), "`"+ofModule+"`")
	for _, module := range []string{"dssprom", "rediscache"} {
		do(strings.ReplaceAll(ofModule, "dssprom", module))
		do("go list github.com/dssauth/dssauth/" + module)
	}
	says("go mod tidy")
	says("go vet ./...")
	assert.Empty(t, do("gofmt -l ."))
	assert.Contains(t, says("go test ./..."), "ok")
	assert.Contains(t, do("go run github.com/dssauth/dssauth/dsstest/cmd/fakedss -help"), "-admin-key")
	assert.Equal(t, "http://127.0.0.1:11200 dev\n", do(`set -a; . ./.env; set +a; echo $DKU_DSS_URL $DKU_API_KEY`))

	says("cp .env .env.example")
	says("git init")
	says("git add .")
	assert.Equal(t, ".env.example .gitignore go.mod go.sum main.go main_test.go", strings.Join(strings.Fields(do("git ls-files")), " "))

	// Its own dependency is not in the go.sum of a module that imports the library.
	assert.Contains(t, do("go run github.com/dssauth/dssauth/cmd/dssauth -help || true"), "missing go.sum entry")
	pages, err := filepath.Glob("*.md")
	require.NoError(t, err)
	for _, file := range append(pages, "../cmd/dssauth/main.go") {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.NotRegexp(t, `go (run|build) [^\n]*github\.com/dssauth/dssauth/cmd/dssauth([^@/\w]|$)`, string(text), file)
	}

	gated := `auth.RequireGroup("analysts")(http.HandlerFunc(report))`
	program, err := os.ReadFile(filepath.Join(folder, "main.go"))
	require.NoError(t, err)
	open := strings.Replace(string(program), gated, "http.HandlerFunc(report)", 1)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "main.go"), []byte(open), 0o600))
	assert.Contains(t, do("go test ./... || true"), "another user got 200, not 403", "the test can fail")
}
