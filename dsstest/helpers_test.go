package dsstest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dsstest"
)

const (
	authInfo      = "/auth/info"
	browserInfo   = "/auth/info-from-browser-headers"
	browserTicket = "/auth/ticket-from-browser-headers"
)

// creds sets the credentials of a call.
type creds func(http.Header)

func noCreds(http.Header) {}

func keyOf(key string) creds {
	return func(h http.Header) {
		r := http.Request{Header: h}
		r.SetBasicAuth(key, "")
	}
}

func ticketOf(ticket string) creds {
	return func(h http.Header) { h.Set("X-DKU-APITicket", ticket) }
}

func header(name string, values ...string) creds {
	return func(h http.Header) { h[http.CanonicalHeaderKey(name)] = values }
}

func both(a, b creds) creds {
	return func(h http.Header) { a(h); b(h) }
}

// as returns credentials with which c acts as another user.
func (c creds) as(login string) creds { return both(c, header("X-DKU-ProxyUser", login)) }

// call calls an endpoint over a socket.
func call(t testing.TB, fake *dsstest.Server, by creds, method, path, body string) (status int, reply string) {
	t.Helper()
	req, err := http.NewRequest(method, fake.URL()+"/dip/publicapi"+path, strings.NewReader(body))
	require.NoError(t, err)
	by(req.Header)
	return send(t, req)
}

// direct follows no redirects: there are none.
var direct = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func send(t testing.TB, req *http.Request) (status int, reply string) {
	t.Helper()
	resp, err := direct.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}

// decode reads JSON and keeps numbers as they are.
func decode(t testing.TB, text string) any {
	t.Helper()
	var v any
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	require.NoError(t, dec.Decode(&v), "%s", text)
	return v
}

// whoAmI returns the login that DSS names for by.
func whoAmI(t testing.TB, fake *dsstest.Server, by creds) string {
	t.Helper()
	status, reply := call(t, fake, by, "GET", authInfo, "")
	require.Equal(t, http.StatusOK, status, reply)
	login, _ := decode(t, reply).(map[string]any)["associatedDSSUser"].(string)
	return login
}

// whoIs asks about a browser's headers, and returns the login, "" for an
// anonymous visitor.
func whoIs(t testing.TB, fake *dsstest.Server, headers string) string {
	t.Helper()
	status, reply := call(t, fake, keyOf(fake.AdminKey()), "POST", browserInfo, headers)
	if status == http.StatusUnauthorized {
		assertError(t, "NotAuthenticatedException", reply)
		return ""
	}
	require.Equal(t, http.StatusOK, status, reply)
	return decode(t, reply).(map[string]any)["authIdentifier"].(string)
}

func assertError(t testing.TB, errorType, reply string) {
	t.Helper()
	got, _ := decode(t, reply).(map[string]any)
	kind, _ := got["errorType"].(string)
	assert.True(t, strings.HasSuffix(kind, "."+errorType), "%s in %s", errorType, reply)
	assert.NotEmpty(t, got["message"])
}

// cookieOf returns a browser's headers with one cookie.
func cookieOf(c *http.Cookie) string {
	return `{"Cookie": "` + c.Name + "=" + c.Value + `"}`
}
