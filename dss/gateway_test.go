package dss_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

// gateway is a proxy before DSS. It answers some questions itself, as if DSS
// took too long, and still passes DSS's late reply on.
type gateway struct {
	own  string                          // its own answer
	pass func(own, late string) []string // the bytes that it writes at once; nil: the late reply to the next question
	asks atomic.Int32                    // questions
	open atomic.Int32                    // connections
}

// serve answers on one connection.
func (g *gateway) serve(conn net.Conn) {
	g.open.Add(1)
	in := bufio.NewReader(conn)
	var late []string // replies of DSS that were not passed on yet
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		late = append(late, dssReply(req, body))
		if g.asks.Add(1)%5 != 0 {
			io.WriteString(conn, late[0])
			late = late[1:]
			continue
		}
		if g.pass == nil {
			io.WriteString(conn, g.own)
			continue
		}
		for _, piece := range g.pass(g.own, late[0]) {
			io.WriteString(conn, piece)
		}
		late = late[1:]
	}
}

// dssReply is DSS's reply to a caller, named by a cookie or by the path.
func dssReply(req *http.Request, body []byte) string {
	var headers struct{ Cookie string }
	login := path.Base(req.URL.Path)
	if json.Unmarshal(body, &headers) == nil {
		login = strings.TrimPrefix(headers.Cookie, "session=")
	}
	text := `{"authSource": "USER_FROM_UI", "authIdentifier": "` + login + `", "groups": []}`
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
}

func page(status, text string) string {
	return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s", status, len(text), text)
}

// The ways in which a gateway passes on the late reply.
var (
	asTheNextReply func(own, late string) []string
	behind         = func(own, late string) []string { return []string{own, late} }
	inOnePiece     = func(own, late string) []string { return []string{own + late} }
)

type lateReply struct {
	own  string
	pass func(own, late string) []string
}

// lateReplies returns these ways, with the gateway's own answers. Through
// Transport, 2xx answers of a gateway look like DSS's own.
func lateReplies() map[string]lateReply {
	const cut = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n" + `{"authSource": "USER_FROM_UI", "authIdent`
	all := map[string]lateReply{
		"a 200 that is cut short, and the late reply goes on": {cut, behind},
	}
	for name, own := range map[string]string{
		"504 with a page":                       page("504 Gateway Time-out", "<html>504 Gateway Time-out</html>"),
		"504 without a body":                    page("504 Gateway Time-out", ""),
		"504 with JSON that is not DSS's":       page("504 Gateway Time-out", `{"message": "timed out"}`),
		"502 in chunks":                         "HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n<html\r\n5\r\n>\n\n\n\n\r\n0\r\n\r\n",
		"302 to a sign-in page, without a body": "HTTP/1.1 302 Found\r\nLocation: /sign-in\r\nContent-Length: 0\r\n\r\n",
		"304":                                   "HTTP/1.1 304 Not Modified\r\n\r\n",
		"a 200 with a page":                     page("200 OK", "<html>Please wait</html>"),
		"a 200 with nothing":                    page("200 OK", ""),
		"a 200 with a page in chunks":           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n<html\r\n0\r\n\r\n",
		"204":                                   "HTTP/1.1 204 No Content\r\n\r\n",
		"103 and 504":                           "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + page("504 Gateway Time-out", ""),
	} {
		all[name+", the late reply as the next one"] = lateReply{own, asTheNextReply}
		all[name+", the late reply behind it"] = lateReply{own, behind}
		all[name+", the late reply in one piece with it"] = lateReply{own, inOnePiece}
	}
	return all
}

// listen starts a gateway, and returns a client of it.
func (g *gateway) listen(t *testing.T, secure bool) *dss.Client {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	cfg := dss.Config{URL: "http://" + listener.Addr().String(), APIKey: testKey}
	if secure {
		authority := issue(t, nil, authority)
		own := issue(t, &authority, forThisMachine)
		cfg.URL, cfg.RootCAs = "https://"+listener.Addr().String(), authority.pool()
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{own.cert.Raw}, PrivateKey: own.key}}})
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer conn.Close()
				g.serve(conn)
			})
		}
	})
	c, err := dss.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		c.CloseIdleConnections()
		listener.Close()
		open.Wait()
	})
	return c
}

// A wayToAsk asks DSS for login, and returns the login that DSS names.
type wayToAsk func(ctx context.Context, c *dss.Client, login string) (string, error)

func askByBrowser(ctx context.Context, c *dss.Client, login string) (string, error) {
	info, err := c.AuthInfoFromBrowserHeaders(ctx, http.Header{"Cookie": {"session=" + login}})
	return info.Login(), err
}

func askByDo(ctx context.Context, c *dss.Client, login string) (string, error) {
	var out struct{ AuthIdentifier string }
	err := c.Do(ctx, "GET", "/who/"+login, nil, &out)
	return out.AuthIdentifier, err
}

func askByStream(ctx context.Context, c *dss.Client, login string) (string, error) {
	var out struct{ AuthIdentifier string }
	err := c.Do(ctx, "POST", "/who/"+login, io.MultiReader(strings.NewReader("one"), strings.NewReader("two")), &out)
	return out.AuthIdentifier, err
}

func askByTransport(ctx context.Context, c *dss.Client, login string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", c.URL()+"/dip/publicapi/who/"+login, nil)
	if err != nil {
		return "", err
	}
	reply, err := c.Transport().RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode != http.StatusOK {
		err = errors.New(reply.Status)
	}
	if err != nil {
		return "", err
	}
	var out struct{ AuthIdentifier string }
	err = json.Unmarshal(body, &out)
	return out.AuthIdentifier, err
}

// standardLog collects net/http's log lines, until the test ends.
func standardLog(t *testing.T) *lockedBuffer {
	var b lockedBuffer
	log.SetOutput(&b)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	return &b
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// lateQuestions is the number of questions in each of the four ways.
func lateQuestions(secure bool) int {
	n := 320
	if os.Getenv("CI") == "true" {
		n = 800
	}
	if secure { // each new connection takes a while here
		n /= 4
	}
	return n
}

func TestNoLateReplyAnswersAnotherQuestion(t *testing.T) {
	logged := standardLog(t)
	ways := map[string]wayToAsk{
		"auth info of a browser": askByBrowser, "Do": askByDo, "Do with a stream": askByStream, "Transport": askByTransport,
	}
	for name, mode := range lateReplies() {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS %v", name, secure), func(t *testing.T) {
				for way, ask := range ways {
					if way == "Transport" && strings.HasPrefix(mode.own, "HTTP/1.1 2") {
						continue // the caller judges any 2xx
					}
					g := &gateway{own: mode.own, pass: mode.pass}
					c := g.listen(t, secure)
					right, failed, wrong := askAtOnce(t.Context(), c, ask, lateQuestions(secure))
					assert.Zero(t, wrong, "wrong answers to %s", way)
					assert.Positive(t, right, way)
					assert.Positive(t, failed, way)
				}
			})
		}
	}
	assert.Empty(t, logged.String(), "net/http's log shows logins")
}

// askAtOnce asks for many visitors, from many goroutines.
func askAtOnce(ctx context.Context, c *dss.Client, ask wayToAsk, questions int) (right, failed, wrong int32) {
	const atOnce = 16
	var all sync.WaitGroup
	var rights, failures, wrongs atomic.Int32
	for i := range atOnce {
		all.Go(func() {
			for n := range questions / atOnce {
				login := fmt.Sprintf("visitor-%d-%d", i, n)
				switch got, err := ask(ctx, c, login); {
				case err != nil:
					failures.Add(1)
				case got == login:
					rights.Add(1)
				default:
					wrongs.Add(1)
				}
			}
		})
	}
	all.Wait()
	return rights.Load(), failures.Load(), wrongs.Load()
}
