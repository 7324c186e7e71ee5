package dssauth

import (
	"context"
	"sync/atomic"
	"time"
)

// A Store shares answers between the replicas of an application, see
// [Config.Store]. The module rediscache has one for Redis and Valkey. To test one
// of your own, use the package storetest.
//
// A store needs no trust. It gets sealed values under keys that reveal nothing. A value
// that it gives back is opened, dated and checked. A store that lies, forgets or is
// slow costs a call to DSS, and the wait for another replica's lookup: three quarters
// of [Config.Timeout] at most.
//
// Many goroutines call all methods. A method should return when ctx ends: no call is
// waited for longer than 50ms, except Watch. The text of errors goes to the log: it
// must hold no password.
type Store interface {
	// Get returns a copy of the value under key, which the caller may change. It
	// returns nil and no error if there is none.
	Get(ctx context.Context, key string) ([]byte, error)
	// Put keeps an entry, and reports whether it did: false only if
	// [StoreEntry.IfAbsent] forbids it. It copies e.Value: the caller may change that
	// afterwards.
	Put(ctx context.Context, e StoreEntry) (bool, error)
	// Delete removes the value under key, if there is one.
	Delete(ctx context.Context, key string) error
	// Watch calls ready when it listens: after 10s at most, or ctx ends. From then on
	// it calls heard with the value of each entry that any replica, this one included,
	// puts with [StoreEntry.Notify]: once for each entry, one call at a time. It
	// returns when ctx ends. It also returns when it may have missed an entry, such as
	// after a lost connection, within a few seconds. After its return it calls neither
	// function.
	Watch(ctx context.Context, ready func(), heard func(value []byte)) error
}

// StoreEntry is a value that a [Store] keeps.
type StoreEntry struct {
	// Key has at most 64 letters, digits, "-" and "_".
	Key string
	// Value has at least one byte, and at most 256 KiB.
	Value []byte
	// TTL is how long the entry is kept, a millisecond at least. Afterwards it must be
	// gone.
	TTL time.Duration
	// IfAbsent keeps the entry only if there is none under its key, in one atomic step:
	// of many at once, one succeeds.
	IfAbsent bool
	// Notify also sends the value to all watchers, once it is kept. Without IfAbsent it
	// may also be sent if Put fails, as when the store is full.
	Notify bool
}

const (
	// storeTime is what one call of a Store may take.
	storeTime = 50 * time.Millisecond
	// maxFinds bounds the lookups that read the store. Newcomers have three quarters of
	// it, so that junk does not keep known visitors from their answers.
	maxFinds = 1024
	// maxStoreCalls bounds the calls of a Store under way, including those that do not
	// return. Lookups make half of them: a flood leaves room for calls that end leases,
	// and for notices.
	maxStoreCalls = 2 * maxFinds
	// storeFailures in a row mean that a Store is out. Then a probe, one each
	// storeProbe at most, finds out when it is back.
	storeFailures = 3
	storeProbe    = time.Second
	// maxPaused times storeProbe is the longest pause between two probes.
	maxPaused = 60
	// maxStored bounds the value that is read.
	maxStored = 256 << 10
)

// storeAccess calls a Store, and distrusts it: it waits for no call longer than
// storeTime, and does not call a store that is out.
type storeAccess struct {
	*clock
	store Store
	life  *lifetime
	told  *observer
	under chan struct{} // calls under way

	hits, misses, rejected, failed atomic.Uint64
	inARow                         atomic.Int64 // failures
	ofKind                         failures
	out                            atomic.Bool
	back                           func() // called when a probe succeeds
}

// failures counts the failures in a row of each kind of call. A store that fails one kind
// always, such as Redis without a right, is not out: the other kinds succeed in between.
type failures struct{ get, put, notify, delete atomic.Int64 }

func (f *failures) reset() {
	for _, n := range []*atomic.Int64{&f.get, &f.put, &f.notify, &f.delete} {
		n.Store(0)
	}
}

var (
	errStoreOut  = ownWords("the store is out")
	errStoreBusy = ownWords("too many calls of the store are under way")
	errStoreSlow = ownWords("the store did not answer within 50ms")
)

// get returns the value stored under key, or nil.
func (s *storeAccess) get(ctx context.Context, key string) ([]byte, error) {
	value, err := call(ctx, s, &s.ofKind.get, func(ctx context.Context) ([]byte, error) { return s.store.Get(ctx, key) })
	if len(value) > maxStored {
		s.rejected.Add(1)
		value = nil
	}
	return value, err
}

func (s *storeAccess) put(ctx context.Context, e StoreEntry) (bool, error) {
	kind := &s.ofKind.put
	if e.Notify {
		kind = &s.ofKind.notify
	}
	return call(ctx, s, kind, func(ctx context.Context) (bool, error) { return s.store.Put(ctx, e) })
}

func (s *storeAccess) delete(ctx context.Context, key string) error {
	_, err := call(ctx, s, &s.ofKind.delete, func(ctx context.Context) (none struct{}, err error) { return none, s.store.Delete(ctx, key) })
	return err
}

// call makes one call of the store, unless that is out.
func call[T any](ctx context.Context, s *storeAccess, kind *atomic.Int64, to func(context.Context) (T, error)) (T, error) {
	if s.out.Load() {
		var none T
		return none, errStoreOut
	}
	v, err := try(ctx, s, to)
	switch {
	case err == nil:
		s.inARow.Store(0)
		kind.Store(0)
	case err == errStoreBusy || ctx.Err() != nil: // this says nothing about the store
	default:
		s.failed.Add(1)
		n := kind.Add(1)
		switch {
		case s.inARow.Add(1) < storeFailures:
			if n >= storeFailures {
				s.told.storeFails(err, s.now())
			}
		case s.out.CompareAndSwap(false, true):
			s.told.storeIsOut(err, s.now())
			s.life.run(s.probe)
		}
	}
	return v, err
}

// try makes one call, in a goroutine of its own: a store may ignore its context.
func try[T any](ctx context.Context, s *storeAccess, to func(context.Context) (T, error)) (v T, err error) {
	select {
	case s.under <- struct{}{}:
	default:
		return v, errStoreBusy
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	type answer struct {
		v   T
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		// The answer if the store calls Goexit.
		a := answer{err: ownWords("the store ended its goroutine")}
		defer func() {
			answers <- a // before cancel, since that would look like the store's silence
			<-s.under
			cancel()
		}()
		defer recovered(&a.err)
		a.v, a.err = to(ctx)
	}()
	select {
	case a := <-answers:
		return a.v, a.err
	case <-ctx.Done():
	}
	select {
	case a := <-answers: // its call may have ended ctx
		return a.v, a.err
	default:
		return v, errStoreSlow
	}
}

// probe asks a store that is out until it answers. Calls that ignore their end, such as
// earlier probes, make it ask less often: one may never return.
func (s *storeAccess) probe() {
	for paused := 1; s.life.sleep(storeProbe); paused++ {
		if paused < min(len(s.under), maxPaused) {
			continue
		}
		paused = 0
		_, err := try(s.life.ctx, s, func(ctx context.Context) ([]byte, error) { return s.store.Get(ctx, "probe") })
		if err == nil {
			s.inARow.Store(0)
			s.ofKind.reset() // all kinds failed
			s.back()         // before any request relies on an older answer
			s.out.Store(false)
			s.told.storeIsBack()
			return
		}
	}
}
