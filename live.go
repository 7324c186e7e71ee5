package dssauth

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// minEvery bounds how often [Middleware.WhileSignedIn] looks.
const minEvery = 100 * time.Millisecond

// WhileSignedIn returns a context for a connection that outlives its request's
// handling, such as a websocket or server-sent events. It ends when the
// visitor behind r no longer is who was identified; [context.Cause] then says
// why, with an error that wraps one of this package's. Call it in a handler,
// with its request, and call the [context.CancelFunc] when the connection ends.
//
// DSS is asked every so often (at least 100ms), once for all connections with
// the same credentials. After each answer still is called with the identity,
// or with the error that stands in its way, and a non-nil result ends the
// context with that cause. A nil still ends it on [ErrUnauthenticated], and
// waits an outage out. Another login, and [Middleware.Close], end it in any
// case.
func (m *Middleware) WhileSignedIn(r *http.Request, every time.Duration, still func(Identity, error) error) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancelCause(r.Context())
	v, ok := m.attached(r.Context())
	switch {
	case !ok:
		end(errNoVisitor)
		return ctx, func() {}
	case v.entry == nil: // from NewContext: DSS knows nothing of it
		return ctx, func() { end(context.Canceled) }
	}
	header, k, err := m.selector.pick(v.request.Header)
	if err == nil && k != v.entry.key {
		err = refuse(ErrUnauthenticated, "the request's credentials are no longer those that were authenticated")
	}
	if still == nil {
		still = outageIsWaitedOut
	}
	if err == nil && !m.life.run(func() {
		// The cause if still calls Goexit.
		why := unavailable("the session check stopped unexpectedly", nil, 0)
		defer func() { end(why) }()
		why = m.watch(ctx, v.entry, header, max(every, minEvery), still)
	}) {
		err = errClosed
	}
	if err != nil {
		end(err)
		return ctx, func() {}
	}
	return ctx, func() { end(context.Canceled) }
}

func outageIsWaitedOut(_ Identity, err error) error {
	if errors.Is(err, ErrUnauthenticated) {
		return err
	}
	return nil
}

// watch returns why e's visitor no longer is who it was.
func (m *Middleware) watch(ctx context.Context, e *entry, header http.Header, every time.Duration, still func(Identity, error) error) error {
	// All connections of one visitor look at the same moments, and so share
	// one lookup; those moments differ between visitors.
	phase := int64(m.cache.spread(e.key) % uint64(every))
	next := func() int64 {
		now := m.now()
		return now + int64(every) - (now-phase+int64(every))%int64(every)
	}
	for {
		at := next()
		timer := time.NewTimer(time.Duration(at - m.now()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-m.life.ctx.Done():
			timer.Stop()
			return errClosed
		case <-timer.C:
		}
		id, err := m.identifySince(ctx, e.key, header, at)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil && id.owner() != e.identity.owner() {
			return refuse(ErrUnauthenticated, "the session is another user's by now")
		}
		if err := m.stillSays(still, id, err); err != nil {
			return err
		}
	}
}

// stillSays calls still; a panic there ends the connection, not the process.
func (m *Middleware) stillSays(still func(Identity, error) error, id Identity, err error) (verdict error) {
	var panicked error
	func() {
		defer recovered(&panicked)
		verdict = still(id, err)
	}()
	if panicked != nil {
		return unavailable("the function given to WhileSignedIn failed", panicked, 0)
	}
	return verdict
}

// identifySince returns what DSS says, asked at the time given or later.
func (m *Middleware) identifySince(ctx context.Context, k key, header http.Header, at int64) (Identity, error) {
	// Twice, since a lookup may be under way that started earlier. The next one
	// cannot have, so that what is older then only bridges an outage.
	for range 2 {
		e, err := m.ask(ctx, k, header, func(e *entry) bool { return e.asked >= at })
		switch {
		case err != nil:
			return Identity{}, err
		case e.asked >= at:
			return e.identity, nil
		}
	}
	return Identity{}, unavailable("DSS did not confirm who this is", nil, 0)
}
