package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// inModule makes a module of one file and goes there.
func inModule(t *testing.T, code string) {
	t.Helper()
	t.Chdir(t.TempDir())
	t.Setenv("GOWORK", "off")
	require.NoError(t, os.WriteFile("go.mod", []byte("module planted\n\ngo 1.26.0\n"), 0o600))
	require.NoError(t, os.WriteFile("main.go", []byte(code), 0o600))
}

const sound = `package main

import "fmt"

const five = 5

type counter[T any] struct{ n int }

func (*counter[T]) add(_ T, n ...int) (sum int) {
	sum, err := len(n), error(nil)
	_ = err
	return sum
}

func rescued() { _ = recover() }

func show(string) { fmt.Print("a") }

func main() {
	defer rescued()
	c := counter[string]{}
	fmt.Print(c.add("", 1, 2), five)
	show("")
}
`

// Each error is on only in a run that chooses it. An error that cannot stand
// beside the sound code, or does not compile, is reported.
func TestEachErrorIsOffUntilChosen(t *testing.T) {
	inModule(t, sound)
	var changes []change
	for _, with := range [][2]string{
		{"return sum", "return sum + 1"},
		{`fmt.Print("a")`, `fmt.Print("b")`},
		{`show("")`, ``},
		{"_ = err", ""},
		{"five = 5", "five = 6"},
		{"_ = recover()", ""},
		{"_ T, n", "_ T, _"},
		{"const five", "var other int\n\nconst five"},
	} {
		f := fault{file: "main.go", old: with[0], new: with[1]}
		code, err := f.planted()
		require.NoError(t, err)
		changes = append(changes, change{f.file, code})
	}
	b, err := sow(changes)
	require.NoError(t, err)
	defer b.remove()

	program := filepath.Join(t.TempDir(), "program")
	out, err := exec.Command("go", "build", "-o", program, "-overlay", b.overlay, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	for number, want := range []string{"2 5a", "3 5a", "2 5b", "2 5"} {
		assert.Equal(t, want, runs(t, program, number), number)
	}
	assert.ErrorContains(t, b.broken[4], "declared and not used: err")
	assert.EqualError(t, b.beside[5], "it changes what is not a function's body")
	assert.EqualError(t, b.beside[6], "it changes a function that is deferred to recover")
	assert.EqualError(t, b.beside[7], "it changes how a function is called")
	assert.EqualError(t, b.beside[8], "it changes which declarations there are")
	assert.Len(t, b.broken, 1)
	assert.Len(t, b.beside, 4)
}

func runs(t *testing.T, program string, number int) string {
	t.Helper()
	cmd := chosen(exec.Command(program), number)
	out, err := cmd.Output()
	require.NoError(t, err)
	return string(out)
}

func TestSmallErrors(t *testing.T) {
	for code, want := range map[string][]string{
		"if a < b { c() }":                {"if !(a < b) { c() }", "if a <= b { c() }", "if a < b { }"},
		"a, ok := true, b && c":           {"a, ok := false, b && c", "a, ok := true, b || c"},
		"a = b + 1":                       {"", "a = b - 1", "a = b + (1+1)"},
		"defer a(); return 2, b":          {"; return 2, b", "defer a(); return (2+1), b", "defer a(); return 2, nil"},
		"return 100, nil":                 nil,
		"switch a { case b: default: }":   {"switch a { default: }"},
		"select { case <-a: default: }":   {"select { default: }"},
		"for i := 0; i < n; i++ { a(); }": {"for i := (0+1); i < n; i++ { a(); }", "for i := 0; i <= n; i++ { a(); }", "for i := 0; i < n; i++ { ; }"},
		"b := func() { return }":          nil,
	} {
		sites, err := sitesOf("some.go", []byte("package p\n\nfunc (c *cache[T]) put() (int, error) {\n"+code+"\n}\n"))
		require.NoError(t, err)
		var got []string
		for _, s := range sites {
			assert.Equal(t, "(*cache).put", s.in)
			assert.Equal(t, 4, s.line)
			assert.Equal(t, code, s.old)
			got = append(got, s.new)
		}
		assert.ElementsMatch(t, want, got, code)
	}
}

func TestSeedDecidesTheOrder(t *testing.T) {
	t.Chdir(root)
	all, err := chooseSites([]string{"internal/seal", "internal/shown"}, 1)
	require.NoError(t, err)
	again, err := chooseSites([]string{"internal/shown", "internal/seal"}, 1)
	require.NoError(t, err)
	assert.Equal(t, all, again)
	other, err := chooseSites([]string{"internal/seal", "internal/shown"}, 2)
	require.NoError(t, err)
	assert.NotEqual(t, all, other)
	assert.ElementsMatch(t, all, other)
}

// An entry for code that was changed since would hide nothing, and would be
// wrong.
func TestSurvivorsCanBePlanted(t *testing.T) {
	t.Chdir(root)
	for _, h := range survivors {
		_, listed := randomPackages[filepath.Dir(h.file)]
		assert.True(t, listed, "%s: no random errors are made there", h.file)
		code, err := os.ReadFile(h.file)
		require.NoError(t, err)
		sites, err := sitesOf(h.file, code)
		require.NoError(t, err)
		n := 0
		for _, s := range sites {
			if h.isFor(s) {
				n++
			}
		}
		assert.NotZero(t, n, "%s: %s cannot become %s any more", h.file, h.old, h.new)
		assert.NotEmpty(t, h.why)
	}
}

func TestRandomPackagesExist(t *testing.T) {
	t.Chdir(root)
	for dir := range randomPackages {
		sites, err := sitesIn(dir)
		require.NoError(t, err)
		assert.NotEmpty(t, sites, dir)
		assert.NotEmpty(t, judgedBy(dir), dir)
	}
}
