package dssauth

import (
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	// maxDrain is as much of a body as net/http reads by itself behind a handler
	// that has not, where it is left to.
	maxDrain = 256 << 10
	// drainTime bounds the reading, whatever the sender does.
	drainTime = time.Second
)

// drain reads what is left of the body of a request that is refused. A server
// that answers an upload and closes the connection has the kernel reset it, and
// the proxy in front, which still sends, says 502 instead of our refusal.
//
// HTTP/2 ends one stream alone. A client that expects 100-continue sends nothing
// until it is told to. Without a deadline the sender would decide how long it
// takes.
func drain(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 1 || r.Body == nil || r.Body == http.NoBody || expectsContinue(r.Header) {
		return
	}
	connection := http.NewResponseController(w)
	if connection.SetReadDeadline(time.Now().Add(drainTime)) != nil {
		return
	}
	// Else the deadline would end the request's context.
	defer func() { _ = connection.SetReadDeadline(time.Time{}) }()
	if n, err := io.CopyN(io.Discard, r.Body, maxDrain); n == maxDrain || err != io.EOF {
		// Now, under the deadline: net/http reads on when the answer is written.
		_ = r.Body.Close()
	}
}

func expectsContinue(h http.Header) bool {
	return strings.Contains(strings.ToLower(h.Get("Expect")), "100-continue")
}
