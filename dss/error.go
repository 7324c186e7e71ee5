package dss

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Error is a reply of DSS, or of a proxy before it, outside 2xx.
//
// It says nothing about whose fault it is. In particular [Error.NotAuthenticated]
// is true when DSS does not know the browser it was asked about, and also when
// it does not accept this client's own credentials.
type Error struct {
	// StatusCode is the HTTP status. Any 3xx is an Error, as no redirect is
	// followed.
	StatusCode int

	// Type is DSS's errorType, as in
	// com.dataiku.dip.exceptions.NotAuthenticatedException. It is empty where
	// the reply was not DSS's JSON, such as a proxy's page.
	Type string

	// Message is DSS's detailedMessage, or else its message; of a reply that is
	// not DSS's JSON, a short excerpt. It is one line, and this client's
	// credentials are cut out of it.
	Message string

	// RetryAfter is how long DSS asks to be left alone, at most an hour; zero
	// where it does not ask.
	RetryAfter time.Duration
}

// Error tells status, type and message.
func (e *Error) Error() string {
	text := "dss: " + strconv.Itoa(e.StatusCode)
	if e.Type != "" {
		text += " " + e.Type
	} else if status := http.StatusText(e.StatusCode); status != "" {
		text += " " + status
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

const notAuthenticated = "com.dataiku.dip.exceptions.NotAuthenticatedException"

// NotAuthenticated reports whether DSS itself, and no proxy, said that whoever
// it was asked for, or this client, is not authenticated.
func (e *Error) NotAuthenticated() bool {
	return e.StatusCode == http.StatusUnauthorized && e.Type == notAuthenticated
}

const (
	maxErrorBytes   = 64 << 10
	maxMessageBytes = 1000
	maxExcerptBytes = 200
)

// newError makes an Error of a reply and the start of its body. It asks redact
// to cut out what must not be shown.
func newError(reply *http.Response, body []byte, redact func(string) string) *Error {
	e := &Error{
		StatusCode: reply.StatusCode,
		RetryAfter: retryAfter(reply.Header.Get("Retry-After"), time.Now()),
	}
	if reply.StatusCode >= 300 && reply.StatusCode < 400 {
		e.Message = redirectMessage(reply)
		return e
	}
	kind, message, ok := parseErrorBody(body)
	if !ok {
		e.Message = clean(redact(string(body)), maxExcerptBytes)
		return e
	}
	e.Type = clean(redact(kind), maxExcerptBytes)
	e.Message = clean(redact(message), maxMessageBytes)
	return e
}

// parseErrorBody reads {"errorType", "message", "detailedMessage"}. It is as
// strict as for any other reply: a type decides who is taken for signed out.
func parseErrorBody(body []byte) (kind, message string, ok bool) {
	members, err := parseObject(body)
	if err != nil {
		return "", "", false
	}
	var detailed string
	r := newReader(members, "errorType", "message", "detailedMessage")
	r.text("errorType", &kind)
	r.text("message", &message)
	r.text("detailedMessage", &detailed)
	if r.err != nil {
		return "", "", false
	}
	if detailed != "" {
		message = detailed
	}
	return kind, message, true
}

// redirectMessage names where DSS redirects to without path and query: they may
// hold tokens of a sign-in.
func redirectMessage(reply *http.Response) string {
	target, err := url.Parse(reply.Header.Get("Location"))
	if err != nil || target.Host == "" || !utf8.ValidString(target.Host) {
		return "redirects are not followed"
	}
	return clean(fmt.Sprintf("redirects are not followed, and this one goes to %s://%s", target.Scheme, target.Host), maxExcerptBytes)
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
