package server

import (
	"path"
	"strings"
)

// cookies are the names of DSS's, with * for any characters. Their name depends on
// the instance: without any, each cookie may be one.
type cookies []string

// others returns the cookies that are not DSS's, each as it came.
func (c cookies) others(lines []string) string {
	if len(c) == 0 {
		return ""
	}
	var kept strings.Builder
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
			if ok, _ := path.Match(pattern, name); ok { // the library has checked the pattern
				return true
			}
		}
	}
	return false
}
