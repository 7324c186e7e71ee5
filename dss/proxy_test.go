package dss_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

// callAsHelper asks DSS who we are, in a process of its own: Go reads the proxy
// variables once.
func callAsHelper() {
	c, err := dss.FromEnv()
	if err == nil {
		_, err = c.AuthInfo(context.Background())
	}
	fmt.Println(err)
}

func TestProxyFromTheEnvironmentIsForHTTPSOnly(t *testing.T) {
	proxy := newRecorder(t, replying(http.StatusBadGateway, "no"))
	server := newRecorder(t, replying(http.StatusOK, aliceInfo))
	// Go asks no proxy for loopback addresses; this one is not, and leads there.
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)

	ask := func(url string) string {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), helper+"=1", "DKU_DSS_URL="+url, "DKU_API_KEY="+testKey,
			"HTTP_PROXY="+proxy.URL, "HTTPS_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "https_proxy="+proxy.URL, "NO_PROXY=", "no_proxy=")
		out, err := cmd.Output()
		require.NoError(t, err)
		return strings.TrimSpace(string(out))
	}

	assert.Equal(t, "<nil>", ask("http://0.0.0.0:"+port))
	assert.Empty(t, proxy.requests(), "a proxy reads plain http along")

	assert.Contains(t, ask("https://0.0.0.0:"+port), "Bad Gateway")
	assert.Equal(t, "CONNECT", proxy.last(t).Method)
}
