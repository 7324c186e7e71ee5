package dss_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

// FuzzErrorReply checks that no reply outside 2xx makes an error that breaks a
// log, has no end, or rejects a credential without DSS's own word.
func FuzzErrorReply(f *testing.F) {
	for _, seed := range []string{rejection, `{"errorType": "x", "message": "a\r\nb", "detailedMessage": null}`, `<html>`, ``, `{"errorType": 1}`, `{`, "\xff", `["x"]`, `{"errorType":"a","errorType":"b"}`} {
		f.Add(401, []byte(seed), "3")
		f.Add(503, []byte(seed), "Thu, 01 Jan 2026 12:00:30 GMT")
	}
	f.Add(302, []byte(`{"errorType": "x"}`), "-1")
	f.Fuzz(func(t *testing.T, status int, body []byte, retryAfter string) {
		if status < 200 || status > 999 || status/100 == 2 {
			return
		}
		c := fakeClient(t, func(*http.Request) (*http.Response, error) {
			return reply(status, string(body), "Retry-After", retryAfter, "Location", string(body)), nil
		})
		_, err := c.AuthInfo(t.Context())
		var e *dss.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, status, e.StatusCode)
		require.LessOrEqual(t, len(err.Error()), 1000)
		require.True(t, utf8.ValidString(err.Error()))
		require.False(t, strings.ContainsFunc(err.Error(), unicode.IsControl), "%q", err)
		named := fmt.Sprintf("dss: %d %s", status, cmp.Or(e.Type, http.StatusText(status)))
		text, leads, _ := strings.Cut(err.Error(), ": redirects are not followed")
		require.Equal(t, strings.TrimSpace(named), text)
		require.Contains(t, []string{"", ", and this one leads to another host", ", and this one leads elsewhere on the same host", ", and this one leads to https on the same host"}, leads)
		require.Regexp(t, `^[A-Za-z0-9_.$]{0,200}$`, e.Type)
		require.False(t, strings.ContainsFunc(e.Message(), unicode.IsControl), "%q", e.Message())
		require.LessOrEqual(t, len(e.Message()), 1000+len("…"))
		require.GreaterOrEqual(t, e.RetryAfter, time.Duration(0))
		require.LessOrEqual(t, e.RetryAfter, time.Hour)
		if e.NotAuthenticated() {
			var plain struct{ ErrorType string }
			require.NoError(t, json.Unmarshal(body, &plain))
			require.Equal(t, 401, status)
			require.True(t, strings.HasSuffix(plain.ErrorType, "NotAuthenticatedException"))
		}
	})
}

// FuzzUser checks that User never returns another user.
func FuzzUser(f *testing.F) {
	for _, seed := range []string{`{"login": "bob", "displayName": "Bob", "email": "b@example.com", "groups": ["a"], "enabled": true}`, `{"login": "BOB"}`, `{"login": "eve"}`, `{}`, `null`, `{"login": "bob", "login": "eve"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c := fakeClient(t, func(*http.Request) (*http.Response, error) { return reply(200, string(body)), nil })
		u, err := c.User(t.Context(), "bob")
		if err != nil {
			require.Zero(t, u)
			return
		}
		require.True(t, strings.EqualFold(u.Login, "bob"), "%q", u.Login)
		var plain struct{ Login string }
		require.NoError(t, json.Unmarshal(body, &plain))
		require.Equal(t, plain.Login, u.Login)
	})
}

// FuzzSettings checks that settings go back as they came, except for the
// changes.
func FuzzSettings(f *testing.F) {
	for _, seed := range []string{
		`{"login": "ann", "secrets": [{"name": "db", "value": "x", "secret": true, "more": 1e400}], "userProperties": {"a": "b"}, "credentials": {}}`,
		`{"secrets": null, "userProperties": null, "credentials": null, "n": -0.0, "big": 123456789012345678901234567890}`,
		`{}`, `{"secrets": {}}`, `{"a": {"a": [[[{"b": null}]]]}}`, `null`, `{"a": 1, "a": 2}`, "{\"\xff\": 1}", ` {"é\u0000" : "\ud83d\ude00" } `,
	} {
		f.Add([]byte(seed), "name", "value")
	}
	f.Fuzz(func(t *testing.T, body []byte, name, value string) {
		var saved []byte
		c := fakeClient(t, func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPut {
				saved, _ = io.ReadAll(r.Body)
			}
			return reply(200, string(body)), nil
		})
		s, err := c.OwnSettings(t.Context())
		if err != nil {
			require.Nil(t, s)
			return
		}
		require.NoError(t, s.Save(t.Context()))
		require.Equal(t, exactly(t, body), exactly(t, saved))

		s.AddSecret(name, value)
		saved = nil
		if err := s.Save(t.Context()); err != nil {
			require.Nil(t, saved, "saved in spite of an error")
			return
		}
		after := exactly(t, saved)
		found := 0
		for _, secret := range after["secrets"].([]any) {
			if secret := secret.(map[string]any); secret["name"] == name {
				require.Equal(t, value, secret["value"])
				found++
			}
		}
		require.Equal(t, 1, found)
		before := exactly(t, body)
		delete(before, "secrets")
		delete(after, "secrets")
		require.Equal(t, before, after)
	})
}

// exactly decodes an object without loss: numbers stay text.
func exactly(t *testing.T, text []byte) (object map[string]any) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	require.NoError(t, d.Decode(&object), "%q", text)
	return object
}
