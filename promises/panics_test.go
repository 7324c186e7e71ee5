package promises

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// panicking is a transport, or a reader of its replies, that panics in the calls of one
// endpoint.
type panicking struct {
	next   http.RoundTripper
	path   string
	inBody bool
	over   atomic.Bool
}

func (p *panicking) RoundTrip(r *http.Request) (*http.Response, error) {
	chosen := strings.HasSuffix(r.URL.Path, p.path) && !p.over.Load()
	if chosen && !p.inBody {
		panic("choked on " + fmt.Sprint(r.Header))
	}
	reply, err := p.next.RoundTrip(r)
	if chosen && err == nil {
		reply.Body = panickingBody{}
	}
	return reply, err
}

type panickingBody struct{ io.Closer }

func (panickingBody) Read([]byte) (int, error) { panic("choked on the reply") }
func (panickingBody) Close() error             { return nil }

func TestPanicBelowTheClientIsNotAnAnswer(t *testing.T) {
	for _, test := range []struct {
		name    string
		path    string
		visitor string // a login, or junk
		want    string // afterwards
	}{
		{"in the lookup", lookupPath, "ann", "ann"},
		{"in the lookup of an anonymous visitor", lookupPath, "junk", "401"},
		{"in the check of our own key", ownInfoPath, "junk", "401"},
		{"in the call for details", "/users/ann", "ann", "ann"},
	} {
		for _, inBody := range []bool{false, true} {
			t.Run(test.name+map[bool]string{true: ", while the reply is read"}[inBody], func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := dsstest.New()
					d.AddAPIKey(ownKey, "")
					d.AddUser(dsstest.User{Login: "ann"})
					wire := &panicking{next: inMemory(d), path: test.path, inBody: inBody}
					client, err := dss.New(dss.Config{URL: "https://dss.example", APIKey: ownKey, HTTPClient: &http.Client{Transport: wire}})
					require.NoError(t, err)
					var book logBook
					m := newAuth(t, dssauth.Config{Client: client, Logger: book.logger(), UserDetails: true, StaleIfError: time.Hour})
					visitor := browser("junk")
					if test.visitor == "ann" {
						visitor = signedIn(d, "ann")
					}
					for range 3 {
						var waiting []<-chan string
						for range 10 {
							waiting = append(waiting, asks(m, visitor))
						}
						for _, got := range waiting {
							assert.Equal(t, "503", <-got)
						}
						pass(4 * time.Second) // the longest pause of these bytes
					}
					assert.Zero(t, m.Stats().Entries)
					assert.Zero(t, m.Stats().Refusals)
					assert.Empty(t, book.with("choked"), "the text of a panic is not logged")
					wire.over.Store(true)
					assert.Equal(t, test.want, who(m, visitor))
				})
			})
		}
	}
}

func TestPanicOfAResolverIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		m := newAuth(t, dssauth.Config{Logger: book.logger(), Resolver: resolver(func(context.Context, string) (dssauth.Identity, error) { panic("choked") })})
		defer m.Close()
		assert.Equal(t, "503", who(m, withCookies("session=ann")))
		synctest.Wait() // the line comes after the answer
		assert.Len(t, book.with("panic of type string"), 1)
		assert.Empty(t, book.with("choked"))
	})
}

// One visitor's bytes may make the client panic: that is not an outage for the others.
func TestOneVisitorsPanicsAreNotAnOutage(t *testing.T) {
	for _, inBody := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d := dsstest.New()
			d.AddAPIKey(ownKey, "")
			d.AddUser(dsstest.User{Login: "ann"})
			wire := &panicking{next: inMemory(d), path: lookupPath, inBody: inBody}
			client, err := dss.New(dss.Config{URL: "https://dss.example", APIKey: ownKey, HTTPClient: &http.Client{Transport: wire}})
			require.NoError(t, err)
			m := newAuth(t, dssauth.Config{Client: client})
			for i := range 50 {
				require.Equal(t, "503", who(m, browser(fmt.Sprint("eve", i))))
			}
			wire.over.Store(true)
			assert.False(t, m.Stats().DSSDown)
			assert.Equal(t, "ann", who(m, signedIn(d, "ann")))
		})
	}
}

func TestPanicInTicketFetchIsAnError(t *testing.T) {
	for _, path := range []string{ticketPath, ownInfoPath} { // the call, and the check of what it brought
		s := newSituation(t, dssauth.ByTicket, func(s *situation, c *dssauth.Config) {
			wire := &panicking{next: http.DefaultTransport, path: path}
			c.Client = s.client(s.fake.AdminKey(), &http.Client{Transport: wire})
		})
		err := s.visit(listProjects)
		require.Error(t, err, path)
		assert.NotContains(t, err.Error(), "choked", path)
		assert.Zero(t, s.actedAs("ann"), path)
	}
}
