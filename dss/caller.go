package dss

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/dssauth/dssauth/internal/ownkey"
)

const (
	headerTicket     = "X-DKU-APITicket"
	headerProxyUser  = "X-DKU-ProxyUser"
	headerCallOrigin = "X-DKU-CallOrigin"
)

// caller is whom a client calls as: with fixed credentials, with those from a
// source, or not at all.
type caller struct {
	kind   string // in words
	acts   bool   // as someone; must not be made to act as someone else
	fixed  *credentials
	source *credentialSource
	keys   *keySource                      // gives the API key that the credentials are made of
	over   func(*credentials) *credentials // makes credentials of that key; nil: it is all
	renews bool                            // the source gives tickets, which DSS may reject
	err    error                           // why no call can be made
}

// credentials are kept behind functions, because fmt prints what it finds in
// unexported fields.
type credentials struct {
	set    func(http.Header) // those headers that say who calls, all together
	secret func() string
	number int64        // of the API key, where it can be replaced
	key    *credentials // the API key that these are made of; nil: they are that key
}

// ofKey returns the API key that c is made of.
func (c *credentials) ofKey() *credentials {
	if c.key != nil {
		return c.key
	}
	return c
}

func keyCredentials(key string) *credentials {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(key+":"))
	return &credentials{
		set:    func(h http.Header) { h.Set("Authorization", basic) },
		secret: func() string { return key },
	}
}

func callerWithTicket(kind, ticket string) caller {
	return caller{kind: kind, fixed: ticketCredentials(ticket)}
}

func ticketCredentials(ticket string) *credentials {
	return &credentials{
		set:    func(h http.Header) { h.Set(headerTicket, ticket) },
		secret: func() string { return ticket },
	}
}

// current returns the credentials to send now. On any doubt it returns none, so
// that nothing is sent.
func (a caller) current(ctx context.Context) (*credentials, error) {
	switch {
	case a.err != nil:
		return nil, a.err
	case a.source != nil:
		return a.source.current(ctx)
	case a.keys != nil && a.over != nil:
		return a.over(a.keys.current()), nil
	case a.keys != nil:
		return a.keys.current(), nil
	case a.fixed != nil:
		return a.fixed, nil
	}
	return nil, errors.New("no credentials")
}

// canRenew reports whether DSS may reject credentials and then take others.
func (a caller) canRenew() bool { return a.renews || a.keys != nil }

// renewed reports whether there are other credentials than used, which DSS
// rejected, or may have rejected in answer to a question about a browser.
func (a caller) renewed(ctx context.Context, used *credentials, aboutABrowser bool) bool {
	switch {
	case a.renews:
		a.source.forget(used)
		return true
	case aboutABrowser:
		return a.keys.current() != used.ofKey()
	}
	return a.keys.instead(ctx, used.ofKey())
}

// As returns a copy of the client that acts as the user login, by an
// administrator's rights to do so: DSS refuses the calls of others. A webapp
// that acts as its visitor better uses [Client.WithTicketSource].
//
// Where a proxy before DSS drops X-DKU-ProxyUser, the copy acts as the
// administrator: see [Client.AsVerified].
//
// A login that is empty, blank, not valid UTF-8, or has control characters or
// spaces at its ends is refused, and so are clients that act as someone
// already. A login outside ASCII is sent as UTF-8.
func (c *Client) As(login string) (*Client, error) {
	own, err := c.actingAs(login)
	if err != nil {
		return nil, fmt.Errorf("dss: As: %w", err)
	}
	return c.acting(own), nil
}

// AsVerified is [Client.As], but before the copy's first call DSS is asked whom
// it takes the copy for. Unless it names exactly login, that call fails and
// nothing else is sent; the next call asks again. Calls at the same time share
// the question, which is asked from a goroutine of its own, with a context that
// ends after 30 seconds and is no caller's. Once DSS named login, the copy does
// not ask again, but for another API key of [Config.APIKeySource].
//
// DSS: GET /auth/info
func (c *Client) AsVerified(login string) (*Client, error) {
	as, err := c.actingAs(login)
	if err != nil {
		return nil, fmt.Errorf("dss: AsVerified: %w", err)
	}
	login = strings.Clone(login) // it is compared later, and may stand in a server's reused memory
	unchecked := c.acting(as)
	check := func(ctx context.Context) (*credentials, error) {
		var used ownkey.Used
		info, err := unchecked.AuthInfo(used.Context(ctx))
		if err != nil {
			return nil, err
		}
		if info.Login() != login {
			return nil, errors.New("DSS takes the call for somebody else's; a proxy before it may drop X-DKU-ProxyUser")
		}
		checked, err := as.current(ctx)
		if err == nil && checked.number != used.Number() {
			return nil, errors.New("the API key was replaced meanwhile")
		}
		return checked, err
	}
	source := &credentialSource{keep: new(keep), name: "check of the user", gives: "answer", fetch: check}
	if as.keys != nil {
		source.outdated = func(held *credentials) bool { return held.ofKey() != as.keys.current() }
	}
	return c.acting(caller{kind: as.kind, source: source, keys: as.keys}), nil
}

// actingAs is the caller that acts as login by this client's credentials.
func (c *Client) actingAs(login string) (caller, error) {
	own, err := c.mayAct()
	if err != nil {
		return caller{}, err
	}
	if err := checkName(login); err != nil {
		return caller{}, fmt.Errorf("the login %w", err)
	}
	over := func(key *credentials) *credentials {
		return &credentials{
			set: func(h http.Header) {
				key.set(h)
				h.Set(headerProxyUser, login)
			},
			secret: key.secret,
			number: key.number,
			key:    key,
		}
	}
	as := caller{kind: own.kind + " acting as a user"}
	if own.keys != nil {
		as.keys, as.over = own.keys, over
	} else {
		as.fixed = over(own.fixed)
	}
	return as, nil
}

// WithTicket returns a copy of the client that calls with ticket in place of its
// own credentials: as the user for whom [Client.TicketFromBrowserHeaders]
// returned it. How long a ticket lives is up to DSS; see
// [Client.WithTicketSource].
//
// What cannot be a ticket is refused, and so are clients that act as someone
// already.
func (c *Client) WithTicket(ticket string) (*Client, error) {
	if _, err := c.mayAct(); err != nil {
		return nil, fmt.Errorf("dss: WithTicket: %w", err)
	}
	if err := checkTicket(ticket); err != nil {
		return nil, fmt.Errorf("dss: WithTicket: %w", err)
	}
	return c.acting(callerWithTicket("ticket of a user", ticket)), nil
}

// WithTicketSource returns a copy of the client that calls with tickets from
// source in place of its own credentials. The source is asked at the first call,
// and again after DSS rejected the ticket it gave; calls at the same time share
// its answer. It is asked from a goroutine of its own, with a context that ends
// after 30 seconds and is no caller's.
//
// A call whose ticket is rejected is made once more if the source gives another
// one, and if its body can be sent twice: no body, JSON, or a reader that
// [http.NewRequest] knows how to rewind.
//
// Where the source fails, panics or gives what cannot be a ticket, the call
// fails with its error and nothing is sent. The same goes for every call where
// source is nil or the client acts as someone already.
func (c *Client) WithTicketSource(source func(context.Context) (string, error)) *Client {
	return c.WithTickets(new(Tickets), source)
}

// mayAct returns the client's own credentials if it does not act as someone.
func (c *Client) mayAct() (caller, error) {
	if err := c.check(); err != nil {
		return caller{}, err
	}
	if c.as.acts {
		return caller{}, errors.New("this client acts as a user already; use the one it was made from")
	}
	return c.as, nil
}

func (c *Client) acting(as caller) *Client {
	as.acts = true
	if c == nil {
		return &Client{as: as}
	}
	return &Client{dss: c.dss, as: as}
}
