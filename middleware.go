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
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dssauth/dssauth/dss"
)

// Middleware identifies the visitors of the handlers that it wraps. It is
// safe for concurrent use. Make it with [New], once per DSS instance.
type Middleware struct {
	selector      selector
	cache         *cache
	resolver      Resolver
	lanes         *lanes
	client        *dss.Client
	impersonation Impersonation
	allowAPIKeys  bool
	loginURL      func(r *http.Request, back string) string
	onError       func(http.ResponseWriter, *http.Request, error)
	hooks         Hooks
	log           *slog.Logger
	counters      counters
	churn         churn // guarded by cache.mu
	trouble       nag
	mistaken      nag

	ttl, refusalTTL, staleIfError, timeout time.Duration

	base    time.Time // of now; read for its monotonic clock only
	life    context.Context
	end     context.CancelFunc
	running sync.WaitGroup // lookups and watchers
}

// now is the time since the Middleware was made, in nanoseconds. It is
// monotonic: setting the wall clock moves no expiry.
func (m *Middleware) now() int64 { return int64(time.Since(m.base)) }

// Handler wraps next so that it is reached by identified visitors only, whose
// [Identity] it finds by [FromContext]. All others are refused, see
// [Config.OnError].
func (m *Middleware) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e, err := m.identify(r)
		if err != nil {
			m.refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, m.attach(r, e))
	})
}

// Optional wraps next so that anonymous visitors reach it too, without an
// identity. That is for visitors of whom DSS said that they are nobody, or who
// sent no credentials: where DSS could not say, the request is refused.
func (m *Middleware) Optional(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e, err := m.identify(r)
		switch {
		case err == nil:
			r = m.attach(r, e)
		case StatusCode(err) == http.StatusUnauthorized: // and no outage that such an error caused
			r = m.attachNobody(r)
		default:
			m.refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// RequireGroup returns a gate that admits members of at least one of the
// groups, by exact name. It identifies the visitor itself where this
// Middleware has not yet. It panics where no group is given, or a blank one.
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
// An error that wraps [ErrForbidden] refuses the visitor; any other means that
// the question could not be answered, a 503. It is asked on every request, and
// identifies the visitor itself where this Middleware has not yet. It panics
// where admit is nil.
func (m *Middleware) Require(admit func(*http.Request, Identity) error) func(http.Handler) http.Handler {
	if admit == nil {
		panic("dssauth: Require(nil): give a function that decides, or use Handler to admit every DSS user")
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			v, ok := m.attached(r.Context())
			if !ok {
				e, err := m.identify(r)
				if err != nil {
					m.refuse(w, r, err)
					return
				}
				r = m.attach(r, e)
				v, _ = m.attached(r.Context())
			}
			if err := admit(r, *v.identity); err != nil {
				m.refuse(w, r, gateError(err))
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// Authenticate returns r with its visitor's identity attached, for frameworks
// whose middleware is not made of [http.Handler]. On an error, which wraps one
// of this package's, it returns nil, and r must not be handled: answer it with
// [Refuse].
func (m *Middleware) Authenticate(r *http.Request) (*http.Request, error) {
	e, err := m.identify(r)
	if err != nil {
		return nil, err
	}
	return m.attach(r, e), nil
}

// identify returns DSS's answer to who sent r: from the cache at once, or from
// DSS. It is the whole way of a request.
func (m *Middleware) identify(r *http.Request) (*entry, error) {
	raw, err := m.selector.raw(r.Header)
	if err != nil {
		return nil, err
	}
	now := m.now()
	e := m.cache.find(raw)
	if e == nil || now >= e.expires {
		if e, err = m.identifySlowly(r, raw, now); err != nil {
			return nil, err
		}
	} else if now >= e.renew {
		m.renew(r, e)
	}
	e.touch(now)
	if e.apiKey && !m.allowAPIKeys {
		return nil, errAPIKey
	}
	return e, nil
}

// identifySlowly is for requests whose raw headers are not known: it looks at
// the single cookies and, where that does not help, asks DSS.
func (m *Middleware) identifySlowly(r *http.Request, raw key, now int64) (*entry, error) {
	header, k, err := m.selector.pick(r.Header)
	if err != nil {
		return nil, err
	}
	if e := m.cache.find(k); e != nil && now < e.expires {
		if now >= e.renew {
			m.renew(r, e)
		}
		m.cache.addAlias(raw, e, now)
		return e, nil
	}
	// Who navigates may come straight from signing in.
	if end, ok := m.cache.refusals.Get(k); ok && now < end && !isNavigation(r) {
		return nil, errRemembered
	}
	return m.ask(r.Context(), k, header, func(e *entry) bool { return now < e.expires })
}

// ask returns the entry under k if it is fresh, else what a lookup brings.
func (m *Middleware) ask(ctx context.Context, k key, header http.Header, fresh func(*entry) bool) (*entry, error) {
	e, f := m.join(k, header, fresh, false)
	if f == nil {
		return e, nil
	}
	return m.wait(ctx, f)
}

var errRemembered = refuse(ErrUnauthenticated, "DSS knew no session for this request a moment ago")

// Close ends lookups under way and everything that [Middleware.WhileSignedIn]
// watches, and waits for them. Requests are refused afterwards. The error is
// that of a [Resolver] that does not return. Close does not close the Client:
// call [dss.Client.CloseIdleConnections] for that.
func (m *Middleware) Close() error {
	m.cache.close()
	m.end()
	ended := make(chan struct{})
	go func() {
		m.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-time.After(m.timeout + grace):
		return errors.New("dssauth: Close: a lookup did not end: its Resolver ignores its context")
	}
}

// Format keeps everything inside out of logs, whatever the verb.
func (m *Middleware) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "dssauth.Middleware") }
