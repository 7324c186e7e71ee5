package dssauth

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// answers identifies the sender of some bytes: from memory, or by a lookup that all
// requests with the same bytes share.
type answers struct {
	asker
	cache   *cache
	flights flights
	churn   churn
	mu      sync.Mutex // guards flights, churn, and writing to cache
	keep    policy
	life    *lifetime
}

// policy is how long answers are kept.
type policy struct {
	ttl, refusalTTL, staleIfError time.Duration
	sessions                      bool // handlers act as their visitors
}

// known returns the remembered answer to k, or nil. It reports whether the caller must
// refresh it: one caller, once.
func (a *answers) known(k key, now int64) (e *entry, due bool) {
	e = a.cache.find(k)
	if e == nil || now >= e.expires {
		return nil, false
	}
	e.touch(now)
	return e, e.isOld(now) && e.renewing.CompareAndSwap(false, true)
}

// who identifies the sender of c by a lookup, or by a remembered refusal. No answer
// about c is remembered. With anew, "not signed in" is believed only from a lookup
// that begins after the call: a person who loads a page may have just signed in.
func (a *answers) who(ctx context.Context, c credentials, anew bool) (*entry, error) {
	now := a.now()
	fresh := func(e *entry) bool { return now < e.expires }
	if !anew {
		if end, ok := a.cache.refusals.Get(c.key); ok && now < end {
			return nil, errRemembered
		}
	}
	return a.ask(ctx, c, fresh, anew)
}

var errRemembered = refuse(ErrUnauthenticated, "a moment ago DSS knew no session for this request")

// ask returns the answer to c if it is fresh, or else the result of a lookup, unless
// that was forgotten before the call. For anew, see who.
func (a *answers) ask(ctx context.Context, c credentials, fresh func(*entry) bool, anew bool) (*entry, error) {
	arrival, after := a.count.Load(), int64(anyLookup)
	if anew {
		after = arrival
	}
	for {
		e, f, err := a.join(c, fresh, nil, after)
		if f == nil {
			return e, err
		}
		// Each round waits for another of the few lookups that began earlier.
		e, err = a.wait(ctx, f)
		gone := f.goneFor(arrival)
		tooEarly := anew && errors.Is(err, ErrUnauthenticated) && f.number.Load() <= arrival
		if gone == 0 && !tooEarly {
			return e, err
		}
		after = max(after, gone)
	}
}

// lastMoment is the end of an answer's life. In it a refresh no longer lets all other
// lookups go first.
const lastMoment = time.Second

// refresh asks about e's visitor again before e ends. No request waits for it, so it
// waits while all places are taken, until the last moment.
func (a *answers) refresh(c credentials, e *entry) {
	if c.key != e.key {
		return
	}
	t := newTurn(e.identity.owner())
	// No longer than a lookup keeps credentials.
	patience := min(time.Duration(e.expires-a.now())-lastMoment, a.timeout)
	switch {
	case patience <= 0:
		a.renew(c, e, t)
	case !a.places.ahead(t, patience):
		e.renewing.Store(false) // a later hit tries again
	case t.isReady():
		a.renew(c, e, t)
	default:
		waits := func() {
			switch {
			case a.places.wait(a.life.ctx, t):
				a.renew(c, e, t)
			case a.now() < e.expires-int64(lastMoment):
				e.renewing.Store(false)
			default:
				a.renew(c, e, newTurn(t.owner))
			}
		}
		if !a.life.run(waits) {
			waits() // no longer: life is over
		}
	}
}

// renew starts the refresh of e, unless another caller has, or e is forgotten.
func (a *answers) renew(c credentials, e *entry, t *turn) {
	var f *flight
	if a.cache.find(c.key) == e {
		_, f, _ = a.join(c, func(now *entry) bool { return now != e }, t, anyLookup)
	}
	if f == nil || f.turn != t {
		a.places.giveBack(t)
	}
}

// anyLookup as join's last argument accepts any lookup under way.
const anyLookup = -1

// join returns the answer to c if it is fresh enough, or if it may bridge an outage of
// DSS. Otherwise it returns the flight that will bring the answer. It fails if no
// lookup may start now. A new flight starts from [context.Background]: many requests
// share it, the first one's cancellation must not fail the others, and routers recycle
// a request's context when the handler returns. Join joins a lookup only if its number
// is above after. Otherwise it starts another one beside it, or joins the newer one if
// two are under way already. Renews is the turn of a refresh, or nil.
func (a *answers) join(c credentials, fresh func(*entry) bool, renews *turn, after int64) (*entry, *flight, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	// Again, since no flight can land now: one may have landed after the first look.
	e := a.cache.find(c.key)
	if e != nil && fresh(e) {
		return e, nil, nil
	}
	now := a.now()
	bridge := e != nil && a.isBridge(e, now)
	if err := a.refusal(); err != nil {
		if bridge && a.down() {
			return e, nil, nil
		}
		if renews != nil || !a.shared.mayKnow() {
			return nil, nil, err
		}
	}
	older := a.flights.byKey[c.key]
	if older != nil && a.outdated(&older.lookup) {
		older.left = true
	}
	if older != nil && !older.isLeft() && (older.number.Load() > after || older.isSecond()) {
		if older.renews && renews == nil {
			a.places.join(older.turn)
		}
		return nil, older, nil
	}
	if err := a.paused(c.key); err != nil {
		return nil, nil, err
	}
	f := &flight{
		lookup: lookup{credentials: c, turn: renews, renews: renews != nil, bridge: bridge, began: now, last: e},
		done:   make(chan struct{}),
	}
	if !f.renews {
		f.turn = newTurn(a.cache.knownAs(c.key, now))
	}
	f.number.Store(math.MaxInt64)
	f.ctx, f.cancel = context.WithTimeout(a.life.ctx, a.timeout+grace)
	if !a.life.run(func() { a.fly(f) }) {
		f.cancel()
		return nil, nil, errClosed
	}
	a.flights.add(f)
	return nil, f, nil
}

// wait waits for f, but not longer than ctx.
func (a *answers) wait(ctx context.Context, f *flight) (*entry, error) {
	var down <-chan struct{}
	if f.bridge {
		down = a.dss.outage.whenDown()
	}
	for waits := true; waits; {
		select {
		case <-f.done:
			return f.entry, f.err
		case <-down:
			if e := a.bridge(f.key); e != nil {
				return e, nil
			}
			down = nil
		case <-ctx.Done():
			return nil, unavailable("the request ended before DSS answered", unquoted(context.Cause(ctx)), 0)
		case <-f.ctx.Done():
			waits = false
		}
	}
	select {
	case <-f.done: // cancel runs after done
		return f.entry, f.err
	default:
		return nil, unavailable("the lookup ignored its deadline", f.ctx.Err(), 0)
	}
}

// fly runs f to its end, even if all waiters leave.
func (a *answers) fly(f *flight) {
	// The answer if plugged-in code panics, or calls Goexit.
	id, err := Identity{}, unavailable("the lookup ended without an answer", nil, 0)
	defer func() {
		_ = recover()
		defer a.places.giveBack(f.turn) // even if an earlier step fails
		defer a.share(f)                // no request here waits for it
		defer f.cancel()
		if f.ended != nil {
			defer func() { f.ended(err, f.err == nil) }()
		}
		a.land(f, id, err)
	}()
	id, err = a.asker.ask(f.ctx, &f.lookup)
}

// share sends f's result to other replicas.
func (a *answers) share(f *flight) {
	switch {
	case f.found == nil:
		return
	case f.fate == publish:
		a.shared.publish(f.found, f.entry)
	case f.fate == retract:
		a.shared.retract(f.found)
	}
	a.shared.conclude(f.found)
}

// land stores f's result, and releases the waiters.
func (a *answers) land(f *flight, id Identity, err error) {
	// Reading an error of a Resolver, and logging, may call code of the application:
	// not under lock.
	isAnonymous, denied, outage := errors.Is(err, ErrUnauthenticated), isDenial(err), maybeOutage(err)
	a.mu.Lock()
	a.flights.remove(f)
	f.gone = f.forgotten.since(f.number.Load())
	var changing []string
	displaced, brought := a.cache.displaced, failed
	switch {
	case err == nil:
		if brought = named; a.cache.held(id.owner(), f.key, a.now()) >= a.cache.maxPerUser {
			brought = crowding
		}
		changing = a.identified(f, id)
	case isAnonymous:
		brought = anonymous
		a.anonymous(f, err)
	default:
		a.failed(f, err, denied, outage)
	}
	displaces := a.cache.displaced > displaced
	if f.ended == nil { // DSS was not asked, and so was neither slow nor quick
		a.places.giveBack(f.turn)
	} else {
		a.places.leave(f.turn, time.Duration(a.now()-f.asked), brought)
	}
	close(f.done)
	a.mu.Unlock()
	a.told.churn(changing)
	switch {
	case err == errNoPlace || err == errQueueFull:
		a.told.crowded(a.places.shortage(), a.now())
	default:
		a.told.trouble(err, a.now())
	}
	if displaces {
		a.told.evicts(a.cache.maxEntries, a.now())
	}
}

// keeps reports whether f's answer may be kept. The ledger remembers what was forgotten
// only for as long as a lookup can last.
func (a *answers) keeps(f *flight) bool {
	return f.isLast() && !a.late(&f.lookup) && !a.life.isClosed()
}

func (a *answers) identified(f *flight, id Identity) (changing []string) {
	f.entry = a.newEntry(f, id)
	if f.isFound() { // a notice, and DSS's answer here, may be newer than that
		old := a.cache.find(f.key)
		f.entry.denied = old != nil && old.denied || !a.shared.vouches(f.asked-int64(skew))
	} else {
		f.outdate()
	}
	if f.isLast() { // even where the answer itself is not kept
		a.cache.refusals.Remove(f.key)
	}
	owner := f.entry.identity.owner()
	if gone := a.flights.ownerGone(owner, f.entry.number); gone > 0 && (f.gone == 0 || gone < f.gone) {
		f.gone = gone
	}
	if a.keeps(f) && a.keep.ttl > 0 {
		now := a.now()
		changing = a.churn.watch(owner, f.header, a.cache.held(owner, f.key, now), a.cache.find(f.key) == nil, now)
		a.cache.put(f.entry)
		f.fate = publish
	}
	return changing
}

func (a *answers) anonymous(f *flight, err error) {
	f.err = err
	f.outdate()
	if f.isLast() {
		if f.found != nil && (f.found.stale || a.cache.find(f.key) != nil) {
			f.fate = retract
			a.shared.markBytes(f.key)
		}
		a.cache.drop(f.key, f.asked)
	}
	if a.keeps(f) && a.keep.refusalTTL > 0 && a.cache.find(f.key) == nil {
		a.cache.refusals.Add(f.key, f.asked+int64(a.keep.refusalTTL))
	}
}

func (a *answers) failed(f *flight, err error, denied, outage bool) {
	f.err = err
	if denied {
		f.outdate()
	}
	if old := a.cache.find(f.key); old != nil {
		old.denied = old.denied || denied
		if outage && a.mayBridge(old) {
			f.entry, f.err = old, nil
		}
	}
}

// newEntry makes an entry of f's result. Its life begins when DSS was asked: it does
// not know of later changes in DSS.
func (a *answers) newEntry(f *flight, id Identity) *entry {
	// Shorter by chance, so that answers of one moment do not all end at the same time.
	life := int64(float64(a.keep.ttl) * (1 - jitter*rand.Float64()))
	e := &entry{
		node:     node{key: f.key},
		period:   period{f.asked + life, f.asked, f.number.Load()},
		identity: id.own(),
	}
	if id.APIKeyID != "" {
		e.identity.Login, e.identity.groups = "", nil
	}
	if a.keep.sessions {
		e.session = &session{}
	}
	e.touched.Store(f.asked)
	e.aliased.Store(-int64(time.Hour))
	return e
}

// mayBridge reports whether old may be served although DSS did not confirm it.
// The caller holds mu.
func (a *answers) mayBridge(old *entry) bool { return a.isBridge(old, a.now()) && a.down() }

// isBridge reports whether old may be served if DSS is down.
func (a *answers) isBridge(old *entry, now int64) bool {
	return a.keep.staleIfError > 0 && !a.isDenied(old) && a.shared.vouches(old.asked) && now < old.asked+int64(a.keep.ttl)+int64(a.keep.staleIfError)
}

// isDenied reports whether DSS has refused a lookup since it was asked for old, and may
// have meant old's visitor. The caller holds mu.
func (a *answers) isDenied(old *entry) bool {
	return old.denied || a.flights.isDenied(old.key, old.asked)
}

// outageMayBeBridged reports whether DSS is down, or was at since or later, and has not
// refused e's visitor since. If no answer is remembered any more, since DSS said
// anonymous or the visitor was forgotten, requests are not bridged either. E itself
// does not show that: a newer answer may have replaced it before.
func (a *answers) outageMayBeBridged(e *entry, since int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	newest := a.cache.find(e.key)
	return (a.down() || a.wasBack(since-1)) && newest != nil && !a.isDenied(e) && !newest.denied && a.shared.vouches(e.asked)
}

// bridge returns the old answer under k if it may be served now.
func (a *answers) bridge(k key) *entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old := a.cache.find(k); old != nil && a.mayBridge(old) {
		return old
	}
	return nil
}

// addAlias lets the next request with the same raw headers find e without parsing its
// cookies. If raw headers change all the time, it makes at most one alias a second.
func (a *answers) addAlias(raw key, e *entry, now int64) {
	last := e.aliased.Load()
	if raw == e.key || now-last < int64(time.Second) || !e.aliased.CompareAndSwap(last, now) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cache.addAlias(raw, e)
}

// forget makes the next request with these bytes ask DSS again.
func (a *answers) forget(k key) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.shared != nil {
		a.shared.markBytes(k)
	}
	a.cache.forget(k)
	a.flights.forget(k, a.count.Add(1), a.now())
}

// forgetOwner makes the next request of each visitor of this login, or with this
// API key, ask DSS again.
func (a *answers) forgetOwner(owner string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.shared != nil {
		a.shared.markOwner(owner)
	}
	a.cache.dropUser(owner)
	a.flights.forgetOwner(owner, a.count.Add(1), a.now())
}

// forgetEverywhere makes the next request of each of these owners ask DSS again, here
// and in the other replicas. If c is given, the next request with c does so, too.
func (a *answers) forgetEverywhere(c *credentials, owners ...string) {
	for _, owner := range owners {
		a.forgetOwner(owner)
	}
	if c != nil {
		a.forget(c.key)
	}
	if a.shared != nil {
		a.shared.tell(c, owners...)
	}
}

// hear forgets the answers that another replica forgot.
func (a *answers) hear(owners []string, keys []key) {
	for _, owner := range owners {
		a.forgetOwner(owner)
	}
	for _, k := range keys {
		a.forget(k)
	}
}

// owner returns the owner of the remembered answer to c, or "".
func (a *answers) owner(c credentials) string {
	a.mu.Lock()
	e := a.cache.find(c.key)
	a.mu.Unlock()
	switch {
	case e != nil:
		return e.identity.owner()
	case a.shared != nil:
		return a.shared.ownerOf(c)
	}
	return ""
}

// isGone reports whether an answer to k, for which DSS was asked as asked, was
// forgotten: by its bytes or, if it has one, by its owner.
func (a *answers) isGone(k key, owner string, asked int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.flights.bytesGone(k, asked) > 0 || owner != "" && a.flights.ownerGone(owner, asked) > 0
}

// lasts returns the latest time at which a request that began to wait in time may be
// handled with e.
func (a *answers) lasts(e *entry) int64 {
	return e.asked + int64(max(a.keep.ttl, 0)+a.timeout+grace)
}

// close forgets everything, and ends all work under way. It reports whether that
// returned in time.
func (a *answers) close() bool {
	a.mu.Lock()
	a.life.close()
	a.cache.purge()
	a.mu.Unlock()
	return a.life.wait(a.timeout + grace)
}

func (a *answers) stats() (s Stats) {
	a.told.counters.addTo(&s)
	a.mu.Lock()
	s.Entries, s.Evictions = a.cache.order.Len(), a.cache.evictions
	a.mu.Unlock()
	s.Refusals = a.cache.refusals.Len()
	a.places.addTo(&s)
	if a.shared != nil {
		a.shared.addTo(&s.Store)
	}
	s.DSSDown = a.dss != nil && a.dss.outage.isKnownDown()
	return s
}
