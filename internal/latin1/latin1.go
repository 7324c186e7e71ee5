// Package latin1 reads the bytes of headers as text.
package latin1

import (
	"strings"
	"unicode/utf8"
)

// Text returns s if it is valid UTF-8. Otherwise it reads s as Latin-1, as servers
// for Python read every header.
func Text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for _, c := range []byte(s) {
		b.WriteRune(rune(c))
	}
	return b.String()
}
