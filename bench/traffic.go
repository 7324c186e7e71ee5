// Package bench is shared by the commands below it: the traffic, a fake DSS to
// ask, the middleware to compare, and the measuring. README.md explains the
// output of the commands.
package bench

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
)

// A Credential returns a user's cookie for a middleware, as name=value.
type Credential func(user int) string

// Login is the login of a user.
func Login(user int) string { return fmt.Sprintf("user%07d", user) }

// CookieHeader returns a Cookie header of exactly size bytes with the user's
// credential in it. If they fit, it has eight cookies: the credential, two of
// an analytics service, and five of applications. The last one fills the header
// up to size. All values except the short settings differ between users.
func CookieHeader(credential Credential, user, size int) string {
	cookies := []string{credential(user)}
	rest := size - len(cookies[0]) - len("; prefs=x")
	for _, c := range []string{
		fmt.Sprintf("_ga=GA1.2.%010d.1700000000", user),
		fmt.Sprintf("_gid=GA1.2.%010d.1700000001", user),
		"theme=dark", "lang=en", "tz=UTC",
		fmt.Sprintf("csrftoken=%016x", uint64(user)*0x9e3779b97f4a7c15),
	} {
		if rest -= len("; ") + len(c); rest < 0 {
			break
		}
		cookies = append(cookies, c)
	}
	header := strings.Join(cookies, "; ") + "; prefs="
	if len(header) >= size {
		panic(fmt.Sprintf("bench: a credential of %d bytes does not fit into a header of %d", len(cookies[0]), size))
	}
	missing := size - len(header)
	start := user * 31 % (len(filler) / 2)
	return header + filler[start:start+missing]
}

// filler is the text of cookie values. It is the same text twice, so that
// enough text follows from any start in its first half.
var filler = func() string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	random := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for range 16 << 10 {
		b.WriteByte(alphabet[random.IntN(len(alphabet))])
	}
	return b.String() + b.String()
}()

var target = &url.URL{Path: "/report"}

// Request returns a request of a user, as a browser sends it, with headers
// that share no memory with those of any other request.
func Request(credential Credential, user, size int) *http.Request {
	return &http.Request{
		Method: http.MethodGet, URL: target, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Host: "app.example", RequestURI: "/report", RemoteAddr: "127.0.0.1:50000", Body: http.NoBody,
		Header: browserHeader(CookieHeader(credential, user, size)),
	}
}

// browserHeader returns the headers of a browser behind a reverse proxy: 19
// headers.
func browserHeader(cookies string) http.Header {
	h := http.Header{"Cookie": {cookies}}
	for line := range strings.Lines(browser) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		h[name] = []string{value}
	}
	return h
}

const browser = `Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8
Accept-Encoding: gzip, deflate, br
Accept-Language: en-GB,en;q=0.5
Cache-Control: max-age=0
Dnt: 1
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
X-Request-Id: 01JA3Z0V8S7T2Q4M6N8P0R1C3E`

// Changing is [Session] beside a load balancer's cookie that changes each time.
func Changing(user int) string {
	return fmt.Sprintf("AWSALB=%032x; %s", balanced.Add(1), Session(user))
}

var balanced atomic.Uint64

// Users are the senders of a measurement's requests, and their shares.
type Users struct {
	Name  string
	Count int
}

var (
	// Hot is one user.
	Hot = Users{Name: "hot", Count: 1}
	// Zipf10k are ten thousand users. A few of them send most of the requests.
	Zipf10k = Users{Name: "zipf10k", Count: 10_000}
)

const (
	hotCopies  = 64
	zipfS      = 1.1
	orderCount = 1 << 17
)

// Traffic is requests, and the order in which to send them, again and again.
type Traffic struct {
	Requests []*http.Request
	Order    []int32
}

// NewTraffic returns 64 copies of a single user's request, in turn, or one
// request of each of several users, Zipf-distributed (s = 1.1). The same
// arguments give the same traffic, in memory of its own.
func NewTraffic(credential Credential, users Users, size int) *Traffic {
	t := &Traffic{}
	if users.Count == 1 {
		for i := range hotCopies {
			t.Requests = append(t.Requests, Request(credential, 0, size))
			t.Order = append(t.Order, int32(i))
		}
		return t
	}
	for user := range users.Count {
		t.Requests = append(t.Requests, Request(credential, user, size))
	}
	zipf := rand.NewZipf(rand.New(rand.NewPCG(3, 4)), zipfS, 1, uint64(users.Count-1))
	t.Order = make([]int32, orderCount)
	for i := range t.Order {
		t.Order[i] = int32(zipf.Uint64())
	}
	return t
}
