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

// caller is the identity that a client calls with.
type caller struct {
	kind string // in words
	acts bool   // acts as a user; must not be made to act as another one

	// current returns the credentials to send now. On any doubt it returns none, so
	// that nothing is sent.
	current func(context.Context) (*credentials, error)
	keys    *keySource // gives the API key for the credentials; nil: another one never comes
	tickets *keep      // holds the credentials, a ticket that DSS may reject; nil: they are not a ticket
}

// credentials are kept behind functions, because fmt prints what it finds in
// unexported fields.
type credentials struct {
	set    func(http.Header) // the headers that identify the caller, all together
	secret func() string
	number int64        // the number of the API key, if the key can be replaced
	key    *credentials // the API key that these are made from; nil: they are that key
}

// ofKey returns the API key that c is made from.
func (c *credentials) ofKey() *credentials {
	if c.key != nil {
		return c.key
	}
	return c
}

// always is the current of a caller with these credentials and no others.
func (c *credentials) always(context.Context) (*credentials, error) { return c, nil }

func keyCredentials(key string) *credentials {
	key = strings.Clone(key) // a server may use its memory again
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(key+":"))
	return &credentials{
		set:    func(h http.Header) { h.Set("Authorization", basic) },
		secret: func() string { return key },
	}
}

func callerWithTicket(kind, ticket string) caller {
	return caller{kind: kind, current: ticketCredentials(ticket).always}
}

func ticketCredentials(ticket string) *credentials {
	ticket = strings.Clone(ticket)
	return &credentials{
		set:    func(h http.Header) { h.Set(headerTicket, ticket) },
		secret: func() string { return ticket },
	}
}

// canRenew reports whether credentials that DSS rejects can be replaced.
func (a caller) canRenew() bool { return a.tickets != nil || a.keys != nil }

// renewed reports whether there are credentials other than used. DSS rejected
// used. If the question was about a browser, DSS may have rejected the browser
// instead.
func (a caller) renewed(ctx context.Context, used *credentials, aboutABrowser bool) bool {
	switch {
	case a.tickets != nil:
		a.tickets.forget(used)
		return true
	case aboutABrowser:
		return a.keys.current() != used.ofKey()
	}
	return a.keys.instead(ctx, used.ofKey())
}

// As returns a copy of the client that acts as the user with this login. It
// needs an administrator's credentials: DSS refuses the calls of others. A
// webapp that acts as its visitor should use [Client.WithTicketSource] instead.
//
// If a proxy before DSS drops X-DKU-ProxyUser, the copy acts as the
// administrator: see [Client.AsVerified].
//
// As refuses a login that is empty, blank, not valid UTF-8, or has control
// characters or spaces at its ends. It also refuses a client that acts as a
// user already. A login outside ASCII is sent as UTF-8.
func (c *Client) As(login string) (*Client, error) {
	own, err := c.actingAs(strings.Clone(login))
	if err != nil {
		return nil, fmt.Errorf("dss: As: %w", err)
	}
	return c.acting(own), nil
}

// AsVerified is [Client.As] with a check: before its first call the copy asks
// DSS for its own login. Unless DSS names exactly login, that call fails and
// nothing else is sent; the next call asks again. Calls at the same time share
// one question. The question runs in a goroutine of its own, with a context of
// its own that ends after 30 seconds. After DSS named login, the copy asks
// again only if [Config.APIKeySource] gives another API key.
//
// DSS: GET /auth/info
func (c *Client) AsVerified(login string) (*Client, error) {
	login = strings.Clone(login)
	as, err := c.actingAs(login)
	if err != nil {
		return nil, fmt.Errorf("dss: AsVerified: %w", err)
	}
	unchecked := c.acting(as)
	check := func(ctx context.Context) (*credentials, error) {
		var used ownkey.Used
		info, err := unchecked.AuthInfo(used.Context(ctx))
		if err != nil {
			return nil, err
		}
		if info.Login() != login {
			return nil, ownkey.ErrOtherUser
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
	return c.acting(caller{kind: as.kind, current: source.current, keys: as.keys}), nil
}

// actingAs returns the caller that acts as login with this client's
// credentials.
func (c *Client) actingAs(login string) (caller, error) {
	own, err := c.mayAct()
	if err != nil {
		return caller{}, err
	}
	if err := checkName(login); err != nil {
		return caller{}, fmt.Errorf("the login %w", err)
	}
	current := func(ctx context.Context) (*credentials, error) {
		key, err := own.current(ctx)
		if err != nil {
			return nil, err
		}
		return &credentials{
			set: func(h http.Header) {
				key.set(h)
				h.Set(headerProxyUser, login)
			},
			secret: key.secret,
			number: key.number,
			key:    key,
		}, nil
	}
	return caller{kind: own.kind + " acting as a user", current: current, keys: own.keys}, nil
}

// WithTicket returns a copy of the client that calls with ticket in place of
// its own credentials. Its calls act as the user of the ticket, see
// [Client.TicketFromBrowserHeaders]. DSS decides how long a ticket lives; see
// [Client.WithTicketSource].
//
// WithTicket refuses a text that cannot be a ticket, and a client that acts as
// a user already.
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
// source in place of its own credentials. The source is asked at the first
// call, and again after DSS rejected its ticket. Calls at the same time share
// its answer. It runs in a goroutine of its own, with a context of its own that
// ends after 30 seconds.
//
// If DSS rejects the ticket of a call and the source gives another one, the
// call is made once more. Its body must allow that: no body, JSON, or a reader
// that [http.NewRequest] knows how to rewind.
//
// If the source fails, panics or gives a text that cannot be a ticket, the call
// fails with the source's error and nothing is sent. Every call fails if source
// is nil or the client acts as a user already.
func (c *Client) WithTicketSource(source func(context.Context) (string, error)) *Client {
	return c.WithTickets(new(Tickets), source)
}

// mayAct returns the client's own credentials if it does not act as a user.
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
