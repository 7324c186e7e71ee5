package dssauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/internal/acting"
)

// ClientFromContext returns a client that calls DSS as the visitor behind a
// request, with the visitor's rights, given the request's context. How is
// said by [Config.Impersonation]; without it, for an API key and for an
// anonymous visitor it fails.
//
// The visitor's credentials are read from the request's headers now. Where
// they are no longer those that were authenticated, it fails. When the client
// first calls DSS, a ticket is fetched, and DSS asked whom it takes the client
// for: unless it names the visitor's login, that call fails and is not sent.
func ClientFromContext(ctx context.Context) (*dss.Client, error) {
	v, header, err := credentialsOf(ctx)
	if err != nil {
		return nil, err
	}
	switch v.m.impersonation {
	case ByProxyUser:
		return v.entry.proxied.get(func() (*dss.Client, error) { return v.m.proxied(v.entry) })
	case ByTicket:
		last := ""
		return v.m.client.WithTicketSource(func(ctx context.Context) (ticket string, err error) {
			ctx, cancel := context.WithTimeout(ctx, v.m.timeout)
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
	ctx, cancel := context.WithTimeout(ctx, v.m.timeout)
	defer cancel()
	info, err := v.m.client.AuthInfoFromBrowserHeaders(ctx, header, dss.WithSecrets())
	if err != nil {
		return nil, unavailable("DSS gave no secrets", err, 0)
	}
	if info.Login() != v.identity.Login {
		v.m.forget(v.entry.key)
		return nil, refuse(ErrUnauthenticated, "the session is another user's by now")
	}
	return info.Secrets, nil
}

// credentialsOf returns the visit in ctx and a copy of what it was
// authenticated by.
func credentialsOf(ctx context.Context) (*visit, http.Header, error) {
	v, ok := ctx.Value(visitKey{}).(*visit)
	switch {
	case !ok || v.identity == nil:
		return nil, nil, errNoVisitor
	case v.m == nil || v.entry == nil:
		return nil, nil, errors.New("dssauth: this identity comes from NewContext, and DSS knows nothing of it: test with dsstest and a Middleware instead")
	case v.identity.Login == "":
		return nil, nil, refuse(ErrForbidden, "an API key without a user cannot be impersonated")
	}
	header, k, err := v.m.selector.pick(v.request.Header)
	if err != nil {
		return nil, nil, err
	}
	if k != v.entry.key {
		return nil, nil, refuse(ErrUnauthenticated, "the request's credentials are no longer those that were authenticated: do not change them between the Middleware and the handler")
	}
	return v, header, nil
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
	same, err := m.actsAs(ctx, visitor, e)
	if err != nil {
		return "", fmt.Errorf("dssauth: the visitor's ticket cannot be checked: %w", err)
	}
	if !same {
		return "", refuse(ErrUnauthenticated, "the session is another user's by now")
	}
	return ticket, nil
}

// proxied returns a client that acts as e's visitor with our own credentials,
// once DSS said that it does: a proxy before DSS may drop the header, and each
// call would be an administrator's.
func (m *Middleware) proxied(e *entry) (*dss.Client, error) {
	client, err := acting.AsVerified(m.client, e.identity.Login, func(ctx context.Context, as any) error {
		ctx, cancel := context.WithTimeout(ctx, m.timeout)
		defer cancel()
		same, err := m.actsAs(ctx, as.(*dss.Client), e)
		if err != nil {
			return fmt.Errorf("dssauth: whom DSS takes the visitor's calls for cannot be checked: %w", err)
		}
		if !same {
			if m.mistaken.due(m.now()) {
				m.log.Error("dssauth: DSS takes calls as a visitor for somebody else's, so none is made: does a proxy before DSS drop X-DKU-ProxyUser?")
			}
			return unavailable("DSS takes the visitor's calls for somebody else's", nil, 0)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return client.(*dss.Client), nil
}

// actsAs reports whether DSS takes calls of client for those of e's visitor,
// who else is forgotten.
func (m *Middleware) actsAs(ctx context.Context, client *dss.Client, e *entry) (bool, error) {
	info, err := client.AuthInfo(ctx)
	if err != nil {
		return false, err
	}
	if info.Login() != e.identity.Login {
		m.forget(e.key)
		return false, nil
	}
	return true, nil
}

// clientSlot keeps the client that acts as a visitor as long as the visitor's
// answer, and with it what DSS said at its first call.
type clientSlot struct{ kept atomic.Pointer[dss.Client] }

func (s *clientSlot) get(make func() (*dss.Client, error)) (*dss.Client, error) {
	if client := s.kept.Load(); client != nil {
		return client, nil
	}
	client, err := make()
	if err != nil {
		return nil, err
	}
	s.kept.CompareAndSwap(nil, client)
	return s.kept.Load(), nil
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
		return "", unavailable("the call ended before a ticket came", context.Cause(ctx), 0)
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
