package dss

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Error is a reply of DSS, or of a proxy before it, outside 2xx.
//
// It does not tell whose fault that is. In particular [Error.NotAuthenticated]
// is true if DSS does not know the browser that it was asked about, and also if
// it does not accept this client's own credentials.
//
// In every printed form it shows its fields and words of this package, and
// nothing else of the reply: see [Error.Message].
type Error struct {
	// StatusCode is the HTTP status. Any 3xx is an Error, as no redirect is
	// followed.
	StatusCode int

	// Type is DSS's errorType, as in
	// com.dataiku.dip.exceptions.NotAuthenticatedException. It is empty if the
	// reply was not DSS's JSON, such as a proxy's page, and if its errorType
	// cannot be a class: it has more than 200 bytes, or characters other than
	// letters, digits, dots, underscores and dollar signs.
	Type string

	// RetryAfter is the time that DSS asks its callers to wait, at most an hour.
	// Zero means that it does not ask.
	RetryAfter time.Duration

	leads   string        // the kind of target of a redirect, in words of ours
	because string        // the reason why a rejected API key was not replaced; empty: it was replaced, or cannot be
	said    func() string // a function, because fmt prints the content of fields
}

// Error returns status and type. For a redirect it adds that none is followed,
// and for a rejected API key the reason why Config.APIKeySource gave no other
// one.
func (e *Error) Error() string {
	text := "dss: " + strconv.Itoa(e.StatusCode)
	if isClass(e.Type) {
		text += " " + e.Type
	} else if status := http.StatusText(e.StatusCode); status != "" {
		text += " " + status
	}
	if isRedirect(e.StatusCode) {
		text += ": redirects are not followed" + e.leads
	}
	if e.because != "" {
		text += ": " + e.because
	}
	return text
}

// Message returns the words of DSS's reply: its detailedMessage, or else its
// message. For a reply that is not DSS's JSON it returns a short excerpt, and
// for a redirect the scheme and host of its target. It is one line of at most
// 1,000 bytes and an ellipsis, and empty if there are no words.
//
// It can quote what was sent, including credentials, cookies and logins:
// unchanged, decoded, quoted or cut. Never log it. Show it to nobody but the
// caller whose credentials were sent.
func (e *Error) Message() string {
	if e.said == nil {
		return ""
	}
	return e.said()
}

const notAuthenticated = "com.dataiku.dip.exceptions.NotAuthenticatedException"

// NotAuthenticated reports whether DSS answered that the browser in question,
// or this client, is not authenticated. An answer of a proxy does not count.
func (e *Error) NotAuthenticated() bool {
	return e.StatusCode == http.StatusUnauthorized && e.Type == notAuthenticated
}

const (
	// maxErrorBytes is the same limit as for other replies. An error can quote
	// the headers that it is about, more than once and with each byte escaped.
	// If it were cut, a visitor with long cookies could change its meaning.
	maxErrorBytes   = maxReplyBytes
	maxMessageBytes = 1000
	maxExcerptBytes = 200
	maxClassBytes   = 200
)

// isClass reports whether s looks like the name of a class. Any other text may
// be anything, such as a part of the bytes that were sent.
func isClass(s string) bool {
	return s != "" && len(s) <= maxClassBytes && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || '9' < r) && (r < 'A' || 'Z' < r) && (r < 'a' || 'z' < r) && r != '_' && r != '.' && r != '$'
	})
}

func isRedirect(status int) bool { return status >= 300 && status < 400 }

// newError makes an Error of a reply and the start of its body. It parses the
// body before it removes anything from it: a visitor's cookie may be equal to a
// part of an error's name.
func newError(reply *http.Response, body []byte) *Error {
	e := &Error{
		StatusCode: reply.StatusCode,
		RetryAfter: retryAfter(reply.Header.Get("Retry-After"), time.Now()),
	}
	var words string
	if isRedirect(reply.StatusCode) {
		e.leads, words = redirect(reply)
	} else if kind, message, ok := parseErrorBody(body); ok {
		words = clean(message, maxMessageBytes)
		if isClass(kind) {
			e.Type = kind
		}
	} else {
		words = clean(string(body), maxExcerptBytes)
	}
	e.said = func() string { return words }
	return e
}

// parseErrorBody reads {"errorType", "message", "detailedMessage"}. It is as
// strict with the type as for any other reply, because the type decides who is
// signed out. The messages may be anything: they can quote a visitor's bytes,
// which must not decide whether the type is read.
func parseErrorBody(body []byte) (kind, message string, ok bool) {
	// Bytes that are not UTF-8 become U+FFFD. No type may have that character.
	members, err := parseObject(bytes.ToValidUTF8(body, []byte("\uFFFD")))
	if err != nil {
		return "", "", false
	}
	r := newReader(members, "errorType")
	r.text("errorType", &kind)
	if r.err != nil || strings.ContainsRune(kind, utf8.RuneError) {
		return "", "", false
	}
	var detailed string
	for _, m := range members {
		switch string(m.name) {
		case "message":
			_ = json.Unmarshal(m.value, &message)
		case "detailedMessage":
			_ = json.Unmarshal(m.value, &detailed)
		}
	}
	if detailed != "" {
		message = detailed
	}
	return kind, message, true
}

// redirect returns the target of a reply's redirect: leads in our own words,
// and words as scheme and host. It leaves out path and query, which may hold
// tokens of a sign-in. The host is not our text either, so it is not in leads.
func redirect(reply *http.Response) (leads, words string) {
	asked := reply.Request.URL
	target, err := asked.Parse(reply.Header.Get("Location"))
	if err != nil || reply.Header.Get("Location") == "" || target.Host == "" || !utf8.ValidString(target.Host) {
		return "", ""
	}
	words = clean(target.Scheme+"://"+target.Host, maxExcerptBytes)
	switch {
	case !strings.EqualFold(target.Hostname(), asked.Hostname()):
		return ", and this one leads to another host", words
	case asked.Scheme == "http" && strings.EqualFold(target.Scheme, "https"):
		return ", and this one leads to https on the same host", words
	}
	return ", and this one leads elsewhere on the same host", words
}

const maxRetryAfter = time.Hour

// retryAfter reads a Retry-After header: seconds or a date.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0
	}
	var wait time.Duration
	if isDigits(value) {
		wait = maxRetryAfter // for numbers beyond all bounds
		if seconds, err := strconv.ParseUint(value, 10, 64); err == nil && seconds < uint64(maxRetryAfter/time.Second) {
			wait = time.Duration(seconds) * time.Second
		}
	} else if date, err := http.ParseTime(value); err == nil {
		wait = date.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}

func isDigits(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}
