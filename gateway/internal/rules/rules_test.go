package rules

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestX(t *testing.T) {
	s, err := New([]Rule{{Path: "/", Allow: SignedIn}, {Path: "/admin/", Groups: []string{"a"}}})
	assert.NoError(t, err)
	for _, p := range []string{"/", "/admin", "/administrator", "/Admin", "/x%20y", "/admin%3Fx"} {
		t.Log(s.Find("GET", p))
	}
}
