package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/examples/internal/chromium"
)

// check is a command of docs/deploy.md, and its output.
type check struct{ command, prints string }

// checks returns the checks of one section of the page.
func checks(t *testing.T, section string) (found []check) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "deploy.md"))
	require.NoError(t, err)
	_, text, ok := strings.Cut(string(page), "\n## "+section+"\n")
	require.True(t, ok, section)
	text, _, _ = strings.Cut(text, "\n## ")
	_, text, ok = strings.Cut(text, "\n```console\n")
	require.True(t, ok, "%s has no check", section)
	text, _, _ = strings.Cut(text, "```\n")
	for line := range strings.Lines(text) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			found = append(found, check{command: strings.TrimSpace(command)})
		} else {
			found[len(found)-1].prints += line
		}
	}
	return found
}

// runChecks runs the checks of a section of the page unchanged, in dir.
// Replacements are pairs: a text of the page, and this machine's text for it.
func runChecks(t *testing.T, section, dir string, env []string, replacements ...string) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		chromium.Missing(t, "curl is missing: apt-get install curl")
	}
	for _, c := range checks(t, section) {
		if strings.HasPrefix(c.command, "kubectl ") {
			continue // there is no cluster
		}
		cmd := exec.Command("sh", "-c", strings.NewReplacer(replacements...).Replace(c.command))
		cmd.Dir = dir
		cmd.Env = append(append(os.Environ(), "CURL_HOME="+dir), env...)
		out, _ := cmd.Output() // curl ends the stream with an error, as its -m says
		assert.Equal(t, c.prints, string(out), c.command)
	}
}
