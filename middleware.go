// Package dssauth tells the handlers of a Go web application which Dataiku
// DSS user is behind a request.
//
// Companies run web applications behind DSS: a visitor is signed in to DSS in
// the browser, and the application's backend must know who that is. A
// [Middleware] forwards the cookies and headers that identify the visitor to
// DSS, remembers DSS's answer for a few seconds, and puts the [Identity] into
// the request's context:
//
//	client, err := dss.FromEnv()                             // inside DSS, on a laptop, or on a server
//	auth, err := dssauth.New(dssauth.Config{Client: client}) // wrong settings fail here
//
//	r := chi.NewRouter()
//	r.Use(auth.Handler) // signed-in DSS users only
//	r.With(auth.RequireGroup("analysts")).Get("/report", report)
//
// A handler asks [FromContext] who the visitor is, and [ClientFromContext] for
// a client that calls DSS with the visitor's own rights.
//
// # What is promised
//
// A request is handled under the identity that DSS gave for exactly the bytes
// it carried, or not at all. DSS has three answers: who it is; nobody, which is
// a 401; and none, which is a 503 and never taken for one of the others. A user
// who signs out, or loses a group, keeps access for at most [Config.TTL].
//
// # Order of middleware
//
// Put what must see every request, such as logging and CORS (whose preflight
// requests carry no credentials), in front of Handler. Identity by cookie needs
// protection against cross-site requests: use [http.CrossOriginProtection].
package dssauth

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/dssauth/dssauth/dss"
)

// Middleware identifies the visitors of the handlers that it wraps. It is
// safe for concurrent use. Make it with [New], once per DSS instance.
type Middleware struct {
	selector
	answers *answers
	refuser
	allowAPIKeys  bool
	client        *dss.Client
	impersonation Impersonation
}

// New returns a Middleware, or an error that names the setting that is wrong.
func New(c Config) (*Middleware, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	c.setDefaults()
	s, err := newSelector(c.Headers, c.Cookies, c.MaxHeaderBytes)
	if err != nil {
		return nil, err
	}
	told := &observer{hooks: c.Hooks, log: c.Logger}
	a := &answers{
		asker:   asker{clock: newClock(), resolver: c.Resolver, places: newLimiter(c.MaxLookups), told: told, timeout: c.Timeout},
		cache:   newCache(c.MaxEntries, c.MaxEntriesPerUser),
		flights: newFlights(int64(c.Timeout + 2*grace)),
		churn:   newChurn(),
		keep:    policy{c.TTL, c.RefusalTTL, c.StaleIfError, c.Impersonation != NoImpersonation},
		life:    newLifetime(),
	}
	if a.resolver == nil {
		a.dss = newDSSResolver(c.Client, c.UserDetails, c.Timeout, c.Logger, a.clock, a.life)
		a.resolver = a.dss
	}
	return &Middleware{
		selector:      s,
		answers:       a,
		refuser:       refuser{vary: slices.Clip(slices.Clone(s.names)), loginURL: c.LoginURL, onError: c.OnError, told: told},
		allowAPIKeys:  c.AllowAPIKeys,
		client:        c.Client,
		impersonation: c.Impersonation,
	}, nil
}

// Handler wraps next so that it is reached by identified visitors only, whose
// [Identity] it finds by [FromContext]. All others are refused, see
// [Config.OnError].
//
// Before next runs, the response gets "Cache-Control: private" and a Vary with
// the names of the identifying headers, so that no shared cache gives one
// visitor's page to another. Headers that next sets replace these. Headers that
// a middleware in front has set stay, with two exceptions: a Cache-Control with
// "public" or "s-maxage" becomes "private", and Vary gets the missing names.
// [net/http/httputil.ReverseProxy] adds headers instead of setting them: the
// example shows how the Cache-Control of its upstream wins.
func (m *Middleware) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e, asked, err := m.identify(r)
		if err != nil {
			m.refuse(w, r, err)
			return
		}
		m.welcome(w, r, asked)
		admitted := m.attach(r, e)
		defer handBack(r, admitted)
		next.ServeHTTP(w, admitted)
	})
}

// Optional wraps next so that anonymous visitors reach it too, without an
// identity. That is for visitors of whom DSS said that they are nobody, or who
// sent no credentials: where DSS could not say, the request is refused.
//
// The response to an identified visitor gets the headers that [Middleware.Handler]
// sets, the response to an anonymous one gets Vary only.
func (m *Middleware) Optional(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e, asked, err := m.identify(r)
		admitted := r
		switch {
		case err == nil:
			m.welcome(w, r, asked)
			admitted = m.attach(r, e)
		case StatusCode(err) == http.StatusUnauthorized: // and no outage that such an error caused
			addVary(w.Header(), m.vary)
			admitted = m.attachAnonymous(r)
		default:
			m.refuse(w, r, err)
			return
		}
		defer handBack(r, admitted)
		next.ServeHTTP(w, admitted)
	})
}

// RequireGroup returns a gate that admits members of at least one of the
// groups, by exact name. It identifies the visitor itself, as Handler does,
// where this Middleware has not yet. It panics where no group is given, or a
// blank one.
func (m *Middleware) RequireGroup(anyOf ...string) func(http.Handler) http.Handler {
	if len(anyOf) == 0 {
		panic("dssauth: RequireGroup without a group: name at least one, or use Handler to admit every DSS user")
	}
	groups := slices.Clone(anyOf)
	for _, g := range groups {
		if strings.TrimSpace(g) == "" {
			panic(fmt.Sprintf("dssauth: RequireGroup: group %q is blank: is a setting missing?", g))
		}
	}
	return m.Require(func(_ *http.Request, id Identity) error {
		if slices.ContainsFunc(groups, id.InGroup) {
			return nil
		}
		return refuse(ErrForbidden, "the visitor is in none of the required groups")
	})
}

// Require returns a gate that admits the visitors for whom admit returns nil.
// An error that wraps [ErrForbidden] refuses the visitor, and goes to hooks and
// [Config.OnError] as it is; any other means that the question could not be
// answered, a 503, and its text is not repeated. It is asked on every request, and
// identifies the visitor itself, as Handler does, where this Middleware has not
// yet. It panics where admit is nil.
//
// Admit is asked again about each connection that [Middleware.WhileSignedIn]
// watches, from another goroutine, until the connection's CancelFunc has
// returned. It is then given a fresh copy of the request as it was when
// WhileSignedIn was called: with all that came from the wire but the body, with
// [http.Request.PathValue], and with a context that holds the visitor and none
// of a router's values. So read path parameters by PathValue, or from the URL.
func (m *Middleware) Require(admit func(*http.Request, Identity) error) func(http.Handler) http.Handler {
	if admit == nil {
		panic("dssauth: Require(nil): give a function that decides, or use Handler to admit every DSS user")
	}
	g := &gate{admit}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			v, ok := m.attached(r.Context())
			admitted, asked := r, false
			if !ok {
				if v != nil && v.m == nil {
					m.refuse(w, r, errAnonymous)
					return
				}
				e, looked, err := m.identify(r)
				if err != nil {
					m.refuse(w, r, err)
					return
				}
				admitted, asked = m.attach(r, e), looked
				v, _ = m.attached(admitted.Context())
				defer handBack(r, admitted)
			}
			if err := admit(admitted, v.entry.identity); err != nil {
				m.refuse(w, admitted, gateError(err))
				return
			}
			if !ok {
				m.welcome(w, r, asked)
			}
			inner := m.admitted(admitted, v, g)
			if inner != admitted {
				defer handBack(admitted, inner)
			}
			next.ServeHTTP(w, inner)
		})
	}
}

// gate is what [Middleware.Require] was given.
type gate struct {
	admit func(*http.Request, Identity) error
}

// asksAgain asks about a connection. A gate that cannot answer, or panics, says
// nothing about the visitor, and nor does an error of its that panics when it is
// read.
func (g *gate) asksAgain(r *http.Request, id Identity) error {
	var refused, panicked error
	func() {
		defer recovered(&panicked)
		if err := g.admit(r, id); err != nil {
			refused = gateError(err)
		}
	}()
	if panicked != nil {
		return unavailable("a gate failed", panicked, 0)
	}
	return refused
}

// admitted returns r with g remembered in it. The first gate finds a place in
// what Handler attached; each further one attaches another visit.
func (m *Middleware) admitted(r *http.Request, v *visit, g *gate) *http.Request {
	if v.gate.CompareAndSwap(nil, g) || v.gate.Load() == g {
		return r
	}
	both := newVisit(r, v.m, v.entry)
	both.gate.Store(g)
	return both.request
}

// Authenticate attaches the visitor's identity to r itself, and returns r, for
// frameworks whose middleware is not made of [http.Handler]. Call it once, before
// anything else holds r or its context: r is changed without a lock. A second
// call replaces what the first one attached. On an error, which wraps one of this
// package's, it returns nil, and r carries no identity any more: answer it with
// [Middleware.Refuse].
//
// Authenticate sees no response. Where a shared cache may be in front, set the
// headers that [Middleware.Handler] sets, as the example does. The cookie of
// [Config.LoginURL] is not cleared: a visitor who signs in and out again within 30s
// is shown the refusal, with its link, and not redirected.
func (m *Middleware) Authenticate(r *http.Request) (*http.Request, error) {
	e, _, err := m.identify(r)
	if err != nil {
		if hidden := m.attachAnonymous(r); hidden != r {
			*r = *hidden
		}
		return nil, err
	}
	m.attachTo(r, e)
	return r, nil
}

// Refuse answers r as [Middleware.Handler] answers a request that it refuses with
// err: with the same headers, hooks, redirect to sign in and [Config.OnError].
func (m *Middleware) Refuse(w http.ResponseWriter, r *http.Request, err error) { m.refuse(w, r, err) }

// identify returns DSS's answer to who sent r: from memory at once, or else from
// DSS, and whether DSS was asked. It is the whole way of a request.
func (m *Middleware) identify(r *http.Request) (e *entry, asked bool, err error) {
	raw, err := m.selector.raw(r.Header)
	if err != nil {
		return nil, false, err
	}
	e, due := m.answers.known(raw)
	if e == nil || due {
		if e, asked, err = m.ask(r, raw, e); err != nil {
			return nil, false, err
		}
	}
	if e.identity.APIKeyID != "" && !m.allowAPIKeys {
		return nil, false, errAPIKey
	}
	return e, asked, nil
}

// ask is for raw headers that are not known, and for an answer to be refreshed.
func (m *Middleware) ask(r *http.Request, raw key, known *entry) (e *entry, asked bool, err error) {
	c, err := m.selector.pick(r.Header)
	switch {
	case err != nil:
		return nil, false, err
	case known != nil:
		m.answers.refresh(c, known)
		return known, false, nil
	}
	remembered := m.answers.cache.find(c.key) // also one that bridges an outage
	e, err = m.answers.who(r.Context(), raw, c, howAsked(r).byPerson())
	return e, e != remembered, err
}

// welcome sets the headers of the response to an admitted request.
func (m *Middleware) welcome(w http.ResponseWriter, r *http.Request, asked bool) {
	forOneVisitor(w.Header(), m.vary)
	if asked {
		clearMarks(w, r)
	}
}

// Forget makes the next request with r's credentials ask DSS again, for use
// after a sign-out. A lookup under way is not stored. It revokes nothing: who
// is still signed in to DSS is let in again.
func (m *Middleware) Forget(r *http.Request) {
	if c, err := m.selector.pick(r.Header); err == nil {
		m.answers.forget(c.key)
	}
}

// ForgetUser makes DSS be asked again about every visitor of this login, for
// use after the user's groups changed. An answer that DSS was asked for before
// is not stored any more, and no later request waits for it.
func (m *Middleware) ForgetUser(login string) { m.answers.forgetUser(login) }

// Stats returns the numbers of now. Hits are not counted: counting them would
// cost more than finding them.
func (m *Middleware) Stats() Stats { return m.answers.stats() }

// Close ends lookups under way and everything that [Middleware.WhileSignedIn]
// watches, and waits for them. Requests are refused afterwards. The error is
// that of a [Resolver] that does not return. Close does not close the Client:
// call [dss.Client.CloseIdleConnections] for that.
func (m *Middleware) Close() error {
	if !m.answers.close() {
		return errors.New("dssauth: Close: a lookup did not end: its Resolver ignores its context")
	}
	return nil
}

// Format keeps everything inside out of logs, whatever the verb.
func (m *Middleware) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "dssauth.Middleware") }
