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

// A row's text is the error's text, its message the words of DSS.
func TestErrorReplies(t *testing.T) {
	const kind = "com.dataiku.dip.exceptions.NotAuthenticatedException"
	const unauthorized = "dss: 401 Unauthorized"
	long := func(n int) string { return "x." + strings.Repeat("a", n-2) }
	escaped := strings.Repeat(`\u0022`, 16<<10) // as many bytes as a visitor can send
	page := "<html>" + strings.Repeat("x", 500)
	for name, row := range map[string]struct {
		status           int
		body             string
		kind             string
		message          string
		text             string
		notAuthenticated bool
	}{
		"DSS does not know us":               {401, rejection, kind, "Unknown API Key", "dss: 401 " + kind, true},
		"the detailed message wins":          {404, `{"errorType": "x.NotFoundException", "message": "m", "detailedMessage": "d"}`, "x.NotFoundException", "d", "dss: 404 x.NotFoundException", false},
		"an empty detailed message does not": {404, `{"errorType": "x.NotFoundException", "message": "m", "detailedMessage": ""}`, "x.NotFoundException", "m", "dss: 404 x.NotFoundException", false},
		"nor does null":                      {404, `{"errorType": "x.NotFoundException", "message": "m", "detailedMessage": null}`, "x.NotFoundException", "m", "dss: 404 x.NotFoundException", false},
		"the same type with another status":  {403, rejection, kind, "Unknown API Key", "dss: 403 " + kind, false},
		"another type": {401, `{"errorType": "com.dataiku.dip.exceptions.UnauthorizedException", "message": "no"}`,
			"com.dataiku.dip.exceptions.UnauthorizedException", "no", "dss: 401 com.dataiku.dip.exceptions.UnauthorizedException", false},
		"a page":                       {502, "<html>Bad\r\n\tGateway</html>", "", "<html>Bad Gateway</html>", "dss: 502 Bad Gateway", false},
		"a long page":                  {502, page, "", page[:200] + "…", "dss: 502 Bad Gateway", false},
		"a sign-in page":               {401, "<html>NotAuthenticatedException", "", "<html>NotAuthenticatedException", unauthorized, false},
		"nothing":                      {503, "", "", "", "dss: 503 Service Unavailable", false},
		"an unknown status":            {599, "", "", "", "dss: 599", false},
		"JSON that is not an object":   {401, `["` + kind + `"]`, "", `["` + kind + `"]`, unauthorized, false},
		"the type in another case":     {401, `{"ErrorType": "` + kind + `"}`, "", `{"ErrorType": "` + kind + `"}`, unauthorized, false},
		"the type twice":               {401, `{"errorType": "a", "errorType": "` + kind + `"}`, "", `{"errorType": "a", "errorType": "` + kind + `"}`, unauthorized, false},
		"a page after the object":      {401, `{"errorType": "` + kind + `"}<html>`, "", `{"errorType": "` + kind + `"}<html>`, unauthorized, false},
		"an object longer than 1 MiB":  {401, `{"errorType": "` + kind + `", "x": "` + strings.Repeat(" ", 1<<20) + `"}`, "", `{"errorType": "` + kind + `", "x": " …`, unauthorized, false},
		"a message with line ends":     {400, `{"errorType": "x.E", "message": "a\r\nlevel=ERROR\u0000\u2028 b"}`, "x.E", "a level=ERROR b", "dss: 400 x.E", false},
		"a type of 200 bytes":          {400, `{"errorType": "` + long(200) + `"}`, long(200), "", "dss: 400 " + long(200), false},
		"a type of 201 bytes":          {400, `{"errorType": "` + long(201) + `"}`, "", "", "dss: 400 Bad Request", false},
		"a type of an inner class":     {400, `{"errorType": "x.Outer_1$Inner"}`, "x.Outer_1$Inner", "", "dss: 400 x.Outer_1$Inner", false},
		"a type that is a sentence":    {400, `{"errorType": "no key k"}`, "", "", "dss: 400 Bad Request", false},
		"a type that is a cookie":      {400, `{"errorType": "session=abc"}`, "", "", "dss: 400 Bad Request", false},
		"a type with a line end":       {400, `{"errorType": "x.E\n"}`, "", "", "dss: 400 Bad Request", false},
		"a type in other letters":      {400, `{"errorType": "x.É"}`, "", "", "dss: 400 Bad Request", false},
		"a type that is empty":         {401, `{"errorType": ""}`, "", "", unauthorized, false},
		"a message that is not text":   {401, `{"errorType": "` + kind + `", "message": {"a": 1}, "detailedMessage": 7}`, kind, "", "dss: 401 " + kind, true},
		"a message in another case":    {401, `{"errorType": "` + kind + `", "Message": "m"}`, kind, "", "dss: 401 " + kind, true},
		"a long stack trace":           {401, `{"errorType": "` + kind + `", "message": "no", "stackTrace": "` + strings.Repeat("at a.b\\n", 90<<10) + `"}`, kind, "no", "dss: 401 " + kind, true},
		"it quotes half a character":   {401, `{"errorType": "` + kind + `", "message": "no \ud800 here"}`, kind, "no \ufffd here", "dss: 401 " + kind, true},
		"it quotes a cookie cut short": {401, `{"errorType": "` + kind + `", "message": "no ` + "\xc3" + `"}`, kind, "no \ufffd", "dss: 401 " + kind, true},
		"half a character in the type": {401, `{"errorType": "` + kind + "\xc3" + `"}`, "", `{"errorType": "` + kind + `"}`, unauthorized, false},
		"it quotes all that was sent, escaped, three times": {401,
			`{"message": "` + escaped + escaped + `", "detailedMessage": "` + escaped + `", "errorType": "` + kind + `"}`, kind, strings.Repeat(`"`, 1000) + "…", "dss: 401 " + kind, true},
		"our own key in a message":       {401, `{"errorType": "x.E", "message": "no key ` + testKey + ` here"}`, "x.E", "no key " + testKey + " here", "dss: 401 x.E", false},
		"the browser's cookie in a page": {400, `<pre>Cookie: session=canary-cookie</pre>`, "", "<pre>Cookie: session=canary-cookie</pre>", "dss: 400 Bad Request", false},
	} {
		t.Run(name, func(t *testing.T) {
			c := newRecorder(t, replying(row.status, row.body)).client(t)
			_, err := c.AuthInfoFromBrowserHeaders(t.Context(), http.Header{"Cookie": {"a=b; session=canary-cookie"}, "Authorization": {"Bearer canary-token"}})
			var e *dss.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, row.status, e.StatusCode)
			assert.Equal(t, row.kind, e.Type)
			assert.Equal(t, row.message, e.Message())
			assert.EqualError(t, err, row.text)
			assert.Equal(t, row.notAuthenticated, e.NotAuthenticated())
		})
	}
}

func TestErrorMadeByHandShowsNoInvalidType(t *testing.T) {
	e := &dss.Error{StatusCode: 400, Type: "no key canary"}
	assert.Empty(t, e.Message())
	assert.EqualError(t, e, "dss: 400 Bad Request")
}

// A visitor's bytes, or the application's own key, can equal a word of DSS's
// reply. That must not change how the reply is read.
func TestSentBytesDoNotChangeMeaning(t *testing.T) {
	const kind = "com.dataiku.dip.exceptions.NotAuthenticatedException"
	server := newRecorder(t, replying(http.StatusUnauthorized, rejection))
	for _, key := range []string{testKey, "k", "e", ".", "Exception", "dataiku", kind} {
		for _, cookie := range []string{"a=1", "theme=dataiku", "x=Exception", "e=.", "a=" + kind, "errorType", `"errorType"`, "x={}", rejection} {
			c, err := dss.New(dss.Config{URL: server.URL, APIKey: key})
			require.NoError(t, err)
			_, err = c.AuthInfoFromBrowserHeaders(t.Context(), http.Header{"Cookie": {cookie}, "Authorization": {"Bearer " + kind}})
			c.CloseIdleConnections()
			var e *dss.Error
			require.ErrorAs(t, err, &e)
			assert.True(t, e.NotAuthenticated(), "key %q, cookie %q", key, cookie)
			assert.EqualError(t, err, "dss: 401 "+kind)
			assert.Equal(t, "Unknown API Key", e.Message())
		}
	}
}

func TestNoRedirectIsFollowed(t *testing.T) {
	elsewhere := newRecorder(t, replying(http.StatusOK, aliceInfo))
	for _, status := range []int{300, 301, 302, 303, 304, 305, 307, 308, 399} {
		for name, row := range map[string]struct{ location, leads, message string }{
			"another host": {"https://sso.example/sign-in?token=canary", ", and this one leads to another host", "https://sso.example"},
			"another host, named by bytes that we sent": {"https://canary.example/", ", and this one leads to another host", "https://canary.example"},
			"another port":         {elsewhere.URL + "/sign-in?token=canary", ", and this one leads elsewhere on the same host", elsewhere.URL},
			"the same host":        {"/dip/publicapi/auth/other?token=canary", ", and this one leads elsewhere on the same host", "the server"},
			"https":                {"https://127.0.0.1/canary", ", and this one leads to https on the same host", "https://127.0.0.1"},
			"no host at all":       {"", "", ""},
			"not a URL":            {"http://[canary", "", ""},
			"a URL without a host": {"canary:x", "", ""},
			"with user info":       {"https://me:canary@127.0.0.1/", ", and this one leads to https on the same host", "https://127.0.0.1"},
		} {
			t.Run(http.StatusText(status)+" "+name, func(t *testing.T) {
				server := newRecorder(t, func(w http.ResponseWriter, _ *http.Request) {
					if row.location != "" {
						w.Header().Set("Location", row.location)
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
					assert.True(t, strings.HasSuffix(err.Error(), ": redirects are not followed"+row.leads), "%v", err)
					assert.NotContains(t, err.Error(), "canary")
					assert.Equal(t, strings.ReplaceAll(row.message, "the server", server.URL), e.Message())
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
