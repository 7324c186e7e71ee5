package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCheckSucceeds(t *testing.T) {
	var out strings.Builder
	assert.NoError(t, run(t.Context(), []string{"-check"}, &out, io.Discard))
	assert.NotContains(t, out.String(), "WRONG")
	assert.Contains(t, out.String(), "ok     eve opens /admin/: 403\n")
	assert.Contains(t, out.String(), "as they should be")
}

func TestCheckFailsIfAGateway(t *testing.T) {
	for name, row := range map[string]struct{ old, new, line string }{
		"opens everything":                {"signed-in", "everyone", "anonymous visitor opens /: 200, not 401"},
		"forgets who may read a project":  {"project: CHURN", "allow: signed-in", "eve opens /churn/: 200, not 403"},
		"forgets who is an administrator": {"groups: [administrators]", "allow: signed-in", "eve opens /admin/: 200, not 403"},
		"closes an open page":             {"allow: everyone", "allow: nobody", "anonymous visitor opens /open/: 403, not 200"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changed := strings.Replace(rules, row.old, row.new, 1)
			require.NotEqual(t, rules, changed)
			var out strings.Builder
			assert.ErrorContains(t, tell(t.Context(), &out, changed), "not as they should be")
			assert.Contains(t, out.String(), "WRONG  "+row.line)
		})
	}
}

func TestServesUntilItIsInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, []string{"-addr", "127.0.0.1:0"}, writer, io.Discard)
		writer.Close()
		ended <- err
	}()
	text := make([]byte, 4096)
	n, err := reader.Read(text)
	require.NoError(t, err)
	said := string(text[:n])
	gateway := regexp.MustCompile(`through the gateway: +(\S+)/`).FindStringSubmatch(said)
	require.NotNil(t, gateway, said)
	assert.Contains(t, said, "curl -i "+gateway[1]+"/open/\n")

	// A browser is led to the fake's page, and back to where it was.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, gateway[1]+"/churn/?a=1", nil)
	require.NoError(t, err)
	r.Header.Set("Accept", "text/html")
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	reply, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	reply.Body.Close()
	to, err := url.Parse(reply.Header.Get("Location"))
	require.NoError(t, err)
	assert.Contains(t, said, to.Scheme+"://"+to.Host+"/sign-in")
	assert.Equal(t, gateway[1]+"/churn/?a=1", to.Query().Get("redirect"))
	reply, err = http.Get(to.String())
	require.NoError(t, err)
	page, err := io.ReadAll(reply.Body)
	reply.Body.Close()
	require.NoError(t, err)
	assert.Contains(t, string(page), "/churn/?a=1", "the way back stands on the page")

	interrupt()
	go io.Copy(io.Discard, reader)
	assert.NoError(t, <-ended)
	_, err = http.Get(gateway[1])
	assert.Error(t, err, "it is still there")
}

func TestWrongArguments(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	for args, want := range map[string]string{
		"-addr 0.0.0.0:8080":             "others can reach this address",
		"-addr " + taken.Addr().String(): "is taken",
		"-addr nowhere":                  "-addr",
		"-port 1":                        "see -help",
		"check":                          `unexpected argument "check"`,
	} {
		assert.ErrorContains(t, run(t.Context(), strings.Fields(args), io.Discard, io.Discard), want, args)
	}
}
