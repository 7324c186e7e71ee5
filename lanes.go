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

// enter waits for a place, for at most maxWait, and returns how to leave it.
func (l *lanes) enter(ctx context.Context, known bool) (leave func(), err error) {
	defer l.queued.Add(-1)
	if l.queued.Add(1) > maxQueue && !known {
		return nil, unavailable("too many lookups are waiting for DSS", nil, 0)
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	if !known {
		if !take(ctx, l.newcomers) {
			return nil, unavailable("no place towards DSS came free in time", nil, 0)
		}
	}
	if !take(ctx, l.all) {
		if !known {
			<-l.newcomers
		}
		return nil, unavailable("no place towards DSS came free in time", nil, 0)
	}
	return func() {
		<-l.all
		if !known {
			<-l.newcomers
		}
	}, nil
}

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
