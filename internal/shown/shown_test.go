package shown

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	mathrand "math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestIsName(t *testing.T) {
	for name, row := range map[string]struct {
		want  bool
		texts []string
	}{
		"base64 is not a name": {false, []string{
			"c2VjcmV0LXZhbHVl", "dGhpcyBpcyBhIHNlY3JldA", "QWxhZGRpbjpvcGVuIHNlc2FtZQ", "U2Vzc2lvbiBvZiBhbm4", "YW5uOmh1bnRlcjI",
		}},
		"hexadecimal is not a name":                  {false, []string{"5ebe2294ecd0e0f08eab7690d2a6ee69", "5ebe2294ecd0e0", "550e8400-e29b-41d4-a716-446655440000"}},
		"a token of DSS is not a name":               {false, []string{"dkuaps-6kGSFT9zXqVwN2LbR4", "dku-a8Kq2ZxP0vTn"}},
		"a web token is not a name":                  {false, []string{"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ", "eyJhbGciOiJub25lIn0"}},
		"a long word is not a name":                  {false, []string{strings.Repeat("session", 4), "a" + strings.Repeat("_session", 6)}},
		"a number is not a name":                     {false, []string{"1234", "4929123412341234", "_1", "id_49291234123"}},
		"a text with other characters is not a name": {false, []string{"", "a b", "a=", "a:b", "sessi\u00f6n", "a\n", "a/b", "a+b", "session\x00", "a%20b", "\"a\""}},
		"short texts of any letters are names":       {true, []string{"a", "zz", "_x7", "q9Zk", "lb-01"}},
		"names of sessions are names": {true, []string{
			"session", "JSESSIONID", "PHPSESSID", "connect.sid", "ASP.NET_SessionId", ".AspNetCore.Cookies", "sessionid", "laravel_session", "rememberMe",
			"__Host-session", "__Secure-next-auth.session-token.0", "_oauth2_proxy", "oauth2_proxy_0", "mod_auth_openidc_session", "MRHSession",
			"AWSELBAuthSessionCookie-0", "KEYCLOAK_IDENTITY", "AUTH_SESSION_ID", "SimpleSAMLAuthToken", "iPlanetDirectoryPro", "SMSESSION", "ObSSOCookie",
			"CF_Authorization", "MYSAPSSO2", "kubeflow-auth-state", "jupyterhub-session-id", "username-localhost-8888",
		}},
		"names of DSS are names":            {true, []string{"dss_access_token_http_11200", "dss_access_token_https_443", "dss_refresh_token", "dss_session_Q6IX6EM5", "dss_session_zQkWvJxG"}},
		"names of load balancers are names": {true, []string{"AWSALB", "AWSALBTGCORS", "ARRAffinitySameSite", "BIGipServerpool", "__cf_bm", "cf_clearance", "affinity", "zz_trace"}},
		"names of analytics are names":      {true, []string{"_ga", "_gcl_au", "_hjSessionUser_123456", "OptanonAlertBoxClosed", "visid_incap_1234567"}},
		"names of headers are names":        {true, []string{"Cookie", "Authorization", "X-Sso-Session", "X-Forwarded-Email", "X-Goog-Iap-Jwt-Assertion", "X-Amzn-Oidc-Accesstoken"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, text := range row.texts {
				assert.Equal(t, row.want, IsName(text), "%q", text)
			}
		})
	}
}

// The rule guesses, so this test counts its misses: the figures of IsName's
// comment, with a wide margin.
func TestFewRandomTextsPassForNames(t *testing.T) {
	random := mathrand.NewChaCha8([32]byte{}) // the same texts in every run
	const texts = 20_000
	for name, encode := range map[string]func([]byte) string{
		"base64":      base64.RawURLEncoding.EncodeToString,
		"hexadecimal": hex.EncodeToString,
	} {
		for length, most := range map[int]int{12: texts * 2 / 100, 24: texts * 2 / 1000, 32: texts / 1000} {
			passed := 0
			for range texts {
				b := make([]byte, 32)
				_, _ = random.Read(b)
				if IsName(encode(b)[:length]) {
					passed++
				}
			}
			assert.Less(t, passed, most, "%s of %d bytes", name, length)
		}
	}
	for range 1000 {
		assert.False(t, IsName(rand.Text()))
	}
}

func TestCookieName(t *testing.T) {
	for name, row := range map[string]struct{ cookie, want string }{
		"a bare value has no name":                           {"session", ""},
		"a bare value in base64 has no name":                 {"c2Vzc2lvbg==", ""},
		"a bare value made of words has no name":             {"sessionannsession=", ""},
		"a bare value with a space behind it has no name":    {"sessionannsession= ", ""},
		"a value without a name has no name":                 {"=session", ""},
		"a value with base64 at its start has no name":       {"dGhpcyBpcyBhIHNlY3JldA==.c2ln", ""},
		"an empty text has no name":                          {"", ""},
		"a name with a value is shown":                       {"session=abc", "session"},
		"a name with equals signs behind its value is shown": {"session=abc==", "session"},
		"a name with spaces around it is shown without them": {" session\t=abc", "session"},
		"a short name without a value is shown":              {"theme=", "theme"},
		"a long name with an empty quotation is shown":       {`preferences=""`, "preferences"},
		"a long name without a value is not shown":           {"preferences=", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := CookieName(row.cookie)
			assert.Equal(t, row.want, got)
			assert.Equal(t, row.want != "", ok)
		})
	}
}

func TestQuote(t *testing.T) {
	for name, row := range map[string]struct{ text, want string }{
		"nothing":                                {"", `""`},
		"a name":                                 {"session", `"session"`},
		"a pattern":                              {"dss_*", `"dss_*"`},
		"a broken pattern":                       {"a[", `"a["`},
		"a list":                                 {"session, dss_*;theme", `"session, dss_*;theme"`},
		"a name with a line end":                 {"X-Sso\r\n", `"X-Sso\r\n"`},
		"a name with its colon":                  {"X-Sso:", `"X-Sso:"`},
		"a value behind a name is left out":      {"session=c4n4ry", `"session=…"`},
		"a value behind a colon is left out":     {"Authorization: Bearer c4n4ry", `"Authorization:…"`},
		"a bare value is left out":               {"dGhpcyBpcyBhIHNlY3JldA", `"…"`},
		"a bare value in base64 is left out":     {"dGhpcyBpcyBhIHNlY3JldA==", `"…"`},
		"a bare value made of words is left out": {"sessionannsession==", `"…"`},
		"a value in a list is left out":          {"session, dGhpcyBpcyBhIHNlY3JldA", `"…"`},
		"a value behind its scheme is left out":  {"Bearer dGhpcyBpcyBhIHNlY3JldA", `"…"`},
		"a password is left out":                 {"pa$$w0rd", `"…"`},
		"bytes that are not UTF-8 are left out":  {"X-\xff", `"…"`},
		"a text without end is left out":         {strings.Repeat("session ", 100), `"…"`},
		"a list with values is cut at the first": {"session=c4n4ry; theme=dark", `"session=…"`},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, row.want, Quote(row.text)) })
	}
}

// In any quoted text, nothing behind the first equals sign or colon is shown.
func FuzzQuote(f *testing.F) {
	for _, text := range []string{"", "session=c4n4ry", "a:b=c", "dGhpcyBpcyBhIHNlY3JldA==", "dss_*", "é=ü"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		quoted := Quote(text)
		assert.LessOrEqual(t, len(quoted), 500)
		if i := strings.IndexAny(text, "=:"); i >= 0 && len(text) > i+1 {
			assert.Contains(t, []string{`"…"`, Quote(text[:i+1] + "x")}, quoted)
		}
		name, ok := CookieName(text)
		assert.Equal(t, ok, name != "")
		if ok {
			assert.True(t, IsName(name))
			assert.NotContains(t, name, "=")
		}
	})
}
