package headers

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestFold(t *testing.T) {
	for _, name := range []string{"Remote-User", "REMOTE_USER", "remote.user", "Remote!uSer"} {
		assert.Equal(t, "remote-user", string(Fold(nil, name)), name)
	}
	assert.Equal(t, "x1-", string(Fold(nil, "X1_")))
	assert.Equal(t, "ax-", string(Fold([]byte("a"), "x ")), "it appends")
	for name := range Routing {
		assert.Equal(t, name, string(Fold(nil, name)), "Routing has folded names")
	}
}
