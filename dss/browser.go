package dss

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/dssauth/dssauth/internal/latin1"
	"github.com/dssauth/dssauth/internal/shown"
)

// The two calls about a browser.
const (
	pathBrowserInfo   = "/auth/info-from-browser-headers"
	pathBrowserTicket = "/auth/ticket-from-browser-headers"
)

// TicketFromBrowserHeaders returns a ticket. With it a client acts as the user
// whose browser sent h; see [Client.WithTicketSource]. DSS returns one only if
// this client's user may impersonate the other user in webapps.
//
// Errors are those of [Client.AuthInfoFromBrowserHeaders]. A reply without a
// ticket is an error that wraps [ErrUnexpectedReply].
//
// DSS: POST /auth/ticket-from-browser-headers
func (c *Client) TicketFromBrowserHeaders(ctx context.Context, h http.Header) (string, error) {
	k, err := browserCall(pathBrowserTicket, h)
	if err != nil {
		return "", err
	}
	k.read = true
	var ticket string
	k.reply = decoded(maxReplyBytes, func(body []byte) (err error) {
		ticket, err = decodeTicket(body)
		return err
	})
	if err := c.call(ctx, k); err != nil {
		return "", err
	}
	return ticket, nil
}

// decodeTicket reads {"msg": ticket}. Very old servers answered with the ticket
// itself, so it reads that, too.
func decodeTicket(body []byte) (ticket string, err error) {
	body = bytes.TrimSpace(body)
	switch {
	case bytes.HasPrefix(body, []byte("{")):
		ticket, err = ticketOfObject(body)
	case bytes.HasPrefix(body, []byte(`"`)):
		ticket, err = new(parser).text(body)
	default:
		ticket = string(body)
	}
	if err != nil {
		return "", fmt.Errorf("the body %w", err)
	}
	// A proxy or another endpoint could have answered this.
	if strings.ContainsAny(ticket, "<>[]{}") || slices.Contains([]string{"null", "true", "false"}, ticket) {
		return "", errors.New("the body is not a ticket")
	}
	return ticket, checkTicket(ticket)
}

func ticketOfObject(body []byte) (ticket string, err error) {
	members, err := parseObject(body)
	if err != nil {
		return "", err
	}
	r := newReader(members, "msg")
	r.text("msg", &ticket)
	if r.err == nil && ticket == "" {
		r.fail("msg", errors.New("is missing"))
	}
	if r.err != nil {
		return "", fmt.Errorf("is an object whose %w", r.err)
	}
	return ticket, nil
}

// browserCall returns a call about the browser that sent h.
func browserCall(path string, h http.Header) (call, error) {
	k := call{method: http.MethodPost, path: path, contentType: typeJSON}
	headers, err := headerDictionary(h)
	if err != nil {
		return call{}, k.errorf("%w", err)
	}
	k.body = bytes.NewReader(encodeTexts(headers))
	return k, nil
}

// headerDictionary returns h as DSS wants it, one string for each name. It
// joins several lines, and reads bytes that are not UTF-8, as Python servers
// do.
func headerDictionary(h http.Header) (map[string]string, error) {
	lines := make(map[string][]string, len(h))
	for _, name := range sortedNames(h) { // sorted, so that Cookie and cookie are joined in the same order each time
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case isDKU(name) || len(h[name]) == 0:
			continue
		case !utf8.ValidString(canonical):
			return nil, fmt.Errorf("the name of the header %s is not valid UTF-8, which JSON cannot carry", shown.Quote(canonical))
		}
		for _, value := range h[name] {
			lines[canonical] = append(lines[canonical], latin1.Text(value))
		}
	}
	dictionary := make(map[string]string, len(lines))
	for name, values := range lines {
		separator := ", "
		switch name {
		case "Cookie":
			separator = "; "
		case "Authorization":
			if values = slices.Compact(values); len(values) > 1 { // DSS would take one of them
				return nil, errors.New("there are Authorization headers that differ; DSS takes one")
			}
		}
		dictionary[name] = strings.Join(values, separator)
	}
	return dictionary, nil
}

// encodeTexts writes a JSON object of strings, sorted by name. They are valid UTF-8.
func encodeTexts(texts map[string]string) []byte {
	size := len("{}")
	for name, text := range texts {
		size += len(name) + len(text) + len(`"":"",`)
	}
	b := append(make([]byte, 0, size+size/8), '{') // room for escapes
	for i, name := range sortedNames(texts) {
		if i > 0 {
			b = append(b, ',')
		}
		b, _ = jsontext.AppendQuote(b, name)
		b = append(b, ':')
		b, _ = jsontext.AppendQuote(b, texts[name])
	}
	return append(b, '}')
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m)) // slices.Collect would grow the slice step by step
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
