// Package ownkey tells with which of an application's own API keys a call was
// made. Keys can be replaced while an application runs, and what DSS answers to
// one of them says nothing about another.
package ownkey

import (
	"context"
	"sync/atomic"
)

// Used is the number of the key that a call was made with; of a call that was
// made twice, the last one. Zero is no key that can be replaced.
type Used struct{ number atomic.Int64 }

type usedKey struct{}

// Context returns a copy of ctx for the call.
func (u *Used) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, usedKey{}, u)
}

// Number returns what was noted last.
func (u *Used) Number() int64 { return u.number.Load() }

// Note takes down the number of the key that a call with ctx is made with.
func Note(ctx context.Context, number int64) {
	if u, ok := ctx.Value(usedKey{}).(*Used); ok {
		u.number.Store(number)
	}
}
