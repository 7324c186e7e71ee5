package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/dssauth/dssauth/internal/shown"
)

// Errors about a paste say what is wrong with it without a word of it.
var (
	errPasteCut      = errors.New("the paste is cut off: one of its quotes does not end")
	errPasteFile     = errors.New("its -b names a file of cookies: paste the cookies themselves")
	errPasteReply    = errors.New("Set-Cookie is from the reply: copy the Cookie header of the request")
	errPasteNoCookie = errors.New("there is no Cookie header in it: copy a request that the browser sends to DSS while signed in")
)

// cookies is one Cookie header's value. It is kept behind a function, so that
// nothing can print it.
type cookies struct{ header func() string }

func (c cookies) String() string { return "(cookies: " + strings.Join(c.names(), " ") + ")" }

// pairs are the cookies as they were sent, in their order.
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

// named returns the cookies of one name, of which a browser may send several.
func (c cookies) named(name string) []string {
	return slices.DeleteFunc(c.pairs(), func(pair string) bool { return nameOf(pair) != name })
}

// What stands for the names of cookies that have none, or none that is shown.
const (
	nameless = "(without a name)"
	unshown  = "(name not shown)"
)

// nameOf is what a cookie is called in the report, and never a value. Cookies
// whose names are not shown are one to the doctor.
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

// trim leaves alone what is white space to others, but part of a cookie in HTTP.
func trim(s string) string { return strings.Trim(s, " \t\r\n") }

// parsePaste finds the Cookie header in what a person copied from a browser:
// a cURL command, some or all headers of a request, or the bare value.
func parsePaste(text string) (cookies, error) {
	text = trim(strings.TrimPrefix(strings.ReplaceAll(text, "\r\n", "\n"), "\ufeff"))
	var found []string
	var err error
	if command, ok := curlCommand(text); ok {
		found, err = cookiesOfCurl(command)
	} else {
		found, err = cookiesOfHeaders(text)
	}
	if err != nil {
		return cookies{}, err
	}
	header := strings.Join(found, "; ")
	c := cookies{header: func() string { return header }}
	if len(c.pairs()) == 0 || strings.ContainsAny(header, "\r\n") {
		return cookies{}, errPasteNoCookie
	}
	return c, nil
}

// cookiesOfHeaders reads a request's headers, one a line, or a value alone.
func cookiesOfHeaders(text string) ([]string, error) {
	lines := strings.Split(text, "\n")
	var found []string
	reply := false
	for i, line := range lines {
		name, value, isHeader := strings.Cut(line, ":")
		name, value = trim(name), trim(value)
		reply = reply || isHeader && strings.EqualFold(name, "Set-Cookie")
		if !isHeader || !strings.EqualFold(name, "Cookie") {
			continue
		}
		// Some browsers copy name and value as two lines.
		if value == "" && i+1 < len(lines) {
			value = trim(lines[i+1])
		}
		found = append(found, value)
	}
	switch {
	case found != nil:
		return found, nil
	case reply:
		return nil, errPasteReply
	case len(lines) > 1 || !looksLikeCookies(text):
		return nil, errPasteNoCookie
	}
	return []string{text}, nil
}

// looksLikeCookies tells a bare value from another header or other text: it
// begins with a name, which has neither colon nor space, and an equals sign.
func looksLikeCookies(text string) bool {
	name, _, found := strings.Cut(text, "=")
	return found && name != "" && !strings.ContainsAny(name, ": \t\"'(){}<>?/")
}

// curlCommand returns the arguments of a cURL command, as a shell reads them.
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

func cookiesOfCurl(arguments string) ([]string, error) {
	words, err := shellWords(arguments)
	if err != nil {
		return nil, err
	}
	var found []string
	for i := 0; i < len(words); i++ {
		option, value, attached := cutOption(words[i])
		if option == "" {
			continue
		}
		if !attached {
			if i++; i == len(words) {
				break
			}
			value = words[i]
		}
		switch {
		case option == "header":
			if name, value, _ := strings.Cut(value, ":"); strings.EqualFold(trim(name), "Cookie") {
				found = append(found, trim(value))
			}
		case !strings.Contains(value, "="):
			return nil, errPasteFile
		default:
			found = append(found, value)
		}
	}
	return found, nil
}

// cutOption returns which of cURL's two options that carry cookies a word is,
// and the value where it is part of the same word.
func cutOption(word string) (option, value string, attached bool) {
	for _, o := range []struct{ short, long, name string }{
		{"-H", "--header", "header"},
		{"-b", "--cookie", "cookie"},
	} {
		if word == o.short || word == o.long {
			return o.name, "", false
		}
		if value, ok := strings.CutPrefix(word, o.long+"="); ok {
			return o.name, value, true
		}
		if value, ok := strings.CutPrefix(word, o.short); ok {
			return o.name, value, true
		}
	}
	return "", "", false
}
