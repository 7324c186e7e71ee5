package dsstest

import (
	"net/http"
	"strings"
)

// principal is the identity that DSS acts as: a user, or an API key without
// one.
type principal struct {
	source   string // authSource
	login    string // "" for a key without a user
	keyID    string
	admin    bool
	onBehalf string // login of the caller that acts as this user
}

// byLogin returns a user as principal. The caller holds d.mu.
func (d *DSS) byLogin(login, source string) (principal, bool) {
	u, ok := d.enabled(login)
	return principal{source: source, login: login, admin: u.isAdmin(), onBehalf: login}, ok
}

// authenticate returns the principal of a call.
func (d *DSS) authenticate(h http.Header) (principal, *failure) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	p, fail := d.credentials(h)
	if fail != nil {
		return principal{}, fail
	}
	return d.proxied(p, h["X-Dku-Proxyuser"])
}

func (d *DSS) credentials(h http.Header) (principal, *failure) {
	authorization, tickets := h["Authorization"], h["X-Dku-Apiticket"]
	switch {
	case len(authorization) > 1 || len(tickets) > 1:
		return principal{}, badRequest("more than one set of credentials")
	case len(authorization) == 1:
		if key, ok := keyIn(authorization[0]); ok {
			if p, ok := d.byKey(key); ok {
				return p, nil
			}
		}
		return principal{}, notAuthenticated("Unknown API Key")
	case len(tickets) == 1:
		if p, ok := d.byTicket(tickets[0]); ok {
			return p, nil
		}
		return principal{}, notAuthenticated("Unknown or expired API ticket")
	}
	return principal{}, notAuthenticated("No API key or ticket in the call")
}

// fromLatin1 decodes bytes, each of which is one character.
func fromLatin1(bytes string) string {
	runes := make([]rune, 0, len(bytes))
	for i := range len(bytes) {
		runes = append(runes, rune(bytes[i]))
	}
	return string(runes)
}

// proxied returns the user that caller acts as: caller itself, unless the call
// names another user.
func (d *DSS) proxied(caller principal, proxyUser []string) (principal, *failure) {
	switch {
	case len(proxyUser) == 0:
		return caller, nil
	case len(proxyUser) > 1 || strings.TrimSpace(proxyUser[0]) == "":
		return principal{}, badRequest("X-DKU-ProxyUser takes exactly one login")
	case !caller.admin:
		return principal{}, unauthorized("acting as another user needs an administrator's rights")
	}
	login := proxyUser[0]
	if d.options.Latin1ProxyUser {
		login = fromLatin1(login)
	}
	login = d.spelling(login)
	p, ok := d.byLogin(login, "USER_FROM_UI")
	if !ok {
		return principal{}, notFound("user does not exist: " + login)
	}
	p.onBehalf = caller.login
	return p, nil
}
