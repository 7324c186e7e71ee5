package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRenameChangesImportsOnly(t *testing.T) {
	code := `// Package x is of github.com/dssauth/dssauth.
package x

import (
	"fmt"

	"github.com/dssauth/dssauth"
	client "github.com/dssauth/dssauth/dss" // "github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauthority"
)

var path = "github.com/dssauth/dssauth"
`
	got, err := rename([]byte(code), modulePath, "old.pair.test")
	require.NoError(t, err)
	want := strings.Replace(code, `	"github.com/dssauth/dssauth"`, `	"old.pair.test"`, 1)
	want = strings.Replace(want, `client "github.com/dssauth/dssauth/dss"`, `client "old.pair.test/dss"`, 1)
	assert.Equal(t, want, string(got))
}

func TestModuleLeavesOutTestsAndOtherModules(t *testing.T) {
	all := tree{files: map[string][]byte{}}
	for _, name := range []string{"go.mod", "a.go", "a_test.go", "dss/b.go", "dss/page.html", "bench/go.mod", "bench/c.go", "bench/cmd/x/d.go"} {
		all.files[name] = []byte("x")
	}
	kept, err := all.module()
	require.NoError(t, err)
	var names []string
	for name := range kept.files {
		names = append(names, name)
	}
	assert.ElementsMatch(t, []string{"go.mod", "a.go", "dss/b.go", "dss/page.html"}, names)
}

func TestTableShowsCertainty(t *testing.T) {
	rounds := func(ratio float64, allocs uint64) (all []round) {
		older := cost{Requests: 1000, CPU: 100 * time.Microsecond, Allocs: 1000}
		for i := range 40 {
			newer := cost{Requests: 1000, Allocs: 1000 * allocs}
			newer.CPU = time.Duration(float64(older.CPU) * (ratio + 0.001*float64(i-20)))
			all = append(all, round{Hit: [2]cost{older, newer}, Changing: [2]cost{older, older}, Lookup: [2]cost{older, older}})
		}
		return all
	}
	for name, row := range map[string]struct {
		rounds []round
		within bool
		want   string
	}{
		"slower by 1 %":             {rounds(1.01, 1), true, "| 1.010 [1.003–1.016] | yes |"},
		"slower by 3 % or so":       {rounds(1.03, 1), false, "| not certain: take more rounds |"},
		"slower by 10 %":            {rounds(1.10, 1), false, "| no |"},
		"faster, with more garbage": {rounds(0.90, 2), false, "| yes; more allocations |"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			assert.Equal(t, row.within, table{cookies: 350, limit: 1.03, rounds: row.rounds}.print(&out))
			assert.Contains(t, out.String(), row.want)
		})
	}
}

// For any commits: both are linked, and every request is admitted.
func TestLastCommitAgainstWorkingTree(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	names, rounds, err := compare("HEAD", ".", 2, []string{"-turns", "2"}, io.Discard)
	require.NoError(t, err)
	assert.NotEmpty(t, names[0])
	assert.True(t, strings.HasPrefix(names[1], names[0]), "%q is the commit of %q", names[0], names[1])
	require.Len(t, rounds, 2)
	for _, r := range rounds {
		for side := range 2 {
			assert.Equal(t, 6000, r.Hit[side].Requests)
			assert.Equal(t, 20, r.Lookup[side].Requests)
			assert.Positive(t, r.Lookup[side].Allocs)
		}
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "pair*"))
	require.NoError(t, err)
	assert.Empty(t, left, "files that the command leaves behind")
}

func TestNeitherCommitNorFolder(t *testing.T) {
	for _, of := range []string{"no-such-commit", "--all"} {
		_, err := readTree(".", of)
		assert.ErrorContains(t, err, "neither a commit nor a folder")
	}
}
