package main

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/examples/internal/chromium"
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
	feed := &feed{auth: f.auth, every: 100 * time.Millisecond}
	app := httptest.NewServer(feed.newRouter())
	t.Cleanup(app.Close)
	f.url = app.URL + "/events"

	var cancel context.CancelFunc
	f.ctx, cancel = context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return f
}

func (f *fixture) open(session *http.Cookie, headers map[string]string) *http.Response {
	f.Helper()
	r, err := http.NewRequestWithContext(f.ctx, http.MethodGet, f.url, nil)
	require.NoError(f, err)
	if session != nil {
		r.AddCookie(session)
	}
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(f, err)
	f.Cleanup(func() { resp.Body.Close() })
	return resp
}

// stream is an event stream, as a browser reads it.
type stream struct {
	*fixture
	lines *bufio.Scanner
}

func (f *fixture) connect(session *http.Cookie) stream {
	f.Helper()
	resp := f.open(session, map[string]string{"Sec-Fetch-Site": "same-origin"})
	require.Equal(f, http.StatusOK, resp.StatusCode)
	s := stream{f, bufio.NewScanner(resp.Body)}
	require.Equal(f, "ann", s.next("hello"))
	return s
}

// next returns the data of the next event of a kind.
func (s stream) next(kind string) string {
	s.Helper()
	found := false
	for s.lines.Scan() {
		name, value, _ := strings.Cut(s.lines.Text(), ": ")
		switch {
		case name == "event":
			found = value == kind
		case name == "data" && found:
			return value
		}
	}
	require.Fail(s, "the stream ended", "waiting for %s: %v", kind, s.lines.Err())
	return ""
}

func TestRequestIsRefused(t *testing.T) {
	f := newFixture(t, 0)
	for name, row := range map[string]struct {
		session *http.Cookie
		headers map[string]string
		status  int
	}{
		"a visitor without a session":          {nil, nil, 401},
		"a reader":                             {f.dss.SignIn("bob"), nil, 403},
		"an analyst lured by other site":       {f.dss.SignIn("ann"), map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		"an analyst lured by neighbour":        {f.dss.SignIn("ann"), map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		"an analyst lured, in an old browser":  {f.dss.SignIn("ann"), map[string]string{"Origin": "https://evil.example"}, 403},
		"an analyst lured by a sandboxed page": {f.dss.SignIn("ann"), map[string]string{"Origin": "null"}, 403},
	} {
		assert.Equal(t, row.status, f.open(row.session, row.headers).StatusCode, name)
	}
}

func TestConnectionEndsSoonAfter(t *testing.T) {
	for name, row := range map[string]struct {
		happens func(*fixture, *http.Cookie)
		want    string
	}{
		"a sign-out": {
			func(f *fixture, session *http.Cookie) { f.dss.SignOut(session) }, "you are signed out of DSS"},
		"a sign-in as another user": {
			func(f *fixture, session *http.Cookie) { f.dss.AddSession(session.Name, session.Value, "admin") }, "you are signed out of DSS"},
		"the group is lost": {
			func(f *fixture, _ *http.Cookie) { f.dss.AddUser(dsstest.User{Login: "ann"}) }, "you are no longer in the group analysts"},
		"an outage": {
			func(f *fixture, _ *http.Cookie) { f.dss.SetDown(true) }, "DSS cannot confirm your session"},
		"the application ends": {
			func(f *fixture, _ *http.Cookie) { f.auth.Close() }, "DSS cannot confirm your session"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, 0)
			session := f.dss.SignIn("ann")
			s := f.connect(session)
			row.happens(f, session)
			asked := f.dss.Calls(lookups)
			assert.Equal(t, row.want, s.next("end"))
			assert.LessOrEqual(t, f.dss.Calls(lookups), asked+2, "it lasted longer than one interval: DSS was asked several times")
			for s.lines.Scan() {
				assert.Empty(t, s.lines.Text(), "more data follows the end")
			}
		})
	}
}

func TestConnectionOutlastsAnOutage(t *testing.T) {
	f := newFixture(t, time.Hour)
	session := f.dss.SignIn("ann")
	s := f.connect(session)
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
	assert.NotEmpty(t, s.next("time"))
	f.dss.Intercept("", 0, nil)
	f.dss.SignOut(session)
	assert.Equal(t, "you are signed out of DSS", s.next("end"))
}

func TestPageSaysThatItIsRefused(t *testing.T) {
	f := newFixture(t, 0)
	signIn := httptest.NewServer(f.dss.SignInPage()) // a cookie is for all ports
	t.Cleanup(signIn.Close)
	page := strings.TrimSuffix(f.url, "events")
	b := chromium.New(t)
	b.Do(chromedp.Navigate(signIn.URL))
	b.Clicks("#sign-in-eve")
	b.Do(chromedp.Navigate(page))
	b.Awaits("#status", "refused")

	b.Do(chromedp.Navigate(signIn.URL))
	b.Clicks("#sign-in-ann")
	b.Do(chromedp.Navigate(page))
	b.AwaitsThat(`/^\d+:\d+:\d+$/.test(document.querySelector("#status").innerText)`)
}
