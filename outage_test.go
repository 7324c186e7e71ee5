package dssauth_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

// However long DSS is down, nobody gets in by it, and who is signed in is
// served 5s after its end at the latest.
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

// A refusal whose meaning could not be told, since DSS failed in between, may
// have been about the visitor: from then on, no old answer stands in for them.
func TestNoOldAnswerAfterARefusalThatMayHaveMeantTheVisitor(t *testing.T) {
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
				for range 20 { // beyond the breaker's opening
					assert.Equal(t, "503", who(m, ann))
					assert.Equal(t, "bob", who(m, bob), "whom DSS did not refuse is bridged")
					pass(time.Second)
				}
			})
		})
	}
}
