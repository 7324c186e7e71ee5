package dss_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

// callAsHelper asks DSS about us, or about many browsers, in a process of its
// own: Go reads the proxy variables only once.
func callAsHelper() {
	c, err := dss.FromEnv()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.CloseIdleConnections()
	if os.Getenv(helper) == "many" {
		right, failed, wrong := askAtOnce(context.Background(), c, askByBrowser, 400)
		fmt.Println("wrong:", wrong, "right:", right > 0, "failed:", failed > 0)
		return
	}
	_, err = c.AuthInfo(context.Background())
	fmt.Println(err)
}

// Through a proxy net/http runs TLS over the connection. The end of a reply is
// not visible then.
func TestLateReplyThroughProxyAnswersNoOther(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, http.MethodConnect, r.Method)
		_, port, err := net.SplitHostPort(r.Host)
		assert.NoError(t, err)
		up, err := net.Dial("tcp", "127.0.0.1:"+port)
		if !assert.NoError(t, err) {
			return
		}
		defer up.Close()
		w.WriteHeader(http.StatusOK)
		down, _, err := http.NewResponseController(w).Hijack()
		if !assert.NoError(t, err) {
			return
		}
		defer down.Close()
		go func() {
			defer up.Close()
			io.Copy(up, down)
		}()
		io.Copy(down, up)
	}))
	t.Cleanup(proxy.Close)
	for name, mode := range lateReplies() {
		if !strings.HasPrefix(name, "504 without a body") && !strings.HasPrefix(name, "a 200 with a page,") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			g := &gateway{own: mode.own, pass: mode.pass}
			url := g.listen(t, true).URL()
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), helper+"=many", "NO_PROXY=", "no_proxy=", "HTTPS_PROXY="+proxy.URL, "https_proxy="+proxy.URL,
				// Go asks no proxy for loopback addresses; 0.0.0.0 is not one.
				"DKU_DSS_URL="+strings.Replace(url, "127.0.0.1", "0.0.0.0", 1), "DKU_API_KEY="+testKey, "DKU_NO_CHECK_CERTIFICATE=1")
			out, err := cmd.Output()
			require.NoError(t, err)
			assert.Equal(t, "wrong: 0 right: true failed: true\n", string(out))
			assert.Less(t, g.open.Load(), int32(300), "connections of 400 questions")
		})
	}
}

func TestProxyFromTheEnvironmentIsForHTTPSOnly(t *testing.T) {
	proxy := newRecorder(t, replying(http.StatusBadGateway, "no"))
	server := newRecorder(t, replying(http.StatusOK, aliceInfo))
	// Go asks no proxy for loopback addresses; this one is not a loopback
	// address, and leads to one.
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
