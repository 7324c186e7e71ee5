package dss

import (
	"fmt"
	"strings"
	"unicode/utf16"
)

// pluginKey returns the name that DSS gives to the credential of a plugin's
// preset: the JSON text, as Python writes it, of the list ["PLUGIN", plugin,
// paramSet, preset, param] without its brackets. encoding/json writes other
// escapes, and so would give another name.
func pluginKey(plugin, paramSet, preset, param string) string {
	var b strings.Builder
	b.WriteString(`"PLUGIN"`)
	for _, part := range []string{plugin, paramSet, preset, param} {
		b.WriteString(", ")
		writePythonString(&b, part)
	}
	return b.String()
}

func writePythonString(b *strings.Builder, s string) {
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\f':
			b.WriteString(`\f`)
		case r == '\b':
			b.WriteString(`\b`)
		case ' ' <= r && r <= '~':
			b.WriteRune(r)
		default:
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(b, `\u%04x`, unit)
			}
		}
	}
	b.WriteByte('"')
}
