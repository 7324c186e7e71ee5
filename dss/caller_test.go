package dss_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

func TestAsRefuses(t *testing.T) {
	server := newRecorder(t, replying(http.StatusOK, aliceInfo))
	for login, want := range map[string]string{
		"":              `dss: As: the login is empty or blank`,
		" ":             `dss: As: the login is empty or blank`,
		"\t\n":          `dss: As: the login is empty or blank`,
		" bob":          `dss: As: the login has spaces at its ends`,
		"bob ":          `dss: As: the login has spaces at its ends`,
		"bob\u00a0":     `dss: As: the login has spaces at its ends`,
		"bob\n":         `dss: As: the login has control characters`,
		"bob\r\nX-A: b": `dss: As: the login has control characters`,
		"bob\x00":       `dss: As: the login has control characters`,
		"bob\x7f":       `dss: As: the login has control characters`,
		"bo\u0085b":     `dss: As: the login has control characters`,
		"bo\xffb":       `dss: As: the login is not valid UTF-8`,
		"bo\ufffdb":     `dss: As: the login has the character U+FFFD`,
	} {
		c, err := server.client(t).As(login)
		assert.EqualError(t, err, want)
		assert.Nil(t, c)
	}
}

// dropping is a proxy before DSS that drops this header.
func dropping(t *testing.T, header string, next http.Handler) *httptest.Server {
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del(header)
		next.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return front
}

// actingDSS answers that the caller is the user in X-DKU-ProxyUser, or else the
// administrator.
func actingDSS(t *testing.T) *recorder {
	return newRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		login := "admin"
		if user := r.Header.Get("X-DKU-ProxyUser"); user != "" {
			login = user
		}
		io.WriteString(w, `{"authSource": "USER_FROM_UI", "authIdentifier": "`+login+`", "groups": []}`)
	})
}

const notVerified = "check of the user: DSS would act as another user; a proxy before it may drop X-DKU-ProxyUser"

// If the header does not reach DSS, each call would have the administrator's
// rights.
func TestAsVerifiedCallsNothingIfHeaderIsDropped(t *testing.T) {
	server := actingDSS(t)
	front := dropping(t, "X-DKU-ProxyUser", server.Config.Handler)
	asBob, err := newClient(t, front.URL).AsVerified("bob")
	require.NoError(t, err)
	assert.Empty(t, server.requests(), "no question before the first call")
	for n := range 2 {
		assert.EqualError(t, asBob.Do(t.Context(), "DELETE", "/x", nil, nil), "dss: DELETE /x: "+notVerified)
		_, err = asBob.Transport().RoundTrip(hostile(t, front.URL+"/x"))
		assert.EqualError(t, err, "dss: "+notVerified)
		require.Len(t, server.requests(), 2*(n+1), "each call asks again")
	}
	for _, r := range server.requests() {
		assert.Equal(t, "GET /dip/publicapi/auth/info?withSecrets=False", r.Method+" "+r.Target)
	}
}

func TestAsVerifiedAsksOnce(t *testing.T) {
	server := actingDSS(t)
	asBob, err := server.client(t).AsVerified("bob")
	require.NoError(t, err)
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() { assert.NoError(t, asBob.Do(t.Context(), "PUT", "/x", nil, nil)) })
	}
	all.Wait()
	require.NoError(t, asBob.Do(t.Context(), "PUT", "/x", nil, nil))
	checks := 0
	for i, r := range server.requests() {
		if r.Method == "GET" {
			assert.Zero(t, i, "the check comes first")
			checks++
		}
		assert.Equal(t, map[string][]string{"authorization": {basic(testKey)}, "x-dku-proxyuser": {"bob"}}, credentialHeaders(r.Header))
	}
	assert.Equal(t, 1, checks)
	assert.Len(t, server.requests(), 32)
}

// A server such as fasthttp uses the memory of its texts again.
func TestTextsOfBorrowedMemoryAreCopied(t *testing.T) {
	for name, act := range map[string]struct {
		was  string
		with func(c *dss.Client, text string) (*dss.Client, error)
		want map[string][]string
	}{
		"As":         {"bob", (*dss.Client).As, map[string][]string{"authorization": {basic(testKey)}, "x-dku-proxyuser": {"bob"}}},
		"AsVerified": {"bob", (*dss.Client).AsVerified, map[string][]string{"authorization": {basic(testKey)}, "x-dku-proxyuser": {"bob"}}},
		"WithTicket": {"ticket", (*dss.Client).WithTicket, map[string][]string{"x-dku-apiticket": {"ticket"}}},
		"WithTicketSource": {"ticket", func(c *dss.Client, text string) (*dss.Client, error) {
			c = c.WithTicketSource(func(context.Context) (string, error) { return text, nil })
			return c, c.Do(t.Context(), "GET", "/y", nil, nil)
		}, map[string][]string{"x-dku-apiticket": {"ticket"}}},
	} {
		t.Run(name, func(t *testing.T) {
			server := actingDSS(t)
			memory := []byte(act.was)
			c, err := act.with(server.client(t), unsafe.String(unsafe.SliceData(memory), len(memory)))
			require.NoError(t, err)
			copy(memory, "evil-one")
			require.NoError(t, c.Do(t.Context(), "PUT", "/x", nil, nil))
			all := server.requests()
			assert.Equal(t, act.want, credentialHeaders(all[len(all)-1].Header))
		})
	}
}

func TestAsVerifiedSendsNoCallOnDoubt(t *testing.T) {
	info := func(login string) string {
		return `{"authSource": "USER_FROM_UI", "authIdentifier": "` + login + `", "groups": []}`
	}
	for name, answer := range map[string]http.HandlerFunc{
		"another login":             replying(200, info("alice")),
		"the login in another case": replying(200, info("Bob")),
		"the login with a suffix":   replying(200, info("bob2")),
		"an API key of that name":   replying(200, `{"authSource": "GLOBAL_API_KEY", "authIdentifier": "bob"}`),
		"nobody":                    replying(200, `{"authIdentifier": ""}`),
		"a page":                    replying(200, "<html>bob"),
		"forbidden":                 replying(403, `{"errorType": "com.dataiku.dip.exceptions.UnauthorizedException"}`),
		"not authenticated":         replying(401, rejection),
		"a gateway that gave up":    replying(504, ""),
		"a redirect":                replying(302, ""),
		"an end of the connection":  func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			server := newRecorder(t, answer)
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			asBob, err := server.client(t).AsVerified("bob")
			require.NoError(t, err)
			err = asBob.Do(t.Context(), "GET", "/x", nil, nil)
			assert.ErrorContains(t, err, "dss: GET /x: check of the user: ")
			for _, r := range server.requests() {
				assert.Equal(t, "/dip/publicapi/auth/info?withSecrets=False", r.Target)
			}
		})
	}
}

func TestAsVerifiedFailsAndThenSucceeds(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	server := newRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if broken.Swap(false) {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		io.WriteString(w, `{"authSource": "USER_FROM_UI", "authIdentifier": "bob", "groups": []}`)
	})
	asBob, err := server.client(t).AsVerified("bob")
	require.NoError(t, err)
	assert.Error(t, asBob.Do(t.Context(), "GET", "/x", nil, nil))
	assert.NoError(t, asBob.Do(t.Context(), "GET", "/x", nil, nil))
	assert.NoError(t, asBob.Do(t.Context(), "GET", "/x", nil, nil))
	assert.Len(t, server.requests(), 4)
}

func TestAsVerifiedRefusesLikeAs(t *testing.T) {
	server := newRecorder(t, replying(http.StatusOK, aliceInfo))
	own := server.client(t)
	for login, want := range map[string]string{
		"":        `dss: AsVerified: the login is empty or blank`,
		"bob\r\n": `dss: AsVerified: the login has control characters`,
	} {
		c, err := own.AsVerified(login)
		assert.EqualError(t, err, want)
		assert.Nil(t, c)
	}
	const already = "this client acts as a user already; use the one it was made from"
	verified, err := own.AsVerified("bob")
	require.NoError(t, err)
	_, err = verified.As("alice")
	assert.EqualError(t, err, "dss: As: "+already)
	_, err = verified.AsVerified("bob")
	assert.EqualError(t, err, "dss: AsVerified: "+already)
	_, err = verified.WithTicket("ticket")
	assert.EqualError(t, err, "dss: WithTicket: "+already)
	assert.Equal(t, "dss.Client("+server.URL+", API key acting as a user, from Config)", verified.String())
	assert.Empty(t, server.requests())
}

func TestWithTicketRefuses(t *testing.T) {
	server := newRecorder(t, replying(http.StatusOK, aliceInfo))
	const unfit = "dss: WithTicket: the ticket has spaces, control or other characters that a header cannot carry"
	for ticket, want := range map[string]string{
		"":                                 "dss: WithTicket: the ticket is empty",
		" ":                                unfit,
		"canary ":                          unfit,
		"canary\r\nX-DKU-ProxyUser: admin": unfit,
		"canary\x00":                       unfit,
		"canäry":                           unfit,
		"canary\xff":                       unfit,
		strings.Repeat("c", 8<<10+1):       "dss: WithTicket: the ticket is longer than 8 KiB",
	} {
		c, err := server.client(t).WithTicket(ticket)
		assert.EqualError(t, err, want)
		assert.Nil(t, c)
	}
}

func TestActingClientActsAsOneUserOnly(t *testing.T) {
	server := newRecorder(t, replying(http.StatusOK, aliceInfo))
	own := server.client(t)
	asBob, err := own.As("bob")
	require.NoError(t, err)
	byTicket, err := own.WithTicket("ticket")
	require.NoError(t, err)
	bySource := own.WithTicketSource(func(context.Context) (string, error) { return "ticket", nil })
	broken := own.WithTicketSource(nil)
	for name, c := range map[string]*dss.Client{"As": asBob, "WithTicket": byTicket, "WithTicketSource": bySource, "no source": broken} {
		t.Run(name, func(t *testing.T) {
			const already = "this client acts as a user already; use the one it was made from"
			_, err := c.As("alice")
			assert.EqualError(t, err, "dss: As: "+already)
			_, err = c.WithTicket("another")
			assert.EqualError(t, err, "dss: WithTicket: "+already)
			asked := false
			next := c.WithTicketSource(func(context.Context) (string, error) { asked = true; return "another", nil })
			_, err = next.AuthInfo(t.Context())
			assert.EqualError(t, err, "dss: GET /auth/info: WithTicketSource: "+already)
			_, err = next.Transport().RoundTrip(hostile(t, server.URL+"/x"))
			assert.EqualError(t, err, "dss: WithTicketSource: "+already)
			assert.False(t, asked)
		})
	}
	_, err = broken.AuthInfo(t.Context())
	assert.EqualError(t, err, "dss: GET /auth/info: WithTicketSource: the source is nil")
	assert.Empty(t, server.requests(), "calls")
}

// ticketDSS is a DSS that knows some tickets.
type ticketDSS struct {
	*recorder
	mu    sync.Mutex
	valid map[string]bool
}

func newTicketDSS(t *testing.T, valid ...string) *ticketDSS {
	d := &ticketDSS{valid: map[string]bool{}}
	for _, ticket := range valid {
		d.valid[ticket] = true
	}
	d.recorder = newRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		ok := d.valid[r.Header.Get("X-DKU-APITicket")]
		d.mu.Unlock()
		if !ok {
			w.WriteHeader(http.StatusUnauthorized)
			io.WriteString(w, rejection)
			return
		}
		io.WriteString(w, aliceInfo)
	})
	return d
}

func (d *ticketDSS) expire(ticket string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.valid, ticket)
}

// tickets are the tickets that DSS got, in order. The test fails if a call came
// with other credentials.
func (d *ticketDSS) tickets(t *testing.T) []string {
	var tickets []string
	for _, r := range d.requests() {
		found := credentialHeaders(r.Header)
		require.Len(t, found, 1, "a call that is not by a ticket alone: %v", r)
		tickets = append(tickets, found["x-dku-apiticket"]...)
	}
	return tickets
}

// giving returns a source that gives these tickets, one after the other, and
// then repeats the last.
func giving(asked *atomic.Int32, tickets ...string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		return tickets[min(int(asked.Add(1)), len(tickets))-1], nil
	}
}

func TestATicketIsFetchedOnceAndKept(t *testing.T) {
	d := newTicketDSS(t, "one")
	var asked atomic.Int32
	c := d.client(t).WithTicketSource(giving(&asked, "one"))
	assert.Zero(t, asked.Load(), "fetched before the first call")
	for range 3 {
		_, err := c.AuthInfo(t.Context())
		require.NoError(t, err)
	}
	assert.Equal(t, []string{"one", "one", "one"}, d.tickets(t))
	assert.Equal(t, int32(1), asked.Load())
}

func TestARejectedTicketIsReplacedOnce(t *testing.T) {
	for name, row := range map[string]struct {
		valid   []string
		gives   []string
		sent    []string // by the call after "one" expired
		fetches int32
		fails   bool
	}{
		"by a good one":                   {[]string{"one", "two"}, []string{"one", "two"}, []string{"one", "two"}, 2, false},
		"by one that is also rejected":    {[]string{"one", "three"}, []string{"one", "two", "three"}, []string{"one", "two"}, 2, true},
		"by the same one: the call fails": {[]string{"one"}, []string{"one", "one"}, []string{"one"}, 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			d := newTicketDSS(t, row.valid...)
			var asked atomic.Int32
			c := d.client(t).WithTicketSource(giving(&asked, row.gives...))
			_, err := c.AuthInfo(t.Context())
			require.NoError(t, err)
			d.expire("one")

			_, err = c.AuthInfo(t.Context())
			assert.Equal(t, append([]string{"one"}, row.sent...), d.tickets(t))
			assert.Equal(t, row.fetches, asked.Load())
			if row.fails {
				var e *dss.Error
				require.ErrorAs(t, err, &e)
				assert.True(t, e.NotAuthenticated())
				assert.Equal(t, "Unknown API Key", e.Message(), "the whole reply is passed on")
				return
			}
			assert.NoError(t, err)
		})
	}
}

func TestTwiceRejectedTicketIsFetchedAnew(t *testing.T) {
	d := newTicketDSS(t, "three")
	var asked atomic.Int32
	c := d.client(t).WithTicketSource(giving(&asked, "one", "two", "three"))
	_, err := c.AuthInfo(t.Context())
	require.Error(t, err)
	_, err = c.AuthInfo(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"one", "two", "three"}, d.tickets(t))
}

func TestOnlyDSSItselfRejectsATicket(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"a proxy's page":     replying(http.StatusUnauthorized, "<html>NotAuthenticatedException"),
		"another error":      replying(http.StatusUnauthorized, `{"errorType": "com.dataiku.dip.exceptions.UnauthorizedException"}`),
		"forbidden":          replying(http.StatusForbidden, rejection),
		"broken":             replying(http.StatusInternalServerError, rejection),
		"in 200":             replying(http.StatusOK, rejection),
		"cut short":          replying(http.StatusUnauthorized, rejection[:len(rejection)-2]),
		"nothing":            replying(http.StatusUnauthorized, ""),
		"something after it": replying(http.StatusUnauthorized, rejection+"{}"),
	} {
		t.Run(name, func(t *testing.T) {
			server := newRecorder(t, answer)
			var asked atomic.Int32
			c := server.client(t).WithTicketSource(giving(&asked, "one", "two"))
			for range 2 {
				_, err := c.AuthInfo(t.Context())
				require.Error(t, err)
			}
			assert.Equal(t, int32(1), asked.Load())
			assert.Len(t, server.requests(), 2)
		})
	}
}

func TestRewindableBodyIsSentAgain(t *testing.T) {
	for name, row := range map[string]struct {
		in   any
		body string
		once bool
	}{
		"none":             {nil, "", false},
		"JSON":             {map[string]int{"a": 1}, `{"a":1}`, false},
		"a known reader":   {strings.NewReader("text"), "text", false},
		"any other reader": {io.MultiReader(strings.NewReader("text")), "text", true},
	} {
		t.Run(name, func(t *testing.T) {
			d := newTicketDSS(t, "two")
			var asked atomic.Int32
			c := d.client(t).WithTicketSource(giving(&asked, "one", "two"))
			err := c.Do(t.Context(), "POST", "/x", row.in, nil)
			for _, r := range d.requests() {
				assert.Equal(t, row.body, r.Body)
			}
			if row.once {
				assert.Error(t, err)
				assert.Equal(t, []string{"one"}, d.tickets(t))
				assert.NoError(t, c.Do(t.Context(), "POST", "/x", nil, nil), "the next call has a new ticket")
			} else {
				assert.NoError(t, err)
			}
			assert.Equal(t, []string{"one", "two"}, d.tickets(t))
		})
	}
}

func TestNothingIsSentWithoutATicket(t *testing.T) {
	signedOut := errors.New("signed out")
	for name, row := range map[string]struct {
		source func(context.Context) (string, error)
		want   string
		is     error
	}{
		"the source fails":       {func(context.Context) (string, error) { return "", signedOut }, "ticket source: signed out", signedOut},
		"it fails and gives one": {func(context.Context) (string, error) { return "canary", signedOut }, "ticket source: signed out", signedOut},
		"it gives an empty one":  {func(context.Context) (string, error) { return "", nil }, "ticket source: the ticket is empty", nil},
		"it gives one with a line end": {func(context.Context) (string, error) { return "canary\r\nX-DKU-ProxyUser: admin", nil },
			"ticket source: the ticket has spaces, control or other characters that a header cannot carry", nil},
		"it panics":             {func(context.Context) (string, error) { panic("canary") }, "ticket source: it panicked", nil},
		"it panics with nil":    {func(context.Context) (string, error) { panic(nil) }, "ticket source: it panicked", nil},
		"it ends its goroutine": {func(context.Context) (string, error) { runtime.Goexit(); return "canary", nil }, "ticket source: it gave no ticket", nil},
	} {
		t.Run(name, func(t *testing.T) {
			server := newRecorder(t, replying(http.StatusOK, aliceInfo))
			c := server.client(t).WithTicketSource(row.source)
			for range 2 {
				_, err := c.AuthInfo(t.Context())
				assert.EqualError(t, err, "dss: GET /auth/info: "+row.want)
				if row.is != nil {
					assert.ErrorIs(t, err, row.is)
				}
				_, err = c.Transport().RoundTrip(hostile(t, server.URL+"/x"))
				assert.EqualError(t, err, "dss: "+row.want)
			}
			assert.Empty(t, server.requests(), "calls")
		})
	}
}

func TestNothingIsSentAfterSourceFails(t *testing.T) {
	d := newTicketDSS(t, "one")
	signedOut := errors.New("signed out")
	var asked atomic.Int32
	c := d.client(t).WithTicketSource(func(context.Context) (string, error) {
		if asked.Add(1) == 1 {
			return "one", nil
		}
		return "", signedOut
	})
	_, err := c.AuthInfo(t.Context())
	require.NoError(t, err)
	d.expire("one")
	_, err = c.AuthInfo(t.Context())
	assert.ErrorIs(t, err, signedOut)
	assert.Equal(t, []string{"one", "one"}, d.tickets(t))
}

func TestFailedSourceIsAskedOnceACall(t *testing.T) {
	asked := 0
	c := fakeClient(t, func(*http.Request) (*http.Response, error) { return reply(200, aliceInfo), nil }).
		WithTicketSource(func(context.Context) (string, error) { asked++; return "", io.EOF })
	_, err := c.AuthInfo(t.Context())
	assert.ErrorIs(t, err, io.EOF)
	assert.Equal(t, 1, asked)
}

func TestConcurrentCallsShareATicket(t *testing.T) {
	d := newTicketDSS(t, "two")
	var asked atomic.Int32
	const calls = 50
	c := d.client(t).WithTicketSource(giving(&asked, "one", "two"))
	var all sync.WaitGroup
	for range calls {
		all.Go(func() { assert.NoError(t, second(c.AuthInfo(t.Context()))) })
	}
	all.Wait()
	assert.Equal(t, int32(2), asked.Load(), "fetches")
}

func TestWaitForTicketEndsWithItsCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked, sent int
		release := make(chan struct{})
		c := fakeClient(t, func(req *http.Request) (*http.Response, error) {
			sent++
			assert.Equal(t, "one", req.Header.Get("X-DKU-APITicket"))
			return reply(200, aliceInfo), nil
		}).WithTicketSource(func(ctx context.Context) (string, error) {
			asked++
			deadline, ok := ctx.Deadline()
			assert.True(t, ok)
			assert.Equal(t, 30*time.Second, time.Until(deadline))
			<-release
			assert.NoError(t, ctx.Err(), "the fetch outlives the first call")
			return "one", nil
		})
		first, cancel := context.WithCancel(t.Context())
		results := map[string]chan error{"first": make(chan error, 1), "second": make(chan error, 1)}
		go func() { results["first"] <- second(c.AuthInfo(first)) }()
		synctest.Wait()
		go func() { results["second"] <- second(c.AuthInfo(t.Context())) }()
		synctest.Wait()

		cancel()
		assert.ErrorIs(t, <-results["first"], context.Canceled)
		close(release)
		assert.NoError(t, <-results["second"])
		assert.Equal(t, 1, asked, "fetches")
		assert.Equal(t, 1, sent, "calls")

		// A call whose context has ended before it begins sends nothing.
		assert.ErrorIs(t, second(c.AuthInfo(first)), context.Canceled)
		assert.Equal(t, 1, sent, "calls")
	})
}

func TestTicketIsKeptWithoutWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c := fakeClient(t, func(*http.Request) (*http.Response, error) { return reply(200, aliceInfo), nil }).
			WithTicketSource(func(context.Context) (string, error) {
				asked++
				<-time.After(10 * time.Second)
				return "one", nil
			})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.ErrorIs(t, second(c.AuthInfo(ctx)), context.DeadlineExceeded)
		<-time.After(20 * time.Second)
		start := time.Now()
		assert.NoError(t, second(c.AuthInfo(t.Context())))
		assert.Zero(t, time.Since(start))
		assert.Equal(t, 1, asked)
	})
}

// A compressed reply must not hide a rejection.
func TestARejectionIsSeenThroughTransport(t *testing.T) {
	d := newTicketDSS(t, "two")
	var asked atomic.Int32
	c := d.client(t).WithTicketSource(giving(&asked, "one", "two"))
	req, err := http.NewRequestWithContext(t.Context(), "GET", d.URL+"/dip/publicapi/x", nil)
	require.NoError(t, err)
	req.Header.Set("Accept-Encoding", "br, gzip")
	got, err := c.Transport().RoundTrip(req)
	require.NoError(t, err)
	defer got.Body.Close()
	assert.Equal(t, http.StatusOK, got.StatusCode)
	assert.Equal(t, []string{"one", "two"}, d.tickets(t))
	assert.NotContains(t, d.last(t).Header.Get("Accept-Encoding"), "br")
}

func TestTextOfASourcesErrorMayPanic(t *testing.T) {
	c := newRecorder(t, replying(http.StatusOK, "{}")).client(t).WithTicketSource(func(context.Context) (string, error) { return "", &panicking{} })
	err := c.Do(t.Context(), "GET", "/x", nil, nil)
	require.ErrorIs(t, err, dss.ErrNoCredentials)
	assert.Equal(t, "dss: GET /x: ticket source: it panicked", err.Error())
}
