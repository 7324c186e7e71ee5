package dss

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"
)

// checkPath refuses an escaped path that a server, or a proxy before it, may
// read as another path.
func checkPath(escaped string) error {
	if strings.Contains(escaped, "//") {
		return errors.New("an empty segment (//) is not allowed")
	}
	if strings.Contains(escaped, `\`) {
		return errors.New(`a backslash is not allowed; in a name it is written %5C`)
	}
	// More than once, because one server in the chain may decode what
	// another passed on.
	for range 3 {
		decoded, err := url.PathUnescape(escaped)
		if err != nil {
			break // not an error: a decoded name can have a percent sign of its own
		}
		if strings.ContainsFunc(decoded, isControl) {
			return errors.New("control characters are not allowed")
		}
		if !utf8.ValidString(decoded) { // %C0%AE is a dot to some
			return errors.New("bytes that are not UTF-8 are not allowed")
		}
		for segment := range strings.FieldsFuncSeq(decoded, func(r rune) bool { return r == '/' || r == '\\' }) {
			// Java servers cut parameters off a segment before they look at it.
			segment, _, _ = strings.Cut(segment, ";")
			if segment == "." || segment == ".." {
				return errors.New("dot segments are not allowed")
			}
		}
		if decoded == escaped {
			break
		}
		escaped = decoded
	}
	return nil
}

// joinPath returns u with p, an escaped path, added to its own.
func joinPath(u *url.URL, p string) (*url.URL, error) {
	joined := *u
	escaped := u.EscapedPath() + escapeRest(p)
	decoded, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, errors.New("a percent sign must be followed by two hexadecimal digits; in a name it is written %25")
	}
	joined.Path, joined.RawPath = decoded, escaped
	return &joined, nil
}

// escapeRest escapes the characters that a path may not hold. Otherwise url.URL
// would escape the whole path again, and turn %2F into a slash.
func escapeRest(p string) string {
	if !strings.ContainsFunc(p, isUnfit) {
		return p
	}
	var b strings.Builder
	for _, c := range []byte(p) {
		if isUnfit(rune(c)) {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func isUnfit(c rune) bool {
	return c <= ' ' || c >= 0x7f || strings.ContainsRune("\"<>^`{|}", c)
}

// apiURL returns the URL of path, which is relative to the API and may have a
// query, as in /projects/?limit=10.
func apiURL(base *url.URL, path string) (*url.URL, error) {
	path, query, hasQuery := strings.Cut(path, "?")
	switch {
	case strings.Contains(path, "://"):
		return nil, errors.New("an absolute URL is not allowed; give the path after " + apiPath)
	case !strings.HasPrefix(path, "/"):
		return nil, errors.New("it must start with /, as in /projects/")
	case strings.Contains(path, "#") || strings.Contains(query, "#"):
		return nil, errors.New("a fragment is not allowed; in a name # is written %23")
	case strings.ContainsFunc(path, isControl) || strings.ContainsFunc(query, isControl):
		return nil, errors.New("control characters are not allowed")
	case strings.ContainsFunc(query, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, errors.New("its query must be escaped, as url.Values.Encode does")
	}
	if err := checkPath(path); err != nil {
		return nil, err
	}
	u, err := joinPath(base, apiPath+path)
	if err != nil {
		return nil, err
	}
	u.RawQuery, u.ForceQuery = query, hasQuery && query == ""
	return u, nil
}
