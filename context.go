package dssauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

// Identity is who DSS said a visitor is. It is a value: what a handler
// changes in its copy stays its own. The zero Identity is nobody.
type Identity struct {
	// Login is the DSS user's login. It is empty for an API key without a
	// user, which only Config.AllowAPIKeys admits.
	Login string
	// Profile is the user's licence profile, such as DESIGNER; often empty.
	Profile string
	// Source is how DSS knows the visitor, such as USER_FROM_UI for a
	// browser session and PERSONAL_API_KEY for a user's own API key.
	Source string
	// APIKey is the id, not the secret, of an API key without a user. It is
	// empty for users.
	APIKey string
	// DisplayName and Email are set only with Config.UserDetails, and empty
	// where DSS did not give them. Never decide about rights by them.
	DisplayName, Email string
	// AsOf is when DSS was asked. It is older than Config.TTL only while
	// Config.StaleIfError bridges an outage.
	AsOf time.Time

	groups []string
}

// NewIdentity returns the identity of a user, for a [Resolver] and for tests.
func NewIdentity(login string, groups ...string) Identity {
	return Identity{Login: login, AsOf: time.Now(), groups: slices.Clone(groups)}
}

// Groups returns a copy of the names of the visitor's groups in DSS, in DSS's
// order. API keys without a user have none.
func (id Identity) Groups() []string { return slices.Clone(id.groups) }

// InGroup reports whether the visitor is in the group of exactly this name.
func (id Identity) InGroup(name string) bool { return slices.Contains(id.groups, name) }

// MarshalJSON gives what a front end wants to know: login, groups and profile,
// and display name and e-mail address where they are known.
func (id Identity) MarshalJSON() ([]byte, error) {
	groups := id.groups
	if groups == nil {
		groups = []string{}
	}
	return json.Marshal(struct {
		Login       string   `json:"login"`
		Groups      []string `json:"groups"`
		Profile     string   `json:"profile"`
		DisplayName string   `json:"displayName,omitempty"`
		Email       string   `json:"email,omitempty"`
	}{id.Login, groups, id.Profile, id.DisplayName, id.Email})
}

// FromContext returns the identity of the visitor behind a request, given the
// request's context. It reports false where no Middleware ran, and for an
// anonymous visitor behind [Middleware.Optional].
func FromContext(ctx context.Context) (Identity, bool) {
	v, ok := ctx.Value(visitKey{}).(*visit)
	if !ok || v.identity == nil {
		return Identity{}, false
	}
	return *v.identity, true
}

// NewContext returns a copy of ctx with id as the visitor, for tests of
// handlers. The gates of every Middleware trust it, so never call it with
// anything that came from a request.
func NewContext(ctx context.Context, id Identity) context.Context {
	id.groups = slices.Clone(id.groups)
	return &visit{Context: ctx, identity: &id}
}

// visit is a request's context with its visitor's identity attached. The
// request that carries it lies in the same piece of memory, so that attaching
// an identity costs one allocation.
type visit struct {
	context.Context
	m        *Middleware          // nil: from NewContext
	entry    *entry               // nil: from NewContext, or anonymous
	identity *Identity            // nil: anonymous
	request  *http.Request        // behind a pointer, so that printing a visit does not show it
	gate     atomic.Pointer[gate] // one that admitted the request; atomic, since handlers may share a request
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
	return attachTo(r, m, e, &e.identity).request
}

func attachTo(r *http.Request, m *Middleware, e *entry, id *Identity) *visit {
	both := &struct {
		visit
		request http.Request
	}{visit: visit{Context: r.Context(), m: m, entry: e, identity: id}}
	both.request = *r.WithContext(&both.visit)
	both.visit.request = &both.request
	return &both.visit
}

// attachNobody hides whoever was attached before, by another Middleware too:
// that DSS's user is not this one's.
func (m *Middleware) attachNobody(r *http.Request) *http.Request {
	if r.Context().Value(visitKey{}) == nil {
		return r
	}
	return r.WithContext(&visit{Context: r.Context(), m: m})
}

// attached returns the visit that this Middleware, or NewContext, attached.
func (m *Middleware) attached(ctx context.Context) (*visit, bool) {
	v, ok := ctx.Value(ownKey{m}).(*visit)
	return v, ok && v.identity != nil
}

var errNoVisitor = errors.New("dssauth: no visitor in this context: wrap the handler with Middleware.Handler, and pass it the request's context")
