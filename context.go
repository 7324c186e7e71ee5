package dssauth

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
)

// FromContext returns the identity of the visitor behind a request, given the
// request's context. It reports false where no Middleware ran, and for an
// anonymous visitor behind [Middleware.Optional].
func FromContext(ctx context.Context) (Identity, bool) {
	v, ok := ctx.Value(visitKey{}).(*visit)
	if !ok || v.entry == nil {
		return Identity{}, false
	}
	return v.entry.identity, true
}

// NewContext returns a copy of ctx with id as the visitor, for tests of
// handlers. The gates of every Middleware trust it, so never call it with
// anything that came from a request. An id without an API key's id, and without
// a login that DSS can have (the zero Identity, for one), makes the visitor
// anonymous: FromContext reports false, and gates refuse with
// [ErrUnauthenticated].
func NewContext(ctx context.Context, id Identity) context.Context {
	if !id.isSomebody() {
		return &visit{Context: ctx}
	}
	id.groups = slices.Clone(id.groups)
	id.AsOf = id.AsOf.Round(0)
	return &visit{Context: ctx, entry: &entry{identity: id}}
}

// visit is a request's context with its visitor's identity attached. The
// request that carries it lies in the same piece of memory, so that attaching
// an identity costs one allocation.
type visit struct {
	context.Context
	m       *Middleware          // nil: from NewContext, which all gates trust
	entry   *entry               // nil: anonymous
	request *http.Request        // behind a pointer, so that printing a visit does not show it
	gate    atomic.Pointer[gate] // one that admitted the request; atomic, since handlers may share a request
}

type (
	visitKey struct{}                // the innermost visit
	ownKey   struct{ m *Middleware } // the innermost visit that m's gates trust
)

func (v *visit) Value(k any) any {
	switch k := k.(type) {
	case visitKey:
		return v
	case ownKey:
		if v.m == k.m || v.m == nil {
			return v
		}
	}
	return v.Context.Value(k)
}

// String keeps the request's headers out of whatever prints a context.
func (v *visit) String() string { return "dssauth.visit" }

// Format is String, whatever the verb.
func (v *visit) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, v.String()) }

// attach returns a shallow copy of r that carries what DSS said of its visitor.
func (m *Middleware) attach(r *http.Request, e *entry) *http.Request {
	return newVisit(r, m, e).request
}

func newVisit(r *http.Request, m *Middleware, e *entry) *visit {
	both := &struct {
		visit
		request http.Request
	}{visit: visit{Context: r.Context(), m: m, entry: e}}
	both.request = *r.WithContext(&both.visit)
	both.visit.request = &both.request
	return &both.visit
}

// attachTo is attach to r itself. It replaces what attachTo attached before, but
// for gates that admitted r: WhileSignedIn asks them again.
func (m *Middleware) attachTo(r *http.Request, e *entry) {
	ctx := r.Context()
	if v, ok := ctx.(*visit); ok && v.m == m && v.gate.Load() == nil {
		ctx = v.Context
	}
	*r = *r.WithContext(&visit{Context: ctx, m: m, entry: e, request: r})
}

// handBack gives to r what handlers put into inner, our copy of it. net/http
// removes the temporary files of an upload by its own request, and what logs and
// traces in front finds the route there.
func handBack(r, inner *http.Request) {
	if inner.MultipartForm != r.MultipartForm {
		r.MultipartForm = inner.MultipartForm
	}
	if inner.Pattern != r.Pattern {
		r.Pattern = inner.Pattern
	}
}

// attachAnonymous says that this request was asked about, and hides who was
// attached before, by another Middleware too: that DSS's user is not this one's.
func (m *Middleware) attachAnonymous(r *http.Request) *http.Request {
	if v, ok := r.Context().(*visit); ok && v.m == m && v.entry == nil {
		return r
	}
	return r.WithContext(&visit{Context: r.Context(), m: m})
}

// attached returns the visit that this Middleware, or NewContext, attached.
func (m *Middleware) attached(ctx context.Context) (*visit, bool) {
	v, ok := ctx.Value(ownKey{m}).(*visit)
	return v, ok && v.entry != nil
}
