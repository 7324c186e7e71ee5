package dss_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

func TestDoRefusesPaths(t *testing.T) {
	server := newRecorder(t, replying(http.StatusOK, `{}`))
	c := server.client(t)
	const dots, control = "dot segments are not allowed", "control characters are not allowed"
	for path, want := range map[string]string{
		"":                               "it must start with /, as in /projects/",
		"projects/":                      "it must start with /, as in /projects/",
		"?a=b":                           "it must start with /, as in /projects/",
		"http://evil.example/x":          "an absolute URL is not allowed; give the path after /dip/publicapi",
		"HTTPS://evil.example/x":         "an absolute URL is not allowed; give the path after /dip/publicapi",
		server.URL + "/dip/publicapi/x":  "an absolute URL is not allowed; give the path after /dip/publicapi",
		"@evil.example/":                 "it must start with /, as in /projects/",
		":80/x":                          "it must start with /, as in /projects/",
		"//evil.example/x":               "an empty segment (//) is not allowed",
		"/projects//x":                   "an empty segment (//) is not allowed",
		"/..":                            dots,
		"/../../x":                       dots,
		"/projects/./x":                  dots,
		"/projects/../x":                 dots,
		"/projects/..":                   dots,
		"/projects/..?a=b":               dots,
		"/projects/%2e%2E/x":             dots,
		"/projects/.%2e/x":               dots,
		"/projects/%252e%252e/x":         dots,
		"/projects/..%2fx":               dots,
		"/projects/..%5cx":               dots,
		"/projects/..;/x":                dots,
		"/projects/..;a=b/x":             dots,
		"/projects/%2e%2e%3b/x":          dots,
		`/projects\x`:                    `a backslash is not allowed; in a name it is written %5C`,
		"/projects/a#b":                  "a fragment is not allowed; in a name # is written %23",
		"/projects/?a=b#c":               "a fragment is not allowed; in a name # is written %23",
		"/projects/\nx":                  control,
		"/projects/x HTTP/1.1\r\nX-A: b": control,
		"/projects/\x00":                 control,
		"/projects/%00":                  control,
		"/projects/%0d%0aX":              control,
		"/projects/%250a":                control,
		"/projects/%c0%ae%c0%ae/x":       "bytes that are not UTF-8 are not allowed",
		"/projects/\xff":                 "bytes that are not UTF-8 are not allowed",
		"/projects/?a=\n":                control,
		"/projects/?a=b c":               "its query must be escaped, as url.Values.Encode does",
		"/projects/?a=é":                 "its query must be escaped, as url.Values.Encode does",
		"/projects/100%":                 "a percent sign must be followed by two hexadecimal digits; in a name it is written %25",
		"/projects/%zz":                  "a percent sign must be followed by two hexadecimal digits; in a name it is written %25",
	} {
		err := c.Do(t.Context(), "GET", path, nil, nil)
		assert.ErrorContains(t, err, ": its path is refused: "+want, "%q", path)
		assert.NotContains(t, err.Error(), "\n", "%q", path)
	}
	assert.Empty(t, server.requests(), "calls")
}

func TestDoTakesPaths(t *testing.T) {
	server := newRecorder(t, replying(http.StatusOK, `{}`))
	for path, target := range map[string]string{
		"/":                        "/",
		"/projects/":               "/projects/",
		"/projects/?a=b&c=..%2F":   "/projects/?a=b&c=..%2F",
		"/projects/?":              "/projects/?",
		"/projects/?u=http://x//y": "/projects/?u=http://x//y",
		"/a/...":                   "/a/...",
		"/a/..b/.c/d..":            "/a/..b/.c/d..",
		"/a%2Fb/c%20d%25":          "/a%2Fb/c%20d%25",
		"/a b/é":                   "/a%20b/%C3%A9",
		"/a b/é%2Fc":               "/a%20b/%C3%A9%2Fc",
		"/\"<>^`{|}%2F[]!$&'()*+,": "/%22%3C%3E%5E%60%7B%7C%7D%2F[]!$&'()*+,",
		"/a;b=c/@d:e":              "/a;b=c/@d:e",
	} {
		require.NoError(t, server.client(t).Do(t.Context(), "GET", path, nil, nil), "%q", path)
		assert.Equal(t, "/dip/publicapi"+target, server.last(t).Target)
	}
}

// FuzzDoPath checks that each accepted path leads to this DSS, below its API,
// also on a server that resolves dot segments.
func FuzzDoPath(f *testing.F) {
	for _, seed := range []string{"/", "/projects/?a=b", "//x", "/../x", "/%2e%2e/x", "/%252e%252e", "/..;/x", "http://x/", "/a\\b", "/#", "/%", "/\x00", "/é b", "/a%2F..%2Fb", "?", "/\"%25252e%25252e/", "/%2fx", "/[x]|/%5b"} {
		f.Add(seed)
	}
	base, err := url.Parse("https://dss.example/dss")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, path string) {
		u, err := dss.APIURL(base, path)
		if err != nil {
			return
		}
		require.NoError(t, dss.CheckTarget(base, u), "is not checked again before it is sent")
		parsed, err := url.Parse(u.String())
		require.NoError(t, err)
		require.Equal(t, "https://dss.example", parsed.Scheme+"://"+parsed.Host)
		require.Nil(t, parsed.User)
		require.Empty(t, parsed.Fragment)
		asked, _, _ := strings.Cut(path, "?")
		require.Equal(t, strings.Count("/dss/dip/publicapi"+asked, "/"), strings.Count(u.EscapedPath(), "/"), "slashes")
		for _, way := range []string{parsed.EscapedPath(), parsed.Path, parsed.JoinPath().Path} {
			require.True(t, strings.HasPrefix(way, "/dss/dip/publicapi/"), "%q", way)
		}
		resolved := base.ResolveReference(&url.URL{Path: strings.ReplaceAll(parsed.Path, `\`, "/")})
		require.True(t, strings.HasPrefix(resolved.Path, "/dss/dip/publicapi/"), "%q", resolved.Path)
	})
}

func TestDoSends(t *testing.T) {
	var none io.Reader
	for name, row := range map[string]struct {
		in          any
		body        string
		contentType string
	}{
		"nothing":                {nil, "", ""},
		"a nil reader":           {none, "", ""},
		"JSON":                   {map[string]any{"a": "<&>", "n": json.Number("12345678901234567890")}, `{"a":"<&>","n":12345678901234567890}`, "application/json"},
		"JSON null":              {json.RawMessage("null"), "null", "application/json"},
		"a string is JSON too":   {"a", `"a"`, "application/json"},
		"bytes of a reader":      {strings.NewReader("{raw\x00\xff"), "{raw\x00\xff", "application/octet-stream"},
		"bytes of a pure reader": {io.MultiReader(strings.NewReader("one"), strings.NewReader("two")), "onetwo", "application/octet-stream"},
	} {
		t.Run(name, func(t *testing.T) {
			server := newRecorder(t, replying(http.StatusOK, `{}`))
			require.NoError(t, server.client(t).Do(t.Context(), "POST", "/x", row.in, nil))
			sent := server.last(t)
			assert.Equal(t, row.body, sent.Body)
			assert.Equal(t, row.contentType, sent.Header.Get("Content-Type"))
		})
	}
}

func TestDoReceives(t *testing.T) {
	server := newRecorder(t, replying(http.StatusOK, `{"a": 1, "n": 12345678901234567890}`))
	c := server.client(t)

	var out struct{ A int }
	require.NoError(t, c.Do(t.Context(), "GET", "/x", nil, &out))
	assert.Equal(t, 1, out.A)

	var raw json.RawMessage
	require.NoError(t, c.Do(t.Context(), "GET", "/x", nil, &raw))
	assert.Equal(t, `{"a": 1, "n": 12345678901234567890}`, string(raw))

	var text bytes.Buffer
	require.NoError(t, c.Do(t.Context(), "GET", "/x", nil, &text))
	assert.Equal(t, `{"a": 1, "n": 12345678901234567890}`, text.String())
}

func TestDoStreamsTheReply(t *testing.T) {
	more := make(chan struct{})
	server := newRecorder(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "one")
		w.(http.Flusher).Flush()
		<-more
		io.WriteString(w, "two")
	})
	r, w := io.Pipe()
	done := make(chan error)
	go func() { done <- server.client(t).Do(t.Context(), "GET", "/x", nil, w) }()
	first := make([]byte, 3)
	_, err := io.ReadFull(r, first)
	require.NoError(t, err)
	assert.Equal(t, "one", string(first))
	close(more)
	_, err = io.ReadFull(r, first)
	require.NoError(t, err)
	assert.Equal(t, "two", string(first))
	require.NoError(t, <-done)
}

func TestDoFails(t *testing.T) {
	failing := errors.New("disk full")
	number := newRecorder(t, replying(http.StatusOK, `{"a": "text"}`))
	page := newRecorder(t, replying(http.StatusOK, `<html>canary`))
	nothing := newRecorder(t, replying(http.StatusNoContent, ``))
	forbidden := newRecorder(t, replying(http.StatusForbidden, `{"errorType": "x.E", "message": "no"}`))

	var out struct{ A int }
	for _, row := range []struct {
		server *recorder
		method string
		in     any
		out    any
		want   string
		calls  int
	}{
		{number, "GET", nil, &out, "dss: GET /x: unexpected reply: a value in the body does not fit int", 1},
		{page, "GET", nil, &out, "dss: GET /x: unexpected reply: the body is not JSON", 1},
		{nothing, "GET", nil, &out, "dss: GET /x: unexpected reply: the body is not JSON", 1},
		{page, "POST", nil, out, "dss: POST /x: out: struct { A int } is neither an io.Writer nor a pointer to decode JSON into", 0},
		{page, "POST", nil, (*int)(nil), "dss: POST /x: out: *int is neither an io.Writer nor a pointer to decode JSON into", 0},
		{page, "POST", math.NaN(), nil, "dss: POST /x: in: float64 cannot be written as JSON", 0},
		{page, "POST", func() {}, nil, "dss: POST /x: in: func() cannot be written as JSON", 0},
		{page, "G T", nil, nil, `dss: G T /x: the method is refused: it must be GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS`, 0},
		{page, "GET", nil, failingWriter{failing}, "dss: GET /x: passing on the reply: the io.Writer failed", 1},
		{forbidden, "GET", nil, failingWriter{failing}, "dss: 403 x.E", 1},
		{forbidden, "GET", nil, &out, "dss: 403 x.E", 1},
	} {
		before := len(row.server.requests())
		err := row.server.client(t).Do(t.Context(), row.method, "/x", row.in, row.out)
		assert.EqualError(t, err, row.want)
		assert.Len(t, row.server.requests(), before+row.calls, row.want)
	}
	assert.ErrorIs(t, page.client(t).Do(t.Context(), "GET", "/x", nil, failingWriter{failing}), failing)
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
