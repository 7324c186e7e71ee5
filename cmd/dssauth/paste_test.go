package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var pastes = map[string]struct {
	text string
	want string // of the Cookie header; "" where err is meant
	err  error
}{
	"nothing":                           {"", "", errPasteNoCookie},
	"prose":                             {"I have no cookies", "", errPasteNoCookie},
	"several lines of prose":            {"a=b\nc=d", "", errPasteNoCookie},
	"another header":                    {"Accept: text/html;q=0.9", "", errPasteNoCookie},
	"a URL":                             {"https://dss.example/?a=b", "", errPasteNoCookie},
	"an empty header":                   {"Cookie: ", "", errPasteNoCookie},
	"a header of separators":            {"Cookie: ;; ;", "", errPasteNoCookie},
	"a reply's header":                  {"HTTP/1.1 200 OK\nset-cookie: a=b; Path=/", "", errPasteReply},
	"a command without cookies":         {"curl https://dss.example -H 'Accept: */*'", "", errPasteNoCookie},
	"a command that reads a file":       {"curl -b cookies.txt https://dss.example", "", errPasteFile},
	"a command cut short":               {"curl 'https://dss.example' -H 'Cookie: a=b", "", errPasteCut},
	"a command cut short in an escape":  {`curl x -b $'a=b\`, "", errPasteCut},
	"a command that ends at its option": {"curl x -b", "", errPasteNoCookie},
	"a command with a line end within":  {`curl x -b $'a=b\nX-Evil: c'`, "", errPasteNoCookie},

	"a header":                        {"Cookie: a=b; c=d", "a=b; c=d", nil},
	"a header in small letters":       {"cookie:a=b", "a=b", nil},
	"a header with spaces around it":  {" \tCookie :  a=b; c=d \r\n", "a=b; c=d", nil},
	"a header behind a mark of order": {"\ufeffCookie: a=b", "a=b", nil},
	"a header in two lines":           {"Cookie:\na=b; c=d\nDnt:\n1", "a=b; c=d", nil},
	"all headers of a request":        {"GET / HTTP/1.1\r\nHost: dss.example\r\nCookie: a=b; c=d\r\nAccept: */*\r\n", "a=b; c=d", nil},
	"headers as of HTTP/2":            {":authority: dss.example\ncookie: a=b\ncookie: c=d", "a=b; c=d", nil},
	"lines without colons":            {"Request headers\n:authority\ndss.example\nx-empty\ncookie\na=b; c=d\nuser-agent\nu", "a=b; c=d", nil},
	"a reply's lines without colons":  {"vary\nCookie\nx-a\nb\nRequest headers\n:authority\ndss.example\ncookie\na=b; c=d", "a=b; c=d", nil},
	"a reply's headers in two lines":  {"Vary:\nCookie\nCookie:\na=b; c=d", "a=b; c=d", nil},
	"the word cookie alone":           {"cookie", "", errPasteNoCookie},
	"a value":                         {"a=b; c=d", "a=b; c=d", nil},
	"a value with everything in it":   {`a="b:c", d'e; f==; g`, `a="b:c", d'e; f==; g`, nil},

	"a command with -b":                 {"curl 'https://dss.example/?a=b' \\\n  -H 'accept: */*' \\\n  -b 'a=b; c=d' \\\n  --compressed", "a=b; c=d", nil},
	"a command with -H":                 {"curl 'https://dss.example' -H 'Cookie: a=b; c=d'", "a=b; c=d", nil},
	"a command behind a prompt":         {"$ curl https://dss.example --cookie a=b", "a=b", nil},
	"a command with long options":       {"curl --header='cookie: a=b' --cookie=c=d https://dss.example", "a=b; c=d", nil},
	"a command with attached options":   {"curl -H'cookie: a=b' -bc=d https://dss.example", "a=b; c=d", nil},
	"a command with C escapes":          {`curl x -H $'cookie: a=it\'s\u0021\x41\101\\; b=\"\q'`, `a=it's!AA\; b="\q`, nil},
	"a command with double quotes":      {`curl x -b "a=\"b\" \$c \d"`, `a="b" $c \d`, nil},
	"a command with glued quotations":   {`curl x -b 'a=it'\''s'"!"`, `a=it's!`, nil},
	"a command of Windows":              {"curl ^\"https://dss.example/^?a^=b^\" ^\n  -H ^\"accept: */*^\" ^\n  -b ^\"a=b^%20c; d=^\\^\"e^\\^\"^\" ^\n  --compressed", `a=b%20c; d="e"`, nil},
	"an older command of Windows":       {"curl.exe \"https://dss.example\" ^\r\n  -H \"Cookie: a=b^c; d=e\" ^\r\n --compressed", "a=b^c; d=e", nil},
	"an odd space at a cookie's end":    {"Cookie: a=b\f\u00a0", "a=b\f\u00a0", nil},
	"all requests, as commands":         {"curl --url 'https://dss.example' \\\n  -b 'a=b' ;\ncurl --url 'https://other.example' \\\n  -b 'c=canary'", "a=b", nil},
	"all of them on Windows":            {"curl --url ^\"https://dss.example^\" ^\r\n  -b ^\"a=b^&c^\" &\r\ncurl --url ^\"https://other.example^\" -b ^\"c=canary^\"", "a=b&c", nil},
	"a command with a semicolon alone":  {"curl x --data-raw ';' -b 'a=b'", "a=b", nil},
	"a command with a caret in a value": {`curl 'x' -b 'a=^"b'`, `a=^"b`, nil},
}

func TestParsePaste(t *testing.T) {
	for name, row := range pastes {
		t.Run(name, func(t *testing.T) {
			c, err := parsePaste(row.text)
			if row.err != nil {
				assert.ErrorIs(t, err, row.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, row.want, c.header())
		})
	}
}

func TestCookiesAreNotPrinted(t *testing.T) {
	c, err := parsePaste("X-A: canary\nAuthorization: Bearer canary\nCookie: session=canary; lang=canary; sessioncanary==")
	require.NoError(t, err)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
		assert.NotContains(t, fmt.Sprintf(verb, c), "canary")
		assert.NotContains(t, fmt.Sprintf(verb, &struct{ inner request }{c}), "canary")
	}
	assert.Equal(t, "(cookies: session lang (name not shown))", c.String())
}

// All headers of a request are read, and the host of its address.
func TestPastedHeaders(t *testing.T) {
	for name, row := range map[string]struct {
		text string
		want http.Header
		to   site
	}{
		"a value": {"a=b", http.Header{}, site{}},
		"headers": {"GET /?a:b HTTP/1.1\nHost: DSS.example:443\nX-A: b\nx-a: c: d\nX-Empty:\nCookie: a=b\nhttps://x",
			http.Header{"Host": {"DSS.example:443"}, "X-A": {"b", "c: d"}}, site{"", "dss.example:443"}},
		"headers in two lines": {":authority:\ndss.example\n:scheme:\nhttps\nx-a:\nhttps://b\ncookie:\na=b: c", http.Header{"X-A": {"https://b"}}, site{"https", "dss.example"}},
		"headers in two lines, without colons": {"Request headers\n:authority\ndss.example\n:scheme\nhttps\nx-a\nb:c\nx-empty\ncookie\na=b: c\nx-d\ne",
			http.Header{"X-A": {"b:c"}, "X-D": {"e"}}, site{"https", "dss.example"}},
		"a command": {"curl -X POST 'https://canary:canary@dss.example/canary?canary' -H 'X-A: b' -H 'X-Empty;' -H 'X B: c' --data-raw 'https://other.example' -e r -A u -b a=b -u x:y",
			http.Header{"X-A": {"b"}, "Referer": {"r"}, "User-Agent": {"u"}, "Authorization": {"Basic eDp5"}}, site{"https", "dss.example"}},
		"a command with IPv6":        {`curl --url 'http://\[::1\]:11200/a\{b\}' -b a=b`, http.Header{}, site{"http", "[::1]:11200"}},
		"a command with --url":       {"curl -d x --url https://dss.example -XPOST -b a=b", http.Header{}, site{"https", "dss.example"}},
		"a command without a scheme": {"curl dss.example/a -b a=b", http.Header{}, site{"http", "dss.example"}},
		"a command without a URL":    {"curl -b a=b -H 'X-A: 1\n2' -H $'X-B: 1\\n2'", http.Header{}, site{}},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := parsePaste(row.text)
			require.NoError(t, err)
			assert.Equal(t, row.want, r.others())
			assert.Equal(t, row.to, r.to)
		})
	}
}

func FuzzParsePaste(f *testing.F) {
	for _, row := range pastes {
		f.Add(row.text)
	}
	known := []error{errPasteCut, errPasteFile, errPasteReply, errPasteNoCookie}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parsePaste(text)
		if err != nil {
			// None of them quotes the paste.
			assert.True(t, slices.Contains(known, err), "unknown error %v", err)
			return
		}
		assert.NotContains(t, c.header(), "\n")
		assert.False(t, strings.ContainsAny(c.to.host, "@/? \n"), "%q", c.to.host)
		for name, values := range c.others() {
			assert.True(t, isToken(name) && name == http.CanonicalHeaderKey(name) && name != "Cookie", "%q", name)
			assert.False(t, strings.ContainsAny(strings.Join(values, ""), "\r\n\x00"))
		}
		assert.NotEmpty(t, c.names())
		for _, pair := range c.pairs() {
			assert.Contains(t, c.named(nameOf(pair)), pair)
		}
		again, err := parsePaste("Cookie: " + c.header())
		if assert.NoError(t, err, "a header that was found is a header") {
			assert.Equal(t, c.pairs(), again.pairs())
		}
	})
}

// Any cookie comes out unchanged of each way to quote it.
func FuzzCurlQuoting(f *testing.F) {
	for _, value := range []string{"b", "it's", `\`, `"`, "^", "$x `y` !z", "%PATH%", "é\u2028", "-H"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if strings.ContainsAny(value, "\r\n\x00") {
			return // no header has it
		}
		want := "a=" + value + "; z=end"
		for way, command := range map[string]string{
			"single quotes": `curl 'x' -b '` + strings.ReplaceAll(want, `'`, `'\''`) + `'`,
			"double quotes": `curl "x" -b "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`").Replace(want) + `"`,
			"C escapes":     `curl 'x' -b $'` + strings.NewReplacer(`\`, `\\`, `'`, `\'`, `!`, `\u0021`).Replace(want) + `'`,
			"octal escapes": `curl 'x' -b $'` + octal(want) + `'`,
			"Windows":       `curl ` + carets(`"x" -b "`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(want)+`"`),
		} {
			c, err := parsePaste(command)
			require.NoError(t, err, way)
			assert.Equal(t, want, c.header(), way)
		}
	})
}

func octal(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, `\%03o`, c)
	}
	return b.String()
}

func carets(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if strings.IndexByte(`"\^&|<>%!()`, c) >= 0 {
			b.WriteByte('^')
		}
		b.WriteByte(c)
	}
	return b.String()
}
