package dssauth

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"
)

// Hooks are functions called on lookups and refusals, and never on hits, for
// tracing and metrics. Each may be nil. They must be quick and safe for
// concurrent use; a panic in one is logged and changes nothing.
//
// What they are told holds no credential and no login: an error says its kind,
// DSS's status and class, and words of this package. What DSS, the network, a
// [Resolver] or a gate said is found by [errors.As] and can quote what it saw:
// do not log it. Only an error with which a gate forbids something, by wrapping
// [ErrForbidden], is passed on as the gate made it.
type Hooks struct {
	// LookupStart runs before DSS is asked. It may return a context for the
	// lookup, with a span for example; nil keeps ctx. No request's context is
	// behind ctx, since a lookup serves many requests.
	LookupStart func(ctx context.Context, renewal bool) context.Context
	// LookupEnd runs with LookupStart's context when the lookup has ended.
	LookupEnd func(ctx context.Context, l Lookup)
	// Refused runs for each request that is refused. [StatusCode] tells the
	// kind of err. r is the visitor's own request: log its path, not its headers.
	Refused func(r *http.Request, err error)
}

// Lookup tells how a question to DSS ended.
type Lookup struct {
	Outcome  Outcome
	Duration time.Duration // since it was this lookup's turn
	Renewal  bool          // a refresh ahead, for which no request waited
	Err      error         // nil for Identified
}

// Outcome is how a lookup ended.
type Outcome string

const (
	Identified  Outcome = "identified"  // DSS said who it is
	Nobody      Outcome = "nobody"      // DSS said that nobody is signed in
	Unavailable Outcome = "unavailable" // DSS could not say
	Stale       Outcome = "stale"       // the same, and an older answer bridges the outage
)

// Stats are numbers about a Middleware since it was made.
type Stats struct {
	Entries   int    // answers remembered now
	Refusals  int    // "nobody" answers remembered now
	Evictions uint64 // answers that made room for others before their time

	Lookups                                uint64 // questions to DSS that ended, by outcome:
	Identified, Nobody, Unavailable, Stale uint64

	InFlight int  // lookups that have a place towards DSS now
	Queued   int  // lookups that wait for one now
	DSSDown  bool // as our own question said last; never with a Config.Resolver
}

type counters struct{ identified, nobody, unavailable, stale atomic.Uint64 }

// Stats returns the numbers of now. Hits are not counted: counting them would
// cost more than finding them.
func (m *Middleware) Stats() Stats {
	c := m.cache
	c.mu.Lock()
	s := Stats{Entries: c.order.Len(), Evictions: c.evictions}
	c.mu.Unlock()
	s.Refusals = c.refusals.Len()
	s.Identified, s.Nobody = m.counters.identified.Load(), m.counters.nobody.Load()
	s.Unavailable, s.Stale = m.counters.unavailable.Load(), m.counters.stale.Load()
	s.Lookups = s.Identified + s.Nobody + s.Unavailable + s.Stale
	s.InFlight, s.Queued = len(m.lanes.all), int(m.lanes.queued.Load())
	if m.dss != nil {
		s.DSSDown = m.dss.outage.isKnownDown()
	}
	return s
}

// lookupStarted calls the hook, and returns the lookup's context and what to
// call at its end. A context from the hook keeps the deadline.
func (m *Middleware) lookupStarted(ctx context.Context, f *flight) (context.Context, func(err error)) {
	if m.hooks.LookupStart != nil {
		m.guard("LookupStart", func() {
			if own := m.hooks.LookupStart(ctx, f.renews); own != nil {
				ctx = within{own, ctx}
			}
		})
	}
	start := m.now()
	return ctx, func(err error) {
		l := Lookup{Duration: time.Duration(m.now() - start), Renewal: f.renews, Err: err}
		switch {
		case err == nil:
			l.Outcome = Identified
			m.counters.identified.Add(1)
		case errors.Is(err, ErrUnauthenticated):
			l.Outcome = Nobody
			m.counters.nobody.Add(1)
		case f.err == nil:
			l.Outcome = Stale
			m.counters.stale.Add(1)
		default:
			l.Outcome = Unavailable
			m.counters.unavailable.Add(1)
		}
		if m.hooks.LookupEnd != nil {
			m.guard("LookupEnd", func() { m.hooks.LookupEnd(ctx, l) })
		}
	}
}

// within has the values of one context and the end of another.
type within struct {
	context.Context
	end context.Context
}

func (c within) Deadline() (time.Time, bool) { return c.end.Deadline() }
func (c within) Done() <-chan struct{}       { return c.end.Done() }
func (c within) Err() error                  { return c.end.Err() }

func (m *Middleware) hookRefused(r *http.Request, err error) {
	if m.hooks.Refused != nil {
		m.guard("Refused", func() { m.hooks.Refused(r, err) })
	}
}

func (m *Middleware) guard(hook string, call func()) {
	var err error
	func() {
		defer recovered(&err)
		call()
	}()
	if err != nil {
		m.log.Error("dssauth: a hook panicked", "hook", hook, "error", err)
	}
}
