package dss

import (
	"regexp"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
)

func TestClipCutsBetweenCharacters(t *testing.T) {
	const text = "aäöü"
	for limit, want := range []string{"…", "a…", "a…", "aä…", "aä…", "aäö…", "aäö…", text, text} {
		assert.Equal(t, want, clip(text, limit), limit)
	}
}

func TestClassHasTheCharactersOfAJavaName(t *testing.T) {
	for c := range rune(utf8.RuneSelf * 2) {
		assert.Equal(t, regexp.MustCompile(`^[0-9A-Za-z_.$]$`).MatchString(string(c)), isClass(string(c)), "%q", c)
	}
}

func TestBrokenArrayIsAnError(t *testing.T) {
	elements, err := parseArray([]byte(` ["a", [1, {}]] `))
	assert.NoError(t, err)
	assert.Len(t, elements, 2)
	for _, broken := range []string{`["a",`, `["a"`, `["a"}`, `["a" "b"]`, `["a",]`, `[nul]`, `["a"] 1`, `["a"]]`, `{}`, ``} {
		_, err := parseArray([]byte(broken))
		assert.Error(t, err, broken)
	}
}
