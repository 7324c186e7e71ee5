package promises

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
)

const loginPage = "https://dss.example/login"

// signingIn sends signed-out browsers to loginPage, with their way back.
func signingIn(t testing.TB, r dssauth.Resolver) *dssauth.Middleware {
	return newAuth(t, dssauth.Config{Resolver: r, LoginURL: func(_ *http.Request, back string) string {
		return loginPage + "?back=" + url.QueryEscape(back)
	}})
}

func TestLoginURL(t *testing.T) {
	tests := []struct {
		name    string
		method  string
		headers []string
		status  int
	}{
		{"a program is refused", "GET", []string{"Accept", "*/*"}, 401},
		{"a script's fetch is refused", "GET", []string{"Accept", "text/html", "Sec-Fetch-Mode", "cors"}, 401},
		{"an XMLHttpRequest is refused", "GET", []string{"Accept", "text/html", "X-Requested-With", "XMLHttpRequest"}, 401},
		{"a websocket is refused", "GET", []string{"Accept", "text/html", "Upgrade", "websocket"}, 401},
		{"a form is refused: its data would be lost", "POST", pageHeaders, 401},
		{"a prefetch is refused", "GET", append([]string{"Sec-Purpose", "prefetch"}, pageHeaders...), 401},
		{"a navigation by somebody in the wrong group is refused", "GET", append([]string{"Cookie", "session=bob"}, pageHeaders...), 403},
		{"a navigation while DSS is down is refused", "GET", append([]string{"Cookie", "session=outage"}, pageHeaders...), 503},
		{"a navigation with malformed credentials is refused", "GET", append([]string{"Authorization", "\x01"}, pageHeaders...), 400},
		{"a navigation by an API key is refused", "GET", append([]string{"Authorization", "Bearer key"}, pageHeaders...), 403},
		{"a navigation without credentials goes to sign in", "GET", pageHeaders, 302},
		{"a navigation with an old session goes to sign in", "GET", append([]string{"Cookie", "session=old"}, pageHeaders...), 302},
		{"an old browser's navigation goes to sign in", "GET", []string{"Accept", "text/html"}, 302},
		{"a navigation's head goes to sign in", "HEAD", pageHeaders, 302},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := signingIn(t, newDoormanWithOutage())
			w := serve(m.RequireGroup("analysts")(unreachable(t)), request(tt.method, "/report?x=1&y=a%20b", tt.headers...))
			assert.Equal(t, tt.status, w.Code)
			if tt.status != http.StatusFound {
				assert.Empty(t, w.Header().Get("Location"))
				assert.Empty(t, w.Header().Values("Set-Cookie"))
				return
			}
			assert.Equal(t, loginPage+"?back="+url.QueryEscape("/report?x=1&y=a%20b"), w.Header().Get("Location"))
			assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			assert.Contains(t, w.Header().Values("Vary"), "Cookie")
		})
	}
}

// A question without an answer is not a sign-out, for any reason in its error.
func TestOutageCausedByARefusalIsNotARefusal(t *testing.T) {
	both := fmt.Errorf("%w: %w", dssauth.ErrUnavailable, dssauth.ErrUnauthenticated)
	nav := request("GET", "/", append([]string{"Cookie", "session=ann"}, pageHeaders...)...)

	m := signingIn(t, newDoorman())
	gate := m.Require(func(*http.Request, dssauth.Identity) error { return dssauth.ErrUnauthenticated })
	w := serve(gate(unreachable(t)), nav)
	assert.Equal(t, 500, w.Code, "a gate that fails sends nobody to sign in")

	down := newDoorman()
	down.fails(both)
	m = signingIn(t, down)
	w = serve(m.Handler(unreachable(t)), nav)
	assert.Equal(t, 503, w.Code, "a resolver that could not tell sends nobody to sign in")
	w = serve(m.Optional(unreachable(t)), nav)
	assert.Equal(t, 503, w.Code, "a resolver that could not tell makes nobody anonymous")
	down.fails(nil)
	w = serve(m.Handler(whoami), fromAnn())
	assert.Equal(t, "ann", w.Body.String(), "the outage was remembered as a refusal")

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(dssauth.ErrUnauthenticated)
	m = signingIn(t, resolveFunc(func(ctx context.Context, _ http.Header) (dssauth.Identity, error) {
		<-ctx.Done()
		return dssauth.Identity{}, ctx.Err()
	}))
	w = serve(m.Optional(unreachable(t)), nav.WithContext(ctx))
	assert.Equal(t, 503, w.Code, "a request that ended is not anonymous")
}

func TestEmptyLoginURLShowsTheRefusal(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: newDoorman(), LoginURL: func(*http.Request, string) string { return "" }})
	w := serve(m.Handler(unreachable(t)), request("GET", "/", pageHeaders...))
	assert.Equal(t, 401, w.Code)
	assert.Empty(t, w.Header().Values("Set-Cookie"))
}

func TestOnErrorIsNotAskedAboutARedirect(t *testing.T) {
	m := newAuth(t, dssauth.Config{
		Resolver: newDoorman(),
		LoginURL: func(*http.Request, string) string { return loginPage },
		OnError:  func(http.ResponseWriter, *http.Request, error) { t.Error("asked") },
	})
	assert.Equal(t, http.StatusFound, serve(m.Handler(unreachable(t)), request("GET", "/", pageHeaders...)).Code)
}

// backOf is the return path for a browser's navigation to target. Target is the one in
// the request's first line. The path is "" if no server would accept it.
func backOf(t testing.TB, target string, wrap func(http.Handler) http.Handler) (back string) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: app.example\r\nAccept: text/html\r\n\r\n")))
	if err != nil {
		return ""
	}
	m := newAuth(t, dssauth.Config{Resolver: newDoorman(), LoginURL: func(_ *http.Request, to string) string {
		back = to
		return loginPage
	}})
	w := serve(wrap(m.Handler(unreachable(t))), r)
	require.Equal(t, http.StatusFound, w.Code)
	return back
}

func asItIs(h http.Handler) http.Handler { return h }

func TestReturnPath(t *testing.T) {
	long := "/" + strings.Repeat("a", 3000)
	tests := []struct {
		name, target, want string
	}{
		{"two slashes would be another host", "//evil.example/x", "/evil.example/x"},
		{"three slashes would be another host", "///evil.example", "/evil.example"},
		{"a slash and a backslash would be another host", `/\evil.example`, "/evil.example"},
		{"two backslashes would be another host", `\\evil.example`, ""},
		{"two slashes after a dot segment would be another host", "/.//evil.example", "/evil.example"},
		{"two slashes after .. would be another host", "/x/..//evil.example", "/evil.example"},
		{"some programs read escaped slashes as slashes", "/%2f%2fevil.example", "/evil.example"},
		{"an escaped slash alone becomes the root", "/%2f", "/"},
		{"some programs read escaped backslashes as slashes", "/%5c%5Cevil.example", "/evil.example"},
		{"a browser ignores tabs and line ends between slashes", "/%09/evil.example", "/"},
		{"a path with control characters is not kept", "/a%0d%0ab", "/"},
		{"a path that is not UTF-8 is not kept", "/a%ff", "/"},
		{"a proxy's request names a host, which is dropped", "http://evil.example/x?y=1", "/x?y=1"},
		{"a host without a path becomes the root", "http://evil.example", "/"},
		{"user and password are dropped", "http://a:b@evil.example//x", "/x"},
		{"a long path is not kept", long, "/"},
		{"a query with a long text is not kept", "/?" + long, "/"},
		{"a fragment sign in a path is escaped", "/a#//evil.example", "/a%23//evil.example"},
		{"a query with a backslash is left out", `/a?b=\x`, "/a"},
		{"a query with a fragment is left out", "/a?b#c", "/a"},
		{"a query in UTF-8 that is not escaped is left out", "/a?b=é", "/a"},

		{"the root is itself", "/", "/"},
		{"a path is itself", "/a/b", "/a/b"},
		{"a slash at the end stays", "/a/", "/a/"},
		{"a query stays as it is", "/a?b=%2F%2Fx&c=d+e&f", "/a?b=%2F%2Fx&c=d+e&f"},
		{"a path stays escaped as it is", "/a%20b/%C3%A9%3F", "/a%20b/%C3%A9%3F"},
		{"an escaped slash within a segment stays", "/projects/a%2Fb", "/projects/a%2Fb"},
		{"two slashes inside stay", "/files/bucket//key", "/files/bucket//key"},
		{"two slashes at the end stay", "/files//", "/files//"},
		{"two escaped slashes stay", "/files/%2F%2fkey", "/files/%2F%2fkey"},
		{"two slashes inside stay if two at the beginning are dropped", "//files//key", "/files//key"},
		{"a backslash inside becomes a slash, as in browsers", `/files\key`, "/files/key"},
		{"dot segments are removed", "/a/./b/../c", "/a/c"},
		{"escaped dot segments are removed", "/a/%2e%2E/c", "/c"},
		{"two slashes beside dot segments stay", "/a//b/../c//d", "/a//c//d"},
		{"a dot segment removes an empty segment", "/a//../b", "/a/b"},
		{"a dot segment does not lead above the root", "/../../b", "/b"},
		{"a slash behind a dot segment stays", "/a/../b/", "/b/"},
		{"names that begin with dots are names", "/.well-known/..a/...", "/.well-known/..a/..."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, backOf(t, tt.target, asItIs))
		})
	}
}

func TestReturnPathHasThePrefixOfTheBrowser(t *testing.T) {
	stripped := func(h http.Handler) http.Handler { return http.StripPrefix("/app", h) }
	assert.Equal(t, "/app/report?x=1", backOf(t, "/app/report?x=1", stripped))

	mux := func(h http.Handler) http.Handler {
		outer := http.NewServeMux()
		outer.Handle("/a/", http.StripPrefix("/a", http.StripPrefix("/b", h)))
		return outer
	}
	assert.Equal(t, "/a/b/c", backOf(t, "/a/b/c", mux))
}

func FuzzLocalPath(f *testing.F) {
	for _, target := range []string{
		"/", "/a?b=c", "//evil.example", "///evil.example", `/\evil.example`, "/%5cevil.example", "/%2f/evil.example", "/./%2fevil.example", "/..//evil.example",
		"http://evil.example/", "http:evil.example", "/%09/evil.example", "/%0a%0d//x", "/\x01", "/a;b=c//d", "*", "/?//evil.example", "/%25%32%66", "/:/x", "/@evil.example",
		"/..%2f..%5c/", "/%c0%af/", "/é/ü", "/a?b=\xff", "/%", "evil.example:443",
	} {
		f.Add(target)
	}
	f.Fuzz(func(t *testing.T, target string) {
		back := backOf(t, target, asItIs)
		if back == "" {
			return
		}
		require.True(t, strings.HasPrefix(back, "/"), "%q", back)
		require.False(t, strings.HasPrefix(back, "//"), "%q", back)
		require.False(t, strings.ContainsAny(back, "\\#\"<> "), "%q", back)
		require.False(t, strings.ContainsFunc(back, func(c rune) bool { return c <= ' ' || c >= 0x7f }), "%q", back)
		require.LessOrEqual(t, len(back), 2048)

		// As Go resolves it, and as a browser does.
		page, err := url.Parse("https://app.example/x/y?z")
		require.NoError(t, err)
		to, err := page.Parse(back)
		require.NoError(t, err, "%q", back)
		assert.Equal(t, "https://app.example", to.Scheme+"://"+to.Host, "%q", back)
		assert.Equal(t, "app.example", browserHost(back), "%q", back)
		// The same holds if a program decodes it once too often.
		decoded, err := url.PathUnescape(strings.SplitN(back, "?", 2)[0])
		require.NoError(t, err, "%q", back)
		assert.Equal(t, "app.example", browserHost(decoded), "%q decodes to %q", back, decoded)
		for segment := range strings.SplitSeq(decoded, "/") {
			assert.NotContains(t, []string{".", ".."}, segment, "%q", back)
		}
	})
}

// browserHost is the host to which a browser on https://app.example goes for a
// reference. By the WHATWG's rules, tabs and line ends are ignored, backslashes are
// slashes, and two of them at the beginning start a host.
func browserHost(ref string) string {
	ref = strings.Map(func(c rune) rune {
		switch c {
		case '\t', '\n', '\r':
			return -1
		case '\\':
			return '/'
		}
		return c
	}, strings.TrimFunc(ref, func(c rune) bool { return c <= ' ' }))
	if rest, ok := strings.CutPrefix(ref, "//"); ok {
		host, _, _ := strings.Cut(strings.TrimLeft(rest, "/"), "/")
		return host
	}
	if scheme, _, ok := strings.Cut(ref, ":"); ok && !strings.ContainsAny(scheme, "/?#") {
		return scheme
	}
	return "app.example"
}
