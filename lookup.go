package dssauth

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

const (
	// grace is how long waiters wait beyond the deadline of a lookup that ignores it.
	grace = time.Second
)

// asker identifies the sender of some bytes, one lookup at a time for each.
type asker struct {
	*clock
	resolver Resolver
	dss      *dssResolver // the same; nil with a Config.Resolver
	places   *places
	shared   *sharing // with other replicas; nil without a Store
	told     *observer
	timeout  time.Duration
	count    atomic.Int64 // counts lookups that have asked, and calls of forget: it orders them in time
}

// lookup is one question: who sent these bytes?
type lookup struct {
	credentials
	turn   *turn
	renews bool   // no request waits: an answer is refreshed before its end
	bridge bool   // there is an old answer, which may serve if DSS is down
	began  int64  // when the first request came
	last   *entry // the answer before; nil: none

	found  *found            // the result from other replicas; nil before they were asked
	ended  func(error, bool) // tells the hooks
	asked  int64             // when DSS was asked
	denied atomic.Bool       // DSS refused a lookup, and may have meant these bytes; set before anything waits
	number atomic.Int64      // its place in the count; the last until it asks
}

// ask runs l from its place towards DSS to the verdict. Its caller handles a panic and
// Goexit of plugged-in code.
func (a *asker) ask(life context.Context, l *lookup) (id Identity, err error) {
	ctx, cancel := context.WithTimeout(life, a.timeout)
	defer cancel()
	if a.shared != nil {
		if err = a.askOthers(ctx, l); l.isFound() {
			return l.found.identity, nil
		}
	}
	if err == nil {
		err = a.enter(ctx, l)
	}
	if err != nil {
		a.findOutage(life, l, err)
		return Identity{}, err
	}
	l.asked = a.now()
	l.number.Store(a.count.Add(1))
	asOf := time.Now().Round(0)
	ctx, l.ended = a.told.lookupStarts(ctx, l.renews)
	id, err = a.resolve(ctx, l)
	if a.dss != nil && err != nil { // before anything waits for our own question
		r := failed
		if errors.Is(err, ErrUnauthenticated) || isNotAuthenticated(err) {
			r = anonymous
		}
		a.places.leave(l.turn, time.Duration(a.now()-l.asked), r)
	}
	l.denied.Store(a.dss != nil && isDenial(err))
	err = a.verdict(ctx, l, err)
	a.findOutage(life, l, err)
	id.AsOf = asOf
	if err == nil && a.late(l) { // perhaps no request waits, or one that came long after DSS was asked
		err = unavailable("the lookup ignored its deadline", nil, 0)
	}
	return id, err
}

// askOthers looks for an answer of another replica, and waits for one that is under way
// there.
func (a *asker) askOthers(ctx context.Context, l *lookup) (err error) {
	defer a.dss.outage.beside(a.now())()          // another replica's lookup may hang
	waits := func() { a.places.postpone(l.turn) } // the other replica may have been killed
	l.found, err = a.shared.find(ctx, l.credentials, l.last, l.renews, &a.count, a.refusal, waits)
	if l.isFound() {
		l.asked = l.found.asked
		l.number.Store(l.found.number)
	}
	return err
}

// isFound reports whether l's answer came from another replica.
func (l *lookup) isFound() bool { return l.found != nil && l.found.isAnswer() }

// enter waits for l's place towards DSS. A refresh may have one already.
func (a *asker) enter(ctx context.Context, l *lookup) (err error) {
	if !l.ahead() {
		var before func(context.Context)
		if a.dss != nil {
			before = a.dss.outage.settle
		}
		err = a.places.enter(ctx, l.turn, before)
	}
	if err != nil || a.dss == nil {
		return err
	}
	// Again: an obstacle may have come while l waited.
	if err = a.dss.outage.refusal(); err == nil {
		err = a.dss.outage.paused(l.key)
	}
	return err
}

// ahead reports whether l is a refresh that waited for its place before it began.
func (l *lookup) ahead() bool { return l.turn.line == refreshes }

// resolve calls the Resolver and distrusts it: a panic counts as no answer, and so does
// an identity without a login.
func (a *asker) resolve(ctx context.Context, l *lookup) (id Identity, err error) {
	if a.dss != nil {
		defer a.dss.outage.beside(l.asked)()
	}
	defer recovered(&err)
	// A copy, since a live connection asks with the same header again.
	id, err = a.resolver.Resolve(ctx, l.header.Clone())
	if err == nil && !id.isSomebody() {
		err = errNoLogin
	}
	return id, err
}

// verdict interprets l's answer.
func (a *asker) verdict(ctx context.Context, l *lookup, err error) error {
	if a.dss == nil {
		return understood(err)
	}
	return understood(a.dss.verdict(ctx, l.key, l.asked, err))
}

// findOutage waits until it is known whether DSS is down. It does so if l has an old
// answer that could bridge an outage, and err is not an answer about the visitor.
func (a *asker) findOutage(life context.Context, l *lookup, err error) {
	if !l.bridge || !maybeOutage(err) {
		return
	}
	// Later than the lookup could end, so that a Timeout of 3s leaves time for a DSS
	// that answers neither question.
	ctx, cancel := context.WithTimeout(life, a.timeout+grace/2-time.Duration(a.now()-l.began))
	defer cancel()
	a.dss.outage.findOut(ctx, max(l.began, l.asked))
}

// late reports whether l ended later than any waiter waits.
func (a *asker) late(l *lookup) bool {
	return !l.isFound() && // it began when another replica asked
		a.now()-l.asked > int64(a.timeout+grace)
}

// refusal returns the reason why no lookup may start now.
func (a *asker) refusal() error {
	if a.dss == nil {
		return nil
	}
	return a.dss.outage.refusal()
}

// paused returns the reason why no lookup of these bytes may start now.
func (a *asker) paused(k key) error {
	if a.dss == nil {
		return nil
	}
	return a.dss.outage.paused(k)
}

// outdated reports whether l began before an outage of DSS that is over.
func (a *asker) outdated(l *lookup) bool { return a.wasBack(l.began) }

// wasBack reports whether an outage of DSS has ended after since.
func (a *asker) wasBack(since int64) bool { return a.dss != nil && a.dss.outage.isBack(since) }

// down reports whether DSS is down.
func (a *asker) down() bool { return a.dss != nil && a.dss.outage.countsAsDown() }

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
	_ = err.Error() // now: later, a panic would end the process
	anonymous, outage := errors.Is(err, ErrUnauthenticated), errors.Is(err, ErrUnavailable)
	switch {
	case anonymous && outage: // without a cause, since that would make it look anonymous
		return unavailable("the resolver said anonymous and unavailable at once", nil, 0)
	case !anonymous && !outage:
		return unavailable("the resolver failed", unquoted(err), 0)
	}
	if anonymous {
		return inOurWords(err, ErrUnauthenticated, "the resolver says so")
	}
	return inOurWords(err, ErrUnavailable, "the resolver says so")
}
