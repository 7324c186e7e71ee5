package dssauth

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// Access gives an access log, or other code in front of a [Middleware], the
// Middleware's results about a request. It starts no lookup. You can read it at any
// time, in any goroutine. It has the results so far. For example, it has none if an
// [http.TimeoutHandler] in front of the Middleware gave up early. Make it with
// [WithAccess]; the zero Access is empty.
type Access struct {
	outer   *Access // of a WithAccess in front
	visitor atomic.Pointer[entry]
	refused atomic.Pointer[error]
}

type accessKey struct{}

// hasAccess is set by the first WithAccess. A look into the context costs a hit 17 to
// 60 ns, and a program without an access log must not pay that.
var hasAccess atomic.Bool

// WithAccess returns a copy of a request's context, and an Access that Middlewares
// fill. They also fill each Access that ctx has already: nested logs get the same
// results. Give each request its own Access: if two share one, it has the results of
// the last one.
func WithAccess(ctx context.Context) (context.Context, *Access) {
	a := &Access{outer: accessOf(ctx)}
	if !hasAccess.Load() { // a store would take the line from other processors' caches
		hasAccess.Store(true)
	}
	return context.WithValue(ctx, accessKey{}, a), a
}

// Identity returns the visitor that the innermost handler finds by [FromContext]. It
// reports false if nobody was identified. If a gate or a handler refused a known
// visitor, Identity returns that visitor, and [Access.Refusal] the reason.
func (a *Access) Identity() (Identity, bool) {
	e := a.visitor.Load()
	if e == nil {
		return Identity{}, false
	}
	return e.identity, true
}

// Refusal returns the error with which the request was refused, the same as [Hooks]
// get, or nil. [StatusCode] gives the status, unless the visitor was redirected to sign
// in or [Config.OnError] writes another one.
func (a *Access) Refusal() error {
	if err := a.refused.Load(); err != nil {
		return *err
	}
	return nil
}

// LogValue returns a group for slog with the known results: "login", or "api_key" with
// the id of an API key without a user, and "reason", the text of Refusal. With an empty
// key, as in slog.Any("", access), they join the other attributes.
func (a *Access) LogValue() slog.Value {
	var known []slog.Attr
	switch id, ok := a.Identity(); {
	case ok && id.Login != "":
		known = append(known, slog.String("login", id.Login))
	case ok:
		known = append(known, slog.String("api_key", id.APIKeyID))
	}
	if err := a.Refusal(); err != nil {
		known = append(known, slog.String("reason", err.Error()))
	}
	return slog.GroupValue(known...)
}

// tellVisitor stores the sender of the request with this context; nil: anonymous.
func tellVisitor(ctx context.Context, e *entry) {
	for a := accessOf(ctx); a != nil; a = a.outer {
		a.visitor.Store(e)
	}
}

func tellRefusal(ctx context.Context, err error) {
	for a := accessOf(ctx); a != nil; a = a.outer {
		a.refused.Store(&err)
	}
}

func accessOf(ctx context.Context) *Access {
	if !hasAccess.Load() {
		return nil
	}
	a, _ := ctx.Value(accessKey{}).(*Access)
	return a
}
