package dss_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

// issuer signs certificates.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var serial int64

// issue makes a certificate. If by is nil, it is signed by itself.
func issue(t testing.TB, by *issuer, change func(*x509.Certificate)) issuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: "test"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	change(template)
	signer := issuer{template, key}
	if by != nil {
		signer = *by
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer.cert, &key.PublicKey, signer.key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return issuer{cert, key}
}

func authority(c *x509.Certificate) {
	c.IsCA, c.BasicConstraintsValid = true, true
	c.KeyUsage |= x509.KeyUsageCertSign
}

func forThisMachine(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }
func forAnother(c *x509.Certificate)     { c.DNSNames = []string{"backend.dss.internal"} }

func expired(c *x509.Certificate) {
	forThisMachine(c)
	c.NotAfter = time.Now().Add(-time.Minute)
}

func (i issuer) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw}))
}

func (i issuer) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(i.cert)
	return pool
}

// newTLSRecorder starts a DSS that shows this certificate.
func newTLSRecorder(t *testing.T, shown issuer) *recorder {
	r := &recorder{}
	r.Server = httptest.NewUnstartedServer(r.recording(replying(http.StatusOK, aliceInfo)))
	r.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{shown.cert.Raw}, PrivateKey: shown.key}}}
	r.StartTLS()
	t.Cleanup(r.Close)
	return r
}

func TestTLS(t *testing.T) {
	trusted := issue(t, nil, authority)
	other := issue(t, nil, authority)
	for name, row := range map[string]struct {
		shown issuer
		cfg   dss.Config
		want  string // "" for a call that succeeds
	}{
		"an unknown authority":     {issue(t, &other, forThisMachine), dss.Config{}, "TLS: the certificate is of an unknown authority"},
		"another authority":        {issue(t, &other, forThisMachine), dss.Config{RootCAs: trusted.pool()}, "TLS: the certificate is of an unknown authority"},
		"expired":                  {issue(t, &trusted, expired), dss.Config{RootCAs: trusted.pool()}, "TLS: the certificate has expired"},
		"for another name":         {issue(t, &trusted, forAnother), dss.Config{RootCAs: trusted.pool()}, "TLS: the certificate is for another name"},
		"a good certificate":       {issue(t, &trusted, forThisMachine), dss.Config{RootCAs: trusted.pool()}, ""},
		"unknown, and not checked": {issue(t, &other, forAnother), dss.Config{InsecureSkipVerify: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			server := newTLSRecorder(t, row.shown)
			row.cfg.URL, row.cfg.APIKey = server.URL, testKey
			c, err := dss.New(row.cfg)
			require.NoError(t, err)
			trusts(t, c, server, row.want)
		})
	}
}

// trusts makes a call, which must fail with want and send nothing, or, with "", succeed.
func trusts(t *testing.T, c *dss.Client, server *recorder, want string) {
	t.Cleanup(c.CloseIdleConnections)
	_, err := c.AuthInfo(t.Context())
	if want == "" {
		assert.NoError(t, err)
		return
	}
	assert.ErrorContains(t, err, want)
	assert.Empty(t, server.requests(), "requests that went out")
}

func TestAClientCertificateIsShown(t *testing.T) {
	trusted := issue(t, nil, authority)
	me := issue(t, &trusted, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	server := newTLSRecorder(t, issue(t, &trusted, forThisMachine))
	server.TLS.ClientAuth, server.TLS.ClientCAs = tls.RequireAndVerifyClientCert, trusted.pool()

	for _, shown := range [][]tls.Certificate{nil, {{Certificate: [][]byte{me.cert.Raw}, PrivateKey: me.key}}} {
		c, err := dss.New(dss.Config{URL: server.URL, APIKey: testKey, RootCAs: trusted.pool(), Certificates: shown})
		require.NoError(t, err)
		t.Cleanup(c.CloseIdleConnections)
		_, err = c.AuthInfo(t.Context())
		assert.Equal(t, shown == nil, err != nil, "%v", err)
	}
}

// Inside DSS the environment gives the certificate to trust. It is seldom for
// the address of a call.
func TestTLSInsideDSS(t *testing.T) {
	trusted := issue(t, nil, authority)
	other := issue(t, nil, authority)
	signed := issue(t, &trusted, forThisMachine)
	signedForAnother := issue(t, &trusted, forAnother)
	itself := issue(t, nil, forAnother)
	itselfNameless := issue(t, nil, authority)
	outdated := issue(t, nil, expired)
	b64 := func(data []byte) string { return "b64:" + base64.StdEncoding.EncodeToString(data) }

	for name, row := range map[string]struct {
		shown issuer
		given string
		want  string
	}{
		"not the given one":                  {issue(t, nil, forThisMachine), other.pem(), "TLS: the certificate is of an unknown authority"},
		"of an authority that was not given": {signed, other.pem(), "TLS: the certificate is of an unknown authority"},
		"of the authority, for another name": {signedForAnother, trusted.pem(), "TLS: the certificate is for another name"},
		"the one given, but it is expired":   {outdated, outdated.pem(), "TLS: the certificate has expired"},
		"none given":                         {signed, "", "TLS: the certificate is of an unknown authority"},
		"of the authority":                   {signed, trusted.pem(), ""},
		"the one given, for another name":    {itself, itself.pem(), ""},
		"the one given, without any name":    {itselfNameless, itselfNameless.pem(), ""},
		"the one given, not its authority":   {signedForAnother, signedForAnother.pem(), ""},
		"one of several given":               {itself, other.pem() + "\n" + itself.pem(), ""},
		"in base64":                          {itself, b64([]byte(itself.pem())), ""},
		"in base64 without PEM":              {itself, b64(itself.cert.Raw), ""},
	} {
		t.Run(name, func(t *testing.T) {
			server := newTLSRecorder(t, row.shown)
			surroundings{env: map[string]string{
				"DKU_API_TICKET": "the-ticket", "DKU_BACKEND_PROTOCOL": "https", "DKU_SERVER_CERT": row.given,
				"DKU_BACKEND_PORT": parse(t, server.URL).Port(),
			}}.apply(t)
			c, err := dss.FromEnv()
			require.NoError(t, err)
			trusts(t, c, server, row.want)
		})
	}
}

func TestVerificationIsOffOnlyOnRequest(t *testing.T) {
	other := issue(t, nil, authority)
	server := newTLSRecorder(t, issue(t, &other, forThisMachine))
	file := func(check string) surroundings {
		return surroundings{file: `{"dss_instances": {"prod": {"url": "` + server.URL + `", "api_key": "key"` + check + `}}, "default_instance": "prod"}`}
	}
	variables := func(check string) surroundings {
		return surroundings{env: map[string]string{"DKU_DSS_URL": server.URL, "DKU_API_KEY": "key", "DKU_NO_CHECK_CERTIFICATE": check}}
	}
	for name, row := range map[string]struct {
		in  surroundings
		off bool
	}{
		"a file that says nothing":               {file(``), false},
		"a file that says null":                  {file(`, "no_check_certificate": null`), false},
		"a file that says false":                 {file(`, "no_check_certificate": false`), false},
		"a file that says true":                  {file(`, "no_check_certificate": true`), true},
		"variables that say nothing":             {variables(""), false},
		"a file that says false in quotes":       {file(`, "no_check_certificate": "false"`), false},
		"a file that says true in quotes":        {file(`, "no_check_certificate": "true"`), false},
		"a file that says 1":                     {file(`, "no_check_certificate": 1`), false},
		"variables that say false":               {variables("false"), false},
		"variables that say False":               {variables("False"), false},
		"variables that say false and a space":   {variables("false "), false},
		"variables that say a tab and FALSE":     {variables("\tFALSE\n"), false},
		"variables that say a space":             {variables(" "), false},
		"variables that say 0":                   {variables("0"), false},
		"variables that say 0 between spaces":    {variables(" 0 "), false},
		"variables that say no":                  {variables("no"), false},
		"variables that say No":                  {variables("No"), false},
		"variables that say n":                   {variables("n"), false},
		"variables that say F":                   {variables("F"), false},
		"variables that say off":                 {variables("off"), false},
		"variables that say OFF":                 {variables("OFF"), false},
		"variables that say yes":                 {variables("yes"), true},
		"variables that say true between spaces": {variables(" true "), true},
		"variables that say true":                {variables("true"), true},
		"variables that say anything":            {variables("1"), true},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(server.requests())
			row.in.apply(t)
			c, err := dss.FromEnv()
			if err == nil {
				t.Cleanup(c.CloseIdleConnections)
				_, err = c.AuthInfo(t.Context())
			}
			assert.Equal(t, row.off, err == nil, "%v", err)
			if !row.off {
				assert.Len(t, server.requests(), before, "requests that went out")
			}
		})
	}
}
