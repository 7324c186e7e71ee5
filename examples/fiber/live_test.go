package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

// fasthttp reads the next request into the memory of the last one, while gates
// check connections again that began long ago.
func TestGateReadsTheOriginalPathLater(t *testing.T) {
	const connections = 50
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "ann"})
	auth, err := dssauth.New(dssauth.Config{Client: fake.Client()})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, auth.Close()) })

	var mu sync.Mutex
	began, all := map[string]bool{}, false // the paths of connections; true when all began
	var asked, wrong atomic.Int64
	gate := auth.Require(func(r *http.Request, _ dssauth.Identity) error {
		mu.Lock()
		defer mu.Unlock()
		asked.Add(1)
		own := "/projects/" + r.PathValue("key")
		if own != r.URL.Path || r.Header.Get("X-Project") != r.PathValue("key") || all && !began[own] {
			wrong.Add(1)
		}
		return nil
	})
	mux := http.NewServeMux()
	mux.Handle("/projects/{key}", gate(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		began[strings.Clone(r.URL.Path)] = true
		_, cancel := auth.WhileSignedIn(r.WithContext(context.WithoutCancel(r.Context())), 100*time.Millisecond)
		_ = cancel // the connection outlasts its handler, until the Middleware is closed
	})))
	mux.HandleFunc("/elsewhere/{key}", func(http.ResponseWriter, *http.Request) {})
	url := server(func(auth *dssauth.Middleware) *fiber.App {
		app := fiber.New(config)
		app.All("/*", adaptor.HTTPHandler(auth.Handler(mux)))
		return app
	})(t, auth, nil)
	session := fake.SignIn("ann")
	kept := &http.Transport{MaxIdleConnsPerHost: 1, MaxConnsPerHost: 1}
	t.Cleanup(kept.CloseIdleConnections)
	send := func(path, project string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
		require.NoError(t, err)
		r.AddCookie(session)
		r.Header.Set("X-Project", project)
		resp, err := kept.RoundTrip(r)
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
	}
	for i := range connections {
		key := fmt.Sprintf("PROJECT%02d", i)
		send("/projects/"+key, key)
	}
	mu.Lock()
	all = true
	mu.Unlock()
	for i := 0; asked.Load() < 5*connections; i++ { // others, in the same memory
		require.NoError(t, t.Context().Err())
		key := fmt.Sprintf("ANOTHER%02d", i%100)
		send("/elsewhere/"+key, key)
	}
	assert.Zero(t, wrong.Load(), "of %d checks by gates", asked.Load())
}
