package promises

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// An outage of any length lets nobody in, and signed-in visitors are served 5s after
// its end at the latest.
func TestOutagesOfAnyLength(t *testing.T) {
	requests, wrong, longest := 0, 0, time.Duration(0)
	for name, fault := range outages {
		for _, length := range []time.Duration{500 * time.Millisecond, 3 * time.Second, 40 * time.Second, 15 * time.Minute, 2 * time.Hour} {
			t.Run(fmt.Sprint(name, " for ", length), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d, client := newMemory(t)
					m := newAuth(t, dssauth.Config{Client: client})
					ann, gone := signedIn(d, "ann"), d.SignIn("bob")
					bob := withCookies(gone.Name + "=" + gone.Value)
					require.Equal(t, "ann", who(m, ann))
					require.Equal(t, "bob", who(m, bob))
					d.SignOut(gone)
					pass(11 * time.Second)
					d.Intercept("", -1, fault)
					pause := max(50*time.Millisecond, length/500)
					for start := time.Now(); time.Since(start) < length; pass(pause) {
						for _, r := range []string{who(m, ann), who(m, bob), who(m, browser("junk"))} {
							requests++
							if !assert.Equal(t, "503", r) {
								wrong++
							}
						}
					}
					d.Intercept("", 0, nil)
					back := time.Now()
					for who(m, ann) != "ann" && time.Since(back) < time.Minute {
						pass(50 * time.Millisecond)
					}
					longest = max(longest, time.Since(back))
					assert.LessOrEqual(t, time.Since(back), 5*time.Second)
					assert.Equal(t, "401", who(m, bob))
				})
			})
		}
	}
	t.Logf("figure: %d wrong admissions in %d requests during outages of DSS, served again %s after its end at the latest", wrong, requests, longest.Round(time.Millisecond))
}

// If DSS fails meanwhile, a refusal may mean the visitor or us. From then on no old
// answer of the visitor is used.
func TestAmbiguousRefusalEndsBridging(t *testing.T) {
	for name, moment := range map[string]time.Duration{"by a refresh ahead": 7 * time.Second, "by a lookup": 11 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				m := newAuth(t, dssauth.Config{Client: client, StaleIfError: time.Hour})
				c := d.SignIn("ann")
				ann, bob := withCookies(c.Name+"="+c.Value), signedIn(d, "bob")
				require.Equal(t, "ann", who(m, ann))
				require.Equal(t, "bob", who(m, bob))
				d.SignOut(c)
				d.Intercept(ownInfoPath, -1, dsstest.Respond(503, "<html>"))
				pass(moment)
				who(m, ann)
				synctest.Wait()
				d.SetDown(true)
				pass(10 * time.Second)
				for range 20 {
					assert.Equal(t, "503", who(m, ann))
					assert.Equal(t, "bob", who(m, bob), "a visitor whom DSS did not refuse is bridged")
					pass(time.Second)
				}
			})
		})
	}
}

func TestAmbiguousRefusalEndsOlderLookups(t *testing.T) {
	refused := &dss.Error{StatusCode: 401, Type: "com.dataiku.dip.exceptions.NotAuthenticatedException"}
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t)
		m := newAuth(t, dssauth.Config{Resolver: s})
		older := asks(m, browser("ann"))
		synctest.Wait()
		pass(time.Second)
		newer := asks(m, navigation("ann"))
		synctest.Wait()
		s.say(1, dssauth.Identity{}, unclear{refused})
		require.Equal(t, "503", <-newer)
		s.say(0, dssauth.NewIdentity("ann"), nil)
		require.Equal(t, "ann", <-older, "a request from before the refusal")

		later := asks(m, browser("ann"))
		synctest.Wait()
		require.Equal(t, 3, s.started(), "its answer is not remembered")
		s.say(2, dssauth.Identity{}, context.DeadlineExceeded)
		assert.Equal(t, "503", <-later)
	})
}

// The same for DSS's own words, if an old answer might bridge the following outage.
func TestAnswerFromBeforeARefusalIsNotBridged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		m := newAuth(t, dssauth.Config{Client: w.client, StaleIfError: time.Hour, Timeout: time.Minute})
		w.behaves(ownInfoPath, dsstest.Respond(200, "<html>")) // so a refusal may mean the visitor or us
		w.behaves(lookupPath, late(3*time.Second, dsstest.Respond(200, `{"authIdentifier":"ann","groups":[]}`)))
		older := asks(m, browser("ann"))
		synctest.Wait()
		pass(time.Second)
		w.behaves(lookupPath, dsstest.Respond(401, nobodyReply))
		require.Equal(t, "503", who(m, navigation("ann")))
		require.Equal(t, "ann", <-older, "a request from before the refusal")
		synctest.Wait()
		assert.Zero(t, m.Stats().Entries, "its answer is not remembered")
		w.down(t, m, badGateway)
		assert.Equal(t, "503", who(m, browser("ann")))
	})
}

// unclear is the error of a refusal of either the visitor or us.
type unclear struct{ cause error }

func (e unclear) Error() string { return "unclear" }
func (e unclear) Unwrap() error { return e.cause }

// Our own question finds out whom DSS meant, and that question finds the outage.
func TestRefusalOutweighsAnOutageFoundAfterIt(t *testing.T) {
	for range 100 { // the order of waking is random
		synctest.Test(t, func(t *testing.T) {
			w := newWatched(t)
			m := newAuth(t, dssauth.Config{Client: w.client, StaleIfError: time.Hour, TTL: 2 * time.Second})
			c := w.SignIn("ann")
			ann := withCookies(c.Name + "=" + c.Value)
			require.Equal(t, "ann", who(m, ann))
			w.SignOut(c)
			pass(2 * time.Second)
			w.behaves(ownInfoPath, late(500*time.Millisecond, badGateway))
			first := asks(m, ann)
			pass(100 * time.Millisecond)
			second := asks(m, ann)
			require.Equal(t, "503", <-first)
			require.Equal(t, "503", <-second)
		})
	}
}

// Requests that come while a refused lookup waits for our own question.
func TestRefusedVisitorIsNotBridgedWhileWeAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		m := newAuth(t, dssauth.Config{Client: w.client, StaleIfError: time.Hour, TTL: 2 * time.Second})
		c := w.SignIn("ann")
		ann := withCookies(c.Name + "=" + c.Value)
		require.Equal(t, "ann", who(m, ann))
		w.SignOut(c)
		pass(2 * time.Second)
		w.behaves(ownInfoPath, badGateway)
		w.behaves(lookupPath, ofCookie("poison", badGateway, c.Value, late(100*time.Millisecond, nil)))
		asks(m, ann)
		synctest.Wait()
		require.Equal(t, "503", who(m, browser("poison"))) // makes it find out that DSS is down
		synctest.Wait()
		require.True(t, m.Stats().DSSDown)
		require.Equal(t, "ann", who(m, ann), "DSS has not answered")
		pass(100 * time.Millisecond)
		synctest.Wait()
		questions := len(w.questions())
		for range 20 {
			assert.Equal(t, "503", who(m, ann), "DSS refused")
			pass(100 * time.Millisecond)
		}
		assert.Greater(t, len(w.questions()), questions, "which is asked about meanwhile")
	})
}
