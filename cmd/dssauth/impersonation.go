package main

import (
	"context"
	"fmt"

	"github.com/dssauth/dssauth/internal/diagnose"
)

const (
	byTicket    = "acting as the visitor by ticket"
	byProxyUser = "acting as the visitor by proxy user"
)

// impersonation finds out in which of its two modes the application may act as the
// visitor. A refusal is a problem only if the application needs that mode.
func (d *doctor) impersonation(ctx context.Context) {
	ticket := d.tryTicket(ctx)
	proxy := d.examined.ActAs(ctx, d.visitor.Login())
	either := d.mode == "either" && ticket != nil && proxy != nil

	switch {
	case ticket == nil:
		d.report.ok(byTicket, "allowed", "Config.Impersonation can be ByTicket.")
	case diagnose.IsRefusal(ticket):
		d.lacks(byTicket, d.mode == "ticket" || either,
			fmt.Sprintf("In DSS, under Administration > Security > Groups, give the group of the run-as user (%s, in %s) "+
				"the right “Impersonation in webapps” on a group of the visitor (%s).",
				diagnose.Who(d.own), list(d.own.Groups), list(d.visitor.Groups)))
	default:
		d.fails(byTicket, ticket)
	}
	switch {
	case proxy == nil:
		d.report.ok(byProxyUser, "allowed: we have an administrator's rights", "Config.Impersonation can be ByProxyUser.",
			"If nothing else needs these rights, a key or run-as user without them is safer.")
	case diagnose.IsRefusal(proxy):
		d.lacks(byProxyUser, d.mode == "proxy-user" || either,
			"This mode needs an administrator's API key. ByTicket works without one, and DSS documents it for webapps.")
	default:
		d.fails(byProxyUser, proxy)
	}
}

// lacks reports that DSS does not allow something.
func (d *doctor) lacks(check string, needed bool, fix string) {
	d.report.finding(diagnose.Lacks(diagnose.Finding{Check: check, Status: diagnose.Problem, Found: "not allowed", Advice: []string{fix}}, needed))
}

// tryTicket gets a ticket for the visitor's browser and checks its user.
func (d *doctor) tryTicket(ctx context.Context) error {
	ctx, cancel := d.limited(ctx)
	defer cancel()
	ticket, err := d.client.TicketFromBrowserHeaders(ctx, d.sent.headers())
	if err != nil {
		return err
	}
	d.report.Hide(ticket)
	visitor, err := d.client.WithTicket(ticket)
	if err != nil {
		return err
	}
	return diagnose.Is(ctx, visitor, d.visitor.Login())
}

// administrator finds out, without a visitor, whether we are one.
func (d *doctor) administrator(ctx context.Context) {
	if _, err := d.client.As(d.user); d.user != "" && err != nil {
		d.report.problem("administrator's rights", err.Error(), "Correct -user.")
		return
	}
	d.report.finding(d.examined.Administrator(ctx, d.user, d.mode == "proxy-user"))
}
