package main

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
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

// nameOf never returns a value: a cookie without a name is its bare value.
func nameOf(pair string) string {
	name, _, found := strings.Cut(pair, "=")
	if name = trim(name); !found || name == "" {
		return "(without a name)"
	}
	return name
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

// shellWords splits a command line as a shell does: backslashes, 'as it is',
// "with escapes" and $'with C escapes'. It expands nothing.
func shellWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord := false
	for s != "" {
		var text string
		c, rest := s[0], s[1:]
		switch {
		case strings.IndexByte(" \t\n", c) >= 0:
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
			s = rest
			continue
		case c == '\\' && rest != "":
			if s = rest[1:]; rest[0] == '\n' {
				continue
			}
			text = rest[:1]
		case c == '\'', c == '"', strings.HasPrefix(s, "$'"):
			var ok bool
			if text, s, ok = quoted(s); !ok {
				return nil, errPasteCut
			}
		default:
			text, s = s[:1], rest
		}
		inWord = true
		word.WriteString(text)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// quoted returns the text of the quotation that s begins with, and what is
// behind it; false where it does not end.
func quoted(s string) (text, rest string, ok bool) {
	if s[0] == '\'' {
		return strings.Cut(s[1:], "'")
	}
	unescape := inDoubleQuotes
	s, ansi := strings.CutPrefix(s, "$")
	if ansi {
		unescape = ansiC
	}
	quote := s[0]
	var b strings.Builder
	for s = s[1:]; s != ""; {
		switch {
		case s[0] == quote:
			return b.String(), s[1:], true
		case s[0] == '\\' && len(s) > 1:
			text, length := unescape(s[1:])
			b.WriteString(text)
			s = s[1+length:]
		default:
			b.WriteByte(s[0])
			s = s[1:]
		}
	}
	return "", "", false
}

// inDoubleQuotes reads what follows a backslash in "text", and how long it is.
func inDoubleQuotes(s string) (text string, length int) {
	switch s[0] {
	case '"', '\\', '$', '`', '!':
		return s[:1], 1
	case '\n':
		return "", 1
	}
	return `\`, 0
}

// ansiC reads what follows a backslash in $'text', and how long it is.
func ansiC(s string) (text string, length int) {
	number := func(skip, most, base int) (uint64, int) {
		end := skip
		for end < len(s) && end < skip+most && isDigit(s[end], base) {
			end++
		}
		n, err := strconv.ParseUint(s[skip:end], base, 32)
		if err != nil {
			return 0, 0
		}
		return n, end
	}
	switch c := s[0]; c {
	case 'n':
		return "\n", 1
	case 'r':
		return "\r", 1
	case 't':
		return "\t", 1
	case '\\', '\'', '"', '?':
		return s[:1], 1
	case 'x':
		if n, length := number(1, 2, 16); length > 0 {
			return string([]byte{byte(n)}), length
		}
	case 'u', 'U':
		if n, length := number(1, map[byte]int{'u': 4, 'U': 8}[c], 16); length > 0 {
			return string(utf8.AppendRune(nil, rune(n))), length
		}
	default:
		if n, length := number(0, 3, 8); length > 0 {
			return string([]byte{byte(n)}), length
		}
	}
	return `\`, 0
}

func isDigit(c byte, base int) bool {
	if base == 8 {
		return '0' <= c && c <= '7'
	}
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}
