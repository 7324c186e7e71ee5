package server

import (
	"path"
	"strings"
)

// cookies are patterns for the names of DSS's cookies, with * for any characters.
// These names depend on the DSS instance. If no pattern is set, each cookie may be
// DSS's.
type cookies []cookie

// cookie is a pattern for names. Most patterns are a name or the beginning of one.
// These need no path.Match for each request.
type cookie struct {
	text   string
	prefix bool // text, and anything after it
	glob   bool
}

func newCookies(patterns []string) cookies {
	c := make(cookies, len(patterns))
	for i, p := range patterns {
		text, prefix := strings.CutSuffix(p, "*")
		if c[i] = (cookie{text: text, prefix: prefix}); strings.ContainsAny(text, `*?[\`) {
			c[i] = cookie{text: p, glob: true}
		}
	}
	return c
}

func (c cookie) match(name string) bool {
	switch {
	case c.glob:
		ok, _ := path.Match(c.text, name) // the library has checked the pattern
		return ok
	case c.prefix:
		return strings.HasPrefix(name, c.text)
	}
	return name == c.text
}

// others returns the cookies that are not DSS's, each unchanged.
func (c cookies) others(lines []string) string {
	if len(c) == 0 {
		return ""
	}
	size := 0
	for _, line := range lines {
		size += len(line) + len("; ")
	}
	var kept strings.Builder
	kept.Grow(size)
	for _, line := range lines {
		for pair := range strings.SplitSeq(line, ";") {
			if pair = strings.Trim(pair, " \t"); pair == "" || c.match(pair) {
				continue
			}
			if kept.Len() > 0 {
				kept.WriteString("; ")
			}
			kept.WriteString(pair)
		}
	}
	return kept.String()
}

// match reports whether a part between semicolons names a cookie of DSS's. Some
// parsers take a comma for a semicolon, cut off quotes, or skip an empty name.
func (c cookies) match(part string) bool {
	for pair := range strings.SplitSeq(part, ",") {
		name, _, _ := strings.Cut(strings.TrimLeft(pair, " \t\"="), "=")
		name = strings.TrimRight(name, " \t\"")
		for _, pattern := range c {
			if pattern.match(name) {
				return true
			}
		}
	}
	return false
}
