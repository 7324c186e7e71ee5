package promises

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

var sentinels = map[int]error{
	400: dssauth.ErrMalformed, 401: dssauth.ErrUnauthenticated, 403: dssauth.ErrForbidden, 431: dssauth.ErrTooLarge, 503: dssauth.ErrUnavailable,
}

func TestStatusCode(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want int
	}{
		{"an unknown error is a mistake", errors.New("x"), 500},
		{"an outage caused by a refusal is an outage", fmt.Errorf("%w: %w", dssauth.ErrUnavailable, dssauth.ErrUnauthenticated), 503},
		{"a refusal that hides an outage is an outage", fmt.Errorf("%w: %w", dssauth.ErrForbidden, dssauth.ErrUnavailable), 503},
		{"not signed in and not allowed is not signed in", errors.Join(dssauth.ErrForbidden, dssauth.ErrUnauthenticated), 401},
		{"a wrapped error is what it wraps", fmt.Errorf("gate: %w", dssauth.ErrForbidden), 403},
		{"DSS knows no session", &dss.Error{StatusCode: 401, Type: "com.dataiku.dip.exceptions.NotAuthenticatedException"}, 401},
		{"a proxy's 401 is not about the visitor", &dss.Error{StatusCode: 401}, 502},
		{"DSS forbids it", fmt.Errorf("gate: %w", &dss.Error{StatusCode: 403}), 403},
		{"DSS has nothing", &dss.Error{StatusCode: 404}, 404},
		{"DSS fails", &dss.Error{StatusCode: 500}, 503},
		{"DSS is busy", &dss.Error{StatusCode: 429}, 503},
		{"DSS does not understand", &dss.Error{StatusCode: 400}, 502},
		{"the wire breaks", &dss.WireError{Kind: "no reply in time"}, 503},
		{"DSS is not understood", fmt.Errorf("dss: %w", dss.ErrUnexpectedReply), 502},
		{"no error is fine", nil, 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, dssauth.StatusCode(tt.err))
		})
	}
	for status, err := range sentinels {
		assert.Equal(t, status, dssauth.StatusCode(err), "%v", err)
	}
}

// pageHeaders are the headers with which a browser asks for a page.
var pageHeaders = []string{
	"Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document",
}

func TestRefusalForPrograms(t *testing.T) {
	for status, err := range sentinels {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			w := httptest.NewRecorder()
			dssauth.WriteRefusal(w, request("GET", "/report?x=1"), fmt.Errorf("because: %w", err))
			assert.Equal(t, status, w.Code)
			assert.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
			assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			assert.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
			assert.Equal(t, []string{"Accept", "Sec-Fetch-Mode"}, w.Header().Values("Vary"))

			var problem map[string]any
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &problem))
			assert.Equal(t, "about:blank", problem["type"])
			assert.Equal(t, http.StatusText(status), problem["title"])
			assert.EqualValues(t, status, problem["status"])
			assert.NotEmpty(t, problem["detail"])
			assert.Len(t, problem, 4)
		})
	}
}

func TestRefusalForPageNavigations(t *testing.T) {
	for status, err := range sentinels {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			w := httptest.NewRecorder()
			dssauth.WriteRefusal(w, request("GET", "/report?x=1", pageHeaders...), err)
			assert.Equal(t, status, w.Code)
			assert.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
			assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			assert.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
			page := w.Body.String()
			assert.True(t, strings.HasPrefix(page, "<!doctype html>"))
			assert.Contains(t, page, "<h1>")
			for _, outside := range []string{"http:", "https:", "src=", "url(", "<script", "@import", "<link"} {
				assert.NotContains(t, page, outside, "the page is not self-contained")
			}
		})
	}
}

func TestRefusalHeaders(t *testing.T) {
	for status, err := range sentinels {
		for _, headers := range [][]string{nil, pageHeaders} {
			w := httptest.NewRecorder()
			dssauth.WriteRefusal(w, request("GET", "/", headers...), err)
			want := map[bool]string{true: "Bearer"}[status == 401]
			assert.Equal(t, want, w.Header().Get("WWW-Authenticate"), "%d", status)
			want = map[bool]string{true: "1"}[status == 503]
			assert.Equal(t, want, w.Header().Get("Retry-After"), "%d", status)
		}
	}
}

func TestWriteRefusalOfNilIsAMistake(t *testing.T) {
	w := httptest.NewRecorder()
	dssauth.WriteRefusal(w, request("GET", "/"), nil)
	assert.Equal(t, 500, w.Code)
	assert.Empty(t, w.Header().Values("Retry-After"))
}

// A 400 is about another header: cookies that cannot be read are left out.
func TestMalformedCredentialsAreNotBlamedOnCookies(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: newDoorman()})
	for _, accept := range []string{"text/html", "application/json"} {
		for _, headers := range [][]string{{"Authorization", "\x01"}, {"Authorization", "a", "Authorization", "b", "Cookie", "session=ann; bad=\xff"}} {
			w := serve(m.Handler(unreachable(t)), request("GET", "/", append(headers, "Accept", accept)...))
			assert.Equal(t, 400, w.Code)
			assert.NotContains(t, strings.ToLower(w.Body.String()), "cookie")
			assert.Contains(t, w.Body.String(), "Authorization")
		}
	}
}

// The request that Authenticate returns with an error is nil, and a program easily
// passes it on.
func TestRefusalWithoutARequest(t *testing.T) {
	w := httptest.NewRecorder()
	dssauth.WriteRefusal(w, nil, dssauth.ErrUnauthenticated)
	assert.Equal(t, 401, w.Code)
	assert.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
}

// A Content-Encoding can be that of a middleware in front.
func TestRefusalDropsHeadersOfAnotherBody(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("Content-Length", "5")
	w.Header().Set("Content-Encoding", "gzip")
	w.Header().Set("Cache-Control", "max-age=3600")
	dssauth.WriteRefusal(w, request("GET", "/"), dssauth.ErrForbidden)
	assert.Empty(t, w.Header().Values("Content-Length"))
	assert.Equal(t, []string{"gzip"}, w.Header().Values("Content-Encoding"))
	assert.Equal(t, []string{"no-store"}, w.Header().Values("Cache-Control"))
}

func TestPageOrProblem(t *testing.T) {
	tests := []struct {
		name    string
		method  string
		headers []string
		page    bool
	}{
		{"a program that accepts anything gets a problem", "GET", []string{"Accept", "*/*"}, false},
		{"a program without an Accept header gets a problem", "GET", nil, false},
		{"a script's fetch gets a problem", "GET", []string{"Accept", "text/html", "Sec-Fetch-Mode", "cors"}, false},
		{"a same-origin fetch gets a problem", "GET", []string{"Accept", "text/html", "Sec-Fetch-Mode", "same-origin"}, false},
		{"an image gets a problem", "GET", []string{"Accept", "image/*", "Sec-Fetch-Mode", "no-cors"}, false},
		{"an XMLHttpRequest gets a problem", "GET", []string{"Accept", "text/html", "X-Requested-With", "XMLHttpRequest"}, false},
		{"a websocket gets a problem", "GET", []string{"Accept", "text/html", "Upgrade", "websocket"}, false},
		{"a program that wants anything but HTML gets a problem", "GET", []string{"Accept", "text/html;level=1; Q=0.0, */*"}, false},
		{"a kind that only begins like HTML gets a problem", "GET", []string{"Accept", "text/html-sandboxed"}, false},
		{"a program that posts gets a problem", "POST", []string{"Accept", "text/html"}, false},
		{"a prefetch gets a problem", "GET", append([]string{"Sec-Purpose", "prefetch"}, pageHeaders...), false},
		{"a part of a page gets a problem", "GET", []string{"Accept", "text/html", "Hx-Request", "true"}, false},
		{"a form gets a page", "POST", pageHeaders, true},
		{"a frame of another site gets a page", "GET", append([]string{"Sec-Fetch-Site", "cross-site"}, inFrame...), true},
		{"a browser's navigation gets a page", "GET", pageHeaders, true},
		{"an old browser's navigation gets a page", "GET", []string{"Accept", "text/html"}, true},
		{"HTML in a second line and other letters gets a page", "GET", []string{"Accept", "application/json", "Accept", "image/png, Text/HTML ;q=0.1"}, true},
		{"its HEAD gets a page's headers", "HEAD", pageHeaders, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			dssauth.WriteRefusal(w, request(tt.method, "/", tt.headers...), dssauth.ErrUnauthenticated)
			assert.Equal(t, 401, w.Code)
			assert.Equal(t, tt.page, strings.HasPrefix(w.Header().Get("Content-Type"), "text/html"))
		})
	}
}

// refusedRequests are refused, by status, by the handler of refusing.
var refusedRequests = map[int]func() *http.Request{
	400: func() *http.Request {
		return request("GET", "/", "Authorization", "Bearer a", "Authorization", "Bearer b")
	},
	401: func() *http.Request { return request("GET", "/", "Cookie", "session=nobody") },
	403: fromBob,
	431: func() *http.Request { return request("GET", "/", "Cookie", strings.Repeat("a", 16<<10+1)) },
	503: func() *http.Request { return request("GET", "/", "Cookie", "session=outage") },
}

// refusing admits ann, and refuses others in every possible way.
func refusing(t *testing.T, c dssauth.Config) http.Handler {
	c.Resolver = newDoormanWithOutage()
	m := newAuth(t, c)
	return m.Handler(m.RequireGroup("analysts")(whoami))
}

func TestRefusalsSetVary(t *testing.T) {
	h := refusing(t, dssauth.Config{Headers: []string{"Cookie", "Authorization", "x-sso"}})
	for status, r := range refusedRequests {
		w := serve(h, r())
		assert.Equal(t, status, w.Code)
		assert.Equal(t, []string{"Cookie", "Authorization", "X-Sso", "Accept", "Sec-Fetch-Mode"}, w.Header().Values("Vary"), "%d", status)
	}
	w := serve(h, fromAnn())
	assert.Equal(t, 200, w.Code)
	assert.Equal(t, []string{"Cookie", "Authorization", "X-Sso"}, w.Header().Values("Vary"), "an admitted one depends on the same")
	assert.Equal(t, []string{"private"}, w.Header().Values("Cache-Control"), "no-store is for refusals")
}

func TestOnErrorFindsTheHeadersSet(t *testing.T) {
	for status, r := range refusedRequests {
		called := false
		h := refusing(t, dssauth.Config{OnError: func(w http.ResponseWriter, _ *http.Request, err error) {
			called = true
			assert.Equal(t, status, dssauth.StatusCode(err))
			assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			assert.Equal(t, []string{"Cookie", "Authorization"}, w.Header().Values("Vary"))
			assert.Equal(t, status == 401, w.Header().Get("WWW-Authenticate") == "Bearer")
			assert.Equal(t, status == 503, w.Header().Get("Retry-After") != "")
			w.WriteHeader(dssauth.StatusCode(err))
			fmt.Fprint(w, "our own page")
		}})
		w := serve(h, r())
		assert.True(t, called)
		assert.Equal(t, status, w.Code)
		assert.Equal(t, "our own page", w.Body.String())
	}
}

func TestOnErrorThatWritesNothingAdmitsNobody(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: newDoorman(), OnError: func(http.ResponseWriter, *http.Request, error) {}})
	w := serve(m.Handler(unreachable(t)), request("GET", "/", "Cookie", "session=nobody"))
	assert.Empty(t, w.Body.String())
}

func TestRetryAfterOfDSSIsPassedOn(t *testing.T) {
	fake := dsstest.NewServer(t)
	for _, tt := range []struct{ told, want string }{{"3", "3"}, {"3600", "4"}, {"", "1"}} {
		m := newAuth(t, dssauth.Config{Client: fake.Client()})
		fake.Intercept("/auth/info-from-browser-headers", 1, dsstest.Respond(429, "", "Retry-After", tt.told))
		w := serve(m.Handler(unreachable(t)), fromAnn())
		assert.Equal(t, 503, w.Code)
		assert.Equal(t, tt.want, w.Header().Get("Retry-After"), "DSS said %q", tt.told)
	}
}

func TestRefusalsRevealNothing(t *testing.T) {
	const secret = "c4n4ry"
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "login-" + secret, Groups: []string{"group-" + secret}, Email: secret + "@example.com"})
	cookie := fake.SignIn("login-" + secret).String()
	fails := func(status int, body string) func() {
		return func() {
			fake.Intercept("/auth/info-from-browser-headers", 1, dsstest.Respond(status, body, "X-Powered-By", secret, "Set-Cookie", "a="+secret))
		}
	}
	nothing := func() {}
	tests := []struct {
		name   string
		before func()
		header []string
		want   int
	}{
		{"DSS refuses in its own words", fails(401, `{"errorType":"com.dataiku.dip.exceptions.NotAuthenticatedException","message":"`+secret+`"}`), []string{"Cookie", cookie}, 401},
		{"DSS fails in its own words", fails(500, `{"errorType":"`+secret+`","message":"`+secret+`","detailedMessage":"`+secret+`"}`), []string{"Cookie", cookie}, 503},
		{"a proxy shows a page", fails(502, "<h1>"+secret+"</h1>"), []string{"Cookie", cookie}, 503},
		{"DSS redirects", fails(302, secret), []string{"Cookie", cookie}, 503},
		{"DSS answers nonsense", fails(200, secret), []string{"Cookie", cookie}, 503},
		{"the visitor is in the wrong group", nothing, []string{"Cookie", cookie}, 403},
		{"the visitor is anonymous", nothing, []string{"Cookie", "session=" + secret}, 401},
		{"the credentials are malformed", nothing, []string{"Authorization", "Bearer \x01" + secret}, 400},
		{"the credentials are too large", nothing, []string{"Cookie", strings.Repeat(secret, 5000)}, 431},
	}
	host := strings.TrimPrefix(fake.URL(), "http://")
	for _, tt := range tests {
		for _, kind := range [][]string{nil, pageHeaders} {
			t.Run(tt.name, func(t *testing.T) {
				m := newAuth(t, dssauth.Config{Client: fake.Client()})
				tt.before()
				r := request("GET", "/"+secret+"?q="+secret, append(tt.header, kind...)...)
				r.Header.Set("User-Agent", secret)
				w := serve(m.RequireGroup("other-"+secret)(unreachable(t)), r)
				assert.Equal(t, tt.want, w.Code)
				shown := fmt.Sprint(w.Header(), w.Body)
				for _, s := range []string{secret, host, "127.0.0.1", fake.AdminKey(), "dataiku.dip"} {
					assert.NotContains(t, shown, s)
				}
			})
		}
	}
}

func FuzzRefuse(f *testing.F) {
	f.Add("GET", "/report?a=b", "text/html", "navigate", "", "session=a", uint8(0))
	f.Add("POST", "/<script>alert(1)</script>", "text/html,*/*", "cors", "XMLHttpRequest", "a=\"><img src=x>", uint8(1))
	f.Add("HEAD", "//evil.example", "TEXT/HTML", "\r\nX: y", "\x00", "\xff", uint8(2))
	f.Add("PROPFIND", "*", "", "", "", "", uint8(9))
	kinds := []error{dssauth.ErrMalformed, dssauth.ErrUnauthenticated, dssauth.ErrForbidden, dssauth.ErrTooLarge, dssauth.ErrUnavailable, errors.New("x"), nil}
	pages := map[string]string{} // status, type and whether a form is lost → the only body there is
	f.Fuzz(func(t *testing.T, method, target, accept, mode, with, cookie string, kind uint8) {
		r := &http.Request{Method: method, RequestURI: target, Header: http.Header{
			"Accept": {accept}, "Sec-Fetch-Mode": {mode}, "X-Requested-With": {with}, "Cookie": {cookie},
		}}
		err := kinds[int(kind)%len(kinds)]
		if err != nil {
			err = fmt.Errorf("%w: %s %s", err, target, cookie)
		}
		w := httptest.NewRecorder()
		dssauth.WriteRefusal(w, r, err)

		if err == nil {
			err = errors.New("none")
		}
		assert.Equal(t, dssauth.StatusCode(err), w.Code)
		assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		assert.Equal(t, w.Code == 401, w.Header().Get("WWW-Authenticate") == "Bearer")
		assert.Equal(t, w.Code == 503, w.Header().Get("Retry-After") == "1")
		kindOf := w.Header().Get("Content-Type")
		assert.Contains(t, []string{"application/problem+json", "text/html; charset=utf-8"}, kindOf)
		if kindOf == "application/problem+json" {
			assert.True(t, json.Valid(w.Body.Bytes()))
		}
		which := fmt.Sprint(w.Code, kindOf, method == "GET" || method == "HEAD") // others may have lost a form
		if _, seen := pages[which]; !seen {
			pages[which] = fmt.Sprint(w.Header(), w.Body)
		}
		assert.Equal(t, pages[which], fmt.Sprint(w.Header(), w.Body), "the answer shows the visitor's own text")
	})
}
