package promises

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// badWire is a TCP proxy before DSS. The test decides how it treats its
// connections.
type badWire struct {
	listener net.Listener
	target   string
	treat    atomic.Pointer[treatment]
	tries    atomic.Int64

	mu    sync.Mutex
	conns map[net.Conn]bool
	work  sync.WaitGroup
}

// A treatment serves one connection of a client, with another one to DSS.
type treatment func(client, dss *net.TCPConn)

func newBadWire(t *testing.T, target string) *badWire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &badWire{listener: l, target: strings.TrimPrefix(target, "http://"), conns: map[net.Conn]bool{}}
	w.does(passOn)
	w.work.Go(w.accept)
	t.Cleanup(func() {
		_ = l.Close()
		w.cut()
		w.work.Wait()
	})
	return w
}

func (w *badWire) url() string { return "http://" + w.listener.Addr().String() }

// does makes f the treatment of connections from now on, and ends the old ones.
func (w *badWire) does(f treatment) {
	w.treat.Store(&f)
	w.cut()
}

func (w *badWire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		_ = c.Close()
	}
}

func (w *badWire) accept() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.tries.Add(1)
		treat := *w.treat.Load()
		w.work.Go(func() {
			dss, err := net.Dial("tcp", w.target)
			if err != nil {
				_ = client.Close()
				return
			}
			defer w.drop(w.keep(client, dss))
			treat(client.(*net.TCPConn), dss.(*net.TCPConn))
		})
	}
}

func (w *badWire) keep(conns ...net.Conn) []net.Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		w.conns[c] = true
	}
	return conns
}

func (w *badWire) drop(conns []net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
		delete(w.conns, c)
	}
}

func passOn(client, dss *net.TCPConn) {
	go func() {
		_, _ = io.Copy(dss, client)
		_ = dss.CloseWrite()
	}()
	_, _ = io.Copy(client, dss)
}

func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// upTo passes DSS's reply on until stop returns true for the passed part.
func upTo(client, dss *net.TCPConn, stop func(passed []byte) bool) {
	go func() { _, _ = io.Copy(dss, client) }()
	var passed []byte
	b := make([]byte, 1)
	for !stop(passed) {
		if _, err := dss.Read(b); err != nil {
			return
		}
		if _, err := client.Write(b); err != nil {
			return
		}
		passed = append(passed, b[0])
	}
}

// afterHead is true once the head of a reply, and some of its body, passed.
func afterHead(some int) func([]byte) bool {
	return func(passed []byte) bool {
		end := bytes.Index(passed, []byte("\r\n\r\n"))
		return end >= 0 && len(passed) >= end+4+some
	}
}

// replies reads a request and answers with these bytes.
func replies(reply string) treatment {
	return func(client, _ *net.TCPConn) {
		r, err := http.ReadRequest(bufio.NewReader(client))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(client, reply)
		_ = client.CloseWrite()
		_, _ = io.Copy(io.Discard, client)
	}
}

// annSays is a good reply about ann, except for the test's changes.
const annSays = `{"authSource":"USER_FROM_UI","authIdentifier":"ann","groups":["analysts"]}`

func TestFaultsOfTheWire(t *testing.T) {
	good := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(annSays), annSays)
	for _, test := range []struct {
		name  string
		treat treatment
	}{
		{"closed before the request is read", func(client, _ *net.TCPConn) { _ = client.Close() }},
		{"reset before the request is read", func(client, _ *net.TCPConn) { reset(client) }},
		{"reset after the request, before the reply", func(client, _ *net.TCPConn) {
			_, _ = http.ReadRequest(bufio.NewReader(client))
			reset(client)
		}},
		{"reset within the reply's head", func(client, dss *net.TCPConn) {
			upTo(client, dss, func(passed []byte) bool { return len(passed) > 30 })
			reset(client)
		}},
		{"reset after the reply's head", func(client, dss *net.TCPConn) {
			upTo(client, dss, afterHead(0))
			reset(client)
		}},
		{"closed after the reply's head", func(client, dss *net.TCPConn) { upTo(client, dss, afterHead(0)) }},
		{"cut within the reply's body", func(client, dss *net.TCPConn) { upTo(client, dss, afterHead(40)) }},
		{"reset within the reply's body", func(client, dss *net.TCPConn) {
			upTo(client, dss, afterHead(40))
			reset(client)
		}},
		{"no reply", func(client, _ *net.TCPConn) { _, _ = io.Copy(io.Discard, client) }},
		{"a reply that stops in the middle", func(client, dss *net.TCPConn) {
			upTo(client, dss, afterHead(40))
			_, _ = io.Copy(io.Discard, client)
		}},
		{"a reply fed by drops", func(client, _ *net.TCPConn) {
			for _, b := range []byte(good) {
				if _, err := client.Write([]byte{b}); err != nil {
					return
				}
				<-time.After(60 * time.Millisecond)
			}
		}},
		{"a senseless status line", replies(strings.Replace(good, "HTTP/1.1 200 OK", "HTTP/1.1 OK 200", 1))},
		{"a reply that is not HTTP", replies("220 smtp.example ESMTP\r\n")},
		{"zeros", replies(strings.Repeat("\x00", 1000))},
		{"a shorter body than announced", replies(strings.Replace(good, fmt.Sprint(len(annSays)), "1000", 1))},
		{"a longer body than announced", replies(strings.Replace(good, fmt.Sprint(len(annSays)), "40", 1))},
		{"two lengths", replies(strings.Replace(good, "Content-Length:", "Content-Length: 5\r\nContent-Length:", 1))},
		{"a negative length", replies(strings.Replace(good, "Content-Length: ", "Content-Length: -", 1))},
		{"a chunk without a size", replies("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + annSays)},
		{"chunks without an end", replies(fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(annSays), annSays))},
		{"a head without end", func(client, _ *net.TCPConn) {
			_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n")
			for i := 0; ; i++ {
				if _, err := fmt.Fprintf(client, "X-%d: %s\r\n", i, strings.Repeat("a", 1000)); err != nil {
					return
				}
			}
		}},
		{"only interim replies", func(client, _ *net.TCPConn) {
			for {
				if _, err := io.WriteString(client, "HTTP/1.1 103 Early Hints\r\n\r\n"); err != nil {
					return
				}
			}
		}},
		{"another protocol", replies("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")},
		{"text that is not gzip", replies(strings.Replace(good, "\r\n\r\n", "\r\nContent-Encoding: gzip\r\n\r\n", 1))},
		{"a byte that is not UTF-8 in a group", replies(strings.Replace(good, "analysts", "analyst\xff", 1))},
		{"a quotation mark lost", replies(strings.Replace(good, `"ann"`, `"ann `, 1))},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel() // some wait for a deadline
			fake := dsstest.NewServer(t)
			fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"analysts"}})
			wire := newBadWire(t, fake.URL())
			client, err := dss.New(dss.Config{URL: wire.url(), APIKey: fake.AdminKey()})
			require.NoError(t, err)
			defer client.CloseIdleConnections()
			m := newAuth(t, dssauth.Config{Client: client, Timeout: time.Second})
			require.Equal(t, "ann", who(m, signedIn(fake.DSS, "ann")))
			ann := signedIn(fake.DSS, "ann")

			wire.does(test.treat)
			tries := wire.tries.Load()
			for range 2 {
				assert.Equal(t, "503", who(m, ann))
			}
			assert.LessOrEqual(t, wire.tries.Load()-tries, int64(4), "a lookup and our own question, and at most one retry each: the same bytes are not asked about again at once")
			assert.Equal(t, 1, m.Stats().Entries, "nothing is kept of it")
			assert.Zero(t, m.Stats().Refusals)
			wire.does(passOn)
			// Another Middleware, since it does not know the pause of these bytes, nor
			// the failure of our own question.
			again := newAuth(t, dssauth.Config{Client: client})
			assert.Equal(t, "ann", who(again, ann), "then it works again")
		})
	}
}

func TestRepliesWithoutEnd(t *testing.T) {
	bomb := gzipped(t, 256<<20)
	for name, fault := range map[string]dsstest.Interceptor{
		"an endless body":              dsstest.Endless,
		"a gzip bomb":                  dsstest.Respond(200, bomb, "Content-Type", "application/json", "Content-Encoding", "gzip"),
		"an error that is a gzip bomb": dsstest.Respond(500, bomb, "Content-Type", "application/json", "Content-Encoding", "gzip"),
	} {
		t.Run(name, func(t *testing.T) {
			fake := dsstest.NewServer(t)
			fake.AddUser(dsstest.User{Login: "ann"})
			fake.Intercept(lookupPath, -1, fault)
			m := newAuth(t, dssauth.Config{Client: fake.Client()})
			ann := signedIn(fake.DSS, "ann")
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			assert.Equal(t, "503", who(m, ann))
			runtime.ReadMemStats(&after)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20), "the part of it that is read is bounded")
			fake.Intercept("", 0, nil)
			assert.Equal(t, "ann", who(m, signedIn(fake.DSS, "ann")), "other bytes, since those of an error pause")
		})
	}
}

// gzipped is the start of a JSON object and this many bytes after it,
// compressed.
func gzipped(t *testing.T, size int) string {
	t.Helper()
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	require.NoError(t, err)
	_, _ = io.WriteString(z, `{"authIdentifier":"`)
	chunk := bytes.Repeat([]byte("a"), 1<<20)
	for range size >> 20 {
		_, err = z.Write(chunk)
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	return b.String()
}

func TestServiceReturnsOnceDSSsNameResolves(t *testing.T) {
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "ann"})
	var broken atomic.Bool
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		if broken.Load() {
			return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: "dss.test", IsNotFound: true}}
		}
		return new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(fake.URL(), "http://"))
	}}
	client, err := dss.New(dss.Config{URL: "http://dss.localhost", APIKey: fake.AdminKey(), HTTPClient: &http.Client{Transport: transport}})
	require.NoError(t, err)
	defer client.CloseIdleConnections()
	var book logBook
	m := newAuth(t, dssauth.Config{Client: client, TTL: -1, Logger: book.logger()})
	ann := signedIn(fake.DSS, "ann")
	require.Equal(t, "ann", who(m, ann))
	broken.Store(true)
	transport.CloseIdleConnections()
	assert.Equal(t, "503", who(m, ann))
	book.wait(t, "DSS is down")
	assert.Equal(t, "503", who(m, browser("junk")))
	broken.Store(false)
	// DSS counts as down until the next of our own questions, a second later.
	require.Equal(t, "503", who(m, ann))
	book.wait(t, "DSS is back")
	assert.Equal(t, "ann", who(m, ann))
	assert.Equal(t, "401", who(m, browser("junk")))
}

func TestRestartThatEndsSessionsSignsVisitorsOut(t *testing.T) {
	d := dsstest.New()
	d.AddAPIKey(ownKey, "")
	d.AddUser(dsstest.User{Login: "ann"})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	start := func(l net.Listener) *http.Server {
		s := &http.Server{Handler: d, ErrorLog: log.New(io.Discard, "", 0)}
		go func() { _ = s.Serve(l) }()
		return s
	}
	server := start(l)
	client, err := dss.New(dss.Config{URL: "http://" + address, APIKey: ownKey})
	require.NoError(t, err)
	defer client.CloseIdleConnections()
	var book logBook
	m := newAuth(t, dssauth.Config{Client: client, TTL: -1, RefusalTTL: -1, Logger: book.logger()})
	ann := signedIn(d, "ann")
	require.Equal(t, "ann", who(m, ann))

	require.NoError(t, server.Close())
	assert.Equal(t, "503", who(m, ann), "down is not signed out")
	book.wait(t, "DSS is down")
	d.EndSessions()
	l, err = net.Listen("tcp", address)
	require.NoError(t, err)
	server = start(l)
	defer server.Close()
	// It counts as down till the next of our own questions, a second later.
	require.Equal(t, "503", who(m, ann))
	book.wait(t, "DSS is back")
	assert.Equal(t, "401", who(m, ann))
	assert.Equal(t, "ann", who(m, signedIn(d, "ann")))
}

func TestOtherCertificatesAreRefused(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	now := time.Now()
	for _, test := range []struct {
		name string
		cert tls.Certificate
		want string
	}{
		{"a good one", ours.issue(t, "127.0.0.1", now.Add(time.Hour)), "ann"},
		{"an expired one", ours.issue(t, "127.0.0.1", now.Add(-time.Minute)), "503"},
		{"one for another name", ours.issue(t, "127.0.0.2", now.Add(time.Hour)), "503"},
		{"one of an unknown authority", theirs.issue(t, "127.0.0.1", now.Add(time.Hour)), "503"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := dsstest.New()
			d.AddAPIKey(ownKey, "")
			d.AddUser(dsstest.User{Login: "ann"})
			server := httptest.NewUnstartedServer(d)
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			server.TLS = &tls.Config{Certificates: []tls.Certificate{test.cert}}
			server.StartTLS()
			defer server.Close()
			client, err := dss.New(dss.Config{URL: server.URL, APIKey: ownKey, RootCAs: ours.pool()})
			require.NoError(t, err)
			defer client.CloseIdleConnections()
			m := newAuth(t, dssauth.Config{Client: client, StaleIfError: time.Hour})
			assert.Equal(t, test.want, who(m, signedIn(d, "ann")))
			if test.want != "ann" {
				assert.Zero(t, d.Calls(""), "nothing was sent, by no other way either")
			}
		})
	}
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{cert, key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// issue returns a certificate for an address that ends at the time given.
func (a *authority) issue(t *testing.T, ip string, end time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.ParseIP(ip)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: end,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
