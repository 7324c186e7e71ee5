package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// root is the directory that the faults' files and packages are relative to.
var root = filepath.Join("..", "..")

// This test finds in a moment a fault that can no longer be planted. The
// command would find it only after it tried all others.
func TestFaultsCanBePlanted(t *testing.T) {
	seen, errors := map[string]bool{}, map[[3]string]string{}
	for _, f := range faults {
		assert.False(t, seen[f.name], "two faults are named %q", f.name)
		seen[f.name] = true
		what := [3]string{f.file, f.old, f.new}
		assert.Empty(t, errors[what], "%s: the same error goes by another name", f.name)
		errors[what] = f.name
		assert.NotEqual(t, f.old, f.new, "%s: what breaks the code", f.name)
		code, err := os.ReadFile(filepath.Join(root, f.file))
		if assert.NoError(t, err, f.name) {
			assert.Equal(t, 1, strings.Count(string(code), f.old), "%s: how often the code to break stands in %s. If you changed that code, change its quote in .ci/mutants/faults.go", f.name, f.file)
		}
	}
}

func TestKillersExist(t *testing.T) {
	tests := map[string]string{} // directory → all its test files
	for _, f := range faults {
		if f.killer == check {
			continue
		}
		test, pkg, named := strings.Cut(f.killer, " ")
		require.True(t, named, "%s: %q names no package", f.name, f.killer)
		dir := filepath.Join(root, pkg)
		if tests[dir] == "" {
			files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
			require.NoError(t, err)
			for _, file := range files {
				text, err := os.ReadFile(file)
				require.NoError(t, err)
				tests[dir] += string(text)
			}
		}
		assert.True(t, strings.Contains(tests[dir], "\nfunc "+test+"(t *testing.T) {"), "%s: there is no %s", f.name, f.killer)
	}
}
