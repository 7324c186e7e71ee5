// Package dssauth tells the handlers of a Go web application which Dataiku
// DSS user is behind a request.
//
// Companies run web applications behind DSS: a visitor is signed in to DSS in the
// browser, and the application's backend needs the visitor's identity. A [Middleware]
// forwards the cookies and headers that identify the visitor to DSS. It remembers DSS's
// answer for a few seconds, and puts the [Identity] into the request's context:
//
//	client, err := dss.FromEnv()                             // inside DSS, on a laptop, or on a server
//	auth, err := dssauth.New(dssauth.Config{Client: client}) // wrong settings fail here
//
//	r := chi.NewRouter()
//	r.Use(auth.Handler) // signed-in DSS users only
//	r.With(auth.RequireGroup("analysts")).Get("/report", report)
//	r.With(auth.RequireProject("CHURN")).Get("/churn", churn) // with Config.Impersonation: DSS decides
//
// A handler gets the visitor's identity from [FromContext]. [ClientFromContext] gives
// it a client that calls DSS with the visitor's own rights.
//
// # What is promised
//
// A request is handled under the identity that DSS gave for exactly the bytes it
// carried, or not at all. A lookup has one of three results. DSS names the visitor.
// DSS says anonymous: that is a 401. DSS gives no answer: that is a 503, and never
// counts as one of the other two. A user who signs out, or loses a group, keeps
// access for at most [Config.TTL]; [Config.StaleIfError] and [Config.Store] can add
// to it.
//
// # Order of middleware
//
// Put middleware that must see every request in front of Handler, such as logging and
// CORS (its preflight requests carry no credentials). An access log there gets the
// visitor's identity by [WithAccess]. Identity by cookie needs protection against
// cross-site requests: use [http.CrossOriginProtection].
package dssauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/dssauth/dssauth/dss"
)

// Middleware identifies the visitors of the handlers that it wraps. It is
// safe for concurrent use. Make it with [New], once per DSS instance.
type Middleware struct {
	selector
	answers *answers
	refuser
	faults        *faults
	allowAPIKeys  bool
	client        *dss.Client
	impersonation Impersonation
}

// New returns a Middleware, or an error that names the wrong setting.
func New(c Config) (*Middleware, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	c.setDefaults()
	s, err := newSelector(c.Headers, c.Cookies, c.MaxHeaderBytes)
	if err != nil {
		return nil, err
	}
	clock := newClock()
	told := &observer{clock: clock, hooks: c.Hooks, log: c.Logger}
	a := &answers{
		asker:   asker{clock: clock, resolver: c.Resolver, places: newPlaces(c.MaxLookups, c.Timeout, clock), told: told, timeout: c.Timeout},
		cache:   newCache(c.MaxEntries, c.MaxEntriesPerUser),
		flights: newFlights(int64(c.Timeout + 2*grace)),
		churn:   newChurn(c.MaxEntriesPerUser),
		keep:    policy{c.TTL, c.RefusalTTL, c.StaleIfError, c.Impersonation != NoImpersonation},
		life:    newLifetime(),
	}
	if a.resolver == nil {
		a.dss = newDSSResolver(c.Client, c.Timeout, c.Logger, a.clock, a.life)
		if c.UserDetails {
			a.dss.details = detailsOf(c.Client, c.asVisitor())
		}
		a.resolver = a.dss
	}
	if a.shared = c.sharing(s.names, a); a.shared != nil {
		a.life.run(a.shared.listen)
	}
	own := &faults{clock: a.clock, log: c.Logger, patience: c.Timeout}
	switch {
	case a.dss != nil:
		own.own = a.dss.outage
	case c.Client != nil:
		own.own = newOutage(c.Client, c.Logger, a.clock, a.life)
	}
	return &Middleware{
		selector:      s,
		answers:       a,
		refuser:       refuser{vary: slices.Clip(slices.Clone(s.names)), loginURL: c.LoginURL, onError: c.OnError, told: told},
		faults:        own,
		allowAPIKeys:  c.AllowAPIKeys,
		client:        c.Client,
		impersonation: c.Impersonation,
	}, nil
}

// Handler wraps next so that only identified visitors reach it. Next finds their
// [Identity] by [FromContext]. All others are refused, see [Config.OnError].
//
// Before next runs, the response gets "Cache-Control: private" and a Vary with the
// names of the identifying headers, so that no shared cache gives one visitor's page to
// another. Headers that next sets replace these. Headers that a middleware in front has
// set stay, with two exceptions: a Cache-Control with "public" or "s-maxage" becomes
// "private", and Vary gets the missing names. [net/http/httputil.ReverseProxy] adds
// headers instead of setting them: the example shows how to keep the Cache-Control of
// its upstream.
func (m *Middleware) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e, asked, err := m.identify(r, true)
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

// Optional wraps next so that anonymous visitors reach it too, without an identity: DSS
// does not know them, or they sent no credentials. If DSS gives no answer, the request
// is refused. A Handler or a gate inside uses the same answer, and does not ask DSS
// again.
//
// The response to an identified visitor gets the headers that [Middleware.Handler]
// sets. The response to an anonymous one gets Vary only.
func (m *Middleware) Optional(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		before := m.answers.count.Load()
		e, asked, err := m.identify(r, true)
		admitted := r
		switch {
		case err == nil:
			m.welcome(w, r, asked)
			admitted = m.attach(r, e)
		case StatusCode(err) == http.StatusUnauthorized: // and not an outage that such an error caused
			addVary(w.Header(), m.vary)
			admitted = m.attachUnknown(r, before)
		default:
			m.refuse(w, r, err)
			return
		}
		defer handBack(r, admitted)
		next.ServeHTTP(w, admitted)
	})
}

// RequireGroup returns a gate that admits members of at least one of the groups, by
// exact name. If this Middleware has not identified the visitor yet, the gate does, as
// Handler would. RequireGroup panics without a group, and on a name that no group can
// have: blank, with spaces at its ends, or with control characters.
func (m *Middleware) RequireGroup(anyOf ...string) func(http.Handler) http.Handler {
	if len(anyOf) == 0 {
		panic("dssauth: RequireGroup without a group: name at least one, or use Handler to admit every DSS user")
	}
	groups := slices.Clone(anyOf)
	for _, g := range groups {
		if strings.TrimSpace(g) == "" {
			panic(fmt.Sprintf("dssauth: RequireGroup: group %q is blank: is a setting missing?", g))
		}
		if trimmed := strings.TrimSpace(g); trimmed != g {
			panic(fmt.Sprintf("dssauth: RequireGroup: group %q has spaces at its ends, and names match exactly: write %q", g, trimmed))
		}
		if strings.ContainsFunc(g, unicode.IsControl) {
			panic(fmt.Sprintf("dssauth: RequireGroup: group %q has control characters, which no group's name has: remove them", g))
		}
	}
	return m.Require(func(_ *http.Request, id Identity) error {
		if slices.ContainsFunc(groups, id.InGroup) {
			return nil
		}
		return refuse(ErrForbidden, "the visitor is in none of the required groups")
	})
}

// Require returns a gate that admits the visitors for whom admit returns nil. Admit
// runs on every request. If this Middleware has not identified the visitor yet, the
// gate does, as Handler would. Require panics if admit is nil.
//
// An error that wraps [ErrForbidden] refuses the visitor with a 403, and goes to hooks
// and [Config.OnError] unchanged. An error that wraps [ErrUnavailable] means that the
// question has no answer now: a 503. [Middleware.Refuse] explains the errors of calls
// to DSS. Any other error, [ErrUnauthenticated] included, is a mistake of the
// application: a 500, which sends nobody to sign in, and a line in the log, once a
// minute. The text of these errors is not repeated.
//
// Admit runs again for each connection that [Middleware.WhileSignedIn] watches, in
// another goroutine, until the connection's CancelFunc has returned. It then gets a
// fresh copy of the request from the time when WhileSignedIn was called. The copy has
// everything from the wire except the body, and it has [http.Request.PathValue]. Its
// context holds the visitor, and no values of a router. So read path parameters by
// PathValue, or from the URL.
func (m *Middleware) Require(admit func(*http.Request, Identity) error) func(http.Handler) http.Handler {
	if admit == nil {
		panic("dssauth: Require(nil): give a function that decides, or use Handler to admit every DSS user")
	}
	return m.gate(func(r *http.Request, v *visit) error {
		if err := admit(r, v.entry.identity); err != nil {
			return m.judged(r, err, true)
		}
		return nil
	})
}

// gate returns a gate that admits the requests for which admit returns nil, and
// refuses the others with its error.
func (m *Middleware) gate(admit func(*http.Request, *visit) error) func(http.Handler) http.Handler {
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
				e, looked, err := m.identify(r, true)
				if err != nil {
					m.refuse(w, r, err)
					return
				}
				admitted, asked = m.attach(r, e), looked
				v, _ = m.attached(admitted.Context())
				defer handBack(r, admitted)
			}
			if err := admit(admitted, v); err != nil {
				m.refuse(w, admitted, err)
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

// gate is a gate that admitted a request.
type gate struct {
	admit func(*http.Request, *visit) error
}

// asksAgain asks about a connection. These say nothing about the visitor: a gate that
// cannot answer or panics, an error that is a mistake, and an error that panics when it
// is read.
func (g *gate) asksAgain(r *http.Request, v *visit) error {
	var refused, panicked error
	func() {
		defer recovered(&panicked)
		refused = g.admit(r, v)
	}()
	if panicked != nil {
		return unavailable("a gate failed", panicked, 0)
	}
	if refused == nil {
		return nil
	}
	var own *refusal
	switch isOwn := errors.As(refused, &own); kindOf(refused) {
	case errNotFound: // a thing that is gone admits nobody
		return &refusal{kind: ErrForbidden, why: "a gate found nothing in DSS", cause: refused}
	case errMistake, errNonsense:
		why := unavailable("a gate failed", nil, 0)
		if isOwn {
			why = unavailable("a gate failed", own.cause, 0)
		}
		return why
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

// Authenticate attaches the visitor's identity to r itself, and returns r. It is for
// frameworks whose middleware is not made of [http.Handler]. Call it once, before
// anything else holds r or its context: r is changed without a lock. A second call asks
// again, and replaces the first identity. On an error it returns nil, and r carries no
// identity any more: answer it with [Middleware.Refuse]. The error wraps one of this
// package's.
//
// Authenticate sees no response. If a shared cache may be in front, set the headers
// that [Middleware.Handler] sets, as its example does. The cookie of [Config.LoginURL]
// is not cleared: if a visitor signs in and out again within 30s, the visitor sees the
// refusal with its link, and is not redirected.
func (m *Middleware) Authenticate(r *http.Request) (*http.Request, error) {
	e, _, err := m.identify(r, false)
	if err != nil {
		if hidden := m.attachAnonymous(r); hidden != r {
			*r = *hidden
		}
		return nil, err
	}
	m.attachTo(r, e)
	return r, nil
}

// Refuse refuses r as [Middleware.Handler] does: with the same headers, hooks, redirect
// to sign in and [Config.OnError]. Use it for a request that must not reach its
// handler, or that its handler cannot handle. Write nothing before it, and nothing
// after. A handler that has set a Content-Encoding removes it first: Refuse keeps that
// header, since a middleware in front may have set it.
//
// Err is an error of [Middleware.Authenticate], [ClientFromContext] or
// [SecretsFromContext], or of a call to DSS as the visitor. [StatusCode] gives the
// status, with one exception: a 401 of DSS becomes a 503 unless DSS accepts the
// application's own credentials. A believed 401 ends the visitor's answer. Any other
// error, nil included, is a mistake of the application: a 500, and a line in the log,
// once a minute.
//
// Over HTTP/1, Refuse first reads up to 256 KiB of an unread body, for at most a
// second, as Handler does. [Config.OnError] does not get that body. A proxy in front
// that still sends a larger or slower body may answer 502 itself.
//
// R may be nil, if you have only the error of Authenticate. It then counts as a request
// without headers.
func (m *Middleware) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	if r == nil {
		r = &http.Request{Header: http.Header{}, URL: &url.URL{}}
	}
	m.refuse(w, r, m.judged(r, err, false))
}

// judged returns the refusal for err, an error of a gate or a handler.
func (m *Middleware) judged(r *http.Request, err error, gate bool) error {
	said := m.faults.of(r.Context(), err, origin{r.Pattern, gate})
	if v, ok := m.attached(r.Context()); ok && v.m == m && StatusCode(said) == http.StatusUnauthorized && isNotAuthenticated(said) {
		m.answers.forget(v.entry.key)
	}
	return said
}

// refuse answers a request that must not reach its handler. It gives OnError a request
// whose context holds a notice for WriteRefusal.
func (m *Middleware) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if noticeOf(r) != nil { // OnError called it, and would be called without end
		WriteRefusal(w, r, err)
		return
	}
	id, known := FromContext(r.Context())
	with := &notice{ofKey: known && id.APIKeyID != "" || errors.Is(err, errAPIKey)}
	refused := r.WithContext(context.WithValue(r.Context(), noticeKey{}, with))
	defer handBack(r, refused)
	m.refuser.refuse(w, refused, err, with)
}

// identify returns DSS's answer about r's sender, and whether DSS was asked. The answer
// comes from memory at once, or, with again, from what m has attached to r, or else
// from DSS. This is the whole way of a request.
func (m *Middleware) identify(r *http.Request, again bool) (e *entry, asked bool, err error) {
	raw, err := m.selector.raw(r.Header)
	if err != nil {
		return nil, false, err
	}
	e, due := m.answers.known(raw, m.answers.now())
	if e == nil {
		if e, due, err = m.recognise(r.Header, raw); err != nil {
			return nil, false, err
		}
	}
	if e == nil || due {
		if e, asked, err = m.ask(r, e, again); err != nil {
			return nil, false, err
		}
	}
	if e.identity.APIKeyID != "" && !m.allowAPIKeys {
		return nil, false, errAPIKey
	}
	return e, asked, nil
}

// recognise looks up the picked headers, since the raw ones are not known.
func (m *Middleware) recognise(h http.Header, raw key) (e *entry, due bool, err error) {
	k, err := m.selector.pickKey(h)
	if err != nil {
		return nil, false, err
	}
	now := m.answers.now()
	if e, due = m.answers.known(k, now); e != nil {
		m.answers.addAlias(raw, e, now)
	}
	return e, due, nil
}

// ask handles a visitor who is not known, and an answer that needs a refresh.
func (m *Middleware) ask(r *http.Request, known *entry, again bool) (e *entry, asked bool, err error) {
	c, err := m.selector.pick(r.Header)
	switch {
	case err != nil:
		return nil, false, err
	case known != nil:
		m.answers.refresh(c, known)
		return known, false, nil
	}
	// Not before the cache: a look into the context takes a hit 17 to 60 ns.
	if again {
		if e, err := m.attachedAnswer(r.Context(), c.key); e != nil || err != nil {
			return e, false, err
		}
	}
	remembered := m.answers.cache.find(c.key) // also one that bridges an outage
	e, err = m.answers.who(r.Context(), c, howAsked(r).byPerson())
	return e, e != remembered, err
}

// welcome sets the headers of the response to an admitted request.
func (m *Middleware) welcome(w http.ResponseWriter, r *http.Request, asked bool) {
	forOneVisitor(w.Header(), m.vary)
	if asked {
		clearMarks(w, r)
	}
}

// Forget drops the answers about the visitor behind r, so that DSS is asked again.
// Use it after a sign-out. It drops the answer to r's own bytes, and those to every
// session of the same login. The login comes from the identity attached to r, and
// from the remembered answer to r's bytes. For an anonymous request, Forget drops the
// answer to its bytes only; for an API key without a user, the answers about the
// key's id. If DSS was asked before Forget, its answer is not stored, and no later
// request gets it. Forget revokes nothing: a visitor who is still signed in to DSS
// gets in again. So call it after the DSS session has ended, and behind Optional,
// since the visitor may then be anonymous.
func (m *Middleware) Forget(r *http.Request) {
	var owners []string
	if v, ok := m.attached(r.Context()); ok {
		owners = append(owners, v.entry.identity.owner())
	}
	c, err := m.selector.pick(r.Header)
	if err != nil {
		m.answers.forgetEverywhere(nil, owners...)
		return
	}
	if owner := m.answers.owner(c); owner != "" && !slices.Contains(owners, owner) {
		owners = append(owners, owner)
	}
	m.answers.forgetEverywhere(&c, owners...)
}

// ForgetUser drops the answers about every visitor of this login, so that DSS is
// asked again. Use it after the user's groups changed. If DSS was asked before
// ForgetUser, its answer is not stored. If a later request has joined such a lookup,
// and the answer is about this login, the request asks again.
func (m *Middleware) ForgetUser(login string) { m.answers.forgetEverywhere(nil, login) }

// Stats returns the current numbers. Hits are not counted: counting them would cost
// more than finding them.
func (m *Middleware) Stats() Stats { return m.answers.stats() }

// Close ends lookups under way and all connections that [Middleware.WhileSignedIn]
// watches, and waits for them. Requests are refused afterwards. The error means that a
// [Resolver] or a [Store] does not return. Call Close after
// [http.Server.Shutdown], which waits for event streams: end these in a function of
// [http.Server.RegisterOnShutdown], as examples/deploy does. Close does not close the
// Client: call [dss.Client.CloseIdleConnections] for that.
func (m *Middleware) Close() error {
	if !m.answers.close() {
		return errors.New("dssauth: Close: a call did not end: Config.Resolver or Config.Store ignores its context")
	}
	return nil
}

// Format prints no field, with any verb.
func (m *Middleware) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "dssauth.Middleware") }
