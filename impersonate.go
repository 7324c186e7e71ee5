package dssauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/dssauth/dssauth/dss"
)

// ClientFromContext returns a client that calls DSS as the visitor behind a
// request, with the visitor's rights, given the request's context. How is
// said by [Config.Impersonation]; without it, for an API key and for an
// anonymous visitor it fails.
//
// The visitor's credentials are read from the request's headers now. Where
// they are no longer those that were authenticated, it fails. A ticket is
// fetched when the client first calls DSS.
func ClientFromContext(ctx context.Context) (*dss.Client, error) {
	v, header, err := credentialsOf(ctx)
	if err != nil {
		return nil, err
	}
	login := v.entry.identity.Login
	switch v.m.impersonation {
	case ByProxyUser:
		return v.m.client.As(login)
	case ByTicket:
		last := ""
		return v.m.client.WithTicketSource(func(ctx context.Context) (ticket string, err error) {
			ctx, cancel := context.WithTimeout(ctx, v.m.answers.timeout)
			defer cancel()
			// Asked for a second one, the first was rejected.
			ticket, err = v.entry.ticket.get(ctx, last, func() (string, error) { return v.m.fetchTicket(ctx, v.entry, header) })
			last = ticket
			return ticket, err
		}), nil
	}
	return nil, errors.New("dssauth: no impersonation: set Config.Impersonation to ByTicket or ByProxyUser")
}

// SecretsFromContext returns the secrets that the visitor behind a request
// keeps in DSS, given the request's context. DSS is asked each time: they are
// never remembered. It fails where ClientFromContext does, except that it
// needs no [Config.Impersonation].
//
// DSS: POST /auth/info-from-browser-headers?withSecrets=true
func SecretsFromContext(ctx context.Context) ([]dss.Secret, error) {
	v, header, err := credentialsOf(ctx)
	if err != nil {
		return nil, err
	}
	if v.m.client == nil {
		return nil, errors.New("dssauth: no secrets: set Config.Client")
	}
	ctx, cancel := context.WithTimeout(ctx, v.m.answers.timeout)
	defer cancel()
	info, err := v.m.client.AuthInfoFromBrowserHeaders(ctx, header, dss.WithSecrets())
	if err != nil {
		return nil, unavailable("DSS gave no secrets", err, 0)
	}
	if info.Login() != v.entry.identity.Login {
		v.m.answers.forget(v.entry.key)
		return nil, refuse(ErrUnauthenticated, "the session is another user's by now")
	}
	return info.Secrets, nil
}

// credentialsOf returns the visit in ctx and a copy of what it was
// authenticated by.
func credentialsOf(ctx context.Context) (*visit, http.Header, error) {
	v, ok := ctx.Value(visitKey{}).(*visit)
	switch {
	case !ok || v.entry == nil:
		return nil, nil, errNoVisitor
	case v.m == nil:
		return nil, nil, errors.New("dssauth: this identity comes from NewContext, and DSS knows nothing of it: test with dsstest and a Middleware instead")
	case v.entry.identity.Login == "":
		return nil, nil, refuse(ErrForbidden, "an API key without a user cannot be impersonated")
	}
	c, err := v.m.selector.pick(v.request.Header)
	if err != nil {
		return nil, nil, err
	}
	if c.key != v.entry.key {
		return nil, nil, refuse(ErrUnauthenticated, "the request's credentials are no longer those that were authenticated: do not change them between the Middleware and the handler")
	}
	return v, c.header, nil
}

// fetchTicket gets a ticket for the browser that sent header, and makes sure
// that it is that of e's visitor: the session may be another user's by now.
func (m *Middleware) fetchTicket(ctx context.Context, e *entry, header http.Header) (string, error) {
	ticket, err := m.client.TicketFromBrowserHeaders(ctx, header)
	if err != nil {
		return "", fmt.Errorf("dssauth: no ticket for the visitor: %w", err)
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
		m.answers.forget(e.key)
		return "", refuse(ErrUnauthenticated, "the session is another user's by now")
	}
	return ticket, nil
}

// ticketSlot keeps a visitor's ticket as long as the visitor's answer.
type ticketSlot struct{ box atomic.Pointer[ticketBox] }

type ticketBox struct {
	turn chan struct{} // holds a token while somebody reads or fetches
	kept func() string // a closure, so that printing an entry does not show it
}

// get returns the ticket kept unless it is the rejected one, else a new one.
// Who comes while one is being fetched waits for it, not longer than ctx.
func (s *ticketSlot) get(ctx context.Context, rejected string, fetch func() (string, error)) (string, error) {
	if s.box.Load() == nil {
		s.box.CompareAndSwap(nil, &ticketBox{turn: make(chan struct{}, 1)})
	}
	b := s.box.Load()
	if !take(ctx, b.turn) {
		return "", unavailable("the call ended before a ticket came", unquoted(context.Cause(ctx)), 0)
	}
	defer func() { <-b.turn }()
	if b.kept != nil && b.kept() != rejected {
		return b.kept(), nil
	}
	b.kept = nil
	ticket, err := fetch()
	if err == nil {
		b.kept = func() string { return ticket }
	}
	return ticket, err
}
