package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A fault that cannot be planted any more is found here in a moment, and not
// after all the others were tried.
func TestFaultsCanBePlanted(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range faults {
		assert.False(t, seen[f.name], "two faults are named %q", f.name)
		seen[f.name] = true
		assert.NotEqual(t, f.old, f.new, f.name)
		code, err := os.ReadFile(filepath.Join("..", "..", f.file))
		if !assert.NoError(t, err, f.name) {
			continue
		}
		assert.Equal(t, 1, strings.Count(string(code), f.old), "%s: how often %s has the code to break", f.name, f.file)
	}
	require.NotEmpty(t, faults)
}
