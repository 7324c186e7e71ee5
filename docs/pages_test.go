package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pages are all that people read, as paths from this folder.
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
		"# dssauth\n", `<img src="docs/quickstart.png"`, "**Status:", "not yet checked against a live DSS", " Go 1.26", "cmd/dssauth@latest contract", "\ngo get ",
		"\ngo run ./examples/quickstart ", "\ngo test work ", "```mermaid\n", "docs/not-go.md", "\npackage main\n", `{"login":`, "\nfunc newRouter(", "auth.RequireProject(",
		"dsstest.NewServer(t)", "\n## Acting as the visitor\n", "cmd/dssauth@latest doctor", "docs/deploy.md", "\n## How it fails\n", "\n## Speed\n", "docs/how-it-works.md",
	} {
		at := strings.Index(readme[last:], next)
		if assert.GreaterOrEqual(t, at, 0, "%s is missing, or stands before what comes first", next) {
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
		if page != "first-day.md" { // TestFirstDayAsItStands
			assert.Len(t, unnamed, want, page)
		}
	}
}

var link = regexp.MustCompile(`(?:\]\(|<img src=")([^)" ]+)`)

func TestLinksLeadSomewhere(t *testing.T) {
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		assert.Empty(t, deadLinks(page, string(text), os.ReadFile), page)
	}
}

// A check that cannot fail is none.
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
	command = regexp.MustCompile("(?:go run|go build|go test|go install)((?: -[\\w.=$]+(?: \\S+)??)*) (\\./[\\w./]+|github\\.com/dssauth/dssauth[\\w./]*)((?: +-[\\w-]+)*)")
	moved   = regexp.MustCompile(`cd (\w+) && $`)
)

// A command on a page runs a folder that is there, and its flags are the program's.
func TestCommandsNameWhatIsThere(t *testing.T) {
	found := 0
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		from := ".."
		if strings.Contains(page, "bench") {
			from = "../bench"
		}
		for _, at := range command.FindAllStringSubmatchIndex(string(text), -1) {
			whole, folder, flags := string(text[at[0]:at[1]]), string(text[at[4]:at[5]]), string(text[at[6]:at[7]])
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
			if !assert.NotEmpty(t, sources, "%s: %s: no such folder", page, whole) || strings.HasPrefix(whole, "go test") {
				continue
			}
			var code strings.Builder
			for _, source := range sources {
				content, err := os.ReadFile(source)
				require.NoError(t, err)
				code.Write(content)
			}
			for _, flag := range strings.Fields(flags) {
				assert.Regexp(t, `(?i)\.(bool|string|int|duration|func|boolfunc|var|uint64|int64|textvar)(var)?\((&[\w.]+, |\w+, )?"`+strings.TrimLeft(flag, "-")+`"`, code.String(), "%s: %s: no such flag", page, whole)
			}
			found++
		}
	}
	assert.Greater(t, found, 30)
}
