// Package ownkey records the API key of the application with which a call was made.
// Keys can be replaced while an application runs, and DSS's answer to one key proves
// nothing about another.
package ownkey

import (
	"context"
	"errors"
	"sync/atomic"
)

// ErrOtherUser means that a call with the key cannot act as the user that it is for.
var ErrOtherUser = errors.New("DSS would act as another user; a proxy before it may drop X-DKU-ProxyUser")

// Used is the number of a call's key; if a call was made twice, of the last key. Zero
// means that the key cannot be replaced.
type Used struct{ number atomic.Int64 }

type usedKey struct{}

// Context returns a copy of ctx for the call.
func (u *Used) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, usedKey{}, u)
}

// Number returns the last noted number.
func (u *Used) Number() int64 { return u.number.Load() }

// Note records the number of the key of a call with ctx.
func Note(ctx context.Context, number int64) {
	if u, ok := ctx.Value(usedKey{}).(*Used); ok {
		u.number.Store(number)
	}
}
