package server

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/gateway/internal/config"
)

func TestServesWithItsCertificate(t *testing.T) {
	lent := httptest.NewTLSServer(http.NotFoundHandler())
	lent.Close()
	key, err := x509.MarshalPKCS8PrivateKey(lent.TLS.Certificates[0].PrivateKey)
	require.NoError(t, err)
	var c config.Config
	c.TLS.Certificate, c.TLS.Key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	write := func(name, kind string, der []byte) {
		require.NoError(t, os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	write(c.TLS.Certificate, "CERTIFICATE", lent.Certificate().Raw)
	write(c.TLS.Key, "PRIVATE KEY", key)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := newServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	certificate, err := newCertificate(c)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- (&Server{certificate: certificate}).serveOn(listener, server) }()

	trusted := x509.NewCertPool()
	trusted.AddCert(lent.Certificate())
	conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{RootCAs: trusted, ServerName: "example.com", NextProtos: []string{"h2", "http/1.1"}})
	if assert.NoError(t, err) {
		assert.Equal(t, "h2", conn.ConnectionState().NegotiatedProtocol)
		assert.NoError(t, conn.Close())
	}
	require.NoError(t, server.Close())
	assert.ErrorIs(t, <-ended, http.ErrServerClosed)
}

func TestRequestsUnderWayAreCounted(t *testing.T) {
	under := &underWay{}
	under.handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { assert.Equal(t, int64(1), under.n.Load()) })
	for range 2 {
		under.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		assert.Zero(t, under.n.Load())
	}
}

func TestCheckAtStartIsLogged(t *testing.T) {
	w := newWorld(t)
	for _, down := range []bool{false, true} {
		w.dss.SetDown(down)
		examine(t.Context(), w.server.config, w.dss.Client(), slog.New(slog.NewJSONHandler(w.log, nil)))
	}
	lines := w.log.String()
	assert.Contains(t, lines, `"msg":"check at start"`)
	assert.Contains(t, lines, `"advice":"`)
	assert.NotContains(t, lines, `"advice":""`)
}

func TestHeadersAreEncodedOnlyWhereTheyMust(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "ann": "ann", "~": "~", "a b": "a b", " a": "%20a", "a ": "a%20", "a,b": "a%2Cb", "100%": "100%25", "Ä": "%C3%84", "\x7f": "%7F", "\t": "%09",
	} {
		assert.Equal(t, want, encode(text))
	}
}

func TestWhatMaySurpriseIsSaid(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key.pem")
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	require.NoError(t, os.Chmod(key, 0o644))
	const open, bare, cookies = "others may read or change a key file", "no assertion is sent", "no cookie reaches the upstream"
	for name, row := range map[string]struct {
		args        []string
		said, other []string
		host        string
	}{
		"an open key file": {[]string{"-upstream=http://127.0.0.1:9", "-assertion.issuer=i", "-assertion.audience=a", "-assertion.key_files=[" + key + "]"},
			[]string{open, cookies}, []string{bare}, "http://127.0.0.1:9"},
		"the check alone": {[]string{"-dss_cookies=[dss_*]"}, []string{bare}, []string{open, cookies}, "none: only the check is served"},
	} {
		t.Run(name, func(t *testing.T) {
			var log logs
			c, _, err := config.Load(append(row.args, "-listen=127.0.0.1:0", "-rules="+someRules), nil)
			require.NoError(t, err)
			s, err := New(c, dsstest.NewServer(t).Client(), slog.New(slog.NewJSONHandler(&log, nil)))
			require.NoError(t, err)
			defer s.Close()
			s.say(c)
			for _, line := range row.said {
				assert.Contains(t, log.String(), line)
			}
			for _, line := range row.other {
				assert.NotContains(t, log.String(), line)
			}
			assert.Equal(t, row.host, hostOf(c))
		})
	}
}

func TestHealthIsOK(t *testing.T) {
	w := httptest.NewRecorder()
	healthy(&answer{ResponseWriter: w}, httptest.NewRequest("GET", "/healthz", nil))
	assert.Equal(t, "ok\n", w.Body.String())
	assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
}

func TestOnlyRedirectsBecomeRefusals(t *testing.T) {
	for status, want := range map[int]int{200: 200, 299: 299, 300: 401, 302: 401, 399: 401, 400: 400, 403: 403} {
		w := httptest.NewRecorder()
		(&unredirected{w}).WriteHeader(status)
		assert.Equal(t, want, w.Code, status)
	}
}
