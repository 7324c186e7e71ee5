package dssauth

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// order is the order of this package's files, from top to bottom: each uses
// only files below it.
var order = []string{
	"project.go", "live.go", "impersonate.go", "context.go",
	"middleware.go", "config.go",
	"refusal.go", "drain.go", "fault.go", "cachecontrol.go", "marks.go", "asking.go",
	"access.go",
	"answers.go", "flight.go",
	"lookup.go",
	"replicas.go", "lease.go", "notices.go", "sharing.go",
	"cache.go", "session.go", "churn.go", "places.go", "store.go", "forgotten.go",
	"verdict.go", "resolver.go", "outage.go",
	"hooks.go", "identity.go", "headers.go", "keyer.go", "lifetime.go", "errors.go",
}

// upward are the exceptions, each with its reason.
var upward = map[string]string{
	"middleware.go → context.go": "a Middleware attaches what handlers read from the context, and what is attached knows its Middleware",
}

func TestFilesUseOnlyFilesBelow(t *testing.T) {
	used := usesBetweenFiles(t)
	for arrow := range maps.Keys(upward) {
		assert.Contains(t, used, arrow, "an exception that is not needed any more")
	}
	for _, arrow := range slices.Sorted(maps.Keys(used)) {
		from, to, _ := strings.Cut(arrow, " → ")
		if slices.Index(order, from) >= slices.Index(order, to) && upward[arrow] == "" {
			assert.Fail(t, "runs up: "+arrow, used[arrow])
		}
	}
	assert.LessOrEqual(t, len(upward), 3)
}

// usesBetweenFiles returns, for each pair of files, a place where the first uses
// what the second declares.
func usesBetweenFiles(t *testing.T) map[string]string {
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	fset := token.NewFileSet()
	var files []*ast.File
	var found []string
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		files, found = append(files, file), append(found, name)
	}
	assert.ElementsMatch(t, order, found, "the order names each file once")
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: importer.ForCompiler(fset, "source", nil)}
	pkg, err := config.Check("github.com/dssauth/dssauth", fset, files, info)
	require.NoError(t, err)
	used := map[string]string{}
	for ident, object := range info.Uses {
		if object.Pkg() != pkg {
			continue
		}
		from, to := fset.Position(ident.Pos()), fset.Position(object.Pos())
		if from.Filename != to.Filename {
			used[from.Filename+" → "+to.Filename] = fmt.Sprintf("%s:%d uses %s", from.Filename, from.Line, ident.Name)
		}
	}
	return used
}

// Structs are small, so that a reader can remember their fields.
func TestStructsAreSmall(t *testing.T) {
	entries, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range entries {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		file, err := parser.ParseFile(token.NewFileSet(), name, text, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			s, ok := spec.Type.(*ast.StructType)
			if ok && spec.Name.Name != "Config" && spec.Name.Name != "Stats" {
				fields := 0
				for _, f := range s.Fields.List {
					fields += max(1, len(f.Names))
				}
				assert.LessOrEqual(t, fields, 14, spec.Name.Name)
			}
			return true
		})
	}
}

// The page names the files in this order: all of them in its first picture, and in
// both of them no solid arrow runs up.
func TestHowItWorksNamesFilesInOrder(t *testing.T) {
	page, err := os.ReadFile("docs/how-it-works.md")
	require.NoError(t, err)
	pictures := mermaids(string(page))
	require.Len(t, pictures, 2)
	var all []string
	for _, node := range filesOf(pictures[0]) {
		all = append(all, node.files...)
	}
	assert.Equal(t, order, all)
	for _, picture := range pictures {
		assert.Empty(t, upwardArrows(picture))
	}
}

// The check above can fail.
func TestUpwardArrowsAreFound(t *testing.T) {
	const nodes = "a[\"middleware.go · config.go<br>x\"]\nb[\"access.go<br>y\"]\nc[\"nosuch.go\"]\n"
	assert.Empty(t, upwardArrows(strings.Replace(nodes, "nosuch.go", "keyer.go", 1)+"a --> b -- \"z\" --> c\nc -. \"back\" .-> a\nsomebody(\"x\") --> a\n"))
	assert.Equal(t, []string{"nosuch.go is not a file"}, upwardArrows(nodes))
	assert.Equal(t, []string{"b --> a"}, upwardArrows(strings.Replace(nodes, "nosuch.go", "keyer.go", 1)+"a -- \"z\" --> b --> a\n"))
	assert.Equal(t, []string{"c stands too high"}, upwardArrows(strings.Replace(nodes, "nosuch.go", "project.go", 1)))
}

func mermaids(page string) (pictures []string) {
	for {
		_, rest, found := strings.Cut(page, "\n```mermaid\n")
		if !found {
			return pictures
		}
		picture, after, _ := strings.Cut(rest, "\n```\n")
		pictures, page = append(pictures, picture), after
	}
}

// filesNode is a box of a picture that names files.
type filesNode struct {
	id    string
	files []string
}

var (
	nodeOfFiles = regexp.MustCompile(`(?m)^\s*(\w+)\["((?:\w+\.go(?: · )?)+)(?:<br>[^"]*)?"\]$`)
	solidArrows = regexp.MustCompile(`^\s*\w+(?:\(.*?\))?(?: (?:--|-- "[^"]*" --)> \w+)+$`)
)

func filesOf(picture string) (nodes []filesNode) {
	for _, m := range nodeOfFiles.FindAllStringSubmatch(picture, -1) {
		nodes = append(nodes, filesNode{m[1], strings.Split(m[2], " · ")})
	}
	return nodes
}

func upwardArrows(picture string) (wrong []string) {
	at, last := map[string]int{}, -1
	for _, node := range filesOf(picture) {
		for _, file := range node.files {
			i := slices.Index(order, file)
			if i < 0 {
				return []string{file + " is not a file"}
			}
			if i < last {
				return []string{node.id + " stands too high"}
			}
			at[node.id], last = i, i
		}
	}
	for line := range strings.Lines(picture) {
		line = strings.TrimSpace(regexp.MustCompile(`\([^)]*\)`).ReplaceAllString(line, ""))
		if !solidArrows.MatchString(line) {
			continue
		}
		ends := regexp.MustCompile(` (?:--|-- "[^"]*" --)> `).Split(line, -1)
		for i := range ends[1:] {
			from, isFile := at[ends[i]]
			to, also := at[ends[i+1]]
			if isFile && also && from >= to {
				wrong = append(wrong, ends[i]+" --> "+ends[i+1])
			}
		}
	}
	return wrong
}
