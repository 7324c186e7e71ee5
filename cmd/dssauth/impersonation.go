package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/dssauth/dssauth/dss"
)

const (
	byTicket    = "acting as the visitor by ticket"
	byProxyUser = "acting as the visitor by proxy user"
)

// errOther means that DSS acted as somebody else than it was told to.
var errOther = errors.New("another user")

// impersonation finds out in which of its two modes the application may act as
// the visitor. What DSS refuses is a problem only where it is needed.
func (d *doctor) impersonation(ctx context.Context) {
	ticket := d.tryTicket(ctx)
	proxy := d.tryProxyUser(ctx, d.visitor.Login())
	either := d.mode == "either" && ticket != nil && proxy != nil

	switch {
	case ticket == nil:
		d.report.ok(byTicket, "allowed", "Config.Impersonation can be ByTicket.")
	case isRefusal(ticket):
		d.lacks(byTicket, "not allowed", d.mode == "ticket" || either,
			fmt.Sprintf("In DSS, under Administration > Security > Groups, give the group of the run-as user (%s, in %s) "+
				"the right “Impersonation in webapps” on a group of the visitor (%s).",
				who(d.own), list(d.own.Groups), list(d.visitor.Groups)))
	default:
		d.failed(byTicket, ticket)
	}
	switch {
	case proxy == nil:
		d.report.ok(byProxyUser, "allowed: we have an administrator's rights", "Config.Impersonation can be ByProxyUser.",
			"Where nothing else takes these rights, a key or run-as user without them is safer.")
	case isRefusal(proxy):
		d.lacks(byProxyUser, "not allowed", d.mode == "proxy-user" || either,
			"It takes an administrator's API key. ByTicket works without one, and is the way that DSS documents for webapps.")
	default:
		d.failed(byProxyUser, proxy)
	}
}

// lacks reports what DSS does not allow.
func (d *doctor) lacks(check, what string, needed bool, fix string) {
	if needed {
		d.report.problem(check, what, fix)
		return
	}
	d.report.ok(check, what+", which matters only if Config.Impersonation asks for it", fix)
}

// failed reports an attempt that was not refused and did not succeed.
func (d *doctor) failed(check string, err error) {
	if errors.Is(err, errOther) {
		d.report.problem(check, "DSS acted as somebody else",
			"Do not use it: calls would be made with rights that are not the visitor's. A proxy between this application and DSS may drop "+
				"X-DKU headers, or add an Authorization header.")
		return
	}
	d.fails(check, err)
}

// isRefusal reports whether DSS, and no proxy, said that we may not do this.
func isRefusal(err error) bool {
	var reply *dss.Error
	return errors.As(err, &reply) &&
		(reply.StatusCode == http.StatusForbidden && reply.Type != "" || strings.HasSuffix(reply.Type, ".UnauthorizedException"))
}

// tryTicket gets a ticket for the visitor's browser and looks whose it is.
func (d *doctor) tryTicket(ctx context.Context) error {
	ctx, cancel := d.limited(ctx)
	defer cancel()
	ticket, err := d.client.TicketFromBrowserHeaders(ctx, d.sent.headers())
	if err != nil {
		return err
	}
	d.report.hide(ticket)
	visitor, err := d.client.WithTicket(ticket)
	if err != nil {
		return err
	}
	return is(ctx, visitor, d.visitor.Login())
}

// tryProxyUser asks DSS who we are when we act as login.
func (d *doctor) tryProxyUser(ctx context.Context, login string) error {
	ctx, cancel := d.limited(ctx)
	defer cancel()
	user, err := d.client.As(login)
	if err != nil {
		return err
	}
	return is(ctx, user, login)
}

// is fails with errOther where DSS does not take a client for login.
func is(ctx context.Context, client *dss.Client, login string) error {
	info, err := client.AuthInfo(ctx)
	if err == nil && info.Login() != login {
		return errOther
	}
	return err
}

// administrator finds out whether we are one where there is no visitor to try
// it with.
func (d *doctor) administrator(ctx context.Context) {
	const check = "administrator's rights"
	login := d.user
	if login == "" {
		login = d.someUser(ctx)
	}
	if login == "" {
		d.report.skipped(check, "we cannot find a user to try to act as: name one with -user")
		return
	}
	if _, err := d.client.As(login); err != nil {
		d.report.problem(check, err.Error(), "Correct -user.")
		return
	}
	err := d.tryProxyUser(ctx, login)
	var reply *dss.Error
	switch {
	case err == nil:
		d.report.ok(check, "we have them: DSS lets us act as "+list([]string{login}))
	case isRefusal(err):
		d.lacks(check, "we do not have them", d.mode == "proxy-user",
			"DSS does not let us act as "+list([]string{login})+". ByProxyUser takes an administrator's API key; "+
				"ByTicket and identifying visitors work without one.")
	case errors.As(err, &reply) && reply.StatusCode == http.StatusNotFound && reply.Type != "":
		d.report.problem(check, "DSS knows no user "+list([]string{login}), "Correct -user.")
	default:
		d.failed(check, err)
	}
}

// someUser returns a user other than ourselves, or "".
func (d *doctor) someUser(ctx context.Context) string {
	ctx, cancel := d.limited(ctx)
	defer cancel()
	var users []struct {
		Login   string `json:"login"`
		Enabled bool   `json:"enabled"`
	}
	if d.client.Do(ctx, http.MethodGet, "/users", nil, &users) != nil {
		return ""
	}
	for _, u := range users {
		if u.Enabled && u.Login != d.own.Login() {
			return u.Login
		}
	}
	return ""
}
