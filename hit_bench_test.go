package dssauth_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

// BenchmarkHit measures a request of a known visitor, with every setting at its
// default. bench/ compares that with other middleware.
func BenchmarkHit(b *testing.B) {
	for _, size := range []int{350, 1536} {
		b.Run(fmt.Sprintf("%dB/hot", size), func(b *testing.B) { benchmarkHit(b, size, 1) })
		b.Run(fmt.Sprintf("%dB/zipf10k", size), func(b *testing.B) { benchmarkHit(b, size, 10_000) })
	}
}

func benchmarkHit(b *testing.B, size, users int) {
	fake := dsstest.NewServer(b)
	auth, err := dssauth.New(dssauth.Config{Client: fake.Client()})
	require.NoError(b, err)
	defer auth.Close()

	var served atomic.Int64
	fill := auth.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }))
	cookies := make([]string, users)
	for i := range cookies {
		login := fmt.Sprintf("user%05d", i)
		fake.AddUser(dsstest.User{Login: login, Groups: []string{"analysts", "readers"}})
		cookies[i] = browserCookies(fake.SignIn(login), size)
		for range 2 { // DSS is asked at the first; at the second, the single cookies are looked at once more
			fill.ServeHTTP(httptest.NewRecorder(), browserRequest(cookies[i]))
		}
	}
	require.EqualValues(b, 2*users, served.Load(), "requests that were admitted")

	requests := newHitTraffic(cookies)
	h := auth.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		w := httptest.NewRecorder()
		for i := rand.IntN(len(requests)); pb.Next(); i++ {
			clear(w.Header()) // each response begins without headers
			h.ServeHTTP(w, requests[i%len(requests)])
		}
	})
}

// browserCookies returns a Cookie header of eight cookies: DSS's session, two
// that are not sent to DSS, and five of applications.
func browserCookies(session *http.Cookie, size int) string {
	cookies := "_ga=GA1.2.1234567890.1700000000; _gid=GA1.2.1234567890.1700000001; " +
		session.Name + "=" + session.Value +
		"; theme=dark; lang=en; tz=UTC; csrftoken=0123456789abcdef; prefs="
	return cookies + strings.Repeat("x", size-len(cookies))
}

func browserRequest(cookies string) *http.Request {
	r := httptest.NewRequest("GET", "/report", nil)
	r.Header.Set("Accept", "text/html")
	r.Header.Set("Accept-Language", "en")
	r.Header.Set("User-Agent", "Mozilla/5.0")
	r.Header.Set("Cookie", strings.Clone(cookies)) // no two requests share memory
	return r
}

// newHitTraffic returns requests in the order to send them: 64 copies of the
// only visitor's, or Zipf-distributed over all visitors.
func newHitTraffic(cookies []string) []*http.Request {
	var requests []*http.Request
	if len(cookies) == 1 {
		for range 64 {
			requests = append(requests, browserRequest(cookies[0]))
		}
		return requests
	}
	one := make([]*http.Request, len(cookies))
	for i := range one {
		one[i] = browserRequest(cookies[i])
	}
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 1, uint64(len(cookies)-1))
	for range 1 << 16 {
		requests = append(requests, one[zipf.Uint64()])
	}
	return requests
}
