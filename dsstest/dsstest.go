// Package dsstest is a fake Dataiku DSS, for tests and for development without
// a DSS, as net/http/httptest is for HTTP. This is a whole test of a handler
// that greets its visitor:
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
// It answers the calls about identity, below /dip/publicapi and below
// /public/api, in the words of a real DSS:
//
//	GET  /auth/info                         who is calling
//	POST /auth/info-from-browser-headers    whose browser sent these headers
//	POST /auth/ticket-from-browser-headers  a ticket to act as that user
//	GET  /users                             all users
//	GET  /users/{login}                     a user's display name, e-mail, groups
//	GET  /current-user                      the caller's own settings
//	PUT  /current-user                      saves them
//	GET  /projects/                         the projects that the caller may read
//	GET  /projects/{key}                    a project's summary
//	GET  /projects/{key}/jobs/              an empty list, for those who may read the project
//	GET  /projects/{key}/permissions        its owner and rights, for its administrators
//
// [DSS.Handle] adds other endpoints that an application calls. Credentials are
// API keys (Bearer, or Basic with the key as user name or as password) and
// tickets (X-DKU-APITicket). X-DKU-ProxyUser acts as another user, and needs an
// administrator's rights.
//
// # Differences from a real DSS
//
// Some behaviour of DSS is not known. The fake then gives the answer that
// exposes a careless client. A call with an Authorization header and a ticket
// acts with the rights of the Authorization header. X-DKU-APITicket and
// X-DKU-ProxyUser among a browser's headers are believed, and the latter needs
// no rights. Tickets outlive the session that they were made from.
//
// These answers were not checked against a real DSS either: a browser's session
// has priority over an API key in its Authorization header; a project that
// everybody may find shows its summary to everybody; acting as an unknown or
// disabled user is a 404, and with an empty login, or two logins, a 400; an
// unknown endpoint or method is a 404. [Options] sets the known or suspected
// differences between instances, and [DSS.Intercept] any other.
//
// # Checking the user that DSS acted as
//
// [DSS.Log] and [DSS.LastCaller] return the user that DSS acted as in each
// call. This follows from the credentials that arrived. Use them to test that
// a call was made as the visitor, and not with an administrator's rights.
//
// The zero values of [DSS] and [Server] do not work: call [New] or [NewServer].
// All their methods may be called at any time, from any goroutine.
package dsstest

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// DSS is a fake DSS: an [http.Handler] with the users, keys and faults that a
// test sets.
type DSS struct {
	api   *http.ServeMux // its own endpoints
	added *http.ServeMux // endpoints of Handle, which go first
	calls callLog

	mu         sync.RWMutex
	cookieName string
	options    Options
	users      map[string]User
	groups     []string           // all that users had so far, for the page
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

// cookiePrefix begins the names of all session cookies.
const cookiePrefix = "dss_session_"

// New returns a DSS without users, sessions and API keys, for programs that
// serve it themselves. In tests, use [NewServer].
func New() *DSS {
	d := &DSS{
		// The name depends on the instance, as in DSS: code with a fixed name fails
		// here.
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

// Options are the ways in which one DSS differs from another. The zero value is
// a freshly installed DSS.
type Options struct {
	// HideAccessTokens is DSS's setting of that name: DSS does not see session
	// cookies. A visitor without other credentials is then anonymous.
	HideAccessTokens bool

	// EmptyIdentifier answers a lookup of an anonymous visitor with 200 and an
	// empty authIdentifier, instead of a 401.
	EmptyIdentifier bool

	// AdminLookupsOnly refuses (403) callers without an administrator's rights
	// in the two calls that take a browser's headers.
	AdminLookupsOnly bool

	// NoImpersonation holds groups: a ticket for one of their members is refused
	// (403), as if the right "Impersonation in webapps" were missing. "*" is
	// everybody.
	NoImpersonation []string

	// RestrictedUsers refuses (403) callers without an administrator's rights
	// in GET /users and GET /users/{login}.
	RestrictedUsers bool

	// BareTickets answers with the ticket itself instead of {"msg": ticket},
	// as very old servers do.
	BareTickets bool

	// HiddenProjects is a status for projects that the caller may not see and for
	// missing projects. DSS 14.6 was seen to give the same answer for both:
	// UnauthorizedException, "Failed to read project permissions". It is not known
	// whether its status was 401 or 403. Zero answers as in older documentation
	// and code: 403, and, to administrators, 404 for a missing project.
	HiddenProjects int

	// DiscoverableJobs answers GET /projects/{key}/jobs/ for all users who may
	// find a project, and not only for its readers.
	DiscoverableJobs bool

	// LookupNeeds is a header of the browser. Without it DSS sees no session, as
	// if sessions were bound to a browser or an address. Empty means no header.
	LookupNeeds string

	// IgnoreLoginCase ignores upper and lower case of the login in GET
	// /users/{login} and in X-DKU-ProxyUser. Answers have the user's own
	// spelling.
	IgnoreLoginCase bool

	// Latin1ProxyUser reads X-DKU-ProxyUser as Latin-1, and not as UTF-8.
	Latin1ProxyUser bool

	// Version is the value of DSS's header DSS-Version. Empty means 14.3.3.
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

// Format does not show the content, which includes keys, sessions and secrets.
func (d *DSS) Format(s fmt.State, _ rune) { io.WriteString(s, "dsstest.DSS") }
