package dss_test

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

func basic(key string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(key+":")) }

// credentialHeaders are the headers that identify a caller, in spellings that a
// server may read.
func credentialHeaders(h http.Header) map[string][]string {
	found := map[string][]string{}
	for name, values := range h {
		plain := strings.ReplaceAll(strings.ToLower(name), "_", "-")
		if strings.HasPrefix(plain, "x-dku-") || plain == "authorization" || plain == "cookie" || plain == "proxy-authorization" {
			found[plain] = append(found[plain], values...)
		}
	}
	return found
}

// hostile is a request whose sender tries to act as somebody else.
func hostile(t testing.TB, url string) *http.Request {
	req, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader("body"))
	require.NoError(t, err)
	req.Header = http.Header{
		"Authorization":       {"Bearer someone"},
		"Proxy-Authorization": {"Bearer someone"},
		"Cookie":              {"session=someone"},
		"X-Dku-Proxyuser":     {"admin"},
		"x-dku-proxyuser":     {"admin"},
		"X_DKU_PROXYUSER":     {"admin"},
		"X-DKU_ProxyUser":     {"admin"},
		"X-Dku-Apiticket":     {"stolen"},
		"authorization":       {"Bearer someone"},
		"Connection":          {"X-DKU-ProxyUser, Authorization", "X-DKU-APITicket"},
		"X-Harmless":          {"1", "2"},
	}
	req.Host = "evil.example"
	req.Trailer = http.Header{"X-Dku-Proxyuser": {"admin"}}
	return req
}

func TestTransportSetsTheCredentialsLast(t *testing.T) {
	server := newRecorder(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "as DSS sent it")
	})
	c := server.client(t)
	asBob, err := c.As("bob")
	require.NoError(t, err)
	byTicket, err := c.WithTicket("ticket-of-bob")
	require.NoError(t, err)

	for name, row := range map[string]struct {
		client *dss.Client
		want   map[string][]string
	}{
		"as itself":   {c, map[string][]string{"authorization": {basic(testKey)}}},
		"as a user":   {asBob, map[string][]string{"authorization": {basic(testKey)}, "x-dku-proxyuser": {"bob"}}},
		"by a ticket": {byTicket, map[string][]string{"x-dku-apiticket": {"ticket-of-bob"}}},
	} {
		t.Run(name, func(t *testing.T) {
			req := hostile(t, server.URL+"/dip/publicapi/x?y=z")
			// With this spelling, net/http would send them beside its own.
			for _, name := range []string{"host", "content-length", "Content_Length"} {
				req.Header[name] = []string{"0"}
			}
			before := req.Header.Clone()
			reply, err := row.client.Transport().RoundTrip(req)
			require.NoError(t, err)
			defer reply.Body.Close()
			body, err := io.ReadAll(reply.Body)
			require.NoError(t, err)
			assert.Equal(t, "as DSS sent it", string(body))
			assert.Equal(t, http.StatusTeapot, reply.StatusCode)

			sent := server.last(t)
			assert.Equal(t, row.want, credentialHeaders(sent.Header))
			assert.Empty(t, sent.Header["Connection"])
			assert.NotContains(t, sent.Header, "Content_length")
			assert.Same(t, req, reply.Request, "the one that was sent has the credentials")
			assert.Equal(t, []string{"1", "2"}, sent.Header["X-Harmless"])
			assert.Equal(t, "/dip/publicapi/x?y=z", sent.Target)
			assert.Equal(t, "body", sent.Body)
			assert.Equal(t, strings.TrimPrefix(server.URL, "http://"), sent.Host)
			assert.Equal(t, before, req.Header, "the caller's request")
			assert.Equal(t, "evil.example", req.Host, "the caller's request")
		})
	}
}

// A trailer comes after the headers, in a chunked body, and some servers read it
// as one more header.
func TestTransportSendsNoTrailer(t *testing.T) {
	server := newRecorder(t, func(_ http.ResponseWriter, r *http.Request) { assert.Empty(t, r.Trailer) })
	req := hostile(t, server.URL+"/x")
	req.Body, req.GetBody, req.ContentLength = io.NopCloser(strings.NewReader("body")), nil, -1
	reply, err := server.client(t).Transport().RoundTrip(req)
	require.NoError(t, err)
	reply.Body.Close()
	assert.Equal(t, "body", server.last(t).Body)
}

func TestTransportRefusesOtherPlaces(t *testing.T) {
	server := newRecorder(t, replying(http.StatusOK, "canary"))
	elsewhere := newRecorder(t, replying(http.StatusOK, "canary"))
	c, err := dss.New(dss.Config{URL: server.URL + "/dss", APIKey: testKey})
	require.NoError(t, err)
	t.Cleanup(c.CloseIdleConnections)
	host := strings.TrimPrefix(server.URL, "http://")
	for name, row := range map[string]struct {
		url  *url.URL
		want string
	}{
		"another host":          {parse(t, elsewhere.URL+"/dss/x?token=canary"), "this client calls " + server.URL + "/dss only"},
		"another scheme":        {parse(t, "https://"+host+"/dss/x"), "this client calls " + server.URL + "/dss only"},
		"no host":               {parse(t, "/dss/x"), "this client calls " + server.URL + "/dss only"},
		"no URL":                {nil, "the request's URL is not a plain one"},
		"user info":             {parse(t, "http://me:canary@"+host+"/dss/x"), "the request's URL is not a plain one"},
		"an opaque URL":         {&url.URL{Scheme: "http", Host: host, Opaque: "//evil.example/dss/x"}, "the request's URL is not a plain one"},
		"outside its path":      {parse(t, server.URL+"/other/x"), "a request outside " + server.URL + "/dss is refused"},
		"a path that is longer": {parse(t, server.URL+"/dssx"), "a request outside " + server.URL + "/dss is refused"},
		"no path":               {parse(t, server.URL), "a request outside " + server.URL + "/dss is refused"},
		"dots":                  {parse(t, server.URL+"/dss/../x"), "dot segments are not allowed"},
		"escaped dots":          {parse(t, server.URL+"/dss/%2e%2e/x"), "dot segments are not allowed"},
		"dots and a semicolon":  {parse(t, server.URL+"/dss/..;/x"), "dot segments are not allowed"},
		"an empty segment":      {parse(t, server.URL+"/dss//x"), "an empty segment (//) is not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			body := &closing{Reader: strings.NewReader("body")}
			req := (&http.Request{Method: "POST", URL: row.url, Header: http.Header{}, Body: body}).WithContext(t.Context())
			_, err := c.Transport().RoundTrip(req)
			assert.ErrorContains(t, err, "dss: ")
			assert.ErrorContains(t, err, row.want)
			assert.NotContains(t, err.Error(), "canary")
			assert.True(t, body.closed, "a RoundTripper closes the body")
		})
	}
	assert.Empty(t, server.requests())
	assert.Empty(t, elsewhere.requests())
}

type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error {
	c.closed = true
	return nil
}

func parse(t testing.TB, s string) *url.URL {
	u, err := url.Parse(s)
	require.NoError(t, err)
	return u
}

// A transport of the caller's may be wrong, and a read is sent twice.
func TestSecondReadHasTheOriginalURL(t *testing.T) {
	var sent []string
	c := fakeClient(t, func(req *http.Request) (*http.Response, error) {
		sent = append(sent, req.URL.String())
		req.URL.Host, req.URL.Path = "evil.example", "/"
		return nil, io.EOF
	})
	_, err := c.AuthInfo(t.Context())
	require.Error(t, err)
	const url = "https://dss.example/dip/publicapi/auth/info?withSecrets=False"
	assert.Equal(t, []string{url, url}, sent)
}

func TestTransportAcceptsOtherSpellingsOfThePlace(t *testing.T) {
	c := fakeClient(t, func(*http.Request) (*http.Response, error) { return reply(200, "ok"), nil })
	for _, url := range []string{"https://dss.example/dip/publicapi/x", "https://DSS.example:443/x", "https://dss.example"} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		require.NoError(t, err)
		_, err = c.Transport().RoundTrip(req)
		assert.NoError(t, err, url)
	}
}

// A client that follows redirects by itself must not send credentials to
// another host.
func TestRedirectDoesNotTakeCredentialsElsewhere(t *testing.T) {
	elsewhere := newRecorder(t, replying(http.StatusOK, "ok"))
	server := newRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/x", http.StatusTemporaryRedirect)
	})
	asBob, err := server.client(t).As("bob")
	require.NoError(t, err)
	library := &http.Client{Transport: asBob.Transport()}
	_, err = library.Post(server.URL+"/dip/publicapi/x", "text/plain", strings.NewReader("body"))
	assert.ErrorContains(t, err, "this client calls "+server.URL+" only")
	assert.Empty(t, elsewhere.requests())
	library.CloseIdleConnections()
}

// A reverse proxy removes the headers that Connection names. Credentials that
// were set before it would be lost, and the call would be the administrator's.
func TestReverseProxyDoesNotDropCredentials(t *testing.T) {
	server := newRecorder(t, replying(http.StatusOK, "ok"))
	asBob, err := server.client(t).As("bob")
	require.NoError(t, err)
	target := parse(t, server.URL)
	styles := map[string]*httputil.ReverseProxy{
		"Rewrite": {Transport: asBob.Transport(), Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }},
		"Director": {Transport: asBob.Transport(), Director: func(r *http.Request) { //nolint:staticcheck // the older style is used widely
			r.URL.Scheme, r.URL.Host = target.Scheme, target.Host
		}},
	}
	for name, proxy := range styles {
		t.Run(name, func(t *testing.T) {
			front := httptest.NewServer(proxy)
			t.Cleanup(front.Close)
			for _, connection := range []string{"", "X-DKU-ProxyUser, Authorization", "close, x-dku-proxyuser", "Upgrade, X-DKU-ProxyUser"} {
				req := hostile(t, front.URL+"/dip/publicapi/x")
				req.Header.Set("Connection", connection)
				if strings.HasPrefix(connection, "Upgrade") {
					req.Header.Set("Upgrade", "websocket")
				}
				reply, err := http.DefaultClient.Do(req)
				require.NoError(t, err)
				reply.Body.Close()
				sent := server.last(t)
				assert.Equal(t, map[string][]string{"authorization": {basic(testKey)}, "x-dku-proxyuser": {"bob"}}, credentialHeaders(sent.Header), connection)
				assert.NotContains(t, strings.ToLower(strings.Join(sent.Header["Connection"], ",")), "dku")
				assert.Equal(t, target.Host, sent.Host)
			}
		})
	}
	http.DefaultClient.CloseIdleConnections()
}

// switching is a DSS that switches to a protocol and then sends a line back.
func switching(t *testing.T, protocol string) *recorder {
	return newRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if !assert.NoError(t, err) {
			return
		}
		defer conn.Close()
		buffered.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + protocol + "\r\n\r\n")
		buffered.Flush()
		line, _ := buffered.ReadString('\n')
		buffered.WriteString(line)
		buffered.Flush()
	})
}

func TestWebsocketUpgradeWorks(t *testing.T) {
	for _, spelling := range []string{"websocket", "WebSocket", " WEBSOCKET "} {
		server := switching(t, "WebSocket")
		asBob, err := server.client(t).As("bob")
		require.NoError(t, err)
		req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/dip/publicapi/x", nil)
		require.NoError(t, err)
		req.Header.Set("Connection", "keep-alive, upgrade, X-DKU-ProxyUser")
		req.Header.Set("Upgrade", spelling)
		req.Header.Set("Sec-WebSocket-Key", "key")
		reply, err := asBob.Transport().RoundTrip(req)
		require.NoError(t, err)
		defer reply.Body.Close()
		require.Equal(t, http.StatusSwitchingProtocols, reply.StatusCode)
		sent := server.last(t)
		assert.Equal(t, []string{"Upgrade"}, sent.Header["Connection"])
		assert.Equal(t, []string{"websocket"}, sent.Header["Upgrade"])
		assert.Equal(t, "key", sent.Header.Get("Sec-WebSocket-Key"))
		assert.Equal(t, "bob", sent.Header.Get("X-DKU-ProxyUser"))
		conn := reply.Body.(io.ReadWriter)
		_, err = io.WriteString(conn, "hello\n")
		require.NoError(t, err)
		line := make([]byte, 6)
		_, err = io.ReadFull(conn, line)
		require.NoError(t, err)
		assert.Equal(t, "hello\n", string(line))
	}
}

// A tunnel of another protocol would carry unchecked calls.
func TestOtherProtocolsAreRefused(t *testing.T) {
	for name, headers := range map[string]http.Header{
		"h2c":                                   {"Connection": {"Upgrade, HTTP2-Settings"}, "Upgrade": {"h2c"}, "Http2-Settings": {"AAMAAABk"}},
		"its settings, oddly spelled":           {"Connection": {"Upgrade"}, "Upgrade": {"h2c"}, "HTTP2_Settings": {"AAMAAABk"}, "http2-settings": {"AAMAAABk"}},
		"TLS":                                   {"Connection": {"Upgrade"}, "Upgrade": {"TLS/1.2"}},
		"websocket or h2c":                      {"Connection": {"Upgrade"}, "Upgrade": {"websocket, h2c"}},
		"h2c or websocket":                      {"Connection": {"Upgrade"}, "Upgrade": {"h2c", "websocket"}},
		"websocket of a version":                {"Connection": {"Upgrade"}, "Upgrade": {"websocket/13"}},
		"websocket in a list":                   {"Connection": {"Upgrade"}, "Upgrade": {"websocket,"}},
		"nothing by name":                       {"Connection": {"Upgrade"}, "Upgrade": {""}},
		"websocket without Connection: Upgrade": {"Upgrade": {"websocket"}},
		"a protocol that was not asked for":     {},
	} {
		t.Run(name, func(t *testing.T) {
			for _, protocol := range []string{"h2c", "websocket"} {
				server := switching(t, protocol)
				req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/dip/publicapi/x", nil)
				require.NoError(t, err)
				req.Header = headers.Clone()
				_, err = server.client(t).Transport().RoundTrip(req)
				assert.EqualError(t, err, "dss: the reply switches to a protocol that was not asked for")
				sent := server.last(t).Header
				assert.Empty(t, sent["Connection"])
				for name := range sent {
					assert.NotContains(t, strings.ToLower(name), "upgrade")
					assert.NotContains(t, strings.ToLower(name), "settings")
				}
			}
		})
	}

	server := switching(t, "h2c")
	req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/dip/publicapi/x", nil)
	require.NoError(t, err)
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}
	_, err = server.client(t).Transport().RoundTrip(req)
	assert.EqualError(t, err, "dss: the reply switches to a protocol that was not asked for", "websocket was")
}

// The reply to TRACE is the request, with its credentials.
func TestAcceptedMethods(t *testing.T) {
	server := newRecorder(t, replying(http.StatusOK, ""))
	c := server.client(t)
	verified, err := c.AsVerified("alice")
	require.NoError(t, err)
	byTicket := c.WithTicketSource(func(context.Context) (string, error) {
		t.Error("a ticket was fetched for a call that is refused")
		return "ticket", nil
	})
	send := func(c *dss.Client, method string) error {
		body := &closing{Reader: strings.NewReader("")}
		req := (&http.Request{Method: method, URL: parse(t, server.URL+"/x"), Header: http.Header{}, Body: body}).WithContext(t.Context())
		reply, err := c.Transport().RoundTrip(req)
		if err != nil {
			assert.True(t, body.closed, "a RoundTripper closes the body")
			return err
		}
		assert.NoError(t, reply.Body.Close())
		return nil
	}
	const refused = "the method is refused: it must be GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS"
	for _, method := range []string{"TRACE", "trace", "Trace", "CONNECT", "PROPFIND", "PRI", "get", "Get", "post", "GET ", " GET", "GET\r\n", "M-SEARCH", "é", "*"} {
		for _, c := range []*dss.Client{c, verified, byTicket} {
			assert.EqualError(t, send(c, method), "dss: "+refused, "%q", method)
			assert.ErrorContains(t, c.Do(t.Context(), method, "/x", nil, nil), refused, "%q", method)
		}
	}
	assert.EqualError(t, c.Do(t.Context(), "", "/x", nil, nil), "dss: /x: "+refused, "an empty method")
	require.Empty(t, server.requests())

	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		require.NoError(t, send(c, method))
		assert.Equal(t, method, server.last(t).Method)
		require.NoError(t, c.Do(t.Context(), method, "/x", nil, nil))
		assert.Equal(t, method, server.last(t).Method)
	}
	require.NoError(t, send(c, ""))
	assert.Equal(t, "GET", server.last(t).Method, "as net/http says")
}

// A cache before DSS sees no difference between two visitors' calls by ticket.
func TestCallsAreNotCached(t *testing.T) {
	server := newRecorder(t, replying(http.StatusOK, aliceInfo))
	c := server.client(t)
	req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/x", nil)
	require.NoError(t, err)
	req.Header = http.Header{"Cache-Control": {"max-age=60", "public"}, "cache-control": {"public"}, "CACHE_CONTROL": {"public"}}
	reply, err := c.Transport().RoundTrip(req)
	require.NoError(t, err)
	require.NoError(t, reply.Body.Close())
	require.NoError(t, c.Do(t.Context(), "POST", "/x", map[string]int{}, nil))
	require.NoError(t, second(c.AuthInfo(t.Context())))
	require.NoError(t, second(c.AuthInfoFromBrowserHeaders(t.Context(), http.Header{"Cookie": {"a=1"}})))
	for _, sent := range server.requests() {
		assert.Equal(t, []string{"no-store"}, sent.Header["Cache-Control"])
		assert.NotContains(t, sent.Header, "Cache_control")
	}
	assert.Len(t, server.requests(), 4)
}

func TestReplyOverTLSHasItsTLSState(t *testing.T) {
	server, _ := counting(t, true, replying(http.StatusOK, ""))
	req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL, nil)
	require.NoError(t, err)
	reply, err := clientOf(t, server).Transport().RoundTrip(req)
	require.NoError(t, err)
	require.NoError(t, reply.Body.Close())
	require.NotNil(t, reply.TLS)
	assert.Len(t, reply.TLS.PeerCertificates, 1)
}

// The caller's own HTTP client does not decide about redirects, cookies or
// credentials.
func TestCallersHTTPClientDecidesNothingElse(t *testing.T) {
	elsewhere := newRecorder(t, replying(http.StatusOK, aliceInfo))
	server := newRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "kept"})
		http.Redirect(w, r, elsewhere.URL, http.StatusFound)
	})
	own := &http.Client{Transport: &http.Transport{}, Jar: jar{}}
	t.Cleanup(own.CloseIdleConnections)
	c, err := dss.New(dss.Config{URL: server.URL, APIKey: testKey, HTTPClient: own})
	require.NoError(t, err)
	asBob, err := c.As("bob")
	require.NoError(t, err)
	own.Transport = nil // a later change by the caller has no effect
	for range 2 {
		_, err = asBob.AuthInfo(t.Context())
		assert.ErrorContains(t, err, "dss: 302 Found")
		assert.Equal(t, map[string][]string{"authorization": {basic(testKey)}, "x-dku-proxyuser": {"bob"}}, credentialHeaders(server.last(t).Header))
	}
	assert.Empty(t, elsewhere.requests())
	assert.NotNil(t, own.Jar, "it still belongs to the caller")
	c.CloseIdleConnections()
}

type jar struct{}

func (jar) SetCookies(*url.URL, []*http.Cookie) {}
func (jar) Cookies(*url.URL) []*http.Cookie     { return []*http.Cookie{{Name: "session", Value: "jar"}} }
