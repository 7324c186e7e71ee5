package dss_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

func TestErrorReplies(t *testing.T) {
	const kind = "com.dataiku.dip.exceptions.NotAuthenticatedException"
	page := "<html>" + strings.Repeat("x", 500)
	for name, row := range map[string]struct {
		status           int
		body             string
		want             dss.Error
		text             string
		notAuthenticated bool
	}{
		"DSS does not know us": {401, rejection,
			dss.Error{StatusCode: 401, Type: kind, Message: "Unknown API Key"}, "dss: 401 " + kind + ": Unknown API Key", true},
		"the detailed message wins": {404, `{"errorType": "x.NotFoundException", "message": "m", "detailedMessage": "d"}`,
			dss.Error{StatusCode: 404, Type: "x.NotFoundException", Message: "d"}, "dss: 404 x.NotFoundException: d", false},
		"an empty detailed message does not": {404, `{"errorType": "x.NotFoundException", "message": "m", "detailedMessage": ""}`,
			dss.Error{StatusCode: 404, Type: "x.NotFoundException", Message: "m"}, "dss: 404 x.NotFoundException: m", false},
		"nor does null": {404, `{"errorType": "x.NotFoundException", "message": "m", "detailedMessage": null}`,
			dss.Error{StatusCode: 404, Type: "x.NotFoundException", Message: "m"}, "dss: 404 x.NotFoundException: m", false},
		"the same type with another status": {403, rejection,
			dss.Error{StatusCode: 403, Type: kind, Message: "Unknown API Key"}, "dss: 403 " + kind + ": Unknown API Key", false},
		"another type": {401, `{"errorType": "com.dataiku.dip.exceptions.UnauthorizedException", "message": "no"}`,
			dss.Error{StatusCode: 401, Type: "com.dataiku.dip.exceptions.UnauthorizedException", Message: "no"},
			"dss: 401 com.dataiku.dip.exceptions.UnauthorizedException: no", false},
		"a page": {502, "<html>Bad\r\n\tGateway</html>",
			dss.Error{StatusCode: 502, Message: "<html>Bad Gateway</html>"}, "dss: 502 Bad Gateway: <html>Bad Gateway</html>", false},
		"a long page": {502, page,
			dss.Error{StatusCode: 502, Message: page[:200] + "…"}, "dss: 502 Bad Gateway: " + page[:200] + "…", false},
		"a sign-in page": {401, "<html>NotAuthenticatedException",
			dss.Error{StatusCode: 401, Message: "<html>NotAuthenticatedException"}, "dss: 401 Unauthorized: <html>NotAuthenticatedException", false},
		"nothing": {503, "",
			dss.Error{StatusCode: 503}, "dss: 503 Service Unavailable", false},
		"an unknown status": {599, "",
			dss.Error{StatusCode: 599}, "dss: 599", false},
		"JSON that is no object": {401, `["` + kind + `"]`,
			dss.Error{StatusCode: 401, Message: `["` + kind + `"]`}, `dss: 401 Unauthorized: ["` + kind + `"]`, false},
		"the type in another case": {401, `{"ErrorType": "` + kind + `"}`,
			dss.Error{StatusCode: 401, Message: `{"ErrorType": "` + kind + `"}`}, `dss: 401 Unauthorized: {"ErrorType": "` + kind + `"}`, false},
		"the type twice": {401, `{"errorType": "a", "errorType": "` + kind + `"}`,
			dss.Error{StatusCode: 401, Message: `{"errorType": "a", "errorType": "` + kind + `"}`},
			`dss: 401 Unauthorized: {"errorType": "a", "errorType": "` + kind + `"}`, false},
		"a page after the object": {401, `{"errorType": "` + kind + `"}<html>`,
			dss.Error{StatusCode: 401, Message: `{"errorType": "` + kind + `"}<html>`}, `dss: 401 Unauthorized: {"errorType": "` + kind + `"}<html>`, false},
		"an object longer than 64 KiB": {401, `{"errorType": "` + kind + `", "x": "` + strings.Repeat(" ", 64<<10) + `"}`,
			dss.Error{StatusCode: 401, Message: `{"errorType": "` + kind + `", "x": " …`}, `dss: 401 Unauthorized: {"errorType": "` + kind + `", "x": " …`, false},
		"a message with line ends": {400, `{"errorType": "x.E", "message": "a\r\nlevel=ERROR\u0000\u2028 b"}`,
			dss.Error{StatusCode: 400, Type: "x.E", Message: "a level=ERROR b"}, "dss: 400 x.E: a level=ERROR b", false},
		"our own key in a message": {401, `{"errorType": "x.E", "message": "no key ` + testKey + ` here"}`,
			dss.Error{StatusCode: 401, Type: "x.E", Message: "no key [redacted] here"}, "dss: 401 x.E: no key [redacted] here", false},
		"our own credentials in a page": {400, `<pre>Authorization: Basic ZGt1YXBzLWtleS1vZi10aGUtdGVzdHM6</pre>`,
			dss.Error{StatusCode: 400, Message: "<pre>Authorization: Basic [redacted]</pre>"}, "dss: 400 Bad Request: <pre>Authorization: Basic [redacted]</pre>", false},
		"the browser's cookie in a page": {400, `<pre>Cookie: session=canary-cookie</pre>`,
			dss.Error{StatusCode: 400, Message: "<pre>Cookie: session=[redacted]</pre>"}, "dss: 400 Bad Request: <pre>Cookie: session=[redacted]</pre>", false},
		"the browser's key in a page": {400, `<pre>key canary-token</pre>`,
			dss.Error{StatusCode: 400, Message: "<pre>key [redacted]</pre>"}, "dss: 400 Bad Request: <pre>key [redacted]</pre>", false},
	} {
		t.Run(name, func(t *testing.T) {
			c := newRecorder(t, replying(row.status, row.body)).client(t)
			_, err := c.AuthInfoFromBrowserHeaders(t.Context(), http.Header{"Cookie": {"a=b; session=canary-cookie"}, "Authorization": {"Bearer canary-token"}})
			var e *dss.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, row.want, *e)
			assert.EqualError(t, err, row.text)
			assert.Equal(t, row.notAuthenticated, e.NotAuthenticated())
		})
	}
}

func TestNoRedirectIsFollowed(t *testing.T) {
	elsewhere := newRecorder(t, replying(http.StatusOK, aliceInfo))
	for _, status := range []int{300, 301, 302, 303, 304, 305, 307, 308, 399} {
		for name, location := range map[string]string{
			"another host":   elsewhere.URL + "/sign-in?token=canary",
			"the same host":  "/dip/publicapi/auth/other?token=canary",
			"no host at all": "", "what is no URL": "http://[canary", "with user info": "https://me:canary@127.0.0.1/",
		} {
			t.Run(http.StatusText(status)+" "+name, func(t *testing.T) {
				server := newRecorder(t, func(w http.ResponseWriter, _ *http.Request) {
					if location != "" {
						w.Header().Set("Location", location)
					}
					w.WriteHeader(status)
				})
				c := server.client(t)
				for call, err := range map[string]error{
					"GET":  second(c.AuthInfo(t.Context())),
					"POST": second(c.AuthInfoFromBrowserHeaders(t.Context(), http.Header{"Cookie": {"canary=1"}})),
					"PUT":  c.Do(t.Context(), "PUT", "/x", map[string]int{"a": 1}, nil),
				} {
					var e *dss.Error
					require.ErrorAs(t, err, &e, call)
					assert.Equal(t, status, e.StatusCode)
					assert.Contains(t, err.Error(), "redirects are not followed")
					assert.NotContains(t, err.Error(), "canary")
				}
				assert.Len(t, server.requests(), 3, "each call is sent once")
				assert.Empty(t, elsewhere.requests(), "the redirect's target")
			})
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "5": 5 * time.Second, " 5 ": 5 * time.Second, "3599": 3599 * time.Second,
		"3600": time.Hour, "3601": time.Hour, "99999999999999999999999": time.Hour, "18446744073709551615": time.Hour,
		"-5": 0, "5.5": 0, "+5": 0, "5s": 0, "soon": 0, "5 5": 0,
		"Thu, 01 Jan 2026 12:00:30 GMT": 30 * time.Second,
		"Thu, 01 Jan 2026 11:00:00 GMT": 0,
		"Fri, 02 Jan 2026 12:00:00 GMT": time.Hour,
	} {
		assert.Equal(t, want, dss.RetryAfter(value, now), "%q", value)
	}
}

func TestRetryAfterOfAReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, value := range []string{"7", time.Now().Add(7 * time.Second).UTC().Format(http.TimeFormat)} {
			c := fakeClient(t, func(*http.Request) (*http.Response, error) {
				return reply(429, "slow down", "Retry-After", value), nil
			})
			_, err := c.AuthInfo(t.Context())
			var e *dss.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, 7*time.Second, e.RetryAfter, value)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "0", "120", "-1", "1e9", "99999999999999999999", "Thu, 01 Jan 2026 12:00:30 GMT", "Thu, 01 Jan 0000 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"} {
		f.Add(seed)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, value string) {
		wait := dss.RetryAfter(value, now)
		require.GreaterOrEqual(t, wait, time.Duration(0))
		require.LessOrEqual(t, wait, time.Hour)
	})
}
