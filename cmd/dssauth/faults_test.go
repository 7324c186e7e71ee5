package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

func TestSettings(t *testing.T) {
	t.Run("are missing", func(t *testing.T) {
		s := newScene(t)
		s.at("", "")
		s.secrets = nil
		r := s.run("")
		s.shows(r, "problem settings: dss: no DSS is configured", "set DKU_DSS_URL and DKU_API_KEY", "skipped everything else")
		assert.Equal(t, exitProblem, r.code)
	})
	t.Run("are wrong", func(t *testing.T) {
		s := newScene(t)
		s.at("dss.example", "canary-key")
		r := s.run("")
		s.shows(r, "problem settings:", `"dss.example": scheme is required`)
		assert.Equal(t, exitProblem, r.code)
	})
	t.Run("are hidden by the ticket that DSS gave", func(t *testing.T) {
		s := newScene(t)
		s.insideDSS()
		s.fake.AddTicket("canary-ticket", "runner")
		r := s.run("", "-user", "ann")
		s.shows(r, "ok settings: "+s.fake.URL()+", ticket, from DKU_API_TICKET", "DKU_DSS_URL and DKU_API_KEY have no effect")
		s.shows(r, `ok own credentials: to DSS, we are the user "runner"`)
		assert.Equal(t, exitWell, r.code)
	})
}

// insideDSS sets the variables that DSS sets for its processes.
func (s *scene) insideDSS() {
	const ticket = "canary-ticket"
	u, err := url.Parse(s.fake.URL())
	require.NoError(s, err)
	s.Setenv("DKU_API_TICKET", ticket)
	s.Setenv("DKU_BACKEND_PROTOCOL", "http")
	s.Setenv("DKU_BACKEND_HOST", u.Hostname())
	s.Setenv("DKU_BACKEND_PORT", u.Port())
	s.secret(ticket)
}

func TestCredentialsAreRejected(t *testing.T) {
	t.Run("a key that was rotated", func(t *testing.T) {
		s := newScene(t)
		s.fake.RemoveAPIKey(s.key)
		r := s.run("")
		s.shows(r, "ok connection: DSS answers, version 14.3.3, API version 1 problem own credentials: DSS rejects them", "Create a new one", "DKU_API_KEY")
		assert.Equal(t, exitProblem, r.code)
	})
	t.Run("a ticket that has expired", func(t *testing.T) {
		s := newScene(t)
		s.insideDSS()
		r := s.run("")
		s.shows(r, "problem own credentials: DSS rejects them", "restart the webapp or Code Studio")
		assert.Equal(t, exitProblem, r.code)
	})
	t.Run("an answer that we are nobody", func(t *testing.T) {
		s := newScene(t)
		s.fake.Intercept("/auth/info", -1, dsstest.Respond(200, `{"authIdentifier": ""}`))
		s.shows(s.run(""), "problem own credentials: DSS rejects them")
	})
}

// These replies stand in place of DSS's answer about our own user.
func TestNoAnswer(t *testing.T) {
	for name, row := range map[string]struct {
		answer dsstest.Interceptor
		what   string
		fix    string
	}{
		"a redirect":               {dsstest.Respond(302, "", "Location", "https://canary-token.example/login?token=canary-token"), "302 Found: redirects are not followed, and this one leads to another host", "curl -sI"},
		"a redirect to https":      {dsstest.Respond(302, "", "Location", "https://127.0.0.1/canary-token"), "302 Found: redirects are not followed, and this one leads to https on the same host", "https in place of http"},
		"a redirect to elsewhere":  {dsstest.Respond(307, "", "Location", "/canary-token"), "307 Temporary Redirect: redirects are not followed, and this one leads elsewhere on the same host", "let /dip/publicapi pass"},
		"a sign-in page":           {dsstest.Respond(200, "<html>canary-token</html>"), "another program than DSS answered with success", "a proxy's sign-in page"},
		"JSON of something else":   {dsstest.Respond(200, `{"status": "canary-token"}`), "another program than DSS answered with success", "another server"},
		"a proxy's 401":            {dsstest.Respond(401, "<html>canary-token</html>"), "401 Unauthorized, and it is not from DSS", "let its calls to /dip/publicapi pass"},
		"a proxy's 403":            {dsstest.Respond(403, "<html>canary-token</html>"), "403 Forbidden, and it is not from DSS", "let its calls to /dip/publicapi pass"},
		"a wrong path":             {dsstest.Respond(404, "<html>canary-token</html>"), "404 Not Found, and it is not from DSS", "Leave /dip/publicapi out of the URL"},
		"a teapot":                 {dsstest.Respond(418, "<html>canary-token</html>"), "418 I'm a teapot, and it is not from DSS", "Correct the URL of DSS"},
		"too many calls":           {dsstest.Respond(429, ""), "429 Too Many Requests", "limits the number of calls"},
		"DSS that is starting":     {dsstest.Respond(502, "<html>canary-token</html>"), "502 Bad Gateway, and it is from a proxy", "starting, stopped or overloaded"},
		"an error inside of DSS":   {dsstest.Respond(500, `{"errorType": "java.lang.NullPointerException", "message": "canary-token"}`), "DSS failed: the answer is 500 Internal Server Error, NullPointerException", "backend.log"},
		"an error of a false type": {dsstest.Respond(500, `{"errorType": "canary-token", "message": "canary-token"}`), "500 Internal Server Error, and it is not from DSS", "another server"},
		"no answer":                {dsstest.Hang, "there was no answer in time", "a longer -timeout shows the cause"},
		"a cut connection":         {dsstest.Reset, "the connection was cut", "another service is at this address"},
		"half an answer":           {dsstest.CutShort, "the connection was cut", "another service is at this address"},
		"an endless answer":        {dsstest.Endless, "another program than DSS answered with success", "another server"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.secret("canary-token")
			s.fake.Intercept("/auth/info", -1, row.answer)
			args := []string{}
			if name == "no answer" {
				args = []string{"-timeout", "100ms"}
			}
			r := s.run("", args...)
			s.shows(r, "problem connection: "+prefixed(row.what), row.fix, "skipped everything else")
			assert.Equal(t, exitProblem, r.code)
			assert.NotContains(t, r.out, "own credentials")
		})
	}
}

// prefixed is the text in front of a status.
func prefixed(what string) string {
	if '0' <= what[0] && what[0] <= '9' {
		return "the answer is " + what
	}
	return what
}

// These servers stand in place of DSS.
func TestNoConnection(t *testing.T) {
	for name, row := range map[string]struct {
		where func(s *scene) dss.Config // URL and way there
		what  string
		fix   string
	}{
		"a name that is not known": {unknownName, `DNS: the name "dss.invalid" is not known here`, "Look for a misspelling"},
		"nothing":                  {refused, "the connection is refused: no program listens at 127.0.0.1:", "localhost is the container itself"},
		"another path":             {func(s *scene) dss.Config { return dss.Config{URL: s.fake.URL() + "/dss"} }, "404 Not Found", "a path in it if DSS is not at the root"},
		"an unknown authority":     {unknownAuthority, "this machine does not know the authority", "SSL_CERT_FILE"},
		"a certificate of another name": {wrongName, `the certificate of DSS is for another name than "localhost"`,
			"Use a name that the certificate has"},
		"an expired certificate":     {expired, "has expired", "Renew the certificate"},
		"a server wanting ours":      {clientCertificate, "ended the handshake", "Certificates of dss.Config"},
		"http where https is meant":  {plainToTLS, "this port speaks https", "Write https in place of http"},
		"https where http is meant":  {tlsToPlain, "the port does not speak https", "Write http in place of https"},
		"a server that echoes":       {echo, "no answer could be read: no reply that can be understood", "does not speak HTTP"},
		"a proxy that does not work": {noProxy, "the proxy cannot be reached", "HTTPS_PROXY"},
		"a proxy that refuses":       {refusingProxy, "no answer could be read: no reply that can be understood", "HTTPS_PROXY"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			cfg := row.where(s)
			cfg.APIKey = s.key
			client, err := dss.New(cfg)
			require.NoError(t, err)
			t.Cleanup(client.CloseIdleConnections)
			s.connect = func() (*dss.Client, error) { return client, nil }
			r := s.run("")
			s.shows(r, "problem connection: ", row.what, row.fix, "skipped everything else")
			assert.Equal(t, exitProblem, r.code)
		})
	}
}

func unknownName(*scene) dss.Config {
	// The resolver is missing: tests ask no name server.
	dialer := net.Dialer{Resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no name server")
	}}}
	return dss.Config{URL: "https://dss.invalid", HTTPClient: &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}}
}

func refused(s *scene) dss.Config {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(s, err)
	require.NoError(s, l.Close())
	return dss.Config{URL: "http://" + l.Addr().String()}
}

func unknownAuthority(s *scene) dss.Config {
	return dss.Config{URL: serveTLS(s, nil).URL}
}

func wrongName(s *scene) dss.Config {
	server := serveTLS(s, nil)
	return dss.Config{URL: strings.Replace(server.URL, "127.0.0.1", "localhost", 1), RootCAs: rootsOf(server)}
}

func expired(s *scene) dss.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(s, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(s, err)
	server := serveTLS(s, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	return dss.Config{URL: server.URL, RootCAs: rootsOf(server)}
}

func clientCertificate(s *scene) dss.Config {
	server := serveTLS(s, &tls.Config{ClientAuth: tls.RequireAnyClientCert})
	return dss.Config{URL: server.URL, RootCAs: rootsOf(server)}
}

func plainToTLS(s *scene) dss.Config {
	return dss.Config{URL: strings.Replace(serveTLS(s, nil).URL, "https", "http", 1)}
}

func tlsToPlain(s *scene) dss.Config {
	return dss.Config{URL: strings.Replace(s.fake.URL(), "http", "https", 1)}
}

// echo sends back what it gets, our credentials included.
func echo(s *scene) dss.Config {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(s, err)
	s.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				request := make([]byte, 4096)
				n, _ := conn.Read(request)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
				conn.Write(request[:n])
			}()
		}
	}()
	return dss.Config{URL: "http://" + l.Addr().String()}
}

func noProxy(s *scene) dss.Config {
	at, err := url.Parse(refused(s).URL)
	require.NoError(s, err)
	return dss.Config{URL: "https://dss.example", HTTPClient: &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(at)}}}
}

func refusingProxy(s *scene) dss.Config {
	s.secret("canary-token")
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			io.WriteString(conn, "HTTP/1.1 407 canary-token\r\n\r\n")
			conn.Close()
		}
	}))
	s.Cleanup(proxy.Close)
	at, err := url.Parse(proxy.URL)
	require.NoError(s, err)
	return dss.Config{URL: "https://dss.example", HTTPClient: &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(at)}}}
}

// serveTLS serves the fake over TLS.
func serveTLS(s *scene, config *tls.Config) *httptest.Server {
	server := httptest.NewUnstartedServer(s.fake)
	server.TLS = config
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	s.Cleanup(server.Close)
	return server
}

func rootsOf(server *httptest.Server) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	return pool
}

// These errors cannot be caused on one machine.
func TestExplain(t *testing.T) {
	at := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}
	for name, row := range map[string]struct {
		err  error
		what string
	}{
		"no route":                     {&net.OpError{Op: "dial", Addr: at, Err: syscall.EHOSTUNREACH}, "there is no route to 192.0.2.1:443"},
		"no authorities":               {x509.SystemRootsError{}, "no list of authorities to trust"},
		"another flaw":                 {&tls.CertificateVerificationError{Err: errors.New("canary")}, "the certificate of DSS is not valid"},
		"an error of an unknown kind":  {errors.New("canary"), "no answer could be read"},
		"a refusal without an address": {syscall.ECONNREFUSED, "no program listens at this address"},
	} {
		t.Run(name, func(t *testing.T) {
			f := explain(row.err)
			assert.Contains(t, f.what, row.what)
			assert.NotEmpty(t, f.fix)
			assert.NotContains(t, f.what+f.fix, "canary")
		})
	}
}
