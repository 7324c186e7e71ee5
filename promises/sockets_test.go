package promises

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// site is an application on a socket, with a fake DSS on another one.
type site struct {
	*testing.T
	fake *dsstest.Server
	auth *dssauth.Middleware
	addr string
}

// newSite wraps a handler that names the visitor in a header, for the sake of
// HEAD, and in its body.
func newSite(t *testing.T, wrap func(*dssauth.Middleware) func(http.Handler) http.Handler) *site {
	s := &site{T: t, fake: dsstest.NewServer(t)}
	s.fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"analysts"}})
	s.fake.AddUser(dsstest.User{Login: "bob"})
	s.auth = newAuth(t, dssauth.Config{Client: s.fake.Client()})
	app := httptest.NewServer(wrap(s.auth)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := dssauth.FromContext(r.Context())
		w.Header().Set("Visitor", id.Login)
		_, _ = io.WriteString(w, id.Login)
	})))
	t.Cleanup(app.Close)
	s.addr = app.Listener.Addr().String()
	return s
}

func byHandler(m *dssauth.Middleware) func(http.Handler) http.Handler { return m.Handler }
func byGroup(m *dssauth.Middleware) func(http.Handler) http.Handler {
	return m.RequireGroup("analysts")
}

// sends puts a request on the wire unchanged: http.Client would correct it.
func (s *site) sends(method string, headers ...string) (status int, visitor string) {
	s.Helper()
	conn, err := net.Dial("tcp", s.addr)
	require.NoError(s, err)
	defer conn.Close()
	lines := append([]string{method + " / HTTP/1.1", "Host: app.example"}, headers...)
	_, err = io.WriteString(conn, strings.Join(append(lines, "", ""), "\r\n"))
	require.NoError(s, err)
	reply, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	require.NoError(s, err)
	reply.Body.Close()
	return reply.StatusCode, reply.Header.Get("Visitor")
}

func TestEveryMethodOnTheWireIsGatedAlike(t *testing.T) {
	s := newSite(t, byGroup)
	s.fake.AddSession("session", "a", "ann")
	s.fake.AddSession("session", "b", "bob")
	upgrade := []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="}
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "X"} {
		for _, more := range [][]string{nil, {"Origin: https://evil.example", "Access-Control-Request-Method: PUT"}, upgrade} {
			for cookie, want := range map[string]int{"none=1": 401, "session=b": 403, "session=a": 200} {
				status, visitor := s.sends(method, append([]string{"Cookie: " + cookie}, more...)...)
				assert.Equal(t, want, status, "%s %v with %s", method, more, cookie)
				assert.Equal(t, want == 200, visitor == "ann", "%s %v with %s reached the handler as %q", method, more, cookie, visitor)
			}
		}
	}
}

func TestDSSIsAskedAboutValidBytesOnly(t *testing.T) {
	type headers = map[string]string
	for _, tt := range []struct {
		name   string
		sent   []string
		status int
		asked  headers // what DSS is asked about; nil: it is not asked
	}{
		{"nothing", nil, 401, nil},
		{"two API keys", []string{"Authorization: Bearer a", "Authorization: Bearer b"}, 400, nil},
		{"an API key and an empty one", []string{"Authorization: Bearer a", "Authorization:"}, 400, nil},
		{"an API key that is not UTF-8", []string{"Cookie: session=a", "Authorization: Bearer \xff"}, 400, nil},
		{"an API key with a tab", []string{"Authorization: Bearer a\tb"}, 400, nil},
		{"an API key with a control character", []string{"Authorization: Bearer a\x01"}, 400, nil},
		{"an API key with NUL", []string{"Authorization: Bearer a\x00"}, 400, nil},
		{"a byte too much", []string{"Cookie: session=a; b=" + strings.Repeat("b", 16<<10-12)}, 431, nil},
		{"a byte too much in two headers", []string{"Cookie: session=a", "Authorization: " + strings.Repeat("b", 16<<10-8)}, 431, nil},
		{"a megabyte less the rest of the head", []string{"Cookie: session=a; b=" + strings.Repeat("b", 1<<20-1000)}, 431, nil},
		{"whom to act as, and nothing else", []string{"X-DKU-ProxyUser: ann", "X-DKU-APITicket: t", "X_DKU_ProxyUser: ann"}, 401, nil},

		{"as much as allowed", []string{"Cookie: session=a; b=" + strings.Repeat("b", 16<<10-13)}, 200, headers{"Cookie": "session=a; b=" + strings.Repeat("b", 16<<10-13)}},
		{"several Cookie headers", []string{"Cookie: x=1", "cookie: session=a;y=2", "COOKIE: z=3"}, 200, headers{"Cookie": "x=1; session=a; y=2; z=3"}},
		{"the same API key twice, beside a good cookie", []string{"Cookie: session=a", "Authorization: Bearer a", "authorization: Bearer a"}, 200, headers{"Cookie": "session=a", "Authorization": "Bearer a"}},
		{"a cookie that is not UTF-8, beside a good one", []string{"Cookie: bad=\xff; session=a; b\xfe=1"}, 200, headers{"Cookie": "session=a"}},
		{"a cookie with a tab inside, beside a good one", []string{"Cookie: session=a; bad=1\t2"}, 200, headers{"Cookie": "session=a"}},
		{"whom to act as, in many spellings", []string{"Cookie: session=a", "X-DKU-ProxyUser: bob", "x-dku-proxyuser: bob", "X_DKU_ProxyUser: bob",
			"x_dku_apiticket: t", "X-Dku_APITicket: t", "X_dKu-Anything: t", "X-DKU-Future: t"}, 200, headers{"Cookie": "session=a"}},
		{"whom to act as, named as hop-by-hop", []string{"Cookie: session=a", "X-DKU-ProxyUser: bob", "Connection: Cookie, Authorization, X-DKU-ProxyUser"}, 200, headers{"Cookie": "session=a"}},
		{"what is not named to identify", []string{"Cookie: session=a", "X-Forwarded-User: bob", "Proxy-Authorization: Bearer b", "Remote-User: bob"}, 200, headers{"Cookie": "session=a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, byHandler)
			s.T = t
			s.fake.AddSession("session", "a", "ann")
			var orders atomic.Int64
			s.fake.Intercept("", -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				for name := range r.Header {
					if strings.HasPrefix(strings.ReplaceAll(strings.ToUpper(name), "_", "-"), "X-DKU-") {
						orders.Add(1)
					}
				}
				next.ServeHTTP(w, r)
			})
			status, visitor := s.sends("GET", tt.sent...)
			assert.Equal(t, tt.status, status)
			assert.Equal(t, tt.status == 200, visitor == "ann")
			assert.Zero(t, orders.Load(), "DSS was told whom to act as")
			if tt.asked == nil {
				assert.Zero(t, s.fake.Calls(""), "DSS was asked")
				return
			}
			assert.Equal(t, tt.asked, s.fake.LastBrowserHeaders())
		})
	}
}

// Credentials that differ only a little belong to different users. Each request
// gets the user of its own credentials, after any requests on the same
// connections.
func TestSimilarCredentialsAreNotMixedUp(t *testing.T) {
	for name, twins := range map[string][2]string{
		"one byte of a value":               {"Cookie: session=aaaaaaaaaaaaaaaa", "Cookie: session=aaaaaaaaaaaaaaab"},
		"the case of a name":                {"Cookie: session=a", "Cookie: Session=a"},
		"a byte between name and value":     {"Cookie: ab=c", "Cookie: a=bc"},
		"the second cookie":                 {"Cookie: theme=dark; session=a", "Cookie: theme=dark; session=b"},
		"a byte after the other's end":      {"Authorization: Bearer key", "Authorization: Bearer keys"},
		"an API key instead of a cookie":    {"Cookie: session=key", "Authorization: Bearer key"},
		"the last byte of all that can fit": {"Cookie: session=" + strings.Repeat("a", 16<<10-9) + "a", "Cookie: session=" + strings.Repeat("a", 16<<10-9) + "b"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, byHandler)
			s.T = t
			for i, login := range []string{"ann", "bob"} {
				header, value, _ := strings.Cut(twins[i], ": ")
				if header == "Authorization" {
					s.fake.AddAPIKey(strings.TrimPrefix(value, "Bearer "), login)
					continue
				}
				pairs := strings.Split(value, "; ")
				cookie, value, _ := strings.Cut(pairs[len(pairs)-1], "=")
				s.fake.AddSession(cookie, value, login)
			}
			var visits sync.WaitGroup
			for range 10 {
				for i, login := range []string{"ann", "bob"} {
					visits.Go(func() {
						_, visitor := s.sends("GET", twins[i])
						assert.Equal(t, login, visitor)
					})
				}
			}
			visits.Wait()
			assert.Equal(t, 2, s.auth.Stats().Entries)
		})
	}
}

// Three applications ask the same DSS with keys of their own, and DSS does not know the
// third key: they share neither answers nor the state of their keys.
func TestAPIKeysShareNothing(t *testing.T) {
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "ann"})
	ann := signedIn(fake.DSS, "ann")
	with := func(key string) *dssauth.Middleware {
		client, err := dss.New(dss.Config{URL: fake.URL(), APIKey: key})
		require.NoError(t, err)
		t.Cleanup(client.CloseIdleConnections)
		return newAuth(t, dssauth.Config{Client: client})
	}
	fake.AddAPIKey("key-1", "")
	fake.AddAPIKey("key-2", "")
	one, two, unknown := with("key-1"), with("key-2"), with("key-3")
	for i, m := range []*dssauth.Middleware{one, two} {
		require.Equal(t, "ann", who(m, ann))
		assert.Equal(t, i+1, fake.Calls(lookupPath), "each asks with its own key")
	}
	assert.Equal(t, "503", who(unknown, ann), "an answer, or the good key, of another")
	assert.Equal(t, "503", who(unknown, browser("junk")))
	one.Forget(ann)
	assert.Equal(t, "ann", who(two, ann), "another Middleware's Forget changes nothing here")
	assert.Equal(t, 3, fake.Calls(lookupPath), "the rejected key is not tried again at once, and two's answer was remembered")
	assert.Equal(t, "ann", who(one, ann), "another's rejection")
	assert.Equal(t, "401", who(one, browser("junk")), "another's rejection")
}

func TestThousandPageLoadsAreTwoCalls(t *testing.T) {
	const loads = 1000
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "ann"})
	m := newAuth(t, dssauth.Config{Client: fake.Client(), Timeout: time.Minute})
	cookie := fake.SignIn("ann")
	var coming sync.WaitGroup
	coming.Add(loads)
	fake.Intercept(lookupPath, -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		coming.Wait() // each call holds until all are on their way
		next.ServeHTTP(w, r)
	})
	var visits sync.WaitGroup
	for range loads {
		visits.Go(func() {
			r := navigation("")
			r.Header.Set("Cookie", cookie.Name+"="+cookie.Value)
			coming.Done()
			assert.Equal(t, "ann", who(m, r))
		})
	}
	visits.Wait()
	assert.LessOrEqual(t, fake.Calls(lookupPath), 2)
}
