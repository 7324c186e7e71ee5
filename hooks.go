package dssauth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Hooks are functions called on lookups and refusals, and never on hits, for
// tracing and metrics. Each may be nil. They must be quick and safe for
// concurrent use; a panic in one is logged and changes nothing.
//
// Their arguments hold no credential and no login: the text of an error has its kind,
// DSS's status and class, and words of this package. [errors.As] finds the errors of
// DSS, the network, a [Resolver] or a gate behind it. These can quote credentials: do
// not log them. Only an error that wraps [ErrForbidden], from a gate or a handler, is
// passed on unchanged.
type Hooks struct {
	// LookupStart runs before DSS is asked. It may return a context for the lookup,
	// with a span for example; nil keeps ctx. Ctx does not come from a request, since a
	// lookup serves many requests.
	LookupStart func(ctx context.Context, renewal bool) context.Context
	// LookupEnd runs with LookupStart's context when the lookup has ended.
	LookupEnd func(ctx context.Context, l Lookup)
	// Refused runs once for each refused request. [Middleware.Refuse] calls it, too.
	// [StatusCode] tells the kind of err. r is the visitor's own request: log its path,
	// not its headers.
	Refused func(r *http.Request, err error)
}

// JoinHooks returns hooks that call all the given ones, for metrics beside traces for
// example. LookupStart and Refused run in the given order, LookupEnd in the reverse
// order.
//
// The context that one LookupStart returns goes to the next one, and the last context
// goes to the lookup. Each LookupEnd gets the context of its own LookupStart: if two
// start a span, each ends its own. Nil functions are left out. If one panics, or calls
// [runtime.Goexit], the others still run. Without arguments, JoinHooks returns hooks
// that do nothing.
func JoinHooks(hooks ...Hooks) Hooks {
	all := slices.Clone(hooks)
	end := func(ctx context.Context, l Lookup) { endJoined(all, ctx, l) }
	return Hooks{
		LookupStart: func(ctx context.Context, renewal bool) context.Context {
			j := &joined{Context: ctx, hooks: all}
			over := false
			defer func() {
				if !over { // Goexit, which ends the lookup too
					end(j, Lookup{Outcome: OutcomeUnavailable, Renewal: renewal, Err: unavailable("a hook ended the lookup", nil, 0)})
				}
			}()
			j.start(all, renewal)
			over = true
			return j
		},
		LookupEnd: end,
		Refused: func(r *http.Request, err error) {
			inTurn(0, len(all), func(i int) {
				if f := all[i].Refused; f != nil {
					f(r, err)
				}
			})
		},
	}
}

// joined is the context of a lookup with joined hooks.
type joined struct {
	context.Context                   // of the last LookupStart
	hooks           []Hooks           // the owner of these contexts: joined hooks can be joined again
	own             []context.Context // for the LookupEnd of each; nil: none
	panicked        error             // a LookupStart: its panic must not lose the contexts of the others
}

type joinedKey struct{ hooks *Hooks } // the first one of them

func (j *joined) Value(k any) any {
	if key, ok := k.(joinedKey); ok && len(j.hooks) > 0 && key.hooks == &j.hooks[0] {
		return j
	}
	return j.Context.Value(k)
}

func (j *joined) start(hooks []Hooks, renewal bool) {
	inTurn(0, len(hooks), func(i int) {
		var panicked error
		ended := false
		defer func() {
			own := j.Context
			if panicked != nil {
				j.panicked = panicked
			} else if !ended { // Goexit: joined hooks have ended themselves
				own = nil
			}
			j.own = append(j.own, own)
		}()
		defer recovered(&panicked)
		if f := hooks[i].LookupStart; f != nil {
			if own := f(j.Context, renewal); own != nil {
				j.Context = own
			}
			if inner, ok := j.Context.(*joined); ok {
				panicked = inner.panicked
			}
		}
		ended = true
	})
}

func endJoined(hooks []Hooks, ctx context.Context, l Lookup) {
	if len(hooks) == 0 {
		return
	}
	j, _ := ctx.Value(joinedKey{&hooks[0]}).(*joined)
	inTurn(0, len(hooks), func(i int) {
		i = len(hooks) - 1 - i
		f, own := hooks[i].LookupEnd, ctx
		if j != nil {
			own = j.own[i]
		}
		if f != nil && own != nil {
			f(own, l)
		}
	})
}

// inTurn calls f with each number from i to below n. It goes on after a call that
// panics or calls Goexit.
func inTurn(i, n int, f func(i int)) {
	if i < n {
		defer inTurn(i+1, n, f)
		f(i)
	}
}

// Lookup is the result of a question to DSS.
type Lookup struct {
	Outcome  Outcome
	Duration time.Duration // without the wait for a place
	Renewal  bool          // an early refresh: no request waited for it
	Err      error         // nil for OutcomeIdentified
}

// Outcome is the result of a lookup.
type Outcome string

const (
	OutcomeIdentified  Outcome = "identified"  // DSS named the visitor
	OutcomeAnonymous   Outcome = "anonymous"   // DSS does not know the visitor
	OutcomeUnavailable Outcome = "unavailable" // DSS gave no answer
	OutcomeStale       Outcome = "stale"       // DSS gave no answer, and an older answer bridges the outage
)

// Stats are numbers about a Middleware since it was made.
type Stats struct {
	Entries   int    // answers remembered now
	Refusals  int    // "anonymous" answers remembered now
	Evictions uint64 // answers that were removed early to make room for others

	Lookups                                   uint64 // lookups that asked DSS, and have ended; by outcome:
	Identified, Anonymous, Unavailable, Stale uint64

	// Places is the number of lookups that may be under way towards DSS now. See
	// Config.MaxLookups.
	Places   int
	InFlight int           // lookups that have a place now
	Queued   int           // lookups that wait for a place now, without early refreshes
	Waited   time.Duration // the time that lookups waited for a place, in sum

	Store   StoreStats // zero without a Config.Store
	DSSDown bool       // the last result of our own question; always false with a Config.Resolver
}

// StoreStats are numbers about a [Config.Store] since the Middleware was made.
type StoreStats struct {
	Hits     uint64 // lookups that the store answered, so that DSS was not asked
	Misses   uint64 // lookups that the store did not answer
	Rejected uint64 // values that were not believed: unreadable, too old, of the future, or forgotten
	Failures uint64 // calls that failed, or took too long
	Out      bool   // true after three failures in a row, until a probe succeeds; DSS is asked instead
	Hears    bool   // true while this replica can watch the store
}

type counters struct{ identified, anonymous, unavailable, stale atomic.Uint64 }

// addTo sets the numbers about lookups in s.
func (c *counters) addTo(s *Stats) {
	s.Identified, s.Anonymous = c.identified.Load(), c.anonymous.Load()
	s.Unavailable, s.Stale = c.unavailable.Load(), c.stale.Load()
	s.Lookups = s.Identified + s.Anonymous + s.Unavailable + s.Stale
}

// observer tells hooks, the log and the counters.
type observer struct {
	*clock
	hooks    Hooks
	log      *slog.Logger
	counters counters
	troubled nag
	short    nag // of places
	full     nag // of entries
	storeOut nag
	storeBad nag // for one kind of call
	clocks   nag
	panicked struct{ start, end, refused nag } // hooks
	saidOut  atomic.Bool                       // and not yet that the store is back
	deaf     nag                               // for notices of other replicas
}

// lookupStarts calls the hook, and returns the lookup's context and what to call
// at its end, with its error and whether an answer is served all the same. A
// context from the hook keeps the deadline.
func (o *observer) lookupStarts(ctx context.Context, renews bool) (hooked context.Context, ended func(err error, served bool)) {
	if o.hooks.LookupStart != nil {
		o.guard("LookupStart", &o.panicked.start, func() {
			own := o.hooks.LookupStart(ctx, renews)
			if own != nil {
				ctx = within{own, ctx}
			}
			if j, ok := own.(*joined); ok && j.panicked != nil {
				o.panics("LookupStart", &o.panicked.start, j.panicked)
			}
		})
	}
	start := o.now()
	return ctx, func(err error, served bool) {
		o.lookupEnds(ctx, Lookup{Duration: time.Duration(o.now() - start), Renewal: renews, Err: err}, served)
	}
}

func (o *observer) lookupEnds(ctx context.Context, l Lookup, served bool) {
	switch {
	case l.Err == nil:
		l.Outcome = OutcomeIdentified
		o.counters.identified.Add(1)
	case errors.Is(l.Err, ErrUnauthenticated):
		l.Outcome = OutcomeAnonymous
		o.counters.anonymous.Add(1)
	case served:
		l.Outcome = OutcomeStale
		o.counters.stale.Add(1)
	default:
		l.Outcome = OutcomeUnavailable
		o.counters.unavailable.Add(1)
	}
	if o.hooks.LookupEnd != nil {
		o.guard("LookupEnd", &o.panicked.end, func() { o.hooks.LookupEnd(ctx, l) })
	}
}

// within has the values of one context, and ends with another.
type within struct {
	context.Context
	end context.Context
}

func (c within) Deadline() (time.Time, bool) { return c.end.Deadline() }
func (c within) Done() <-chan struct{}       { return c.end.Done() }
func (c within) Err() error                  { return c.end.Err() }

func (o *observer) refused(r *http.Request, err error) {
	if o.hooks.Refused != nil {
		o.guard("Refused", &o.panicked.refused, func() { o.hooks.Refused(r, err) })
	}
}

// guard calls a hook. A panic of it changes nothing.
func (o *observer) guard(hook string, said *nag, call func()) {
	var err error
	func() {
		defer recovered(&err)
		call()
	}()
	if err != nil {
		o.panics(hook, said, err)
	}
}

func (o *observer) panics(hook string, said *nag, err error) {
	if said.due(o.now()) {
		o.log.Error("dssauth: a hook panicked (said once a minute)", "hook", hook, "error", err)
	}
}

// trouble logs now and then that DSS gave no answer about a visitor.
func (o *observer) trouble(err error, now int64) {
	if errors.Is(err, ErrUnavailable) && o.troubled.due(now) {
		o.log.Warn("dssauth: a visitor could not be identified (said once a minute); to find out why, run cmd/dssauth doctor, then contract", "error", err.Error())
	}
}

// shortage is the reason why a visitor found no place towards DSS.
type shortage struct {
	places, most int
	latency      time.Duration // of DSS
	slow         bool          // too slow for more places
}

// crowded logs now and then that there are too few places, and how to help.
func (o *observer) crowded(s shortage, now int64) {
	if !o.short.due(now) {
		return
	}
	fix := "more open while DSS names visitors quickly; if this goes on, raise Config.TTL, and look for requests of visitors whom DSS does not know"
	switch {
	case s.slow:
		fix = "DSS is slow, and a higher Config.MaxLookups would make it slower: raise Config.TTL, or give DSS more memory and processors"
	case s.places == s.most:
		fix = "raise Config.MaxLookups, or Config.TTL"
	}
	o.log.Warn("dssauth: a visitor was refused because no place towards DSS was free (said once a minute): "+fix,
		"places", s.places, "MaxLookups", s.most, "latency", s.latency.Round(time.Millisecond))
}

// evicts logs now and then that answers are removed early to make room for others.
func (o *observer) evicts(entries int, now int64) {
	if o.full.due(now) {
		o.log.Warn("dssauth: answers are removed early to make room for those about other visitors, so that DSS is asked too often (said once a minute): raise Config.MaxEntries",
			"MaxEntries", entries)
	}
}

// churn logs the names of cookies and headers that change from request to request.
func (o *observer) churn(changing []string) {
	if len(changing) > 0 {
		o.log.Warn("dssauth: one user sends more different credentials than Config.MaxEntriesPerUser allows to remember: a cookie or header seems to change "+
			"from request to request, so that each asks DSS; name those that identify a visitor in Config.Cookies and Config.Headers. "+
			"If the user has as many browsers or API keys, raise Config.MaxEntriesPerUser", "changing", strings.Join(changing, " "))
	}
}

// nag lets one log line of a kind through a minute.
type nag struct{ next atomic.Int64 }

func (n *nag) due(now int64) bool {
	next := n.next.Load()
	return now >= next && n.next.CompareAndSwap(next, now+int64(time.Minute))
}

// storeIsOut and storeIsBack log changes of the store, now and then: a full store fails
// and recovers in turn.
func (o *observer) storeIsOut(err error, now int64) {
	if o.storeOut.due(now) {
		o.saidOut.Store(true)
		o.log.Warn("dssauth: Config.Store does not answer: until it does, this replica asks DSS itself, and does not learn what other replicas forget (said once a minute)", "error", err.Error())
	}
}

func (o *observer) storeIsBack() {
	if o.saidOut.CompareAndSwap(true, false) {
		o.log.Info("dssauth: Config.Store answers again")
	}
}

// storeFails logs now and then that one kind of call fails again and again.
func (o *observer) storeFails(err error, now int64) {
	if o.storeBad.due(now) {
		o.log.Warn("dssauth: Config.Store answers, and fails one kind of call: replicas share less, or learn later what others forget (said once a minute)", "error", err.Error())
	}
}

// hearsNothing logs now and then that the store cannot be watched. No other sign shows
// that.
func (o *observer) hearsNothing(why string, now int64) {
	if o.deaf.due(now) {
		o.log.Warn("dssauth: Config.Store cannot be watched: this replica does not learn what other replicas forget, and uses its own answers until they end (said once a minute)", "error", why)
	}
}

// hearsStrangers logs that another replica seals with other secrets.
func (o *observer) hearsStrangers() {
	o.log.Warn("dssauth: somebody uses the same store with other Config.StoreSecrets, or another version of dssauth: " +
		"if it is a replica of this application, neither sees the other's answers, so give both a common secret (said once)")
}

// clocksDiffer logs now and then that the clocks of two replicas differ. A notice of
// the other one showed it.
func (o *observer) clocksDiffer(age time.Duration, now int64) {
	if o.clocks.due(now) {
		o.log.Warn("dssauth: the clocks of two replicas differ by more than 2s, so that one does not see the other's answers, or uses them longer than Config.TTL "+
			"(said once a minute): set both by NTP", "by", age.Round(time.Millisecond).Abs())
	}
}
