package docs_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
)

// pages are all pages for readers, as paths from this folder.
func pages(t *testing.T) []string {
	all, err := filepath.Glob("*.md")
	require.NoError(t, err)
	above, err := filepath.Glob("../*.md")
	require.NoError(t, err)
	require.Greater(t, len(all), 10)
	require.GreaterOrEqual(t, len(above), 4)
	return append(append(all, above...), filepath.FromSlash("../bench/README.md"))
}

func TestReadmeIsShort(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	readme := string(text)
	assert.LessOrEqual(t, strings.Count(readme, "\n"), 150)
	last := 0
	for _, next := range []string{
		"# dssauth\n", `<img src="docs/quickstart.png"`, "**Status:", "not yet checked against a live DSS", " Go 1.26", "cmd/dssauth@latest contract",
		"\ngo run ./examples/quickstart\n", "\ngo test work\n", "go get github.com/dssauth/dssauth", "```mermaid\nflowchart TB\n", // from left to right, a phone shows it too small to read
		"docs/not-go.md", "\npackage main\n", `{"login":`, "\nfunc newRouter(", "auth.RequireProject(",
		"dsstest.NewServer(t)", "\n## Acting as the visitor\n", "cmd/dssauth@latest doctor", "docs/deploy.md", "\n## How it fails\n", "\n## Speed\n", "docs/how-it-works.md",
	} {
		at := strings.Index(readme[last:], next)
		if assert.GreaterOrEqual(t, at, 0, "%s is missing, or stands too early", next) {
			last += at
		}
	}
	assert.Equal(t, "examples/chi/main.go examples/chi/main_test.go", filesShown(t, "../README.md"))

	picture, err := os.Stat("quickstart.png")
	require.NoError(t, err)
	assert.Less(t, picture.Size(), int64(150<<10))
	examples, err := os.ReadFile("../example_test.go")
	require.NoError(t, err)
	identity := regexp.MustCompile("`(\\{\"login\".*?\\})`").FindStringSubmatch(readme)
	require.NotNil(t, identity)
	assert.Contains(t, string(examples), "// Output: "+identity[1]+" <nil>\n", "what ExampleIdentity_MarshalJSON prints")
}

// README is the only page with a program that its own test builds.
func TestProgramsNameTheirExample(t *testing.T) {
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		want := 0
		if page == filepath.FromSlash("../README.md") {
			want = 1
		}
		unnamed := regexp.MustCompile("(?m)[^>]\n```go\npackage main$").FindAllString(string(text), -1)
		if page != "first-day.md" { // TestFirstDayPageWorksAsWritten
			assert.Len(t, unnamed, want, page)
		}
	}
}

// The three lines that switch a shared store on are an example that compiles.
func TestReadmeSwitchesTheStoreOn(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	lines := regexp.MustCompile("```go\n(secret, err .*\n)(store, err .*\n)(auth, err .*\n)```\n").FindSubmatch(readme)
	require.Len(t, lines, 4)
	examples, err := os.ReadFile("../rediscache/example_test.go")
	require.NoError(t, err)
	_, example, found := strings.Cut(string(examples), "func Example() {\n")
	require.True(t, found)
	for _, line := range lines[1:] {
		_, example, found = strings.Cut(example, "\t"+string(line))
		assert.True(t, found, "rediscache's Example has no %q, or too early", line)
	}
}

var link = regexp.MustCompile(`(?:\]\(|<img src=")([^)" ]+)`)

func TestLinksHaveATarget(t *testing.T) {
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		assert.Empty(t, deadLinks(page, string(text), os.ReadFile), page)
	}
}

// The check above can fail.
func TestDeadLinksAreFound(t *testing.T) {
	read := func(file string) ([]byte, error) {
		if file != filepath.FromSlash("dir/b.md") {
			return nil, fs.ErrNotExist
		}
		return []byte("# B\n\n## A “quoted” `heading`, and_more\n\n```sh\n# no heading\n```\n"), nil
	}
	page := "# A title\n[1](#a-title) [2](b.md) [3](b.md#a-quoted-heading-and_more) [4](https://example.com/x) <img src=\"b.md\">\n"
	assert.Empty(t, deadLinks("dir/a.md", page, read))
	page = "# A title\n[1](#atitle) [2](c.md) [3](b.md#missing) [4](b.md#no-heading) [5](../b.md) <img src=\"b.png\">\n"
	assert.Equal(t, []string{"#atitle", "c.md", "b.md#missing", "b.md#no-heading", "../b.md", "b.png"}, deadLinks("dir/a.md", page, read))
}

func deadLinks(page, text string, read func(string) ([]byte, error)) (dead []string) {
	for _, l := range link.FindAllStringSubmatch(text, -1) {
		if strings.HasPrefix(l[1], "https://") {
			continue
		}
		file, anchor, _ := strings.Cut(l[1], "#")
		target := text
		if file != "" {
			path := filepath.Join(filepath.Dir(page), filepath.FromSlash(file))
			content, err := read(path)
			if info, failed := os.Stat(path); failed == nil && info.IsDir() {
				continue
			} else if err != nil {
				dead = append(dead, l[1])
				continue
			}
			target = string(content)
		}
		if anchor != "" && !slices.Contains(anchors(target), anchor) {
			dead = append(dead, l[1])
		}
	}
	return dead
}

// anchors are those that GitHub gives to the headings of a page.
func anchors(page string) (all []string) {
	inCode := false
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "```") {
			inCode = !inCode
		}
		heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
		if inCode || !ok || !strings.HasPrefix(line, "#") {
			continue
		}
		all = append(all, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(heading)))
	}
	return all
}

var (
	command = regexp.MustCompile(`(?:go run|go build|go test|go install)((?: -[\w.=$]+(?: \S+)??)*) (\./[\w./]+|github\.com/dssauth/dssauth[\w./]*)((?: +-[\w-]+)*)`)
	moved   = regexp.MustCompile(`cd (\w+) && $`)
)

// ofGoTest are the flags that may stand before the folder of a go test.
var ofGoTest = []string{"-race", "-run", "-v", "-timeout", "-count", "-fuzz", "-fuzztime", "-bench", "-vet"}

// A command on a page runs a folder that exists, and its flags are the program's.
func TestCommandsNameExistingFoldersAndFlags(t *testing.T) {
	found := 0
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		from := ".."
		if strings.Contains(page, "bench") {
			from = "../bench"
		}
		for _, at := range command.FindAllStringSubmatchIndex(string(text), -1) {
			whole, before, folder, flags := string(text[at[0]:at[1]]), string(text[at[2]:at[3]]), string(text[at[4]:at[5]]), string(text[at[6]:at[7]])
			base := from
			if cd := moved.FindSubmatch(text[max(0, at[0]-20):at[0]]); cd != nil {
				base = filepath.Join(from, string(cd[1]))
			}
			if own, ok := strings.CutPrefix(folder, "github.com/dssauth/dssauth"); ok {
				base, folder = "..", "."+own
			}
			folder = strings.TrimSuffix(strings.TrimRight(folder, "."), "/")
			sources, err := filepath.Glob(filepath.Join(base, filepath.FromSlash(folder), "*.go"))
			require.NoError(t, err)
			if sources == nil && base == ".." { // figures name their command as it runs in bench
				sources, err = filepath.Glob(filepath.Join("../bench", filepath.FromSlash(folder), "*.go"))
				require.NoError(t, err)
			}
			inner, err := filepath.Glob(filepath.Join(base, filepath.FromSlash(folder), "internal", "*", "*.go"))
			require.NoError(t, err)
			sources = append(sources, inner...)
			if !assert.NotEmpty(t, sources, "%s: %s: no such folder", page, whole) {
				continue
			}
			if strings.HasPrefix(whole, "go test") {
				for _, flag := range regexp.MustCompile(`-[a-z]\w*`).FindAllString(before, -1) {
					assert.Contains(t, ofGoTest, flag, "%s: %s: go test takes what follows a flag of a test for arguments of the test: the folder comes first", page, whole)
				}
				continue
			}
			inside, err := filepath.Glob(filepath.Join(base, filepath.FromSlash(folder), "internal", "*", "*.go"))
			require.NoError(t, err)
			var code strings.Builder
			for _, source := range append(sources, inside...) {
				content, err := os.ReadFile(source)
				require.NoError(t, err)
				code.Write(content)
			}
			for _, flag := range strings.Fields(flags) {
				if flag == "-help" {
					continue
				}
				declared := regexp.MustCompile(`(?i)\.(bool|string|int|duration|func|boolfunc|var|uint64|int64|textvar)(var)?\((&[\w.]+, |\w+, )?"` + strings.TrimLeft(flag, "-") + `"`)
				assert.True(t, declared.MatchString(code.String()), "%s: %s: there is no flag %s", page, whole, flag)
			}
			found++
		}
	}
	assert.Greater(t, found, 30)
}

// Each page can be reached from README, by one link or more.
func TestEachPageIsReached(t *testing.T) {
	start := filepath.FromSlash("../README.md")
	reached, next := map[string]bool{start: true}, []string{start}
	for len(next) > 0 {
		page := next[0]
		next = next[1:]
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, l := range link.FindAllStringSubmatch(string(text), -1) {
			file, _, _ := strings.Cut(l[1], "#")
			target := filepath.Join(filepath.Dir(page), filepath.FromSlash(file))
			if path.Ext(file) == ".md" && !strings.HasPrefix(file, "https://") && !reached[target] {
				reached[target] = true
				next = append(next, target)
			}
		}
	}
	for _, page := range pages(t) {
		here, err := filepath.Rel(".", page)
		require.NoError(t, err)
		assert.True(t, reached[here] || reached[filepath.Join("..", "docs", here)], "no link leads to %s", page)
	}
}

// Each endpoint that the library's comments name is served by the fake DSS.
func TestFakeServesEachEndpoint(t *testing.T) {
	handler, err := os.ReadFile("../dsstest/handler.go")
	require.NoError(t, err)
	files, err := filepath.Glob("../*.go")
	require.NoError(t, err)
	inDSS, err := filepath.Glob("../dss/*.go")
	require.NoError(t, err)
	found := 0
	for _, file := range append(files, inDSS...) {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`(?m)^// DSS: ([A-Z]+ /[^?\s]*)`).FindAllStringSubmatch(string(source), -1) {
			assert.Regexp(t, `"`+regexp.QuoteMeta(m[1])+`(\{\$\})?": `, string(handler), file)
			found++
		}
	}
	assert.Greater(t, found, 6)
}

// Each router's example passes the common test, lists its routes, and is on the
// page.
func TestEachRouterIsTestedAndDocumented(t *testing.T) {
	page, err := os.ReadFile("frameworks.md")
	require.NoError(t, err)
	recipes, err := os.ReadFile("recipes.md")
	require.NoError(t, err)
	for _, name := range append(adapters(t), otherExamples...) {
		assert.True(t, strings.Contains(string(recipes), "](../examples/"+name+")"), "docs/recipes.md, Programs to copy, has no link to ../examples/%s", name)
	}
	for _, name := range adapters(t) {
		assert.True(t, strings.Contains(tableOf(string(page)), "](../examples/"+name+")"), "the table of docs/frameworks.md has no row with a link to ../examples/%s", name)
	}
	for _, name := range routers(t) {
		tests, err := testsIn("examples/" + name)
		require.NoError(t, err)
		for _, part := range []string{"\nfunc TestRouter(", "routertest.Run", "dsstest.NoRouteForgotten(", "\nfunc TestForgottenRouteIsFound(", "routertest.FailsForgotten("} {
			assert.True(t, strings.Contains(tests, part), "examples/%s/main_test.go lacks %s: see examples/chi. If the example is of no router, add it to otherExamples, in docs/pages_test.go",
				name, strings.TrimSpace(part))
		}
	}
}

// One page lists the fields of an answer that is kept; others link to it.
func TestKeptFieldsAreListed(t *testing.T) {
	page, err := os.ReadFile("how-it-works.md")
	require.NoError(t, err)
	row := regexp.MustCompile(`(?m)^\| an answer about a user.*$`).FindString(string(page))
	for field := range reflect.TypeFor[dssauth.Identity]().Fields() {
		if field.IsExported() {
			assert.True(t, strings.Contains(row, "`"+field.Name+"`"), "docs/how-it-works.md: the first row of \"What is kept\" does not name Identity's field %s", field.Name)
		}
	}
}

// README's figure is the measured one.
func TestMemoryIsAsMeasured(t *testing.T) {
	figure := func(page, pattern string) string {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		found := regexp.MustCompile(pattern).FindStringSubmatch(string(text))
		require.NotNil(t, found, "%s has nothing like %s", page, pattern)
		return found[1]
	}
	measured := figure("../bench/results/memory.md", `(?m)^\| dssauth \| (\d+) \|`)
	assert.Equal(t, measured, figure("../bench/README.md", `(?m)^\| dssauth \| (\d+) \| \d+ \| \d+ \|`), "bench/README.md, Memory, has another figure than bench/results/memory.md, the output of cd bench && go run ./cmd/memory")
	assert.Equal(t, measured, figure("../README.md", `takes (\d+) bytes`), "README, Speed, has another figure than bench/results/memory.md")
}

// allTests is the code of all tests.
func allTests(t *testing.T) string {
	var tests strings.Builder
	require.NoError(t, filepath.WalkDir("..", func(file string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(file, "_test.go") {
			code, err := os.ReadFile(file)
			require.NoError(t, err)
			tests.Write(code)
		}
		return err
	}))
	return tests.String()
}

// CONTRIBUTING.md names only files, folders and tests that exist.
func TestContributingNamesExistingFilesAndTests(t *testing.T) {
	text, err := os.ReadFile("../CONTRIBUTING.md")
	require.NoError(t, err)
	tests := allTests(t)
	for _, m := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(string(text), -1) {
		name := strings.ReplaceAll(m[1], "NAME", "chi")
		switch {
		case regexp.MustCompile(`^Test\w+$`).MatchString(name):
			assert.True(t, strings.Contains(tests, "\nfunc "+name+"("), "%s does not exist", name)
		case regexp.MustCompile(`^[\w./-]+\.(go|md|json)$|^[\w.-]+/$`).MatchString(name) && name != "docs/chi.md":
			_, err := os.Stat(filepath.Join("..", filepath.FromSlash(name)))
			assert.NoError(t, err)
		}
	}
}

// A release tags a module after all modules that it requires.
func TestReleaseOrder(t *testing.T) {
	page, err := os.ReadFile("../CONTRIBUTING.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(page), "\n   | Module | requires of this repository |\n   | --- | --- |\n")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n\n")
	files, err := filepath.Glob("../*/go.mod")
	require.NoError(t, err)
	want := 0
	for _, file := range files {
		module := filepath.Base(filepath.Dir(file))
		if module == "bench" {
			continue
		}
		want++
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		row := regexp.MustCompile("(?m)^ *\\| `" + module + "` \\| (.*) \\|$").FindStringSubmatchIndex(table)
		if !assert.NotNil(t, row, "%s has no row", module) {
			continue
		}
		for _, m := range regexp.MustCompile(`(?m)^\tgithub\.com/dssauth/dssauth(?:/(\w+))? v0\.0\.0( // indirect)?$`).FindAllStringSubmatch(string(text), -1) {
			name := "the root"
			if m[1] != "" {
				name = "`" + m[1] + "`"
				assert.Contains(t, table[:row[0]], "| "+name+" |", "%s is released before %s, which it requires", module, m[1])
			}
			if m[2] == "" {
				assert.Contains(t, table[row[2]:row[3]], name, module)
			}
		}
	}
	assert.Len(t, regexp.MustCompile("(?m)^ *\\| `").FindAllString(table, -1), want)
}

// On a Mac, the shell is zsh. It takes a pasted comment for further arguments.
func TestCommandsHaveNoComments(t *testing.T) {
	found := 0
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, block := range regexp.MustCompile("(?ms)^ *```(?:sh|console)\n(.*?)^ *```$").FindAllStringSubmatch(string(text), -1) {
			assert.NotRegexp(t, `(?m)(^|\s)#`, block[1], page)
			found++
		}
	}
	assert.Greater(t, found, 30)
}

// A command runs tests that exist.
func TestCommandsRunTestsThatExist(t *testing.T) {
	tests := allTests(t)
	found := 0
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`go test [^\n`+"`"+`]*?-(?:run|fuzz) '?\^?((?:Test|Fuzz)\w+)`).FindAllStringSubmatch(string(text), -1) {
			assert.True(t, strings.Contains(tests, "\nfunc "+m[1]), "%s: there is no test %s", page, m[1])
			found++
		}
	}
	assert.Greater(t, found, 4)
}
