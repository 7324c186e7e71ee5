package dsstest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// parseBrowserHeaders reads a browser's headers as DSS takes them: one JSON
// object, header name → one string. Names that differ only in case are one
// header.
func parseBrowserHeaders(body []byte) (map[string]string, error) {
	if !utf8.Valid(body) {
		return nil, errors.New("the body is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("the body is not a JSON object")
	}
	headers, seen := map[string]string{}, map[string]bool{}
	for dec.More() {
		name, err := stringToken(dec)
		if err != nil {
			return nil, err
		}
		if seen[strings.ToLower(name)] {
			return nil, fmt.Errorf("header %q is there twice", name)
		}
		seen[strings.ToLower(name)] = true
		if headers[name], err = stringToken(dec); err != nil {
			return nil, fmt.Errorf("header %q: %w", name, err)
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, errors.New("the JSON object does not end")
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows the JSON object")
	}
	return headers, nil
}

func stringToken(dec *json.Decoder) (string, error) {
	t, err := dec.Token()
	if err != nil {
		return "", errors.New("malformed JSON")
	}
	s, ok := t.(string)
	if !ok {
		return "", errors.New("not one string")
	}
	return s, nil
}

// visitor returns the principal whose browser sent the headers in a call's
// body.
func (d *DSS) visitor(r *http.Request, caller principal) (principal, *failure) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return principal{}, badRequest("the body does not end")
	}
	headers, err := parseBrowserHeaders(body)
	if err != nil {
		return principal{}, badRequest("browser headers: " + err.Error())
	}
	d.calls.browserSent(headers)

	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.options.AdminLookupsOnly && !caller.admin {
		return principal{}, unauthorized("reading a browser's headers needs an administrator's rights")
	}
	if p, ok := d.browser(headers); ok {
		return p, nil
	}
	nobody := notAuthenticated("Not authenticated: the browser has no live session")
	nobody.nobody = true
	return principal{}, nobody
}

// impersonable reports whether a ticket may be given out for visitor. The
// caller holds d.mu.
func (d *DSS) impersonable(visitor principal) bool {
	groups := d.users[visitor.login].Groups
	return !slices.ContainsFunc(d.options.NoImpersonation, func(g string) bool {
		return g == "*" || slices.Contains(groups, g)
	})
}

// seesSession reports whether headers have the header that a lookup needs
// beside Cookie. The caller holds d.mu.
func (d *DSS) seesSession(headers map[string]string) bool {
	needed := d.options.LookupNeeds
	for name, value := range headers {
		if strings.EqualFold(name, needed) && value != "" {
			return true
		}
	}
	return needed == ""
}

// browser returns the principal whose browser sent headers. The caller holds
// d.mu.
func (d *DSS) browser(headers map[string]string) (principal, bool) {
	var cookie, authorization, ticket, proxyUser string
	for name, value := range headers {
		// Servers in front of DSS may read an underscore as a hyphen.
		switch strings.ReplaceAll(strings.ToLower(name), "_", "-") {
		case "cookie":
			cookie = value
		case "authorization":
			authorization = value
		case "x-dku-apiticket":
			ticket = value
		case "x-dku-proxyuser":
			proxyUser = value
		}
	}
	if p, ok := d.byLogin(proxyUser, "USER_FROM_UI"); ok {
		return p, true
	}
	if p, ok := d.byTicket(ticket); ok {
		return p, true
	}
	if login, ok := d.signedIn(cookie); ok && d.seesSession(headers) {
		if p, ok := d.byLogin(login, "USER_FROM_UI"); ok {
			return p, true
		}
	}
	if key, ok := keyIn(authorization); ok {
		return d.byKey(key)
	}
	return principal{}, false
}
