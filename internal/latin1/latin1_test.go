package latin1_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/dssauth/dssauth/internal/latin1"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"":             "",
		"ann":          "ann",
		"Andr\xe9":     "André",
		"André":        "André",
		"\xff\x80\xc3": "ÿ\u0080Ã",
		"é\xe9":        "Ã©é",
	} {
		assert.Equal(t, want, latin1.Text(in), "%q", in)
	}
}
