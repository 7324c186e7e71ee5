package dsstest

import (
	"bufio"
	"maps"
	"net"
	"net/http"
	"sync"
)

// The log of calls is bounded, so that a flood fits into memory.
const (
	maxLog   = 10_000
	maxPaths = 10_000
)

// Call is one call that arrived.
type Call struct {
	Method string
	Path   string // after /dip/publicapi or /public/api, decoded, without query

	// Caller is the login that DSS acted as. It is "" if DSS acted as an API key
	// without a user, or did not act: see Admin and Status.
	Caller string

	// Admin reports whether DSS acted with an administrator's rights.
	Admin bool

	// Status is the status of the answer. It is 0 while the call runs, and for a
	// call that was cut off before an answer.
	Status int
}

// callLog counts calls and keeps the last ones.
type callLog struct {
	mu      sync.Mutex
	total   int
	byPath  map[string]int
	ring    []Call // call n is at n % maxLog
	browser map[string]string
}

// Calls returns the number of calls of an endpoint, named by its path after
// /dip/publicapi (as in "/auth/info", without query), or, with "", the number
// of all calls. Calls count as they arrive, with any answer, also while DSS is
// down. The first ten thousand different paths are counted by path.
func (d *DSS) Calls(path string) int {
	d.calls.mu.Lock()
	defer d.calls.mu.Unlock()
	if path == "" {
		return d.calls.total
	}
	return d.calls.byPath[path]
}

// LastCaller returns the login that DSS acted as in the call that arrived last.
// It is "" if that call was refused or failed before DSS acted, or if its API
// key has no user. [DSS.Log] tells these cases apart.
func (d *DSS) LastCaller() string {
	d.calls.mu.Lock()
	defer d.calls.mu.Unlock()
	if d.calls.total == 0 {
		return ""
	}
	return d.calls.ring[(d.calls.total-1)%maxLog].Caller
}

// Log returns the calls of an endpoint, or, with "", all calls, in the order of
// their arrival. It keeps the last ten thousand calls.
func (d *DSS) Log(path string) []Call {
	d.calls.mu.Lock()
	defer d.calls.mu.Unlock()
	var calls []Call
	for n := max(0, d.calls.total-maxLog); n < d.calls.total; n++ {
		if c := d.calls.ring[n%maxLog]; path == "" || c.Path == path {
			calls = append(calls, c)
		}
	}
	return calls
}

// LastBrowserHeaders returns the browser's headers in the last call for an
// identity or a ticket, exactly as DSS received them. It is nil if there was no
// such call.
func (d *DSS) LastBrowserHeaders() map[string]string {
	d.calls.mu.Lock()
	defer d.calls.mu.Unlock()
	return maps.Clone(d.calls.browser)
}

// arrived counts a call and returns its number.
func (l *callLog) arrived(method, path string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.total
	l.total++
	if l.byPath == nil {
		l.byPath = map[string]int{}
	}
	if _, ok := l.byPath[path]; ok || len(l.byPath) < maxPaths {
		l.byPath[path]++
	}
	c := Call{Method: method, Path: path}
	if n < maxLog {
		l.ring = append(l.ring, c)
	} else {
		l.ring[n%maxLog] = c
	}
	return n
}

// update changes call n, if it is still kept.
func (l *callLog) update(n int, change func(*Call)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total-n <= maxLog {
		change(&l.ring[n%maxLog])
	}
}

func (l *callLog) browserSent(headers map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.browser = headers
}

// statusRecorder notes the status of an answer before it leaves.
type statusRecorder struct {
	http.ResponseWriter
	wrote bool
	note  func(status int)
}

func (w *statusRecorder) WriteHeader(status int) {
	if !w.wrote && status >= 200 {
		w.wrote = true
		w.note(status)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusRecorder) Write(b []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// Hijack notes nothing: the bytes that follow are not DSS's answer.
func (w *statusRecorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.wrote = true
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// end notes the status that net/http sends for a handler that wrote nothing.
func (w *statusRecorder) end() {
	if !w.wrote {
		w.note(http.StatusOK)
	}
}

func (w *statusRecorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
