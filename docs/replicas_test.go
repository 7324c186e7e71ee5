package docs_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReplicasAreShownAsTheyWereTried(t *testing.T) {
	assert.Equal(t, "examples/replicas/replica.go examples/replicas/replica.go", filesShown(t, "replicas.md"))
}

// The page grants the rights that rediscache documents. The tests of rediscache
// use them.
func TestReplicasGrantWhatIsDocumented(t *testing.T) {
	page, err := os.ReadFile("replicas.md")
	require.NoError(t, err)
	source, err := os.ReadFile("../rediscache/rediscache.go")
	require.NoError(t, err)
	line := regexp.MustCompile(`(?m)^//\t(ACL SETUSER .*)$`).FindStringSubmatch(string(source))
	require.NotNil(t, line)
	assert.Contains(t, string(page), "```text\n"+line[1]+"\n```\n")
}
