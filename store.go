package dssauth

import (
	"context"
	"time"
)

// A Store shares answers between the replicas of an application, see
// [Config.Store]. The module rediscache has one for Redis and Valkey. An own one
// is checked by the package storetest.
//
// A store needs no trust. It is given sealed values under keys that say nothing,
// and what it gives back is opened, dated and checked. One that lies, forgets or
// is slow costs a call of DSS.
//
// All methods are called by many goroutines, and should return when ctx ends: no
// call is waited for longer than 50ms, but Watch.
type Store interface {
	// Get returns the value under key in memory of its caller's own, and nil where
	// there is none.
	Get(ctx context.Context, key string) ([]byte, error)
	// Put keeps an entry, and reports whether it did: false only where
	// [StoreEntry.IfAbsent] forbids it. It keeps no memory of e's.
	Put(ctx context.Context, e StoreEntry) (bool, error)
	// Delete removes the value under key, if there is one.
	Delete(ctx context.Context, key string) error
	// Watch calls heard with the value of each entry that any replica puts with
	// [StoreEntry.Notify], this one's own included, once and one at a time, from
	// when it has called ready. It returns when ctx ends, and when it may have
	// missed one, such as when a connection is lost: a few seconds after that at
	// the latest. After it has returned it calls nothing.
	Watch(ctx context.Context, ready func(), heard func(value []byte)) error
}

// StoreEntry is what a [Store] keeps.
type StoreEntry struct {
	// Key has at most 64 letters, digits, "-" and "_".
	Key string
	// Value has at least one byte, and at most 256 KiB.
	Value []byte
	// TTL is how long the entry is kept, a millisecond at least. It is gone
	// afterwards.
	TTL time.Duration
	// IfAbsent keeps it only where there is none under its key, as one step: of
	// many at once one succeeds.
	IfAbsent bool
	// Notify tells the value to all who watch, too, once it is kept.
	Notify bool
}
