package dsstest

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
)

// fillerFor returns a value for a parameter that takes any value. No other
// route's path has it as a segment: a router would prefer that route.
func fillerFor(routes []string) string {
	filler := "1"
	for slices.ContainsFunc(routes, func(route string) bool { return slices.Contains(strings.Split(route, "/"), filler) }) {
		filler += "1"
	}
	return filler
}

// fill returns a host, "" for any, and a path that a pattern of net/http, chi,
// gorilla/mux, echo, gin or Fiber matches.
func fill(pattern, filler string) (host, path string, err error) {
	start := strings.IndexByte(pattern, '/')
	if pattern == "" { // echo's name of a group's own path
		start, pattern = 0, "/"
	}
	if start < 0 {
		return "", "", fmt.Errorf("no request, since its pattern has no slash")
	}
	if host, err = fillPart(pattern[:start], filler); err != nil {
		return "", "", err
	}
	path, err = fillPart(pattern[start:], filler)
	return host, path, err
}

// fillPart fills the parameters of a host or a path.
func fillPart(pattern, filler string) (string, error) {
	var b strings.Builder
	for pattern != "" {
		begins := strings.HasSuffix(b.String(), "/")
		switch c := pattern[0]; {
		case c == '{':
			end := closing(pattern)
			if end < 0 {
				return "", fmt.Errorf("no request, since a brace of its pattern does not close")
			}
			value, err := braced(pattern[1:end], filler)
			if err != nil {
				return "", err
			}
			b.WriteString(value)
			pattern = pattern[end+1:]
		case c == '*' && begins:
			b.WriteString(filler)
			pattern = strings.TrimLeftFunc(pattern[1:], isWord)
		case c == ':' && begins:
			b.WriteString(filler)
			pattern = strings.TrimLeftFunc(pattern[1:], isWord)
			if strings.HasPrefix(pattern, "<") { // Fiber's <int>
				pattern = pattern[strings.IndexByte(pattern, '>')+1:]
			}
			pattern = strings.TrimPrefix(pattern, "?")
		default:
			b.WriteByte(c)
			pattern = pattern[1:]
		}
	}
	return b.String(), nil
}

func isWord(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// closing returns the place of the brace that closes the first one of s, or -1.
// Regular expressions have pairs of braces.
func closing(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// braced returns a value of a parameter in braces.
func braced(parameter, filler string) (string, error) {
	_, expression, has := strings.Cut(parameter, ":")
	switch {
	case parameter == "$": // the path ends here
		return "", nil
	case !has:
		return filler, nil
	}
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return "", fmt.Errorf("no request, since the expression of its parameter cannot be read")
	}
	fits := regexp.MustCompile("^(?:" + expression + ")$")
	for _, value := range slices.Concat([]string{filler}, matches(parsed, 0)) {
		if value != "" && !strings.Contains(value, "/") && fits.MatchString(value) {
			return value, nil
		}
	}
	return "", fmt.Errorf("no request, since no value was found for the expression of its parameter: give a path without parameters")
}

const (
	maxMatches = 16 // the most texts for a part of an expression
	maxLength  = 1 << 10
)

// matches returns some texts that an expression may match. It ignores
// conditions on the text around a match.
func matches(e *syntax.Regexp, depth int) []string {
	if depth > 50 {
		return nil
	}
	of := func(i int) []string { return matches(e.Sub[i], depth+1) }
	switch e.Op {
	case syntax.OpLiteral:
		return []string{string(e.Rune)}
	case syntax.OpCharClass:
		return classMatches(e.Rune)
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return []string{"1"}
	case syntax.OpCapture, syntax.OpPlus:
		return of(0)
	case syntax.OpStar, syntax.OpQuest:
		return append(of(0), "")
	case syntax.OpRepeat:
		some := []string{""}
		for range max(1, e.Min) {
			some = joined(some, of(0))
		}
		return some
	case syntax.OpConcat:
		some := []string{""}
		for i := range e.Sub {
			some = joined(some, of(i))
		}
		return some
	case syntax.OpAlternate:
		var some []string
		for i := range e.Sub {
			some = append(some, of(i)...)
		}
		return some[:min(len(some), maxMatches)]
	case syntax.OpNoMatch:
		return nil
	}
	return []string{""} // an empty text, or an edge
}

func joined(before, after []string) []string {
	var some []string
	for _, b := range before {
		for _, a := range after {
			if len(some) < maxMatches && len(b)+len(a) <= maxLength {
				some = append(some, b+a)
			}
		}
	}
	return some
}

// classMatches returns characters of a class. The class is a list of pairs: the
// first and the last character of a range.
func classMatches(ranges []rune) (some []string) {
	for _, r := range "1aAz-_." {
		for i := 0; i+1 < len(ranges); i += 2 {
			if ranges[i] <= r && r <= ranges[i+1] {
				some = append(some, string(r))
			}
		}
	}
	for i := 0; i < len(ranges) && len(some) < maxMatches; i += 2 {
		some = append(some, string(ranges[i]))
	}
	return some[:min(len(some), 4)]
}
