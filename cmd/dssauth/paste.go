package main

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/dssauth/dssauth/internal/shown"
)

// Errors about a paste name the mistake, and quote no word of the paste.
var (
	errPasteCut      = errors.New("the paste is cut off: one of its quotes does not end")
	errPasteFile     = errors.New("its -b names a file of cookies: paste the cookies themselves")
	errPasteReply    = errors.New("Set-Cookie is from the reply: copy the Cookie header of the request")
	errPasteNoCookie = errors.New("it has no Cookie header: copy a request that the signed-in browser sends to DSS")
)

// cookies is one Cookie header's value. It is kept behind a function, so that
// nothing can print it.
type cookies struct{ header func() string }

func (c cookies) String() string { return "(cookies: " + strings.Join(c.names(), " ") + ")" }

// pairs are the cookies unchanged, in their order.
func (c cookies) pairs() []string {
	var pairs []string
	for pair := range strings.SplitSeq(c.header(), ";") {
		if pair = trim(pair); pair != "" {
			pairs = append(pairs, pair)
		}
	}
	return pairs
}

// names are the cookies' names in their order, each once.
func (c cookies) names() []string {
	var names []string
	for _, pair := range c.pairs() {
		if name := nameOf(pair); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// named returns the cookies of one name: a browser may send several.
func (c cookies) named(name string) []string {
	return slices.DeleteFunc(c.pairs(), func(pair string) bool { return nameOf(pair) != name })
}

// Placeholders for missing names of cookies, and for names that are not shown.
const (
	nameless = "(without a name)"
	unshown  = "(name not shown)"
)

// nameOf returns the name of a cookie in the report, and never a value. To the doctor,
// all cookies whose names are not shown count as one.
func nameOf(pair string) string {
	if name, ok := shown.CookieName(pair); ok {
		return name
	}
	if name, _, found := strings.Cut(pair, "="); !found || trim(name) == "" {
		return nameless
	}
	return unshown
}

func valueOf(pair string) string {
	name, value, found := strings.Cut(pair, "=")
	if !found {
		return name
	}
	return value
}

// trim keeps characters that are white space elsewhere, but part of a cookie in HTTP.
func trim(s string) string { return strings.Trim(s, " \t\r\n") }

// request is the part of a browser's request in a paste. A function hides its headers,
// too.
type request struct {
	cookies
	others func() http.Header // all but Cookie
	to     site
}

// site is the target of a request; its host is "" if a paste does not have it.
type site struct{ scheme, host string }

// headers are those to send to DSS.
func (r request) headers() http.Header {
	h := r.others().Clone()
	if len(r.pairs()) > 0 {
		h.Set("Cookie", r.header())
	}
	return h
}

func newRequest(others http.Header, cookie string) request {
	return request{
		cookies: cookies{header: func() string { return cookie }},
		others:  func() http.Header { return others },
	}
}

// field is one header as it was pasted.
type field struct{ name, value string }

// parsePaste finds the headers in a text that a person copied from a browser: a cURL
// command, some or all headers of a request, or the bare value of Cookie.
func parsePaste(text string) (request, error) {
	text = trim(strings.TrimPrefix(strings.ReplaceAll(text, "\r\n", "\n"), "\ufeff"))
	var fields []field
	var to site
	var err error
	if command, ok := curlCommand(text); ok {
		fields, to, err = fieldsOfCurl(command)
	} else {
		fields, to, err = fieldsOfHeaders(text)
	}
	if err != nil {
		return request{}, err
	}
	var found []string
	others := http.Header{}
	for _, f := range fields {
		switch name := http.CanonicalHeaderKey(f.name); {
		case name == "Cookie":
			found = append(found, f.value)
		case isToken(name) && f.value != "" && !strings.ContainsAny(f.value, "\r\n\x00"):
			others.Add(name, f.value)
		}
	}
	r := newRequest(others, strings.Join(found, "; "))
	if r.to = to; len(r.pairs()) == 0 || strings.ContainsAny(r.header(), "\r\n") {
		return request{}, errPasteNoCookie
	}
	return r, nil
}

// isToken reports whether s may be a header's name.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
	})
}

// fieldsOfHeaders reads a request's headers, one a line, or a value alone.
func fieldsOfHeaders(text string) (fields []field, to site, err error) {
	lines := withColons(strings.Split(text, "\n"))
	hasCookie, reply := false, false
	for i := 0; i < len(lines); i++ {
		name, value, isHeader := cutHeader(lines[i])
		if !isHeader {
			continue
		}
		// Some browsers copy name and value as two lines.
		if value == "" && i+1 < len(lines) {
			if _, _, isNext := cutHeader(lines[i+1]); !isNext || strings.EqualFold(name, "Cookie") {
				i++
				value = trim(lines[i])
			}
		}
		switch strings.ToLower(name) {
		case "host", ":authority":
			to.host = value
		case ":scheme":
			to.scheme = value
		case "set-cookie":
			reply = true
		case "cookie":
			hasCookie = true
		}
		fields = append(fields, field{name, value})
	}
	scheme := to.scheme
	if scheme != "" {
		scheme += ":"
	}
	to = asSite(scheme + "//" + to.host)
	switch {
	case hasCookie:
		return fields, to, nil
	case reply:
		return nil, to, errPasteReply
	case len(lines) > 1 || !looksLikeCookies(text):
		return nil, to, errPasteNoCookie
	}
	return []field{{"Cookie", text}}, to, nil
}

// withColons returns lines of names and values, each on its own line without a colon as
// in Chrome's list of headers, as lines "name: value". A line "cookie" in front of
// cookies shows them; a reply may have "vary" in front of "Cookie".
func withColons(lines []string) []string {
	isCookie := func(i int) bool {
		return i+1 < len(lines) && strings.EqualFold(trim(lines[i]), "cookie") && looksLikeCookies(trim(lines[i+1]))
	}
	var joined []string
	found := false
	for i := 0; i < len(lines); i++ {
		found = found || isCookie(i)
		line := trim(lines[i])
		if isToken(strings.TrimPrefix(line, ":")) && i+1 < len(lines) && !isCookie(i+1) {
			i++
			line += ": " + lines[i]
		}
		joined = append(joined, line)
	}
	if !found {
		return lines
	}
	return joined
}

// cutHeader reads a line "name: value". The names of HTTP/2's own begin with a
// colon. A URL is not a header.
func cutHeader(line string) (name, value string, ok bool) {
	line = trim(line)
	rest, own := strings.CutPrefix(line, ":")
	name, value, found := strings.Cut(rest, ":")
	name = trim(name)
	if !found || !isToken(name) || strings.HasPrefix(value, "//") {
		return "", "", false
	}
	if own {
		name = ":" + name
	}
	return name, trim(value), true
}

// asSite returns the part of a URL that may be shown.
func asSite(s string) site {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || strings.ContainsAny(u.Host, "@%") {
		return site{}
	}
	return site{strings.ToLower(u.Scheme), strings.ToLower(u.Host)}
}

// looksLikeCookies reports whether a text is a bare value, and not another header or
// other text: it begins with a name and an equals sign. The name has neither colon nor
// space.
func looksLikeCookies(text string) bool {
	name, _, found := strings.Cut(text, "=")
	return found && name != "" && !strings.ContainsAny(name, ": \t\"'(){}<>?/")
}

// curlCommand returns the arguments of a cURL command as a shell reads them.
func curlCommand(text string) (arguments string, ok bool) {
	text = strings.TrimPrefix(text, "$ ")
	program, arguments, _ := strings.Cut(text, " ")
	if program != "curl" && program != "curl.exe" {
		return "", false
	}
	if quote := strings.IndexAny(arguments, `"'`); quote > 0 && arguments[quote-1] == '^' {
		arguments = withoutCarets(arguments)
	}
	return arguments, true
}

// withoutCarets undoes the escapes of Windows' command line, where a caret
// takes the meaning from the character after it, or continues the line.
func withoutCarets(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '^' && i+1 < len(s) {
			if i++; s[i] == '\n' {
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// fieldsOfCurl reads the arguments of a command.
func fieldsOfCurl(arguments string) (fields []field, to site, err error) {
	words, err := shellWords(arguments)
	if err != nil {
		return nil, to, err
	}
	for i := 0; i < len(words); i++ {
		if words[i] == ";" || words[i] == "&" {
			break // “Copy all as cURL”: the next command may be for another site
		}
		option, value, attached := cutOption(words[i])
		if option == "" {
			if to.host == "" && !strings.HasPrefix(words[i], "-") {
				to = ofCurl(words[i])
			}
			continue
		}
		if !attached {
			if i++; i == len(words) {
				break
			}
			value = words[i]
		}
		switch option {
		case "header":
			name, value, _ := strings.Cut(value, ":")
			fields = append(fields, field{trim(name), trim(value)})
		case "cookie":
			if !strings.Contains(value, "=") {
				return nil, to, errPasteFile
			}
			fields = append(fields, field{"Cookie", value})
		case "user-agent":
			fields = append(fields, field{"User-Agent", value})
		case "referer":
			fields = append(fields, field{"Referer", value})
		case "user":
			fields = append(fields, field{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(value))})
		case "url":
			to = ofCurl(value)
		}
	}
	return fields, to, nil
}

// ofCurl reads a URL as cURL does: http is the default, and a backslash keeps the
// brackets of an IPv6 address from being a range.
func ofCurl(word string) site {
	word = strings.NewReplacer(`\[`, "[", `\]`, "]").Replace(word)
	if !strings.Contains(word, "://") {
		word = "http://" + word
	}
	return asSite(word)
}

// curlOptions are the options of cURL with a value that a browser copies.
var curlOptions = []struct{ short, long, name string }{
	{"-H", "--header", "header"},
	{"-b", "--cookie", "cookie"},
	{"-A", "--user-agent", "user-agent"},
	{"-e", "--referer", "referer"},
	{"-u", "--user", "user"},
	{"", "--url", "url"},
	{"-X", "--request", "method"},
	{"-d", "--data", "body"},
	{"", "--data-raw", "body"},
	{"", "--data-binary", "body"},
	{"", "--data-urlencode", "body"},
	{"-F", "--form", "body"},
	{"-x", "--proxy", "proxy"},
	{"-o", "--output", "file"},
}

// cutOption returns the option of cURL in a word, if it has a value, and the value if
// it is part of the same word.
func cutOption(word string) (option, value string, attached bool) {
	for _, o := range curlOptions {
		if word != "" && (word == o.short || word == o.long) {
			return o.name, "", false
		}
		if value, ok := strings.CutPrefix(word, o.long+"="); ok {
			return o.name, value, true
		}
		if value, ok := strings.CutPrefix(word, o.short); ok && o.short != "" {
			return o.name, value, true
		}
	}
	return "", "", false
}
