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

	ask := func(env ...string) string {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(append(os.Environ(), helper+"=1", "NO_PROXY=", "no_proxy="), env...)
		for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
			cmd.Env = append(cmd.Env, name+"="+proxy.URL)
		}
		out, err := cmd.Output()
		require.NoError(t, err)
		return strings.TrimSpace(string(out))
	}

	assert.Equal(t, "<nil>", ask("DKU_DSS_URL=http://0.0.0.0:"+port, "DKU_API_KEY="+testKey))
	assert.Contains(t, ask("DKU_API_TICKET=t", "DKU_BACKEND_PROTOCOL=https", "DKU_BACKEND_HOST=0.0.0.0", "DKU_BACKEND_PORT="+port),
		"the other side does not speak it", "inside DSS no proxy is in between")
	assert.Empty(t, proxy.requests(), "calls that a proxy reads along")

	assert.Contains(t, ask("DKU_DSS_URL=https://0.0.0.0:"+port, "DKU_API_KEY="+testKey), "the proxy refuses to connect: status 502")
	assert.Equal(t, "CONNECT", proxy.last(t).Method)
}
