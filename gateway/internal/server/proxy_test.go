package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newHasty returns the URL of an upstream that answers before it reads a body.
func newHasty(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				r, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(r.RequestURI), r.RequestURI)
				_, _ = io.Copy(io.Discard, in)
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// The rest of an upload must not become the next request of the connection. Behind
// a proxy, that request can be another visitor's.
func TestRestOfAnUploadDoesNotBecomeARequest(t *testing.T) {
	w := newWorldBefore(t, newHasty(t))
	part := "\r\nGET /open/of-the-body HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, size := range []int{1, 10, 1000} {
		for _, header := range []string{"", "Expect: 100-continue\r\n", "Connection: Upgrade\r\nUpgrade: websocket\r\n"} {
			t.Run(fmt.Sprint(size, header), func(t *testing.T) {
				t.Parallel()
				conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
				require.NoError(t, err)
				defer conn.Close()
				require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
				fmt.Fprintf(conn, "POST /open/first HTTP/1.1\r\nHost: a\r\n%sTransfer-Encoding: chunked\r\n\r\n", header)
				in := bufio.NewReader(conn)
				answer, err := http.ReadResponse(in, nil)
				require.NoError(t, err, "it waits for the upload")
				body, err := io.ReadAll(answer.Body)
				require.NoError(t, err)
				assert.Equal(t, "/open/first", string(body))
				for range 3 {
					text := strings.Repeat(part, size)
					fmt.Fprintf(conn, "%x\r\n%s\r\n", len(text), text)
				}
				fmt.Fprint(conn, "0\r\n\r\nGET /open/second HTTP/1.1\r\nHost: a\r\n\r\n")
				answer, err = http.ReadResponse(in, nil)
				if err != nil {
					return // closed
				}
				body, err = io.ReadAll(answer.Body)
				require.NoError(t, err)
				assert.Equal(t, 200, answer.StatusCode)
				assert.Equal(t, "/open/second", string(body))
			})
		}
	}
}

func TestAnswerIsPrivateAfterEarlyHints(t *testing.T) {
	w := newWorld(t)
	w.upstream.mux.HandleFunc("GET /open/hints", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Link", "</a>; rel=preload")
		rw.WriteHeader(http.StatusEarlyHints)
		rw.Header().Set("Vary", "Accept")
		fmt.Fprint(rw, "x")
	})
	assert.Equal(t, []string{"Cookie, Authorization", "Accept"}, w.get("/open/hints", nil).Header["Vary"])
	assert.Equal(t, []string{"Cookie, Authorization", "Accept"}, w.get("/open/hints", w.dss.SignIn("ann")).Header["Vary"])
}

func TestNoHeaderOutweighsPrivate(t *testing.T) {
	w := newWorld(t)
	w.upstream.mux.HandleFunc("GET /open/shared", func(rw http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"X-Accel-Expires", "Surrogate-Control", "CDN-Cache-Control"} {
			rw.Header().Set(name, "max-age=600")
		}
	})
	reply := w.get("/open/shared", w.dss.SignIn("ann"))
	assert.Equal(t, []string{"private"}, reply.Header["Cache-Control"])
	for _, name := range []string{"X-Accel-Expires", "Surrogate-Control", "CDN-Cache-Control"} {
		assert.Empty(t, reply.Header.Get(name), name)
		assert.Equal(t, "max-age=600", w.get("/open/shared", nil).Header.Get(name), name)
	}
}

func TestRealIPPassesOnlyFromAProxy(t *testing.T) {
	for proxies, want := range map[string]string{"[]": "", "[127.0.0.1]": "10.0.0.1"} {
		w := newWorld(t, "-proxies="+proxies)
		w.get("/open/", nil, "X-Real-Ip", "10.0.0.1", "X_Real_IP", "10.0.0.2", "X.Real.IP", "10.0.0.3")
		saw := w.upstream.last().Header
		assert.Equal(t, want, saw.Get("X-Real-Ip"))
		assert.Empty(t, saw["X_real_ip"])
		assert.Empty(t, saw["X.real.ip"])
	}
}

func TestHeaderThatBeginsWithASignIsRemoved(t *testing.T) {
	w := newWorld(t, "-headers.user=_user")
	for _, name := range []string{"_user", "_User", "-user", "!USER"} {
		w.get("/open/", nil, name, "ann", "User-Agent", "")
		for saw := range w.upstream.last().Header {
			assert.NotContains(t, strings.ToLower(saw), "user", name)
		}
	}
}

func TestUpstreamThatDoesNotAnswer(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer upstream.Close()
	w := newWorldBefore(t, upstream.URL)
	reply := w.get("/", w.dss.SignIn("bob"))
	text, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	assert.Equal(t, 502, reply.StatusCode)
	assert.Equal(t, "The application does not answer.\n", string(text))
	assert.Equal(t, int64(len(text)), reply.ContentLength, "nothing is sent before the answer is complete")
	assert.Contains(t, w.log.String(), "the upstream does not answer")
}
