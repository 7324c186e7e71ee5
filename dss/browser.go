package dss

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"unicode/utf8"
)

// TicketFromBrowserHeaders returns a ticket with which a client acts as the user
// whose browser sent h; see [Client.WithTicketSource]. DSS gives it if the user
// that this client is may impersonate the other one in webapps.
//
// Errors are those of [Client.AuthInfoFromBrowserHeaders]; a reply that holds no
// ticket wraps [ErrUnexpectedReply].
//
// DSS: POST /auth/ticket-from-browser-headers
func (c *Client) TicketFromBrowserHeaders(ctx context.Context, h http.Header) (string, error) {
	k, err := browserCall("/auth/ticket-from-browser-headers", h)
	if err != nil {
		return "", err
	}
	k.read, k.limit = true, maxReplyBytes
	var ticket string
	k.decode = func(body []byte) (err error) {
		ticket, err = decodeTicket(body)
		return err
	}
	if err := c.call(ctx, k); err != nil {
		return "", err
	}
	return ticket, nil
}

// decodeTicket reads {"msg": ticket}, or what very old servers answered with:
// the ticket itself.
func decodeTicket(body []byte) (ticket string, err error) {
	body = bytes.TrimSpace(body)
	switch {
	case bytes.HasPrefix(body, []byte("{")):
		ticket, err = ticketOfObject(body)
	case bytes.HasPrefix(body, []byte(`"`)):
		ticket, err = parseString(body)
	default:
		ticket = string(body)
	}
	if err != nil {
		return "", fmt.Errorf("the body %w", err)
	}
	// What a proxy or another endpoint could have answered.
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

// browserCall is a call about the browser that sent h.
func browserCall(path string, h http.Header) (call, error) {
	k := call{method: http.MethodPost, path: path, contentType: typeJSON}
	headers, err := headerDictionary(h)
	if err != nil {
		return call{}, k.errorf("%w", err)
	}
	k.body, err = jsonBody(headers)
	if err != nil {
		return call{}, k.errorf("%w", err)
	}
	k.hidden = credentialsIn(headers)
	return k, nil
}

// headerDictionary returns h as DSS wants it, one string for each name.
func headerDictionary(h http.Header) (map[string]string, error) {
	all := make(map[string][]string, len(h))
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if !isDKU(name) {
			canonical := textproto.CanonicalMIMEHeaderKey(name)
			all[canonical] = append(all[canonical], h[name]...)
		}
	}
	dictionary := make(map[string]string, len(all))
	for name, values := range all {
		if len(values) == 0 {
			continue
		}
		if len(values) > 1 && name != "Cookie" {
			return nil, fmt.Errorf("header %q has %d values; DSS takes one", clip(name, 100), len(values))
		}
		value := strings.Join(values, "; ")
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return nil, fmt.Errorf("header %q is not valid UTF-8, which JSON cannot carry", clip(name, 100))
		}
		dictionary[name] = value
	}
	return dictionary, nil
}

// credentialsIn returns what must not be shown of a browser's headers.
func credentialsIn(headers map[string]string) []string {
	// All of them: which ones identify a visitor is up to the caller.
	hidden := slices.Collect(maps.Values(headers))
	for pair := range strings.SplitSeq(headers["Cookie"], ";") {
		_, value, _ := strings.Cut(pair, "=")
		hidden = append(hidden, strings.TrimSpace(value))
	}
	_, token, _ := strings.Cut(headers["Authorization"], " ")
	return append(hidden, token)
}
