package dss

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	connectTimeout     = 5 * time.Second  // for TCP, and again for TLS
	headerTimeout      = 5 * time.Minute  // from the end of a request to the start of its reply; some replies of DSS take minutes
	idleTimeout        = 60 * time.Second // proxies before DSS commonly drop idle ones after 75
	idleConnections    = 256              // dssauth asks at most this many at once; Go would keep two for a host, and close the others each time
	maxReplyHeaderSize = 256 << 10
)

// newWire returns the transport of clients that were not given one. It speaks
// HTTP/1.1 only, as the official client does.
func newWire(cfg Config, base *url.URL, o origin) *http.Transport {
	wire := &http.Transport{
		Proxy:                  proxyForHTTPS,
		TLSHandshakeTimeout:    connectTimeout, // through a proxy; else see dialTLS
		ResponseHeaderTimeout:  headerTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    idleConnections,
		MaxResponseHeaderBytes: maxReplyHeaderSize,
		OnProxyConnectResponse: tunnel,
		Protocols:              new(http.Protocols),
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			RootCAs:            cfg.RootCAs,
			Certificates:       cfg.Certificates,
			InsecureSkipVerify: cfg.InsecureSkipVerify,
		},
	}
	wire.Protocols.SetHTTP1(true)
	if o.inside {
		wire.Proxy = nil
	}
	if o.pinned != nil {
		pin(wire.TLSClientConfig, o.pinned, base.Hostname())
	}
	d := dialer{base: base, proxy: wire.Proxy, tls: wire.TLSClientConfig}
	wire.DialContext, wire.DialTLSContext = d.dial, d.dialTLS
	return wire
}

// dialer connects to DSS, or to a proxy on the way there.
type dialer struct {
	base  *url.URL
	proxy func(*http.Request) (*url.URL, error)
	tls   *tls.Config
}

var tcp = net.Dialer{Timeout: connectTimeout}

// dial connects without TLS: to DSS if its URL is http, else to a proxy.
func (d dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := tcp.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if d.base.Scheme == "https" {
		return tunnelConn(conn), nil
	}
	return newJudgedConn(conn), nil
}

// dialTLS connects with TLS to DSS, or to a proxy that speaks TLS. net/http
// could do so, but a judgedConn has to see the bytes inside TLS.
func (d dialer) dialTLS(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := tcp.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	config := d.tls.Clone()
	config.ServerName, _, err = net.SplitHostPort(addr)
	if err == nil {
		secure := tls.Client(conn, config)
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		if err = secure.HandshakeContext(ctx); err == nil {
			if d.proxied() {
				return tunnelConn(secure), nil
			}
			return newJudgedConn(secure), nil
		}
	}
	conn.Close()
	return nil, err
}

func (d dialer) proxied() bool {
	if d.proxy == nil {
		return false
	}
	proxy, err := d.proxy(&http.Request{URL: d.base})
	return proxy != nil || err != nil
}

// proxyForHTTPS takes a proxy from the environment for https only: over plain
// http the proxy could read the credentials.
func proxyForHTTPS(req *http.Request) (*url.URL, error) {
	if req.URL.Scheme != "https" {
		return nil, nil
	}
	return http.ProxyFromEnvironment(req)
}

// tunnel returns an error for a proxy's refusal before net/http does:
// net/http's error would quote the proxy's words.
func tunnel(_ context.Context, _ *url.URL, _ *http.Request, reply *http.Response) error {
	if reply.StatusCode != http.StatusOK {
		return tunnelError(reply.StatusCode)
	}
	return nil
}

// tunnelError is the status of a proxy's refusal to connect us to DSS.
type tunnelError int

func (e tunnelError) Error() string { return kindNoTunnel + strconv.Itoa(int(e)) }

// pin makes config trust the given certificates and nothing else. It accepts a
// server that shows one of them, for any name: DSS's internal certificate is
// seldom for the address of a call. It also accepts a certificate for host that
// one of them signed.
func pin(config *tls.Config, trusted []*x509.Certificate, host string) {
	roots := x509.NewCertPool()
	for _, c := range trusted {
		roots.AddCert(c)
	}
	// The standard verification insists on the name. VerifyConnection replaces it
	// below, and runs for resumed sessions as well.
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("the server showed no certificate")
		}
		leaf := state.PeerCertificates[0]
		options := x509.VerifyOptions{Roots: roots, DNSName: host, Intermediates: x509.NewCertPool()}
		for _, c := range trusted {
			if leaf.Equal(c) {
				options.DNSName = ""
			}
		}
		for _, c := range state.PeerCertificates[1:] {
			options.Intermediates.AddCert(c)
		}
		_, err := leaf.Verify(options)
		return err
	}
}
