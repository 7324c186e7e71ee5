package dss_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

// keyedDSS accepts one API key, and knows no browser. It answers without a
// socket, so that time can be virtual.
type keyedDSS struct {
	mu    sync.Mutex
	key   string
	calls []string // "key method path", and the user that it acts as
}

func (d *keyedDSS) RoundTrip(r *http.Request) (*http.Response, error) {
	key, _, _ := r.BasicAuth()
	if r.Body != nil {
		io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	as := r.Header.Get("X-DKU-ProxyUser")
	d.calls = append(d.calls, strings.TrimSpace(fmt.Sprint(key, " ", r.Method, " ", strings.TrimPrefix(r.URL.Path, "/dip/publicapi"), " ", as)))
	if key != d.key || strings.HasSuffix(r.URL.Path, "browser-headers") {
		return reply(401, rejection), nil
	}
	if as == "" {
		as = "alice"
	}
	return reply(200, fmt.Sprintf(`{"authSource": "USER_FROM_UI", "authIdentifier": %q, "groups": [], "login": %[1]q}`, as)), nil
}

func (d *keyedDSS) accept(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.key = key
}

func (d *keyedDSS) seen() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	seen := d.calls
	d.calls = nil
	return seen
}

// keyMaker is an APIKeySource whose keys a test chooses.
type keyMaker struct {
	mu    sync.Mutex
	give  func(context.Context) (string, error)
	asked int
}

func gives(key string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return key, nil }
}

func (m *keyMaker) source(ctx context.Context) (string, error) {
	m.mu.Lock()
	m.asked++
	give := m.give
	m.mu.Unlock()
	return give(ctx)
}

func (m *keyMaker) set(give func(context.Context) (string, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.give = give
}

func (m *keyMaker) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked
}

// newKeyed is a client with a source of keys. The first key is "one".
func newKeyed(t *testing.T) (*dss.Client, *keyedDSS, *keyMaker) {
	d, m := &keyedDSS{key: "one"}, &keyMaker{give: gives("one")}
	c, err := dss.New(dss.Config{URL: "https://dss.example", APIKeySource: m.source, HTTPClient: &http.Client{Transport: d}})
	require.NoError(t, err)
	require.Equal(t, 1, m.count(), "at the start")
	require.Empty(t, d.seen(), "DSS is not called")
	return c, d, m
}

func TestRejectedKeyIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d, m := newKeyed(t)
		verified, err := c.AsVerified("bob")
		require.NoError(t, err)
		as, err := c.As("ann")
		require.NoError(t, err)
		for _, client := range []*dss.Client{c, verified, as} {
			_, err := client.AuthInfo(t.Context())
			require.NoError(t, err)
		}
		assert.Equal(t, []string{"one GET /auth/info", "one GET /auth/info bob", "one GET /auth/info bob", "one GET /auth/info ann"}, d.seen())
		require.Equal(t, 1, m.count())

		<-time.After(time.Second)
		d.accept("two")
		m.set(gives("two"))
		info, err := as.AuthInfo(t.Context())
		require.NoError(t, err, "the caller notices nothing")
		assert.Equal(t, "ann", info.Login())
		assert.Equal(t, []string{"one GET /auth/info ann", "two GET /auth/info ann"}, d.seen())

		require.NoError(t, c.Do(t.Context(), "PUT", "/x", map[string]int{"a": 1}, nil))
		_, err = verified.User(t.Context(), "bob")
		require.NoError(t, err)
		assert.Equal(t, []string{"two PUT /x", "two GET /auth/info bob", "two GET /users/bob bob"}, d.seen(), "copies share the key, and are verified with it")
		assert.Equal(t, 2, m.count())

		<-time.After(time.Second)
		d.accept("three")
		m.set(gives("three"))
		req, err := http.NewRequestWithContext(t.Context(), "GET", c.URL()+"/dip/publicapi/y", nil)
		require.NoError(t, err)
		resp, err := verified.Transport().RoundTrip(req)
		require.NoError(t, err)
		resp.Body.Close()
		assert.Equal(t, 200, resp.StatusCode)
		assert.Equal(t, []string{"two GET /y bob", "three GET /auth/info bob", "three GET /y bob"}, d.seen())
	})
}

// A body that cannot be sent twice is sent once, and the next call has the new
// key.
func TestRejectedKeyIsReplacedForTheNextCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d, m := newKeyed(t)
		<-time.After(time.Second)
		d.accept("two")
		m.set(gives("two"))
		err := c.Do(t.Context(), "POST", "/x", io.MultiReader(strings.NewReader("once")), nil)
		var e *dss.Error
		require.ErrorAs(t, err, &e)
		assert.True(t, e.NotAuthenticated())
		require.NoError(t, c.Do(t.Context(), "POST", "/x", strings.NewReader("again"), nil))
		assert.Equal(t, []string{"one POST /x", "two POST /x"}, d.seen())
	})
}

func TestKeySourceIsAskedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d, m := newKeyed(t)
		d.accept("")
		m.set(gives("two")) // which DSS does not accept either
		asked := []int{}
		for range 31 {
			var calls sync.WaitGroup
			for range 20 {
				calls.Go(func() {
					_, err := c.AuthInfo(t.Context())
					assert.ErrorContains(t, err, "401")
				})
			}
			calls.Wait()
			asked = append(asked, m.count())
			m.set(gives(fmt.Sprint("key", m.count())))
			<-time.After(100 * time.Millisecond)
		}
		assert.Equal(t, 1, asked[9], "a second after the start")
		assert.Equal(t, 2, asked[10])
		assert.Equal(t, 3, asked[20])
		assert.Equal(t, 4, asked[30])
		d.seen()
	})
}

func TestKeySourceIsAskedOneQuestionAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d, m := newKeyed(t)
		<-time.After(time.Minute)
		d.accept("two")
		var under, most int
		m.set(func(context.Context) (string, error) {
			m.mu.Lock()
			under++
			most = max(most, under)
			m.mu.Unlock()
			<-time.After(900 * time.Millisecond)
			m.mu.Lock()
			under--
			m.mu.Unlock()
			return "two", nil
		})
		var calls sync.WaitGroup
		for i := range 100 {
			calls.Go(func() {
				<-time.After(time.Duration(i) * time.Millisecond)
				_, err := c.AuthInfo(t.Context())
				assert.NoError(t, err)
			})
		}
		calls.Wait()
		assert.Equal(t, 2, m.count())
		assert.Equal(t, 1, most)
	})
}

// DSS gives the same answer if it does not know the browser and if it does not
// know us.
func TestBrowserQuestionsDoNotAskTheKeySource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d, m := newKeyed(t)
		m.set(gives("two"))
		browser := http.Header{"Cookie": {"a=1"}}
		ask := func() {
			<-time.After(time.Minute)
			_, err := c.AuthInfoFromBrowserHeaders(t.Context(), browser)
			assert.EqualError(t, err, "dss: 401 com.dataiku.dip.exceptions.NotAuthenticatedException")
			_, err = c.TicketFromBrowserHeaders(t.Context(), browser)
			assert.EqualError(t, err, "dss: 401 com.dataiku.dip.exceptions.NotAuthenticatedException")
			err = c.Do(t.Context(), "POST", "/auth/info-from-browser-headers?withSecrets=True", browser, nil)
			assert.EqualError(t, err, "dss: 401 com.dataiku.dip.exceptions.NotAuthenticatedException")
		}
		ask()
		assert.Len(t, d.seen(), 3, "and none of them is repeated")
		d.accept("two")
		ask()
		assert.Len(t, d.seen(), 3)
		assert.Equal(t, 1, m.count())
	})
}

// Another call replaced the key during this call.
func TestBrowserQuestionIsRetriedWithReplacedKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &keyMaker{give: gives("one")}
		d := &keyedDSS{key: "two"}
		var c *dss.Client
		late := fakeTransport(func(r *http.Request) (*http.Response, error) {
			reply, err := d.RoundTrip(r)
			if key, _, _ := r.BasicAuth(); key == "one" && strings.HasSuffix(r.URL.Path, "browser-headers") {
				_, other := c.AuthInfo(context.Background())
				assert.NoError(t, other)
			}
			return reply, err
		})
		c, err := dss.New(dss.Config{URL: "https://dss.example", APIKeySource: m.source, HTTPClient: &http.Client{Transport: late}})
		require.NoError(t, err)
		<-time.After(time.Second)
		m.set(gives("two"))
		_, err = c.AuthInfoFromBrowserHeaders(t.Context(), http.Header{"Cookie": {"a=1"}})
		assert.Error(t, err)
		assert.Equal(t, []string{"one POST /auth/info-from-browser-headers", "one GET /auth/info", "two GET /auth/info",
			"two POST /auth/info-from-browser-headers"}, d.seen())
	})
}

// panicking is an error that cannot be read.
type panicking struct{}

func (*panicking) Error() string { panic("canary") }

// badSources give no key. The field's name is in front of their errors.
var badSources = map[string]struct {
	give func(context.Context) (string, error)
	want string
}{
	"fails": {func(context.Context) (string, error) { return "", errors.New("the vault\nis sealed") }, "the vault is sealed"},
	"fails, and its error quotes the key": {func(context.Context) (string, error) { return "canary", errors.New("no more canary") },
		"no more [redacted]"},
	"panics":            {func(context.Context) (string, error) { panic("canary") }, "it panicked"},
	"fails, unreadably": {func(context.Context) (string, error) { return "", &panicking{} }, "it panicked"},
	"ends the goroutine": {func(context.Context) (string, error) { runtime.Goexit(); return "canary", nil },
		"it gave no API key"},
	"is empty":             {gives(""), "the API key is empty"},
	"is not printable":     {gives("canary\x00"), "the API key has spaces, line ends or other characters that no key has"},
	"has a line end":       {gives("canary\n"), "the API key has spaces, line ends or other characters that no key has"},
	"is not ASCII":         {gives("canäry"), "the API key has spaces, line ends or other characters that no key has"},
	"has a colon":          {gives("canary:x"), "the API key has a colon, which ends the user name in HTTP Basic authentication"},
	"takes until the end":  {func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }, "context deadline exceeded"},
	"fails with long text": {func(context.Context) (string, error) { return "", errors.New(strings.Repeat("x", 400)) }, strings.Repeat("x", 300) + "…"},
}

func TestKeySourceFailsAtTheStart(t *testing.T) {
	for name, row := range badSources {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, err := dss.New(dss.Config{URL: "https://dss.example", APIKeySource: row.give})
				assert.Nil(t, c)
				if name == "takes until the end" { // at the same time
					assert.ErrorContains(t, err, "dss: Config.APIKeySource: ")
				} else {
					assert.EqualError(t, err, "dss: Config.APIKeySource: "+row.want)
				}
				assert.NotContains(t, err.Error(), "canary")
			})
		})
	}
}

func TestKeySourceIgnoresItsDeadlineAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := make(chan struct{})
		start := time.Now()
		_, err := dss.New(dss.Config{URL: "https://dss.example", APIKeySource: func(context.Context) (string, error) { <-end; return "k", nil }})
		assert.EqualError(t, err, "dss: Config.APIKeySource: it gave no API key within 5s")
		assert.Equal(t, 5*time.Second, time.Since(start))
		close(end)
	})
}

// The current key stays in use, and the next question may bring another one.
func TestKeySourceFailsLater(t *testing.T) {
	for name, row := range badSources {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, d, m := newKeyed(t)
				m.set(row.give)
				<-time.After(time.Second)
				d.accept("two")
				start := time.Now()
				_, err := c.AuthInfo(t.Context())
				want := "Config.APIKeySource: " + row.want
				if name == "takes until the end" {
					want = "Config.APIKeySource: it has not answered yet"
					assert.Equal(t, time.Second, time.Since(start), "no call waits longer")
				} else {
					assert.Equal(t, start, time.Now())
				}
				assert.EqualError(t, err, "dss: 401 com.dataiku.dip.exceptions.NotAuthenticatedException: "+want)
				var e *dss.Error
				require.ErrorAs(t, err, &e)
				assert.True(t, e.NotAuthenticated())
				assert.NotErrorIs(t, err, context.DeadlineExceeded, "DSS answered in time")
				for _, shown := range []any{err, c, *e} {
					assert.NotContains(t, prints(shown), "canary")
				}

				d.accept("one")
				_, err = c.AuthInfo(t.Context())
				assert.NoError(t, err, "the old key")
				d.accept("three")
				m.set(gives("three"))
				<-time.After(5 * time.Second)
				_, err = c.AuthInfo(t.Context())
				assert.NoError(t, err)
			})
		})
	}
}

func TestErrorOfAKeySourceHidesTheCurrentKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d, m := newKeyed(t)
		m.set(func(context.Context) (string, error) { return "", errors.New("nothing newer than one") })
		<-time.After(time.Second)
		d.accept("two")
		_, err := c.AuthInfo(t.Context())
		assert.EqualError(t, err, "dss: 401 com.dataiku.dip.exceptions.NotAuthenticatedException: Config.APIKeySource: nothing newer than [redacted]")
	})
}

func TestKeySourceGivesTheSameKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d, m := newKeyed(t)
		<-time.After(time.Second)
		d.accept("two")
		for range 2 {
			_, err := c.AuthInfo(t.Context())
			assert.EqualError(t, err, "dss: 401 com.dataiku.dip.exceptions.NotAuthenticatedException: Config.APIKeySource: it gave the same API key again")
		}
		assert.Equal(t, 2, m.count())
		assert.Len(t, d.seen(), 2)
	})
}

func TestWrongCredentialSettings(t *testing.T) {
	for want, cfg := range map[string]dss.Config{
		"dss: Config.APIKey and Config.APIKeySource are both set; set one of them": {APIKey: "canary", APIKeySource: gives("canary")},
		"dss: Config.Ticket and Config.APIKeySource are both set; set one of them": {Ticket: "canary", APIKeySource: gives("canary")},
	} {
		cfg.URL = "https://dss.example"
		_, err := dss.New(cfg)
		assert.EqualError(t, err, want)
	}
	assert.Equal(t, `dss.Config{URL: "https://dss.example", API key from a source}`,
		fmt.Sprintf("%+v", dss.Config{URL: "https://dss.example", APIKeySource: gives("canary")}))
}

// A source's key is never printed.
func TestNothingPrintsAKeyOfASource(t *testing.T) {
	d := &keyedDSS{key: "canary-key"}
	c, err := dss.New(dss.Config{URL: "https://dss.example", APIKeySource: gives("canary-key"), HTTPClient: &http.Client{Transport: d}})
	require.NoError(t, err)
	as, err := c.As("bob")
	require.NoError(t, err)
	verified, err := c.AsVerified("bob")
	require.NoError(t, err)
	_, err = verified.AuthInfo(t.Context())
	require.NoError(t, err)
	for _, v := range []any{c, *c, as, *as, verified, *verified, struct{ c dss.Client }{*c}, struct{ c dss.Client }{*verified}} {
		printed := prints(v, "%p", "%w")
		assert.NotContains(t, printed, "canary")
		assert.NotContains(t, printed, "Y2FuYXJ5") // in base64
	}
	assert.Equal(t, "dss.Client(https://dss.example, API key from Config.APIKeySource, from Config)", c.String())
}
