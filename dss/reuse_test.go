package dss_test

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

// notFound is DSS's reply about a thing that does not exist.
const notFound = `{"errorType": "com.dataiku.dip.server.controllers.NotFoundException", "message": "no"}`

// counting starts a server that counts its connections.
func counting(t *testing.T, secure bool, answer http.HandlerFunc) (server *httptest.Server, connections *atomic.Int32) {
	connections = new(atomic.Int32)
	server = httptest.NewUnstartedServer(answer)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	if secure {
		server.EnableHTTP2 = true
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return server, connections
}

func clientOf(t *testing.T, server *httptest.Server) *dss.Client {
	cfg := dss.Config{URL: server.URL, APIKey: testKey}
	if server.TLS != nil {
		cfg.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	}
	c, err := dss.New(cfg)
	require.NoError(t, err)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func TestConnectionsAreReused(t *testing.T) { reused(t, 32, 20) }

// The default of dssauth.Config.MaxLookups.
func TestConnectionsOfAllPlacesAreReused(t *testing.T) { reused(t, 256, 8) }

func reused(t *testing.T, atOnce, rounds int) {
	for _, secure := range []bool{false, true} {
		type gathering struct {
			missing atomic.Int64
			all     chan struct{}
		}
		var round atomic.Pointer[gathering]
		server, connections := counting(t, secure, func(w http.ResponseWriter, r *http.Request) {
			now := round.Load()
			if now.missing.Add(-1) == 0 {
				close(now.all)
			}
			select {
			case <-now.all: // of the round have arrived
			case <-r.Context().Done(): // one has failed on its way
			}
			if r.Method == http.MethodPut {
				w.WriteHeader(http.StatusNotFound)
				io.WriteString(w, notFound)
				return
			}
			io.WriteString(w, aliceInfo)
		})
		c := clientOf(t, server)
		for range rounds {
			var calls sync.WaitGroup
			here := &gathering{all: make(chan struct{})}
			here.missing.Store(int64(atOnce))
			round.Store(here)
			for i := range atOnce {
				calls.Go(func() {
					switch i % 6 {
					case 0:
						assert.NoError(t, second(c.AuthInfo(t.Context())))
					case 1: // a reply that does not matter
						assert.NoError(t, c.Do(t.Context(), "GET", "/x", nil, nil))
					case 2: // an error
						assert.Error(t, c.Do(t.Context(), "PUT", "/x", nil, nil))
					case 3:
						assert.NoError(t, c.Do(t.Context(), "GET", "/x", nil, io.Discard))
					case 4:
						through(t, c, "GET")
					case 5:
						through(t, c, "PUT")
					}
				})
			}
			calls.Wait()
		}
		assert.LessOrEqual(t, int(connections.Load()), 2*atOnce, "connections for %d calls, %d at once, TLS %v", rounds*atOnce, atOnce, secure)
	}
}

// through sends a request through Transport, and reads the reply to its end.
func through(t *testing.T, c *dss.Client, method string) {
	req, err := http.NewRequestWithContext(t.Context(), method, c.URL()+"/dip/publicapi/x", nil)
	if !assert.NoError(t, err) {
		return
	}
	reply, err := c.Transport().RoundTrip(req)
	if !assert.NoError(t, err) {
		return
	}
	_, err = io.Copy(io.Discard, reply.Body)
	assert.NoError(t, err)
	assert.NoError(t, reply.Body.Close())
}

func TestOnlyGoodRepliesKeepTheConnection(t *testing.T) {
	for name, row := range map[string]struct {
		status int
		body   string
		ask    func(*testing.T, *dss.Client)
		kept   bool
	}{
		"an answer":                             {200, aliceInfo, authInfo, true},
		"an error of DSS":                       {401, rejection, authInfo, true},
		"an error of DSS, broken":               {500, `{"errorType": "java.lang.NullPointerException"}`, authInfo, true},
		"a page":                                {200, "<html>", authInfo, false},
		"nothing":                               {200, "", authInfo, false},
		"an answer that is not one":             {200, `{"authIdentifier": null}`, authInfo, false},
		"an answer about somebody else":         {200, `{"login": "bob"}`, aliceAsUser, false},
		"a gateway's page":                      {504, "<html>", authInfo, false},
		"a gateway's nothing":                   {504, "", authInfo, false},
		"JSON without an errorType":             {404, `{"message": "no"}`, authInfo, false},
		"JSON with an empty errorType":          {404, `{"errorType": ""}`, authInfo, false},
		"a redirect":                            {302, notFound, authInfo, false},
		"an ignored reply, and none":            {200, "", doNothing, true},
		"an ignored reply, and JSON":            {200, `{"msg": "ok"}`, doNothing, true},
		"an ignored reply, and a page":          {200, "<html>", doNothing, false},
		"Do, and JSON of another type":          {200, `{"authIdentifier": 1}`, doJSON, false},
		"Transport, and anything":               {200, "<html>", byTransport, true},
		"Transport, and no content":             {204, "", byTransport, true},
		"Transport, and an error of DSS":        {404, notFound, byTransport, true},
		"Transport, and a gateway's page":       {504, "<html>", byTransport, false},
		"Transport, and a gateway's nothing":    {504, "", byTransport, false},
		"Transport, and a 304":                  {304, "", byTransport, false},
		"Transport, and an error left unread":   {404, notFound, leaveUnread, false},
		"tickets, one of which is rejected":     {401, rejection, rejectedTicket, true},
		"tickets, and a page that rejects them": {401, "<html>", rejectedTicket, false},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS %v", name, secure), func(t *testing.T) {
				server, connections := counting(t, secure, func(w http.ResponseWriter, _ *http.Request) {
					w.WriteHeader(row.status)
					io.WriteString(w, row.body)
				})
				c := clientOf(t, server)
				for range 3 {
					row.ask(t, c)
				}
				want := int32(3)
				if row.kept {
					want = 1
				}
				assert.Equal(t, want, connections.Load())
			})
		}
	}
}

func authInfo(t *testing.T, c *dss.Client)    { c.AuthInfo(t.Context()) }
func aliceAsUser(t *testing.T, c *dss.Client) { c.User(t.Context(), "alice") }
func doNothing(t *testing.T, c *dss.Client)   { c.Do(t.Context(), "PUT", "/x", nil, nil) }
func byTransport(t *testing.T, c *dss.Client) { through(t, c, "GET") }

func doJSON(t *testing.T, c *dss.Client) {
	var out struct{ AuthIdentifier string }
	c.Do(t.Context(), "GET", "/x", nil, &out)
}

func leaveUnread(t *testing.T, c *dss.Client) {
	req, err := http.NewRequestWithContext(t.Context(), "GET", c.URL()+"/x", nil)
	require.NoError(t, err)
	reply, err := c.Transport().RoundTrip(req)
	require.NoError(t, err)
	require.NoError(t, reply.Body.Close())
}

func rejectedTicket(t *testing.T, c *dss.Client) {
	n := 0
	c.WithTicketSource(func(context.Context) (string, error) { n++; return fmt.Sprint("ticket", n), nil }).AuthInfo(t.Context())
}

// The judge of a reply may judge late or never, or wait for the very question
// that waits for the judgement.
func TestUnjudgedReplyBlocksNoCall(t *testing.T) {
	for name, hold := range map[string]func(*testing.T, *dss.Client){
		"an error whose reader stopped": func(t *testing.T, c *dss.Client) {
			req, err := http.NewRequestWithContext(t.Context(), "GET", c.URL()+"/zipped", nil)
			require.NoError(t, err)
			reply, err := c.Transport().RoundTrip(req)
			require.NoError(t, err)
			t.Cleanup(func() { reply.Body.Close() })
			// All of it is received then, since it is unzipped.
			_, err = reply.Body.Read(make([]byte, 1))
			require.NoError(t, err)
		},
		"a value that asks DSS while it is decoded": func(t *testing.T, c *dss.Client) {
			require.NoError(t, c.Do(t.Context(), "GET", "/x", nil, &asking{t, c}))
		},
		"a writer that asks DSS": func(t *testing.T, c *dss.Client) {
			require.NoError(t, c.Do(t.Context(), "GET", "/x", nil, askingWriter{t, c}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, _ := counting(t, false, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/zipped" {
					io.WriteString(w, aliceInfo)
					return
				}
				w.Header().Set("Content-Encoding", "gzip")
				w.WriteHeader(http.StatusNotFound)
				z := gzip.NewWriter(w)
				io.WriteString(z, notFound)
				z.Close()
			})
			c := clientOf(t, server)
			hold(t, c)
			info, err := c.AuthInfo(t.Context())
			require.NoError(t, err)
			assert.Equal(t, "alice", info.Login())
		})
	}
}

type asking struct {
	t *testing.T
	c *dss.Client
}

func (a *asking) UnmarshalJSON([]byte) error { return second(a.c.AuthInfo(a.t.Context())) }

type askingWriter asking

func (a askingWriter) Write(p []byte) (int, error) {
	return len(p), second(a.c.AuthInfo(a.t.Context()))
}

// On a transport of the caller's, a connection is closed after a reply that is
// not DSS's. A connection that carries several questions at once stays open.
func TestCallersTransportClosesConnections(t *testing.T) {
	for name, row := range map[string]struct {
		status int
		body   string
		http2  bool
		opened int32
	}{
		"an answer":                        {200, aliceInfo, false, 1},
		"an error of DSS":                  {404, notFound, false, 1},
		"a page":                           {200, "<html>", false, 3},
		"a gateway's page":                 {504, "<html>", false, 3},
		"a gateway's nothing":              {504, "", false, 3},
		"a gateway's nothing, over HTTP/2": {504, "", true, 1},
		"an answer over HTTP/2":            {200, aliceInfo, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			server, connections := counting(t, true, func(w http.ResponseWriter, r *http.Request) {
				assert.Equal(t, row.http2, r.ProtoMajor == 2)
				w.WriteHeader(row.status)
				io.WriteString(w, row.body)
			})
			own := &http.Transport{TLSClientConfig: server.Client().Transport.(*http.Transport).TLSClientConfig.Clone(), ForceAttemptHTTP2: row.http2}
			own.Protocols = new(http.Protocols)
			own.Protocols.SetHTTP1(!row.http2)
			own.Protocols.SetHTTP2(row.http2)
			c, err := dss.New(dss.Config{URL: server.URL, APIKey: testKey, HTTPClient: &http.Client{Transport: own}})
			require.NoError(t, err)
			t.Cleanup(own.CloseIdleConnections)
			for range 3 {
				c.AuthInfoFromBrowserHeaders(t.Context(), http.Header{"Cookie": {"a=1"}})
			}
			assert.Equal(t, row.opened, connections.Load())
		})
	}
}
