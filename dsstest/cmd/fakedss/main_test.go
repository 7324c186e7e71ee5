package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// start runs the command until the test ends, and returns its first line.
func start(t *testing.T, args ...string) access {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	stdout, w := io.Pipe()
	var hint strings.Builder
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, args, w, &hint)
		w.CloseWithError(err)
		ended <- err
	}()
	lines := bufio.NewReader(stdout)
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	var first access
	t.Cleanup(func() {
		interrupt()
		rest, _ := io.ReadAll(lines)
		assert.Empty(t, rest, "the first line only")
		assert.NoError(t, <-ended, "an interrupt is not an error")
		assert.Equal(t, fmt.Sprintf("Start your application with DKU_DSS_URL=%s DKU_API_KEY=%s, and sign in at %[1]s/\n", first.URL, first.AdminKey), hint.String())
	})
	dec := json.NewDecoder(strings.NewReader(line))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&first))
	return first
}

// ask returns the caller that the fake names, or, with headers, the visitor.
func ask(t *testing.T, url, key, headers string) (login string) {
	t.Helper()
	method, path := "GET", "/auth/info"
	if headers != "" {
		method, path = "POST", "/auth/info-from-browser-headers"
	}
	req, err := http.NewRequest(method, url+"/dip/publicapi"+path, strings.NewReader(headers))
	require.NoError(t, err)
	req.SetBasicAuth(key, "")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, 200, resp.StatusCode)
	var info struct{ AssociatedDSSUser string }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&info))
	return info.AssociatedDSSUser
}

func TestFirstLineHasAllCredentials(t *testing.T) {
	first := start(t)
	assert.Regexp(t, `^http://127\.0\.0\.1:\d+$`, first.URL)
	assert.Empty(t, ask(t, first.URL, first.AdminKey, ""))
	require.Len(t, first.Users, 4)
	for _, login := range []string{"ann", "bob", "eve", "admin"} {
		u := first.Users[login]
		assert.Equal(t, login, ask(t, first.URL, u.Key, ""))
		assert.Equal(t, login, ask(t, first.URL, first.AdminKey, `{"Cookie": "a=1; `+u.Cookie+`"}`))
	}
}

func TestAdminKeyCanBeFixed(t *testing.T) {
	first := start(t, "-admin-key", "dev")
	assert.Equal(t, "dev", first.AdminKey)
	assert.Empty(t, ask(t, first.URL, "dev", ""))

	one, other := start(t), start(t)
	assert.NotEqual(t, one.AdminKey, other.AdminKey)
}

func TestSignInPage(t *testing.T) {
	first := start(t)
	direct := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	page, err := direct.Get(first.URL + "/")
	require.NoError(t, err)
	defer page.Body.Close()
	assert.Equal(t, 200, page.StatusCode)
	reply, err := direct.PostForm(first.URL+"/sign-in", url.Values{"login": {"bob"}})
	require.NoError(t, err)
	defer reply.Body.Close()
	require.Equal(t, 303, reply.StatusCode)
	c := reply.Cookies()[0]
	assert.Equal(t, "bob", ask(t, first.URL, first.AdminKey, `{"Cookie": "`+c.Name+"="+c.Value+`"}`))
}

func TestUsersOfAFile(t *testing.T) {
	first := start(t, "-addr", "localhost:0", "-users", write(t, `[
		{"login": "zoe@example.com", "displayName": "Zoë", "email": "z@example.com", "groups": ["a b"], "profile": "READER"},
		{"login": "chief", "admin": true},
		{"login": "former", "disabled": true}
	]`))
	require.Len(t, first.Users, 3)
	zoe := first.Users["zoe@example.com"].Key
	assert.Equal(t, "zoe@example.com", ask(t, first.URL, zoe, ""))

	req, err := http.NewRequest("GET", first.URL+"/dip/publicapi/users/former", nil)
	require.NoError(t, err)
	req.SetBasicAuth(first.Users["chief"].Key, "")
	req.Header.Set("X-DKU-ProxyUser", "zoe@example.com")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, 200, resp.StatusCode, "chief may act as others")
	assert.Contains(t, string(body), `"enabled":false`)
}

func TestWrongArguments(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"every address":                 {[]string{"-addr", "0.0.0.0:0"}, `-addr "0.0.0.0:0": others can reach this address: use 127.0.0.1, or add -insecure-listen`},
		"every address, v6":             {[]string{"-addr", "[::]:0"}, "others can reach this address"},
		"no host":                       {[]string{"-addr", ":0"}, "others can reach this address"},
		"another host":                  {[]string{"-addr", "192.0.2.1:0"}, "others can reach this address"},
		"no port":                       {[]string{"-addr", "127.0.0.1"}, `-addr "127.0.0.1"`},
		"a port that is not a number":   {[]string{"-addr", "127.0.0.1:x"}, `-addr "127.0.0.1:x"`},
		"a port that is taken":          {[]string{"-addr", taken.Addr().String()}, fmt.Sprintf("-addr %q is taken: end the program that listens there, or choose another port, as in -addr 127.0.0.1:", taken.Addr())},
		"an unknown flag":               {[]string{"-listen", "x"}, "-listen: see -help"},
		"an argument":                   {[]string{"users.json"}, `unexpected argument "users.json": see -help`},
		"a missing file":                {[]string{"-users", "/nowhere/users.json"}, "-users: open /nowhere/users.json"},
		"an address of another machine": {[]string{"-insecure-listen", "-addr", "192.0.2.1:0"}, "cannot assign requested address"},
		"an empty key":                  {[]string{"-admin-key", ""}, "-admin-key: want letters, digits and -._ only"},
		"a key in two words":            {[]string{"-admin-key", "a b"}, "-admin-key: want letters"},
		"a key with a colon":            {[]string{"-admin-key", "a:b"}, "-admin-key: want letters"},
		"help is not an error":          {[]string{"-help"}, "help requested"},
		"users of a wrong file":         {[]string{"-users", write(t, `{}`)}, "users.json"},
	} {
		t.Run(name, func(t *testing.T) {
			assert.ErrorContains(t, run(t.Context(), tc.args, io.Discard, io.Discard), tc.want)
		})
	}
}

func TestWrongUsers(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"an empty file":                {``, "not JSON at byte 0"},
		"no JSON":                      {`login: ann`, "not JSON at byte 1"},
		"an object":                    {`{"ann": {}}`, "the file is not a list of objects"},
		"no users":                     {`[]`, `no users: want a list such as [{"login": "ann"}]`},
		"null":                         {`null`, `no users: want a list such as [{"login": "ann"}]`},
		"a user that is not an object": {`["ann"]`, `user 1 "": the entry is not an object`},
		"no login":                     {`[{"login": "ann"}, {"groups": []}]`, `user 2 "": login: is required`},
		"a login twice":                {`[{"login": "ann"}, {"login": "ann"}]`, `user 2 "ann": login: is there twice`},
		"a login with a space":         {`[{"login": "ann "}]`, `user 1 "ann ": login: has spaces at its ends, or control characters`},
		"a login with NUL":             {`[{"login": "a\u0000n"}]`, `user 1 "a\x00n": login: has spaces`},
		"a login, a number":            {`[{"login": 7}]`, `user 1 "": login: want a string`},
		"groups, a string":             {`[{"login": "ann", "groups": "canary"}]`, `user 1 "ann": groups: want a list of strings`},
		"a group, a number":            {`[{"login": "ann", "groups": ["a", 1]}]`, `user 1 "ann": groups: want a list of strings`},
		"a blank group":                {`[{"login": "ann", "groups": ["a", " "]}]`, `user 1 "ann": groups: number 2 is blank`},
		"admin, a string":              {`[{"login": "ann", "admin": "canary"}]`, `user 1 "ann": admin: want true or false`},
		"an unknown field": {`[{"login": "ann", "password": "canary"}]`,
			`user 1 "ann": unknown field "password": known are login, displayName, email, groups, profile, admin and disabled`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseUsers([]byte(tc.text))
			require.ErrorContains(t, err, tc.want)
			assert.NotContains(t, err.Error(), "canary", "values are not quoted")
		})
	}
}

func TestURLCanBeConnectedTo(t *testing.T) {
	assert.Equal(t, "127.0.0.1:80", reachable(&net.TCPAddr{IP: net.IPv4zero, Port: 80}))
	assert.Equal(t, "127.0.0.1:80", reachable(&net.TCPAddr{IP: net.IPv6unspecified, Port: 80}))
	assert.Equal(t, "[::1]:80", reachable(&net.TCPAddr{IP: net.IPv6loopback, Port: 80}))
}

func TestHelpNamesEveryFlag(t *testing.T) {
	for _, name := range []string{"-addr", "-admin-key", "-users", "-insecure-listen"} {
		assert.Contains(t, help, "\n  "+name)
	}
	for field := range reflect.TypeFor[userEntry]().Fields() {
		assert.Contains(t, help, `"`+field.Tag.Get("json")+`":`, "the text of -help, in main.go, shows each field")
	}
}

func write(t *testing.T, users string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "users.json")
	require.NoError(t, os.WriteFile(file, []byte(users), 0o600))
	return file
}
