package dss

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// Client calls one DSS as one caller. It is safe for concurrent use. Make it
// once and keep it: each client from [New] has connections of its own, and its
// copies that act as users share them.
type Client struct {
	dss *instance
	as  caller
}

// instance is a DSS and the way to it, shared by the copies of a client.
type instance struct {
	base       *url.URL
	wire       http.RoundTripper
	timeout    time.Duration // for a call as a whole; 0: none
	from       string        // the source of the settings, in words
	callOrigin string
}

// URL returns the URL of this client's DSS, without a slash at its end. Use it
// to build requests for [Client.Transport]. The API is at /dip/publicapi below
// it.
func (c *Client) URL() string {
	if c.check() != nil {
		return ""
	}
	return c.dss.base.String()
}

// String returns the URL of DSS, the kind of credentials, and the source of the
// settings, as in dss.Client(https://dss.example, API key, from DKU_DSS_URL).
func (c *Client) String() string {
	if c.check() != nil {
		return "dss.Client(not made by dss.New)"
	}
	return fmt.Sprintf("dss.Client(%s, %s, from %s)", c.dss.base, c.as.kind, c.dss.from)
}

// Format is String, for every verb.
func (c *Client) Format(s fmt.State, _ rune) { fmt.Fprint(s, c.String()) }

// LogValue is String, for slog.
func (c *Client) LogValue() slog.Value { return slog.StringValue(c.String()) }

// CloseIdleConnections closes the connections that no call is using, those of
// this client and of its copies. The client may be used afterwards.
func (c *Client) CloseIdleConnections() {
	if c.check() != nil {
		return
	}
	if w, ok := c.dss.wire.(interface{ CloseIdleConnections() }); ok {
		w.CloseIdleConnections()
	}
}

// WrapTransport returns a copy of the client that calls DSS through another
// transport: wrap gets the transport of the connections, [Config.HTTPClient]'s
// or the default, and returns the other one. Use it to trace, or to note the
// user of each call. Copies of the copy that act as users use it too. Clients
// that were made before do not.
//
// It gets requests as they are sent, with the credentials in their headers and
// the question in their query: log neither. It must leave Authorization and
// X-DKU headers as they are. One call can be several requests: a rejected
// ticket or key is replaced, and a read whose connection broke is sent again.
// The text of its errors can quote bytes that were sent or received; the errors
// of calls do not show it. WrapTransport panics if wrap is nil or returns nil.
func (c *Client) WrapTransport(wrap func(next http.RoundTripper) http.RoundTripper) *Client {
	if c.check() != nil {
		return c // its calls fail
	}
	wire := wrap(c.dss.wire)
	if wire == nil {
		panic("dss: WrapTransport: wrap returned nil: return next to change nothing")
	}
	through := *c.dss
	through.wire = wrapped{wire, c.dss.wire}
	return &Client{dss: &through, as: c.as}
}

// wrapped is a transport that can still close the connections of the transport
// below it.
type wrapped struct {
	http.RoundTripper
	next http.RoundTripper
}

func (w wrapped) CloseIdleConnections() {
	if next, ok := w.next.(interface{ CloseIdleConnections() }); ok {
		next.CloseIdleConnections()
	}
}

// check refuses clients that were not made by New or FromEnv.
func (c *Client) check() error {
	if c == nil || c.dss == nil {
		return errors.New("this client was not made by dss.New or dss.FromEnv")
	}
	return nil
}
