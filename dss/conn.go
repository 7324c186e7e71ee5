package dss

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// judgedConn is a connection to DSS that carries the next question only after
// the reply to the last one was judged.
//
// A gateway that gives up on DSS answers 504, and may pass DSS's late reply on
// as the reply to the next question on the same connection: one visitor then
// gets another's identity. net/http uses a connection again as soon as a reply
// has ended; if the reply has no body, this is before its caller sees it. So
// the next question on the connection waits in take until judge reports that
// the last reply answered its question.
//
// It also hands out no byte beyond the end of a reply. net/http would take it
// for the next reply, or log it, with the logins and tickets in it.
type judgedConn struct {
	net.Conn
	under net.Conn             // closed in place of Conn: Conn itself or, since closing TLS can block, the connection below TLS
	tls   *tls.ConnectionState // nil: not TLS
	in    *bufio.Reader        // nil: TLS runs over this connection, so the end of a reply is not visible

	mu     sync.Mutex    // guards the rest
	turn   uint64        // which question this is
	judged chan struct{} // closed when the reply to that question is judged
	dead   bool          // carries no more questions
	quiet  bool          // no question is under way: nobody asked for bytes that come now
	ahead  bool          // in holds bytes that were not handed out
	reply  framing
}

// maxJudging is how long a question waits for the judgement of the last reply.
// The code that judges (the handler of a body, or of a decoded value) may
// itself wait for that very question. A new connection is better then.
const maxJudging = time.Second

// newJudgedConn wraps a connection over which net/http speaks HTTP.
func newJudgedConn(conn net.Conn) *judgedConn {
	c := tunnelConn(conn)
	c.in, c.quiet = bufio.NewReader(conn), true
	if secure, ok := conn.(*tls.Conn); ok {
		state := secure.ConnectionState()
		c.tls = &state
	}
	return c
}

// tunnelConn wraps a connection to a proxy. net/http speaks TLS to DSS through
// it.
func tunnelConn(conn net.Conn) *judgedConn {
	judged := make(chan struct{})
	close(judged) // there was no question yet
	_, under := unwrap(conn)
	return &judgedConn{Conn: conn, under: under, judged: judged}
}

// unwrap finds a judgedConn below conn, or else the lowest connection.
func unwrap(conn net.Conn) (ours *judgedConn, lowest net.Conn) {
	for {
		if ours, ok := conn.(*judgedConn); ok {
			return ours, nil
		}
		over, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return nil, conn
		}
		conn = over.NetConn()
	}
}

// take gives the connection to the next question, as its turn. It reports false
// if another connection has to carry the question; this one is closed then.
func (c *judgedConn) take(ctx context.Context) (turn uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !isClosed(c.judged) {
		c.waitForJudgement(ctx)
	}
	if c.dead || c.ahead || !isClosed(c.judged) {
		c.die()
		return 0, false
	}
	c.turn++
	c.judged = make(chan struct{})
	c.reply = framing{line: c.reply.line[:0]}
	if c.in != nil {
		c.quiet = true // until the question is written
	}
	return c.turn, true
}

// waitForJudgement unlocks c while it waits.
func (c *judgedConn) waitForJudgement(ctx context.Context) {
	judged := c.judged
	c.mu.Unlock()
	defer c.mu.Lock()
	enough := time.NewTimer(maxJudging)
	defer enough.Stop()
	select {
	case <-judged:
	case <-enough.C:
	case <-ctx.Done():
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// judge records whether the reply of a turn answered its question. The first
// judgement counts.
func (c *judgedConn) judge(turn uint64, good bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if turn != c.turn || isClosed(c.judged) {
		return
	}
	if !good {
		c.die()
	}
	close(c.judged)
}

// over records that net/http has the whole reply of a turn.
func (c *judgedConn) over(turn uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quiet = c.quiet || turn == c.turn
}

// die closes the connection. Nothing more is read from it, not even bytes that
// were received. The caller holds mu.
func (c *judgedConn) die() {
	c.quiet = true
	if !c.dead {
		c.dead = true
		c.under.Close()
	}
}

func (c *judgedConn) Write(p []byte) (int, error) {
	if !c.begin() {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

// begin reports whether a question may be written. If so, a reply may come from
// now on.
func (c *judgedConn) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dead {
		c.quiet = false
	}
	return !c.dead
}

// If bytes come that nobody asked for, Read returns io.EOF, as if DSS had
// closed the connection.
func (c *judgedConn) Read(p []byte) (int, error) {
	if c.in == nil {
		n, err := c.Conn.Read(p)
		return c.received(n, err)
	}
	if left := c.left(); left > 0 {
		n, err := c.in.Read(p[:min(int64(len(p)), left)]) // without a copy in between, if p is large
		return c.received(n, err)
	}
	if _, err := c.in.Peek(1); err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.quiet {
		c.die()
		return 0, io.EOF
	}
	some, _ := c.in.Peek(min(c.in.Buffered(), len(p)))
	n := copy(p, some[:c.reply.next(some)])
	c.in.Discard(n)
	c.ahead = c.in.Buffered() > 0
	return n, nil
}

// left returns the number of bytes that are still to come of a body whose
// length is known.
func (c *judgedConn) left() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.quiet {
		return 0
	}
	return c.reply.left
}

func (c *judgedConn) received(n int, err error) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > 0 && c.quiet {
		c.die()
		return 0, io.EOF
	}
	if c.in != nil {
		c.reply.left -= int64(n)
		c.ahead = c.in.Buffered() > 0
	}
	return n, err
}

// framing follows a reply only to find its end among the received bytes.
// net/http decides whether the reply is sound.
type framing struct {
	line     []byte // the start of the current line
	status   string // "" before the first line
	length   int64  // Content-Length, or 0
	chunked  bool
	inside   bool  // the head is over
	trailing bool  // the last chunk is over
	left     int64 // bytes of the body, or of a chunk, that are still to come
	switched bool  // another protocol has begun; it has no replies
}

// next returns how many received bytes to hand out where no length tells the
// number: none beyond the end of the reply. The head is handed out up to its
// last line. A chunked body, which ends with a line as well, is handed out line
// by line.
func (f *framing) next(received []byte) (n int) {
	if f.switched {
		return len(received)
	}
	for {
		n += f.nextLine(received[n:])
		if f.inside || f.switched || n == len(received) {
			return n
		}
	}
}

// nextLine returns the length of the first line of received, or of the part of
// it that came.
func (f *framing) nextLine(received []byte) int {
	n := len(received)
	end := bytes.IndexByte(received, '\n')
	if end >= 0 {
		n = end + 1
	}
	f.line = append(f.line, received[:min(n, maxFramingLine-len(f.line))]...)
	if end >= 0 {
		f.endOfLine(strings.TrimRight(string(f.line), "\r\n"))
		f.line = f.line[:0]
	}
	return n
}

// maxFramingLine is the number of bytes of a line that are looked at.
const maxFramingLine = 256

func (f *framing) endOfLine(line string) {
	switch {
	case f.inside:
		f.endOfLineInside(line)
	case f.status == "":
		f.status = "unknown"
		if words := strings.Fields(line); len(words) > 1 {
			f.status = words[1]
		}
	case line == "":
		f.endOfHead()
	default:
		name, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "content-length":
			f.length, _ = strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		case "transfer-encoding":
			f.chunked = true
		}
	}
}

func (f *framing) endOfHead() {
	switch {
	case f.status == "101":
		f.switched = true
	case strings.HasPrefix(f.status, "1"):
		*f = framing{line: f.line} // the head of the final reply is still to come
	default:
		f.inside = true
		if !f.chunked {
			f.left = max(f.length, 0)
		}
	}
}

// endOfLineInside reads the length of the chunk that follows a line.
func (f *framing) endOfLineInside(line string) {
	if !f.chunked || f.trailing || line == "" { // an empty line ends a chunk
		return
	}
	length, _, _ := strings.Cut(line, ";")
	if n, err := strconv.ParseInt(strings.TrimSpace(length), 16, 64); err == nil {
		f.left, f.trailing = max(n, 0), n == 0
	}
}
