package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dsstest"
)

func TestMetricsHaveAnAddressOfTheirOwn(t *testing.T) {
	app, metrics, err := newServers(dsstest.NewServer(t).Client())
	require.NoError(t, err)
	get := func(h http.Handler, path string) (status int, body string) {
		server := httptest.NewServer(h)
		defer server.Close()
		reply, err := http.Get(server.URL + path)
		require.NoError(t, err)
		defer reply.Body.Close()
		text, err := io.ReadAll(reply.Body)
		require.NoError(t, err)
		return reply.StatusCode, string(text)
	}
	status, _ := get(app, "/metrics")
	assert.Equal(t, http.StatusUnauthorized, status)
	status, scrape := get(metrics, "/metrics")
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, scrape, `dssauth_refusals_total{status="401"} 1`+"\n")
	assert.Contains(t, scrape, "dssauth_places 32\n")
}
