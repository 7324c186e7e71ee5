package main

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/gateway/internal/config"
)

var update = flag.Bool("update", false, "write the files and the table of settings into docs/not-go.md")

var (
	helpEntry = regexp.MustCompile(`(?m)^  -(\S+)\n        (.+); (?:DSSAUTH_\w+)(?: \(default (.+)\))?$`)
	table     = regexp.MustCompile(`(?m)^\| setting \| default \| meaning \|\n\| --- \| --- \| --- \|\n((?:\|.*\n)*)`)
	ofFile    = regexp.MustCompile("(?m)^<!-- (part of )?(\\S+) -->\n```\\w+\n((?:[^`\n].*\n|\n)*)```$")
)

const page = "../docs/not-go.md"

// The page shows the files unchanged, and has a row for each setting with the text
// of -help. After you change these, run go test ./gateway -run ^TestPage -update.
func TestPageIsUpToDate(t *testing.T) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	var help bytes.Buffer
	config.Help(&help)
	rows := "| setting | default | meaning |\n| --- | --- | --- |\n"
	for _, s := range helpEntry.FindAllStringSubmatch(help.String(), -1) {
		fallback := ""
		if s[3] != "" {
			fallback = "`" + s[3] + "`"
		}
		rows += "| `" + s[1] + "` | " + fallback + " | " + strings.NewReplacer("*", `\*`, "|", `\|`).Replace(s[2]) + " |\n"
	}
	require.Greater(t, strings.Count(rows, "\n"), 20, "the help is read")
	require.Len(t, table.FindAll(text, -1), 1)
	want := table.ReplaceAllLiteralString(string(text), rows)

	shown := map[string]bool{}
	want = ofFile.ReplaceAllStringFunc(want, func(block string) string {
		m := ofFile.FindStringSubmatch(block)
		part, file, code := m[1] != "", m[2], m[3]
		source, err := os.ReadFile(filepath.Join("..", file))
		require.NoError(t, err)
		shown[file] = true
		if part {
			require.NotEmpty(t, code)
			assert.Contains(t, string(source), code, "%s has no such part", file)
			return block
		}
		head, _, _ := strings.Cut(block, "\n```")
		fence, _, _ := strings.Cut(block[len(head)+1:], "\n")
		return head + "\n" + fence + "\n" + string(source) + "```"
	})
	assert.Equal(t, map[string]bool{
		"gateway/testdata/node/app.js": true, "gateway/testdata/node/verified.js": true, "gateway/testdata/python/app.py": true,
		"gateway/nginx.conf": true, "gateway/Caddyfile": true,
	}, shown)
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(want), 0o644))
		return
	}
	assert.Equal(t, want, string(text), "go test ./gateway -run ^TestPage -update")
}

func TestPageHasTheConfigurationOfTheTests(t *testing.T) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	assert.Contains(t, string(text), "```yaml\n"+configuration+"```\n")
}

// The page's Python code keeps a comma in a group's name.
func TestPageDecodesGroups(t *testing.T) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	code := regexp.MustCompile("(?m)^```python\n(from urllib(?:.*\n|\n)*?)```$").FindSubmatch(text)
	require.NotNil(t, code)
	const python = "/usr/bin/python3"
	if _, err := os.Stat(python); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("Python is missing: apt-get install python3")
		}
		t.Skip("Python is missing: apt-get install python3")
	}
	program := "headers = {'Remote-Groups': 'a,data%2C team,%C3%84 %25'}\n" + string(code[1]) + "print(ascii(groups))\n"
	out, err := exec.CommandContext(t.Context(), python, "-c", program).CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Equal(t, `['a', 'data, team', '\xc4 %']`, strings.TrimSpace(string(out)))
}

// Each link has a target.
func TestPageLinks(t *testing.T) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(string(text), -1) {
		if strings.HasPrefix(link[1], "https://") {
			continue
		}
		file, anchor, _ := strings.Cut(link[1], "#")
		if file == "" {
			file = filepath.Base(page)
		}
		target, err := os.ReadFile(filepath.Join(filepath.Dir(page), file))
		if assert.NoError(t, err, link[1]) && anchor != "" {
			var anchors []string
			for _, h := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(target), -1) {
				anchors = append(anchors, strings.ReplaceAll(regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-"))
			}
			assert.Contains(t, anchors, anchor, link[1])
		}
	}
}
