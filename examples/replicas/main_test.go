package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A browser signs in on one replica and signs out on the other, over real sockets
// and a real Redis.
func TestSignOutOnOneReplicaEndsTheSessionOnTheOther(t *testing.T) {
	needsRedis(t)
	replicas, redis, interrupt, ended := start(t, "")
	browser := newBrowser(t)
	assert.Equal(t, http.StatusUnauthorized, browser.status(replicas[0]+"/me"))
	browser.post(replicas[0]+"/sign-in", "login", "ann")
	assert.Equal(t, "ann [analysts readers]\n", browser.get(replicas[0]+"/me"))
	assert.Contains(t, browser.get(replicas[0]+"/"), "Ann Analyst")
	assert.Contains(t, redis("KEYS", "*"), "dssauth:")

	fromStore := regexp.MustCompile(`You are bob(?s:.*)Answers from the store: [1-9]`)
	require.Eventually(t, func() bool {
		browser.post(replicas[0]+"/sign-in", "login", "bob")
		browser.get(replicas[0] + "/me")
		return fromStore.MatchString(browser.get(replicas[1] + "/status"))
	}, 20*time.Second, 10*time.Millisecond, "the second replica need not ask DSS")

	browser.post(replicas[1] + "/sign-out")
	began := time.Now()
	require.Eventually(t, func() bool { return browser.status(replicas[0]+"/me") == http.StatusUnauthorized }, 20*time.Second, time.Millisecond)
	t.Logf("the other replica noticed %v after the answer, with a TTL of %v", time.Since(began).Round(100*time.Microsecond), ttl)
	assert.Contains(t, browser.get(replicas[0]+"/status"), "You are not signed in")

	browser.post(replicas[0]+"/sign-in", "login", "eve")
	assert.Equal(t, "eve []\n", browser.get(replicas[1]+"/me"))
	browser.post(replicas[0]+"/groups", "login", "eve", "join", "analysts")
	require.Eventually(t, func() bool { return browser.get(replicas[1]+"/me") == "eve [analysts]\n" }, 20*time.Second, time.Millisecond)
	browser.post(replicas[0]+"/sign-in", "login", "ann")
	browser.post(replicas[0]+"/outage", "down", "true")
	assert.Contains(t, browser.get(replicas[0]+"/status"), "DSS does not answer")
	browser.post(replicas[0]+"/outage", "down", "false")

	interrupt()
	assert.NoError(t, <-ended)
	_, err := http.Get(replicas[0])
	assert.Error(t, err, "it is still there")
}

func TestRunningRedisIsUsed(t *testing.T) {
	needsRedis(t)
	ctx, cancel := context.WithCancel(t.Context())
	address, redisEnded, err := startRedis(ctx)
	require.NoError(t, err)
	defer redisEnded()
	defer cancel()
	replicas, redis, interrupt, ended := start(t, address)
	browser := newBrowser(t)
	browser.post(replicas[0]+"/sign-in", "login", "eve")
	assert.Equal(t, "eve []\n", browser.get(replicas[1]+"/me"))
	interrupt()
	assert.NoError(t, <-ended)
	assert.Equal(t, "PONG", redis("PING"), "it is still there")
}

func TestWrongSettings(t *testing.T) {
	assert.ErrorContains(t, run(t.Context(), io.Discard, "127.0.0.1:1", "0.0.0.0:0"), `address "0.0.0.0:0": others can reach it`)
	assert.ErrorContains(t, run(t.Context(), io.Discard, "redis", "127.0.0.1:0"), "InitAddress[0]: host and port are required")
	t.Setenv("DSSAUTH_STORE_SECRETS", "c2hvcnQ=")
	assert.ErrorContains(t, run(t.Context(), io.Discard, "127.0.0.1:1", "127.0.0.1:0"), "StoreSecrets[0] has 5 bytes")
	t.Setenv("DSSAUTH_STORE_SECRETS", "c2hvcnQ=, hunter2")
	err := run(t.Context(), io.Discard, "127.0.0.1:1", "127.0.0.1:0")
	assert.ErrorContains(t, err, "DSSAUTH_STORE_SECRETS: secret 1 is not base64")
	assert.NotContains(t, err.Error(), "hunter2")
	t.Setenv("DSSAUTH_STORE_SECRETS", "")
	t.Setenv("PATH", t.TempDir())
	assert.ErrorContains(t, run(t.Context(), io.Discard, "", "127.0.0.1:0"), "install Redis, or name a running one")
}

func TestSecretsOf(t *testing.T) {
	secrets, err := secretsOf("b25l, dHdv")
	require.NoError(t, err)
	assert.Equal(t, [][]byte{[]byte("one"), []byte("two")}, secrets)
}

// needsRedis skips a test on a laptop without redis-server. CI has it.
func needsRedis(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI has redis-server: ", err)
		}
		t.Skip(err)
	}
}

// start runs the program on free ports.
func start(t *testing.T, redis string) (replicas []string, command func(args ...string) string, interrupt func(), ended <-chan error) {
	ctx, interrupt := context.WithCancel(t.Context())
	out, in := io.Pipe()
	failed := make(chan error, 1)
	go func() {
		err := run(ctx, in, redis, "127.0.0.1:0", "127.0.0.1:0")
		in.CloseWithError(err)
		failed <- err
	}()
	lines := bufio.NewReader(out)
	var said []string
	for range 3 {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		_, last, _ := strings.Cut(strings.TrimSpace(line), ": ")
		said = append(said, strings.TrimSuffix(last, "/"))
	}
	go io.Copy(io.Discard, out)
	var client rueidis.Client
	require.Eventually(t, func() (up bool) {
		var err error
		client, err = rueidis.NewClient(rueidis.ClientOption{InitAddress: said[2:], ForceSingleClient: true, DisableCache: true})
		return err == nil
	}, 20*time.Second, 10*time.Millisecond)
	t.Cleanup(client.Close)
	command = func(args ...string) string {
		result := client.Do(context.Background(), client.B().Arbitrary(args...).Build())
		if list, err := result.AsStrSlice(); err == nil {
			return strings.Join(list, " ")
		}
		text, err := result.ToString()
		require.NoError(t, err)
		return text
	}
	return said[:2], command, interrupt, failed
}

// browser shares its session on all ports of a host, as browsers do.
type browser struct {
	t *testing.T
	http.Client
}

func newBrowser(t *testing.T) *browser {
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &browser{t, http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (b *browser) status(url string) int {
	reply, err := b.Get(url)
	require.NoError(b.t, err)
	defer reply.Body.Close()
	return reply.StatusCode
}

func (b *browser) get(url string) string {
	reply, err := b.Get(url)
	require.NoError(b.t, err)
	defer reply.Body.Close()
	require.Equal(b.t, http.StatusOK, reply.StatusCode)
	text, err := io.ReadAll(reply.Body)
	require.NoError(b.t, err)
	return string(text)
}

func (b *browser) post(to string, fields ...string) {
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	reply, err := b.PostForm(to, form)
	require.NoError(b.t, err)
	defer reply.Body.Close()
	require.Equal(b.t, http.StatusSeeOther, reply.StatusCode, to)
}
