package promises

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
)

var junkFlag = flag.Int("junk", 0, "junk cookies of the flood test; 0: 10^6 where CI=true, 10^5 elsewhere, fewer with -short")

func muchJunk() int {
	switch {
	case *junkFlag > 0:
		return *junkFlag
	case testing.Short():
		return 20_000
	case os.Getenv("CI") == "true":
		return 1_000_000
	}
	return 100_000
}

// flood sends a hundred junk requests for each request of active visitors, in
// virtual time: a hit takes no time, a lookup takes some.
type flood struct {
	dss  *fakeResolver
	auth *dssauth.Middleware

	junk, refused, unavailable, odd atomic.Int64
	hits, misses                    int
	heap                            uint64
}

const floodLookup = 5 * time.Millisecond

func newFlood(t *testing.T, c dssauth.Config, warm int) *flood {
	f := &flood{dss: resolver(slowly(floodLookup, byCookie))}
	c.Resolver = f.dss
	// This runs a million times, so it keeps only the status.
	c.OnError = func(w http.ResponseWriter, _ *http.Request, err error) { w.WriteHeader(dssauth.StatusCode(err)) }
	f.auth = newAuth(t, c)
	for i := range warm {
		require.Equal(t, fmt.Sprint("warm", i), who(f.auth, browser(fmt.Sprint("warm", i))))
	}
	return f
}

// visit is a request of an active visitor.
func (f *flood) visit(t *testing.T, i int) {
	start := time.Now()
	got := who(f.auth, browser("warm"+strconv.Itoa(i)))
	if time.Since(start) == 0 && got == "warm"+strconv.Itoa(i) {
		f.hits++
		return
	}
	f.misses++
	if got != "503" {
		require.Equal(t, "warm"+strconv.Itoa(i), got)
	}
}

// sendJunk sends this many cookies that nobody has, all at once.
func (f *flood) sendJunk(n int, done *sync.WaitGroup) {
	for range n {
		done.Go(func() {
			w := httptest.NewRecorder()
			r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/"}, Header: http.Header{
				"Cookie": {"session=nobody" + strconv.FormatInt(f.junk.Add(1), 10)},
			}}
			f.auth.Handler(sayLogin).ServeHTTP(w, r)
			switch {
			case w.Code == http.StatusUnauthorized:
				f.refused.Add(1)
			case w.Code == http.StatusServiceUnavailable && w.Header().Get("Retry-After") != "":
				f.unavailable.Add(1)
			default:
				f.odd.Add(1)
			}
		})
	}
}

// watchHeap notes the most memory in use.
func (f *flood) watchHeap() {
	f.heap = max(f.heap, heapInUse())
}

func heapInUse() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

func TestFloodDoesNotAffectKnownVisitors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ratio = 100
		visits := muchJunk() / ratio
		warm := visits / 10 // each comes ten times
		f := newFlood(t, dssauth.Config{}, warm)
		before := heapInUse()

		// All of it within a TTL, so that each of the warm visitors is renewed
		// in the middle of it.
		const ticks = 1000
		var junk sync.WaitGroup
		for tick := range ticks {
			for i := tick * visits / ticks; i < (tick+1)*visits/ticks; i++ {
				f.visit(t, i%warm)
				f.sendJunk(ratio, &junk)
				synctest.Wait() // till each has its answer, or waits for it
			}
			if tick%100 == 50 {
				f.watchHeap()
			}
			pass(10 * time.Millisecond)
		}
		junk.Wait()
		f.watchHeap()

		hitRatio := float64(f.hits) / float64(f.hits+f.misses)
		t.Logf("figure: flood of %d junk cookies beside %d warm users: hit ratio of the warm %.5f (%d of %d), %d lookups in flight at most, heap %+.1f MiB at most",
			f.junk.Load(), warm, hitRatio, f.hits, f.hits+f.misses, f.dss.mostInFlight.Load(), (float64(f.heap)-float64(before))/(1<<20))
		assert.GreaterOrEqual(t, hitRatio, 0.999)
		assert.LessOrEqual(t, f.dss.mostInFlight.Load(), int64(32))
		assert.Zero(t, f.odd.Load(), "junk gets a 401, or a 503 with Retry-After")
		assert.NotZero(t, f.refused.Load())
		assert.LessOrEqual(t, f.auth.Stats().Entries, warm)
		assert.LessOrEqual(t, f.auth.Stats().Refusals, 10_000)
		assert.Less(t, f.heap, before+48<<20)
	})
}

func TestLongFloodDoesNotAffectKnownVisitors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const warm, ttl, tick = 40, 10 * time.Second, 50 * time.Millisecond
		f := newFlood(t, dssauth.Config{MaxLookups: 8, TTL: ttl}, warm)
		f.dss.does(slowly(100*time.Millisecond, byCookie)) // 60 newcomers a second at most
		var junk sync.WaitGroup
		i := 0
		for start := time.Now(); time.Since(start) < 4*ttl; pass(tick) {
			f.visit(t, i%warm)
			f.visit(t, (i+1)%warm)
			i += 2
			f.sendJunk(5, &junk) // 100 a second
		}
		junk.Wait()
		assert.Zero(t, f.misses, "refreshes keep their lane")
		assert.EqualValues(t, 8, f.dss.mostInFlight.Load())
		assert.Zero(t, f.odd.Load())
		assert.NotZero(t, f.unavailable.Load(), "the junk is more than the newcomers' places take")
		assert.NotZero(t, f.refused.Load())
	})
}
