package config

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/gateway/internal/rules"
)

// inFolder changes to a new folder that has only a gateway.yaml with this text.
// It also removes the variables of a Code Studio.
func inFolder(t *testing.T, text string) {
	t.Helper()
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("gateway.yaml", []byte(text), 0o600))
	for _, name := range []string{"DKU_CODE_STUDIO_BROWSER_PATH", "DKU_CODE_STUDIO_BROWSER_PATH_8080", "DKU_CODE_STUDIO_IS_PUBLIC_PORT_8080"} {
		t.Setenv(name, "")
	}
}

const root = "rules: [{path: /, allow: signed-in}]\n"

var fromFile = []string{"-config", "gateway.yaml"}

func TestMistakesInTheFile(t *testing.T) {
	for _, row := range []struct {
		text string
		want []string
	}{
		{"", []string{"gateway.yaml: it is empty: fill it, or leave it out"}},
		{"# only a comment\n", []string{"gateway.yaml: it is empty: fill it, or leave it out"}},
		{"---\n", []string{"gateway.yaml: it is empty: fill it, or leave it out"}},
		{"listen: :1\n---\nlisten: :2\n", []string{"gateway.yaml:2: a second YAML document begins here: keep one of them"}},
		{"text", []string{
			"gateway.yaml:1: the file: it is text: it must be keys with values, as in listen: …",
			"gateway.yaml: rules: there are none: add some, as in rules: [{path: /, allow: signed-in}]",
		}},
		{"- path: /\n", []string{
			"gateway.yaml:1: the file: it is a list: it must be keys with values, as in listen: …",
			"gateway.yaml: rules: there are none: add some, as in rules: [{path: /, allow: signed-in}]",
		}},
		{"listen: :1\n", []string{"gateway.yaml: rules: there are none: add some, as in rules: [{path: /, allow: signed-in}]"}},
		{"a: {\n", []string{"gateway.yaml:1: this is not YAML, here or below: did not find expected node content"}},
		{root + "proxies: [127.0.0.1, ::1]\n", []string{"gateway.yaml:2: this is not YAML, here or below: did not find expected node content: in a list, put what begins with a colon in quotes, as in ['::1']"}},
		{"%YAML 9\n---\na: b\n", []string{"gateway.yaml:1: this is not YAML: did not find expected digit or '.' character"}},
		{root + "listn: x\n", []string{"gateway.yaml:2: listn: there is no such key: did you mean listen?"}},
		{root + "dss: x\n", []string{"gateway.yaml:2: dss: there is no such key: did you mean dss_cookies?"}},
		{root + "login-url: /x\n", []string{"gateway.yaml:2: login-url: there is no such key: did you mean login_url?"}},
		{root + "something: else\n", []string{"gateway.yaml:2: something: there is no such key"}},
		{root + "metrics: :1\nmetrics: :2\n", []string{"gateway.yaml:3: metrics: it is given twice, first in line 2: remove one"}},
		{root + "metrics: 9090\n", []string{`gateway.yaml:2: metrics: "9090": it is a number: it must be text; put it in quotes if it is meant so`}},
		{root + "metrics: [a]\n", []string{"gateway.yaml:2: metrics: it is a list: it must be text"}},
		{root + "metrics: {port: 1}\n", []string{"gateway.yaml:2: metrics: it is keys with values: it must be text"}},
		{root + "metrics:\n", []string{"gateway.yaml:2: metrics: it has no value: give it one, or leave it out"}},
		{root + "metrics: ''\n", []string{`gateway.yaml:2: metrics: "": it is empty: leave it out, or give it a value`}},
		{root + "metrics: localhost\n", []string{`gateway.yaml:2: metrics: "localhost": it must be host:port, as in 127.0.0.1:8080`}},
		{root + "metrics: ':99999'\n", []string{`gateway.yaml:2: metrics: ":99999": it must be host:port, as in 127.0.0.1:8080, with a port of 0 to 65535`}},
		{root + "metrics: ' :1'\n", []string{`gateway.yaml:2: metrics: " :1": it begins or ends with a space: leave it out`}},
		{root + "metrics: \":1\\n\"\n", []string{"gateway.yaml:2: metrics: it holds a line's end or another control character: leave it out"}},
		{root + "metrics: !port :1\n", []string{`gateway.yaml:2: metrics: ":1": it is of another type: it must be text; put it in quotes if it is meant so`}},
		{root + "metrics: 127.0.0.1:8080\n", []string{`gateway.yaml:2: metrics: "127.0.0.1:8080": listen has this address: choose another port`}},
		{root + "listen: &a localhost:1\nmetrics: *a\n", []string{
			"gateway.yaml:2: listen: anchors (&), aliases (*) and merges (<<) are not read: write the value itself, and put it in quotes if it begins with one of these characters",
			"gateway.yaml:3: metrics: anchors (&), aliases (*) and merges (<<) are not read: write the value itself, and put it in quotes if it begins with one of these characters",
		}},
		{root + "metrics: *nobody\n", []string{"gateway.yaml:2: anchors (&), aliases (*) and merges (<<) are not read: write the value itself, and put it in quotes if it begins with one of these characters"}},
		{root + "<<: {listen: x}\n", []string{"gateway.yaml:2: the file: anchors (&), aliases (*) and merges (<<) are not read: write the value itself, and put it in quotes if it begins with one of these characters"}},
		{root + "\tlisten: x\n", []string{"gateway.yaml:2: this is not YAML: found character that cannot start any token"}},
		{root + "listen: \"x\n", []string{"gateway.yaml:2: this is not YAML: found unexpected end of stream"}},
		{root + "listen: \x01\n", []string{"gateway.yaml:2: there is a control character, or text that is not UTF-8: leave it out"}},
		{root + "listen: \xff\n", []string{"gateway.yaml:2: there is a control character, or text that is not UTF-8: leave it out"}},
		{root + "? [a]\n: b\n", []string{"gateway.yaml:2: the file: a key is a list: a key must be a name"}},
		{root + "metrics: :1\n listen: :2\n", []string{"gateway.yaml:3: this is not YAML: mapping values are not allowed in this context"}},
		{root + "headers:\n  user: X-A\n groups: X-B\n", []string{"gateway.yaml:4: this is not YAML, here or below: did not find expected key"}},
		{root + "proxies:\n  - a\n  b: c\n", []string{"gateway.yaml:3: this is not YAML, here or below: did not find expected '-' indicator"}},
		{root + "proxies: [a,\n  b\nttl: 1s\n", []string{"gateway.yaml:2: this is not YAML, here or below: did not find expected ',' or ']'"}},
		{root + "tls: {key: a.pem}\n", []string{"gateway.yaml:2: tls.key: tls.certificate is missing: set both, or none"}},
		{root + "tls: a.pem\n", []string{"gateway.yaml:2: tls: it is text: it must be keys with values, as in certificate: …"}},
		{root + "tls: {}\n", []string{"gateway.yaml:2: tls: it is empty: leave it out, or give it certificate, key"}},
		{root + "tls: {cert: a.pem, key: b.pem}\n", []string{
			"gateway.yaml:2: tls.cert: there is no such key: did you mean certificate?",
			"gateway.yaml:2: tls.key: tls.certificate is missing: set both, or none",
		}},
		{root + "tls:\n  key: a\n  key: b\n  certificate: c\n", []string{"gateway.yaml:4: tls.key: it is given twice, first in line 3: remove one"}},
		{root + "upstream: http://ann:hunter2@app:3000\n", []string{"gateway.yaml:2: upstream: it holds a user or a password, which logs would show: leave them out"}},
		{root + "upstream: ann:hunter2@app:3000\n", []string{"gateway.yaml:2: upstream: it must begin with http:// or https:// and a host, as in http://127.0.0.1:3000"}},
		{root + "upstream: http://ann:hunter%2@app:3000\n", []string{"gateway.yaml:2: upstream: it must be a URL, as in http://127.0.0.1:3000"}},
		{root + "upstream: http://app:3000?token=hunter2\n", []string{"gateway.yaml:2: upstream: it must end after the host and the port, as in http://127.0.0.1:3000: the path is the request's own"}},
		{root + "upstream: http://app/path\n", []string{`gateway.yaml:2: upstream: "http://app/path": it must end after the host and the port, as in http://127.0.0.1:3000: the path is the request's own`}},
		{root + "upstream: ftp://app\n", []string{`gateway.yaml:2: upstream: "ftp://app": it must begin with http:// or https:// and a host, as in http://127.0.0.1:3000`}},
		{root + "upstream: app:3000\n", []string{`gateway.yaml:2: upstream: "app:3000": it must begin with http:// or https:// and a host, as in http://127.0.0.1:3000`}},
		{root + "upstream: http://:3000\n", []string{`gateway.yaml:2: upstream: "http://:3000": it must begin with http:// or https:// and a host, as in http://127.0.0.1:3000`}},
		{root + "upstream: http://app:0\n", []string{`gateway.yaml:2: upstream: "http://app:0": its port must be a number of 1 to 65535`}},
		{root + "upstream: http://127.0.0.1:8080\n", []string{`gateway.yaml:2: upstream: "http://127.0.0.1:8080": this is the gateway's own address (listen): give the application's`}},
		{root + "check: /check\n", []string{`gateway.yaml:2: check: "/check": it must be a path below /dssauth/ of letters, digits, _ and -, as in /dssauth/check`}},
		{root + "check: /dssauth/readyz\n", []string{`gateway.yaml:2: check: "/dssauth/readyz": this path is the gateway's own: choose another, as in /dssauth/check`}},
		{root + "check: /dssauth/refusal\n", []string{`gateway.yaml:2: check: "/dssauth/refusal": this path is the gateway's own: choose another, as in /dssauth/check`}},
		{root + "proxies: 127.0.0.1\n", []string{"gateway.yaml:2: proxies: it is text: it must be a list, as in [127.0.0.1, 10.0.0.0/8]"}},
		{root + "proxies: [localhost, 10.1.0.0/8, 0.0.0.0/0, '::ffff:10.0.0.0/104']\n", []string{
			`gateway.yaml:2: proxies[0]: "localhost": it must be an address or a network, as in 127.0.0.1 or 10.0.0.0/8`,
			`gateway.yaml:2: proxies[1]: "10.1.0.0/8": the network of this address is 10.0.0.0/8: write that, or the address alone`,
			`gateway.yaml:2: proxies[2]: "0.0.0.0/0": these are too many addresses, and each may ask the check: name the proxies`,
			`gateway.yaml:2: proxies[3]: "::ffff:10.0.0.0/104": write an IPv4 network as in 10.0.0.0/8`,
		}},
		{root + "proxies:\n  - 5\n  - [x]\n  - ~\n", []string{
			`gateway.yaml:3: proxies[0]: "5": it is a number: it must be text; put it in quotes if it is meant so`,
			"gateway.yaml:4: proxies[1]: it is a list: it must be text",
			"gateway.yaml:5: proxies[2]: it has no value: give it one, or leave it out",
		}},
		{root + "headers: {user: Cookie, groups: X_Dku_A, name: 'a b', email: X-Dssauth-Email}\n", []string{
			`gateway.yaml:2: headers.user: "Cookie": this header has a meaning of its own: choose another name, as in Remote-User`,
			`gateway.yaml:2: headers.groups: "X_Dku_A": this header has a meaning of its own: choose another name, as in Remote-User`,
			`gateway.yaml:2: headers.name: "a b": it is not a header's name: use letters, digits and -, as in Remote-User`,
			`gateway.yaml:2: headers.email: "X-Dssauth-Email": this header has a meaning of its own: choose another name, as in Remote-User`,
		}},
		{root + "headers:\n  user: te\n  groups: Location\n  name: AUTHORIZATION\n  email: host\n", []string{
			`gateway.yaml:3: headers.user: "te": this header has a meaning of its own: choose another name, as in Remote-User`,
			`gateway.yaml:4: headers.groups: "Location": this header has a meaning of its own: choose another name, as in Remote-User`,
			`gateway.yaml:5: headers.name: "AUTHORIZATION": this header has a meaning of its own: choose another name, as in Remote-User`,
			`gateway.yaml:6: headers.email: "host": this header has a meaning of its own: choose another name, as in Remote-User`,
		}},
		{root + "headers: {user: 'Bearer aGVsbG8td29ybGQtc2VjcmV0'}\n", []string{`gateway.yaml:2: headers.user: "…": it is not a header's name: use letters, digits and -, as in Remote-User`}},
		{root + "headers: {user: remote_groups}\n", []string{`gateway.yaml:2: headers.user: "remote_groups": a program may read it as Remote-Groups, which is headers.groups: choose another name`}},
		{root + "headers: {user: X-A, groups: x_a}\n", []string{`gateway.yaml:2: headers.groups: "x_a": a program may read it as X-A, which is headers.user: choose another name`}},
		{root + "assertion: {issuer: x}\n", []string{"gateway.yaml:2: assertion.issuer: assertion.audience is missing: set both, or none"}},
		{root + "assertion: {key_files: [a]}\n", []string{"gateway.yaml:2: assertion.key_files: assertion.issuer and assertion.audience are missing: set them, or leave this out"}},
		{root + "assertion:\n  issuer: x\n  audience: ''\n  key_files: [a, a]\n", []string{
			`gateway.yaml:4: assertion.audience: "": it is empty: leave it out, or give it a value`,
			`gateway.yaml:5: assertion.key_files[1]: "a": assertion.key_files[0] says the same: remove one`,
		}},
		{root + "assertion: false\n", []string{"gateway.yaml:2: assertion: it is true or false: it must be keys with values, as in issuer: …"}},
		{root + "dss_cookies: []\n", []string{"gateway.yaml:2: dss_cookies: the list is empty: leave it out, or fill it, as in [dss_*]"}},
		{root + "dss_cookies: ['[', 'dss_token=c2VjcmV0LXNlY3JldA']\n", []string{
			`gateway.yaml:2: dss_cookies[0]: "[": it must be a cookie's name, with * for any characters, as in "dss_*"`,
			`gateway.yaml:2: dss_cookies[1]: "dss_token=…": it must be a cookie's name, with * for any characters, as in "dss_*"`,
		}},
		{root + "forward_credentials: yes\n", []string{`gateway.yaml:2: forward_credentials: "yes": it must be true or false, without quotes`}},
		{root + "forward_credentials: 'true'\n", []string{`gateway.yaml:2: forward_credentials: "true": it must be true or false, without quotes`}},
		{root + "user_details: [true]\n", []string{"gateway.yaml:2: user_details: it is a list: it must be true or false"}},
		{root + "login_url: '{back}'\n", []string{`gateway.yaml:2: login_url: "{back}": {back} must stand in the query or the fragment, as in /login?back={back}`}},
		{root + "login_url: login\n", []string{`gateway.yaml:2: login_url: "login": it must begin with http:// or https:// and a host, as in https://app.example`}},
		{root + "login_url: //other.example/\n", []string{`gateway.yaml:2: login_url: "//other.example/": it must be a path, as in /login?back={back}, or begin with https:// and a host`}},
		{root + "login_url: https://ann:hunter2@other.example/\n", []string{"gateway.yaml:2: login_url: it holds a user or a password, which logs would show: leave them out"}},
		{root + "login_url: '?back={back}'\n", []string{`gateway.yaml:2: login_url: it must begin with http:// or https:// and a host, as in https://app.example`}},
		{root + "login_url: /x?b={next}\n", []string{"gateway.yaml:2: login_url: between braces only {back} is known, as in /login?back={back}"}},
		{root + "login_url: /x y\n", []string{`gateway.yaml:2: login_url: "/x y": a URL has ASCII only, without spaces and backslashes: write others percent-encoded`}},
		{root + "ttl: 10\n", []string{`gateway.yaml:2: ttl: "10": it must be a duration with its unit, as in 10s or 2m`}},
		{root + "ttl: [10s]\n", []string{"gateway.yaml:2: ttl: it is a list: it must be a duration, as in 10s"}},
		{root + "ttl: -1s\n", []string{`gateway.yaml:2: ttl: "-1s": the least is 0s`}},
		{root + "ttl: 2h\n", []string{`gateway.yaml:2: ttl: "2h": the most is 1h`}},
		{root + "ttl: 10us\n", []string{`gateway.yaml:2: ttl: "10us": it is less than 1ms: is another unit meant, as in 10s?`}},
		{root + "shutdown: 0s\n", []string{`gateway.yaml:2: shutdown: "0s": the least is 1ms`}},
		{"rules: x\n", []string{"gateway.yaml:1: rules: it is text: it must be a list, as in [{path: /, allow: signed-in}]"}},
		{"rules: []\n", []string{"gateway.yaml:1: rules: the list is empty: fill it, as in [{path: /, allow: signed-in}]"}},
		{"rules: [x]\n", []string{"gateway.yaml:1: rules[0]: it is text: it must be keys with values, as in path: …"}},
		{"rules: [{path: /a/, allow: nobody}]\n", []string{`gateway.yaml:1: rules: no rule has the path "/": add one, such as {path: /, allow: signed-in}`}},
		{"rules:\n- {path: /}\n- {path: /a/, group: [x]}\n- path: b\n  allow: all\n", []string{
			"gateway.yaml:3: rules[1].group: there is no such key: did you mean groups?",
			`gateway.yaml:5: rules[2].allow: "all": it must be everyone, signed-in or nobody`,
			"gateway.yaml:2: rules[0]: 0 of allow, groups and project are given: give exactly one",
			`gateway.yaml:4: rules[2].path: "b" does not begin with a slash: write "/b"`,
		}},
		{"rules:\n- {path: 5, allow: everyone}\n- {path: /a/, groups: []}\n- {path: /b/, groups: x}\n- {allow: everyone}\n- {path: /x/, methods: [GET, GET], allow: everyone}\n", []string{
			`gateway.yaml:2: rules[0].path: "5": it is a number: it must be text; put it in quotes if it is meant so`,
			"gateway.yaml:3: rules[1].groups: the list is empty: leave it out, or fill it, as in [administrators]",
			"gateway.yaml:4: rules[2].groups: it is text: it must be a list, as in [administrators]",
			`gateway.yaml:6: rules[4].methods[1]: "GET": rules[4].methods[0] says the same: remove one`,
			`gateway.yaml:5: rules[3].path: it is missing: give a prefix, as in "/admin/"`,
			`gateway.yaml:6: rules[4].methods: "/x/" has no rule for other methods: add one without methods, such as one that allows nobody`,
		}},
		{"rules:\n- {path: /, allow: everyone}\n- path: /a/\n  groups: [x]\n  project: A-B\n", []string{
			"gateway.yaml:3: rules[1]: 2 of allow, groups and project are given: give exactly one",
			`gateway.yaml:5: rules[1].project: "A-B" is not a project's key: write it as in CHURN, with letters, digits and underscores only`,
		}},
	} {
		t.Run(row.text, func(t *testing.T) {
			inFolder(t, row.text)
			c, _, err := Load(fromFile, nil)
			require.Error(t, err)
			assert.Equal(t, row.want, strings.Split(err.Error(), "\n"))
			assert.Zero(t, c)
		})
	}
}

func TestSettingsHaveAPlace(t *testing.T) {
	inFolder(t, "rules: [{path: /, allow: signed-in}]\nlisten: 127.0.0.1:0\n")
	c, _, err := Load([]string{"-config", "gateway.yaml", "-ttl", "5s"}, nil)
	require.NoError(t, err)
	assert.Equal(t, "gateway.yaml:1: rules", c.Place("rules"))
	assert.Equal(t, "gateway.yaml:2: listen", c.Place("listen"))
	assert.Equal(t, "flag -ttl", c.Place("ttl"))
	assert.Equal(t, "timeout", c.Place("timeout"), "a default")
}

func TestTextsOfTheGreatestLengthAreRead(t *testing.T) {
	inFolder(t, "rules: [{path: /"+strings.Repeat("a", maxText-2)+"/, allow: everyone}, {path: /, allow: signed-in}]")
	_, _, err := Load([]string{"-config", "gateway.yaml"}, nil)
	assert.True(t, err == nil, "%.200v", err)
}

func TestFilesThatCannotBeRead(t *testing.T) {
	for name, row := range map[string]struct {
		file, text, want string
	}{
		"not there":     {"other.yaml", "", "other.yaml: no such file or directory"},
		"a folder":      {".", "", ".: it cannot be read: read .: is a directory"},
		"too big":       {"gateway.yaml", root + strings.Repeat("#", maxSize), "gateway.yaml: it has more than 1 MiB: the settings need less"},
		"too deep":      {"gateway.yaml", "rules: " + strings.Repeat("[", 20_000), "gateway.yaml:1: this is not YAML: exceeded max depth of 10000"},
		"too many":      {"gateway.yaml", "proxies: [" + strings.Repeat("a, ", maxElements) + "a]\n" + root, "gateway.yaml:1: proxies: the list has more than 10,000 elements: shorten it"},
		"too long":      {"gateway.yaml", "rules: [{path: /" + strings.Repeat("a/", maxText) + ", allow: everyone}]", "gateway.yaml:1: rules[0].path: it is longer than 4 KiB: shorten it"},
		"many laughs":   {"gateway.yaml", "a: &a [x, x]\nb: [*a, *a]\n" + root, "gateway.yaml:1: a: there is no such key\ngateway.yaml:2: b: there is no such key"},
		"another alias": {"gateway.yaml", "rules: &r [{path: /, groups: [*r]}]\n", "gateway.yaml:1: rules: " + noAliases},
	} {
		t.Run(name, func(t *testing.T) {
			inFolder(t, row.text)
			_, _, err := Load([]string{"-config", row.file}, nil)
			assert.EqualError(t, err, row.want)
		})
	}
}

func TestReportedMistakesAreBounded(t *testing.T) {
	inFolder(t, strings.Repeat("a:\n", maxSize/3))
	_, _, err := Load(fromFile, nil)
	require.Error(t, err)
	lines := strings.Split(err.Error(), "\n")
	require.Len(t, lines, maxMistakes+1)
	assert.Equal(t, "gateway.yaml:100: a: there is no such key", lines[maxMistakes-1])
	assert.Equal(t, "there are more mistakes: these are the first 100", lines[maxMistakes])
}

func TestMistakesInVariablesAndFlags(t *testing.T) {
	with := func(more ...string) []string { return append(slices.Clone(fromFile), more...) }
	const (
		noRules = "no file was named by -config: rules: there are none: add some, as in rules: [{path: /, allow: signed-in}]"
		noUnit  = `"x": it must be a duration with its unit, as in 10s or 2m`
	)
	for name, row := range map[string]struct {
		args, environ []string
		want          string
	}{
		"nothing":                        {nil, nil, noRules},
		"a duration in a variable":       {fromFile, []string{"DSSAUTH_TTL=x"}, "variable DSSAUTH_TTL: " + noUnit},
		"a duration in a flag":           {with("-ttl", "x"), nil, "flag -ttl: " + noUnit},
		"an empty flag":                  {with("-metrics="), nil, `flag -metrics: "": it is empty: leave it out, or give it a value`},
		"an empty list in a flag":        {with("-proxies="), nil, "flag -proxies: it is empty: fill it, or leave it out"},
		"no list":                        {fromFile, []string{"DSSAUTH_PROXIES=127.0.0.1"}, "variable DSSAUTH_PROXIES: it is text: it must be a list, as in [127.0.0.1, 10.0.0.0/8]"},
		"an element of a list":           {with("--proxies=[127.0.0.1, a]"), nil, `flag -proxies: proxies[1]: "a": it must be an address or a network, as in 127.0.0.1 or 10.0.0.0/8`},
		"a rule in a variable":           {nil, []string{"DSSAUTH_RULES=[{path: /, allow: signed-in}, {path: /a/, groups: admins}]"}, "variable DSSAUTH_RULES: rules[1].groups: it is text: it must be a list, as in [administrators]"},
		"no YAML":                        {nil, []string{"DSSAUTH_RULES=[{path: /"}, "variable DSSAUTH_RULES: this is not YAML, here or below: did not find expected ',' or '}'"},
		"true or false":                  {with("-user_details=maybe"), nil, `flag -user_details: "maybe": it must be true or false, without quotes`},
		"our own flag for true or false": {with("-check-config=maybe"), nil, "flag -check-config: it must be true or false"},
		"a password in a variable":       {fromFile, []string{"DSSAUTH_UPSTREAM=http://ann:hunter2@app"}, "variable DSSAUTH_UPSTREAM: it holds a user or a password, which logs would show: leave them out"},
		"a password in another setting":  {with("-listen", "http://ann:hunter2@app"), nil, "flag -listen: it must be host:port, as in 127.0.0.1:8080"},
		"a flag that is not there":       {with("-lissten", "hunter2", "-ttl=x"), nil, "flag -lissten: there is no such flag: did you mean listen?\nflag -ttl: " + noUnit},
		"a flag with other dashes":       {with("-login-url=/x"), nil, "flag -login-url: there is no such flag: did you mean login_url?"},
		"a flag that is a credential":    {with("-ann:hunter2@app"), nil, "flag -…: there is no such flag"},
		"a flag without a value":         {with("-listen"), nil, "flag -listen: it has no value"},
		"-config without a value":        {[]string{"-config"}, nil, "flag -config: it has no value\n" + noRules},
		"a flag twice":                   {with("-ttl=1s", "-ttl=2s"), nil, "flag -ttl: it is given twice: remove one"},
		"a value without a flag":         {with("-user_details", "false"), nil, "command line: the text at its end does not belong to a flag: write a flag as in -listen 127.0.0.1:8080, and true or false as in -user_details=true"},
		"half of a pair":                 {with("-tls.key=a"), nil, "flag -tls.key: tls.certificate is missing: set both, or none"},
		"a variable and a flag at odds":  {with("-headers.user=X_A"), []string{"DSSAUTH_HEADERS_NAME=X-A"}, `variable DSSAUTH_HEADERS_NAME: "X-A": a program may read it as X_A, which is headers.user: choose another name`},
		"several at once": {with("-ttl=x", "-upstream=y"), []string{"DSSAUTH_METRICS=z"},
			`flag -upstream: "y": it must begin with http:// or https:// and a host, as in http://127.0.0.1:3000` + "\nflag -ttl: " + noUnit + "\n" +
				`variable DSSAUTH_METRICS: "z": it must be host:port, as in 127.0.0.1:8080`},
	} {
		t.Run(name, func(t *testing.T) {
			inFolder(t, root)
			c, _, err := Load(row.args, row.environ)
			assert.EqualError(t, err, row.want)
			assert.Zero(t, c)
		})
	}
}

// samples has a value for each setting, other than its default: as the text of a
// variable or a flag, and as Config prints it.
var samples = map[string]struct {
	text string
	want string
	of   func(Config) any
}{
	"listen":          {":9000", ":9000", func(c Config) any { return c.Listen }},
	"tls.certificate": {"a.pem", "a.pem", func(c Config) any { return c.TLS.Certificate }},
	"tls.key":         {"b.pem", "b.pem", func(c Config) any { return c.TLS.Key }},
	"upstream":        {"HTTPS://app.example:3000/", "https://app.example:3000", func(c Config) any { return c.Upstream }},
	"check":           {"/dssauth/ask/me", "/dssauth/ask/me", func(c Config) any { return c.Check }},
	"proxies":         {"[10.0.0.0/8, '::ffff:192.0.2.1', 2001:db8::1]", "[10.0.0.0/8 192.0.2.1/32 2001:db8::1/128]", func(c Config) any { return c.Proxies }},
	"rules": {"[{path: /, project: CHURN}, {path: /a/, allow: nobody}, {path: /a/, methods: [GET], groups: [x, y]}]",
		"[{/ [] 0 [] CHURN} {/a/ [] 3 [] } {/a/ [GET] 0 [x y] }]", func(c Config) any { return c.Rules }},
	"headers.user":        {"X-User", "X-User", func(c Config) any { return c.Headers.User }},
	"headers.groups":      {"X-Groups", "X-Groups", func(c Config) any { return c.Headers.Groups }},
	"headers.name":        {"X-Name", "X-Name", func(c Config) any { return c.Headers.Name }},
	"headers.email":       {"X-Email", "X-Email", func(c Config) any { return c.Headers.Email }},
	"assertion.issuer":    {"https://a.example", "https://a.example", func(c Config) any { return c.assertion().Issuer }},
	"assertion.audience":  {"report app", "report app", func(c Config) any { return c.assertion().Audience }},
	"assertion.key_files": {"[a.pem, b.pem]", "[a.pem b.pem]", func(c Config) any { return c.assertion().KeyFiles }},
	"dss_cookies":         {"[dss_*, session]", "[dss_* session]", func(c Config) any { return c.DSSCookies }},
	"forward_credentials": {"true", "true", func(c Config) any { return c.ForwardCredentials }},
	"login_url":           {"https://dss.example/login?back={back}#x", "https://dss.example/login?back={back}#x", func(c Config) any { return c.LoginURL }},
	"ttl":                 {"1m", "1m0s", func(c Config) any { return c.TTL }},
	"impersonation": {"proxy-user", "proxy-user", func(c Config) any {
		if c.Impersonation == dssauth.ByProxyUser {
			return "proxy-user"
		}
		return c.Impersonation
	}},
	"user_details": {"true", "true", func(c Config) any { return c.UserDetails }},
	"metrics":      {"localhost:9090", "localhost:9090", func(c Config) any { return c.Metrics }},
	"shutdown":     {"5s", "5s", func(c Config) any { return c.Shutdown }},
}

// companions are the other settings that a setting needs.
var companions = map[string][]string{
	"tls.certificate":     {"DSSAUTH_TLS_KEY=k"},
	"tls.key":             {"DSSAUTH_TLS_CERTIFICATE=c"},
	"assertion.issuer":    {"DSSAUTH_ASSERTION_AUDIENCE=a"},
	"assertion.audience":  {"DSSAUTH_ASSERTION_ISSUER=i"},
	"assertion.key_files": {"DSSAUTH_ASSERTION_ISSUER=i", "DSSAUTH_ASSERTION_AUDIENCE=a"},
}

func TestEachSettingFromEachSource(t *testing.T) {
	assert.Len(t, samples, len(settings))
	for _, s := range settings {
		sample, ok := samples[s.name]
		require.True(t, ok, "no sample for %s", s.name)
		t.Run(s.name, func(t *testing.T) {
			with := func(more string) []string { return append(slices.Clone(companions[s.name]), more) }
			inFile := func(text string) string {
				if group, key, nested := strings.Cut(s.name, "."); nested {
					return fmt.Sprintf("%s%s:\n  %s: %s\n", root, group, key, text)
				} else if s.name == "rules" {
					return "rules: " + text + "\n"
				}
				return root + s.name + ": " + text + "\n"
			}
			variable, flag := variableOf(s.name)+"=", "-"+s.name+"="
			for name, row := range map[string]struct {
				file          string
				args, environ []string
			}{
				"from the file":              {inFile(sample.text), nil, with("")},
				"from a variable":            {root, nil, with(variable + sample.text)},
				"from a flag":                {root, []string{flag + sample.text}, with("")},
				"a variable before the file": {inFile("{}"), nil, with(variable + sample.text)},
				"a flag before a variable":   {root, []string{flag + sample.text}, with(variable + "{}")},
				"an empty variable":          {inFile(sample.text), nil, with(variable)},
			} {
				inFolder(t, row.file)
				c, command, err := Load(append(row.args, fromFile...), row.environ)
				require.NoError(t, err, name)
				assert.Equal(t, sample.want, fmt.Sprint(sample.of(c)), name)
				assert.NotNil(t, c.Set, name)
				assert.Empty(t, command.Warnings, name)
			}
			inFolder(t, inFile("{}"))
			_, _, err := Load(fromFile, nil)
			assert.Error(t, err, "the value that loses above is wrong")
		})
	}
}

func TestDefaults(t *testing.T) {
	inFolder(t, root)
	c, command, err := Load(fromFile, nil)
	require.NoError(t, err)
	assert.Equal(t, Command{File: "gateway.yaml"}, command)
	assertDefaults(t, c)
}

func assertDefaults(t *testing.T, c Config) {
	t.Helper()
	require.NotNil(t, c.Set)
	c.Set = nil
	want := Config{
		Listen:        "127.0.0.1:8080",
		Check:         "/dssauth/check",
		Proxies:       []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		Rules:         []rules.Rule{{Path: "/", Allow: rules.SignedIn}},
		Impersonation: dssauth.ByTicket, Shutdown: 20 * time.Second,
	}
	want.Headers.User, want.Headers.Groups, want.Headers.Name, want.Headers.Email = "Remote-User", "Remote-Groups", "Remote-Name", "Remote-Email"
	want.places = c.places
	assert.Equal(t, want, c)
}

func TestProxiesCanBeNone(t *testing.T) {
	inFolder(t, root+"proxies: []\n")
	c, _, err := Load(fromFile, nil)
	require.NoError(t, err)
	assert.Empty(t, c.Proxies)
}

func TestListenersThatOverlap(t *testing.T) {
	inFolder(t, root)
	for metrics, fits := range map[string]bool{
		":9000": false, "[::]:9000": false, "localhost:9000": false, "[::ffff:127.0.0.1]:9000": false,
		"127.0.0.1:9001": true, "127.0.0.2:9000": true, "name.example:9000": true,
	} {
		_, _, err := Load(append([]string{"-listen=127.0.0.1:9000", "-metrics=" + metrics}, fromFile...), nil)
		assert.Equal(t, fits, err == nil, metrics)
	}
	for upstream, fits := range map[string]bool{
		"http://localhost:9000": false, "http://[::1]:9000": false, "https://127.0.0.1:9000": false,
		"http://127.0.0.1": true, "http://app:9000": true, "http://192.0.2.1:9000": true,
	} {
		_, _, err := Load(append([]string{"-listen=0.0.0.0:9000", "-upstream=" + upstream}, fromFile...), nil)
		assert.Equal(t, fits, err == nil, upstream)
	}
}

func TestListenInACodeStudio(t *testing.T) {
	inFolder(t, root)
	t.Setenv("DKU_CODE_STUDIO_BROWSER_PATH_8080", "/code-studios/CHURN/a1b2c3/8080")
	t.Setenv("DKU_CODE_STUDIO_IS_PUBLIC_PORT_8080", "1")
	c, _, err := Load(fromFile, nil)
	require.NoError(t, err)
	assert.Equal(t, "0.0.0.0:8080", c.Listen)
	c, _, err = Load([]string{"-config=gateway.yaml", "-listen=127.0.0.1:9000"}, nil)
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:9000", c.Listen)

	t.Setenv("DKU_CODE_STUDIO_BROWSER_PATH_8080", "")
	t.Setenv("DKU_CODE_STUDIO_BROWSER_PATH", "/code-studios/CHURN/a1b2c3")
	_, _, err = Load(fromFile, nil)
	assert.ErrorContains(t, err, "listen: it is not set, and the default does not fit: dss: DKU_CODE_STUDIO_BROWSER_PATH_8080 is not set")
	_, _, err = Load([]string{"-config=gateway.yaml", "-listen=:x"}, nil)
	assert.EqualError(t, err, `flag -listen: ":x": it must be host:port, as in 127.0.0.1:8080, with a port of 0 to 65535`)
}

func TestCommand(t *testing.T) {
	inFolder(t, root)
	_, command, err := Load([]string{"-check-config", "-user_details"}, []string{"DSSAUTH_CONFIG=gateway.yaml"})
	require.NoError(t, err)
	assert.Equal(t, Command{File: "gateway.yaml", Check: true}, command)
	_, _, err = Load(fromFile, []string{"DSSAUTH_CONFIG=other.yaml"})
	require.NoError(t, err, "a flag wins")
	for flag, want := range map[string]Command{"-help": {Help: true}, "-h": {Help: true}, "--version": {Version: true}} {
		_, command, err = Load([]string{flag, "-ttl=x"}, []string{"DSSAUTH_LISTEN=x"})
		require.NoError(t, err)
		assert.Equal(t, want, command)
	}
}

func TestUnknownVariablesAreWarnedOf(t *testing.T) {
	inFolder(t, root)
	_, command, err := Load(fromFile, []string{
		"DSSAUTH_LISTN=hunter2", "DSSAUTH_SOMETHING_ELSE=hunter2", "DSSAUTH_METRIC=", "DSS_URL=x", "PATH=/bin", "=",
		// Of a Service named dssauth, or dssauth-apps, in Kubernetes.
		"DSSAUTH_SERVICE_HOST=10.0.0.1", "DSSAUTH_SERVICE_PORT=80", "DSSAUTH_SERVICE_PORT_HTTP=80", "DSSAUTH_PORT=tcp://10.0.0.1:80",
		"DSSAUTH_PORT_80_TCP=tcp://10.0.0.1:80", "DSSAUTH_PORT_80_TCP_PROTO=tcp", "DSSAUTH_PORT_80_TCP_PORT=80", "DSSAUTH_PORT_80_TCP_ADDR=10.0.0.1",
		"DSSAUTH_APPS_SERVICE_HOST=10.0.0.1", "DSSAUTH_APPS_PORT_80_TCP=tcp://10.0.0.1:80",
	})
	require.NoError(t, err)
	assert.Equal(t, []string{
		"variable DSSAUTH_LISTN: there is no such setting: did you mean DSSAUTH_LISTEN?",
		"variable DSSAUTH_SOMETHING_ELSE: there is no such setting",
	}, command.Warnings)
}

func TestNamesAndHelp(t *testing.T) {
	var help bytes.Buffer
	Help(&help)
	variables := map[string]bool{"DSSAUTH_CONFIG": true}
	for _, s := range settings {
		name := variableOf(s.name)
		assert.False(t, variables[name], "%s has the variable of another one", s.name)
		assert.False(t, kubernetes.MatchString(name), "Kubernetes may set %s", name)
		variables[name] = true
		end := "; " + name
		if s.fallback != "" {
			end += " (default " + s.fallback + ")"
		}
		assert.Regexp(t, `(?m)^  -`+regexp.QuoteMeta(s.name)+"\n        .*"+regexp.QuoteMeta(end)+"$", help.String())
	}
	for _, text := range []string{"\n  -config file\n", "\n  -check-config\n", "\n  -version\n", "\n  -help\n", "{back}"} {
		assert.Contains(t, help.String(), text)
	}
}

func TestExampleFile(t *testing.T) {
	text, err := os.ReadFile("../../gateway.yaml")
	require.NoError(t, err)
	inFolder(t, string(text))
	c, _, err := Load(fromFile, nil)
	require.NoError(t, err)
	assertDefaults(t, c)

	full := regexp.MustCompile(`(?m)^#: `).ReplaceAllString(string(text), "")
	inFolder(t, full)
	c, _, err = Load(fromFile, nil)
	require.NoError(t, err)
	assert.Len(t, c.Rules, 6)
	r := &reader{found: map[string]entry{}}
	r.file("gateway.yaml")
	for _, s := range settings {
		assert.True(t, r.has(s.name), "the example lacks %s", s.name)
	}
	assert.NotRegexp(t, `\n\n[a-z]`, full, "a comment stands above each setting")
}

func FuzzFile(f *testing.F) {
	for _, text := range []string{"", root, "rules: [*a]", "a: &a [*a]", "{[a]: b}", "? |\n x\n: y", "rules:\n- path: [", "tls: {key: !!binary eA==}",
		"--- {}\n--- {}", "\ufeff" + root, "rules: [{path: /, allow: ~, groups: [x, 1, ~]}]"} {
		f.Add(text)
	}
	example, err := os.ReadFile("../../gateway.yaml")
	require.NoError(f, err)
	f.Add(strings.ReplaceAll(string(example), "#: ", ""))
	// Not the current folder: the processes that fuzz begin in this one.
	file := filepath.Join(f.TempDir(), "gateway.yaml")
	place := regexp.MustCompile(`^` + regexp.QuoteMeta(file) + `(:[1-9][0-9]*)?: [^\n]+$`)
	f.Fuzz(func(t *testing.T, text string) {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		c, _, err := Load([]string{"-config", file}, nil)
		if err == nil {
			require.NotNil(t, c.Set)
			return
		}
		require.Zero(t, c)
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if line == "there are more mistakes: these are the first 100" {
				continue
			}
			at := place.FindStringSubmatch(line)
			require.NotNil(t, at, "%q names no place", line)
			if at[1] == "" {
				require.Regexp(t, `: rules: there are none|: it is empty|more than 1 MiB`, line)
				continue
			}
			n, err := strconv.Atoi(at[1][1:])
			require.NoError(t, err)
			require.LessOrEqual(t, n, strings.Count(text, "\n")+strings.Count(text, "\r")+2, line)
		}
	})
}
