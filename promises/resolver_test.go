package promises

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

// nobodyReply is DSS's reply for a browser without a session, and for an
// API key that it does not know.
const nobodyReply = `{"errorType":"com.dataiku.dip.exceptions.NotAuthenticatedException","message":"Unknown API Key"}`

func TestEachReplyOfDSSHasItsMeaning(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"an empty object", 200, `{}`, "503"},
		{"null", 200, `null`, "503"},
		{"nothing", 200, ``, "503"},
		{"no content", 204, ``, "503"},
		{"a login page", 200, `<html><form action="/login">`, "503"},
		{"text", 200, `ann`, "503"},
		{"a string", 200, `"ann"`, "503"},
		{"a list", 200, `[{"authIdentifier":"ann"}]`, "503"},
		{"a blank identifier", 200, `{"authSource":"USER_FROM_UI","authIdentifier":" "}`, "503"},
		{"an identifier with a line end", 200, `{"authSource":"USER_FROM_UI","authIdentifier":"ann\n"}`, "503"},
		{"an identifier with NUL", 200, `{"authSource":"USER_FROM_UI","authIdentifier":"ann\u0000"}`, "503"},
		{"an identifier with spaces at its ends", 200, `{"authSource":"USER_FROM_UI","authIdentifier":" ann "}`, "503"},
		{"an identifier of another type", 200, `{"authSource":"USER_FROM_UI","authIdentifier":1}`, "503"},
		{"an identifier that is null", 200, `{"authSource":"USER_FROM_UI","authIdentifier":null}`, "503"},
		{"an identifier in another case", 200, `{"authSource":"USER_FROM_UI","AuthIdentifier":"ann"}`, "503"},
		{"an identifier twice", 200, `{"authSource":"USER_FROM_UI","authIdentifier":"bob","authIdentifier":"ann"}`, "503"},
		{"an empty identifier beside a user", 200, `{"authIdentifier":"","associatedDSSUser":"ann"}`, "503"},
		{"groups of another type", 200, `{"authIdentifier":"ann","groups":"analysts"}`, "503"},
		{"null among the groups", 200, `{"authIdentifier":"ann","groups":["analysts",null]}`, "503"},
		{"two associated users", 200, `{"authIdentifier":"ann","associatedDSSUser":"ann","associatedDSSUSer":"bob"}`, "503"},
		{"something behind the object", 200, `{"authSource":"USER_FROM_UI","authIdentifier":"ann"}{}`, "503"},
		{"half an object", 200, `{"authSource":"USER_FROM_UI","authIdentifier":"an`, "503"},
		{"bytes that are not UTF-8", 200, "{\"authSource\":\"USER_FROM_UI\",\"authIdentifier\":\"ann\xff\"}", "503"},
		{"an API key", 200, `{"authSource":"API_KEY","authIdentifier":"key-id"}`, "403"},
		{"an API key whose id is a login", 200, `{"authSource":"API_KEY","authIdentifier":"ann","groups":["analysts"],"associatedDSSUser":"ann"}`, "403"},
		{"an identifier that nothing says to be a login", 200, `{"authIdentifier":"ann"}`, "403"},
		{"a 401 of a proxy", 401, `<html>Unauthorized`, "503"},
		{"a 401 of another type", 401, `{"errorType":"com.dataiku.dip.exceptions.UnauthorizedException"}`, "503"},
		{"a 401 of no type", 401, `{"message":"no"}`, "503"},
		{"a 401 of two types", 401, `{"errorType":"com.dataiku.dip.exceptions.NotAuthenticatedException","errorType":"x"}`, "503"},
		{"NotAuthenticatedException as a 400", 400, nobodyReply, "503"},
		{"NotAuthenticatedException as a 403", 403, nobodyReply, "503"},
		{"NotAuthenticatedException as a 500", 500, nobodyReply, "503"},
		{"NotAuthenticatedException as a 200", 200, nobodyReply, "503"},
		{"a bad request", 400, `{"errorType":"x"}`, "503"},
		{"a 403", 403, `{"errorType":"com.dataiku.dip.exceptions.UnauthorizedException"}`, "503"},
		{"a 404", 404, `{"errorType":"com.dataiku.dip.server.controllers.NotFoundException"}`, "503"},
		{"a teapot", 418, `{}`, "503"},
		{"a 429", 429, ``, "503"},
		{"an error of DSS", 500, `{"errorType":"java.lang.NullPointerException"}`, "503"},
		{"a bad gateway", 502, `<html>`, "503"},
		{"an outage", 503, `<html>`, "503"},
		{"a gateway's timeout", 504, `<html>`, "503"},
		{"nobody", 401, nobodyReply, "401"},
		{"an empty identifier", 200, `{"authIdentifier":""}`, "401"},
		{"a user", 200, `{"authSource":"USER_FROM_UI","authIdentifier":"ann"}`, "ann"},
		{"a user of whom only groups tell", 200, `{"authIdentifier":"ann","groups":[]}`, "ann"},
		{"an associated user", 200, `{"authSource":"PERSONAL_API_KEY","authIdentifier":"x","associatedDSSUser":"ann"}`, "ann"},
		{"an associated user in the other spelling", 200, `{"authSource":"PERSONAL_API_KEY","authIdentifier":"x","associatedDSSUSer":{"login":"ann"}}`, "ann"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				m := newAuth(t, dssauth.Config{Client: client})
				d.Intercept(lookupPath, -1, dsstest.Respond(test.status, test.body))
				assert.Equal(t, test.want, who(m, browser("ann")))

				pass(time.Second) // the pause of bytes whose lookup failed
				w := httptest.NewRecorder()
				m.Optional(sayLogin).ServeHTTP(w, browser("ann"))
				wantOptional := test.want
				if test.want == "401" {
					wantOptional = "" // anonymous
				}
				if w.Code != http.StatusOK {
					assert.Equal(t, wantOptional, fmt.Sprint(w.Code), "Optional")
				} else {
					assert.Equal(t, wantOptional, w.Body.String(), "Optional")
				}

				if test.want == "503" {
					assert.Zero(t, m.Stats().Entries, "nothing kept of it")
					assert.Zero(t, m.Stats().Refusals)
					assert.Equal(t, 2, d.Calls(lookupPath))
				}
			})
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	for _, status := range []int{300, 301, 302, 303, 304, 305, 307, 308, 399} {
		for _, target := range []string{"https://evil.example/", "https://dss.example/dip/publicapi/elsewhere", "/elsewhere", ""} {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				m := newAuth(t, dssauth.Config{Client: client})
				d.Intercept(lookupPath, -1, dsstest.Respond(status, `{"authSource":"USER_FROM_UI","authIdentifier":"ann"}`, "Location", target))
				assert.Equal(t, "503", who(m, browser("ann")), "%d to %q", status, target)
				assert.Equal(t, 1, d.Calls(""), "%d to %q", status, target)
			})
		}
	}
}

func TestIDOfAnAPIKeyIsNotALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		m := newAuth(t, dssauth.Config{Client: client, AllowAPIKeys: true})
		d.Intercept(lookupPath, -1, dsstest.Respond(200, `{"authSource":"API_KEY","authIdentifier":"ann","groups":["analysts"],"associatedDSSUser":"ann"}`))
		id := identity(t, m, browser("key"))
		assert.Empty(t, id.Login)
		assert.Empty(t, id.Groups())
		assert.Equal(t, "ann", id.APIKeyID)
		m.ForgetUser("ann")
		assert.Equal(t, 1, m.Stats().Entries, "the key is not the user ann")
	})
}

func TestAnonymousIsBelievedIfKeyIsGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		m := newAuth(t, dssauth.Config{Client: client})
		require.Equal(t, "401", who(m, browser("junk")))
		assert.Equal(t, 1, d.Calls(ownInfoPath), "nothing vouches for the key yet")

		require.Equal(t, "401", who(m, browser("junk 2")))
		assert.Equal(t, 1, d.Calls(ownInfoPath), "the check of a moment ago does")
		pass(time.Second + 1)
		ann := signedIn(d, "ann")
		require.Equal(t, "ann", who(m, ann))
		require.Equal(t, "401", who(m, browser("junk 3")))
		assert.Equal(t, 1, d.Calls(ownInfoPath), "another lookup's success does")
		pass(time.Second + 1)
		require.Equal(t, "ann", who(m, ann))
		require.Equal(t, "401", who(m, browser("junk 4")))
		assert.Equal(t, 2, d.Calls(ownInfoPath), "a hit does not, nor what is longer ago")
	})
}

func TestAnonymousVisitorsShareOneKeyCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		m := newAuth(t, dssauth.Config{Client: client})
		d.SetLatency(100 * time.Millisecond)
		answers := newcomers(m, 24)
		require.EqualValues(t, 24, m.Stats().InFlight)
		pass(300 * time.Millisecond)
		synctest.Wait()
		assert.Equal(t, 24, count(answers, func(s string) bool { return s == "401" }))
		assert.Equal(t, 24, d.Calls(lookupPath))
		assert.Equal(t, 1, d.Calls(ownInfoPath))
	})
}

func TestRejectedKeySignsNobodyOut(t *testing.T) {
	for _, test := range []struct {
		name      string
		revoke    func(*dsstest.DSS)
		reinstate func(*dsstest.DSS)
	}{
		{"by a 401", func(d *dsstest.DSS) { d.RemoveAPIKey(ownKey) }, func(d *dsstest.DSS) { d.AddAPIKey(ownKey, "") }},
		{"by an answer that names nobody", func(d *dsstest.DSS) {
			d.Intercept(ownInfoPath, -1, dsstest.Respond(200, `{"authIdentifier":""}`))
			d.Intercept(lookupPath, -1, dsstest.Respond(401, nobodyReply))
		}, func(d *dsstest.DSS) { d.Intercept("", 0, nil) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				var book logBook
				m := newAuth(t, dssauth.Config{Client: client, Logger: book.logger(), StaleIfError: time.Hour})
				ann, bob := signedIn(d, "ann"), signedIn(d, "bob")
				require.Equal(t, "ann", who(m, ann))
				test.revoke(d)
				pass(11 * time.Second)

				for range 50 {
					for i := range 20 {
						require.Equal(t, "503", who(m, browser(fmt.Sprint(i))))
					}
					require.Equal(t, "503", who(m, ann), "no old answer either: DSS is not down")
					require.Equal(t, "503", who(m, bob))
					w := httptest.NewRecorder()
					m.Optional(sayLogin).ServeHTTP(w, bob)
					require.Equal(t, 503, w.Code, "Optional")
					pass(time.Second)
				}
				assert.Zero(t, m.Stats().Refusals)
				assert.Len(t, book.with("REJECTS OUR OWN CREDENTIALS"), 1, "one loud line")
				assert.Contains(t, book.with("REJECTS")[0], "level=ERROR")
				assert.LessOrEqual(t, d.Calls(lookupPath), 12, "it is remembered for 5s")
				assert.LessOrEqual(t, d.Calls(ownInfoPath), 11)
				assert.False(t, m.Stats().DSSDown, "that is not an outage")

				pass(10 * time.Second)
				require.Equal(t, "503", who(m, ann))
				synctest.Wait() // the line comes after the answer
				assert.Len(t, book.with("REJECTS OUR OWN CREDENTIALS"), 2, "one a minute")
				assert.Empty(t, book.with("accepts our own"))

				test.reinstate(d)
				pass(5 * time.Second)
				assert.Equal(t, "ann", who(m, ann))
				assert.Equal(t, "401", who(m, browser("junk")))
				synctest.Wait()
				assert.Len(t, book.with("DSS accepts our own credentials again"), 1)
				for _, line := range book.lines {
					assert.NotContains(t, line, ownKey)
				}
			})
		})
	}
}

func TestARejectedKeyIsRememberedForFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		m := newAuth(t, dssauth.Config{Client: client})
		ann := signedIn(d, "ann")
		d.RemoveAPIKey(ownKey)
		w := httptest.NewRecorder()
		m.Handler(sayLogin).ServeHTTP(w, ann)
		require.Equal(t, 503, w.Code)
		calls := d.Calls("")
		pass(2 * time.Second)
		w = httptest.NewRecorder()
		m.Handler(sayLogin).ServeHTTP(w, ann)
		assert.Equal(t, 503, w.Code)
		assert.Equal(t, "3", w.Header().Get("Retry-After"))
		pass(3*time.Second - 1)
		d.AddAPIKey(ownKey, "")
		require.Equal(t, "503", who(m, ann))
		assert.Equal(t, calls, d.Calls(""), "DSS is not asked meanwhile")
		pass(1)
		assert.Equal(t, "ann", who(m, ann))
	})
}

func TestAnonymousNotBelievedIfKeyUnchecked(t *testing.T) {
	for _, test := range []struct {
		name  string
		check dsstest.Interceptor
	}{
		{"an outage", dsstest.Respond(503, "<html>")},
		{"a proxy's 401", dsstest.Respond(401, "<html>")},
		{"a login page", dsstest.Respond(200, "<html>")},
		{"a 403", dsstest.Respond(403, `{"errorType":"x"}`)},
		{"a redirect", dsstest.Respond(302, "", "Location", "/login")},
		{"resets", dsstest.Reset},
		{"no answer", dsstest.Hang},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				m := newAuth(t, dssauth.Config{Client: client})
				d.Intercept(ownInfoPath, -1, test.check)
				for range 3 {
					assert.Equal(t, "503", who(m, browser("junk")))
				}
				assert.Zero(t, m.Stats().Refusals)
				d.Intercept(ownInfoPath, 0, nil)
				pass(5 * time.Second)
				assert.Equal(t, "401", who(m, browser("junk")))
			})
		})
	}
}

func TestSignOutsEndAccessWithinTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		m := newAuth(t, dssauth.Config{Client: client})
		ann, bob := signedIn(d, "ann"), signedIn(d, "bob")
		require.Equal(t, "ann", who(m, ann))
		require.Equal(t, "bob", who(m, bob))
		d.EndSessions() // as a restart of DSS may
		for start := time.Now(); time.Since(start) < 10*time.Second; pass(100 * time.Millisecond) {
			who(m, ann) // also with refreshes
		}
		assert.Equal(t, "401", who(m, ann))
		assert.Equal(t, "401", who(m, bob))
	})
}

// outages are ways of DSS to be down, by our own question as well.
var outages = map[string]dsstest.Interceptor{
	"a bad gateway":       dsstest.Respond(502, "<html>"),
	"service unavailable": dsstest.Respond(503, "<html>"),
	"a gateway's timeout": dsstest.Respond(504, "<html>"),
	"too many requests":   dsstest.Respond(429, ""),
	"resets":              dsstest.Reset,
	"no answer":           dsstest.Hang,
}

// A lookup that is tried again is one failure: its bytes pause for 1s.
func TestLookupThatIsTriedTwiceFailsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		m := newAuth(t, dssauth.Config{Client: client})
		d.Intercept(lookupPath, -1, dsstest.Reset)
		require.Equal(t, "503", who(m, browser("ann")))
		synctest.Wait()
		assert.Equal(t, 2, d.Calls(lookupPath), "it was tried twice")
		assert.Equal(t, 1, d.Calls(ownInfoPath))
		pass(time.Second - 1)
		require.Equal(t, "503", who(m, browser("ann")))
		assert.Equal(t, 2, d.Calls(lookupPath))
		pass(1)
		require.Equal(t, "503", who(m, browser("ann")))
		assert.Equal(t, 4, d.Calls(lookupPath))
		assert.False(t, m.Stats().DSSDown)
	})
}

func TestALookupIsTriedTwiceOnAReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		m := newAuth(t, dssauth.Config{Client: client})
		ann := signedIn(d, "ann")
		d.Intercept(lookupPath, 1, dsstest.Reset)
		assert.Equal(t, "ann", who(m, ann))
		m.Forget(ann)
		d.Intercept(lookupPath, 2, dsstest.Reset)
		assert.Equal(t, "503", who(m, ann))
		m.Forget(ann)
		pass(time.Second) // the pause of these bytes
		before := d.Calls(lookupPath)
		d.Intercept(lookupPath, 1, dsstest.Respond(503, "<html>"))
		assert.Equal(t, "503", who(m, ann))
		assert.Equal(t, before+1, d.Calls(lookupPath), "a 503 is not a reset: no second try")
	})
}

func TestOneVisitorsErrorsAreNotAnOutage(t *testing.T) {
	for _, test := range []struct {
		name  string
		reply dsstest.Interceptor
	}{
		{"500", dsstest.Respond(500, `{"errorType":"java.lang.NullPointerException"}`)},
		{"400", dsstest.Respond(400, `{"errorType":"x"}`)},
		{"403", dsstest.Respond(403, `{"errorType":"x"}`)},
		{"404", dsstest.Respond(404, `{"errorType":"x"}`)},
		{"501", dsstest.Respond(501, `<html>`)},
		{"502", dsstest.Respond(502, `<html>`)},
		{"503", dsstest.Respond(503, `<html>`, "Retry-After", "3600")},
		{"504", dsstest.Respond(504, `<html>`)},
		{"429", dsstest.Respond(429, `<html>`)},
		{"resets", dsstest.Reset},
		{"a proxy's 401", dsstest.Respond(401, "<html>")},
		{"nobody", dsstest.Respond(401, nobodyReply)},
		{"a redirect", dsstest.Respond(302, "", "Location", "/login")},
		{"a login page", dsstest.Respond(200, "<html>")},
		{"a reply without sense", dsstest.Respond(200, `{"authIdentifier":7}`)},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				m := newAuth(t, dssauth.Config{Client: client})
				d.Intercept(lookupPath, -1, test.reply)
				for i := range 50 {
					require.NotEqual(t, "ann", who(m, browser(fmt.Sprint("eve", i))))
				}
				d.Intercept("", 0, nil)
				assert.False(t, m.Stats().DSSDown)
				assert.Equal(t, "ann", who(m, signedIn(d, "ann")))
			})
		})
	}
}

func TestDownDSSIsAskedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		m := newAuth(t, dssauth.Config{Client: client, MaxLookups: 100})
		d.Intercept("", -1, dsstest.Respond(502, "<html>"))
		newcomers(m, 1) // of many, the last may start it again
		require.True(t, m.Stats().DSSDown)
		require.Equal(t, 1, d.Calls(ownInfoPath), "one failed question says so")
		lookups := d.Calls(lookupPath)

		pass(time.Second + 1)
		d.SetLatency(100 * time.Millisecond)
		answers := newcomers(m, 50)
		assert.Equal(t, 50, count(answers, refused), "nobody waits for the question")
		assert.Equal(t, 2, d.Calls(ownInfoPath), "they have it asked again")
		pass(200 * time.Millisecond)
		synctest.Wait()
		assert.Equal(t, 2, d.Calls(ownInfoPath))
		assert.Equal(t, lookups, d.Calls(lookupPath), "and while it fails nobody is asked about")

		d.Intercept("", 0, nil)
		ann := signedIn(d, "ann")
		back := time.Now()
		for who(m, ann) != "ann" {
			require.Equal(t, lookups, d.Calls(lookupPath), "DSS is not asked about a refused visitor")
			require.Less(t, time.Since(back), 2*time.Second)
			pass(50 * time.Millisecond)
		}
		assert.Equal(t, 3, d.Calls(ownInfoPath))
		assert.False(t, m.Stats().DSSDown)
	})
}

func TestQuestionThatHangsEndsInTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		m := newAuth(t, dssauth.Config{Client: client, Timeout: time.Minute})
		d.Intercept("", -1, dsstest.Respond(502, "<html>"))
		newcomers(m, 1) // of two, the second may ask again
		require.True(t, m.Stats().DSSDown)
		d.Intercept("", 0, nil)
		d.Intercept("", -1, dsstest.Hang)
		pass(3 * time.Second) // then a lookup waits for a new question
		start := time.Now()
		assert.Equal(t, "503", who(m, browser("ann")))
		assert.Equal(t, 2*time.Second, time.Since(start))
	})
}

// In an outage of any kind and length nobody is admitted wrongly, and visitors are
// served at most 5s after DSS is back.
func TestServiceIsBackFiveSecondsAfterDSS(t *testing.T) {
	faults := map[string]dsstest.Interceptor{
		"unavailable for an hour, it says": dsstest.Respond(503, "<html>", "Retry-After", "3600"),
		"too many requests for an hour":    dsstest.Respond(429, "", "Retry-After", "3600"),
		"our own key rejected":             dsstest.Respond(401, nobodyReply),
		"errors of DSS":                    dsstest.Respond(500, "{}"),
	}
	for name, fault := range outages {
		faults[name] = fault
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			// At every phase of pauses and of our own question.
			for down := 200 * time.Millisecond; down < 12*time.Second; down += 1100 * time.Millisecond {
				synctest.Test(t, func(t *testing.T) {
					d, client := newMemory(t)
					m := newAuth(t, dssauth.Config{Client: client})
					ann := signedIn(d, "ann")
					d.Intercept("", -1, fault)
					var back, served atomic.Int64
					start := time.Now()
					var visits sync.WaitGroup
					for time.Since(start) < down+6*time.Second {
						visits.Go(func() {
							if got := who(m, ann); got == "ann" && back.Load() > 0 {
								served.CompareAndSwap(0, int64(time.Since(start)))
							} else {
								assert.Equal(t, "503", got)
							}
						})
						for i := range 6 {
							visits.Go(func() {
								if got := who(m, browser(fmt.Sprint("junk", i))); got != "401" || back.Load() == 0 {
									assert.Equal(t, "503", got)
								}
							})
						}
						pass(100 * time.Millisecond)
						if back.Load() == 0 && time.Since(start) >= down {
							d.Intercept("", 0, nil)
							back.Store(int64(time.Since(start)))
						}
					}
					visits.Wait()
					require.NotZero(t, served.Load(), "it comes back")
					assert.LessOrEqual(t, time.Duration(served.Load()-back.Load()), 5*time.Second)
				})
			}
		})
	}
}

// Retry-After is obeyed for its own bytes, and for no others.
func TestRetryAfterIsObeyedUpToFourSeconds(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		value  string
		wait   time.Duration
	}{
		{"of a 503", 503, "3", 3 * time.Second},
		{"of a 429", 429, "3", 3 * time.Second},
		{"of a 500", 500, "3", 3 * time.Second},
		{"at its cap", 503, "4", 4 * time.Second},
		{"above its cap", 503, "5", 4 * time.Second},
		{"an hour", 503, "3600", 4 * time.Second},
		{"far above it", 503, "99999999999999999999999", 4 * time.Second},
		{"as a date", 503, "Sat, 01 Jan 2000 00:00:03 GMT", 3 * time.Second},
		{"as a date long past", 503, "Sat, 01 Jan 1990 00:00:00 GMT", time.Second},
		{"zero", 503, "0", time.Second},
		{"negative", 503, "-3", time.Second},
		{"no number", 503, "soon", time.Second},
		{"of a 403, which is not a failure", 403, "3", 0},
		{"of a redirect", 302, "3", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				m := newAuth(t, dssauth.Config{Client: client})
				ann, bob := signedIn(d, "ann"), signedIn(d, "bob")
				d.Intercept(lookupPath, 1, dsstest.Respond(test.status, "<html>", "Retry-After", test.value))
				w := httptest.NewRecorder()
				m.Handler(sayLogin).ServeHTTP(w, ann)
				require.Equal(t, 503, w.Code)
				assert.Equal(t, "bob", who(m, bob), "others are served")
				if test.wait > 0 {
					assert.Equal(t, fmt.Sprint(test.wait.Seconds()), w.Header().Get("Retry-After"), "visitors are told")
					pass(test.wait - 1)
					start, calls := time.Now(), d.Calls("")
					assert.Equal(t, "503", who(m, ann))
					assert.Zero(t, time.Since(start))
					assert.Equal(t, calls, d.Calls(""), "DSS is left alone about these bytes")
					pass(1)
				}
				assert.Equal(t, "ann", who(m, ann))
			})
		})
	}
}

func TestOldAnswersBridgeOutagesOnly(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault dsstest.Interceptor
		want  string
	}{
		{"nobody", dsstest.Respond(401, nobodyReply), "503"}, // it is our own key, too
		{"an empty identifier", dsstest.Respond(200, `{"authIdentifier":""}`), "401"},
		{"a proxy's 401", dsstest.Respond(401, "<html>"), "503"},
		{"a 400", dsstest.Respond(400, "{}"), "503"},
		{"a 403", dsstest.Respond(403, "{}"), "503"},
		{"a 404", dsstest.Respond(404, "{}"), "503"},
		{"a redirect", dsstest.Respond(302, "", "Location", "/login"), "503"},
		{"a login page", dsstest.Respond(200, "<html>"), "503"},
		{"another user", dsstest.Respond(200, `{"authIdentifier":"bob","groups":[]}`), "bob"},
		{"a 500", dsstest.Respond(500, "{}"), "ann"},
		{"a 502", dsstest.Respond(502, "{}"), "ann"},
		{"a 503", dsstest.Respond(503, "{}"), "ann"},
		{"a 504", dsstest.Respond(504, "{}"), "ann"},
		{"a 429", dsstest.Respond(429, "{}"), "ann"},
		{"a 429 with Retry-After", dsstest.Respond(429, "{}", "Retry-After", "60"), "ann"},
		{"resets", dsstest.Reset, "ann"},
		{"no answer", dsstest.Hang, "ann"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				m := newAuth(t, dssauth.Config{Client: client, StaleIfError: time.Hour})
				ann := signedIn(d, "ann")
				require.Equal(t, "ann", who(m, ann))
				d.Intercept("", -1, test.fault)
				pass(10 * time.Second)
				for range 10 {
					assert.Equal(t, test.want, who(m, ann))
				}
				if test.want == "ann" {
					assert.Equal(t, "503", who(m, signedIn(d, "ann")), "only known visitors are bridged")
				}
			})
		})
	}
}

func TestAnOldAnswerHasAHardEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		var outcomes sync.Map
		m := newAuth(t, dssauth.Config{Client: client, TTL: 10 * time.Second, StaleIfError: time.Minute,
			Hooks: dssauth.Hooks{LookupEnd: func(_ context.Context, l dssauth.Lookup) { outcomes.Store(l.Outcome, true) }}})
		ann := signedIn(d, "ann")
		start := time.Now()
		require.True(t, identity(t, m, ann).AsOf.Equal(start))
		d.SetDown(true)
		pass(10 * time.Second)
		for time.Since(start) < 70*time.Second {
			id := identity(t, m, ann)
			require.Equal(t, "ann", id.Login)
			require.True(t, id.AsOf.Equal(start), "its age is seen")
			pass(100 * time.Millisecond)
		}
		assert.Equal(t, "503", who(m, ann), "however often it was read")
		synctest.Wait()
		_, stale := outcomes.Load(dssauth.OutcomeStale)
		assert.True(t, stale, "hooks see it")
		assert.NotZero(t, m.Stats().Stale)

		d.SetDown(false)
		pass(5 * time.Second)
		assert.True(t, identity(t, m, ann).AsOf.After(start.Add(time.Minute)))
	})
}

func TestNoOldAnswerAfterDSSSaidAnonymous(t *testing.T) {
	for _, moment := range []time.Duration{
		7 * time.Second,  // by a refresh ahead
		11 * time.Second, // by a lookup
	} {
		synctest.Test(t, func(t *testing.T) {
			d, client := newMemory(t)
			m := newAuth(t, dssauth.Config{Client: client, StaleIfError: time.Hour, RefusalTTL: -1})
			c := d.SignIn("ann")
			ann := withCookies(c.Name + "=" + c.Value)
			require.Equal(t, "ann", who(m, ann))
			d.SignOut(c)
			pass(moment)
			who(m, ann)
			synctest.Wait()
			d.SetDown(true)
			for range 20 {
				require.Equal(t, "503", who(m, ann))
				pass(time.Second)
			}
		})
	}
}

func TestNoOldAnswerWithoutStaleIfError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		m := newAuth(t, dssauth.Config{Client: client})
		ann := signedIn(d, "ann")
		require.Equal(t, "ann", who(m, ann))
		d.SetDown(true)
		pass(10 * time.Second)
		assert.Equal(t, "503", who(m, ann))
	})
}

func TestMissingRightIsOneErrorInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		var book logBook
		m := newAuth(t, dssauth.Config{Client: client, Logger: book.logger()})
		d.Intercept(lookupPath, -1, dsstest.Respond(403, `{"errorType":"com.dataiku.dip.exceptions.UnauthorizedException","message":"you may not"}`))
		for i := range 100 {
			require.Equal(t, "503", who(m, browser(fmt.Sprint(i))))
		}
		lines := book.with("does not let us ask")
		require.Len(t, lines, 1)
		assert.Contains(t, lines[0], "level=ERROR")
		assert.False(t, strings.Contains(lines[0], "you may not"), "DSS's text may quote credentials")
	})
}
