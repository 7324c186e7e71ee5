package main

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// shellWords splits a command line as a shell does: backslashes, 'as it is', "with
// escapes" and $'with C escapes'. It expands nothing. mvdan.cc/sh does, but it would be
// in the module graph of every user of the library.
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

// quoted returns the text of the quotation at the start of s, and the text after it;
// false if the quotation does not end.
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

// inDoubleQuotes reads the escape after a backslash in "text", and returns its length.
func inDoubleQuotes(s string) (text string, length int) {
	switch s[0] {
	case '"', '\\', '$', '`', '!':
		return s[:1], 1
	case '\n':
		return "", 1
	}
	return `\`, 0
}

// ansiC reads the escape after a backslash in $'text', and returns its length.
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
