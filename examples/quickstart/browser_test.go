package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestServesUntilItIsInterrupted(t *testing.T) {
	clearDSS(t)
	ctx, interrupt := context.WithCancel(t.Context())
	url, ended := start(ctx, t)
	r, err := http.NewRequestWithContext(t.Context(), "GET", url+"me", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer ann-key") // as in what it prints for curl
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	resp.Body.Close()
	assert.Contains(t, string(body), `"login":"ann"`)

	interrupt()
	assert.NoError(t, <-ended)
	_, err = http.DefaultClient.Do(r)
	assert.Error(t, err, "it is still there")
}

// start runs the program on a free port and returns the URL that it prints.
func start(ctx context.Context, t *testing.T) (url string, ended <-chan error) {
	out, in := io.Pipe()
	failed := make(chan error, 1)
	go func() {
		err := run(ctx, []string{"-addr", "127.0.0.1:0"}, in)
		in.CloseWithError(err)
		failed <- err
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	go io.Copy(io.Discard, out)
	fields := strings.Fields(line)
	require.Greater(t, len(fields), 1, line)
	return fields[1], failed
}

func TestPersonClicksThroughThePage(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("chromium is missing")
		}
		t.Skip("chromium is missing: apt-get install chromium")
	}
	clearDSS(t)
	server, shutDown := context.WithCancel(t.Context())
	defer shutDown()
	url, _ := start(server, t)
	b := newBrowser(t, chromium)

	b.do(chromedp.Navigate(url))
	b.sees("#you", "Nobody, so far")
	b.sees("#routes", "401", "for signed-in users")

	b.clicks("#sign-in-ann")
	b.sees("#you", "Ann Analyst", "analysts", "readers")
	b.sees("#routes", "200", "open to you")
	b.sees("footer", "up to 10s")

	b.clicks("#group")
	b.sees("#changed", "DSS has other groups for you by now", "up to 10s")

	b.clicks("#sign-in-bob")
	b.sees("#you", "Bob Reader")
	b.sees("#routes", "403", "for the group analysts, which you are not in")

	b.clicks("#outage")
	b.sees("#you", "We cannot check who you are right now")
	b.sees("#routes", "503", "nobody gets in")
	b.sees("#try", "The fake DSS is down", "Bring it back")

	b.clicks("#outage")
	b.sees("#try", "The fake DSS is up")
	b.reloadsUntil("#you", "Bob Reader")

	b.clicks("#sign-out")
	b.sees("#you", "Nobody, so far")
	b.do(chromedp.Navigate(url + "report"))
	b.sees("h1", "Sign in")
	b.clicks("#sign-in-bob")
	b.sees("h1", "You may not open this") // back at the report
}
