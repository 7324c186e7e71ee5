// Package shown separates the names of cookies and headers from texts that may be their
// values, so that logs, errors and reports show only the names.
package shown

import (
	"strconv"
	"strings"
)

const (
	// maxBytes is enough for every name that we know.
	maxBytes = 48
	// maxRun is the most letters and digits in a row. Identifiers in hexadecimal have
	// 32, 20 bytes in base64 have 27.
	maxRun = 24
	// maxNumber is the most digits in a row: a time in seconds.
	maxNumber = 10
	// minSecret is the least length of a text that counts as a credential.
	minSecret = 8
)

// CookieName returns the name in a cookie of the form "name=value". It reports false if
// there is no name, or if the name must not be shown.
//
// A browser sends a cookie without a name as its bare value. In base64 that ends with
// up to two equals signs, and so looks like a long name without a value. Real cookies
// like that are rare: it is safer not to show their names.
func CookieName(cookie string) (name string, ok bool) {
	name, value, found := strings.Cut(cookie, "=")
	name = strings.Trim(name, " \t")
	bare := !found || len(name) >= minSecret && strings.Trim(value, "= \t") == ""
	if bare || !IsName(name) {
		return "", false
	}
	return name, true
}

// IsName reports whether s looks like the name of a cookie or a header, and
// not like a credential: a short token of letters, digits, "_", "-" and ".",
// with little entropy.
//
// Names are made of words, in any case: JSESSIONID, rememberMe, oauth2_proxy. So at
// least two in five pairs of neighbours in s must be letters that are neighbours in
// words. Random texts in base64 or hexadecimal pass: 2 in 100 of those with 12 bytes,
// and 1 in 1,000 of those with 24. Of texts of small letters only, 6 and 1 in 100 pass.
// Some names fail too, such as those with a random end. Fewer than 8 bytes never count
// as a value.
func IsName(s string) bool {
	if s == "" || len(s) > maxBytes {
		return false
	}
	run, number, letters, neighbours, inWords := 0, 0, 0, 0, 0
	for i := range len(s) {
		c := s[i]
		switch {
		case isLetter(c):
			run, number, letters = run+1, 0, letters+1
		case isDigit(c):
			run, number = run+1, number+1
		case c == '_' || c == '-' || c == '.':
			run, number = 0, 0
		default:
			return false
		}
		if run > maxRun || number > maxNumber {
			return false
		}
		if run > 1 && number < 2 { // a number within a name proves nothing
			neighbours++
			if standInWords(s[i-1], c) {
				inWords++
			}
		}
	}
	return letters > 0 && (len(s) < minSecret || 5*inWords >= 2*neighbours)
}

// Quote quotes a name, a pattern or a list of names, and leaves out texts that may be
// values: a person who copies a cookie or a header from a browser copies a credential.
func Quote(s string) string {
	i := strings.IndexAny(s, "=:")
	name, rest := s, ""
	if i >= 0 {
		name, rest = s[:i], s[i:]
	}
	for word := range strings.FieldsFuncSeq(name, func(c rune) bool { return strings.ContainsRune(" \t\r\n,;*?[]\\", c) }) {
		if !IsName(word) {
			return `"…"`
		}
	}
	switch {
	case len(name) > 2*maxBytes, rest != "" && len(name) >= minSecret && strings.Trim(rest, "=") == "":
		return `"…"`
	case len(rest) > 1:
		rest = rest[:1] + "…"
	}
	return strconv.Quote(name + rest)
}

// inWords are pairs of letters that are common in English words, and in the names of
// sessions.
const inWords = " th he in er an re nd at on nt es st en ed to it ou ea is or ti as te et ng al de le se sa si ar ve ra io ri ro ic ne co me ma li ce ch" +
	" ll us ec om ta el tr ee ss ac la ot os no na em il id ke ok oo ki ie sc ct ca pt po ap pp ad da do am ag ge ai im pe pr ps su un" +
	" ur ut ue ui ul up rt ry rs um vi iv ev wa wi fi fo fr if ab ba bl bo ck cr cs di sh ho lo ex oc uc of be ir"

func standInWords(a, b byte) bool {
	if !isLetter(a) || !isLetter(b) || isSmall(a) && !isSmall(b) {
		return false
	}
	return strings.Contains(inWords, string([]byte{' ', a | 0x20, b | 0x20}))
}

func isLetter(c byte) bool { return isSmall(c | 0x20) }
func isSmall(c byte) bool  { return 'a' <= c && c <= 'z' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
