package docs_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

func TestRecipesPageShowsTestedCode(t *testing.T) {
	assert.Equal(t, "docs/recipes_test.go docs/recipes_test.go docs/recipes_test.go docs/recipes_test.go", filesShown(t, "recipes.md"))
}

// signInAt is for an application that browsers find under public, such as
// https://dss.example/app.
func signInAt(page, public string) func(*http.Request, string) string {
	return func(_ *http.Request, back string) string {
		return page + "?" + url.Values{"redirectTo": {public + back}}.Encode()
	}
}

func TestPersonIsSentToSignIn(t *testing.T) {
	fake := dsstest.NewServer(t)
	auth := newAuth(t, dssauth.Config{Client: fake.Client(), LoginURL: signInAt("https://sso.example/login", "https://dss.example/app")})
	for name, row := range map[string]struct {
		header, value, want string
		status              int
	}{
		"a person":  {"Accept", "text/html", "https://sso.example/login?redirectTo=https%3A%2F%2Fdss.example%2Fapp%2Freport%3Fyear%3D2026", http.StatusFound},
		"a program": {"Accept", "application/json", "", http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/report?year=2026", nil)
			r.Header.Set(row.header, row.value)
			w := httptest.NewRecorder()
			auth.Handler(http.NotFoundHandler()).ServeHTTP(w, r)
			assert.Equal(t, row.status, w.Code)
			assert.Equal(t, row.want, w.Header().Get("Location"))
		})
	}
}

// upstreamHeaders are those that the upstream believes.
var upstreamHeaders = []string{"Remote-User", "Remote-Groups"}

var punctuation = regexp.MustCompile("[^a-z0-9]")

// folded is the same for all spellings of a name. Some servers read Remote_User
// or REMOTE.USER as Remote-User.
func folded(name string) string {
	return punctuation.ReplaceAllString(strings.ToLower(name), "-")
}

// isKept reports whether the upstream may get a header of the visitor's.
func isKept(name string) bool {
	name = folded(name)
	for _, ours := range append(upstreamHeaders, "Cookie", "Authorization", "Proxy-Authorization", "HTTP2-Settings") {
		if name == folded(ours) {
			return false
		}
	}
	return !strings.HasPrefix(name, "x-dku-")
}

func newUpstream(auth *dssauth.Middleware, upstream *url.URL) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(upstream)
			r.SetXForwarded()
			r.Out.Trailer = nil
			for name := range r.Out.Header {
				if !isKept(name) {
					delete(r.Out.Header, name)
				}
			}
			if !strings.EqualFold(r.Out.Header.Get("Upgrade"), "websocket") {
				// Over h2c a browser could send requests that nobody checks.
				r.Out.Header.Del("Upgrade")
				r.Out.Header.Del("Connection")
			}
			id, ok := dssauth.FromContext(r.In.Context())
			if !ok { // only where the middleware did not run
				return
			}
			var groups []string
			for _, group := range id.Groups() {
				groups = append(groups, url.PathEscape(group))
			}
			r.Out.Header.Set("Remote-User", url.PathEscape(id.Login))
			r.Out.Header.Set("Remote-Groups", strings.Join(groups, ","))
		},
		ModifyResponse: func(reply *http.Response) error {
			reply.Header.Del("Set-Cookie") // it could replace DSS's session cookie
			reply.Header.Set("Cache-Control", cmp.Or(reply.Header.Get("Cache-Control"), "private"))
			return nil
		},
	}
	return http.NewCrossOriginProtection().Handler(auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Del("Cache-Control") // ReverseProxy adds to headers that are set
		proxy.ServeHTTP(w, r)
	})))
}

func TestUpstreamGetsTheIdentityAndNoCredentials(t *testing.T) {
	var got http.Header
	var trailer http.Header
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		_, _ = io.Copy(io.Discard, r.Body)
		trailer = r.Trailer.Clone()
		w.Header().Set("Set-Cookie", "dss_access_token=stolen")
	}))
	t.Cleanup(upstream.Close)
	target, err := url.Parse(upstream.URL)
	require.NoError(t, err)
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"analysts", "sales, north", "Größe"}})
	front := httptest.NewServer(newUpstream(newAuth(t, dssauth.Config{Client: fake.Client()}), target))
	t.Cleanup(front.Close)

	ask := func(visitor *http.Cookie, connection ...string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), "POST", front.URL+"/report", io.MultiReader(strings.NewReader("x")))
		require.NoError(t, err)
		for _, name := range []string{"Remote-User", "Remote-Groups", "X-DKU-ProxyUser", "X-DKU-APITicket", "Proxy-Authorization", "HTTP2-Settings"} {
			for _, c := range "-_.!#$%&'*+^`|~" {
				spelling := strings.ReplaceAll(name, "-", string(c))
				r.Header[spelling] = []string{"admin"}
				r.Header[strings.ToLower(spelling)] = []string{"admin"}
				r.Header[strings.ToUpper(spelling)] = []string{"admin"}
			}
		}
		r.Header["X.Page.Size"] = []string{"20"}
		r.Header.Set("Connection", "Remote-User, Remote-Groups")
		for i := 0; i < len(connection); i += 2 {
			r.Header.Add(connection[i], connection[i+1])
		}
		r.Trailer = http.Header{"Remote-User": {"admin"}}
		if visitor != nil {
			r.AddCookie(visitor)
		}
		reply, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		_ = reply.Body.Close()
		return reply
	}
	reply := ask(fake.SignIn("ann"))
	require.Equal(t, http.StatusOK, reply.StatusCode)
	assert.Equal(t, []string{"ann"}, got["Remote-User"])
	assert.Equal(t, []string{"analysts,sales%2C%20north,Gr%C3%B6%C3%9Fe"}, got["Remote-Groups"])
	assert.Empty(t, trailer)
	for name, values := range got {
		assert.NotContains(t, fmt.Sprint(values), "admin", name)
	}
	assert.NotContains(t, got, "Cookie")
	assert.Equal(t, []string{"20"}, got["X.page.size"], "other headers pass")
	assert.Equal(t, []string{"private"}, reply.Header["Cache-Control"])
	assert.Empty(t, reply.Header["Set-Cookie"])

	for name, row := range map[string]struct{ upgrade, want []string }{
		"h2c":                          {[]string{"h2c"}, nil},
		"h2c in a list":                {[]string{"websocket, h2c"}, nil},
		"h2c on a line of its own":     {[]string{"h2c", "websocket"}, nil},
		"TLS":                          {[]string{"TLS/1.2"}, nil},
		"a websocket":                  {[]string{"websocket"}, []string{"websocket"}},
		"a websocket in capitals":      {[]string{"WebSocket"}, []string{"WebSocket"}},
		"h2c after a websocket's line": {[]string{"websocket", "h2c"}, []string{"websocket"}},
	} {
		t.Run(name, func(t *testing.T) {
			asked := []string{"Connection", "Upgrade", "HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA"}
			for _, protocol := range row.upgrade {
				asked = append(asked, "Upgrade", protocol)
			}
			require.Equal(t, http.StatusOK, ask(fake.SignIn("ann"), asked...).StatusCode)
			assert.Equal(t, row.want, got["Upgrade"])
			assert.Equal(t, row.want != nil, got.Get("Connection") == "Upgrade", got["Connection"])
			assert.NotContains(t, got, "Http2-Settings")
			assert.Equal(t, []string{"ann"}, got["Remote-User"])
		})
	}

	got = nil
	assert.Equal(t, http.StatusUnauthorized, ask(nil).StatusCode)
	assert.Nil(t, got, "an anonymous visitor reached the upstream")
}

// jobs run longer than the requests that start them.
type jobs struct {
	auth  *dssauth.Middleware
	admin *dss.Client     // with an administrator's rights
	life  context.Context // ends with the application
	done  sync.WaitGroup
}

func (j *jobs) start(w http.ResponseWriter, r *http.Request) {
	id, ok := dssauth.FromContext(r.Context())
	if !ok || id.Login == "" {
		j.auth.Refuse(w, r, dssauth.ErrForbidden)
		return
	}
	visitor, err := j.admin.AsVerified(id.Login)
	if err != nil {
		j.auth.Refuse(w, r, err)
		return
	}
	j.done.Go(func() {
		// Not the request's context: it ends with the request.
		ctx, cancel := context.WithTimeout(j.life, time.Hour)
		defer cancel()
		if err := export(ctx, visitor); err != nil {
			slog.Error("the export failed", "login", id.Login, "error", err)
		}
	})
	w.WriteHeader(http.StatusAccepted)
}

var export = func(context.Context, *dss.Client) error { return nil }

func TestJobActsAsTheVisitorAfterTheRequest(t *testing.T) {
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "ann"})
	fake.AddProject(dsstest.Project{Key: "CHURN", Owner: "ann"})
	ended, exported := make(chan struct{}), make(chan error, 1)
	export = func(ctx context.Context, visitor *dss.Client) error {
		<-ended
		var project json.RawMessage
		err := visitor.Do(ctx, "GET", "/projects/CHURN", nil, &project)
		exported <- err
		return err
	}
	life, end := context.WithCancel(t.Context())
	defer end()
	j := &jobs{auth: newAuth(t, dssauth.Config{Client: fake.Client()}), admin: fake.Client(), life: life}
	requestEnds := func() (status int) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, "POST", "/exports", nil)
		r.AddCookie(fake.SignIn("ann"))
		w := httptest.NewRecorder()
		j.auth.Handler(http.HandlerFunc(j.start)).ServeHTTP(w, r)
		return w.Code
	}
	require.Equal(t, http.StatusAccepted, requestEnds())
	close(ended)
	require.NoError(t, <-exported)
	assert.Equal(t, "ann", fake.LastCaller())
	j.done.Wait()
}

// A visitor's own client outlives the request, too.
func TestVisitorsClientOutlivesItsRequest(t *testing.T) {
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "ann"})
	auth := newAuth(t, dssauth.Config{Client: fake.Client(), Impersonation: dssauth.ByTicket})
	ctx, end := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
	r.AddCookie(fake.SignIn("ann"))
	var visitor *dss.Client
	auth.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var err error
		visitor, err = dssauth.ClientFromContext(r.Context())
		require.NoError(t, err)
	})).ServeHTTP(httptest.NewRecorder(), r)
	end()
	info, err := visitor.AuthInfo(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "ann", info.Login())
}

// newAPI lets one other origin call the application, with its visitors' cookies.
func newAPI(auth *dssauth.Middleware, origin string, api http.Handler) (http.Handler, error) {
	forms := http.NewCrossOriginProtection()
	if err := forms.AddTrustedOrigin(origin); err != nil {
		return nil, err
	}
	return accessLog(allow(origin, forms.Handler(auth.Handler(api)))), nil
}

func allow(origin string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Origin")
		if r.Header.Get("Origin") == origin {
			w.Header().Set("Access-Control-Allow-Origin", origin)
			w.Header().Set("Access-Control-Allow-Credentials", "true")
		}
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			w.Header().Set("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE")
			w.Header().Set("Access-Control-Allow-Headers", "Content-Type")
			w.WriteHeader(http.StatusNoContent) // a preflight carries no credentials: no Middleware can admit it
			return
		}
		next.ServeHTTP(w, r)
	})
}

func accessLog(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, access := dssauth.WithAccess(r.Context())
		inner := r.WithContext(ctx)
		next.ServeHTTP(w, inner)
		r.MultipartForm = inner.MultipartForm // so that net/http removes the files of an upload
		slog.Info("request", "path", r.URL.Path, slog.Any("", access))
	})
}

func TestAccessLogGivesUploadsBack(t *testing.T) {
	silent := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { slog.SetDefault(silent) })
	r := httptest.NewRequest("POST", "/", strings.NewReader("--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--x--\r\n"))
	r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
	accessLog(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		assert.NoError(t, r.ParseMultipartForm(1<<10))
	})).ServeHTTP(httptest.NewRecorder(), r)
	assert.NotNil(t, r.MultipartForm)
}

func TestOneOtherOriginMayCall(t *testing.T) {
	silent := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { slog.SetDefault(silent) })
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "ann"})
	const friend = "https://dss.example:8443"
	_, err := newAPI(nil, "no origin", nil)
	require.Error(t, err)
	api, err := newAPI(newAuth(t, dssauth.Config{Client: fake.Client()}), friend, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	require.NoError(t, err)
	for name, row := range map[string]struct {
		method, origin, preflight string
		signedIn                  bool
		status                    int
		allowed                   string
	}{
		"a preflight of the friend":            {"OPTIONS", friend, "POST", false, 204, friend},
		"a preflight of a stranger":            {"OPTIONS", "https://evil.example", "POST", false, 204, ""},
		"OPTIONS without a preflight's header": {"OPTIONS", friend, "", false, 401, friend},
		"a write of the friend's visitor":      {"POST", friend, "", true, 200, friend},
		"a write of a stranger's visitor":      {"POST", "https://evil.example", "", true, 403, ""},
		"an anonymous visitor of the friend's": {"GET", friend, "", false, 401, friend},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(row.method, "https://dss.example/api", nil)
			r.Header.Set("Origin", row.origin)
			if row.preflight != "" {
				r.Header.Set("Access-Control-Request-Method", row.preflight)
			}
			if row.signedIn {
				r.AddCookie(fake.SignIn("ann"))
			}
			w := httptest.NewRecorder()
			api.ServeHTTP(w, r)
			assert.Equal(t, row.status, w.Code)
			assert.Equal(t, row.allowed, w.Header().Get("Access-Control-Allow-Origin"), "a refusal too: scripts then read its status")
			assert.Contains(t, w.Header()["Vary"], "Origin")
		})
	}
}

func newAuth(t *testing.T, config dssauth.Config) *dssauth.Middleware {
	auth, err := dssauth.New(config)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, auth.Close()) })
	return auth
}
