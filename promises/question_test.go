package promises

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
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

// watched is a fake DSS that notes when our own question and lookups came, as
// time since it was made.
type watched struct {
	*dsstest.DSS
	client *dss.Client
	start  time.Time

	mu    sync.Mutex
	times map[string][]time.Duration // path → when it was called
	wire  map[string]error           // path → how its calls break before DSS
}

func newWatched(t *testing.T) *watched {
	t.Helper()
	w := &watched{start: time.Now(), times: map[string][]time.Duration{}}
	w.DSS, _ = newMemory(t)
	memory := inMemory(w.DSS)
	var err error
	w.client, err = dss.New(dss.Config{URL: "https://dss.example", APIKey: ownKey, HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		for _, path := range []string{ownInfoPath, lookupPath} {
			if strings.HasSuffix(r.URL.Path, path) {
				w.mu.Lock()
				w.times[path] = append(w.times[path], w.since())
				broken := w.wire[path]
				w.mu.Unlock()
				if broken != nil {
					return nil, broken
				}
			}
		}
		return memory.RoundTrip(r)
	})}})
	require.NoError(t, err)
	return w
}

// withOldAnswer returns a Middleware that remembers old answers, and a request of ann, whose
// answer has just become old.
func withOldAnswer(t *testing.T) (*watched, *dssauth.Middleware, *http.Request) {
	t.Helper()
	w := newWatched(t)
	m := newAuth(t, dssauth.Config{Client: w.client, StaleIfError: time.Hour, TTL: time.Second})
	ann := signedIn(w.DSS, "ann")
	require.Equal(t, "ann", who(m, ann))
	pass(time.Second)
	return w, m, ann
}

func (w *watched) since() time.Duration { return time.Since(w.start) }

func (w *watched) calls(path string) []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]time.Duration(nil), w.times[path]...)
}

func (w *watched) questions() []time.Duration { return w.calls(ownInfoPath) }
func (w *watched) lookups() []time.Duration   { return w.calls(lookupPath) }

// behaves makes f answer all calls of a path from now on; "" means all calls, and a nil
// f means DSS.
func (w *watched) behaves(path string, f dsstest.Interceptor) {
	w.Intercept(path, 0, nil)
	if f != nil {
		w.Intercept(path, -1, f)
	}
}

// ofCookie intercepts lookups of requests whose cookies contain a part: part,
// interceptor, part, interceptor.
func ofCookie(does ...any) dsstest.Interceptor {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		sent, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(sent))
		for i := 0; i < len(does); i += 2 {
			if f := does[i+1].(dsstest.Interceptor); f != nil && bytes.Contains(sent, []byte(does[i].(string))) {
				f(w, r, next)
				return
			}
		}
		next.ServeHTTP(w, r)
	}
}

// late does f, nil for DSS's answer, after d.
func late(d time.Duration, f dsstest.Interceptor) dsstest.Interceptor {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		select {
		case <-time.After(d):
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
		if f == nil {
			next.ServeHTTP(w, r)
			return
		}
		f(w, r, next)
	}
}

var (
	badGateway = dsstest.Respond(502, "<html>")
	cookieOf   = func(r *http.Request) string { return r.Header.Get("Cookie") }
)

// reply returns m's answer to r.
func reply(m *dssauth.Middleware, r *http.Request) *httptest.ResponseRecorder {
	return serve(m.Handler(sayLogin), r)
}

// failures are the ends of a lookup that start the question.
var failures = map[string]dsstest.Interceptor{
	"a 500":             dsstest.Respond(500, `{"errorType":"java.lang.NullPointerException"}`),
	"a 502":             badGateway,
	"a 503":             dsstest.Respond(503, "<html>"),
	"a 504":             dsstest.Respond(504, ""),
	"a 429":             dsstest.Respond(429, ""),
	"a reset":           dsstest.Reset,
	"no answer in time": dsstest.Hang,
}

// oddReplies are neither an answer nor a failure.
var oddReplies = map[string]dsstest.Interceptor{
	"a 200 with HTML":             dsstest.Respond(200, "<html>"),
	"a 200 without sense":         dsstest.Respond(200, `{"authIdentifier":7}`),
	"a 200 with an invalid login": dsstest.Respond(200, `{"authSource":"USER_FROM_UI","authIdentifier":"ann\n"}`),
	"a 302":                       dsstest.Respond(302, "", "Location", "/login"),
	"a 400":                       dsstest.Respond(400, `{"errorType":"x"}`),
	"a proxy's 401":               dsstest.Respond(401, "<html>"),
	"a 403":                       dsstest.Respond(403, "<html>"),
	"a 404":                       dsstest.Respond(404, "<html>"),
}

func TestFailedLookupsAskTheQuestionOnce(t *testing.T) {
	for name, fault := range failures {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatched(t)
				m := newAuth(t, dssauth.Config{Client: w.client})
				w.behaves(lookupPath, fault)
				w.behaves(ownInfoPath, late(500*time.Millisecond, nil))
				answers := newcomers(m, 20)
				for len(w.questions()) == 0 && w.since() < 10*time.Second {
					pass(50 * time.Millisecond)
				}
				pass(499 * time.Millisecond)
				synctest.Wait()
				assert.Len(t, w.questions(), 1, "for all twenty")
				pass(25 * time.Second)
				assert.Equal(t, 20, count(answers, refused))
				assert.False(t, m.Stats().DSSDown, "it was answered")
				if name != "no answer in time" { // the question is asked again while this lasts
					assert.Len(t, w.questions(), 1)
				}
			})
		})
	}
}

func TestOddRepliesAskNoQuestion(t *testing.T) {
	for name, odd := range oddReplies {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatched(t)
				m := newAuth(t, dssauth.Config{Client: w.client})
				w.behaves(lookupPath, odd)
				answers := newcomers(m, 20)
				assert.Equal(t, 20, count(answers, refused))
				pass(10 * time.Second)
				assert.Empty(t, w.questions())
			})
		})
	}
}

func TestQuestionIsAskedAtMostOnceASecond(t *testing.T) {
	for name, own := range map[string]dsstest.Interceptor{
		"while it is answered":              nil,
		"while it is answered late":         late(700*time.Millisecond, nil),
		"while it brings 502":               badGateway,
		"while it is rejected":              dsstest.Respond(401, nobodyReply),
		"while it is answered without form": dsstest.Respond(200, "<html>"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatched(t)
				m := newAuth(t, dssauth.Config{Client: w.client})
				w.behaves(lookupPath, badGateway)
				w.behaves(ownInfoPath, own)
				for i := range 1000 { // 100 visitors a second
					asks(m, browser(fmt.Sprint("visitor", i)))
					pass(10 * time.Millisecond)
				}
				synctest.Wait()
				questions := w.questions()
				for i := 1; i < len(questions); i++ {
					assert.GreaterOrEqual(t, questions[i]-questions[i-1], time.Second)
				}
				if name != "while it is rejected" { // which ends lookups for 5s
					assert.GreaterOrEqual(t, len(questions), 10, "and not less often")
				}
				pass(2 * time.Second)
			})
		})
	}
}

func TestSilentLookupAsksTheQuestionAfterOneSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		m := newAuth(t, dssauth.Config{Client: w.client})
		w.behaves(lookupPath, dsstest.Hang)
		got := asks(m, browser("ann"))
		pass(time.Second - 1)
		synctest.Wait()
		require.Empty(t, w.questions())
		pass(1)
		synctest.Wait()
		require.Equal(t, []time.Duration{time.Second}, w.questions(), "beside the lookup")
		assert.Empty(t, got, "which goes on")
		assert.Equal(t, "503", <-got)
		for _, q := range w.questions() {
			assert.Zero(t, q%time.Second, "then again, while nothing is answered, and when it has failed: never twice in a second")
		}
		pass(5 * time.Second)
		count := len(w.questions())
		pass(time.Minute)
		assert.Len(t, w.questions(), count, "not for a lookup that has ended")
	})
}

func TestQuestionIsNotAskedWhileDSSAnswersOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		m := newAuth(t, dssauth.Config{Client: w.client})
		w.behaves(lookupPath, ofCookie("hung", dsstest.Interceptor(dsstest.Hang)))
		asks(m, browser("hung"))
		for w.since() < 2500*time.Millisecond {
			pass(500 * time.Millisecond)
			require.Equal(t, "ann", who(m, signedIn(w.DSS, "ann")))
			synctest.Wait()
			require.Empty(t, w.questions(), "DSS answers others")
		}
		pass(time.Second - 1)
		synctest.Wait()
		require.Empty(t, w.questions())
		pass(1)
		synctest.Wait()
		assert.Len(t, w.questions(), 1, "a second after the last of them")
		pass(5 * time.Second)
	})
}

// A busy DSS answers our question late, too.
func TestTimedOutQuestionBesideAnswers(t *testing.T) {
	for _, test := range []struct {
		name string
		at   time.Duration // of the other lookup; the question is asked at 0, and ends at 2s
		gets dsstest.Interceptor
		down bool
	}{
		{"no other lookup", time.Hour, nil, true},
		{"an answer from before it was asked", -time.Millisecond, nil, true},
		{"a proxy's page for another lookup", time.Second, badGateway, true},
		{"a sign-in page for another lookup", time.Second, dsstest.Respond(200, "<html>"), true},
		{"another lookup identifies somebody", time.Second, nil, false},
		{"another lookup identifies nobody", time.Second, dsstest.Respond(200, `{"authIdentifier":""}`), false},
		{"another lookup ends in DSS's own error", time.Second, dsstest.Respond(500, `{"errorType":"java.lang.NullPointerException"}`), false},
		{"another lookup is answered at the last moment", 2*time.Second - 1, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatched(t)
				m := newAuth(t, dssauth.Config{Client: w.client})
				w.behaves(lookupPath, ofCookie("failing", badGateway, "other", test.gets))
				w.AddSession("session", "other", "ann")
				w.behaves(ownInfoPath, dsstest.Hang)
				if test.at < 0 {
					who(m, browser("other"))
					pass(-test.at)
				}
				require.Equal(t, "503", who(m, browser("failing")))
				synctest.Wait()
				require.Len(t, w.questions(), 1)
				start := time.Now()
				if test.at > 0 && test.at < 2*time.Second {
					pass(test.at)
					who(m, browser("other"))
				}
				pass(2*time.Second - 1 - time.Since(start))
				synctest.Wait()
				assert.False(t, m.Stats().DSSDown, "it is not known before the question ends")
				pass(1)
				synctest.Wait()
				assert.Equal(t, test.down, m.Stats().DSSDown)
				pass(5 * time.Second)
			})
		})
	}
}

func TestOurOwnQuestionTellsIfDSSIsDown(t *testing.T) {
	for _, test := range []struct {
		name  string
		reply dsstest.Interceptor
		down  bool
	}{
		{"answered", nil, false},
		{"a 200 with HTML", dsstest.Respond(200, "<html>"), false},
		{"a 302", dsstest.Respond(302, "", "Location", "/login"), false},
		{"a 403", dsstest.Respond(403, "<html>"), false},
		{"rejected", dsstest.Respond(401, nobodyReply), false},
		{"a 500", dsstest.Respond(500, "{}"), true},
		{"a 502", badGateway, true},
		{"a 503", dsstest.Respond(503, "<html>"), true},
		{"a 504", dsstest.Respond(504, ""), true},
		{"a 429", dsstest.Respond(429, ""), true},
		{"a reset", dsstest.Reset, true},
		{"a cut within the reply", func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatched(t)
				var book logBook
				m := newAuth(t, dssauth.Config{Client: w.client, Logger: book.logger()})
				w.behaves(lookupPath, ofCookie("failing", badGateway))
				w.behaves(ownInfoPath, late(100*time.Millisecond, test.reply))
				start := time.Now()
				require.Equal(t, "503", who(m, browser("failing")))
				require.Equal(t, "ann", who(m, signedIn(w.DSS, "ann")))
				require.Zero(t, time.Since(start), "nobody waits for the question")
				pass(200 * time.Millisecond) // a reset is tried again
				synctest.Wait()
				assert.Equal(t, test.down, m.Stats().DSSDown)
				assert.Equal(t, test.down, len(book.with("DSS is down: until it answers, visitors without")) == 1)
				if test.down {
					assert.Equal(t, "503", who(m, signedIn(w.DSS, "ann")))
				}
			})
		})
	}
}

func TestWireErrorsOfOurOwnQuestion(t *testing.T) {
	for _, test := range []struct {
		name string
		wire error
		down bool
	}{
		{"a certificate of an unknown authority", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, false},
		{"a certificate for another name", x509.HostnameError{Certificate: &x509.Certificate{}, Host: "dss.example"}, false},
		{"a refused connection", &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}, true},
		{"a name that is not found", &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "dss.example", IsNotFound: true}}, true},
		{"a reset", &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}, true},
		{"a TLS alert", &net.OpError{Op: "remote error", Err: tls.AlertError(40)}, true},
		{"an end before the reply", io.EOF, true},
		{"an end within the reply", io.ErrUnexpectedEOF, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, m, ann := withOldAnswer(t)
				w.wire = map[string]error{ownInfoPath: test.wire, lookupPath: test.wire}
				got := who(m, ann)
				synctest.Wait()
				assert.Equal(t, test.down, got == "ann", "an old answer is for outages only")
				assert.Equal(t, test.down, m.Stats().DSSDown)
			})
		})
	}
}

func TestNoLookupStartsWhileDSSIsDown(t *testing.T) {
	for name, fault := range outages {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatched(t)
				var book logBook
				var hooks hookBook
				m := newAuth(t, dssauth.Config{Client: w.client, Logger: book.logger(), Hooks: hooks.hooks(), TTL: time.Minute})
				ann := signedIn(w.DSS, "ann")
				require.Equal(t, "ann", who(m, ann))
				w.behaves("", fault)
				for i := 0; !m.Stats().DSSDown; i++ {
					require.Less(t, w.since(), 6*time.Second)
					asks(m, browser(fmt.Sprint("visitor", i)))
					pass(100 * time.Millisecond)
					synctest.Wait()
				}
				pass(5 * time.Second) // the lookups under way end
				who(m, browser("somebody"))
				synctest.Wait()
				require.True(t, m.Stats().DSSDown)
				lookups, questions, start := len(w.lookups()), len(w.questions()), time.Now()
				started, _ := hooks.lookups()
				for time.Since(start) < 10*time.Second {
					asked := time.Now()
					require.Equal(t, "503", who(m, signedIn(w.DSS, "bob")))
					require.Equal(t, "ann", who(m, ann), "hits are served")
					require.Zero(t, time.Since(asked), "at once")
					pass(10 * time.Millisecond)
				}
				synctest.Wait()
				assert.Len(t, w.lookups(), lookups)
				now, _ := hooks.lookups()
				assert.Equal(t, started, now, "a lookup that is refused calls no hook")
				asked := len(w.questions()) - questions
				if name == "resets" { // each is tried twice
					asked /= 2
				}
				assert.LessOrEqual(t, asked, 10)
				assert.GreaterOrEqual(t, asked, 4, "they have the question asked again")
				assert.Len(t, book.with("DSS is down: until it answers, visitors without"), 1)
				assert.Empty(t, book.with("DSS is back"))

				w.behaves("", nil)
				back := time.Now()
				for who(m, signedIn(w.DSS, "bob")) != "bob" {
					require.Less(t, time.Since(back), 5*time.Second)
					pass(50 * time.Millisecond)
				}
				synctest.Wait() // visitors do not wait for the line
				assert.Len(t, book.with("DSS is back"), 1)
				assert.False(t, m.Stats().DSSDown)
			})
		})
	}
}

// down makes w's DSS fail, and lets m find out.
func (w *watched) down(t *testing.T, m *dssauth.Middleware, fault dsstest.Interceptor) {
	t.Helper()
	w.behaves("", fault)
	for i := range 5 {
		who(m, browser(fmt.Sprint("finds out ", i)))
		synctest.Wait()
		if m.Stats().DSSDown {
			return
		}
		pass(time.Second) // since the last question
		synctest.Wait()
	}
	require.Fail(t, "it is not found out that DSS is down")
}

func TestEvidenceOfAnOutageLastsThreeSeconds(t *testing.T) {
	const trip = 100 * time.Millisecond // there and back
	for _, test := range []struct {
		name     string
		gap      time.Duration // since our own question's end
		back     bool          // DSS is back
		bridges  bool
		known    string // result of a known visitor
		newcomer string // result of a newcomer
		waits    time.Duration
		lookups  int
	}{
		{"before its end, and DSS is down", 3*time.Second - 1, false, false, "503", "503", 0, 0},
		{"before its end, and DSS is back", 3*time.Second - 1, true, false, "503", "503", 0, 0},
		{"before its end, with an old answer", 3*time.Second - 1, false, true, "ann", "503", 0, 0},
		{"after it, and DSS is down", 3 * time.Second, false, false, "503", "503", trip, 0},
		{"after it, with an old answer", 3 * time.Second, false, true, "ann", "503", trip, 0},
		{"an hour later, and DSS is down", time.Hour, false, false, "503", "503", trip, 0},
		{"after it, and DSS is back", 3 * time.Second, true, false, "ann", "bob", 2 * trip, 2},
		{"after it, with an old answer, and DSS is back", 3 * time.Second, true, true, "ann", "bob", 2 * trip, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatched(t)
				c := dssauth.Config{Client: w.client, TTL: time.Second}
				if test.bridges {
					c.StaleIfError = 24 * time.Hour
				}
				m := newAuth(t, c)
				ann := signedIn(w.DSS, "ann")
				require.Equal(t, "ann", who(m, ann))
				pass(time.Second)
				w.down(t, m, badGateway)
				w.behaves("", late(trip, badGateway))
				if test.back {
					w.behaves("", late(trip, nil))
				}
				pass(test.gap)
				start, lookups, questions := time.Now(), len(w.lookups()), len(w.questions())
				known, newcomer := asks(m, ann), asks(m, signedIn(w.DSS, "bob"))
				assert.Equal(t, test.known, <-known)
				assert.Equal(t, test.waits, time.Since(start))
				assert.Equal(t, test.newcomer, <-newcomer)
				assert.Equal(t, test.waits, time.Since(start))
				pass(trip)
				synctest.Wait()
				assert.Len(t, w.questions(), questions+1)
				assert.Len(t, w.lookups(), lookups+test.lookups)
			})
		})
	}
}

// For any history before DSS stopped answering, and any number of visitors.
func TestNoLookupStartsFourSecondsAfterSilence(t *testing.T) {
	for _, spacing := range []time.Duration{50 * time.Millisecond, 333 * time.Millisecond, 700 * time.Millisecond, 1490 * time.Millisecond, 2600 * time.Millisecond, 4010 * time.Millisecond} {
		for _, slow := range []time.Duration{0, 60 * time.Millisecond, 800 * time.Millisecond, 1700 * time.Millisecond} {
			for _, asked := range []time.Duration{-1, 10 * time.Millisecond, 500 * time.Millisecond, 990 * time.Millisecond, 1600 * time.Millisecond} {
				synctest.Test(t, func(t *testing.T) {
					w := newWatched(t)
					m := newAuth(t, dssauth.Config{Client: w.client})
					silent := w.start.Add(3 * time.Second) // later calls get no answer
					var mu sync.Mutex
					var firstUnanswered, lastAnswer time.Duration
					w.Intercept("", -1, func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
						came := w.since()
						lookup := strings.HasSuffix(r.URL.Path, lookupPath)
						if time.Now().Before(silent) {
							late(slow, nil)(rw, r, next)
							if lookup {
								mu.Lock()
								lastAnswer = max(lastAnswer, w.since())
								mu.Unlock()
							}
							return
						}
						if lookup {
							mu.Lock()
							if firstUnanswered == 0 || came < lastAnswer {
								firstUnanswered = came
							}
							mu.Unlock()
						}
						dsstest.Hang(rw, r, next)
					})
					var visits sync.WaitGroup
					ended := false
					visits.Go(func() {
						for i := 0; w.since() < 15*time.Second; i++ {
							visits.Go(func() { who(m, signedIn(w.DSS, "ann")) })
							pass(spacing)
						}
					})
					for w.since() < 15*time.Second {
						if asked >= 0 && !ended && w.since()+50*time.Millisecond > 3*time.Second-asked {
							ended = true
							visits.Go(func() { who(m, browser("nobody")) }) // this starts the question
						}
						pass(50 * time.Millisecond)
					}
					visits.Wait()
					last := time.Duration(0)
					for _, l := range w.lookups() {
						last = max(last, l)
					}
					from := max(firstUnanswered, lastAnswer)
					assert.LessOrEqual(t, last-from, 4*time.Second, "visitors every %s, answers that take %s, a question %s before the silence", spacing, slow, asked)
					pass(5 * time.Second)
				})
			}
		}
	}
}

func TestSameBytesPauseOneTwoAndFourSeconds(t *testing.T) {
	for name, fault := range failures {
		if name == "no answer in time" {
			continue // its lookups take time themselves
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatched(t)
				m := newAuth(t, dssauth.Config{Client: w.client, MaxLookups: 100})
				var asked []time.Duration
				w.behaves(lookupPath, ofCookie("poison", dsstest.Interceptor(func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
					if at := w.since(); len(asked) == 0 || at > asked[len(asked)-1] { // a reset is tried twice
						asked = append(asked, at)
					}
					fault(rw, r, next)
				})))
				for w.since() < 16*time.Second {
					require.Equal(t, "503", who(m, browser("poison")))
					require.Equal(t, "ann", who(m, signedIn(w.DSS, "ann")), "other bytes do not pause")
					pass(100 * time.Millisecond)
				}
				assert.Equal(t, []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second, 11 * time.Second, 15 * time.Second}, asked)
			})
		})
	}
}

func TestPausedVisitorIsToldHowLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		m := newAuth(t, dssauth.Config{Client: w.client})
		w.behaves(lookupPath, dsstest.Respond(429, "", "Retry-After", "3"))
		for _, want := range []string{"3", "3", "2", "2", "1", "1", "3"} {
			r := reply(m, browser("ann"))
			require.Equal(t, 503, r.Code)
			assert.Equal(t, want, r.Header().Get("Retry-After"))
			pass(500 * time.Millisecond)
		}
		assert.Len(t, w.lookups(), 2)
	})
}

func TestCountOfFailuresEndsFourSecondsAfterPause(t *testing.T) {
	for _, test := range []struct {
		name string
		rest time.Duration // after the pause
		next time.Duration // pause of the next failure
	}{
		{"at once", 0, 2 * time.Second},
		{"just before", 4*time.Second - 1, 2 * time.Second},
		{"four seconds after", 4 * time.Second, time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatched(t)
				m := newAuth(t, dssauth.Config{Client: w.client})
				w.behaves(lookupPath, badGateway)
				require.Equal(t, "503", who(m, browser("ann")))
				pass(time.Second + test.rest)
				require.Equal(t, "503", who(m, browser("ann")))
				pass(test.next - 1)
				require.Equal(t, "503", who(m, browser("ann")))
				require.Len(t, w.lookups(), 2)
				pass(1)
				require.Equal(t, "503", who(m, browser("ann")))
				assert.Len(t, w.lookups(), 3)
			})
		})
	}
}

func TestAnswerEndsTheCountOfFailures(t *testing.T) {
	for _, test := range []struct {
		name  string
		reply dsstest.Interceptor
		want  string
	}{
		{"a nobody", dsstest.Respond(401, nobodyReply), "401"},
		{"an empty identifier", dsstest.Respond(200, `{"authIdentifier":""}`), "401"},
		{"an identity", dsstest.Respond(200, `{"authIdentifier":"ann","groups":[]}`), "ann"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatched(t)
				m := newAuth(t, dssauth.Config{Client: w.client, TTL: -1, RefusalTTL: -1})
				w.behaves(lookupPath, badGateway)
				require.Equal(t, "503", who(m, browser("ann")))
				pass(time.Second)
				w.behaves(lookupPath, test.reply)
				require.Equal(t, test.want, who(m, browser("ann")))
				w.behaves(lookupPath, badGateway)
				require.Equal(t, "503", who(m, browser("ann")))
				lookups := len(w.lookups())
				pass(time.Second)
				require.Equal(t, "503", who(m, browser("ann")))
				assert.Len(t, w.lookups(), lookups+1, "the pause is 1s again")
			})
		})
	}
}

func TestOddRepliesStartNoPause(t *testing.T) {
	for name, odd := range oddReplies {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatched(t)
				m := newAuth(t, dssauth.Config{Client: w.client})
				w.behaves(lookupPath, odd)
				for range 5 {
					require.Equal(t, "503", who(m, browser("ann")))
				}
				assert.Len(t, w.lookups(), 5)
			})
		})
	}
}

func TestLookupWithoutAPlaceStartsNoPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		var hooks hookBook
		m := newAuth(t, dssauth.Config{Client: w.client, MaxLookups: 2, Hooks: hooks.hooks()})
		w.behaves(lookupPath, ofCookie("newcomer0", late(1500*time.Millisecond, nil)))
		newcomers(m, 1) // takes the only place of newcomers
		ann := signedIn(w.DSS, "ann")
		require.Equal(t, "503", who(m, ann))
		synctest.Wait()
		require.Len(t, w.lookups(), 1)
		started, ended := hooks.lookups()
		require.Equal(t, []int{1, 0}, []int{started, ended})
		pass(500 * time.Millisecond)
		synctest.Wait()
		assert.Equal(t, "ann", who(m, ann), "as soon as there is a place")
	})
}

func TestRefusalWhileDownStartsNoPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		var hooks hookBook
		m := newAuth(t, dssauth.Config{Client: w.client, Hooks: hooks.hooks()})
		w.down(t, m, badGateway)
		started, _ := hooks.lookups()
		ann := signedIn(w.DSS, "ann")
		pass(50 * time.Millisecond) // not at the start of a question
		for range 8 {
			require.Equal(t, "503", who(m, ann))
			pass(500 * time.Millisecond)
		}
		w.behaves("", nil)
		who(m, browser("somebody")) // starts the question
		pass(time.Second)
		synctest.Wait()
		require.False(t, m.Stats().DSSDown)
		now, _ := hooks.lookups()
		assert.Equal(t, started, now)
		assert.Equal(t, "ann", who(m, ann))
	})
}

func TestPausesEndWhenDSSIsBack(t *testing.T) {
	for name, f := range map[string]dsstest.Interceptor{
		"after failures of its bytes":  badGateway,
		"after Retry-After of an hour": dsstest.Respond(503, "<html>", "Retry-After", "3600"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatched(t)
				m := newAuth(t, dssauth.Config{Client: w.client})
				ann := signedIn(w.DSS, "ann")
				w.behaves(lookupPath, f)
				w.behaves(ownInfoPath, badGateway)
				require.Equal(t, "503", who(m, ann))
				synctest.Wait()
				require.True(t, m.Stats().DSSDown)
				w.behaves("", nil)
				require.Equal(t, "503", who(m, ann))
				pass(time.Second - 1)
				require.Equal(t, "503", who(m, ann))
				pass(1)
				synctest.Wait()
				assert.Equal(t, "ann", who(m, ann), "when our own question has succeeded")
			})
		})
	}
}

func TestSuccessWhileUpEndsNoPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		m := newAuth(t, dssauth.Config{Client: w.client})
		w.behaves(lookupPath, ofCookie("poison", dsstest.Respond(503, "", "Retry-After", "4")))
		require.Equal(t, "503", who(m, browser("poison")))
		synctest.Wait()
		require.Len(t, w.questions(), 1)
		require.Equal(t, "ann", who(m, signedIn(w.DSS, "ann")))
		lookups := len(w.lookups())
		pass(4*time.Second - 1)
		require.Equal(t, "503", who(m, browser("poison")))
		assert.Len(t, w.lookups(), lookups)
	})
}

// The failure of a lookup from before the end of an outage proves nothing about its
// bytes.
func TestLookupOfAnOldOutageStartsNoPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		m := newAuth(t, dssauth.Config{Client: w.client, Timeout: time.Minute})
		ann := signedIn(w.DSS, "ann")
		w.behaves("", dsstest.Hang)
		first := asks(m, ann)
		pass(3 * time.Second)
		synctest.Wait()
		require.True(t, m.Stats().DSSDown)
		w.behaves("", nil)
		for m.Stats().DSSDown {
			require.Less(t, w.since(), 8*time.Second)
			who(m, browser("somebody"))
			pass(100 * time.Millisecond)
			synctest.Wait()
		}
		require.Empty(t, first, "it is under way still")
		start := time.Now()
		assert.Equal(t, "ann", who(m, ann), "a new request does not wait for it")
		assert.Zero(t, time.Since(start))
		m.ForgetUser("ann")
		require.Equal(t, "503", <-first)
		synctest.Wait()
		assert.Equal(t, "ann", who(m, ann))
	})
}

func TestPausesAreBounded(t *testing.T) {
	for _, test := range []struct {
		name   string
		others int
		asked  bool
	}{
		{"below", 4094, false},
		{"at", 4095, false},
		{"above", 4096, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatched(t)
				m := newAuth(t, dssauth.Config{Client: w.client})
				w.behaves(lookupPath, badGateway)
				require.Equal(t, "503", who(m, browser("first")))
				for i := range test.others {
					require.Equal(t, "503", who(m, browser(fmt.Sprint("poison", i))))
				}
				lookups := len(w.lookups())
				require.Equal(t, "503", who(m, browser("first")))
				assert.Equal(t, test.asked, len(w.lookups()) > lookups)
			})
		})
	}
}

func TestPauseIsNeverTakenForAnonymous(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		m := newAuth(t, dssauth.Config{Client: w.client})
		w.behaves(lookupPath, badGateway)
		for w.since() < 10*time.Second {
			assert.Equal(t, 503, serve(m.Optional(unreachable(t)), browser("ann")).Code)
			assert.Equal(t, 503, serve(m.Optional(unreachable(t)), navigation("ann")).Code)
			pass(100 * time.Millisecond)
		}
		assert.Zero(t, m.Stats().Refusals)
		assert.Zero(t, m.Stats().Entries)
	})
}

func TestCustomResolverIsAlwaysAsked(t *testing.T) {
	for name, err := range map[string]error{
		"after an error of DSS":           &dss.Error{StatusCode: 503, RetryAfter: time.Minute},
		"after a deadline":                context.DeadlineExceeded,
		"after an error of no kind":       errBroken,
		"after an outage, as it calls it": dssauth.ErrUnavailable,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := resolver(func(context.Context, string) (dssauth.Identity, error) { return dssauth.Identity{}, err })
				m := newAuth(t, dssauth.Config{Resolver: r})
				for range 100 {
					require.Equal(t, "503", who(m, browser("ann")))
				}
				assert.EqualValues(t, 100, r.calls.Load())
				assert.False(t, m.Stats().DSSDown)
			})
		})
	}
}

func TestWaitingVisitorsAreServedOnceDSSIsDown(t *testing.T) {
	for _, timeout := range []time.Duration{3 * time.Second, 5 * time.Second, time.Minute} {
		t.Run(fmt.Sprint("Timeout ", timeout), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatched(t)
				m := newAuth(t, dssauth.Config{Client: w.client, Timeout: timeout, StaleIfError: time.Hour, TTL: time.Second})
				ann := signedIn(w.DSS, "ann")
				require.Equal(t, "ann", who(m, ann))
				pass(time.Second)
				w.behaves("", dsstest.Hang)
				start := time.Now()
				newcomer := asks(m, signedIn(w.DSS, "ann"))
				known := []<-chan string{asks(m, ann), asks(m, ann)}
				pass(2 * time.Second)
				known = append(known, asks(m, ann)) // while the question is under way
				for _, got := range known {
					assert.Equal(t, "ann", <-got)
					assert.Equal(t, 3*time.Second, time.Since(start), "1s of silence, 2s for the question")
				}
				assert.Equal(t, "ann", who(m, ann))
				assert.Equal(t, 3*time.Second, time.Since(start), "then at once")
				assert.Equal(t, "503", <-newcomer)
				assert.Equal(t, "503", who(m, signedIn(w.DSS, "ann")), "a newcomer never")
				pass(2 * time.Second)
			})
		})
	}
}

func TestKnownVisitorWithoutAPlaceIsBridged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		m := newAuth(t, dssauth.Config{Client: w.client, StaleIfError: time.Hour, TTL: time.Second, MaxLookups: 2})
		ann, bob := signedIn(w.DSS, "ann"), signedIn(w.DSS, "bob")
		require.Equal(t, "ann", who(m, ann))
		require.Equal(t, "bob", who(m, bob))
		pass(time.Second)
		w.behaves("", dsstest.Hang)
		start := time.Now()
		newcomers(m, 1)
		waiting := asks(m, bob)
		synctest.Wait()
		require.Equal(t, 2, m.Stats().InFlight, "all places are taken")
		assert.Equal(t, "ann", who(m, ann), "a known visitor without a place after a second")
		assert.Equal(t, 3*time.Second, time.Since(start))
		assert.Equal(t, "bob", <-waiting)
		pass(5 * time.Second)
	})
}

func TestKnownVisitorWithoutAPlaceWhileUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		m := newAuth(t, dssauth.Config{Client: w.client, StaleIfError: time.Hour, TTL: time.Second, MaxLookups: 2})
		ann, bob := signedIn(w.DSS, "ann"), signedIn(w.DSS, "bob")
		require.Equal(t, "ann", who(m, ann))
		require.Equal(t, "bob", who(m, bob))
		pass(time.Second)
		w.behaves(lookupPath, dsstest.Hang) // and our own question is answered
		newcomers(m, 1)
		asks(m, bob)
		synctest.Wait()
		assert.Equal(t, "503", who(m, ann))
		pass(5 * time.Second)
	})
}

func TestPlaceIsFreeWhileTheQuestionIsAsked(t *testing.T) {
	for _, test := range []struct {
		name   string
		lookup dsstest.Interceptor
	}{
		{"for a visitor with an old answer", badGateway},
		{"for an anonymous visitor, if our own key is good", dsstest.Respond(401, nobodyReply)},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatched(t)
				m := newAuth(t, dssauth.Config{Client: w.client, StaleIfError: time.Hour, TTL: time.Second, MaxLookups: 2})
				ann := signedIn(w.DSS, "ann")
				require.Equal(t, "ann", who(m, ann))
				pass(3 * time.Second)
				w.behaves(lookupPath, ofCookie(cookieOf(ann), test.lookup))
				w.behaves(ownInfoPath, dsstest.Hang)
				got := asks(m, ann)
				synctest.Wait()
				require.Len(t, w.questions(), 1)
				require.Empty(t, got, "it waits")
				assert.Zero(t, m.Stats().InFlight)
				assert.Equal(t, "bob", who(m, signedIn(w.DSS, "bob")))
				pass(5 * time.Second)
			})
		})
	}
}

// A page is many requests: while the first one's failure is checked, the others are not
// refused for it.
func TestRequestsBesideAFailureAreBridgedAsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, m, ann := withOldAnswer(t)
		w.behaves(lookupPath, badGateway)
		w.behaves(ownInfoPath, dsstest.Hang)
		start := time.Now()
		waiting := []<-chan string{asks(m, ann)}
		for range 9 {
			pass(100 * time.Millisecond)
			waiting = append(waiting, asks(m, ann))
		}
		for _, got := range waiting {
			assert.Equal(t, "ann", <-got)
		}
		assert.Equal(t, 2*time.Second, time.Since(start))
	})
}

// An answer to a question that was asked before the lookup may be older than the
// outage.
func TestQuestionFromBeforeTheLookupProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, m, ann := withOldAnswer(t)
		w.behaves(ownInfoPath, late(500*time.Millisecond, nil))
		w.behaves(lookupPath, badGateway)
		require.Equal(t, "503", who(m, browser("poison")))
		synctest.Wait()
		require.Len(t, w.questions(), 1, "it is under way")
		pass(100 * time.Millisecond)
		w.Intercept("", 0, nil)
		w.behaves("", badGateway) // except that question, which is answered
		assert.Equal(t, "ann", who(m, ann))
		assert.Len(t, w.questions(), 2)
	})
}

func TestPauseDoesNotBlockAnOldAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, m, ann := withOldAnswer(t)
		w.behaves("", dsstest.Respond(503, "<html>", "Retry-After", "4"))
		require.Equal(t, "ann", who(m, ann))
		pass(3500 * time.Millisecond) // no evidence, and a pause still
		assert.Equal(t, "ann", who(m, ann))
	})
}

func TestPartialFailureIsNotBridged(t *testing.T) {
	for name, fault := range failures {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, m, ann := withOldAnswer(t)
				w.behaves(lookupPath, fault)
				for range 100 {
					require.Equal(t, "503", who(m, ann))
					pass(100 * time.Millisecond)
				}
				assert.False(t, m.Stats().DSSDown)
				assert.Zero(t, m.Stats().Stale)
				pass(5 * time.Second)
			})
		})
	}
}

// Lookups that were refused together with our own key were not about their
// visitors, though the key is good again a second later.
func TestRefusalsBesideARejectionSignNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		m := newAuth(t, dssauth.Config{Client: w.client})
		ann, bob := signedIn(w.DSS, "ann"), signedIn(w.DSS, "bob")
		w.RemoveAPIKey(ownKey)
		reject := dsstest.Respond(401, nobodyReply)
		cookie := strings.SplitN(cookieOf(bob), "=", 2)[1]
		w.behaves(lookupPath, ofCookie(cookie, late(100*time.Millisecond, reject)))
		late := asks(m, bob)
		synctest.Wait()
		require.Equal(t, "503", who(m, ann), "our own question is rejected")
		w.AddAPIKey(ownKey, "")
		assert.Equal(t, "503", <-late)
		assert.Zero(t, m.Stats().Refusals)
	})
}

func TestCloseEndsTheQuestion(t *testing.T) {
	for _, test := range []struct {
		name string
		wait time.Duration // since the first question was asked
	}{
		{"while it waits for its second", 500 * time.Millisecond},
		{"while it is under way", 1500 * time.Millisecond},
		{"when it has ended", 5 * time.Second},
	} {
		for name, known := range map[string]bool{"": false, ", and a visitor waits for it": true} {
			t.Run(test.name+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWatched(t)
					var book logBook
					m := newAuth(t, dssauth.Config{Client: w.client, Logger: book.logger(), StaleIfError: time.Hour, TTL: time.Second})
					ann := signedIn(w.DSS, "ann")
					require.Equal(t, "ann", who(m, ann))
					pass(time.Second)
					w.down(t, m, badGateway)
					w.behaves("", late(time.Second, nil))
					require.Equal(t, "503", who(m, browser("somebody")), "has it asked again")
					if known {
						asks(m, ann)
					}
					pass(test.wait)
					synctest.Wait()
					back := len(book.with("DSS is back"))
					lines := len(book.lines)
					start := time.Now()
					require.NoError(t, m.Close())
					assert.Zero(t, time.Since(start))
					pass(time.Minute)
					assert.Len(t, book.with("DSS is back"), back)
					assert.Len(t, book.lines, lines, "a closed Middleware proves nothing about DSS")
					questions := len(w.questions())
					assert.Equal(t, "503", who(m, ann))
					pass(time.Minute)
					assert.Len(t, w.questions(), questions, "nobody asks any more")
				})
			})
		}
	}
}

func TestCloseEndsAWaitOfRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		m := newAuth(t, dssauth.Config{Client: w.client})
		ann := signedIn(w.DSS, "ann")
		require.Equal(t, "ann", who(m, ann))
		pass(5 * time.Second)
		w.behaves(ownInfoPath, dsstest.Hang)
		refused := make(chan int, 1)
		go func() {
			rec := httptest.NewRecorder()
			m.Refuse(rec, ann, &dss.Error{StatusCode: 401, Type: "com.dataiku.dip.exceptions.NotAuthenticatedException"})
			refused <- rec.Code
		}()
		synctest.Wait()
		require.Len(t, w.questions(), 1)
		require.Empty(t, refused)
		start := time.Now()
		require.NoError(t, m.Close())
		assert.Equal(t, 503, <-refused)
		rec := httptest.NewRecorder()
		m.Refuse(rec, ann, &dss.Error{StatusCode: 401, Type: "com.dataiku.dip.exceptions.NotAuthenticatedException"})
		assert.Equal(t, 503, rec.Code)
		assert.Zero(t, time.Since(start))
	})
}

func TestCloseEndsAWaitForTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, m, ann := withOldAnswer(t)
		w.behaves(lookupPath, badGateway)
		w.behaves(ownInfoPath, dsstest.Hang)
		got := asks(m, ann)
		junk := asks(m, browser("junk"))
		synctest.Wait()
		require.Len(t, w.questions(), 1)
		require.Empty(t, got)
		require.Equal(t, "503", <-junk)
		start := time.Now()
		require.NoError(t, m.Close())
		assert.Equal(t, "503", <-got)
		assert.Zero(t, time.Since(start))
	})
}

func TestWaitOfAKnownVisitorIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		m := newAuth(t, dssauth.Config{Client: w.client, StaleIfError: time.Hour, TTL: time.Second, Timeout: time.Second})
		ann := signedIn(w.DSS, "ann")
		require.Equal(t, "ann", who(m, ann))
		pass(time.Second)
		w.behaves("", dsstest.Hang)
		start := time.Now()
		assert.Equal(t, "503", who(m, ann))
		assert.LessOrEqual(t, time.Since(start), 1500*time.Millisecond, "Timeout, and the time for our own question")
	})
}
