package dss

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
)

// exchange is one question to DSS and its reply. The reply has to be judged:
// see judgedConn.
type exchange struct {
	used *credentials

	mu       sync.Mutex
	conn     *judgedConn // carries it; nil on a transport of the caller's
	turn     uint64      // of conn
	theirs   net.Conn    // carries it on a transport of the caller's
	held     *heldBody   // its body, if that can be read only once
	refused  bool        // the last connection did not take it
	reused   bool        // the last connection had carried others
	carried  int         // the number of connections that it may have gone out on
	answered bool        // a byte of a reply came
	judged   bool
}

// traced returns ctx for the request of this exchange.
func (x *exchange) traced(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:              func(info httptrace.GotConnInfo) { x.gotConn(ctx, info) },
		GotFirstResponseByte: x.gotFirstByte,
		PutIdleConn:          func(error) { x.over() },
	})
}

// roundTrip sends req over wire, and again if the connection did not take it.
// The context of req must be traced. It changes req.
func (x *exchange) roundTrip(wire http.RoundTripper, req *http.Request) (*http.Response, error) {
	ctx, body := req.Context(), req.Body
	once := body != nil && body != http.NoBody && req.GetBody == nil
	for {
		x.begin()
		if once {
			req.Body = x.hold(body)
		}
		reply, err := wire.RoundTrip(req)
		refused, again := x.wasRefused()
		if !refused {
			x.came(reply, err)
			return reply, err
		}
		if err == nil {
			// The question was not sent, so this answers another one.
			reply.Body.Close()
			err = net.ErrClosed
		}
		if ctx.Err() != nil {
			again, err = false, ctx.Err()
		}
		if !once && again {
			req.Body, again = rewound(req)
		}
		if !again {
			if once {
				body.Close()
			}
			return nil, err
		}
	}
}

func (x *exchange) begin() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.refused = false
}

// gotConn is called before the question is written. If the connection does not
// take it, writing to it fails, and net/http or roundTrip tries another one.
func (x *exchange) gotConn(ctx context.Context, info httptrace.GotConnInfo) {
	ours, theirs := unwrap(info.Conn)
	var turn uint64
	taken := true
	if ours != nil {
		turn, taken = ours.take(ctx)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.conn, x.turn, x.theirs = ours, turn, theirs
	x.refused, x.reused = !taken, info.Reused
	if taken {
		x.carried++
		return
	}
	x.conn = nil
	if x.held != nil {
		x.held.refused.Store(true)
	}
}

// wasRefused reports whether the last connection did not take the question, and
// another one may. A new connection that does not take it is not a connection
// to DSS.
func (x *exchange) wasRefused() (refused, again bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.refused, x.refused && x.reused
}

func (x *exchange) gotFirstByte() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.answered = true
}

func (x *exchange) over() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.conn != nil {
		x.conn.over(x.turn)
	}
}

// came notes how the question ended.
func (x *exchange) came(reply *http.Response, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case err != nil && x.conn != nil:
		x.conn.judge(x.turn, false)
	case err != nil || reply == nil:
	case x.conn != nil && x.conn.tls != nil:
		reply.TLS = x.conn.tls // net/http does not see it
	case x.theirs != nil && reply.ProtoMajor != 1:
		x.theirs = nil // HTTP/2 tells replies apart, and other questions share the connection
	}
}

// mayRepeat reports whether a question that failed can be asked once more:
// nothing came of it, and net/http did not ask twice on its own.
func (x *exchange) mayRepeat() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.answered && x.carried <= 1
}

// judge records whether the reply answers the question; if not, the connection
// is closed. The first judgement counts. After a panic or an error, good must
// be false.
func (x *exchange) judge(good bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.judged {
		return
	}
	x.judged = true
	switch {
	case x.conn != nil:
		x.conn.judge(x.turn, good)
	case x.theirs != nil && !good:
		x.theirs.Close()
	}
}

// judgeRest judges a reply while its reader reads it.
func (x *exchange) judgeRest(reply *http.Response) {
	switch {
	case isSuccess(reply.StatusCode):
		x.judge(true) // only the caller knows what a valid reply is
	case reply.Body == http.NoBody:
		x.judge(false)
	default:
		reply.Body = &judgingBody{ReadCloser: reply.Body, exchange: x}
	}
}

func isSuccess(status int) bool { return status >= 200 && status <= 299 }

// isNothingOrJSON reports whether body can be the reply to a call whose reply
// does not matter: a gateway's page is neither empty nor JSON.
func isNothingOrJSON(body []byte) bool {
	return len(bytes.TrimSpace(body)) == 0 || json.Valid(body)
}

// judgingBody is the body of an error that its caller reads.
type judgingBody struct {
	io.ReadCloser
	exchange *exchange
	start    []byte
}

func (b *judgingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if len(b.start) <= maxErrorBytes {
		b.start = append(b.start, p[:n]...)
	}
	if err != nil {
		b.exchange.judge(err == io.EOF && len(b.start) <= maxErrorBytes && isErrorReply(b.start))
	}
	return n, err
}

func (b *judgingBody) Close() error {
	b.exchange.judge(false) // its end was not reached
	return b.ReadCloser.Close()
}

// isErrorReply reports whether body is an error that DSS itself wrote.
func isErrorReply(body []byte) bool {
	kind, _, ok := parseErrorBody(body)
	return ok && kind != ""
}

// heldBody is a body that is read only after a connection took the question. If
// it were read before, it could not be sent on another connection.
type heldBody struct {
	io.ReadCloser
	refused atomic.Bool
}

func (x *exchange) hold(body io.ReadCloser) *heldBody {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.held = &heldBody{ReadCloser: body}
	return x.held
}

func (b *heldBody) Read(p []byte) (int, error) {
	if b.refused.Load() {
		return 0, net.ErrClosed
	}
	return b.ReadCloser.Read(p)
}

func (b *heldBody) Close() error {
	if b.refused.Load() {
		return nil
	}
	return b.ReadCloser.Close()
}
