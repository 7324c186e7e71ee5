package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

const lookups = "/auth/info-from-browser-headers"

type fixture struct {
	*testing.T
	ctx  context.Context
	dss  *dsstest.Server
	auth *dssauth.Middleware
	url  string
}

func newFixture(t *testing.T, stale time.Duration) *fixture {
	f := &fixture{T: t, dss: dsstest.NewServer(t)}
	for _, u := range dsstest.DemoUsers() {
		f.dss.AddUser(u)
	}
	var err error
	f.auth, err = dssauth.New(dssauth.Config{Client: f.dss.Client(), TTL: time.Second, StaleIfError: stale})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, f.auth.Close()) })
	chat := &chat{auth: f.auth, every: 100 * time.Millisecond}
	app := httptest.NewServer(chat.newRouter())
	t.Cleanup(app.Close)
	f.url = app.URL + "/chat"

	var cancel context.CancelFunc
	f.ctx, cancel = context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return f
}

func (f *fixture) dial(session *http.Cookie, origin string) (*websocket.Conn, *http.Response, error) {
	header := http.Header{"Origin": {origin}}
	if session != nil {
		header.Set("Cookie", session.Name+"="+session.Value)
	}
	return websocket.Dial(f.ctx, f.url, &websocket.DialOptions{HTTPHeader: header})
}

// connect opens a connection and sends a message over it.
func (f *fixture) connect(session *http.Cookie) *websocket.Conn {
	f.Helper()
	conn, _, err := f.dial(session, f.url)
	require.NoError(f, err)
	f.Cleanup(func() { conn.CloseNow() })
	f.talks(conn)
	return conn
}

func (f *fixture) talks(conn *websocket.Conn) {
	f.Helper()
	require.NoError(f, conn.Write(f.ctx, websocket.MessageText, []byte("hello")))
	_, answer, err := conn.Read(f.ctx)
	require.NoError(f, err)
	assert.Equal(f, "ann said: hello", string(answer))
}

// ends waits for the end of a connection and returns the reason.
func (f *fixture) ends(conn *websocket.Conn) websocket.CloseError {
	f.Helper()
	var closed websocket.CloseError
	_, _, err := conn.Read(f.ctx)
	require.ErrorAs(f, err, &closed)
	return closed
}

func TestRequestIsRefused(t *testing.T) {
	f := newFixture(t, 0)
	for name, row := range map[string]struct {
		session *http.Cookie
		origin  string
		status  int
	}{
		"a visitor without a session":    {nil, f.url, 401},
		"a reader":                       {f.dss.SignIn("bob"), f.url, 403},
		"an analyst lured by other site": {f.dss.SignIn("ann"), "https://evil.example", 403},
		"an analyst in a sandboxed page": {f.dss.SignIn("ann"), "null", 403},
	} {
		_, resp, err := f.dial(row.session, row.origin)
		require.Error(t, err, name)
		require.NotNil(t, resp, name)
		assert.Equal(t, row.status, resp.StatusCode, name)
	}
}

func TestConnectionEndsSoonAfter(t *testing.T) {
	for name, row := range map[string]struct {
		happens func(*fixture, *http.Cookie)
		want    websocket.CloseError
	}{
		"a sign-out": {
			func(f *fixture, session *http.Cookie) { f.dss.SignOut(session) },
			websocket.CloseError{Code: 4401, Reason: "you are signed out of DSS"}},
		"a sign-in as another user": {
			func(f *fixture, session *http.Cookie) { f.dss.AddSession(session.Name, session.Value, "admin") },
			websocket.CloseError{Code: 4401, Reason: "you are signed out of DSS"}},
		"the group is lost": {
			func(f *fixture, _ *http.Cookie) { f.dss.AddUser(dsstest.User{Login: "ann"}) },
			websocket.CloseError{Code: 4403, Reason: "you are no longer in the group analysts"}},
		"an outage": {
			func(f *fixture, _ *http.Cookie) { f.dss.SetDown(true) },
			websocket.CloseError{Code: 4503, Reason: "DSS cannot confirm your session"}},
		"the application ends": {
			func(f *fixture, _ *http.Cookie) { f.auth.Close() },
			websocket.CloseError{Code: 4503, Reason: "DSS cannot confirm your session"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, 0)
			session := f.dss.SignIn("ann")
			conn := f.connect(session)
			row.happens(f, session)
			asked := f.dss.Calls(lookups)
			assert.Equal(t, row.want, f.ends(conn))
			assert.LessOrEqual(t, f.dss.Calls(lookups), asked+2, "it lasted longer than one interval: DSS was asked several times")
		})
	}
}

func TestConnectionOutlastsAnOutage(t *testing.T) {
	f := newFixture(t, time.Hour)
	session := f.dss.SignIn("ann")
	conn := f.connect(session)
	asked := make(chan struct{}, 100)
	f.dss.Intercept("", -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		dsstest.Respond(http.StatusServiceUnavailable, "")(w, r, next)
		asked <- struct{}{}
	})
	for range 3 { // the lookup, and our own question twice
		select {
		case <-asked:
		case <-f.ctx.Done():
			t.Fatal("DSS was not asked")
		}
	}
	f.talks(conn)
	f.dss.Intercept("", 0, nil)
	f.dss.SignOut(session)
	assert.EqualValues(t, 4401, f.ends(conn).Code)
}
