// Package dsstest is a fake Dataiku DSS, for tests and for developing without
// one, as net/http/httptest is for HTTP. A whole test of a handler that wants
// to know who is browsing:
//
//	func TestHello(t *testing.T) {
//		fake := dsstest.NewServer(t)
//		fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"analysts"}})
//		auth, _ := dssauth.New(dssauth.Config{Client: fake.Client()})
//		r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
//		r.AddCookie(fake.SignIn("ann"))
//		auth.Handler(hello).ServeHTTP(w, r)
//		if w.Body.String() != "hello ann" {
//			t.Errorf("ann was greeted with %q", w.Body)
//		}
//	}
//
// It answers the calls that concern identity, below /dip/publicapi and
// /public/api alike, and in the words of a real one:
//
//	GET  /auth/info                         who is calling
//	POST /auth/info-from-browser-headers    whose browser sent these headers
//	POST /auth/ticket-from-browser-headers  a ticket to act as that user
//	GET  /users                             the users there are
//	GET  /users/{login}                     a user's display name, e-mail, groups
//	GET  /current-user                      the caller's own settings
//	PUT  /current-user                      saves them
//	GET  /projects/                         the projects that the caller may read
//	GET  /projects/{key}                    a project's summary
//	GET  /projects/{key}/jobs/              an empty list, for those who may read the project
//	GET  /projects/{key}/permissions        its owner and rights, for its administrators
//
// [DSS.Handle] adds what else an application calls. Credentials are API keys
// (Bearer, or Basic with the key as user name or as password) and tickets
// (X-DKU-APITicket); X-DKU-ProxyUser acts as another user and takes an
// administrator's rights.
//
// # Where it is worse than a real one
//
// What is not known of DSS is answered in the way that shows a careless client
// up. A call with an Authorization header and a ticket acts with the rights of
// the Authorization header. X-DKU-APITicket and X-DKU-ProxyUser among a
// browser's headers are believed, the latter without asking for any right.
// Tickets outlive the session they were made from.
//
// Also not checked against a real one: a browser's session goes before an API
// key in its Authorization header; a project that everybody may find shows its
// summary to everybody; acting as a user who is unknown or disabled
// is a 404, with an empty login or two a 400; an endpoint that is not there, or
// not with that method, is a 404. [Options] turns what is known, or
// suspected, to differ between instances, [DSS.Intercept] everything else.
//
// # Judging whom DSS acted as
//
// [DSS.Log] and [DSS.LastCaller] tell whom each call was acted upon as, from
// the credentials that arrived. That is the place to look in a test that a
// call was made as the visitor, and not with an administrator's rights.
//
// The zero values of [DSS] and [Server] are of no use: call [New] or
// [NewServer]. All their methods may be called at any time, from any goroutine.
package dsstest

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// DSS is a fake DSS: an [http.Handler] and what a test sets it to.
type DSS struct {
	api   *http.ServeMux // its own endpoints
	added *http.ServeMux // those of Handle, which go first
	calls callLog

	mu         sync.RWMutex
	cookieName string
	options    Options
	users      map[string]User
	groups     []string           // of any user so far, for the page
	settings   map[string][]byte  // login → own settings, a JSON object
	sessions   map[session]string // → login
	keys       map[string]apiKey
	tickets    map[string]string  // → login
	projects   map[string]Project // nil: firstProjects
	issued     []string           // tickets given out to browsers, oldest first
	down       bool
	latency    time.Duration
	faults     []*fault
}

// cookiePrefix is what the names of all session cookies start with.
const cookiePrefix = "dss_session_"

// New returns a DSS with no users, no sessions and no API keys, for programs
// that serve it themselves. Tests are better served by [NewServer].
func New() *DSS {
	d := &DSS{
		// The name depends on the instance, as it does in DSS: whoever
		// hard-codes one finds out here.
		cookieName: cookiePrefix + rand.Text()[:8],
		added:      http.NewServeMux(),
		users:      map[string]User{},
		settings:   map[string][]byte{},
		sessions:   map[session]string{},
		keys:       map[string]apiKey{},
		tickets:    map[string]string{},
	}
	d.api = d.endpoints()
	return d
}

// Options are the ways in which one DSS differs from another. The zero value
// is a DSS as it comes.
type Options struct {
	// HideAccessTokens is DSS's setting of that name: session cookies are not
	// seen, so that whoever has nothing else is a visitor without a session.
	HideAccessTokens bool

	// EmptyIdentifier answers a lookup that finds nobody with 200 and an empty
	// authIdentifier, instead of a 401.
	EmptyIdentifier bool

	// AdminLookupsOnly refuses (403) the two calls that take a browser's
	// headers to callers without an administrator's rights.
	AdminLookupsOnly bool

	// NoImpersonation holds the groups whose members no ticket is given out
	// for (403), as where the right "Impersonation in webapps" is missing.
	// "*" is everybody.
	NoImpersonation []string

	// RestrictedUsers refuses (403) GET /users and GET /users/{login} to callers
	// without an administrator's rights.
	RestrictedUsers bool

	// BareTickets answers with the ticket itself instead of {"msg": ticket},
	// as very old servers do.
	BareTickets bool

	// HiddenProjects is the status of the one answer that DSS 14.6 was seen to
	// give for a project that the caller may not see and for one that is not
	// there: UnauthorizedException, "Failed to read project permissions". Whether
	// that was 401 or 403 is not known. Zero answers as older documentation and
	// code show it: 403, and, to administrators, 404 for a project that is not there.
	HiddenProjects int

	// DiscoverableJobs answers GET /projects/{key}/jobs/ to all who may find a
	// project, and not only to those who may read it.
	DiscoverableJobs bool

	// LookupNeeds is a header of the browser without which no session is seen, as
	// where sessions are bound to a browser or an address. Empty is none.
	LookupNeeds string

	// IgnoreLoginCase finds a user whose login is spelled in another case, in
	// GET /users/{login} and in X-DKU-ProxyUser. Answers have the user's own
	// spelling.
	IgnoreLoginCase bool

	// Latin1ProxyUser reads X-DKU-ProxyUser as Latin-1, and not as UTF-8.
	Latin1ProxyUser bool

	// Version is what DSS says of itself in the header DSS-Version. Empty is
	// 14.3.3.
	Version string
}

func (o Options) version() string { return cmp.Or(o.Version, "14.3.3") }

// apiVersion is the header DSS-API-Version.
const apiVersion = "1"

// Configure replaces the options, from the next call on.
func (d *DSS) Configure(o Options) {
	o.NoImpersonation = slices.Clone(o.NoImpersonation)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.options = o
}

func (d *DSS) currentOptions() Options {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.options
}

// String does not show what is inside: keys, sessions and secrets.
func (d *DSS) String() string { return "dsstest.DSS" }

// Format is String, whatever the verb.
func (d *DSS) Format(s fmt.State, _ rune) { io.WriteString(s, d.String()) }

// forget removes what belongs to login. The caller holds d.mu.
func (d *DSS) forget(login string) {
	delete(d.users, login)
	delete(d.settings, login)
	maps.DeleteFunc(d.sessions, func(_ session, of string) bool { return of == login })
	maps.DeleteFunc(d.keys, func(_ string, k apiKey) bool { return k.login == login })
	maps.DeleteFunc(d.tickets, func(_, of string) bool { return of == login })
}
