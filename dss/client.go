package dss

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// Client calls one DSS as one caller. It is safe for concurrent use, and is made
// once and kept: each one from [New] has connections of its own, which the
// copies that act as users share.
type Client struct {
	dss *instance
	as  caller
}

// instance is a DSS and the way to it, shared by the copies of a client.
type instance struct {
	base       *url.URL
	wire       http.RoundTripper
	timeout    time.Duration // for a call as a whole; 0: none
	from       string        // where the settings came from, in words
	callOrigin string
}

// URL returns where this client's DSS is, without a slash at its end, to build
// requests for [Client.Transport]. The API is at /dip/publicapi below it.
func (c *Client) URL() string {
	if c.check() != nil {
		return ""
	}
	return c.dss.base.String()
}

// String tells the URL of DSS, the kind of credentials, and where the settings
// came from, as in dss.Client(https://dss.example, API key, from DKU_DSS_URL).
func (c *Client) String() string {
	if c.check() != nil {
		return "dss.Client(not made by dss.New)"
	}
	return fmt.Sprintf("dss.Client(%s, %s, from %s)", c.dss.base, c.as.kind, c.dss.from)
}

// GoString is String, for %#v.
func (c *Client) GoString() string { return c.String() }

// Format is String, whatever the verb.
func (c *Client) Format(s fmt.State, _ rune) { fmt.Fprint(s, c.String()) }

// LogValue is String, for slog.
func (c *Client) LogValue() slog.Value { return slog.StringValue(c.String()) }

// CloseIdleConnections closes the connections that no call is using, this
// client's and those of its copies. The client may be used afterwards.
func (c *Client) CloseIdleConnections() {
	if c.check() != nil {
		return
	}
	if w, ok := c.dss.wire.(interface{ CloseIdleConnections() }); ok {
		w.CloseIdleConnections()
	}
}

// WrapTransport returns a copy of the client that calls DSS through what wrap
// makes of the transport of its connections, [Config.HTTPClient]'s or the default:
// one that traces, or notes whom a call is made as. Copies that act as users,
// made of the copy, go through it too, and clients that were made before do not.
//
// Requests come to it as they are sent, with the credentials in their headers and
// what was asked in their query: log neither. It leaves Authorization and X-DKU
// headers as they are. One call can be several requests: a rejected ticket or key is
// replaced, and a read whose connection broke is sent again. The text of an error can
// quote what was sent or received, and the calls' errors do not show it.
// WrapTransport panics where wrap, or what it returns, is nil.
func (c *Client) WrapTransport(wrap func(next http.RoundTripper) http.RoundTripper) *Client {
	if c.check() != nil {
		return c // whose calls fail
	}
	wire := wrap(c.dss.wire)
	if wire == nil {
		panic("dss: WrapTransport: wrap returned nil: return next to change nothing")
	}
	through := *c.dss
	through.wire = wrapped{wire, c.dss.wire}
	return &Client{dss: &through, as: c.as}
}

// wrapped is a transport that can still close the connections of what it wraps.
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
