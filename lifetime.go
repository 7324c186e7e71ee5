package dssauth

import (
	"context"
	"sync"
	"time"
)

// clock returns the time since it was made, in nanoseconds. It is monotonic: setting
// the wall clock moves no expiry.
type clock struct{ base time.Time }

func newClock() *clock { return &clock{base: time.Now()} }

func (c *clock) now() int64 { return int64(time.Since(c.base)) }

// lifetime is the life of a Middleware: its background work ends with it.
type lifetime struct {
	ctx context.Context
	end context.CancelFunc

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup // guarded by mu where it grows
}

func newLifetime() *lifetime {
	l := &lifetime{}
	l.ctx, l.end = context.WithCancel(context.Background())
	return l
}

// run starts work in a goroutine for which wait waits, unless close was called. A panic
// there, such as of an application's Logger, must not end the process.
func (l *lifetime) run(work func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.running.Go(func() {
		defer func() { _ = recover() }()
		work()
	})
	return true
}

// sleep waits for d, and reports whether the lifetime has not ended.
func (l *lifetime) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-l.ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (l *lifetime) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// close ends running work, and lets no other work start.
func (l *lifetime) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.end()
}

// wait reports whether all work returned within patience.
func (l *lifetime) wait(patience time.Duration) bool {
	ended := make(chan struct{})
	go func() {
		l.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return true
	case <-time.After(patience):
		return false
	}
}
