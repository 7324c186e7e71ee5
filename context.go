package dssauth

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
)

// FromContext returns the identity of the visitor behind a request, given the request's
// context. It reports false if no Middleware ran, and for an anonymous visitor behind
// [Middleware.Optional].
func FromContext(ctx context.Context) (Identity, bool) {
	v, ok := ctx.Value(visitKey{}).(*visit)
	if !ok || v.entry == nil {
		return Identity{}, false
	}
	return v.entry.identity, true
}

// NewContext returns a copy of ctx with id as the visitor, for tests of handlers.
// RequireGroup and Require of every Middleware trust it, so never call it with
// anything that came from a request. Handler does not trust it, and asks DSS.
// RequireProject, ClientFromContext and SecretsFromContext ask DSS, too: test these
// with package dsstest. An id that has neither an API key's id nor a login that DSS
// can have, such as the zero Identity, is an anonymous visitor: FromContext reports
// false, and gates refuse with [ErrUnauthenticated].
func NewContext(ctx context.Context, id Identity) context.Context {
	if !id.isSomebody() {
		return &visit{Context: ctx}
	}
	id.AsOf = id.AsOf.Round(0)
	return &visit{Context: ctx, entry: &entry{identity: id}}
}

// visit is a request's context with its visitor's identity attached. It shares one
// piece of memory with the request that carries it, so that attaching an identity costs
// one allocation.
type visit struct {
	context.Context
	m       *Middleware          // nil: from NewContext; all gates trust it
	entry   *entry               // nil: anonymous
	request *http.Request        // behind a pointer, so that printing a visit does not show it
	gate    atomic.Pointer[gate] // the gate that admitted the request; atomic, since handlers may share a request
}

type (
	visitKey struct{}                // the innermost visit
	ownKey   struct{ m *Middleware } // the innermost visit that m's gates trust
	usedKey  struct{ m *Middleware } // the innermost visit whose answer m uses again
)

func (v *visit) Value(k any) any {
	switch k := k.(type) {
	case visitKey:
		return v
	case ownKey:
		if v.m == k.m || v.m == nil {
			return v
		}
	case usedKey:
		if v.m == k.m {
			return v
		}
	}
	return v.Context.Value(k)
}

// placed is a visit in a request itself, and a server may use that request again. So
// its answer has an end: the latest time at which a request that waits for a lookup can
// be handled.
type placed struct {
	visit
	until int64
}

func (p *placed) Value(k any) any {
	if _, ok := k.(usedKey); ok && p.m.answers.now() >= p.until {
		return p.Context.Value(k)
	}
	return p.visit.Value(k)
}

// Format keeps the request's headers out of a printed context, for every verb.
func (v *visit) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "dssauth.visit") }

// attach returns a shallow copy of r that carries DSS's answer about its visitor.
func (m *Middleware) attach(r *http.Request, e *entry) *http.Request {
	tellVisitor(r.Context(), e)
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

// attachTo is attach to r itself. It replaces an earlier visit, but keeps the gates
// that admitted r: WhileSignedIn asks them again.
func (m *Middleware) attachTo(r *http.Request, e *entry) {
	ctx := r.Context()
	tellVisitor(ctx, e)
	v, ok := ctx.(*visit)
	if p, is := ctx.(*placed); is {
		v, ok = &p.visit, true
	}
	if ok && v.m == m && v.gate.Load() == nil {
		ctx = v.Context
	}
	*r = *r.WithContext(&placed{visit{Context: ctx, m: m, entry: e, request: r}, m.answers.lasts(e)})
}

// handBack copies to r the values that handlers put into inner, our copy of it.
// net/http removes the temporary files of an upload by its own request, and logs and
// traces in front read the route there.
func handBack(r, inner *http.Request) {
	if inner.MultipartForm != r.MultipartForm {
		r.MultipartForm = inner.MultipartForm
	}
	if inner.Pattern != r.Pattern {
		r.Pattern = inner.Pattern
	}
}

// attachAnonymous records that DSS was asked about this request. It hides an identity
// that was attached before, also by another Middleware: a user of that DSS is not a
// user of this one.
func (m *Middleware) attachAnonymous(r *http.Request) *http.Request {
	tellVisitor(r.Context(), nil)
	if v, ok := r.Context().(*visit); ok && v.m == m && v.entry == nil {
		return r
	}
	return r.WithContext(&visit{Context: r.Context(), m: m})
}

// unknown is the context of a visit whose visitor DSS did not know.
type unknown struct {
	context.Context
	key    key
	number int64 // DSS was asked later than this, as lookups are counted
}

// attachUnknown is attachAnonymous for DSS's answer to r's bytes.
func (m *Middleware) attachUnknown(r *http.Request, number int64) *http.Request {
	k, err := m.selector.pickKey(r.Header)
	if err != nil { // DSS was not asked
		return m.attachAnonymous(r)
	}
	tellVisitor(r.Context(), nil)
	return r.WithContext(&visit{Context: &unknown{r.Context(), k, number}, m: m})
}

// attachedAnswer returns the answer that m attached to ctx for the bytes of k, unless
// it was forgotten since.
func (m *Middleware) attachedAnswer(ctx context.Context, k key) (*entry, error) {
	v, ok := ctx.Value(usedKey{m}).(*visit)
	if !ok {
		return nil, nil
	}
	if e := v.entry; e != nil {
		if e.key == k && !m.answers.isGone(k, e.identity.owner(), e.number) {
			return e, nil
		}
		return nil, nil
	}
	if u, ok := v.Context.(*unknown); ok && u.key == k && !m.answers.isGone(k, "", u.number) {
		return nil, errRemembered
	}
	return nil, nil
}

// attached returns the visit that this Middleware, or NewContext, attached.
func (m *Middleware) attached(ctx context.Context) (*visit, bool) {
	v, ok := ctx.Value(ownKey{m}).(*visit)
	return v, ok && v.entry != nil
}
