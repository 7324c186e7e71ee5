package dss_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

// counted returns a copy of the client, and counts its requests.
func counted(c *dss.Client, n *int) *dss.Client {
	return c.WrapTransport(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			*n++
			return next.RoundTrip(r)
		})
	})
}

func TestWrapTransportAffectsTheCopyAndItsCopies(t *testing.T) {
	server := newRecorder(t, replying(200, "{}"))
	own := server.client(t)
	asBob, err := own.As("bob")
	require.NoError(t, err)
	var outer, inner int
	wrapped := counted(own, &inner)
	asAnn, err := wrapped.As("ann")
	require.NoError(t, err)
	twice := counted(wrapped, &outer)
	for _, tt := range []struct {
		client       *dss.Client
		as           string
		outer, inner int
	}{
		{own, "", 0, 0},
		{asBob, "bob", 0, 0},
		{wrapped, "", 0, 1},
		{asAnn, "ann", 0, 1},
		{twice, "", 1, 1},
		{counted(asBob, &outer), "bob", 1, 0},
	} {
		outer, inner = 0, 0
		require.NoError(t, tt.client.Do(t.Context(), "GET", "/projects/", nil, nil))
		assert.Equal(t, []int{tt.outer, tt.inner}, []int{outer, inner})
		assert.Equal(t, tt.as, server.last(t).Header.Get("X-DKU-ProxyUser"))

		outer, inner = 0, 0
		r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/dip/publicapi/projects/", nil)
		require.NoError(t, err)
		reply, err := tt.client.Transport().RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, reply.Body.Close())
		assert.Equal(t, []int{tt.outer, tt.inner}, []int{outer, inner})
	}
	assert.Equal(t, own.String(), wrapped.String())
}

// The library asks DSS with the application's own rights before it acts as a
// visitor. The visitor's transport does not see these calls.
func TestWrapTransportSeesNoFetchOfATicket(t *testing.T) {
	server := newRecorder(t, replying(200, "{}"))
	own := server.client(t)
	var n int
	visitor := counted(own.WithTicketSource(func(ctx context.Context) (string, error) {
		return "ticket", own.Do(ctx, "POST", "/a-ticket", nil, nil)
	}), &n)
	require.NoError(t, visitor.Do(t.Context(), "GET", "/projects/", nil, nil))
	assert.Equal(t, 1, n)
	assert.Len(t, server.requests(), 2)
}

// Behind a wrapper a connection is still used again only after its reply was
// judged, and CloseIdleConnections still closes it.
func TestWrapTransportKeepsConnectionRules(t *testing.T) {
	var opened, closed atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/dip/publicapi/gateway" {
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprint(w, "<html>")
			return
		}
		fmt.Fprint(w, "{}")
	}))
	gone := make(chan struct{}, 10)
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			opened.Add(1)
		case http.StateClosed:
			closed.Add(1)
			gone <- struct{}{}
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	var n int
	client := counted(newClient(t, server.URL), &n)
	for i, tt := range []struct {
		path   string
		opened int64
	}{
		{"/projects/", 1}, {"/projects/", 1}, {"/gateway", 1}, {"/projects/", 2}, {"/projects/", 2},
	} {
		err := client.Do(t.Context(), "GET", tt.path, nil, nil)
		assert.Equal(t, tt.path == "/gateway", err != nil)
		assert.Equal(t, tt.opened, opened.Load(), "%d", i)
	}
	client.CloseIdleConnections()
	<-gone
	<-gone
	assert.EqualValues(t, 2, closed.Load())
}

func TestWrapTransportPanicsOnNil(t *testing.T) {
	client := newClient(t, "http://127.0.0.1:1")
	assert.PanicsWithValue(t, "dss: WrapTransport: wrap returned nil: return next to change nothing", func() {
		client.WrapTransport(func(http.RoundTripper) http.RoundTripper { return nil })
	})
	assert.Nil(t, counted(nil, nil))
	assert.Error(t, counted(new(dss.Client), nil).Do(t.Context(), "GET", "/projects/", nil, nil))
}

// A wrapper may drop a reply. Its connection blocks no later call.
func TestWrapTransportMayDropAReply(t *testing.T) {
	server := newRecorder(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	client := server.client(t)
	dropping := client.WrapTransport(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			reply, err := next.RoundTrip(r)
			if err == nil {
				err = errors.Join(errors.New("dropped"), reply.Body.Close())
			}
			return nil, err
		})
	})
	require.Error(t, dropping.Do(t.Context(), "GET", "/x", nil, nil))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	assert.NoError(t, client.Do(ctx, "GET", "/x", nil, nil))
}
