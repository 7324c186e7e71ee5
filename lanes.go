package dssauth

import (
	"context"
	"sync/atomic"
)

// lanes bound how many lookups are under way towards DSS. Visitors who have,
// or recently had, an identity have a quarter of the places to themselves: a
// flood of junk costs newcomers a wait, and people at work nothing.
type lanes struct {
	all       chan struct{}
	newcomers chan struct{}
	queued    atomic.Int64
}

func newLanes(size int) *lanes {
	return &lanes{all: make(chan struct{}, size), newcomers: make(chan struct{}, size-max(1, size/4))}
}

// enter waits for a place, for at most maxWait, and returns how to leave it. It
// first calls before, if given, which may wait as well.
func (l *lanes) enter(ctx context.Context, known bool, before func(context.Context)) (leave func(), err error) {
	defer l.queued.Add(-1)
	if l.queued.Add(1) > maxQueue && !known {
		return nil, noPlace("too many lookups are waiting for DSS")
	}
	if before != nil {
		before(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	if !known {
		if !take(ctx, l.newcomers) {
			return nil, noPlace("no lookup place became free in time")
		}
	}
	if !take(ctx, l.all) {
		if !known {
			<-l.newcomers
		}
		return nil, noPlace("no lookup place became free in time")
	}
	return func() {
		<-l.all
		if !known {
			<-l.newcomers
		}
	}, nil
}

func noPlace(why string) error { return &refusal{kind: ErrUnavailable, why: why, unasked: true} }

func take(ctx context.Context, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	default:
	}
	select {
	case places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}
