package dss_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

// chain returns an error and all errors that it wraps.
func chain(err error) []error {
	all := []error{err}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			all = append(all, chain(inner)...)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			all = append(all, chain(inner)...)
		}
	}
	return all
}

// shown prints an error and all errors that it wraps: alone, and inside a
// value where fmt does not call their methods.
func shown(err error) string {
	var out strings.Builder
	for _, e := range chain(err) {
		out.WriteString(prints(e))
		out.WriteString(prints(struct{ err error }{e}))
		out.WriteString(prints(&struct{ inner any }{struct{ err error }{e}}))
		var reply *dss.Error
		if errors.As(e, &reply) {
			out.WriteString(prints(*reply))
			out.WriteString(prints(struct{ reply dss.Error }{*reply}))
			out.WriteString(prints(struct{ reply *dss.Error }{reply}))
		}
		var wire *dss.WireError
		if errors.As(e, &wire) {
			out.WriteString(prints(*wire))
			out.WriteString(prints(struct{ wire dss.WireError }{*wire}))
		}
	}
	return out.String()
}

// Credentials of a visitor, and of the application, in one request.
const (
	cookieOfTests = "canary%2Dc00kie=\"canary+c00kie\""
	bearerOfTests = "canary-b3arer"
	loginOfTests  = "canary-l0gin"
)

// echoes are the forms in which a DSS, or a proxy, can repeat a request's
// bytes.
func echoes(t testing.TB, request string) map[string]string {
	quoted, err := json.Marshal(request)
	require.NoError(t, err)
	return map[string]string{
		"as it was":                      request,
		"in one line":                    strings.Join(strings.Fields(request), " "),
		"quoted":                         string(quoted),
		"a decoded key":                  "Unknown key " + testKey,
		"a decoded cookie":               "no session canary-c00kie",
		"a truncated cookie":             "no session canary-c0…",
		"a part that looks like a class": "canary",
		"a login":                        "user does not exist: " + loginOfTests,
	}
}

// unsaid returns the texts that no error may show in any form.
func unsaid() []string {
	return []string{
		"canary", "c00kie", "b3arer", "l0gin", testKey, testKey[:12], base64.StdEncoding.EncodeToString([]byte(testKey))[:12],
		fmt.Sprintf("%x", "canary"), fmt.Sprintf("%X", "canary"), strings.Trim(fmt.Sprint([]byte("canary")), "[]"),
		"malformed", "net/http", "transfer encoding", // net/http's own words before a quote
	}
}

// quotes returns the part of a text that shows one of these, or "".
func quotes(text string, secrets ...string) string {
	for _, secret := range secrets {
		if i := strings.Index(text, secret); i >= 0 {
			return text[max(0, i-100):min(len(text), i+100)]
		}
	}
	return ""
}

// echoServer sends the request back, in the form of format.
func echoServer(t *testing.T, format string, form string) string {
	url, _ := rawDSS(t, func(conn net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		body, _ := io.ReadAll(r.Body)
		said := echoes(t, string(body)+fmt.Sprint(r.URL, r.Header))[form]
		io.WriteString(conn, strings.ReplaceAll(format, "ECHO", said))
	})
	return url
}

// callsThatFail are the ways to call DSS, with credentials of all kinds.
func callsThatFail(t *testing.T, c *dss.Client, url string) map[string]error {
	browser := http.Header{"Cookie": {cookieOfTests}, "Authorization": {"Bearer " + bearerOfTests}}
	var out struct {
		A int
		B time.Time
	}
	errs := map[string]error{
		"auth info":    second(c.AuthInfo(t.Context())),
		"browser":      second(c.AuthInfoFromBrowserHeaders(t.Context(), browser)),
		"ticket":       second(c.TicketFromBrowserHeaders(t.Context(), browser)),
		"user":         second(c.User(t.Context(), loginOfTests)),
		"settings":     second(c.OwnSettings(t.Context())),
		"do":           c.Do(t.Context(), "POST", "/x?key="+bearerOfTests, map[string]string{"a": cookieOfTests}, &out),
		"do, streamed": c.Do(t.Context(), "POST", "/x", strings.NewReader(cookieOfTests), new(strings.Builder)),
	}
	req, err := http.NewRequestWithContext(t.Context(), "POST", url+"/dip/publicapi/x", strings.NewReader(cookieOfTests))
	require.NoError(t, err)
	reply, err := c.Transport().RoundTrip(req)
	if err == nil {
		_, err = io.ReadAll(reply.Body)
		reply.Body.Close()
	}
	errs["transport"] = err
	req, err = http.NewRequestWithContext(t.Context(), "POST", url+"/dip/publicapi/x", strings.NewReader(cookieOfTests))
	require.NoError(t, err)
	reply, err = (&http.Client{Transport: c.Transport()}).Do(req)
	if err == nil {
		_, err = io.ReadAll(reply.Body)
		reply.Body.Close()
	}
	errs["an http.Client"] = err
	return errs
}

// net/http's errors quote a reply, and a reply can repeat the request.
func TestNoErrorQuotesAReply(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, format := range map[string]string{
		"in place of HTTP":           "ECHO\r\n\r\n",
		"as the version":             "ECHO 200 OK\r\n\r\n",
		"as the status":              "HTTP/1.1 ECHO\r\n\r\n",
		"as a header":                ok + "ECHO\r\n\r\n",
		"as a header's name":         ok + "ECHO: 1\r\n\r\n",
		"as the length":              ok + "Content-Length: ECHO\r\n\r\n",
		"as one of two lengths":      ok + "Content-Length: 5\r\nContent-Length: ECHO\r\n\r\n",
		"as the encoding":            ok + "Transfer-Encoding: ECHO\r\n\r\n",
		"as a chunk's size":          ok + "Transfer-Encoding: chunked\r\n\r\nECHO\r\n",
		"as a trailer":               ok + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nECHO\r\n\r\n",
		"as bytes that are not gzip": ok + "Content-Encoding: gzip\r\nContent-Length: 40\r\n\r\nECHO",
		"as a body":                  ok + "\r\nECHO",
		"as a number":                ok + "\r\n{\"A\": 1e400, \"login\": 7, \"authIdentifier\": 7, \"msg\": 7, \"ECHO\": 1}",
		"as a time":                  ok + "\r\n{\"B\": \"canary\", \"login\": [\"canary\"], \"authIdentifier\": {\"canary\": 1}, \"msg\": \"<canary>\", \"secrets\": 1}",
		"as a body cut short":        ok + "Content-Length: 100000\r\n\r\n{\"a\": \"ECHO",
		"as a redirect's target":     "HTTP/1.1 302 Found\r\nLocation: https://canary-c00kie.example/ECHO\r\n\r\n",
		"as a redirect's host":       "HTTP/1.1 307 Found\r\nLocation: https://ECHO\r\n\r\n",
		"as a reason":                "HTTP/1.1 500 ECHO\r\n\r\nECHO",
		"as an error's class":        "HTTP/1.1 500 E\r\n\r\n{\"errorType\": \"ECHO\", \"message\": \"ECHO\", \"detailedMessage\": \"ECHO\"}",
		"as an error's message":      "HTTP/1.1 401 E\r\n\r\n{\"errorType\": \"x.E\", \"message\": \"ECHO\"}",
		"as a page":                  "HTTP/1.1 502 E\r\n\r\n<h1>ECHO</h1>",
		"as a time to retry":         "HTTP/1.1 429 E\r\nRetry-After: ECHO\r\n\r\n",
		"as a protocol to switch to": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ECHO\r\n\r\nECHO",
	} {
		t.Run(name, func(t *testing.T) {
			for form := range echoes(t, "") {
				url := echoServer(t, format, form)
				for what, err := range callsThatFail(t, newClient(t, url), url) {
					if err == nil {
						continue // the reply is valid, or the caller wanted only bytes
					}
					if what == "an http.Client" && strings.Contains(format, "Location") {
						continue // this library follows redirects by itself, and quotes the target
					}
					if form == "a part that looks like a class" && name == "as an error's class" {
						continue
					}
					assert.Empty(t, quotes(shown(err), unsaid()...), "%s, %s", form, what)
				}
			}
		})
	}
}

// A program that asks for the cause gets it.
func TestTheCauseIsFound(t *testing.T) {
	url := echoServer(t, "HTTP/1.1 200 OK\r\nECHO\r\n\r\n", "in one line")
	_, err := newClient(t, url).AuthInfoFromBrowserHeaders(t.Context(), http.Header{"Cookie": {cookieOfTests}})
	var protocol textproto.ProtocolError
	require.ErrorAs(t, err, &protocol)
	assert.Contains(t, protocol.Error(), "malformed MIME header")
	var wire *dss.WireError
	require.ErrorAs(t, err, &wire)
	assert.Equal(t, "no reply that can be understood", wire.Kind)
	assert.NoError(t, errors.Unwrap(wire))
	assert.NotErrorIs(t, new(dss.WireError), io.EOF, "one without a cause")
	assert.False(t, errors.As(new(dss.WireError), &protocol), "one without a cause")
}

func TestFaultsOfTheWireAreNamed(t *testing.T) {
	trusted, other := issue(t, nil, authority), issue(t, nil, authority)
	overTLS := func(shown issuer, roots *x509.CertPool) func(*testing.T) dss.Config {
		return func(t *testing.T) dss.Config { return dss.Config{URL: newTLSRecorder(t, shown).URL, RootCAs: roots} }
	}
	raw := func(answer func(net.Conn)) func(*testing.T) dss.Config {
		return func(t *testing.T) dss.Config {
			url, _ := rawDSS(t, answer)
			return dss.Config{URL: url}
		}
	}
	by := func(err error) func(*testing.T) dss.Config {
		return func(*testing.T) dss.Config {
			return dss.Config{URL: "https://dss.example", HTTPClient: &http.Client{Transport: fakeTransport(
				func(*http.Request) (*http.Response, error) { return nil, err })}}
		}
	}
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	is := func(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }
	for name, row := range map[string]struct {
		where func(*testing.T) dss.Config
		kind  string
		cause func(error) bool
	}{
		"nothing listens": {func(t *testing.T) dss.Config {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			require.NoError(t, l.Close())
			return dss.Config{URL: "http://" + l.Addr().String()}
		}, "cannot connect: the connection is refused", is(syscall.ECONNREFUSED)},
		"there is no route":       {by(dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH))), "cannot connect: there is no route", is(syscall.EHOSTUNREACH)},
		"there is no network":     {by(dial(syscall.ENETUNREACH)), "cannot connect: there is no route", is(syscall.ENETUNREACH)},
		"there is no socket left": {by(dial(syscall.EMFILE)), "cannot connect", is(syscall.EMFILE)},
		"no packet comes back":    {by(dial(os.ErrDeadlineExceeded)), "no connection in time", as[net.Error](net.Error.Timeout)},
		"the proxy is down": {by(&net.OpError{Op: "proxyconnect", Net: "tcp", Err: dial(syscall.ECONNREFUSED)}),
			"cannot connect to the proxy", is(syscall.ECONNREFUSED)},
		"the name is unknown": {by(dial(&net.DNSError{Err: "no such host", Name: "canary.example", IsNotFound: true})),
			"the name is not found", as(func(e *net.DNSError) bool { return e.IsNotFound })},
		"an expired certificate": {overTLS(issue(t, &trusted, expired), trusted.pool()), "TLS: the certificate has expired, or is not valid yet",
			as(func(e x509.CertificateInvalidError) bool { return e.Reason == x509.Expired })},
		"a certificate of another name": {overTLS(issue(t, &trusted, forAnother), trusted.pool()), "TLS: the certificate is for another name", as(func(x509.HostnameError) bool { return true })},
		"an unknown authority":          {overTLS(issue(t, &other, forThisMachine), trusted.pool()), "TLS: the certificate is of an unknown authority", as(func(x509.UnknownAuthorityError) bool { return true })},
		"no authorities":                {by(x509.SystemRootsError{Err: errors.New("canary")}), "TLS: there is no list of authorities to trust", as(func(x509.SystemRootsError) bool { return true })},
		"a certificate of another use": {overTLS(issue(t, &trusted, func(c *x509.Certificate) {
			forThisMachine(c)
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}), trusted.pool()), "TLS: the certificate is not valid", as(func(e *tls.CertificateVerificationError) bool { return true })},
		"a server that wants our certificate": {func(t *testing.T) dss.Config {
			server := newTLSRecorder(t, issue(t, &trusted, forThisMachine))
			server.TLS.ClientAuth = tls.RequireAnyClientCert
			return dss.Config{URL: server.URL, RootCAs: trusted.pool()}
		}, "TLS: the other side sent an alert: certificate required", as(func(e *net.OpError) bool { return e.Op == "remote error" })},
		"an unknown alert":         {by(&net.OpError{Op: "remote error", Err: errors.New("canary")}), "TLS: the other side sent an alert", as(func(*net.OpError) bool { return true })},
		"an alert of our own side": {by(&net.OpError{Op: "local error", Err: errors.New("tls: canary")}), "TLS: the handshake failed", as(func(*net.OpError) bool { return true })},
		"an old TLS": {func(t *testing.T) dss.Config {
			server := newTLSRecorder(t, issue(t, &trusted, forThisMachine))
			server.TLS.MinVersion, server.TLS.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
			return dss.Config{URL: server.URL, RootCAs: trusted.pool()}
		}, "TLS: the other side sent an alert: protocol version not supported", as(func(*net.OpError) bool { return true })},
		"http in place of https": {func(t *testing.T) dss.Config {
			return dss.Config{URL: strings.Replace(newRecorder(t, replying(200, aliceInfo)).URL, "http", "https", 1)}
		}, "TLS: the other side does not speak it", as(func(tls.RecordHeaderError) bool { return true })},
		"no TLS at all": {func(t *testing.T) dss.Config {
			url, _ := rawDSS(t, func(c net.Conn) { io.WriteString(c, "220 canary ESMTP\r\n") })
			return dss.Config{URL: strings.Replace(url, "http", "https", 1)}
		}, "TLS: the other side does not speak it", as(func(tls.RecordHeaderError) bool { return true })},
		"a reset":                     {raw(func(c net.Conn) { readRequest(c); reset(c) }), "the connection was reset", is(syscall.ECONNRESET)},
		"a broken pipe":               {by(os.NewSyscallError("write", syscall.EPIPE)), "the connection was reset", is(syscall.EPIPE)},
		"an end before the reply":     {raw(readRequestOnly), "the connection was closed before the reply", is(io.EOF)},
		"an end of a kept connection": {by(errors.New("http: server closed idle connection")), "the connection was closed before the reply", nil},
		"an end within the head":      {raw(func(c net.Conn) { readRequest(c); io.WriteString(c, "HTTP/1.1 200 OK\r\nA: b\r\n") }), "the reply is cut short", is(io.ErrUnexpectedEOF)},
		"an end within the body": {raw(func(c net.Conn) { readRequest(c); io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{") }),
			"reading the reply: the reply is cut short", is(io.ErrUnexpectedEOF)},
		"a reset within the body": {func(t *testing.T) dss.Config {
			return bodyOf(t, func() error { return &net.OpError{Op: "read", Err: syscall.ECONNRESET} })
		}, "reading the reply: the connection was reset", is(syscall.ECONNRESET)},
		"broken gzip": {raw(func(c net.Conn) {
			readRequest(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 12\r\n\r\nhello canary")
		}), "reading the reply: no reply that can be understood", is(gzip.ErrHeader)},
		"no HTTP":                           {raw(func(c net.Conn) { readRequest(c); io.WriteString(c, "220 canary ESMTP\r\n") }), "no reply that can be understood", nil},
		"an unknown error":                  {by(errors.New("canary")), "no reply that can be understood", nil},
		"no reply in time":                  {by(context.DeadlineExceeded), "no reply in time", is(context.DeadlineExceeded)},
		"no reply's head in time":           {by(timeoutError{}), "no reply in time", as[net.Error](net.Error.Timeout)},
		"no reply's body in time":           {func(t *testing.T) dss.Config { return bodyOf(t, func() error { return context.DeadlineExceeded }) }, "reading the reply: no reply in time", is(context.DeadlineExceeded)},
		"a call that is cancelled":          {by(context.Canceled), "the call was cancelled", is(context.Canceled)},
		"a call cancelled within the reply": {func(t *testing.T) dss.Config { return bodyOf(t, func() error { return context.Canceled }) }, "reading the reply: the call was cancelled", is(context.Canceled)},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := row.where(t)
			cfg.APIKey = testKey
			c, err := dss.New(cfg)
			require.NoError(t, err)
			t.Cleanup(c.CloseIdleConnections)
			_, err = c.AuthInfoFromBrowserHeaders(t.Context(), http.Header{"Cookie": {cookieOfTests}})
			assert.EqualError(t, err, "dss: POST /auth/info-from-browser-headers: "+row.kind)
			var wire *dss.WireError
			require.ErrorAs(t, err, &wire)
			assert.True(t, strings.HasSuffix(row.kind, wire.Kind), "%q", wire.Kind)
			assert.True(t, row.cause == nil || row.cause(err), "the cause is not found")
			var reply *dss.Error
			assert.False(t, errors.As(err, &reply))
			assert.Empty(t, quotes(shown(err), "canary"))
		})
	}
}

// as finds an error of a type in another one, and checks it.
func as[E error](ask func(E) bool) func(error) bool {
	return func(err error) bool {
		var e E
		return errors.As(err, &e) && ask(e)
	}
}

func readRequestOnly(c net.Conn) { readRequest(c) }

type timeoutError struct{}

func (timeoutError) Error() string   { return "canary: timeout awaiting response headers" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

// bodyOf is a DSS whose replies' bodies fail.
func bodyOf(_ *testing.T, err func() error) dss.Config {
	return dss.Config{URL: "https://dss.example", HTTPClient: &http.Client{Transport: fakeTransport(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(failingReader{err()})}, nil
	})}}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// A context can end with any cause, and net/http returns that cause.
func TestCausesOfAContextAreNotQuoted(t *testing.T) {
	canary := errors.New("canary")
	server := newRecorder(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	for name, row := range map[string]struct {
		ctx  func() (context.Context, context.CancelFunc)
		want string
	}{
		"a deadline": {func() (context.Context, context.CancelFunc) {
			return context.WithTimeoutCause(t.Context(), 20*time.Millisecond, canary)
		}, "no reply in time"},
		"a cancellation": {func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(canary)
			return ctx, func() {}
		}, "the call was cancelled"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := row.ctx()
			defer cancel()
			_, err := server.client(t).AuthInfo(ctx)
			assert.EqualError(t, err, "dss: GET /auth/info: "+row.want)
			assert.ErrorIs(t, err, canary)
			assert.Empty(t, quotes(shown(err), "canary"))
		})
	}
}

// A caller's readers and writers are not the wire. Their errors can quote the
// bytes that go through them.
func TestCallersReadersAndWritersAreNotQuoted(t *testing.T) {
	canary := errors.New("canary")
	server := newRecorder(t, replying(http.StatusOK, aliceInfo))
	c := server.client(t)
	for want, err := range map[string]error{
		"dss: POST /x: the request's body cannot be read":                           c.Do(t.Context(), "POST", "/x", failingReader{canary}, nil),
		"dss: GET /x: passing on the reply: the io.Writer failed":                   c.Do(t.Context(), "GET", "/x", nil, failingWriter{canary}),
		"dss: POST /x: in: dss_test.unwritable cannot be written as JSON":           c.Do(t.Context(), "POST", "/x", unwritable{canary}, nil),
		"dss: GET /x: unexpected reply: the body does not fit *dss_test.unreadable": c.Do(t.Context(), "GET", "/x", nil, &unreadable{canary}),
	} {
		assert.EqualError(t, err, want)
		assert.ErrorIs(t, err, canary)
		assert.Empty(t, quotes(shown(err), "canary"))
	}
	assert.ErrorIs(t, c.Do(t.Context(), "GET", "/x", nil, shortWriter{}), io.ErrShortWrite)

	req, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+"/x", io.NopCloser(failingReader{canary}))
	require.NoError(t, err)
	_, err = c.Transport().RoundTrip(req)
	assert.EqualError(t, err, "dss: the request's body cannot be read")
	assert.ErrorIs(t, err, canary)
}

type unwritable struct{ err error }

func (u unwritable) MarshalJSON() ([]byte, error) { return nil, u.err }

type unreadable struct{ err error }

func (u *unreadable) UnmarshalJSON([]byte) error { return u.err }

type shortWriter struct{}

func (shortWriter) Write(p []byte) (int, error) { return len(p) - 1, nil }

// encoding/json quotes numbers, and a body that is not JSON.
func TestUndecodableRepliesAreNotQuoted(t *testing.T) {
	for body, want := range map[string]string{
		`{"A": 4815162342}`: "a value in the body does not fit int8",
		`{"A": "canary"}`:   "a value in the body does not fit int8",
		`{"T": "canary"}`:   "the body does not fit *struct { A int8; T time.Time }",
		`canary`:            "the body is not JSON",
	} {
		var out struct {
			A int8
			T time.Time
		}
		err := fakeClient(t, func(*http.Request) (*http.Response, error) { return reply(200, body), nil }).Do(t.Context(), "GET", "/x", nil, &out)
		assert.EqualError(t, err, "dss: GET /x: unexpected reply: "+want)
		assert.ErrorIs(t, err, dss.ErrUnexpectedReply)
		assert.Empty(t, quotes(shown(err), "canary"))
		assert.Empty(t, quotes(shown(err), "4815162342"))
	}
}

// httputil.ReverseProxy and others compare the error at a body's end with ==,
// not with errors.Is.
func TestCommonErrorsOfABodyAreUnchanged(t *testing.T) {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, context.Canceled, context.DeadlineExceeded} {
		c := fakeClient(t, func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: io.NopCloser(failingReader{end})}, nil
		})
		req, err := http.NewRequestWithContext(t.Context(), "GET", "https://dss.example/x", nil)
		require.NoError(t, err)
		got, err := c.Transport().RoundTrip(req)
		require.NoError(t, err)
		_, err = got.Body.Read(make([]byte, 1))
		assert.Equal(t, end, err)
	}
}

// A proxy gives its reason in words, and these words are not ours.
func TestProxysRefusalIsNotQuoted(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if assert.NoError(t, err) {
			io.WriteString(conn, "HTTP/1.1 407 canary\r\n\r\n")
			conn.Close()
		}
	}))
	t.Cleanup(proxy.Close)
	c, err := dss.New(dss.Config{URL: "https://dss.example", APIKey: testKey, HTTPClient: &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(parse(t, proxy.URL))}}})
	require.NoError(t, err)
	_, err = c.AuthInfo(t.Context())
	assert.EqualError(t, err, "dss: GET /auth/info: no reply that can be understood")
	assert.Empty(t, quotes(shown(err), "canary"))
}

func TestCallIsRetriedAfterKeptConnectionEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		c := fakeClient(t, func(*http.Request) (*http.Response, error) {
			if sent++; sent == 1 {
				return nil, errors.New("http: server closed idle connection")
			}
			return reply(200, aliceInfo), nil
		})
		_, err := c.AuthInfoFromBrowserHeaders(t.Context(), http.Header{"Cookie": {"a=1"}})
		assert.NoError(t, err)
		assert.Equal(t, 2, sent)
	})
}

// On a transport of the caller's, net/http logs by itself, and this package
// cannot prevent it. SECURITY.md shows how to stop it.
func TestNetHTTPLogsUnsolicitedReplies(t *testing.T) {
	known := make(chan struct{})
	url, _ := rawDSS(t, func(conn net.Conn) {
		readRequest(conn)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(aliceInfo), aliceInfo)
		<-known
		io.WriteString(conn, "HTTP/1.1 200 canary\r\n\r\n")
	})
	lines := make(lineChannel, 1)
	writer := log.Writer()
	t.Cleanup(func() { log.SetOutput(writer) })
	log.SetOutput(lines)
	c, err := dss.New(dss.Config{URL: url, APIKey: testKey, HTTPClient: &http.Client{Transport: &http.Transport{}}})
	require.NoError(t, err)
	t.Cleanup(c.CloseIdleConnections)
	_, err = c.AuthInfo(t.Context())
	close(known)
	require.NoError(t, err)
	assert.Contains(t, <-lines, `Unsolicited response received on idle HTTP channel starting with "HTTP/1.1 200 canary`)
}

// lineChannel is a writer that passes each write on.
type lineChannel chan string

func (c lineChannel) Write(line []byte) (int, error) {
	c <- string(line)
	return len(line), nil
}
