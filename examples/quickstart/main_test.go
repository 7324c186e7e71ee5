package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dsstest"
)

func TestServesUntilItIsInterrupted(t *testing.T) {
	clearDSS(t)
	ctx, interrupt := context.WithCancel(t.Context())
	url, ended := start(ctx, t)
	// As in its printed line for curl.
	status, body := get(t, url+"me", "Authorization", "Bearer ann-key")
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, body, `"login":"ann"`)

	interrupt()
	assert.NoError(t, <-ended)
	_, err := http.Get(url)
	assert.Error(t, err, "it is still there")
}

func TestFakeIsUsedWithoutTheFlagReal(t *testing.T) {
	for name, configure := range map[string]func(*testing.T){
		"by variables": func(t *testing.T) {
			t.Setenv("DKU_DSS_URL", "https://dss.example")
			t.Setenv("DKU_API_KEY", "key")
		},
		"by a file, as for Dataiku's own clients": func(t *testing.T) {
			folder := filepath.Join(os.Getenv("HOME"), ".dataiku")
			require.NoError(t, os.Mkdir(folder, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(folder, "config.json"),
				[]byte(`{"default_instance": "a", "dss_instances": {"a": {"url": "https://dss.example", "api_key": "key"}}}`), 0o600))
		},
		"wrongly": func(t *testing.T) { t.Setenv("DKU_DSS_URL", "https://dss.example") },
	} {
		t.Run(name, func(t *testing.T) {
			clearDSS(t)
			configure(t)
			ctx, interrupt := context.WithCancel(t.Context())
			url, ended := start(ctx, t)
			status, body := get(t, url)
			assert.Equal(t, http.StatusOK, status)
			assert.Contains(t, body, "Sign in as ann")
			status, _ = get(t, url+"me", "Authorization", "Bearer ann-key")
			assert.Equal(t, http.StatusOK, status)
			interrupt()
			assert.NoError(t, <-ended)
		})
	}
}

func TestRealUsesTheConfiguredDSS(t *testing.T) {
	clearDSS(t)
	dss := dsstest.NewServer(t)
	dss.AddUser(dsstest.User{Login: "zoe", Groups: []string{"analysts"}})
	session := dss.SignIn("zoe")
	t.Setenv("DKU_DSS_URL", dss.URL())
	t.Setenv("DKU_API_KEY", dss.AdminKey())
	ctx, interrupt := context.WithCancel(t.Context())
	url, ended := start(ctx, t, "-real")

	zoe := []string{"Cookie", session.Name + "=" + session.Value}
	status, body := get(t, url, zoe...)
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, body, "zoe")
	assert.NotContains(t, body, "<form", "it has buttons for the fake DSS")
	status, body = get(t, url+"as-me", zoe...)
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, body, `"calledDSSAs":"zoe"`)
	// A missing right is not an outage.
	dss.Intercept("/auth/ticket-from-browser-headers", -1, dsstest.Respond(http.StatusForbidden, ""))
	again := dss.SignIn("zoe") // there is no ticket yet
	status, body = get(t, url, "Cookie", again.Name+"="+again.Value)
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, body, "200 Open")
	assert.Contains(t, body, "DSS allows no call as you now")
	assert.NotContains(t, strings.ToLower(body), "recovering")
	assert.NotContains(t, body, "refresh")
	status, body = get(t, url)
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, body, "Your browser sent no session that DSS knows")
	for _, path := range []string{"sign-in", "sign-out", "groups", "outage"} {
		status, _ = get(t, url+path)
		assert.Equal(t, http.StatusNotFound, status, path)
	}

	interrupt()
	assert.NoError(t, <-ended)
}

// start runs the program on a free port and returns the URL that it prints.
func start(ctx context.Context, t *testing.T, flags ...string) (url string, ended <-chan error) {
	out, in := io.Pipe()
	failed := make(chan error, 1)
	go func() {
		err := run(ctx, append(flags, "-addr", "127.0.0.1:0"), in)
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

func get(t *testing.T, url string, header ...string) (status int, body string) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	if len(header) == 2 {
		r.Header.Set(header[0], header[1])
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}

func TestWrongFlagsAreExplained(t *testing.T) {
	taken, err := listen("127.0.0.1:0", true)
	require.NoError(t, err)
	defer taken.Close()
	clearDSS(t)
	for name, row := range map[string]struct {
		args []string
		want string
	}{
		"an address that is taken":             {[]string{"-addr", taken.Addr().String()}, "is taken: end the program that listens there, or choose another port"},
		"an address that others reach":         {[]string{"-addr", "0.0.0.0:0"}, `-addr "0.0.0.0:0": others can reach this address`},
		"every address":                        {[]string{"-addr", ":0"}, `-addr ":0": others can reach this address`},
		"an address without a port":            {[]string{"-addr", "127.0.0.1"}, `-addr "127.0.0.1"`},
		"a flag that does not exist":           {[]string{"-port", "80"}, "see -help"},
		"an argument":                          {[]string{"check"}, `unexpected argument "check": see -help`},
		"-real without a DSS":                  {[]string{"-real"}, "-real: dss: no DSS is configured: neither DKU_API_TICKET"},
		"-check on the real DSS":               {[]string{"-real", "-check"}, "-check and -real: set one of them"},
		"the address of a DSS without its key": {nil, "-real: dss: DKU_DSS_URL is set and DKU_API_KEY is not"},
	} {
		t.Run(name, func(t *testing.T) {
			if row.args == nil {
				t.Setenv("DKU_DSS_URL", "https://dss.example")
				row.args = []string{"-real"}
			}
			assert.ErrorContains(t, run(t.Context(), row.args, io.Discard), row.want)
		})
	}
}

// clearDSS removes any configuration of a DSS.
func clearDSS(t *testing.T) {
	for _, name := range []string{"DKU_API_TICKET", "DKU_DSS_URL", "DKU_API_KEY", "DKU_DEFAULT_INSTANCE"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
}
