package dss

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// scripted is a connection that receives these bytes, in these pieces.
type scripted struct {
	net.Conn // nil
	pieces   []string
	written  strings.Builder
	closed   bool
}

func (s *scripted) Read(p []byte) (int, error) {
	if s.closed {
		return 0, net.ErrClosed
	}
	if len(s.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.pieces[0])
	if s.pieces[0] = s.pieces[0][n:]; s.pieces[0] == "" {
		s.pieces = s.pieces[1:]
	}
	return n, nil
}

func (s *scripted) Write(p []byte) (int, error) { return s.written.Write(p) }

func (s *scripted) Close() error {
	s.closed = true
	return nil
}

// asked returns a connection to which a question was just written.
func asked(t testing.TB, s *scripted) (*judgedConn, uint64) {
	c := newJudgedConn(s)
	turn, ok := c.take(t.Context())
	require.True(t, ok)
	_, err := c.Write([]byte("question"))
	require.NoError(t, err)
	return c, turn
}

const surplus = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ncanary"

// net/http reads a reply only to its end, even if more was received in one
// piece with it.
func TestBytesAfterAReplyAreNotHandedOut(t *testing.T) {
	for name, row := range map[string]struct{ method, reply, body string }{
		"of known length":              {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello"},
		"of known length, with lines":  {"GET", "HTTP/1.1 200 OK\r\ncontent-length:  6 \r\nX: y\r\n\r\na\n\nb\n\n", "a\n\nb\n\n"},
		"of length zero":               {"GET", "HTTP/1.1 504 Late\r\nContent-Length: 0\r\n\r\n", ""},
		"to HEAD":                      {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", ""},
		"that cannot have a body":      {"GET", "HTTP/1.1 204 No Content\r\n\r\n", ""},
		"not modified":                 {"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", ""},
		"in chunks":                    {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", "hello"},
		"in chunks, with a trailer":    {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n\n\n\n\r\n0\r\nA: b\r\n\r\n", "\n\n\n"},
		"in chunks, with a length too": {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 90\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", "a"},
		"after an informational one":   {"GET", "HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", "a"},
		"without carriage returns":     {"GET", "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", "hello"},
		"with a line of 5,000 bytes":   {"GET", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 5000) + "\r\nContent-Length: 5\r\n\r\nhello", "hello"},
		"of 100,000 bytes":             {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x\n", 50_000), strings.Repeat("x\n", 50_000)},
	} {
		for _, pieces := range [][]string{{row.reply + surplus}, {row.reply, surplus}, strings.Split(row.reply+surplus, "")} {
			t.Run(fmt.Sprint(name, ", in ", len(pieces)), func(t *testing.T) {
				s := &scripted{pieces: pieces}
				c, turn := asked(t, s)
				in := bufio.NewReader(c)
				body, err := readReply(in, row.method)
				require.NoError(t, err)
				assert.Equal(t, row.body, body)
				require.Zero(t, in.Buffered(), "net/http would read these bytes as the next reply, or log them")

				c.over(turn)
				c.judge(turn, true)
				_, err = in.Peek(1)
				assert.Equal(t, io.EOF, err)
				assert.True(t, s.closed, "a connection with bytes that nobody asked for")
				_, ok := c.take(t.Context())
				assert.False(t, ok)
			})
		}
	}
}

// readReply reads a reply, and those before it, as net/http does.
func readReply(in *bufio.Reader, method string) (string, error) {
	for {
		reply, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return "", err
		}
		body, err := io.ReadAll(reply.Body)
		if err != nil || reply.StatusCode >= 200 {
			return string(body), err
		}
	}
}

// FuzzReplyEnd cuts replies into pieces, with more bytes after them.
func FuzzReplyEnd(f *testing.F) {
	f.Add("hello", uint16(200), uint16(7), uint16(50), false)
	f.Add("\r\n0\r\n\r\n", uint16(504), uint16(0), uint16(1), true)
	f.Add("", uint16(401), uint16(1000), uint16(3), true)
	f.Fuzz(func(t *testing.T, text string, status, first, second uint16, chunked bool) {
		head := fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n", 200+status%400, len(text))
		wire := head + text
		if chunked {
			wire = fmt.Sprintf("HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n", 200+status%400)
			if text != "" {
				wire += fmt.Sprintf("%x\r\n%s\r\n", len(text), text)
			}
			wire += "0\r\n\r\n"
		}
		if code := 200 + status%400; code == 204 || code == 304 {
			return // no body
		}
		wire += surplus
		a, b := int(first)%len(wire), int(second)%len(wire)
		a, b = min(a, b), max(a, b)
		var pieces []string
		for _, piece := range []string{wire[:a], wire[a:b], wire[b:]} {
			if piece != "" {
				pieces = append(pieces, piece)
			}
		}
		c, _ := asked(t, &scripted{pieces: pieces})
		in := bufio.NewReader(c)
		body, err := readReply(in, "GET")
		require.NoError(t, err)
		require.Equal(t, text, body)
		require.Zero(t, in.Buffered())
	})
}

// After a switch of protocols everything is handed out.
func TestBytesAfterProtocolSwitchAreHandedOut(t *testing.T) {
	c, _ := asked(t, &scripted{pieces: []string{"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x05he\nlo", "\x88\x00"}})
	in := bufio.NewReader(c)
	reply, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	assert.Equal(t, 101, reply.StatusCode)
	rest, err := io.ReadAll(in)
	require.NoError(t, err)
	assert.Equal(t, "\x81\x05he\nlo\x88\x00", string(rest))
}

func TestBytesBeforeQuestionAreNotHandedOut(t *testing.T) {
	s := &scripted{pieces: []string{surplus}}
	c := newJudgedConn(s)
	_, err := c.Read(make([]byte, 100))
	assert.Equal(t, io.EOF, err)
	assert.True(t, s.closed)
	_, ok := c.take(t.Context())
	assert.False(t, ok)
}

// net/http may have begun the next question before the verdict about the last
// reply. Then nothing is written, and no received byte is read.
func TestBadConnectionIsNotUsedAgain(t *testing.T) {
	s := &scripted{pieces: []string{"HTTP/1.1 504 Late\r\nContent-Length: 0\r\n\r\n" + surplus}}
	c, turn := asked(t, s)
	_, err := readReply(bufio.NewReader(c), "GET")
	require.NoError(t, err)
	c.judge(turn, false)
	n, err := c.Write([]byte("next"))
	assert.Zero(t, n)
	assert.Equal(t, net.ErrClosed, err)
	assert.Equal(t, "question", s.written.String())
	n, err = c.Read(make([]byte, 100))
	assert.Zero(t, n)
	assert.Equal(t, io.EOF, err)
}

func TestNextQuestionWaitsForTheJudgement(t *testing.T) {
	for name, row := range map[string]struct {
		judge  func(c *judgedConn, turn uint64, cancel func())
		wants  bool
		after  time.Duration
		before bool // the reply is judged before the question comes
	}{
		"which is good":              {func(c *judgedConn, turn uint64, _ func()) { c.judge(turn, true) }, true, time.Millisecond, false},
		"which is bad":               {func(c *judgedConn, turn uint64, _ func()) { c.judge(turn, false) }, false, time.Millisecond, false},
		"which was good":             {func(c *judgedConn, turn uint64, _ func()) { c.judge(turn, true) }, true, 0, true},
		"which was bad":              {func(c *judgedConn, turn uint64, _ func()) { c.judge(turn, false) }, false, 0, true},
		"which was bad, and is good": {func(c *judgedConn, turn uint64, _ func()) { c.judge(turn, false); c.judge(turn, true) }, false, 0, true},
		"which was good, and is bad": {func(c *judgedConn, turn uint64, _ func()) { c.judge(turn, true); c.judge(turn, false) }, true, 0, true},
		"which is of another reply":  {func(c *judgedConn, turn uint64, _ func()) { c.judge(turn-1, true); c.judge(turn+1, true) }, false, maxJudging, true},
		"which never comes":          {func(*judgedConn, uint64, func()) {}, false, maxJudging, true},
		"until the call is over":     {func(_ *judgedConn, _ uint64, cancel func()) { cancel() }, false, time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &scripted{}
				c, turn := asked(t, s)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if row.before {
					row.judge(c, turn, cancel)
				} else {
					time.AfterFunc(time.Millisecond, func() { row.judge(c, turn, cancel) })
				}
				start := time.Now()
				_, ok := c.take(ctx)
				assert.Equal(t, row.wants, ok)
				assert.Equal(t, row.after, time.Since(start))
				assert.Equal(t, !row.wants, s.closed)
			})
		})
	}
}

type wireFunc func(*http.Request) (*http.Response, error)

func (f wireFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// If a connection does not take a question, the question goes out on another
// one, once and whole, even if its body can be read only once.
func TestUntakenQuestionIsSentOnAnotherConnection(t *testing.T) {
	for name, body := range map[string]func() io.Reader{
		"without a body":                  func() io.Reader { return nil },
		"with one that can be sent twice": func() io.Reader { return strings.NewReader("body") },
		"with one that cannot":            func() io.Reader { return io.MultiReader(strings.NewReader("body")) },
	} {
		for answer, first := range map[string]wireFunc{
			"net/http says so": func(*http.Request) (*http.Response, error) { return nil, errors.New("closed") },
			"another question's reply came": func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("canary"))}, nil
			},
		} {
			t.Run(name+", "+answer, func(t *testing.T) {
				bad, turn := asked(t, &scripted{})
				bad.judge(turn, false)
				sent := 0
				wire := wireFunc(func(req *http.Request) (*http.Response, error) {
					trace := httptrace.ContextClientTrace(req.Context())
					if sent++; sent <= 2 {
						trace.GotConn(httptrace.GotConnInfo{Conn: bad, Reused: true})
						if req.Body != nil {
							io.ReadAll(req.Body)
							req.Body.Close()
						}
						return first(req)
					}
					trace.GotConn(httptrace.GotConnInfo{Conn: newJudgedConn(&scripted{}), Reused: false})
					got := ""
					if req.Body != nil {
						data, err := io.ReadAll(req.Body)
						require.NoError(t, err)
						got = string(data)
					}
					return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("right, " + got))}, nil
				})
				req, err := http.NewRequestWithContext(t.Context(), "POST", "http://dss.example/", body())
				require.NoError(t, err)
				x := &exchange{}
				reply, err := x.roundTrip(wire, req.WithContext(x.traced(req.Context())))
				require.NoError(t, err)
				text, err := io.ReadAll(reply.Body)
				require.NoError(t, err)
				assert.Equal(t, "right, "+map[bool]string{false: "body"}[name == "without a body"], string(text))
				assert.Equal(t, 3, sent)
				assert.True(t, x.mayRepeat(), "one connection carried it")
			})
		}
	}
}

// The last byte of a reply is not kept back until more come, wherever a pair of bytes
// ends.
func TestReplyIsReadToItsLastByte(t *testing.T) {
	for _, reason := range []string{"OK", "Yes", "Fine"} {
		for _, body := range []string{"Content-Length: 0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"} {
			s := &scripted{pieces: strings.Split("HTTP/1.1 200 "+reason+"\r\n"+body, "")}
			c, _ := asked(t, s)
			got, err := readReply(bufio.NewReader(c), "GET")
			require.NoError(t, err, "%s, %q", reason, body)
			assert.Empty(t, got)
		}
	}
}

func TestTypeOfAReplyAfterManyBlanks(t *testing.T) {
	s := &scripted{pieces: []string{"HTTP/1.1" + strings.Repeat(" ", 300) + "200 OK\r\nContent-Length: 5\r\n\r\nhello" + surplus}}
	c, _ := asked(t, s)
	in := bufio.NewReader(c)
	body, err := readReply(in, "GET")
	require.NoError(t, err)
	assert.Equal(t, "hello", body)
	assert.Zero(t, in.Buffered())
}
