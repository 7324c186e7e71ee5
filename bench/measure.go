package bench

import (
	"net/http"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Result is the result of one measurement.
type Result struct {
	Requests int
	Lost     int           // requests that did not reach the handler
	Wall     time.Duration // with two cores busy, two requests share it
	CPU      time.Duration // also shared: the process's, divided by the cores
	Allocs   uint64
	Bytes    uint64
}

// Each is a share of a whole that each request has.
func (r Result) Each(whole float64) float64 { return whole / float64(r.Requests) }

// Measure sends traffic to wrap's handler for about the given time. It uses one
// goroutine for each of this many cores, and no other cores.
func Measure(wrap func(http.Handler) http.Handler, t *Traffic, cores int, d time.Duration) Result {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
	runtime.GC()

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu := CPUTime()
	workers := make([]worker, cores)
	var running sync.WaitGroup
	for i := range workers {
		running.Go(func() {
			workers[i].run(wrap, t, i*len(t.Order)/cores, d)
		})
	}
	running.Wait()
	cpu = CPUTime() - cpu
	runtime.ReadMemStats(&after)

	r := Result{CPU: cpu / time.Duration(cores), Allocs: after.Mallocs - before.Mallocs, Bytes: after.TotalAlloc - before.TotalAlloc}
	perNs := 0.0
	for i := range workers {
		k := &workers[i]
		r.Requests += k.requests
		r.Lost += k.requests - k.reached
		perNs += float64(k.requests) / float64(k.elapsed)
	}
	r.Wall = time.Duration(float64(r.Requests) / perNs)
	return r
}

// CPUTime is the process's time on all cores.
func CPUTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it cannot fail for this process
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// worker is one goroutine of a measurement.
type worker struct {
	requests, reached int
	elapsed           time.Duration
	_                 [64]byte // apart from the next one's cache line
}

func (k *worker) run(wrap func(http.Handler) http.Handler, t *Traffic, at int, d time.Duration) {
	const batch = 64
	reached := 0
	h := wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	w := &discard{header: http.Header{}}
	n, start := 0, time.Now()
	for {
		for range batch {
			if len(w.header) > 0 {
				clear(w.header)
			}
			h.ServeHTTP(w, t.Requests[t.Order[at]])
			if at++; at == len(t.Order) {
				at = 0
			}
		}
		n += batch
		if elapsed := time.Since(start); elapsed >= d {
			k.requests, k.reached, k.elapsed = n, reached, elapsed
			return
		}
	}
}

// Discard returns a response that goes nowhere.
func Discard() http.ResponseWriter { return &discard{header: http.Header{}} }

type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}
