package dss_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

// fakeTransport is DSS without a network, for tests about time.
type fakeTransport func(*http.Request) (*http.Response, error)

func (f fakeTransport) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func fakeClient(t testing.TB, answer fakeTransport) *dss.Client {
	c, err := dss.New(dss.Config{URL: "https://dss.example", APIKey: testKey, HTTPClient: &http.Client{Transport: answer}})
	require.NoError(t, err)
	return c
}

func reply(status int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

// hanging answers nothing until the call is over.
func hanging(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

func TestCallsEnd(t *testing.T) {
	for name, row := range map[string]struct {
		client  http.Client
		timeout time.Duration // the deadline of the call's context; 0: none
		want    time.Duration
	}{
		"after 30 seconds without any other limit":          {http.Client{}, 0, 30 * time.Second},
		"at their context's deadline":                       {http.Client{}, time.Second, time.Second},
		"at a deadline later than 30 seconds":               {http.Client{}, time.Hour, time.Hour},
		"after the HTTP client's timeout":                   {http.Client{Timeout: 2 * time.Second}, 0, 2 * time.Second},
		"after the HTTP client's timeout if that is sooner": {http.Client{Timeout: 2 * time.Second}, time.Hour, 2 * time.Second},
		"at their deadline if that is sooner":               {http.Client{Timeout: time.Hour}, time.Second, time.Second},
		"after the HTTP client's timeout if that is later":  {http.Client{Timeout: time.Hour}, 0, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				row.client.Transport = fakeTransport(hanging)
				c, err := dss.New(dss.Config{URL: "https://dss.example", APIKey: testKey, HTTPClient: &row.client})
				require.NoError(t, err)
				ctx := t.Context()
				if row.timeout != 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, row.timeout)
					defer cancel()
				}
				for what, call := range map[string]func() error{
					"auth info": func() error { return second(c.AuthInfo(ctx)) },
					"do":        func() error { return c.Do(ctx, "POST", "/x", map[string]int{}, nil) },
				} {
					ctxLeft := row.want
					if deadline, ok := ctx.Deadline(); ok {
						ctxLeft = min(ctxLeft, time.Until(deadline))
					}
					start := time.Now()
					err := call()
					assert.ErrorIs(t, err, context.DeadlineExceeded, what)
					assert.Equal(t, max(ctxLeft, 0), time.Since(start), what)
				}
			})
		})
	}
}

func TestCancelledCallIsNotSentAgain(t *testing.T) {
	var sent int
	c := fakeClient(t, func(req *http.Request) (*http.Response, error) {
		sent++
		return hanging(req)
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.AuthInfo(ctx)
	assert.ErrorIs(t, err, context.Canceled)
	assert.LessOrEqual(t, sent, 1, "a cancelled read is not tried again")
	//lint:ignore SA1012 what a caller may get wrong
	_, err = c.AuthInfo(nil)
	assert.EqualError(t, err, "dss: GET /auth/info: the context is nil")
}

// A raw DSS answers each connection's first request with bytes, and closes it.
func rawDSS(t *testing.T, answer func(net.Conn)) (url string, connections *atomic.Int32) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	connections = new(atomic.Int32)
	var open sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		open.Wait()
	})
	open.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			open.Go(func() {
				defer conn.Close()
				answer(conn)
			})
		}
	})
	return "http://" + listener.Addr().String(), connections
}

// readRequest reads one request to its end.
func readRequest(conn net.Conn) {
	buffer := make([]byte, 64<<10)
	n := 0
	for n < len(buffer) && !bytes.Contains(buffer[:n], []byte("\r\n\r\n")) {
		m, err := conn.Read(buffer[n:])
		if err != nil {
			return
		}
		n += m
	}
}

func reset(conn net.Conn) {
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

func TestRepliesThatBreakOff(t *testing.T) {
	for name, row := range map[string]struct {
		answer func(net.Conn)
		reads  int32 // how many times a read is sent
		is     error // nil: any
	}{
		"closed before the reply":   {func(c net.Conn) { readRequest(c) }, 2, io.EOF},
		"reset before the reply":    {func(c net.Conn) { readRequest(c); reset(c) }, 2, syscall.ECONNRESET},
		"closed inside the status":  {func(c net.Conn) { readRequest(c); io.WriteString(c, "HTTP/1.1 2") }, 1, nil},
		"closed inside the headers": {func(c net.Conn) { readRequest(c); io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-") }, 1, nil},
		"closed inside the body": {func(c net.Conn) {
			readRequest(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"authIdentifier\": \"alice\", \"groups\": []}")
		}, 1, io.ErrUnexpectedEOF},
		"closed between two chunks": {func(c net.Conn) {
			readRequest(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n29\r\n{\"authIdentifier\": \"alice\", \"groups\": []}\r\n")
		}, 1, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			url, connections := rawDSS(t, row.answer)
			c := newClient(t, url)
			for what, call := range map[string]func() error{
				"who am I":    func() error { return second(c.AuthInfo(t.Context())) },
				"who is this": func() error { return second(c.AuthInfoFromBrowserHeaders(t.Context(), http.Header{"Cookie": {"a=1"}})) },
				"a ticket":    func() error { return second(c.TicketFromBrowserHeaders(t.Context(), http.Header{"Cookie": {"a=1"}})) },
				"a user":      func() error { return second(c.User(t.Context(), "bob")) },
				"settings":    func() error { return second(c.OwnSettings(t.Context())) },
				"GET": func() error {
					var out any
					return c.Do(t.Context(), "GET", "/x", nil, &out)
				},
			} {
				connections.Store(0)
				err := call()
				require.Error(t, err, what)
				if row.is != nil {
					assert.ErrorIs(t, err, row.is, what)
				}
				assert.Equal(t, row.reads, connections.Load(), what)
				assert.NotErrorIs(t, err, dss.ErrUnexpectedReply, "it is the network's fault")
			}
			for _, method := range []string{"PUT", "POST", "DELETE", "PATCH"} {
				connections.Store(0)
				var out any
				err := c.Do(t.Context(), method, "/x", map[string]int{"a": 1}, &out)
				require.Error(t, err, method)
				assert.Equal(t, int32(1), connections.Load(), "%s is sent once", method)
			}
		})
	}
}

// net/http's trace of an attempt decides whether there is another one.
func TestAReadIsNotTriedAgain(t *testing.T) {
	for name, row := range map[string]struct {
		tell func(*httptrace.ClientTrace)
		err  error
		sent int
	}{
		"after a byte of the reply":     {func(t *httptrace.ClientTrace) { t.GotFirstResponseByte() }, syscall.ECONNRESET, 1},
		"if net/http tried twice":       {func(t *httptrace.ClientTrace) { t.GotConn(httptrace.GotConnInfo{}); t.GotConn(httptrace.GotConnInfo{}) }, io.EOF, 1},
		"after another error":           {func(*httptrace.ClientTrace) {}, syscall.ECONNREFUSED, 1},
		"unless reset before the reply": {func(t *httptrace.ClientTrace) { t.GotConn(httptrace.GotConnInfo{}) }, syscall.ECONNRESET, 2},
		"unless the pipe is broken":     {func(*httptrace.ClientTrace) {}, syscall.EPIPE, 2},
	} {
		t.Run(name, func(t *testing.T) {
			sent := 0
			c := fakeClient(t, func(req *http.Request) (*http.Response, error) {
				if sent++; sent == 1 {
					row.tell(httptrace.ContextClientTrace(req.Context()))
				}
				return nil, row.err
			})
			_, err := c.AuthInfo(t.Context())
			assert.ErrorIs(t, err, row.err)
			assert.Equal(t, row.sent, sent)
		})
	}
}

func TestAReadThatWasDroppedOnceSucceeds(t *testing.T) {
	var dropped atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if dropped.CompareAndSwap(false, true) {
			panic(http.ErrAbortHandler)
		}
		body, _ := io.ReadAll(r.Body)
		assert.Equal(t, `{"Cookie":"a=1"}`, string(body), "the whole body once more")
		io.WriteString(w, aliceInfo)
	}))
	t.Cleanup(server.Close)
	info, err := newClient(t, server.URL).AuthInfoFromBrowserHeaders(t.Context(), http.Header{"Cookie": {"a=1"}})
	require.NoError(t, err)
	assert.Equal(t, "alice", info.Login())
}

// A connection that was kept may be dropped by DSS at any time: net/http then
// sends reads again, and must not send writes again.
func TestWriteOnKeptConnectionIsSentOnce(t *testing.T) {
	var writes atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			io.WriteString(w, aliceInfo)
			return
		}
		writes.Add(1)
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(server.Close)
	c := newClient(t, server.URL)
	for _, method := range []string{"PUT", "POST", "DELETE", "PATCH"} {
		_, err := c.AuthInfo(t.Context()) // leaves a connection that is kept
		require.NoError(t, err)
		writes.Store(0)
		require.Error(t, c.Do(t.Context(), method, "/x", map[string]int{"a": 1}, nil))
		assert.Equal(t, int32(1), writes.Load(), method)
	}
}

func TestRepliesAreBounded(t *testing.T) {
	const mib = 1 << 20
	// A reply of n bytes. Its last member is padding.
	sized := func(start string, n int) string {
		return start + strings.Repeat(" ", n-len(start)-1) + "}"
	}
	for name, row := range map[string]struct {
		limit int
		start string
		call  func(*dss.Client) error
	}{
		"who am I": {mib, `{"authIdentifier": "alice"`, func(c *dss.Client) error { return second(c.AuthInfo(t.Context())) }},
		"a ticket": {mib, `{"msg": "ticket"`, func(c *dss.Client) error { return second(c.TicketFromBrowserHeaders(t.Context(), nil)) }},
		"a user":   {mib, `{"login": "bob"`, func(c *dss.Client) error { return second(c.User(t.Context(), "bob")) }},
		"settings": {16 * mib, `{"a": 1`, func(c *dss.Client) error { return second(c.OwnSettings(t.Context())) }},
		"Do": {64 * mib, `{"a": 1`, func(c *dss.Client) error {
			var out struct{ A int }
			return c.Do(t.Context(), "GET", "/x", nil, &out)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, over := range []int{0, 1} {
				body := sized(row.start, row.limit+over)
				err := row.call(fakeClient(t, func(*http.Request) (*http.Response, error) { return reply(200, body), nil }))
				if over <= 0 {
					assert.NoError(t, err)
					continue
				}
				assert.ErrorIs(t, err, dss.ErrUnexpectedReply)
				assert.ErrorContains(t, err, fmt.Sprintf("longer than %d MiB", row.limit/mib))
			}
		})
	}
}

// endless is a reply without end. It counts the bytes that were read.
type endless struct{ read int64 }

func (e *endless) Read(p []byte) (int, error) {
	if e.read > 64<<20 { // far beyond each limit, so that a failing test ends
		return 0, io.EOF
	}
	for i := range p {
		p[i] = ' '
	}
	e.read += int64(len(p))
	return len(p), nil
}

func (*endless) Close() error { return nil }

func TestEndlessReplyIsReadToItsBound(t *testing.T) {
	for status, limit := range map[int]int64{200: 1 << 20, 401: 1 << 20, 502: 1 << 20, 302: 0} {
		body := &endless{}
		c := fakeClient(t, func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Body: body}, nil
		})
		_, err := c.AuthInfo(t.Context())
		require.Error(t, err)
		assert.LessOrEqual(t, body.read, limit+limit/8, "bytes read of a %d", status)
	}
}

func TestGzipBombIsReadToItsBound(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, err := io.CopyN(z, &endless{}, 8<<20)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	require.Less(t, bomb.Len(), 64<<10, "small on the wire")
	for _, status := range []int{200, 401} {
		server := newRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, "gzip", r.Header.Get("Accept-Encoding"))
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(status)
			w.Write(bomb.Bytes())
		})
		_, err := server.client(t).AuthInfo(t.Context())
		require.Error(t, err)
		if status == 200 {
			assert.EqualError(t, err, "dss: GET /auth/info: unexpected reply: the body is longer than 1 MiB")
		}
	}
}

// dripping gives a byte a second.
type dripping struct{ ctx context.Context }

func (d dripping) Read(p []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		p[0] = ' '
		return 1, nil
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
}

func (dripping) Close() error { return nil }

func TestDrippingReplyEndsAtTheDeadline(t *testing.T) {
	for _, status := range []int{200, 502} {
		synctest.Test(t, func(t *testing.T) {
			c := fakeClient(t, func(req *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: status, Body: dripping{req.Context()}}, nil
			})
			start := time.Now()
			_, err := c.AuthInfo(t.Context())
			require.Error(t, err)
			assert.Equal(t, 30*time.Second, time.Since(start))
		})
	}
}

// A connection with another protocol never ends, so nothing may read to its
// end.
func TestUnrequestedProtocolSwitch(t *testing.T) {
	done := make(chan struct{})
	url, _ := rawDSS(t, func(conn net.Conn) {
		readRequest(conn)
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		<-done
	})
	defer close(done)
	err := newClient(t, url).Do(t.Context(), "GET", "/x", nil, io.Discard)
	assert.EqualError(t, err, "dss: 101 Switching Protocols")
}

func TestWrongTransports(t *testing.T) {
	_, err := fakeClient(t, func(*http.Request) (*http.Response, error) { return nil, nil }).AuthInfo(t.Context())
	assert.EqualError(t, err, "dss: GET /auth/info: Config.HTTPClient: its Transport returned neither a reply nor an error")

	_, err = fakeClient(t, func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 200}, nil }).AuthInfo(t.Context())
	assert.EqualError(t, err, "dss: GET /auth/info: unexpected reply: the body is not a JSON object")

	_, err = fakeClient(t, func(*http.Request) (*http.Response, error) {
		return nil, errors.New("it said \"a\r\nlevel=ERROR\"" + strings.Repeat("x", 1000))
	}).AuthInfo(t.Context())
	assert.EqualError(t, err, "dss: GET /auth/info: no reply that can be understood")
}
