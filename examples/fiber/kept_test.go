package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/examples/internal/routertest"
)

var requestsFlag = flag.Int("requests", 0, "requests over kept connections; 0: 300,000 where CI=true, 20,000 elsewhere")

func requestCount() int {
	switch {
	case *requestsFlag > 0:
		return *requestsFlag
	case os.Getenv("CI") == "true":
		return 300_000
	}
	return 20_000
}

// Fasthttp reads the next request of a connection into the memory of the last
// one. The strings of a converted request's headers point to that memory. A
// lookup that outlives its request, such as a refresh ahead, must copy them.
// Otherwise it would ask DSS about the next visitor, and store the answer for
// the last one.
func TestKeptConnectionsDoNotMixVisitors(t *testing.T) {
	requests, mixed := 0, int64(0)
	for name, newApp := range map[string]func(*dssauth.Middleware) *fiber.App{
		"identified by Authenticate": newApp,
		"identified by a gate":       newGatedApp,
		"by a whole handler":         newWholeApp,
	} {
		t.Run(name, func(t *testing.T) {
			requests += requestCount() / 3
			mixed += mixVisitors(t, server(newApp), requestCount()/3)
		})
	}
	t.Logf("figure: %d requests over kept connections, of which %d were answered as another user's", requests, mixed)
}

func newGatedApp(auth *dssauth.Middleware) *fiber.App {
	app := fiber.New(config)
	app.All("/me", gate(auth.Handler), me)
	app.Get("/report", gate(auth.RequireGroup("analysts")), report)
	app.Get("/admin/users/:login", gate(auth.RequireGroup("administrators")), user)
	return app
}

func mixVisitors(t *testing.T, newServer routertest.Server, requests int) (mixed int64) {
	const visitors, connections = 20, 4
	fake := dsstest.NewServer(t)
	for i := range visitors {
		login := fmt.Sprintf("visitor%02d", i)
		fake.AddUser(dsstest.User{Login: login})
		fake.AddAPIKey("key-of-"+login, login)
	}
	// A slow DSS and a short TTL, so that lookups run all the time.
	fake.SetLatency(5 * time.Millisecond)
	auth, err := dssauth.New(dssauth.Config{Client: fake.Client(), TTL: 40 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, auth.Close()) })
	url := newServer(t, auth, nil) + "/me"

	var left, refused, wrong atomic.Int64
	left.Store(int64(requests))
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			connection := &http.Transport{MaxConnsPerHost: 1}
			defer connection.CloseIdleConnections()
			for left.Add(-1) >= 0 {
				login := fmt.Sprintf("visitor%02d", rand.IntN(visitors))
				switch got, err := whoAmI(t, connection, url, "key-of-"+login); {
				case err != nil:
					refused.Add(1)
				case got != login:
					wrong.Add(1)
				}
			}
		})
	}
	wg.Wait()
	assert.Zero(t, wrong.Load(), "requests that were answered as another user's")
	assert.Zero(t, refused.Load(), "requests that were not answered")
	assert.Greater(t, auth.Stats().Identified, uint64(2*visitors), "no answer was renewed")
	return wrong.Load()
}

func whoAmI(t *testing.T, connection *http.Transport, url, key string) (login string, err error) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	r.Header.Set("Authorization", "Bearer "+key)
	resp, err := connection.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d", resp.StatusCode)
	}
	var visitor struct{ Login string }
	err = json.NewDecoder(resp.Body).Decode(&visitor)
	return visitor.Login, err
}
