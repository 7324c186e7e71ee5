package server

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/gateway/internal/config"
)

// BenchmarkHit measures the cost of a known visitor's request without sockets:
// through httputil.ReverseProxy alone, through both doors, and through the reverse
// proxy without its access log.
func BenchmarkHit(b *testing.B) {
	for _, size := range []struct{ name, cookies string }{{"1 cookie", ""}, {"8 cookies", otherCookies}} {
		fake := dsstest.NewServer(b)
		fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"readers", "analysts", "team001"}})
		c, _, err := config.Load([]string{"-upstream=http://127.0.0.1:9", "-rules=" + someRules,
			"-assertion.issuer=" + issuer, "-assertion.audience=" + audience, "-dss_cookies=[dss_session_*]"}, nil)
		require.NoError(b, err)
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		require.NoError(b, err)
		defer null.Close()
		log := slog.New(slog.NewJSONHandler(NewLines(null), nil))
		s, err := New(c, fake.Client(), log)
		require.NoError(b, err)
		defer s.Close()
		forward := newProxy(s.running, c, s.auth, s.identity, log)
		forward.reverse.Transport = fixed{}
		for i, rule := range c.Rules {
			s.proxied[i] = s.gate(rule, forward)
		}

		r := asBrowser(b, "/report?page=2", fake.SignIn("ann").String()+size.cookies)
		check := asBrowser(b, "/dssauth/check", r.Header.Get("Cookie"))
		check.Header["X-Forwarded-Uri"], check.Header["X-Forwarded-Method"] = []string{r.RequestURI}, []string{r.Method}
		alone := &httputil.ReverseProxy{Transport: fixed{}, BufferPool: &buffers{}, Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(c.Upstream)
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		}}
		noted := &answer{}
		unlogged := func(w http.ResponseWriter, r *http.Request) {
			noted.ResponseWriter = w
			s.serve(noted, r)
		}
		for _, what := range []struct {
			name string
			h    http.Handler
			r    *http.Request
		}{{"ReverseProxy", alone, r}, {"proxy", s, r}, {"unlogged", http.HandlerFunc(unlogged), r}, {"check", s, check}} {
			reply := httptest.NewRecorder()
			what.h.ServeHTTP(reply, what.r)
			require.Equal(b, 200, reply.Code)
			b.Run(what.name+"/"+size.name, func(b *testing.B) {
				b.ReportAllocs()
				w := &discarding{header: http.Header{}}
				for b.Loop() {
					clear(w.header)
					what.h.ServeHTTP(w, what.r)
				}
			})
		}
	}
}

const otherCookies = "; _ga=GA1.2.0000000001.1700000000; _gid=GA1.2.0000000001.1700000001; theme=dark; lang=en; tz=UTC; csrftoken=9e3779b97f4a7c15" +
	"; prefs=KZsQ8T0cXhYb2vLr7mJdE4gUa1NfPz6WqRk3oS5tHyBiVwMjCl9xGnDeAuFpIO_KZsQ8T0cXhYb2vLr7mJdE4gUa1NfPz6WqRk3oS5tHyBiVwMjCl9xGnDeAuFpIO"

// asBrowser returns a browser's request as it arrives through a reverse proxy.
func asBrowser(b *testing.B, target, cookies string) *http.Request {
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, target, nil)
	r.RemoteAddr = "127.0.0.1:50000"
	r.Body = http.NoBody
	r.Header.Set("Cookie", cookies)
	for line := range strings.Lines(`Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8
Accept-Encoding: gzip, deflate, br
Accept-Language: en-GB,en;q=0.5
If-None-Match: W/"5f3-18c"
Priority: u=0, i
Referer: https://app.example/
Sec-Fetch-Dest: document
Sec-Fetch-Mode: navigate
Sec-Fetch-Site: same-origin
Sec-Fetch-User: ?1
Upgrade-Insecure-Requests: 1
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0
X-Forwarded-For: 192.0.2.7
X-Forwarded-Host: app.example
X-Forwarded-Proto: https
X-Request-Id: 01JA3Z0V8S7T2Q4M6N8P0R1C3E`) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		r.Header.Set(name, value)
	}
	return r
}

// fixed is an upstream that answers the same at once.
type fixed struct{}

func (fixed) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Length": {"0"}, "Date": {"Thu, 26 Nov 2026 20:00:00 GMT"}}, Body: http.NoBody, Request: r}, nil
}

type discarding struct{ header http.Header }

func (d *discarding) Header() http.Header         { return d.header }
func (d *discarding) WriteHeader(int)             {}
func (d *discarding) Write(b []byte) (int, error) { return len(b), nil }
func (d *discarding) EnableFullDuplex() error     { return nil }
