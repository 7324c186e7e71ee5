// Command program is one round of the command pair: it measures both sides in
// turn, and prints the result as JSON. It imports only the sides and the
// standard library, so that it builds with any two commits.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
)

type opener func(url string) (func(http.Handler) http.Handler, error)

// cost is the total cost of a number of requests.
type cost struct {
	Requests int
	CPU      time.Duration // the process's, so that a busy machine shows less
	Allocs   uint64
	Bytes    uint64
}

// round is the program's output: the older side first.
type round struct {
	Hit, Changing, Lookup [2]cost
}

// liveHeap is an application's data in memory. The collector runs before each
// turn. With this much data it does not run within a turn, where it would
// burden one side by chance. Its work is in proportion to the bytes, and these
// are counted.
const liveHeap = 64 << 20

func main() {
	url := flag.String("dss", "", "where a DSS is that identifies every session cookie")
	size := flag.Int("cookies", 350, "bytes of the Cookie header")
	hits := flag.Int("hits", 3000, "hits of each side in a turn")
	lookups := flag.Int("lookups", 10, "lookups of each side in a turn")
	turns := flag.Int("turns", 150, "turns of each side; many short ones, since the machine's speed changes all the time")
	first := flag.Int("first", 0, "the side that is made first and has the first turn, 0 or 1")
	flag.Parse()
	log.SetFlags(0)

	// On one core the collector and the connections' goroutines take turns with
	// the requests. So no work waits for a core to wake up.
	runtime.GOMAXPROCS(1)
	ballast := make([]byte, liveHeap)
	r, err := measure(*url, *size, *hits, *lookups, *turns, *first)
	if err != nil {
		log.Fatal(err)
	}
	runtime.KeepAlive(ballast)
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		log.Fatal(err)
	}
}

func measure(url string, size, hits, lookups, turns, first int) (r round, err error) {
	reached := 0
	var handlers [2]http.Handler
	for i := range sides {
		side := (first + i) % 2
		wrap, err := sides[side](url)
		if err != nil {
			return r, err
		}
		handlers[side] = wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	}
	known := requests(0, 64, size)
	for i := range known {
		known[i] = request(0, size) // one visitor, and no two requests share memory
	}
	changing := make([]*http.Request, 64) // the same visitor, beside a load balancer's cookie of another value
	for i := range changing {
		changing[i] = request(0, size)
		cookies := changing[i].Header["Cookie"]
		balancer := fmt.Sprintf("; AWSALB=%032x", i)
		cookies[0] = cookies[0][:max(0, len(cookies[0])-len(balancer))] + balancer
	}
	expected := 0
	serve := func(side, n int, from []*http.Request) cost {
		expected += n
		return serve(handlers[side], n, from)
	}
	// This looks up both visitors, repeats the requests, and makes the
	// connections.
	for i := range handlers {
		side := (first + i) % 2
		serve(side, 2*len(known), known)
		serve(side, 2, changing[:1]) // its last cookie is shorter, so it is asked about as well
		serve(side, 10, requests(1, 10, size))
	}
	next := 11
	for turn := range turns {
		strangers := requests(next, lookups, size)
		next += lookups
		for i := range handlers {
			side := (first + turn + i) % 2 // old new, new old, …
			r.Hit[side].add(serve(side, hits, known))
		}
		for i := range handlers {
			side := (first + turn + i) % 2
			r.Changing[side].add(serve(side, hits/3, changing))
		}
		for i := range handlers {
			side := (first + turn + i) % 2
			r.Lookup[side].add(serve(side, lookups, strangers))
		}
	}
	if reached != expected {
		return r, fmt.Errorf("%d of %d requests were refused", expected-reached, expected)
	}
	return r, nil
}

func (c *cost) add(more cost) {
	c.Requests += more.Requests
	c.CPU += more.CPU
	c.Allocs += more.Allocs
	c.Bytes += more.Bytes
}

// serve sends n requests, taken from the given ones over and over.
func serve(h http.Handler, n int, from []*http.Request) cost {
	w := &discard{header: http.Header{}}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu := cpuTime()
	for i, at := 0, 0; i < n; i++ {
		if len(w.header) > 0 {
			clear(w.header)
		}
		h.ServeHTTP(w, from[at])
		if at++; at == len(from) {
			at = 0
		}
	}
	cpu = cpuTime() - cpu
	runtime.ReadMemStats(&after)
	return cost{n, cpu, after.Mallocs - before.Mallocs, after.TotalAlloc - before.TotalAlloc}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it cannot fail for this process
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// requests returns one request of each of several visitors.
func requests(first, count, size int) []*http.Request {
	all := make([]*http.Request, count)
	for i := range all {
		all[i] = request(first+i, size)
	}
	return all
}

// request is a browser's request behind a reverse proxy: 19 headers.
func request(visitor, size int) *http.Request {
	r, err := http.NewRequest(http.MethodGet, "https://app.example/report", nil)
	if err != nil {
		panic(err) // it cannot fail for this URL
	}
	r.RequestURI, r.RemoteAddr, r.Body = "/report", "127.0.0.1:50000", http.NoBody
	for line := range strings.Lines(browser) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		r.Header.Set(name, value)
	}
	cookies := fmt.Sprintf("_ga=GA1.2.%010d.1700000000; _gid=GA1.2.%010d.1700000001; dss_session_PAIR=%026d; "+
		"theme=dark; lang=en; tz=UTC; csrftoken=%016x; prefs=", visitor, visitor, visitor, visitor)
	if missing := size - len(cookies); missing > 0 {
		cookies += strings.Repeat("p", missing)
	}
	r.Header.Set("Cookie", cookies)
	return r
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
