package dsstest

import (
	"context"
	"crypto/rand"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/dssauth/dssauth/dss"
)

// Server is a [DSS] that listens on 127.0.0.1 and ends with its test.
type Server struct {
	*DSS
	url      string
	client   *dss.Client
	adminKey func() string
	close    func()
}

// NewServer starts a DSS without users, with one API key: a global
// administrator's, [Server.AdminKey]. It ends when tb does, and cuts off calls
// that still run.
func NewServer(tb testing.TB) *Server {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("dsstest: %v", err)
	}
	key := "dkuaps-" + rand.Text()
	s := &Server{DSS: New(), url: "http://" + listener.Addr().String()}
	s.adminKey = func() string { return key }
	s.AddAPIKey(key, "")
	s.close = serve(listener, s.DSS)
	tb.Cleanup(s.close)

	if s.client, err = dss.New(dss.Config{URL: s.url, APIKey: key}); err != nil {
		tb.Fatalf("dsstest: %v", err)
	}
	tb.Cleanup(s.client.CloseIdleConnections)
	return s
}

// serve answers calls with h until the returned function is called, which cuts
// off running calls. It may be called more than once.
func serve(listener net.Listener, h http.Handler) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{
		Handler:     h,
		BaseContext: func(net.Listener) context.Context { return ctx },
		// No log: breaking connections is a fake's purpose.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(listener) })
	return sync.OnceFunc(func() {
		cancel()
		server.Close()
		serving.Wait()
	})
}

// URL returns the server's URL, without a trailing slash.
func (s *Server) URL() string { return s.url }

// Client returns a client of this DSS with the administrator's key. It is the
// same client each time, so that its connections are reused.
func (s *Server) Client() *dss.Client { return s.client }

// AdminKey returns Client's API key, for programs that need a key in their
// settings, and for [DSS.RemoveAPIKey].
func (s *Server) AdminKey() string { return s.adminKey() }

// Close ends the server before its test ends. Afterwards connections are
// refused. It may be called more than once.
func (s *Server) Close() { s.close() }
