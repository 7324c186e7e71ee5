package dssauth

import (
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	// maxDrain is as much of a body as net/http reads itself after a handler that has
	// not read it.
	maxDrain = 256 << 10
	// drainTime bounds the reading for every sender.
	drainTime = time.Second
)

// drain reads the rest of the body of a refused request. If a server answers an upload
// and closes the connection, the kernel resets that. A proxy in front that still sends
// then answers 502 instead of our refusal.
//
// It is not needed in HTTP/2, which can end a single stream, nor for a client that
// waits for 100-continue before it sends. Without a deadline the sender could make it
// last for ever.
func drain(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 1 || r.Body == nil || r.Body == http.NoBody || expectsContinue(r.Header) {
		return
	}
	connection := http.NewResponseController(w)
	if connection.SetReadDeadline(time.Now().Add(drainTime)) != nil {
		return
	}
	// Otherwise the deadline would end the request's context.
	defer func() { _ = connection.SetReadDeadline(time.Time{}) }()
	if n, err := io.CopyN(io.Discard, r.Body, maxDrain); n == maxDrain || err != io.EOF {
		// Now, under the deadline: net/http reads more when the answer is written.
		_ = r.Body.Close()
	}
}

func expectsContinue(h http.Header) bool {
	return strings.Contains(strings.ToLower(h.Get("Expect")), "100-continue")
}
