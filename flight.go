package dssauth

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

const (
	// maxWait is how long a lookup waits for its turn towards DSS.
	maxWait = time.Second
	// maxQueue is how many lookups may wait for their turn.
	maxQueue = 1024
	// knownFor is how long after its end an identity keeps its reserved lane.
	knownFor = time.Hour
	// grace is how long waiters outlast a lookup that ignores its deadline.
	grace = time.Second
)

// flight is one lookup under way, for all requests with the same bytes.
//
// Not singleflight: forgetting a key there does not tell the call under way that its
// result must not be stored, and nothing bounds how long its callers wait.
type flight struct {
	key    key
	header http.Header // what DSS gets
	known  bool        // has, or recently had, an identity: may use the reserved lane
	renews bool        // nobody waits: an entry is refreshed ahead of its end
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{} // closed when entry and err are set

	asked int64 // when DSS was asked
	entry *entry
	err   error

	// Guarded by cache.mu.
	older     *flight // of the same key, still under way but not to be joined
	forgotten bool    // Forget was called: not to be stored
	left      bool    // not to be joined any more
}

// join returns the entry under k if it is fresh enough, else the flight that
// will tell. A new one is started from [context.Background]: many requests
// share it, the first one's cancellation must not fail the others, and routers
// recycle a request's context once the handler returns.
func (m *Middleware) join(k key, header http.Header, fresh func(*entry) bool, renews bool) (*entry, *flight) {
	c := m.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	// Again, now that no flight can land: one may have since the first look.
	e := c.find(k)
	if e != nil && fresh(e) {
		return e, nil
	}
	older := c.flights[k]
	if older != nil && !older.left {
		return nil, older
	}
	f := &flight{key: k, header: header, older: older, known: e != nil && m.now() < e.expires+int64(knownFor), renews: renews, done: make(chan struct{})}
	f.ctx, f.cancel = context.WithTimeout(m.life, m.timeout+grace)
	if c.closed {
		f.err = errClosed
		close(f.done)
		f.cancel()
		return nil, f
	}
	c.flights[k] = f
	m.running.Add(1)
	go m.fly(f)
	return nil, f
}

// wait waits for f, but not longer than ctx.
func (m *Middleware) wait(ctx context.Context, f *flight) (*entry, error) {
	select {
	case <-f.done:
		return f.entry, f.err
	case <-ctx.Done():
		return nil, unavailable("the request ended before DSS answered", context.Cause(ctx), 0)
	case <-f.ctx.Done():
	}
	select {
	case <-f.done: // cancel runs after done
		return f.entry, f.err
	default:
		return nil, unavailable("the lookup ignored its deadline", f.ctx.Err(), 0)
	}
}

// fly runs f to its end, whatever its waiters do.
func (m *Middleware) fly(f *flight) {
	defer m.running.Done()
	defer f.cancel()
	defer func() { _ = recover() }() // of a Logger, which must not end the process
	ctx, cancel := context.WithTimeout(f.ctx, m.timeout)
	defer cancel()
	leave, err := m.lanes.enter(ctx, f.known)
	if err != nil {
		m.land(f, Identity{}, err)
		return
	}
	defer leave()
	// What stands where a Resolver or a hook ends the goroutine.
	id, err := Identity{}, unavailable("the lookup ended without an answer", nil, 0)
	done := func(error) {}
	defer func() { done(err) }()
	defer func() { m.land(f, id, err) }()
	f.asked = m.now()
	asOf := time.Now()
	ctx, done = m.lookupStarted(ctx, f)
	id, err = m.resolve(ctx, f.header)
	id.AsOf = asOf
	if err == nil && m.late(f) { // nobody may be waiting, or somebody who came long after DSS was asked
		err = unavailable("the lookup ignored its deadline", nil, 0)
	}
}

// late reports whether f ended later than any waiter waits.
func (m *Middleware) late(f *flight) bool { return m.now()-f.asked > int64(m.timeout+grace) }

// resolve calls the Resolver and distrusts it: a panic, an error of an unknown
// kind and an identity that names nobody are all no answer.
func (m *Middleware) resolve(ctx context.Context, header http.Header) (id Identity, err error) {
	defer func() { err = understood(err) }()
	defer recovered(&err)
	// A copy, since a live connection asks with the same header again.
	id, err = m.resolver.Resolve(ctx, header.Clone())
	if err == nil && id.APIKey == "" && !isLogin(id.Login) {
		err = errors.New("the resolver returned an identity without a valid login")
	}
	return id, err
}

// understood makes err one of the two kinds that a lookup can fail with.
func understood(err error) (kind error) {
	if err == nil {
		return nil
	}
	defer func() {
		if recover() != nil { // a nil pointer in an error's own methods
			kind = unavailable("the resolver's error cannot be read", nil, 0)
		}
	}()
	_ = err.Error() // now, and not where a panic ends the process
	nobody, outage := errors.Is(err, ErrUnauthenticated), errors.Is(err, ErrUnavailable)
	switch {
	case nobody && outage: // without a cause, which would make it look like a nobody
		return unavailable("the resolver said nobody and no answer at once", nil, 0)
	case !nobody && !outage:
		return unavailable("the resolver failed", err, 0)
	}
	return err
}

// isLogin reports whether s can be a user's login. Blank and control
// characters would slip through a comparison or a log line somewhere.
func isLogin(s string) bool {
	return s != "" && strings.TrimSpace(s) == s && printable(s)
}

// land judges what f brought, stores it and releases the waiters.
func (m *Middleware) land(f *flight, id Identity, err error) {
	changing := m.store(f, id, err)
	close(f.done)
	// Logging may call whatever code an application plugged in: not under lock.
	m.warnOfChurn(changing)
	if errors.Is(err, ErrUnavailable) && m.trouble.due(m.now()) {
		m.log.Warn("dssauth: a visitor could not be identified (said once a minute)", "error", withoutMessage(err))
	}
}

func (m *Middleware) store(f *flight, id Identity, err error) (changing []string) {
	c, now := m.cache, m.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removeFlight(f)
	// Forgetting is remembered for as long as a lookup can last, no longer.
	keep := !f.forgotten && !m.late(f) && !c.closed
	switch {
	case err == nil:
		f.entry = m.newEntry(f, id)
		if !f.forgotten { // even where the answer itself is not kept
			c.refusals.Remove(f.key)
		}
		if at, was := c.forgotten[id.Login]; keep && m.ttl > 0 && !(was && f.asked <= at) {
			changing = m.churn.watch(id.owner(), f.header, c.maxPerUser, c.held(id.owner(), f.key, now))
			c.put(f.entry)
		}
	case errors.Is(err, ErrUnauthenticated):
		f.err = err
		c.drop(f.key, f.asked)
		f.outdate()
		if keep && m.refusalTTL > 0 && c.find(f.key) == nil {
			c.refusals.Add(f.key, f.asked+int64(m.refusalTTL))
		}
	default:
		f.err = err
		if isDenial(err) {
			f.outdate()
		}
		if old := c.find(f.key); old != nil {
			old.denied = old.denied || isDenial(err)
			if m.mayBridge(old, err) {
				f.entry, f.err = old, nil
			}
		}
	}
	return changing
}

// mayBridge reports whether old may be served although DSS did not confirm it.
func (m *Middleware) mayBridge(old *entry, err error) bool {
	return m.staleIfError > 0 && isOutage(err) && !old.denied && m.now() < old.asked+int64(m.ttl)+int64(m.staleIfError)
}

// newEntry makes the answer that f brought. Its time runs from when DSS was
// asked: what changed in DSS after that is not in it.
func (m *Middleware) newEntry(f *flight, id Identity) *entry {
	// Downwards, so that answers of one moment do not all end in another.
	life := int64(float64(m.ttl) * (1 - jitter*rand.Float64()))
	e := &entry{
		node:     node{key: f.key},
		expires:  f.asked + life,
		renew:    f.asked + int64(float64(life)*renewAt),
		asked:    f.asked,
		apiKey:   id.APIKey != "",
		identity: id,
	}
	if e.apiKey {
		e.identity.Login, e.identity.groups = "", nil
	}
	e.entry = e
	e.touched.Store(f.asked)
	e.aliased.Store(-int64(time.Hour))
	return e
}

const (
	jitter  = 0.1 // of an entry's life
	renewAt = 0.7 // of an entry's life: then a hit starts a refresh
)

// renew asks about e's visitor again before e ends.
func (m *Middleware) renew(r *http.Request, e *entry) {
	if !e.renewing.CompareAndSwap(false, true) {
		return
	}
	header, k, err := m.selector.pick(r.Header)
	if err == nil && k == e.key {
		m.join(k, header, func(now *entry) bool { return now != e }, true)
	}
}

// Forget makes the next request with r's credentials ask DSS again, for use
// after a sign-out. A lookup under way is not stored. It revokes nothing: who
// is still signed in to DSS is let in again.
func (m *Middleware) Forget(r *http.Request) {
	if _, k, err := m.selector.pick(r.Header); err == nil {
		m.forget(k)
	}
}

func (m *Middleware) forget(k key) {
	c := m.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	for f := c.flights[k]; f != nil; f = f.older {
		f.forgotten, f.left = true, true
	}
	if e := c.find(k); e != nil {
		c.order.Remove(e)
	}
	c.refusals.Remove(k)
}

// ForgetUser makes DSS be asked again about every visitor of this login, for
// use after the user's groups changed. An answer that DSS was asked for before
// is not stored any more, and no later request waits for it.
func (m *Middleware) ForgetUser(login string) {
	c := m.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropUser(login)
	for _, f := range c.flights {
		f.left = true // whom it is about is not known yet
	}
	now := m.now()
	if len(c.forgotten) >= c.purgeAt {
		maps.DeleteFunc(c.forgotten, func(_ string, at int64) bool { return at < now-int64(m.timeout+2*grace) })
		c.purgeAt = 2*len(c.forgotten) + 64
	}
	c.forgotten[login] = now
}

// outdate keeps the older lookups of f's key from being stored: DSS was asked
// for them before it refused. The caller holds cache.mu.
func (f *flight) outdate() {
	for older := f.older; older != nil; older = older.older {
		older.forgotten = true
	}
}

// removeFlight ends f's place among the lookups under way.
func (c *cache) removeFlight(f *flight) {
	newest := c.flights[f.key]
	if newest == f {
		if f.older == nil {
			delete(c.flights, f.key)
		} else {
			c.flights[f.key] = f.older
		}
		return
	}
	for g := newest; g != nil; g = g.older {
		if g.older == f {
			g.older = f.older
		}
	}
}
