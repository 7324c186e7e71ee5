package dssauth

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxWait is how long a lookup waits for its place.
	maxWait = time.Second
	// maxQueue is how many lookups may wait for their place.
	maxQueue = 1024
)

// limiter bounds how many lookups are under way towards DSS. Visitors who have,
// or recently had, an identity have a quarter of the places to themselves: a flood of
// junk delays new visitors, and known ones do not notice it.
type limiter struct {
	all       chan struct{}
	newcomers chan struct{}
	queued    atomic.Int64
}

func newLimiter(size int) *limiter {
	return &limiter{all: make(chan struct{}, size), newcomers: make(chan struct{}, size-max(1, size/4))}
}

// enter waits for a place, for at most maxWait, and returns how to leave it, which
// may be done twice. It first calls before, if given, which may wait as well.
func (p *limiter) enter(ctx context.Context, known bool, before func(context.Context)) (leave func(), err error) {
	defer p.queued.Add(-1)
	if p.queued.Add(1) > maxQueue && !known {
		return nil, noPlace("too many lookups are waiting for DSS")
	}
	if before != nil {
		before(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	if !known {
		if !take(ctx, p.newcomers) {
			return nil, noPlace("no lookup place became free in time")
		}
	}
	if !take(ctx, p.all) {
		if !known {
			<-p.newcomers
		}
		return nil, noPlace("no lookup place became free in time")
	}
	return sync.OnceFunc(func() {
		<-p.all
		if !known {
			<-p.newcomers
		}
	}), nil
}

func noPlace(why string) error { return &refusal{kind: ErrUnavailable, why: why, unasked: true} }

func take(ctx context.Context, free chan struct{}) bool {
	select {
	case free <- struct{}{}:
		return true
	default:
	}
	select {
	case free <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}
