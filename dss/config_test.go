package dss_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

func TestNewRefuses(t *testing.T) {
	const url, key = "https://dss.example", "dkuaps-canary"
	for name, row := range map[string]struct {
		cfg  dss.Config
		want string
	}{
		"no URL": {dss.Config{APIKey: key},
			`dss: Config.URL is empty; set it to where DSS is, as in https://dss.example`},
		"a URL without scheme": {dss.Config{URL: "dss.example", APIKey: key},
			`dss: Config.URL "dss.example": scheme is required, as in https://dss.example`},
		"a host and port without scheme": {dss.Config{URL: "dss.example:11200", APIKey: key},
			`dss: Config.URL "dss.example:11200": scheme is required, as in https://dss.example`},
		"a file": {dss.Config{URL: "file:///etc/passwd", APIKey: key},
			`dss: Config.URL "file:///etc/passwd": scheme must be https or http, as in https://dss.example`},
		"another scheme": {dss.Config{URL: "ftp://dss.example", APIKey: key},
			`dss: Config.URL "ftp://dss.example": scheme must be https or http, as in https://dss.example`},
		"a URL without host": {dss.Config{URL: "https:///dss", APIKey: key},
			`dss: Config.URL "https:///dss": host is required, as in https://dss.example`},
		"a port without host": {dss.Config{URL: "https://:443", APIKey: key},
			`dss: Config.URL "https://:443": host is required, as in https://dss.example`},
		"a URL with user info": {dss.Config{URL: "https://me:canary@dss.example", APIKey: key},
			`dss: Config.URL (not shown, it may hold a password): a user name or password is not allowed; the credentials have a setting of their own`},
		"a URL with a query": {dss.Config{URL: "https://dss.example/?token=canary", APIKey: key},
			`dss: Config.URL "https://dss.example/?…": a query is not allowed; end it before the ?`},
		"a URL with an empty query": {dss.Config{URL: "https://dss.example?", APIKey: key},
			`dss: Config.URL "https://dss.example?…": a query is not allowed; end it before the ?`},
		"a URL with a fragment": {dss.Config{URL: "https://dss.example/#canary", APIKey: key},
			`dss: Config.URL "https://dss.example/#…": a fragment is not allowed; end it before the #`},
		"a URL with an empty port": {dss.Config{URL: "https://dss.example:", APIKey: key},
			`dss: Config.URL "https://dss.example:": port must be between 1 and 65535`},
		"port 0": {dss.Config{URL: "https://dss.example:0", APIKey: key},
			`dss: Config.URL "https://dss.example:0": port must be between 1 and 65535`},
		"port 65536": {dss.Config{URL: "https://dss.example:65536", APIKey: key},
			`dss: Config.URL "https://dss.example:65536": port must be between 1 and 65535`},
		"a port that is a word": {dss.Config{URL: "https://dss.example:https", APIKey: key},
			`dss: Config.URL "https://dss.example:https": it is not a URL such as https://dss.example`},
		"a URL with a line end": {dss.Config{URL: "https://dss.example\n", APIKey: key},
			`dss: Config.URL "https://dss.example\n": spaces and control characters are not allowed`},
		"a URL with a space before it": {dss.Config{URL: " https://dss.example", APIKey: key},
			`dss: Config.URL " https://dss.example": spaces and control characters are not allowed`},
		"a URL with dot segments": {dss.Config{URL: "https://dss.example/a/../b", APIKey: key},
			`dss: Config.URL "https://dss.example/a/../b": its path must be a plain one, as in https://example.com/dss`},
		"a URL of the API itself": {dss.Config{URL: "https://dss.example/dip/publicapi/", APIKey: key},
			`dss: Config.URL "https://dss.example/dip/publicapi/": leave out /dip/publicapi, which is added to it`},
		"a URL of the API behind a proxy": {dss.Config{URL: "https://dss.example/public/api", APIKey: key},
			`dss: Config.URL "https://dss.example/public/api": leave out /public/api: /dip/publicapi is added, and is the same API`},
		"URL and API key in each other's place": {dss.Config{URL: "dkuaps-canary-canary", APIKey: url},
			`dss: Config.URL (not shown, it may be an API key): scheme is required, as in https://dss.example`},
		"neither API key nor ticket": {dss.Config{URL: url},
			`dss: Config.APIKey and Config.Ticket are both empty; set one of them`},
		"both API key and ticket": {dss.Config{URL: url, APIKey: key, Ticket: "canary"},
			`dss: Config.APIKey and Config.Ticket are both set; set one of them`},
		"a blank API key": {dss.Config{URL: url, APIKey: " "},
			`dss: Config.APIKey: the API key has spaces, line ends or other characters that no key has`},
		"an API key with a line end": {dss.Config{URL: url, APIKey: key + "\n"},
			`dss: Config.APIKey: the API key has spaces, line ends or other characters that no key has`},
		"an API key with a colon": {dss.Config{URL: url, APIKey: "user:" + key},
			`dss: Config.APIKey: the API key has a colon, which ends the user name in HTTP Basic authentication`},
		"a ticket with a line end": {dss.Config{URL: url, Ticket: "canary\r\nX-DKU-ProxyUser: admin"},
			`dss: Config.Ticket: the ticket has spaces, control or other characters that a header cannot carry`},
		"a ticket outside ASCII": {dss.Config{URL: url, Ticket: "canäry"},
			`dss: Config.Ticket: the ticket has spaces, control or other characters that a header cannot carry`},
		"an HTTP client and authorities": {dss.Config{URL: url, APIKey: key, HTTPClient: &http.Client{}, RootCAs: x509.NewCertPool()},
			`dss: Config.HTTPClient: it has TLS settings of its own; set RootCAs, Certificates and InsecureSkipVerify on its Transport`},
		"an HTTP client and certificates": {dss.Config{URL: url, APIKey: key, HTTPClient: &http.Client{}, Certificates: make([]tls.Certificate, 1)},
			`dss: Config.HTTPClient: it has TLS settings of its own; set RootCAs, Certificates and InsecureSkipVerify on its Transport`},
		"an HTTP client and no verification": {dss.Config{URL: url, APIKey: key, HTTPClient: &http.Client{}, InsecureSkipVerify: true},
			`dss: Config.HTTPClient: it has TLS settings of its own; set RootCAs, Certificates and InsecureSkipVerify on its Transport`},
		"a negative timeout": {dss.Config{URL: url, APIKey: key, HTTPClient: &http.Client{Timeout: -1}},
			`dss: Config.HTTPClient: Timeout -1ns is negative; 0 means none`},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := dss.New(row.cfg)
			assert.EqualError(t, err, row.want)
			assert.Nil(t, c)
			assert.NotContains(t, err.Error(), "canary")
		})
	}
}

func TestNewAcceptsCommonURLs(t *testing.T) {
	for given, want := range map[string]string{
		"https://dss.example":       "https://dss.example",
		"https://DSS.Example/":      "https://dss.example",
		"HTTPS://dss.example:8443":  "https://dss.example:8443",
		"https://example.com/dss/":  "https://example.com/dss",
		"http://[::1]:11200":        "http://[::1]:11200",
		"https://example.com/a%20b": "https://example.com/a%20b",
	} {
		c, err := dss.New(dss.Config{URL: given, APIKey: testKey})
		require.NoError(t, err, given)
		assert.Equal(t, "dss.Client("+want+", API key, from Config)", c.String())
		assert.Equal(t, want, c.URL())
	}
}

func TestAPathInTheURLIsKept(t *testing.T) {
	server := newRecorder(t, replying(http.StatusOK, aliceInfo))
	_, err := newClient(t, server.URL+"/dss/").AuthInfo(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "/dss/dip/publicapi/auth/info?withSecrets=False", server.last(t).Target)
}

func TestNewWarnsIfOthersCouldRead(t *testing.T) {
	const plain, unchecked = "unencrypted", "certificate is not checked"
	for name, row := range map[string]struct {
		cfg  dss.Config
		want string // in the log; "": the log is empty
	}{
		"plain http to a host":             {dss.Config{URL: "http://dss.example"}, plain},
		"plain http to a private address":  {dss.Config{URL: "http://10.0.0.1"}, plain},
		"plain http to localhost's double": {dss.Config{URL: "http://localhost.example"}, plain},
		"https without verification":       {dss.Config{URL: "https://dss.example", InsecureSkipVerify: true}, unchecked},
		"https":                            {dss.Config{URL: "https://dss.example"}, ""},
		"plain http to this machine":       {dss.Config{URL: "http://127.0.0.1:11200"}, ""},
		"plain http to it by IPv6":         {dss.Config{URL: "http://[::1]:11200"}, ""},
		"plain http to it by name":         {dss.Config{URL: "http://localhost:11200"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			before := slog.Default()
			slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
			defer slog.SetDefault(before)

			row.cfg.APIKey = testKey
			_, err := dss.New(row.cfg)
			require.NoError(t, err)
			if row.want == "" {
				assert.Empty(t, log.String())
				return
			}
			assert.Contains(t, log.String(), row.want)
			assert.Equal(t, 1, bytes.Count(log.Bytes(), []byte("\n")), "lines")
			assert.NotContains(t, log.String(), testKey)
		})
	}
}

func TestNewWarnsTheConfiguredLogger(t *testing.T) {
	var log, other bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&other, nil)))
	defer slog.SetDefault(before)
	_, err := dss.New(dss.Config{URL: "http://dss.example", APIKey: testKey, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	assert.Contains(t, log.String(), "unencrypted")
	assert.Empty(t, other.String())
}

func TestClientNotMadeByNew(t *testing.T) {
	var none *dss.Client
	for _, c := range []*dss.Client{none, {}} {
		const want = "this client was not made by dss.New or dss.FromEnv"
		_, err := c.AuthInfo(t.Context())
		assert.EqualError(t, err, "dss: GET /auth/info: "+want)
		_, err = c.As("alice")
		assert.EqualError(t, err, "dss: As: "+want)
		_, err = c.WithTicket("ticket")
		assert.EqualError(t, err, "dss: WithTicket: "+want)
		_, err = c.WithTicketSource(nil).AuthInfo(t.Context())
		assert.ErrorContains(t, err, "this client was not made by")
		assert.Equal(t, "dss.Client(not made by dss.New)", c.String())
		c.CloseIdleConnections()
	}
}
