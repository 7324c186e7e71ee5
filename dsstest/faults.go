package dsstest

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"
)

// SetDown takes DSS down, or back up. While it is down, calls get a 503 with
// HTML, as from the proxy before it.
func (d *DSS) SetDown(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = down
}

// SetLatency delays each call before the fake reads it; 0 is the default. The
// delay ends when the client goes away.
func (d *DSS) SetLatency(latency time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.latency = latency
}

// An Interceptor answers a call in place of DSS. next is DSS: an interceptor
// may call it at any moment, or not at all. To see next's answer before the
// client does, give it a recorder.
type Interceptor func(w http.ResponseWriter, r *http.Request, next http.Handler)

// Intercept lets f answer the next calls of an endpoint, named by its path
// after /dip/publicapi. "" is every endpoint, and times below 0 means without
// end. If several apply, the one that was added first answers. A nil f ends all
// interceptions of that path, or, with "", of every path.
//
// Ready to use are [Respond], [Hang], [Reset], [CutShort] and [Endless]:
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

// nextFault returns the interceptor for a call of path, or nil if DSS answers.
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

// Respond answers with this status, body and headers (name, value, name, value
// …). Without a Content-Type, a body that starts with { or [ is sent as JSON,
// and any other as HTML.
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

// Hang never answers. It waits until the client goes away or the server ends.
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
	answer := httptest.NewRecorder()
	next.ServeHTTP(answer, r)
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	w.Write(answer.Body.Bytes()[:answer.Body.Len()/2])
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// Endless starts a JSON answer that ends only when the client goes away.
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
