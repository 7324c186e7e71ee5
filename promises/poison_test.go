package promises

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// A poison is the reaction of a firewall, a proxy or DSS to some bytes of a stranger,
// and to no others.
type poison struct {
	name string
	act  func(r *http.Request) (*http.Response, error)
	slow bool // it takes a place towards DSS for long
}

func respond(status int, headers ...string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		h := http.Header{"Content-Type": {"text/html"}}
		for i := 0; i < len(headers); i += 2 {
			h.Set(headers[i], headers[i+1])
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader("<html>")), Request: r}, nil
	}
}

func breaks(err error) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) { return nil, err }
}

// stall waits until r's caller gives up, or for d.
func stall(r *http.Request, d time.Duration) error {
	select {
	case <-r.Context().Done():
		return r.Context().Err()
	case <-time.After(d):
		return nil
	}
}

// body is a reply's body made of a function.
type body func([]byte) (int, error)

func (b body) Read(p []byte) (int, error) { return b(p) }
func (b body) Close() error               { return nil }

var errReset = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}

var poisons = []poison{
	{name: "502", act: respond(502)},
	{name: "503", act: respond(503)},
	{name: "503 with Retry-After", act: respond(503, "Retry-After", "3600")},
	{name: "504", act: respond(504)},
	{name: "429", act: respond(429)},
	{name: "429 with Retry-After", act: respond(429, "Retry-After", "3600")},
	{name: "a reset before the reply", act: breaks(errReset)},
	{name: "a reset within the reply", act: func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Request: r, Body: body(func([]byte) (int, error) { return 0, errReset })}, nil
	}},
	{name: "a TLS alert", act: breaks(&net.OpError{Op: "remote error", Err: tls.AlertError(40)})},
	{name: "a dripping reply", slow: true, act: func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Request: r, Body: body(func(p []byte) (int, error) {
			p[0] = ' '
			return 1, stall(r, time.Second)
		})}, nil
	}},
	{name: "no reply", slow: true, act: func(r *http.Request) (*http.Response, error) { return nil, stall(r, time.Hour) }},
	{name: "a slow 504", slow: true, act: func(r *http.Request) (*http.Response, error) {
		if err := stall(r, 3*time.Second); err != nil {
			return nil, err
		}
		return respond(504)(r)
	}},
}

// mine is a DSS behind something that poisons a stranger's bytes. It can be
// down itself, and takes some time for a reply.
type mine struct {
	*dsstest.DSS
	auth      *dssauth.Middleware
	questions askedTimes

	mu   sync.Mutex
	down func(*http.Request) (*http.Response, error)
}

// askedTimes are the moments at which our own question came.
type askedTimes struct {
	mu sync.Mutex
	at []time.Time
}

func (a *askedTimes) note() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = append(a.at, time.Now())
}

// least is the shortest time from one question to the next. After a cut
// connection, an immediate repeat is the same question.
func (a *askedTimes) least(cut bool) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	least := time.Hour
	for i := 1; i < len(a.at); i++ {
		if gap := a.at[i].Sub(a.at[i-1]); gap > 0 || !cut {
			least = min(least, gap)
		}
	}
	return least
}

func newMine(t *testing.T, p poison, c dssauth.Config) *mine {
	t.Helper()
	m := &mine{DSS: dsstest.New()}
	m.AddAPIKey(ownKey, "")
	for _, login := range []string{"ann", "bob", "newcomer"} {
		m.AddUser(dsstest.User{Login: login, Groups: []string{"analysts"}})
	}
	memory := inMemory(m.DSS)
	var err error
	c.Client, err = dss.New(dss.Config{URL: "https://dss.example", APIKey: ownKey, HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, ownInfoPath) {
			m.questions.note()
		}
		if down := m.outage(); down != nil {
			return down(r)
		}
		if strings.HasSuffix(r.URL.Path, lookupPath) {
			sent, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			if bytes.Contains(sent, []byte("poison")) {
				return p.act(r)
			}
			r = r.Clone(r.Context())
			r.Body = io.NopCloser(bytes.NewReader(sent))
		}
		return memory.RoundTrip(r)
	})}})
	require.NoError(t, err)
	m.SetLatency(20 * time.Millisecond)
	m.auth = newAuth(t, c)
	return m
}

func (m *mine) outage() func(*http.Request) (*http.Response, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.down
}

func (m *mine) is(down func(*http.Request) (*http.Response, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

// stranger sends six poisoned requests: ever new bytes, and the same again.
func (m *mine) stranger(visits *sync.WaitGroup, i int) {
	for j := range 6 {
		cookie := fmt.Sprintf("poison=%d", j)
		if j%2 == 0 {
			cookie = fmt.Sprintf("poison=%d-%d", i, j)
		}
		visits.Go(func() { who(m.auth, withCookies(cookie)) })
	}
}

const (
	poisonTick  = 50 * time.Millisecond // 120 poisoned requests a second
	poisonTicks = 550
)

func TestPoisonedRequestsDoNotAffectOthers(t *testing.T) {
	for _, p := range poisons {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMine(t, p, dssauth.Config{TTL: 2 * time.Second})
				ann := signedIn(m.DSS, "ann")
				require.Equal(t, "ann", who(m.auth, ann))
				var visits sync.WaitGroup
				var newcomers, known atomic.Int64
				for i := range poisonTicks {
					m.stranger(&visits, i)
					visits.Go(func() {
						if who(m.auth, signedIn(m.DSS, "newcomer")) == "newcomer" {
							newcomers.Add(1)
						}
					})
					visits.Go(func() {
						if who(m.auth, ann) == "ann" {
							known.Add(1)
						}
					})
					assert.False(t, m.auth.Stats().DSSDown)
					pass(poisonTick)
				}
				visits.Wait()
				t.Logf("figure: 120 requests a second that bring %s: %d of %d newcomers and %d of %d requests of a known visitor were served",
					p.name, newcomers.Load(), poisonTicks, known.Load(), poisonTicks)
				assert.EqualValues(t, poisonTicks, known.Load())
				if !p.slow {
					assert.GreaterOrEqual(t, newcomers.Load(), int64(poisonTicks*95/100))
				}
				assert.GreaterOrEqual(t, m.questions.least(false), time.Second)
			})
		})
	}
}

func TestOutageBesidePoisonedRequests(t *testing.T) {
	wrong, longest := 0, time.Duration(0)
	for _, p := range poisons {
		for name, down := range map[string]func(*http.Request) (*http.Response, error){
			"502":       respond(502),
			"no answer": func(r *http.Request) (*http.Response, error) { return nil, stall(r, time.Hour) },
			"a reset":   breaks(errReset),
		} {
			t.Run(p.name+", and DSS brings "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newMine(t, p, dssauth.Config{TTL: time.Second})
					ann, gone := signedIn(m.DSS, "ann"), m.SignIn("bob")
					bob := withCookies(gone.Name + "=" + gone.Value)
					require.Equal(t, "ann", who(m.auth, ann))
					require.Equal(t, "bob", who(m.auth, bob))
					m.SignOut(gone)
					var visits sync.WaitGroup
					ticks := func(d time.Duration, each func()) {
						for i := 0; i < int(d/poisonTick); i++ {
							m.stranger(&visits, i)
							each()
							pass(poisonTick)
						}
					}
					ticks(3*time.Second, func() {})
					m.is(down)
					pass(time.Second) // a TTL: earlier answers have ended
					var admitted atomic.Int64
					ticks(8*time.Second, func() {
						for _, r := range []*http.Request{ann, bob, signedIn(m.DSS, "newcomer")} {
							visits.Go(func() {
								if got := who(m.auth, r); got != "503" && m.outage() != nil {
									admitted.Add(1)
								}
							})
						}
					})
					assert.True(t, m.auth.Stats().DSSDown)
					m.is(nil)
					back := time.Now()
					var served, newcomer atomic.Int64
					ticks(6*time.Second, func() {
						visits.Go(func() {
							if who(m.auth, ann) == "ann" {
								served.CompareAndSwap(0, int64(time.Since(back)))
							}
						})
						visits.Go(func() {
							if who(m.auth, signedIn(m.DSS, "newcomer")) == "newcomer" {
								newcomer.CompareAndSwap(0, int64(time.Since(back)))
							}
						})
					})
					visits.Wait()
					if !p.slow { // otherwise the stranger holds the newcomers' places
						require.NotZero(t, newcomer.Load())
						assert.LessOrEqual(t, time.Duration(newcomer.Load()), 5*time.Second, "a newcomer")
					}
					wrong += int(admitted.Load())
					longest = max(longest, time.Duration(served.Load()))
					assert.Zero(t, admitted.Load())
					require.NotZero(t, served.Load(), "it comes back")
					assert.LessOrEqual(t, time.Duration(served.Load()), 5*time.Second)
					assert.GreaterOrEqual(t, m.questions.least(name == "a reset"), time.Second, "our own question is asked at most once a second")
					assert.Equal(t, "401", who(m.auth, bob))
				})
			})
		}
	}
	t.Logf("figure: %d wrong admissions in outages of DSS beside 120 poisoned requests a second, served again %s after their end at the latest", wrong, longest.Round(time.Millisecond))
}

func TestSignedOutVisitorIsOutDespitePoison(t *testing.T) {
	for _, p := range poisons {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMine(t, p, dssauth.Config{TTL: 2 * time.Second, StaleIfError: time.Hour})
				c := m.SignIn("ann")
				ann := withCookies(c.Name + "=" + c.Value)
				require.Equal(t, "ann", who(m.auth, ann))
				var visits sync.WaitGroup
				for i := range 200 {
					if i == 60 {
						m.SignOut(c)
					}
					m.stranger(&visits, i)
					if got := who(m.auth, ann); i > 60+int(2*time.Second/poisonTick) {
						require.NotEqual(t, "ann", got)
					}
					pass(poisonTick)
				}
				visits.Wait()
			})
		})
	}
}

func TestKnownVisitorIsServedInAnOutage(t *testing.T) {
	for name, down := range map[string]func(*http.Request) (*http.Response, error){
		"502":       respond(502),
		"a reset":   breaks(errReset),
		"no answer": func(r *http.Request) (*http.Response, error) { return nil, stall(r, time.Hour) },
	} {
		for _, timeout := range []time.Duration{3 * time.Second, 5 * time.Second, time.Minute} {
			t.Run(fmt.Sprint(name, ", Timeout ", timeout), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newMine(t, poisons[0], dssauth.Config{TTL: time.Second, StaleIfError: time.Minute, Timeout: timeout})
					ann := signedIn(m.DSS, "ann")
					require.Equal(t, "ann", who(m.auth, ann))
					m.is(down)
					pass(time.Second)
					for start := time.Now(); time.Since(start) < 30*time.Second; pass(100 * time.Millisecond) {
						asked := time.Now()
						require.Equal(t, "ann", who(m.auth, ann))
						require.LessOrEqual(t, time.Since(asked), 3500*time.Millisecond)
						if time.Since(start) > 5*time.Second {
							require.Zero(t, time.Since(asked), "at once")
						}
						require.Equal(t, "503", who(m.auth, signedIn(m.DSS, "bob")))
					}
				})
			})
		}
	}
}

// busyDSS has few workers. Each takes some time for every question.
type busyDSS struct {
	workers chan struct{}
	inner   http.RoundTripper
}

func (b *busyDSS) RoundTrip(r *http.Request) (*http.Response, error) {
	// DSS does the work whether its caller waits or not.
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.workers <- struct{}{}
		pass(400 * time.Millisecond)
		<-b.workers
	}()
	select {
	case <-done:
		return b.inner.RoundTrip(r)
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func TestBusyDSSDoesNotCountAsDown(t *testing.T) {
	for _, workers := range []int{4, 6} {
		for _, junk := range []int{0, 1, 20} { // to each tick
			t.Run(fmt.Sprint(workers, " workers, ", junk*20, " junk cookies a second"), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d, _ := newMemory(t)
					client, err := dss.New(dss.Config{URL: "https://dss.example", APIKey: ownKey, HTTPClient: &http.Client{
						Transport: &busyDSS{make(chan struct{}, workers), inMemory(d)}}})
					require.NoError(t, err)
					m := newAuth(t, dssauth.Config{Client: client, StaleIfError: time.Hour})
					var visitors []*http.Request
					for range 1000 { // far more than it can serve
						visitors = append(visitors, signedIn(d, "ann"))
					}
					var visits sync.WaitGroup
					served := atomic.Int64{}
					for i := range 1200 {
						for j := range 4 {
							visits.Go(func() {
								if who(m, visitors[(4*i+j)%len(visitors)]) == "ann" {
									served.Add(1)
								}
							})
						}
						for j := range junk {
							visits.Go(func() { who(m, browser(fmt.Sprint("junk", i, j))) })
						}
						require.False(t, m.Stats().DSSDown)
						pass(50 * time.Millisecond)
					}
					visits.Wait()
					assert.NotZero(t, served.Load())
				})
			})
		}
	}
}

// poisonedOnly applies f to lookups of a stranger's bytes.
func poisonedOnly(f dsstest.Interceptor) dsstest.Interceptor {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		sent, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(sent))
		if bytes.Contains(sent, []byte("poison")) {
			f(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}
}

func TestPoisonOnSocketsDoesNotAffectOthers(t *testing.T) {
	for name, f := range map[string]dsstest.Interceptor{
		"502":                      dsstest.Respond(502, "<html>"),
		"504 without a body":       dsstest.Respond(504, ""),
		"429 with Retry-After":     dsstest.Respond(429, "", "Retry-After", "60"),
		"a reset before the reply": dsstest.Reset,
		"a reset within the reply": dsstest.CutShort,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := dsstest.NewServer(t)
			d.AddUser(dsstest.User{Login: "ann"})
			d.Intercept(lookupPath, -1, poisonedOnly(f))
			m := newAuth(t, dssauth.Config{Client: d.Client()})
			ann := d.SignIn("ann")
			fromAnn := func() *http.Request { return withCookies(ann.Name + "=" + ann.Value) }
			require.Equal(t, "ann", who(m, fromAnn()))

			ctx, end := context.WithCancel(t.Context())
			var strangers sync.WaitGroup
			var sent atomic.Int64
			for range 4 {
				strangers.Go(func() {
					for ctx.Err() == nil {
						who(m, withCookies(fmt.Sprint("poison=", sent.Add(1))))
					}
				})
			}
			for range 60 {
				c := d.SignIn("ann")
				assert.Equal(t, "ann", who(m, withCookies(c.Name+"="+c.Value)), "a newcomer")
				assert.Equal(t, "ann", who(m, fromAnn()), "a known visitor")
				m.ForgetUser("ann") // so that the next request asks DSS
			}
			end()
			strangers.Wait()
			assert.False(t, m.Stats().DSSDown)
			t.Logf("%d poisoned requests", sent.Load())
		})
	}
}

// DSS may refuse junk quickly, and leave our own question unanswered: then the junk
// waits for that question without a place. The number of such lookups is bounded.
func TestWaitersForTheQuestionAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		m := newAuth(t, dssauth.Config{Client: client})
		d.Intercept(ownInfoPath, -1, dsstest.Hang)
		var answers []<-chan string
		for i := range 4 {
			for j := range 1000 {
				answers = append(answers, asks(m, browser(fmt.Sprint("junk", i, "-", j))))
			}
			synctest.Wait()
		}
		assert.Equal(t, 4000-1024, count(answers, refused), "the others are told at once")
		pass(3 * time.Second)
		synctest.Wait()
		assert.Equal(t, 1024, count(answers, refused))
	})
}
