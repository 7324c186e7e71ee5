package dss

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/dssauth/dssauth/internal/ownkey"
)

// Transport returns an [http.RoundTripper] that calls DSS as this client's
// caller, for any HTTP library, [net/http/httputil.ReverseProxy] included. It
// sends to this DSS only: other hosts and schemes, paths outside the URL of
// DSS, and dot segments are refused, so that a library that follows redirects
// takes no credentials elsewhere.
//
// The methods are GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS, spelled
// like this; an empty one means GET, as for [http.Request]. TRACE is refused,
// since its reply would have the credentials. The only protocol to switch to
// is websocket.
//
// Authorization, Cookie and X-DKU headers, in any spelling, and Connection are
// removed from the request, Cache-Control becomes no-store, and Host is set to
// that of DSS; the credentials are set last. Replies are as DSS sent them: not
// bounded, and without an error for their status. Only the request's context
// limits their time. The connection is used again only after a 2xx, or after an
// error that DSS itself wrote and that was read to its end. An error from the
// wire, also while a reply is read, is a [*WireError].
func (c *Client) Transport() http.RoundTripper { return transport{c} }

type transport struct{ client *Client }

func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := t.client.admit(req); err != nil {
		closeBody(req)
		return nil, fmt.Errorf("dss: %w", err)
	}
	reply, x, err := t.client.roundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("dss: %w", err)
	}
	if reply.StatusCode == http.StatusSwitchingProtocols {
		if !asksForWebsocket(req.Header) || !isWebsocket(reply.Header) {
			reply.Body.Close()
			return nil, errors.New("dss: the reply switches to a protocol that was not asked for")
		}
		return reply, nil
	}
	x.judgeRest(reply)
	return reply, nil
}

// CloseIdleConnections is for [http.Client.CloseIdleConnections].
func (t transport) CloseIdleConnections() { t.client.CloseIdleConnections() }

// roundTrip sends req with the client's credentials. If DSS rejects credentials
// that can be replaced (a ticket, or the key of an APIKeySource), it sends req
// once more. It returns the exchange of the reply, or nil if nothing was sent.
// The caller must first check that req may be sent: see admit and apiURL.
func (c *Client) roundTrip(req *http.Request) (*http.Response, *exchange, error) {
	used, err := c.as.current(req.Context())
	if err != nil {
		closeBody(req)
		return nil, nil, err
	}
	x := &exchange{used: used}
	reply, err := c.send(req, req.Body, x)
	if err != nil || !c.as.canRenew() || !rejectsCredentials(reply) {
		return reply, x, err
	}

	x.judge(true) // now, since the fetch of a ticket may use this connection
	if !c.as.renewed(req.Context(), used, isAboutABrowser(c.dss.base, req.URL)) {
		return reply, x, nil
	}
	body, ok := rewound(req)
	if !ok {
		return reply, x, nil
	}
	next, err := c.as.current(req.Context())
	if err != nil {
		reply.Body.Close()
		return nil, nil, err
	}
	if next.secret() == used.secret() {
		return reply, x, nil
	}
	discard(reply.Body)
	x = &exchange{used: next}
	if reply, err = c.send(req, body, x); err == nil && c.as.tickets != nil && rejectsCredentials(reply) {
		x.judge(true)
		c.as.tickets.forget(next)
	}
	return reply, x, err
}

// admit refuses requests of callers that may not be sent.
func (c *Client) admit(req *http.Request) error {
	if err := c.check(); err != nil {
		return err
	}
	// net/http takes "" for GET.
	if req.Method != "" && !isMethod(req.Method) {
		return errMethod
	}
	return checkTarget(c.dss.base, req.URL)
}

// isMethod reports whether calls may have this method. In particular TRACE is
// refused: its reply is the request, credentials included.
func isMethod(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return true
	}
	return false
}

var errMethod = errors.New("the method is refused: it must be GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS")

// checkTarget refuses URLs that are not base or below it.
func checkTarget(base, u *url.URL) error {
	if u == nil || u.Opaque != "" || u.User != nil {
		return errors.New("the request's URL is not a plain one")
	}
	if !strings.EqualFold(u.Scheme, base.Scheme) || authority(u) != authority(base) {
		// Without the URL: a library may have it from a redirect.
		return fmt.Errorf("a request to another place is refused: this client calls %s only", base)
	}
	escaped := u.EscapedPath()
	if !strings.HasPrefix(escaped+"/", base.EscapedPath()+"/") {
		return fmt.Errorf("a request outside %s is refused", base)
	}
	if err := checkPath(escaped); err != nil {
		return fmt.Errorf("the request's path: %w", err)
	}
	return nil
}

// authority returns host and port of u, for a comparison.
func authority(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[strings.ToLower(u.Scheme)]
	}
	return strings.ToLower(u.Hostname()) + ":" + port
}

// send is the last step before the wire.
func (c *Client) send(req *http.Request, body io.ReadCloser, x *exchange) (*http.Response, error) {
	// A transport must not change a request. Even so the URL is a copy, since
	// it was checked and may be sent again.
	out := req.WithContext(x.traced(req.Context()))
	u := *req.URL
	out.URL = &u
	sent := &sentBody{ReadCloser: body}
	if out.Body = body; body != nil && body != http.NoBody && req.GetBody == nil {
		out.Body = sent // other bodies are in memory; net/http sends them in one packet only if it knows that
	}
	out.Host = ""
	out.Trailer = nil // it could hold X-DKU headers, set after the body is sent
	out.Header = withoutCredentials(req.Header)
	if c.as.canRenew() {
		// So that a rejection can be read: Go itself then asks for gzip, and decodes
		// it.
		out.Header.Del("Accept-Encoding")
	}
	if c.dss.callOrigin != "" {
		out.Header.Set(headerCallOrigin, c.dss.callOrigin)
	}
	// A cache before DSS sees no difference between the calls of two visitors
	// with tickets.
	out.Header.Set("Cache-Control", "no-store")
	x.used.set(out.Header)
	ownkey.Note(req.Context(), x.used.number)

	reply, err := x.roundTrip(c.dss.wire, out)
	if err != nil {
		if sent.failed.Load() && req.Context().Err() == nil {
			return nil, &WireError{Kind: kindRequestBody, cause: func() error { return err }}
		}
		return nil, newWireError(req.Context(), err)
	}
	if reply == nil {
		return nil, errors.New("Config.HTTPClient: its Transport returned neither a reply nor an error")
	}
	if reply.Body == nil {
		reply.Body = http.NoBody
	}
	// A connection that was switched to another protocol belongs to the caller,
	// who also writes to it.
	if reply.Body != http.NoBody && reply.StatusCode != http.StatusSwitchingProtocols {
		reply.Body = wireBody{reply.Body, req.Context()}
	}
	// Not out: code that logs the request, or sends it again, would have the
	// credentials.
	reply.Request = req
	return reply, nil
}

// withoutCredentials copies h without the headers that identify the caller,
// that tell a proxy before DSS to drop headers, or that set the end of the
// request.
func withoutCredentials(h http.Header) http.Header {
	kept := make(http.Header, len(h)+3)
	for name, values := range h {
		sent := wireName(name)
		switch sent {
		case "authorization", "cookie", "proxy-authorization",
			"cache-control", "connection", "upgrade", "http2-settings", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding",
			"host", "content-length": // net/http knows these only in their usual spelling, and sends other spellings beside its own
			continue
		}
		if !strings.HasPrefix(sent, dku) {
			kept[name] = append([]string(nil), values...)
		}
	}
	if asksForWebsocket(h) {
		kept.Set("Connection", "Upgrade")
		kept.Set("Upgrade", "websocket")
	}
	return kept
}

// asksForWebsocket reports whether a request with these headers may become a
// websocket. Any other protocol would be a tunnel for calls that pass none of
// these checks.
func asksForWebsocket(h http.Header) bool {
	return isWebsocket(h) && hasToken(h["Connection"], "upgrade")
}

func isWebsocket(h http.Header) bool {
	return len(h["Upgrade"]) == 1 && strings.EqualFold(strings.TrimSpace(h["Upgrade"][0]), "websocket")
}

// wireName returns a header's name as the most lenient server reads it: in any
// case, and with underscores for hyphens.
func wireName(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), "_", "-")
}

// isDKU reports whether a header tells DSS which user to act as, or may do so
// in a later version.
func isDKU(name string) bool { return strings.HasPrefix(wireName(name), dku) }

const dku = "x-dku-"

func hasToken(values []string, token string) bool {
	for _, value := range values {
		for part := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

// rejectsCredentials reports whether DSS does not know the ticket or the key,
// or the browser that it was asked about. The reply can still be read from its
// start.
func rejectsCredentials(reply *http.Response) bool {
	if reply.StatusCode != http.StatusUnauthorized {
		return false
	}
	start, err := io.ReadAll(io.LimitReader(reply.Body, maxErrorBytes))
	rest := io.Reader(reply.Body)
	if err != nil {
		rest = failing{err}
	}
	reply.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(start), rest), reply.Body}
	kind, _, ok := parseErrorBody(start)
	return ok && kind == notAuthenticated
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// rewound returns a request's body from its start, to send it again, if that
// is possible.
func rewound(req *http.Request) (io.ReadCloser, bool) {
	if req.Body == nil || req.Body == http.NoBody {
		return req.Body, true
	}
	if req.GetBody == nil {
		return nil, false
	}
	body, err := req.GetBody()
	return body, err == nil
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

const maxDiscardedBytes = 64 << 10

// discard reads a little of the rest, so that the connection can be used again,
// and closes the body.
func discard(body io.ReadCloser) {
	io.Copy(io.Discard, io.LimitReader(body, maxDiscardedBytes))
	body.Close()
}
