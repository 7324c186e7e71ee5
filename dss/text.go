package dss

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

func isControl(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }

func isSpaceOrControl(r rune) bool { return unicode.IsSpace(r) || isControl(r) }

// errUndecoded is about the character that replaces undecodable text. With it
// two different names can look the same.
var errUndecoded = errors.New("has the character U+FFFD")

// checkName refuses a text that cannot be the login of a user or the id of an
// API key.
func checkName(s string) error {
	switch {
	case strings.TrimSpace(s) == "":
		return errors.New("is empty or blank")
	case !utf8.ValidString(s):
		return errors.New("is not valid UTF-8")
	case strings.ContainsRune(s, utf8.RuneError):
		return errUndecoded
	case strings.ContainsFunc(s, isControl):
		return errors.New("has control characters")
	case strings.TrimSpace(s) != s:
		return errors.New("has spaces at its ends")
	}
	return nil
}

// maxTicketBytes bounds a ticket. It travels in a header, and servers take
// headers of about this size.
const maxTicketBytes = 8 << 10

// checkTicket refuses a text that cannot be a ticket. Errors do not quote it.
func checkTicket(ticket string) error {
	switch {
	case ticket == "":
		return errors.New("the ticket is empty")
	case len(ticket) > maxTicketBytes:
		return errors.New("the ticket is longer than 8 KiB")
	case strings.ContainsFunc(ticket, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("the ticket has spaces, control or other characters that a header cannot carry")
	}
	return nil
}

// checkAPIKey refuses a text that cannot be an API key. Errors do not quote it.
func checkAPIKey(key string) error {
	switch {
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("the API key has spaces, line ends or other characters that no key has")
	case strings.Contains(key, ":"):
		return errors.New("the API key has a colon, which ends the user name in HTTP Basic authentication")
	}
	return nil
}

// clean makes text of unknown origin fit for an error or a log line: one line,
// valid, and of at most limit bytes.
func clean(s string, limit int) string {
	s = strings.ToValidUTF8(clip(s, 4*limit), "")
	s = strings.Map(func(r rune) rune {
		if isControl(r) {
			return ' '
		}
		return r
	}, s)
	return clip(strings.Join(strings.Fields(s), " "), limit)
}

// clip cuts s to at most limit bytes, and marks the cut.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}
