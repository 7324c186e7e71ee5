package server

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// signedOut ends ann's session, and makes the gateway notice it before its TTL
// ends.
func (w *world) signedOut(who *http.Cookie) {
	w.dss.SignOut(who)
	w.server.auth.ForgetUser("ann")
}

func TestWebsocketEndsWithTheSession(t *testing.T) {
	w := newWorld(t, "-ttl=200ms")
	w.upstream.mux.HandleFunc("GET /socket", func(rw http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(rw, r, nil)
		if !assert.NoError(t, err) {
			return
		}
		defer conn.CloseNow()
		for {
			kind, message, err := conn.Read(r.Context())
			if err != nil || conn.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	})
	ann := w.dss.SignIn("ann")
	dial := func(who *http.Cookie) (*websocket.Conn, *http.Response, error) {
		return websocket.Dial(t.Context(), w.url+"/socket", &websocket.DialOptions{HTTPHeader: http.Header{"Cookie": {who.String()}}})
	}
	conn, _, err := dial(ann)
	require.NoError(t, err)
	defer conn.CloseNow()
	assert.Equal(t, "ann", w.upstream.last().Header.Get("Remote-User"))
	require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte("hello")))
	_, message, err := conn.Read(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "hello", string(message))

	w.signedOut(ann)
	_, _, err = conn.Read(t.Context())
	assert.Error(t, err, "the session has ended")
	_, reply, err := dial(ann)
	require.Error(t, err)
	assert.Equal(t, 401, reply.StatusCode)
	assert.Eventually(t, func() bool { return strings.Contains(w.log.String(), `"path":"/socket","status":101`) }, time.Minute, time.Millisecond)
}

func TestEventStreamEndsWithTheSession(t *testing.T) {
	w := newWorld(t, "-ttl=200ms")
	ended := make(chan struct{})
	w.upstream.mux.HandleFunc("GET /events", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		fmt.Fprint(rw, "data: one\n\n")
		rw.(http.Flusher).Flush()
		<-r.Context().Done()
		close(ended)
	})
	ann := w.dss.SignIn("ann")
	reply := w.get("/events", ann)
	first := make([]byte, 11)
	_, err := io.ReadFull(reply.Body, first)
	require.NoError(t, err, "it is not kept back")
	assert.Equal(t, "data: one\n\n", string(first))
	w.signedOut(ann)
	_, err = io.ReadAll(reply.Body)
	assert.Error(t, err)
	<-ended
}

func TestOnlyWebsocketsAreUpgrades(t *testing.T) {
	w := newWorld(t)
	ann := w.dss.SignIn("ann")
	for _, protocol := range []string{"h2c", "websocket, h2c", "TLS/1.0", "HTTP/2.0"} {
		assert.Equal(t, 200, w.get("/page", ann, "Connection", "Upgrade, HTTP2-Settings", "Upgrade", protocol, "HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA").StatusCode, protocol)
		saw := w.upstream.last()
		assert.Empty(t, saw.Header["Upgrade"], protocol)
		assert.Empty(t, saw.Header["Connection"], protocol)
		assert.Equal(t, 400, w.get("/dssauth/check", ann, "Connection", "Upgrade", "Upgrade", protocol, "X-Original-Uri", "/page", "X-Original-Method", "GET").StatusCode, protocol)
	}
}

// The upload is still being sent when its answer begins.
func TestUploadsAreStreamed(t *testing.T) {
	w := newWorld(t)
	w.upstream.mux.HandleFunc("POST /upload", func(rw http.ResponseWriter, r *http.Request) {
		assert.NoError(t, http.NewResponseController(rw).EnableFullDuplex())
		first := make([]byte, 5)
		_, err := io.ReadFull(r.Body, first)
		assert.NoError(t, err)
		rw.WriteHeader(200)
		assert.NoError(t, http.NewResponseController(rw).Flush())
		n, err := io.Copy(io.Discard, r.Body)
		assert.NoError(t, err)
		fmt.Fprint(rw, n+5)
	})
	body, send := io.Pipe()
	go func() { _, _ = send.Write([]byte("first")) }()
	reply := w.do("POST", "/upload", w.dss.SignIn("bob"), body)
	require.Equal(t, 200, reply.StatusCode, "answered while the rest is not yet sent")
	go func() {
		defer send.Close()
		part := make([]byte, 1<<20)
		for range 64 {
			if _, err := send.Write(part); !assert.NoError(t, err) {
				return
			}
		}
	}()
	said, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprint(64<<20+5), string(said))
}

func TestHTTP2(t *testing.T) {
	w := newWorld(t)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := http.Client{Transport: &http.Transport{Protocols: protocols}}
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), "GET", w.url+"/page?a=1", nil)
	require.NoError(t, err)
	r.AddCookie(w.dss.SignIn("ann"))
	r.Header.Set("Remote_User", "bob")
	reply, err := client.Do(r)
	require.NoError(t, err)
	defer reply.Body.Close()
	assert.Equal(t, 2, reply.ProtoMajor)
	assert.Equal(t, "ann", w.upstream.last().Header.Get("Remote-User"))
	assert.NotContains(t, w.upstream.last().Header, "Remote_user")
	assert.Equal(t, "/page?a=1", w.upstream.last().Target)
}

func TestStopEndsStreams(t *testing.T) {
	w := newWorld(t)
	w.upstream.mux.HandleFunc("GET /events", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		rw.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	reply := w.get("/events", w.dss.SignIn("ann"))
	open := w.get("/open/", nil)
	w.server.end()
	_, err := io.ReadAll(reply.Body)
	assert.Error(t, err)
	assert.Equal(t, 200, open.StatusCode)
	assert.Equal(t, 503, w.get("/dssauth/readyz", nil).StatusCode)
	assert.Equal(t, 200, w.get("/dssauth/healthz", nil).StatusCode)
}
