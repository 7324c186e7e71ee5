package dssauth

import (
	"context"
	"fmt"
	"net/http"

	"github.com/dssauth/dssauth/dss"
)

// ClientFromContext returns a client that calls DSS as the visitor behind a request,
// with the visitor's rights, given the request's context. [Config.Impersonation] is the
// way it does so. It fails without that setting, for an API key, and for an anonymous
// visitor.
//
// It reads the visitor's credentials from the request's headers again. It fails if they
// have changed since the visitor was authenticated. A ticket is fetched when the client
// first calls DSS.
func ClientFromContext(ctx context.Context) (*dss.Client, error) {
	v, header, err := credentialsOf(ctx)
	if err != nil {
		return nil, err
	}
	return v.m.clientOf(v.entry, header)
}

// clientOf returns a client that calls DSS as e's visitor, whose browser sent
// header.
func (m *Middleware) clientOf(e *entry, header http.Header) (*dss.Client, error) {
	switch m.impersonation {
	case ByProxyUser:
		return e.session.proxied(m.client, e.identity.Login)
	case ByTicket:
		return m.client.WithTickets(&e.session.tickets, func(ctx context.Context) (string, error) {
			ctx, cancel := context.WithTimeout(ctx, m.answers.timeout)
			defer cancel()
			return m.fetchTicket(ctx, e, header)
		}), nil
	}
	return nil, errNoImpersonation
}

// SecretsFromContext returns the secrets that the visitor behind a request keeps in
// DSS, given the request's context. It asks DSS each time: secrets are never
// remembered. It fails when ClientFromContext does, except that it needs no
// [Config.Impersonation].
//
// DSS: POST /auth/info-from-browser-headers?withSecrets=true
func SecretsFromContext(ctx context.Context) ([]dss.Secret, error) {
	v, header, err := credentialsOf(ctx)
	if err != nil {
		return nil, err
	}
	if v.m.client == nil {
		return nil, errNoClient
	}
	ctx, cancel := context.WithTimeout(ctx, v.m.answers.timeout)
	defer cancel()
	info, err := withOwnKey(ctx, func(ctx context.Context) (dss.AuthInfo, error) {
		return v.m.client.AuthInfoFromBrowserHeaders(ctx, header, dss.WithSecrets())
	})
	switch {
	case isNotAuthenticated(err):
		return nil, v.m.faults.of(ctx, err, origin{})
	case err != nil:
		return nil, unavailable("DSS gave no secrets", err, 0)
	}
	if info.Login() != v.entry.identity.Login {
		v.m.answers.forget(v.entry.key)
		return nil, errOtherUser
	}
	return info.Secrets, nil
}

// credentialsOf returns the visit in ctx and a copy of its credentials.
func credentialsOf(ctx context.Context) (*visit, http.Header, error) {
	v, ok := ctx.Value(visitKey{}).(*visit)
	switch {
	case !ok:
		return nil, nil, errNoVisitor
	case v.entry == nil:
		return nil, nil, errAnonymous
	}
	c, err := v.credentials()
	return v, c.header, err
}

// credentials returns a copy of the credentials that authenticated v's visitor.
func (v *visit) credentials() (credentials, error) {
	switch {
	case v.m == nil:
		return credentials{}, errMadeUp
	case v.entry.identity.Login == "":
		return credentials{}, errKeyCannotAct
	}
	c, err := v.m.selector.pick(v.request.Header)
	if err != nil {
		return credentials{}, err
	}
	if c.key != v.entry.key {
		return credentials{}, refuse(ErrUnauthenticated, "the request's credentials have changed since they were authenticated: do not change them between the Middleware and the handler")
	}
	return c, nil
}

var errKeyCannotAct = refuse(ErrForbidden, "an API key without a user cannot be impersonated")

// fetchTicket gets a ticket for the browser that sent header, and makes sure that it is
// that of e's visitor: the session may belong to another user now.
func (m *Middleware) fetchTicket(ctx context.Context, e *entry, header http.Header) (string, error) {
	ticket, err := withOwnKey(ctx, func(ctx context.Context) (string, error) {
		return m.client.TicketFromBrowserHeaders(ctx, header)
	})
	if err != nil {
		return "", m.faults.noTicket(ctx, err)
	}
	visitor, err := m.client.WithTicket(ticket)
	if err != nil {
		return "", err
	}
	info, err := visitor.AuthInfo(ctx)
	if err != nil {
		return "", fmt.Errorf("dssauth: the visitor's ticket cannot be checked: %w", err)
	}
	if info.Login() != e.identity.Login {
		m.faults.actsAsOther()
		m.answers.forget(e.key)
		return "", errOtherUser
	}
	return ticket, nil
}
