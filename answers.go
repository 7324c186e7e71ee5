package dssauth

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// answers says who sent some bytes: from memory, or by a lookup that all
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

// known returns the answer to bytes that were seen before, or nil. It reports
// whether the caller must refresh it: one caller, once.
func (a *answers) known(k key, now int64) (e *entry, due bool) {
	e = a.cache.find(k)
	if e == nil || now >= e.expires {
		return nil, false
	}
	e.touch(now)
	return e, e.isOld(now) && e.renewing.CompareAndSwap(false, true)
}

// who returns who sent c, which is not known: by a lookup, or as remembered of a
// refusal. With anew, "not signed in" is believed only of a lookup that began
// since: who loads a page may have signed in.
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

var errRemembered = refuse(ErrUnauthenticated, "DSS knew no session for this request a moment ago")

// ask returns the answer to c if it is fresh, else what a lookup brings, unless
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
		// Each turn waits for another one of the few lookups of before.
		e, err = a.wait(ctx, f)
		gone := f.goneFor(arrival)
		tooEarly := anew && errors.Is(err, ErrUnauthenticated) && f.number.Load() <= arrival
		if gone == 0 && !tooEarly {
			return e, err
		}
		after = max(after, gone)
	}
}

// lastMoment is the end of an answer's life, in which a refresh no longer lets
// everybody else go first.
const lastMoment = time.Second

// refresh asks about e's visitor again before e ends. Nobody waits for it, so it
// waits itself while all places are taken, until the last moment.
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

// renew starts the refresh of e, unless somebody else has or e is forgotten.
func (a *answers) renew(c credentials, e *entry, t *turn) {
	var f *flight
	if a.cache.find(c.key) == e {
		_, f, _ = a.join(c, func(now *entry) bool { return now != e }, t, anyLookup)
	}
	if f == nil || f.turn != t {
		a.places.giveBack(t)
	}
}

// anyLookup as join's last argument takes any lookup under way.
const anyLookup = -1

// join returns the answer to c if it is fresh enough, or if DSS is down and it
// may bridge that, else the flight that will tell. It fails where no lookup may
// start now. A new one is started from [context.Background]: many requests
// share it, the first one's cancellation must not fail the others, and routers
// recycle a request's context once the handler returns. A lookup whose number is
// not above after is not joined, but another one started beside it; only where
// two are under way already, one of these has to do. A refresh says whose turn it
// is.
func (a *answers) join(c credentials, fresh func(*entry) bool, renews *turn, after int64) (*entry, *flight, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	// Again, now that no flight can land: one may have since the first look.
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

// fly runs f to its end, whatever its waiters do.
func (a *answers) fly(f *flight) {
	// The answer if plugged-in code panics, or calls Goexit.
	id, err := Identity{}, unavailable("the lookup ended without an answer", nil, 0)
	defer func() {
		_ = recover()
		defer a.places.giveBack(f.turn) // whatever stops what comes before
		defer a.share(f)                // which nobody here waits for
		defer f.cancel()
		if f.ended != nil {
			defer func() { f.ended(err, f.err == nil) }()
		}
		a.land(f, id, err)
	}()
	id, err = a.asker.ask(f.ctx, &f.lookup)
}

// share tells other replicas what f brought.
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

// land keeps what f brought, and releases the waiters.
func (a *answers) land(f *flight, id Identity, err error) {
	// Reading an error of a Resolver's, and logging, may call whatever code an
	// application plugged in: not under lock.
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
	if f.isFound() {
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

// keeps reports whether f's answer may be kept. Forgetting is remembered for as
// long as a lookup can last, no longer.
func (a *answers) keeps(f *flight) bool {
	return f.isLast() && !a.late(&f.lookup) && !a.life.isClosed()
}

func (a *answers) identified(f *flight, id Identity) (changing []string) {
	f.entry = a.newEntry(f, id)
	if !f.isFound() { // an older lookup here may be newer than that
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

// newEntry makes the answer that f brought. Its time runs from when DSS was
// asked: what changed in DSS after that is not in it.
func (a *answers) newEntry(f *flight, id Identity) *entry {
	// Downwards, so that answers of one moment do not all end in another.
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
	e.entry = e
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

// isDenied reports whether DSS refused somebody since it was asked for old, and
// may have meant old's visitor. The caller holds mu.
func (a *answers) isDenied(old *entry) bool {
	return old.denied || a.flights.isDenied(old.key, old.asked)
}

// outageMayBeBridged reports whether DSS is down, or was at since or later, and
// has not refused e's visitor since. Where nothing is remembered any more, as once
// DSS said anonymous or the visitor was forgotten, no request is bridged either. E
// itself does not tell that: a newer answer may have taken its place before.
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

// addAlias lets the next request with the same raw headers find e without a look
// at its cookies. Where raw headers change all the time, at most one alias a
// second is made.
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

// forgetEverywhere makes the next request of each visitor of these logins and API
// keys, and the one with c, if it is given, ask DSS again: here, and in the other
// replicas.
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

// hear forgets what another replica forgot.
func (a *answers) hear(owners []string, keys []key) {
	for _, owner := range owners {
		a.forgetOwner(owner)
	}
	for _, k := range keys {
		a.forget(k)
	}
}

// owner returns whom the remembered answer to c is about, or "".
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

// isGone reports whether an answer to k was forgotten that DSS was asked for as
// asked, or all about its owner, if it has one.
func (a *answers) isGone(k key, owner string, asked int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.flights.bytesGone(k, asked) > 0 || owner != "" && a.flights.ownerGone(owner, asked) > 0
}

// lasts returns until when a request may be handled with e that began to wait for
// it in time.
func (a *answers) lasts(e *entry) int64 {
	return e.asked + int64(max(a.keep.ttl, 0)+a.timeout+grace)
}

// close forgets everything, and ends and waits for what is under way. It reports
// whether that returned in time.
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
