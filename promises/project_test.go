package promises

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

// jobsOf is the path of the question that decides a project gate.
func jobsOf(project string) string { return "/projects/" + project + "/jobs/" }

// company is a fake DSS with users in every relation to the project CHURN, and an
// application that acts as its visitors.
type company struct {
	*testing.T
	fake *dsstest.DSS
	auth *dssauth.Middleware
}

func newCompany(t *testing.T, c dssauth.Config) *company {
	t.Helper()
	c.AllowAPIKeys = true
	fake, auth := inBubble(t, c)
	for _, u := range []dsstest.User{
		{Login: "olga"}, {Login: "adm", Groups: []string{"administrators"}}, {Login: "ann", Groups: []string{"analysts"}},
		{Login: "paul", Groups: []string{"admins-of-churn"}}, {Login: "uma"}, {Login: "dora", Groups: []string{"board"}},
		{Login: "rex", Groups: []string{"runners"}}, {Login: "eve", Groups: []string{"analyst", "Analysts"}},
		{Login: "two", Groups: []string{"board", "analysts"}},
	} {
		fake.AddUser(u)
	}
	right := func(group, name string) dsstest.Permission {
		return dsstest.Permission{Group: group, Rights: map[string]bool{name: true}}
	}
	fake.AddProject(dsstest.Project{Key: "CHURN", Owner: "olga", Permissions: []dsstest.Permission{
		right("analysts", "readProjectContent"), right("board", "readDashboards"), right("admins-of-churn", "admin"), right("runners", "runScenarios"),
		{User: "uma", Rights: map[string]bool{"readProjectContent": true}},
	}})
	fake.AddProject(dsstest.Project{Key: "OPEN_to_find", Owner: "olga", Discoverable: true})
	fake.AddAPIKey("key-of-ann", "ann")
	fake.AddAPIKey("key-of-nobody", "")
	return &company{t, fake, auth}
}

// request is one of login's browser; "" is nobody's.
func (c *company) request(login, target string) *http.Request {
	r := request("GET", target)
	if login != "" {
		r.AddCookie(c.fake.SignIn(login))
	}
	return r
}

// opens sends r through gate, and returns the status and the handler's visitor.
func (c *company) opens(gate func(http.Handler) http.Handler, r *http.Request) (status int, saw string) {
	w := serve(c.auth.Optional(gate(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		id, ok := dssauth.FromContext(r.Context())
		assert.True(c, ok)
		saw = cmp.Or(id.Login, "an API key")
	}))), r)
	return w.Code, saw
}

// Each row is a visitor and a project. The handler sees the visitor or is not
// called, and DSS was asked as the visitor and as nobody else.
func TestProjectGateAdmitsReadersOfTheProject(t *testing.T) {
	rows := []struct {
		who, project string
		status       int
	}{
		{"olga", "CHURN", 200}, // its owner
		{"adm", "CHURN", 200},  // an administrator, who is in no group of the project
		{"ann", "CHURN", 200},  // in a group that reads it
		{"paul", "CHURN", 200}, // in a group that administers it
		{"uma", "CHURN", 200},  // named herself
		{"two", "CHURN", 200},  // dashboards by one group, all by another
		{"dora", "CHURN", 403}, // dashboards only
		{"rex", "CHURN", 403},  // another right, without the right to read
		{"eve", "CHURN", 403},  // groups with names nearly like it
		{"olga", "OPEN_to_find", 200},
		{"adm", "OPEN_to_find", 200},
		{"ann", "OPEN_to_find", 403}, // may find it
		{"eve", "OPEN_to_find", 403},
		{"olga", "MISSING", 403},
		{"adm", "MISSING", 403}, // DSS tells an administrator that it does not exist
		{"ann", "churn", 403},   // keys are told apart by case
		{"ann", "CHURN_", 403},
		{"ann", strings.Repeat("A", 200), 403},
		{"", "CHURN", 401},
		{"ann", "", 400},
		{"ann", "CHURN/../SALES", 400},
		{"ann", "CHURN%2F", 400},
		{"ann", "..", 400},
		{"ann", ".", 400},
		{"ann", "CHURN/", 400},
		{"ann", `CH\URN`, 400},
		{"ann", "CHURN?limit=1", 400},
		{"ann", "CHURN#", 400},
		{"ann", "CHURN ", 400},
		{"ann", "CHÜRN", 400},
		{"ann", "CHURN\x00", 400},
		{"ann", "CHURN\n", 400},
		{"", "..", 401}, // anonymous visitors learn nothing about keys
		{"adm", "CHURN;x", 400},
	}
	for _, mode := range []dssauth.Impersonation{dssauth.ByTicket, dssauth.ByProxyUser} {
		for _, hidden := range []int{0, 401, 403} {
			for _, row := range rows {
				t.Run(fmt.Sprintf("%d hidden %d %s %q", mode, hidden, row.who, row.project), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						c := newCompany(t, dssauth.Config{Impersonation: mode})
						c.fake.Configure(dsstest.Options{HiddenProjects: hidden})
						gate := c.auth.RequireProjectOf(func(*http.Request) string { return row.project })
						r := c.request(row.who, "/")
						for range 2 { // the second is remembered
							status, saw := c.opens(gate, r)
							require.Equal(t, row.status, status)
							require.Equal(t, map[bool]string{true: row.who}[status == 200], saw)
						}
						var asked int
						for _, call := range c.fake.Log("") {
							if strings.HasPrefix(call.Path, "/projects") {
								asked++
								assert.Equal(t, jobsOf(row.project), call.Path)
								assert.Equal(t, row.who, call.Caller)
							}
						}
						assert.Equal(t, map[bool]int{true: 1}[row.status == 200 || row.status == 403], asked)
					})
				})
			}
		}
	}
}

// DSS's possible answers to the question, and the visitor's result.
func TestProjectGateReadsDSSsAnswer(t *testing.T) {
	const exceptions = "com.dataiku.dip.exceptions."
	refusal := func(status int, class string) dsstest.Interceptor {
		return dsstest.Respond(status, `{"errorType": "`+class+`", "message": "no"}`)
	}
	page := func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html>sign in</html>")
	}
	redirect := func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, "/login", http.StatusFound)
	}
	for _, row := range []struct {
		name   string
		does   dsstest.Interceptor
		status int
	}{
		{"not allowed, with a 403", refusal(403, exceptions+"UnauthorizedException"), 403},
		{"not allowed, with a 401", refusal(401, exceptions+"UnauthorizedException"), 403},
		{"not there", refusal(404, "com.dataiku.dip.server.controllers.NotFoundException"), 403},
		{"JSON", dsstest.Respond(200, "[]"), 200},
		{"JSON of another kind", dsstest.Respond(200, `{"jobs": []}`), 200},
		{"a ticket that is always rejected", refusal(401, exceptions+"NotAuthenticatedException"), 503},
		{"nothing", dsstest.Respond(204, ""), 503},
		{"an empty reply", dsstest.Respond(200, ""), 503},
		{"half of JSON", dsstest.Respond(200, `[{"`), 503},
		{"a page", page, 503},
		{"a redirect", redirect, 503},
		{"a proxy's 403", dsstest.Respond(403, "<html>forbidden</html>"), 503},
		{"a proxy's 404", dsstest.Respond(404, "<html>not here</html>"), 503},
		{"a 400", refusal(400, "java.lang.IllegalArgumentException"), 503},
		{"a class that only ends alike", refusal(403, "org.example.NotUnauthorizedException"), 503},
		{"an error", refusal(500, "java.lang.NullPointerException"), 503},
		{"too much to do", dsstest.Respond(429, ""), 503},
		{"a proxy's 502", dsstest.Respond(502, ""), 503},
		{"silence", dsstest.Hang, 503},
		{"a cut connection", dsstest.Reset, 503},
	} {
		for _, mode := range []dssauth.Impersonation{dssauth.ByTicket, dssauth.ByProxyUser} {
			t.Run(fmt.Sprint(row.name, " ", mode), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newCompany(t, dssauth.Config{Impersonation: mode})
					gate, r := c.auth.RequireProject("CHURN"), c.request("ann", "/")
					c.fake.Intercept(jobsOf("CHURN"), 1000, row.does)
					status, _ := c.opens(gate, r)
					assert.Equal(t, row.status, status)
					c.fake.Intercept(jobsOf("CHURN"), 0, nil)
					pass(5 * time.Second)
					if row.status == 503 { // nothing of it is remembered
						status, _ = c.opens(gate, r)
						assert.Equal(t, 200, status)
					}
				})
			})
		}
	}
}

// questions returns how often DSS was asked about the project CHURN.
func (c *company) questions() int { return c.fake.Calls(jobsOf("CHURN")) }

func TestProjectVerdictIsAskedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(t, dssauth.Config{Impersonation: dssauth.ByTicket})
		c.fake.SetLatency(100 * time.Millisecond)
		gate, r := c.auth.RequireProject("CHURN"), c.request("ann", "/")
		answers := make(chan int)
		for range 200 {
			go func() {
				status, _ := c.opens(gate, r.Clone(t.Context()))
				answers <- status
			}()
		}
		for range 200 {
			assert.Equal(t, 200, <-answers)
		}
		assert.Equal(t, 1, c.questions())
		assert.Equal(t, 1, c.fake.Calls(ticketPath))

		// Another session of ann's is another visitor, and bob anyway.
		status, _ := c.opens(gate, c.request("ann", "/"))
		assert.Equal(t, 200, status)
		assert.Equal(t, 2, c.questions())
		status, _ = c.opens(gate, c.request("dora", "/"))
		assert.Equal(t, 403, status)
		assert.Equal(t, 3, c.questions())
	})
}

// An active visitor waits for the first verdict only. DSS is not asked again
// about a visitor who does not open the project.
func TestUsedProjectVerdictIsRefreshedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(t, dssauth.Config{Impersonation: dssauth.ByTicket})
		c.fake.SetLatency(100 * time.Millisecond)
		gate, r := c.auth.RequireProject("CHURN"), c.request("ann", "/")
		everybody := func(h http.Handler) http.Handler { return h }
		visits := func(through func(http.Handler) http.Handler, times int) {
			for range times {
				began := time.Now()
				status, _ := c.opens(through, r.Clone(t.Context()))
				require.Equal(t, 200, status)
				require.Zero(t, time.Since(began))
				pass(time.Second)
			}
		}
		status, _ := c.opens(gate, r.Clone(t.Context()))
		require.Equal(t, 200, status)
		lookups := c.fake.Calls(lookupPath)
		visits(gate, 100)
		refreshes := c.fake.Calls(lookupPath) - lookups
		assert.Greater(t, refreshes, 9)
		assert.InDelta(t, 1+refreshes, c.questions(), 1)
		assert.Equal(t, 1, c.fake.Calls(ticketPath))

		before := c.questions()
		visits(everybody, 100)
		assert.Equal(t, before, c.questions())
	})
}

func TestFailedRenewalOfAVerdictIsTriedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(t, dssauth.Config{Impersonation: dssauth.ByTicket})
		gate, r := c.auth.RequireProject("CHURN"), c.request("ann", "/")
		opens := func() {
			status, _ := c.opens(gate, r.Clone(t.Context()))
			require.Equal(t, 200, status)
			synctest.Wait()
		}
		opens()
		pass(8 * time.Second)
		opens() // starts the refresh of the answer
		c.fake.Intercept(jobsOf("CHURN"), 1000, dsstest.Respond(502, "no"))
		before := c.questions()
		for range 10 {
			opens()
		}
		assert.Equal(t, before+1, c.questions())
	})
}

func TestProjectVerdictEndsWithTheAnswer(t *testing.T) {
	const ttl = 10 * time.Second
	takesAway := func(c *company) {
		c.fake.AddProject(dsstest.Project{Key: "CHURN", Owner: "olga"})
	}
	for _, row := range []struct {
		name   string
		does   func(*company, *http.Request)
		status int
	}{
		{"the right was taken away", func(c *company, _ *http.Request) { takesAway(c); pass(ttl) }, 403},
		{"the right was taken away, and ann forgotten", func(c *company, r *http.Request) { takesAway(c); c.auth.Forget(r) }, 403},
		{"the right was taken away, and ann forgotten by login", func(c *company, _ *http.Request) { takesAway(c); c.auth.ForgetUser("ann") }, 403},
		{"the right was taken away from a visitor at work", func(c *company, r *http.Request) {
			takesAway(c)
			for range 2 * ttl / time.Second {
				_, _ = c.opens(c.auth.RequireProject("CHURN"), r.Clone(c.Context()))
				pass(time.Second)
			}
		}, 403},
		{"the right was taken away from a visitor at work elsewhere", func(c *company, r *http.Request) {
			takesAway(c)
			for range 2 * ttl / time.Second {
				_ = serve(c.auth.Handler(whoami), r.Clone(c.Context()))
				pass(time.Second)
			}
		}, 403},
		{"the project was deleted", func(c *company, _ *http.Request) { c.fake.RemoveProject("CHURN"); pass(ttl) }, 403},
		{"the user left the group", func(c *company, _ *http.Request) { c.fake.AddUser(dsstest.User{Login: "ann"}); pass(ttl) }, 403},
		{"the user was disabled", func(c *company, _ *http.Request) {
			c.fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"analysts"}, Disabled: true})
			pass(ttl)
		}, 401},
		{"another user signed in", func(c *company, r *http.Request) {
			cookie := r.Cookies()[0]
			c.fake.AddSession(cookie.Name, cookie.Value, "dora")
			pass(ttl)
		}, 403},
		{"nothing changed", func(*company, *http.Request) { pass(ttl) }, 200},
		{"DSS is down, and the verdict remembered", func(c *company, _ *http.Request) { c.fake.SetDown(true) }, 200},
		{"DSS is down", func(c *company, _ *http.Request) { c.fake.SetDown(true); pass(ttl) }, 503},
		{"DSS went down and came back", func(c *company, r *http.Request) {
			c.fake.SetDown(true)
			pass(ttl)
			_, _ = c.opens(c.auth.RequireProject("CHURN"), r.Clone(c.Context()))
			c.fake.SetDown(false)
			pass(ttl)
		}, 200},
	} {
		for _, mode := range []dssauth.Impersonation{dssauth.ByTicket, dssauth.ByProxyUser} {
			t.Run(fmt.Sprint(row.name, " ", mode), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newCompany(t, dssauth.Config{Impersonation: mode, TTL: ttl})
					gate, r := c.auth.RequireProject("CHURN"), c.request("ann", "/")
					status, _ := c.opens(gate, r.Clone(t.Context()))
					require.Equal(t, 200, status)
					row.does(c, r)
					status, _ = c.opens(gate, r.Clone(t.Context()))
					assert.Equal(t, row.status, status)
				})
			})
		}
	}
}

// Config.StaleIfError also bridges an outage for the verdicts of an answer: for as
// long as the answer, and only for projects with a verdict.
func TestProjectVerdictIsBridgedWithItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(t, dssauth.Config{Impersonation: dssauth.ByTicket, TTL: 10 * time.Second, StaleIfError: time.Minute})
		gate, r := c.auth.RequireProject("CHURN"), c.request("ann", "/")
		opens := func(gate func(http.Handler) http.Handler) int {
			status, _ := c.opens(gate, r.Clone(t.Context()))
			return status
		}
		require.Equal(t, 200, opens(gate))
		c.fake.SetDown(true)
		for range 60 {
			assert.Equal(t, 200, opens(gate))
			assert.Equal(t, 503, opens(c.auth.RequireProject("SALES")))
			pass(time.Second)
		}
		pass(11 * time.Second)
		assert.Equal(t, 503, opens(gate))
	})
}

// The session may end between the lookup and the question: then the visitor is
// anonymous, and not forbidden.
func TestProjectGateNoticesASignOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(t, dssauth.Config{Impersonation: dssauth.ByTicket})
		gate, r := c.auth.RequireProject("CHURN"), c.request("ann", "/")
		w := serve(c.auth.Handler(whoami), r.Clone(t.Context()))
		require.Equal(t, 200, w.Code)
		c.fake.SignOut(r.Cookies()[0])
		status, _ := c.opens(gate, r.Clone(t.Context()))
		assert.Equal(t, 401, status)
		w = serve(c.auth.Handler(whoami), r.Clone(t.Context()))
		assert.Equal(t, 401, w.Code)

		// All who wait for the question share one lookup.
		c.fake.SetLatency(10 * time.Millisecond)
		r = c.request("ann", "/")
		require.Equal(t, 200, serve(c.auth.Handler(whoami), r.Clone(t.Context())).Code)
		c.fake.SignOut(r.Cookies()[0])
		lookups, statuses := c.fake.Calls(lookupPath), make(chan int)
		for range 200 {
			go func() {
				status, _ := c.opens(gate, r.Clone(t.Context()))
				statuses <- status
			}()
		}
		for range 200 {
			require.Equal(t, 401, <-statuses)
		}
		assert.Equal(t, 1, c.fake.Calls(lookupPath)-lookups)

		// Somebody else signed in meanwhile.
		r = c.request("ann", "/")
		require.Equal(t, 200, serve(c.auth.Handler(whoami), r.Clone(t.Context())).Code)
		cookie := r.Cookies()[0]
		c.fake.AddSession(cookie.Name, cookie.Value, "olga")
		status, _ = c.opens(gate, r.Clone(t.Context()))
		assert.Equal(t, 401, status)
		status, saw := c.opens(gate, r.Clone(t.Context()))
		assert.Equal(t, 200, status)
		assert.Equal(t, "olga", saw)
	})
}

// No request waits for a verdict that is renewed early. If the session has ended, that
// ends the answer anyway.
func TestRenewalOfAVerdictNoticesASignOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(t, dssauth.Config{Impersonation: dssauth.ByTicket})
		gate, r := c.auth.RequireProject("CHURN"), c.request("ann", "/")
		opens := func() int {
			status, _ := c.opens(gate, r.Clone(t.Context()))
			synctest.Wait()
			return status
		}
		require.Equal(t, 200, opens())
		for c.fake.Calls(lookupPath) == 1 { // until the answer was refreshed
			pass(100 * time.Millisecond)
			require.Equal(t, 200, serve(c.auth.Handler(whoami), r.Clone(t.Context())).Code)
			synctest.Wait()
		}
		c.fake.SignOut(r.Cookies()[0])
		c.fake.ExpireTickets()
		assert.Equal(t, 200, opens(), "by the verdict, which is renewed")
		assert.Equal(t, 401, opens())
	})
}

// An administrator's key loses its rights after it acted as a visitor. DSS then
// refuses in the words in which it refuses a visitor.
func TestProjectGateNoticesTheEndOfTheRightToAct(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		c := newCompany(t, dssauth.Config{Impersonation: dssauth.ByProxyUser, Logger: book.logger()})
		gate := c.auth.RequireProjectOf(func(r *http.Request) string { return r.URL.Query().Get("p") })
		r := c.request("ann", "/?p=CHURN")
		status, _ := c.opens(gate, r.Clone(t.Context()))
		require.Equal(t, 200, status)
		r.URL.RawQuery = "p=OPEN_to_find"
		c.fake.RemoveAPIKey("key")
		c.fake.AddAPIKey("key", "eve")
		for range 20 {
			status, _ = c.opens(gate, r.Clone(t.Context()))
			require.Equal(t, 503, status)
		}
		errors := book.with("level=ERROR")
		require.Len(t, errors, 1)
		assert.Contains(t, errors[0], "administrator")
		c.fake.RemoveAPIKey("key")
		c.fake.AddAPIKey("key", "")
		status, _ = c.opens(gate, r.Clone(t.Context()))
		assert.Equal(t, 403, status, "which is the visitor's again")
	})
}

// A proxy starts to drop our header after DSS has verified the visitor.
func TestProjectGateNoticesAnotherUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		c := newCompany(t, dssauth.Config{Impersonation: dssauth.ByProxyUser, Logger: book.logger()})
		gate := c.auth.RequireProjectOf(func(r *http.Request) string { return r.URL.Query().Get("p") })
		r := c.request("ann", "/?p=CHURN")
		status, _ := c.opens(gate, r.Clone(t.Context()))
		require.Equal(t, 200, status)
		c.fake.Intercept(ownInfoPath, -1, dsstest.Respond(200, `{"authSource": "USER_FROM_UI", "authIdentifier": "admin", "groups": []}`))
		r.URL.RawQuery = "p=OPEN_to_find"
		status, _ = c.opens(gate, r.Clone(t.Context()))
		assert.Equal(t, 503, status)
		assert.Len(t, book.with("acts as another user"), 1)
	})
}

// DSS does not let the application act as its visitors: that is not a visitor's
// mistake, and the log gives the remedy.
func TestProjectGateWithoutTheRightToActAsVisitors(t *testing.T) {
	forbidden := dsstest.Respond(403, `{"errorType": "com.dataiku.dip.exceptions.UnauthorizedException", "message": "no"}`)
	gone := dsstest.Respond(404, `{"errorType": "com.dataiku.dip.server.controllers.NotFoundException", "message": "no"}`)
	for _, row := range []struct {
		name  string
		mode  dssauth.Impersonation
		path  string
		reply dsstest.Interceptor
		fix   string
	}{
		{"a ticket call that is refused", dssauth.ByTicket, ticketPath, forbidden, "Impersonation in webapps"},
		{"a ticket call that is not there", dssauth.ByTicket, ticketPath, gone, "Impersonation in webapps"},
		{"acting that is refused", dssauth.ByProxyUser, ownInfoPath, forbidden, "administrator"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var book logBook
				c := newCompany(t, dssauth.Config{Impersonation: row.mode, Logger: book.logger()})
				gate, r := c.auth.RequireProject("CHURN"), c.request("ann", "/")
				require.Equal(t, 200, serve(c.auth.Handler(whoami), r.Clone(t.Context())).Code)
				c.fake.Intercept(row.path, -1, row.reply)
				for range 20 {
					status, _ := c.opens(gate, r.Clone(t.Context()))
					require.Equal(t, 503, status)
				}
				assert.Zero(t, c.questions())
				errors := book.with("level=ERROR")
				require.Len(t, errors, 1)
				assert.Contains(t, errors[0], row.fix)
				c.fake.Intercept("", 0, nil)
				status, _ := c.opens(gate, r.Clone(t.Context()))
				assert.Equal(t, 200, status)
			})
		})
	}
}

// A ticket that DSS rejects in the middle is replaced, once for all waiting requests.
func TestProjectGateRenewsItsTicketOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(t, dssauth.Config{Impersonation: dssauth.ByTicket})
		gate, r := c.auth.RequireProjectOf(func(r *http.Request) string { return r.URL.Query().Get("p") }), c.request("ann", "/?p=CHURN")
		opens := func(project string) int {
			r := r.Clone(t.Context())
			r.URL.RawQuery = "p=" + project
			status, _ := c.opens(gate, r)
			return status
		}
		require.Equal(t, 200, opens("CHURN"))
		c.fake.ExpireTickets()
		answers := make(chan int)
		for i := range 8 {
			go func() { answers <- opens(fmt.Sprint("P", i)) }()
		}
		for range 8 {
			assert.Equal(t, 403, <-answers)
		}
		assert.Equal(t, 2, c.fake.Calls(ticketPath))
	})
}

// If a visitor asks for one project after the other, few verdicts are remembered, and
// the visitor takes no more than a share of the questions at once.
func TestProjectVerdictsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(t, dssauth.Config{Impersonation: dssauth.ByTicket, TTL: time.Hour})
		gate, r := c.auth.RequireProjectOf(func(r *http.Request) string { return r.URL.Query().Get("p") }), c.request("ann", "/")
		opens := func(project string) int {
			r := r.Clone(t.Context())
			r.URL.RawQuery = "p=" + project
			status, _ := c.opens(gate, r)
			return status
		}
		for i := range 1000 {
			require.Equal(t, 403, opens(fmt.Sprint("P", i)))
		}
		asked := len(c.fake.Log(""))
		for i := range 1000 {
			require.Equal(t, 403, opens(fmt.Sprint("P", 999-i)))
		}
		assert.Equal(t, 1000-32, len(c.fake.Log(""))-asked)

		c.fake.Intercept("", -1, dsstest.Hang)
		answers := make(chan int, 1000)
		for i := range 1000 {
			go func() { answers <- opens(fmt.Sprint("Q", i)) }()
		}
		synctest.Wait()
		assert.Equal(t, 1000-32, len(answers)) // refused at once
	})
}

func TestProjectGateRefusesBadSettings(t *testing.T) {
	c := newCompany(t, dssauth.Config{Impersonation: dssauth.ByTicket})
	for _, key := range []string{"", " ", "CHURN ", "A/B", "..", "ÄPFEL", "A\n", "A%2FB"} {
		panics(t, "give it as in \"CHURN\"", func() { c.auth.RequireProject(key) })
	}
	panics(t, "no-key", func() { c.auth.RequireProject("no-key") })
	for b := range 128 {
		key := "A" + string(rune(b))
		if regexp.MustCompile(`^\w+$`).MatchString(key) {
			assert.NotPanics(t, func() { c.auth.RequireProject(key) }, key)
		} else {
			assert.Panics(t, func() { c.auth.RequireProject(key) }, key)
		}
	}
	assert.Panics(t, func() { c.auth.RequireProjectOf(nil) })
	_, without := inBubble(t, dssauth.Config{})
	panics(t, "set Config.Impersonation to ByTicket", func() { without.RequireProject("CHURN") })
	panics(t, "set Config.Impersonation to ByTicket", func() {
		without.RequireProjectOf(func(*http.Request) string { return "CHURN" })
	})
}

// panics fails the test unless f panics with part in its words.
func panics(t *testing.T, part string, f func()) {
	t.Helper()
	defer func() { assert.Contains(t, fmt.Sprint(recover()), part) }()
	f()
}

// A refusal says what the visitor can do about it.
func TestProjectGateRefusesInPlainWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(t, dssauth.Config{Impersonation: dssauth.ByTicket})
		says := func(gate func(http.Handler) http.Handler) string {
			return serve(gate(unreachable(t)), c.request("eve", "/")).Body.String()
		}
		assert.Contains(t, says(c.auth.RequireProjectOf(func(*http.Request) string { return "a-b" })), "Check the address")
		assert.Contains(t, says(c.auth.RequireProject("CHURN")), "neither you nor your groups")
		c.fake.Intercept(ticketPath, -1, dsstest.Respond(403, `{"errorType": "com.dataiku.dip.exceptions.UnauthorizedException", "message": "no"}`))
		said := says(c.auth.RequireProject("CHURN"))
		assert.Contains(t, said, "Tell the owner of this application")
		assert.NotContains(t, said, "did not answer")
	})
}

// DSS cannot be asked as a key without a user, and DSS does not know an identity of a
// test.
func TestProjectGateAsksAboutUsersOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(t, dssauth.Config{Impersonation: dssauth.ByTicket})
		gate := c.auth.RequireProject("CHURN")
		status, _ := c.opens(gate, request("GET", "/", "Authorization", "Bearer key-of-nobody"))
		assert.Equal(t, 403, status)
		status, _ = c.opens(gate, request("GET", "/", "Authorization", "Bearer key-of-ann"))
		assert.Equal(t, 200, status)
		r := httptest.NewRequestWithContext(dssauth.NewContext(context.Background(), dssauth.NewIdentity("ann")), http.MethodGet, "/", nil)
		w := serve(gate(unreachable(t)), r)
		assert.Equal(t, 500, w.Code)
	})
}

// A connection ends when its visitor may not read the project any more.
func TestProjectGateIsAskedAgainAboutConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(t, dssauth.Config{Impersonation: dssauth.ByTicket})
		gate, r := c.auth.RequireProject("CHURN"), c.request("ann", "/")
		var why error
		began := time.Now()
		w := serve(gate(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			ctx, end := c.auth.WhileSignedIn(r, 5*time.Second)
			defer end()
			pass(time.Minute)
			require.NoError(t, ctx.Err())
			c.fake.AddProject(dsstest.Project{Key: "CHURN", Owner: "olga"})
			<-ctx.Done()
			why = context.Cause(ctx)
		})), r)
		assert.Equal(t, 200, w.Code)
		require.ErrorIs(t, why, dssauth.ErrForbidden)
		assert.Less(t, time.Since(began), time.Minute+16*time.Second)
	})
}
