package docs_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var fill = flag.Bool("fill", false, "write the code of the examples into the pages")

// The code on a page is that of the examples, which their tests run. After an
// example has changed, -fill writes it into the page.
func filesShown(t *testing.T, page string) (files string) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	written := string(text)
	if *fill {
		written = withBlocks(written)
	}
	want, files, err := withCode(written, os.ReadFile)
	require.NoError(t, err)
	if *fill {
		require.NoError(t, os.WriteFile(page, []byte(want), 0o644))
		return files
	}
	assert.Equal(t, want, string(text), "the page differs from the examples: go test ./docs -fill writes them into it")
	return files
}

func TestFrameworksPageShowsTestedCode(t *testing.T) {
	files := filesShown(t, "frameworks.md")
	for _, name := range adapters(t) {
		// echov4's code is echo's.
		assert.True(t, name == "echov4" || strings.Contains(" "+files, " examples/"+name+"/"),
			"docs/frameworks.md shows no code of examples/%[1]s: add a line <!-- examples/%[1]s/main.go: newRouter -->, and run go test ./docs -fill", name)
	}
}

func TestObservabilityPageShowsTestedCode(t *testing.T) {
	assert.Equal(t, "examples/metrics/main.go dssprom/example_test.go examples/traces/main.go examples/accesslog/main.go", filesShown(t, "observability.md"))
}

// The page has a row for each metric, and for no other.
func TestObservabilityNamesEachMetric(t *testing.T) {
	source, err := os.ReadFile("../dssprom/dssprom.go")
	require.NoError(t, err)
	page, err := os.ReadFile("observability.md")
	require.NoError(t, err)
	var made, shown []string
	for _, m := range regexp.MustCompile(`"(dssauth_\w+)"`).FindAllStringSubmatch(string(source), -1) {
		made = append(made, m[1])
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(dssauth_\\w+)` \\|").FindAllStringSubmatch(string(page), -1) {
		shown = append(shown, m[1])
	}
	assert.NotEmpty(t, made)
	assert.ElementsMatch(t, made, shown)
}

func TestReplicasPageShowsTestedCode(t *testing.T) {
	assert.Equal(t, "examples/replicas/replica.go examples/replicas/replica.go", filesShown(t, "replicas.md"))
}

// The page grants the rights that rediscache documents. The tests of rediscache
// use them.
func TestReplicasPageGrantsDocumentedRights(t *testing.T) {
	page, err := os.ReadFile("replicas.md")
	require.NoError(t, err)
	source, err := os.ReadFile("../rediscache/rediscache.go")
	require.NoError(t, err)
	line := regexp.MustCompile(`(?m)^//\t(ACL SETUSER .*)$`).FindStringSubmatch(string(source))
	require.NotNil(t, line)
	assert.Contains(t, string(page), "```text\n"+line[1]+"\n```\n")
}

// The check of code on pages can fail.
func TestWithCode(t *testing.T) {
	source := func(file string) ([]byte, error) {
		if filepath.ToSlash(file) != "../examples/a/main.go" {
			return nil, os.ErrNotExist
		}
		return []byte("package main\n\n// f is said.\nfunc f() {\n\tg()\n}\n\ntype t struct{}\n\nfunc (t) g() {}\n\nvar v = 1\n"), nil
	}
	page := "<!-- examples/a/main.go -->\n```go\nold\n```\n\n```text\nno code\n```\n"
	got, files, err := withCode(page, source)
	require.NoError(t, err)
	assert.Contains(t, got, "-->\n```go\npackage main\n\n// f is said.\nfunc f() {\n")
	assert.Contains(t, got, "var v = 1\n```\n\n```text\nno code\n```\n")
	assert.Equal(t, "examples/a/main.go", files)
	page = "<!-- examples/a/main.go: g f v -->\n```go\nold\n```\n"
	got, files, err = withCode(page, source)
	require.NoError(t, err)
	assert.Equal(t, "<!-- examples/a/main.go: g f v -->\n```go\nfunc (t) g() {}\n\nfunc f() {\n\tg()\n}\n\nvar v = 1\n```\n", got)
	assert.Equal(t, "examples/a/main.go", files)

	for _, page := range []string{
		"```go\ncode of nowhere\n```\n",
		"<!-- examples/a/main.go: f -->\n\n```go\ntoo far from its name\n```\n",
		"<!-- examples/a/main.go: h -->\n```go\n```\n",
		"<!-- examples/b/main.go: f -->\n```go\n```\n",
		"<!-- examples/a/main.go: f -->\n```go\n```\n~~~go\n~~~\n",
	} {
		_, _, err := withCode(page, source)
		assert.Error(t, err, page)
	}

	const named = "<!-- examples/a/main.go: f -->\n"
	assert.Equal(t, "a\n"+named+"```go\n```\n\n"+named+"```go\ncode\n```\n", withBlocks("a\n"+named+"\n"+named+"```go\ncode\n```\n"))
}

// ofExample is code of a file. noCode is for other tests: commands, pictures,
// README's program, and its lines for a shared store.
var (
	ofExample = regexp.MustCompile("(?m)^<!-- ((?:examples|dssprom|docs)/[a-z0-9_/]+\\.go)(?:: ([\\w ]+))? -->\n```go\n((?:[^`].*\n|\n)*)```$")

	nameOfExample = regexp.MustCompile(`^<!-- (examples|dssprom|docs)/\S+\.go(: [\w ]+)? -->$`)
	noCode        = regexp.MustCompile("(?m)^```(?:text|sh|mermaid|go\npackage main|go\nsecret, err .*)$")
)

// withBlocks returns a page with an empty piece of code after each line that names an
// example and has none.
func withBlocks(page string) string {
	lines := strings.Split(page, "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if nameOfExample.MatchString(lines[i]) && (i+1 == len(lines) || lines[i+1] != "```go") {
			lines = slices.Insert(lines, i+1, "```go", "```")
		}
	}
	return strings.Join(lines, "\n")
}

// withCode returns a page with each piece of code as it stands in the file that
// the line before names, or the whole file, and the names of the files.
func withCode(page string, read func(string) ([]byte, error)) (filled, files string, err error) {
	if strings.Count(page, "```") != 2*len(ofExample.FindAllString(page, -1))+2*len(noCode.FindAllString(page, -1)) || strings.Contains(page, "~~~") {
		return "", "", fmt.Errorf("a piece of code does not name its example")
	}
	var named []string
	filled = ofExample.ReplaceAllStringFunc(page, func(block string) string {
		parts := ofExample.FindStringSubmatch(block)
		named = append(named, parts[1])
		code, failed := declarations(filepath.Join("..", filepath.FromSlash(parts[1])), strings.Fields(parts[2]), read)
		if failed != nil {
			err = failed
		}
		head, _, _ := strings.Cut(block, "\n")
		return fmt.Sprintf("%s\n```go\n%s```", head, code)
	})
	return filled, strings.Join(named, " "), err
}

// declarations returns these declarations of a file, without their comments.
func declarations(file string, names []string, read func(string) ([]byte, error)) (string, error) {
	source, err := read(file)
	if err != nil {
		return "", err
	}
	positions := token.NewFileSet()
	parsed, err := parser.ParseFile(positions, file, source, 0)
	if err != nil {
		return "", err
	}
	found := map[string]string{}
	for _, d := range parsed.Decls {
		text := string(source[positions.Position(d.Pos()).Offset:positions.Position(d.End()).Offset])
		switch d := d.(type) {
		case *ast.FuncDecl:
			found[d.Name.Name] = text
		case *ast.GenDecl:
			switch v := d.Specs[0].(type) {
			case *ast.ValueSpec:
				found[v.Names[0].Name] = text
			case *ast.TypeSpec:
				found[v.Name.Name] = text
			}
		}
	}
	if len(names) == 0 {
		return string(source), nil
	}
	var code []string
	for _, name := range names {
		if found[name] == "" {
			return "", fmt.Errorf("%s has no %s", file, name)
		}
		code = append(code, found[name]+"\n")
	}
	return strings.Join(code, "\n"), nil
}

// otherExamples are those that adapt no router. Interceptors are adapters, but have no
// routes.
var (
	otherExamples = []string{"accesslog", "deploy", "impersonation", "metrics", "quickstart", "replicas", "spa", "sse", "traces", "websocket"}
	interceptors  = []string{"connect", "grpc"}
)

// adapters are the examples that docs/frameworks.md shows: all but otherExamples.
func adapters(t *testing.T) (names []string) {
	files, err := filepath.Glob("../examples/*/main.go")
	require.NoError(t, err)
	for _, file := range files {
		if name := filepath.Base(filepath.Dir(file)); !slices.Contains(otherExamples, name) {
			names = append(names, name)
		}
	}
	require.Greater(t, len(names), 8)
	return names
}

// routers are the examples of a router.
func routers(t *testing.T) []string {
	return slices.DeleteFunc(adapters(t), func(name string) bool { return slices.Contains(interceptors, name) })
}

// tableOf is the first table of a page.
func tableOf(page string) string {
	_, table, _ := strings.Cut(page, "\n| ")
	table, _, _ = strings.Cut("| "+table, "\n\n")
	return table
}
