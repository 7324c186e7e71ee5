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

func (c cookies) match(pair string) bool {
	name, _, _ := strings.Cut(pair, "=")
	name = strings.Trim(name, " \t")
	for _, pattern := range c {
		if ok, _ := path.Match(pattern, name); ok { // the library has checked the pattern
			return true
		}
	}
	return false
}
