package dss_test

import (
	"bytes"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

// surroundings are the environment variables, and ~/.dataiku/config.json.
type surroundings struct {
	env  map[string]string
	file string // "" for none
}

// apply sets them for the test, and returns the file's name.
func (s surroundings) apply(t *testing.T) string {
	home := t.TempDir()
	t.Setenv("HOME", home)
	for name, value := range s.env {
		t.Setenv(name, value)
	}
	file := filepath.Join(home, ".dataiku", "config.json")
	if s.file != "" {
		require.NoError(t, os.Mkdir(filepath.Dir(file), 0o700))
		require.NoError(t, os.WriteFile(file, []byte(s.file), 0o600))
	}
	return file
}

func TestFromEnvRefuses(t *testing.T) {
	inside := func(more ...string) surroundings {
		env := map[string]string{"DKU_API_TICKET": "canary", "DKU_BACKEND_PORT": "11200"}
		for i := 0; i < len(more); i += 2 {
			env[more[i]] = more[i+1]
		}
		return surroundings{env: env}
	}
	variables := func(url, key string) surroundings {
		return surroundings{env: map[string]string{"DKU_DSS_URL": url, "DKU_API_KEY": key}}
	}
	file := func(text string) surroundings { return surroundings{file: text} }

	for name, row := range map[string]struct {
		in   surroundings
		want string // FILE stands for the file's name
	}{
		"nothing at all": {surroundings{},
			`dss: no DSS is configured: neither DKU_API_TICKET (inside DSS), nor DKU_DSS_URL and DKU_API_KEY, nor ~/.dataiku/config.json is there`},

		"inside DSS, no port": {inside("DKU_BACKEND_PORT", ""),
			`dss: DKU_BACKEND_PORT is empty; DSS sets it together with DKU_API_TICKET`},
		"inside DSS, a wrong port": {inside("DKU_BACKEND_PORT", "11200/x"),
			`dss: DKU_BACKEND_PORT "11200/x": it must be between 1 and 65535`},
		"inside DSS, a wrong protocol": {inside("DKU_BACKEND_PROTOCOL", "HTTPS"),
			`dss: DKU_BACKEND_PROTOCOL "HTTPS": it must be http or https`},
		"inside DSS, a host with a path": {inside("DKU_BACKEND_HOST", "evil.example/"),
			`dss: DKU_BACKEND_HOST "evil.example/": it must be a host name or an address, as in 127.0.0.1`},
		"inside DSS, a host with user info": {inside("DKU_BACKEND_HOST", "canary@evil.example"),
			`dss: DKU_BACKEND_HOST (not shown, it may hold a password): it must be a host name or an address, as in 127.0.0.1`},
		"inside DSS, a host with a port": {inside("DKU_BACKEND_HOST", "evil.example:80"),
			`dss: DKU_BACKEND_HOST "evil.example:80": it must be a host name or an address, as in 127.0.0.1`},
		"inside DSS, a host with a space": {inside("DKU_BACKEND_HOST", "a b"),
			`dss: DKU_BACKEND_HOST "http://a b:11200": spaces and control characters are not allowed`},
		"inside DSS, a ticket with a line end": {inside("DKU_API_TICKET", "canary\n"),
			`dss: DKU_API_TICKET: the ticket has spaces, control or other characters that a header cannot carry`},
		"inside DSS, a text that is not a certificate": {inside("DKU_BACKEND_PROTOCOL", "https", "DKU_SERVER_CERT", "certificate"),
			`dss: DKU_SERVER_CERT: it has no certificate; give PEM, or b64: and its base64`},
		"inside DSS, a certificate in broken base64": {inside("DKU_BACKEND_PROTOCOL", "https", "DKU_SERVER_CERT", "b64:%"),
			`dss: DKU_SERVER_CERT: the text after b64: is not base64`},
		"inside DSS, base64 of no certificate": {inside("DKU_BACKEND_PROTOCOL", "https", "DKU_SERVER_CERT", "b64:AAAA"),
			`dss: DKU_SERVER_CERT: it has no certificate; give PEM, or b64: and its base64`},
		"a call origin with a line end": {inside("DKU_CALL_ORIGIN", "a\r\nX-DKU-ProxyUser: admin"),
			`dss: DKU_CALL_ORIGIN "a\r\nX-DKU-ProxyUser: admin": a header cannot carry it`},

		"a URL without key": {variables("https://dss.example", ""),
			`dss: DKU_DSS_URL is set and DKU_API_KEY is not; set it to an API key of that DSS`},
		"a key without URL": {variables("", "canary"),
			`dss: DKU_API_KEY is set and DKU_DSS_URL is not; set it to where DSS is, as in https://dss.example`},
		"a URL without scheme": {variables("dss.example", "canary"),
			`dss: DKU_DSS_URL "dss.example": scheme is required, as in https://dss.example`},
		"a blank key": {variables("https://dss.example", " "),
			`dss: DKU_API_KEY: the API key has spaces, line ends or other characters that no key has`},

		"a file that is empty": {file(" "),
			`dss: FILE: it is not a JSON object`},
		"a file cut short": {file(`{"dss_instances": {`),
			`dss: FILE: it is not valid JSON`},
		"a file with something after its end": {file(`{} canary`),
			`dss: FILE: it has something after its end`},
		"a file without instances": {file(`{"default_instance": "prod"}`),
			`dss: FILE: dss_instances is missing`},
		"a file whose instances are a list": {file(`{"default_instance": "prod", "dss_instances": []}`),
			`dss: FILE: dss_instances is not a JSON object`},
		"a file without default": {file(`{"dss_instances": {}}`),
			`dss: FILE: default_instance is missing; set it, or DKU_DEFAULT_INSTANCE, to the name of an instance`},
		"a file whose default is a number": {file(`{"dss_instances": {}, "default_instance": 1}`),
			`dss: FILE: default_instance is not a string`},
		"a file whose default is not there": {file(`{"dss_instances": {}, "default_instance": "prod"}`),
			`dss: FILE: dss_instances has no "prod", which default_instance names`},
		"an instance chosen that is not there": {surroundings{env: map[string]string{"DKU_DEFAULT_INSTANCE": "test"},
			file: `{"dss_instances": {"prod": {"url": "https://dss.example", "api_key": "canary"}}, "default_instance": "prod"}`},
			`dss: FILE: dss_instances has no "test", which DKU_DEFAULT_INSTANCE names`},
		"an instance that is not an object": {file(`{"dss_instances": {"prod": "canary"}, "default_instance": "prod"}`),
			`dss: FILE: dss_instances "prod": it is not a JSON object`},
		"an instance without URL": {file(`{"dss_instances": {"prod": {"api_key": "canary"}}, "default_instance": "prod"}`),
			`dss: FILE: dss_instances "prod": url is empty; set it to where DSS is, as in https://dss.example`},
		"an instance without key": {file(`{"dss_instances": {"prod": {"url": "https://dss.example"}}, "default_instance": "prod"}`),
			`dss: FILE: dss_instances "prod": api_key is missing`},
		"an instance whose key has a space": {file(`{"dss_instances": {"prod": {"url": "https://dss.example", "api_key": "canary "}}, "default_instance": "prod"}`),
			`dss: FILE: dss_instances "prod": api_key: the API key has spaces, line ends or other characters that no key has`},
		"an instance whose check is a word": {file(`{"dss_instances": {"prod": {"url": "https://dss.example", "api_key": "canary", "no_check_certificate": "no"}}, "default_instance": "prod"}`),
			`dss: FILE: dss_instances "prod": no_check_certificate is neither true nor false`},
		"a name in the file twice": {file(`{"default_instance": "prod", "default_instance": "test"}`),
			`dss: FILE: it has a name twice`},

		"a broken first source, a sound second one": {surroundings{env: map[string]string{
			"DKU_API_TICKET": "canary", "DKU_DSS_URL": "https://dss.example", "DKU_API_KEY": "canary"}},
			`dss: DKU_BACKEND_PORT is empty; DSS sets it together with DKU_API_TICKET`},
		"a broken second source, a sound third one": {surroundings{env: map[string]string{"DKU_DSS_URL": "https://dss.example"},
			file: `{"dss_instances": {"prod": {"url": "https://dss.example", "api_key": "canary"}}, "default_instance": "prod"}`},
			`dss: DKU_DSS_URL is set and DKU_API_KEY is not; set it to an API key of that DSS`},
		"a key without URL, a broken file": {surroundings{env: map[string]string{"DKU_API_KEY": "canary"}, file: `{}`},
			`dss: FILE: default_instance is missing; set it, or DKU_DEFAULT_INSTANCE, to the name of an instance`},
		"a key file without URL": {surroundings{env: map[string]string{"DKU_API_KEY_FILE": "/canary"}},
			`dss: DKU_API_KEY_FILE is set and DKU_DSS_URL is not; set it to where DSS is, as in https://dss.example`},
		"a key and a key file": {surroundings{env: map[string]string{"DKU_DSS_URL": "https://dss.example", "DKU_API_KEY": "canary", "DKU_API_KEY_FILE": "/canary"}},
			`dss: DKU_API_KEY and DKU_API_KEY_FILE are both set; set one of them`},
		"a key file that is not there": {surroundings{env: map[string]string{"DKU_DSS_URL": "https://dss.example", "DKU_API_KEY_FILE": "/no/such/file"}},
			`dss: DKU_API_KEY_FILE: open /no/such/file: no such file or directory`},
	} {
		t.Run(name, func(t *testing.T) {
			file := row.in.apply(t)
			c, err := dss.FromEnv()
			want := strings.ReplaceAll(row.want, " FILE", " "+file)
			assert.EqualError(t, err, want)
			assert.Nil(t, c)
			assert.Equal(t, strings.HasPrefix(want, "dss: no DSS"), err == dss.ErrNotConfigured, "ErrNotConfigured")
			assert.NotContains(t, err.Error(), "canary")
		})
	}
}

// A key's file is read without the white space around the key. A bad one is an error.
func TestKeyOfAFile(t *testing.T) {
	server := newRecorder(t, replying(http.StatusOK, aliceInfo))
	file := filepath.Join(t.TempDir(), "key")
	surroundings{env: map[string]string{"DKU_DSS_URL": server.URL, "DKU_API_KEY_FILE": file}}.apply(t)
	for text, want := range map[string]string{
		"":                                "the API key is empty",
		" \n":                             "the API key is empty",
		"canary one":                      "the API key has spaces, line ends or other characters that no key has",
		"canary\ncanary":                  "the API key has spaces, line ends or other characters that no key has",
		"canary:x":                        "the API key has a colon, which ends the user name in HTTP Basic authentication",
		"canary\x00":                      "the API key has spaces, line ends or other characters that no key has",
		strings.Repeat("canary", 64<<10):  file + " is longer than 64 KiB",
		"\ufeffkey-of-windows":            "the API key has spaces, line ends or other characters that no key has",
		" key-of-the-file\r\n":            "",
		strings.Repeat("\n", 1<<10) + "k": "",
	} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		c, err := dss.FromEnv()
		if want != "" {
			assert.EqualError(t, err, "dss: DKU_API_KEY_FILE: "+want)
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, "dss.Client("+server.URL+", API key from DKU_API_KEY_FILE, from DKU_DSS_URL)", c.String())
		_, err = c.AuthInfo(t.Context())
		require.NoError(t, err)
		key, _, _ := (&http.Request{Header: server.last(t).Header}).BasicAuth()
		assert.Equal(t, strings.TrimSpace(text), key)
		c.CloseIdleConnections()
	}
}

// A key that is left over from another use does not stop the application.
func TestFileIsUsedIfAKeyHasNoURL(t *testing.T) {
	for _, name := range []string{"DKU_API_KEY", "DKU_API_KEY_FILE"} {
		file := surroundings{env: map[string]string{"DKU_API_KEY": "", "DKU_API_KEY_FILE": "", name: "canary"},
			file: `{"dss_instances": {"prod": {"url": "https://dss.example", "api_key": "canary"}}, "default_instance": "prod"}`}.apply(t)
		var log bytes.Buffer
		before := slog.Default()
		slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
		c, err := dss.FromEnv()
		slog.SetDefault(before)
		require.NoError(t, err)
		assert.Contains(t, c.String(), `API key, from `+file+`, instance "prod"`)
		assert.Equal(t, 1, bytes.Count(log.Bytes(), []byte("\n")), "lines")
		assert.Contains(t, log.String(), "dss: "+name+" has no effect, since DKU_DSS_URL is not set")
		assert.Contains(t, log.String(), file)
		assert.NotContains(t, log.String(), "canary")
	}
}

func TestWithoutHome(t *testing.T) {
	t.Setenv("HOME", "")
	_, err := dss.FromEnv()
	assert.ErrorIs(t, err, dss.ErrNotConfigured)
	assert.ErrorContains(t, err, "HOME is not set")
}

func TestFromEnvRefusesTooLongFile(t *testing.T) {
	file := surroundings{file: strings.Repeat(" ", 1<<20+1)}.apply(t)
	_, err := dss.FromEnv()
	assert.EqualError(t, err, "dss: "+file+": it is longer than 1 MiB")
}

func TestFromEnvRefusesUnreadableFile(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	require.NoError(t, os.MkdirAll(filepath.Join(home, ".dataiku", "config.json"), 0o700)) // a folder
	_, err := dss.FromEnv()
	assert.ErrorContains(t, err, "config.json")
	assert.NotErrorIs(t, err, dss.ErrNotConfigured)
}

func TestFromEnvTakesTheFirstSource(t *testing.T) {
	server := newRecorder(t, replying(http.StatusOK, aliceInfo))
	at, err := url.Parse(server.URL)
	require.NoError(t, err)
	config := `{"dss_instances": {
		"prod": {"url": "` + server.URL + `", "api_key": "key-of-prod", "no_check_certificate": false},
		"test": {"url": "` + server.URL + `/test/", "api_key": "key-of-test", "more": 1}}, "default_instance": "prod"}`
	basic := func(key string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(key+":")) }

	type env = map[string]string
	for name, row := range map[string]struct {
		in                  surroundings
		authorization       string
		ticket, origin      string
		target, description string
	}{
		"all three: inside DSS": {
			in: surroundings{env{"DKU_API_TICKET": "the-ticket", "DKU_BACKEND_HOST": at.Hostname(), "DKU_BACKEND_PORT": at.Port(),
				"DKU_DSS_URL": server.URL, "DKU_API_KEY": "key-of-variables", "DKU_CALL_ORIGIN": "webapp"}, config},
			ticket: "the-ticket", origin: "webapp", target: "/dip/publicapi", description: "ticket, from DKU_API_TICKET"},
		"inside DSS, on this machine": {
			in:     surroundings{env: env{"DKU_API_TICKET": "the-ticket", "DKU_BACKEND_PORT": at.Port()}},
			ticket: "the-ticket", target: "/dip/publicapi", description: "ticket, from DKU_API_TICKET"},
		"variables and a file: the variables": {
			in:            surroundings{env{"DKU_DSS_URL": server.URL + "/", "DKU_API_KEY": "key-of-variables"}, config},
			authorization: basic("key-of-variables"), target: "/dip/publicapi", description: "API key, from DKU_DSS_URL"},
		"a file: its default": {
			in:            surroundings{file: config},
			authorization: basic("key-of-prod"), target: "/dip/publicapi", description: `API key, from FILE, instance "prod"`},
		"a file and a name: that one": {
			in:            surroundings{env{"DKU_DEFAULT_INSTANCE": "test"}, config},
			authorization: basic("key-of-test"), target: "/test/dip/publicapi", description: `API key, from FILE, instance "test"`},
		"an empty ticket does not count": {
			in:            surroundings{env{"DKU_API_TICKET": ""}, config},
			authorization: basic("key-of-prod"), target: "/dip/publicapi", description: `API key, from FILE, instance "prod"`},
	} {
		t.Run(name, func(t *testing.T) {
			file := row.in.apply(t)
			c, err := dss.FromEnv()
			require.NoError(t, err)
			defer c.CloseIdleConnections()
			assert.Contains(t, c.String(), ", "+strings.ReplaceAll(row.description, "FILE", file)+")")

			_, err = c.AuthInfo(t.Context())
			require.NoError(t, err)
			sent := server.last(t)
			assert.Equal(t, row.target+"/auth/info?withSecrets=False", sent.Target)
			assert.Equal(t, row.authorization, sent.Header.Get("Authorization"))
			assert.Equal(t, row.ticket, sent.Header.Get("X-DKU-APITicket"))
			assert.Equal(t, row.origin, sent.Header.Get("X-DKU-CallOrigin"))
		})
	}
}

func FuzzConfigFile(f *testing.F) {
	for _, seed := range []string{
		`{"dss_instances": {"prod": {"url": "https://dss.example", "api_key": "key", "no_check_certificate": true}}, "default_instance": "prod"}`,
		`{"dss_instances": {"\ud800": null}, "default_instance": "\ud800"}`,
		`{"dss_instances": {}, "dss_instances": {}}`, `{"DSS_INSTANCES": {}}`, `[]`, `null`, ``, `{`, "{\"\xff\": 1}",
	} {
		f.Add(seed)
	}
	home := f.TempDir()
	f.Setenv("HOME", home)
	file := filepath.Join(home, ".dataiku", "config.json")
	require.NoError(f, os.Mkdir(filepath.Dir(file), 0o700))
	f.Fuzz(func(t *testing.T, text string) {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		c, err := dss.FromEnv()
		if err == nil {
			require.NotNil(t, c)
			return
		}
		require.Nil(t, c)
		require.NotErrorIs(t, err, dss.ErrNotConfigured, "a file that is there")
		require.True(t, strings.HasPrefix(err.Error(), "dss: "), "%v", err)
	})
}

func TestCurrentProject(t *testing.T) {
	t.Setenv("DKU_CURRENT_PROJECT_KEY", "")
	assert.Empty(t, dss.CurrentProject())
	t.Setenv("DKU_CURRENT_PROJECT_KEY", "CHURN")
	assert.Equal(t, "CHURN", dss.CurrentProject())
}
