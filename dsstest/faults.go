package dsstest

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// SetDown takes DSS down, or back up: while it is down, calls are answered
// with 503 and HTML, as by the proxy in front of it.
func (d *DSS) SetDown(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = down
}

// SetLatency lets each call wait before it is looked at; 0 is the default.
// Whoever goes away meanwhile is not waited for.
func (d *DSS) SetLatency(latency time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.latency = latency
}

// An Interceptor answers a call in place of DSS. next is DSS: an interceptor
// may call it before, after or between what it does, or not at all. To learn
// of next's answer before the client does, give it a recorder.
type Interceptor func(w http.ResponseWriter, r *http.Request, next http.Handler)

// Intercept lets f answer the next calls of an endpoint, by its path after
// /dip/publicapi; "" is every endpoint, and times below 0 is until further
// notice. Where several apply, the one that was added first answers. A nil f
// ends all interceptions of that path, with "" those of every path.
//
// Ready to use are [Respond], [Hang], [Reset], [CutShort], [Drip] and
// [Endless]:
//
//	fake.Intercept("/auth/info", 1, dsstest.Respond(429, "", "Retry-After", "3"))
func (d *DSS) Intercept(path string, times int, f Interceptor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f != nil {
		d.faults = append(d.faults, &fault{path, times, f})
		return
	}
	kept := d.faults[:0]
	for _, fault := range d.faults {
		if path != "" && fault.path != path {
			kept = append(kept, fault)
		}
	}
	clear(d.faults[len(kept):])
	d.faults = kept
}

type fault struct {
	path  string
	times int
	do    Interceptor
}

// nextFault returns what answers a call of path in place of DSS, nil if DSS
// does.
func (d *DSS) nextFault(path string) Interceptor {
	d.mu.RLock()
	none := len(d.faults) == 0
	d.mu.RUnlock()
	if none {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.faults {
		if f.times != 0 && (f.path == "" || f.path == path) {
			if f.times > 0 {
				f.times--
			}
			return f.do
		}
	}
	return nil
}

// Respond answers with this status, body and headers (name, value, name,
// value …). Without a Content-Type among them, a body that starts with { or [
// is JSON, and any other HTML.
func Respond(status int, body string, headers ...string) Interceptor {
	if len(headers)%2 != 0 {
		panic("dsstest: Respond: a header without a value")
	}
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		h := w.Header()
		h.Set("Content-Type", "text/html;charset=utf-8")
		if strings.HasPrefix(body, "{") || strings.HasPrefix(body, "[") {
			h.Set("Content-Type", "application/json;charset=utf-8")
		}
		for i := 0; i < len(headers); i += 2 {
			h.Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// Hang never answers: it lasts until the client goes away, or the server ends.
func Hang(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// Reset cuts the connection before any byte of an answer.
func Reset(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil { // not on a connection of its own, as with HTTP/2
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0) // a reset instead of an orderly end
	}
	conn.Close()
}

// CutShort announces DSS's answer, sends half of its body and cuts the
// connection.
func CutShort(w http.ResponseWriter, r *http.Request, next http.Handler) {
	body := announce(w, r, next)
	w.Write(body[:len(body)/2])
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// Drip sends DSS's answer one byte at a time, with a pause before each.
func Drip(pause time.Duration) Interceptor {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		flush := http.NewResponseController(w).Flush
		for _, b := range announce(w, r, next) {
			if !wait(r.Context(), pause) {
				panic(http.ErrAbortHandler)
			}
			w.Write([]byte{b})
			flush()
		}
	}
}

// Endless starts a JSON answer that goes on until the client goes away.
func Endless(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	io.WriteString(w, `{"authIdentifier": "`)
	chunk := []byte(strings.Repeat("a", 32<<10))
	for r.Context().Err() == nil {
		if _, err := w.Write(chunk); err != nil {
			break
		}
	}
	panic(http.ErrAbortHandler)
}

// announce sends the head of next's answer and returns its body.
func announce(w http.ResponseWriter, r *http.Request, next http.Handler) []byte {
	answer := &buffered{header: w.Header(), status: http.StatusOK}
	next.ServeHTTP(answer, r)
	w.WriteHeader(answer.status)
	return answer.body.Bytes()
}

// buffered keeps a body back.
type buffered struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (b *buffered) Header() http.Header         { return b.header }
func (b *buffered) WriteHeader(status int)      { b.status = status }
func (b *buffered) Write(p []byte) (int, error) { return b.body.Write(p) }

// wait reports whether d passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
