package promises

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

// DSS is asked about a visitor at work again before each answer ends. The next answer
// keeps the visitor's ticket or client, unless another user has signed in meanwhile.
func TestRefreshKeepsTheTicketOrClient(t *testing.T) {
	for _, row := range []struct {
		name string
		mode dssauth.Impersonation
		call string // made once for a visitor
	}{
		{"a ticket", dssauth.ByTicket, ticketPath},
		{"a verified proxy user", dssauth.ByProxyUser, ownInfoPath},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake, auth := inBubble(t, dssauth.Config{Impersonation: row.mode})
				fake.AddUser(dsstest.User{Login: "bob"})
				cookie := fake.SignIn("ann")
				visit := func() (login string) {
					r := httptest.NewRequest(http.MethodGet, "/", nil)
					r.AddCookie(cookie)
					require.NoError(t, through(auth.Handler, r, func(r *http.Request) error {
						id, _ := dssauth.FromContext(r.Context())
						login = id.Login
						return listProjects(r)
					}))
					calls := fake.Log(projectsPath)
					require.Equal(t, login, calls[len(calls)-1].Caller)
					pass(time.Second)
					return login
				}
				for range 60 {
					require.Equal(t, "ann", visit())
				}
				assert.Greater(t, fake.Calls(lookupPath), 5)
				assert.Equal(t, 1, fake.Calls(row.call))

				fake.AddSession(cookie.Name, cookie.Value, "bob")
				for visit() == "ann" {
				}
				for range 60 {
					require.Equal(t, "bob", visit())
				}
				assert.Equal(t, 2, fake.Calls(row.call))
			})
		})
	}
}

// A page makes five calls as its visitor at once, and eight such pages are open:
// over ten refreshes that costs one ticket and one check of it. A ticket that DSS
// rejects then is replaced once, for all who wait.
func TestPagesThatActAsTheVisitorShareATicket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, auth := inBubble(t, dssauth.Config{Impersonation: dssauth.ByTicket})
		fake.SetLatency(50 * time.Millisecond)
		cookie := fake.SignIn("ann")
		opens := func() (failed int) {
			errs := make(chan error)
			for range 8 {
				r := httptest.NewRequest(http.MethodGet, "/", nil)
				r.AddCookie(cookie)
				go func() {
					errs <- through(auth.Handler, r, func(r *http.Request) error {
						calls := make(chan error)
						for range 5 {
							go func() { calls <- listProjects(r) }()
						}
						var all []error
						for range 5 {
							all = append(all, <-calls)
						}
						return errors.Join(all...)
					})
				}()
			}
			for range 8 {
				if err := <-errs; err != nil {
					failed++
				}
			}
			return failed
		}
		const refreshes = 10
		for fake.Calls(lookupPath) <= refreshes {
			require.Zero(t, opens())
			pass(500 * time.Millisecond)
		}
		tickets, checks := fake.Calls(ticketPath), fake.Calls(ownInfoPath)
		t.Logf("figure: %d pages of five calls over %d refreshes: %d ticket calls, %d checks of the ticket", fake.Calls(projectsPath)/5, refreshes, tickets, checks)
		assert.Equal(t, []int{1, 1}, []int{tickets, checks})

		fake.ExpireTickets()
		require.Zero(t, opens())
		assert.Equal(t, []int{2, 2}, []int{fake.Calls(ticketPath), fake.Calls(ownInfoPath)})
	})
}
