package docs_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestObservabilityIsShownAsItWasTried(t *testing.T) {
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
