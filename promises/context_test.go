package promises

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
)

func TestFromContextWithoutTheMiddleware(t *testing.T) {
	id, ok := dssauth.FromContext(t.Context())
	assert.False(t, ok)
	assert.Zero(t, id)
	assert.Equal(t, "nobody", serve(whoami, fromAnn()).Body.String(), "a cookie alone identifies nobody")
}

func TestNewContext(t *testing.T) {
	groups := []string{"analysts", "readers"}
	id := dssauth.NewIdentity("ann", groups...)
	ctx := dssauth.NewContext(t.Context(), id)
	groups[0] = "administrators"
	id.Login = "eve"
	id.Groups()[0] = "administrators"

	got, ok := dssauth.FromContext(ctx)
	assert.True(t, ok)
	assert.Equal(t, "ann", got.Login)
	assert.Equal(t, []string{"analysts", "readers"}, got.Groups())

	inner := dssauth.NewContext(ctx, dssauth.NewIdentity("bob"))
	got, _ = dssauth.FromContext(inner)
	assert.Equal(t, "bob", got.Login, "the innermost visitor counts")
	got, _ = dssauth.FromContext(ctx)
	assert.Equal(t, "ann", got.Login)
}

// A visitor is anonymous without a login and an API key's id, even with other
// fields, and with a login that no Resolver may return.
func TestNewContextOfNobodyIsAnonymous(t *testing.T) {
	known := newDoorman()
	m := newAuth(t, dssauth.Config{Resolver: known})
	withGroups := dssauth.NewIdentity("", "analysts")
	withGroups.Profile, withGroups.Source, withGroups.DisplayName = "ADMIN", "USER_FROM_UI", "Ann"
	for name, id := range map[string]dssauth.Identity{
		"the zero identity":              {},
		"no login, but groups":           withGroups,
		"a blank login":                  dssauth.NewIdentity(" ", "analysts"),
		"a login with spaces at its end": dssauth.NewIdentity("ann ", "analysts"),
		"a login with a line end":        dssauth.NewIdentity("ann\n", "analysts"),
		"a login that is not UTF-8":      dssauth.NewIdentity("ann\xff", "analysts"),
	} {
		t.Run(name, func(t *testing.T) {
			for _, outer := range []context.Context{t.Context(), dssauth.NewContext(t.Context(), dssauth.NewIdentity("ann", "analysts"))} {
				ctx := dssauth.NewContext(outer, id)
				got, ok := dssauth.FromContext(ctx)
				assert.False(t, ok)
				assert.Zero(t, got)
				_, err := dssauth.ClientFromContext(ctx)
				assert.Error(t, err)
				_, err = dssauth.SecretsFromContext(ctx)
				assert.Error(t, err)

				for _, r := range []*http.Request{request("GET", "/"), fromAnn()} {
					r = r.WithContext(ctx)
					assert.Equal(t, "nobody", serve(whoami, r).Body.String())
					assert.Equal(t, 401, serve(m.RequireGroup("analysts")(unreachable(t)), r).Code)
					assert.Equal(t, 401, serve(m.Require(func(*http.Request, dssauth.Identity) error { return nil })(unreachable(t)), r).Code)
					ended, cancel := m.WhileSignedIn(r, time.Second)
					assert.Error(t, ended.Err())
					cancel()
				}
			}
			assert.Zero(t, known.calls(), "gates trust NewContext")
		})
	}

	r := fromAnn()
	r = r.WithContext(dssauth.NewContext(r.Context(), dssauth.Identity{}))
	assert.Equal(t, "ann", serve(m.Handler(whoami), r).Body.String(), "Handler asks for itself")
	key := dssauth.Identity{APIKeyID: "key-id"}
	assert.Equal(t, "an API key", serve(whoami, r.WithContext(dssauth.NewContext(t.Context(), key))).Body.String())
}

// time.Since uses the monotonic clock if a time has one, and this clock stops
// while the machine is suspended. Not in a bubble: its times have no monotonic
// clock.
func TestAsOfHasNoMonotonicClock(t *testing.T) {
	require.Contains(t, time.Now().String(), " m=")
	m := newAuth(t, dssauth.Config{Resolver: newDoorman()})
	given := dssauth.NewIdentity("ann")
	given.AsOf = time.Now()
	fromNewContext, _ := dssauth.FromContext(dssauth.NewContext(t.Context(), given))
	for name, id := range map[string]dssauth.Identity{
		"of a visitor":   identity(t, m, fromAnn()),
		"of NewIdentity": dssauth.NewIdentity("ann"),
		"of NewContext":  fromNewContext,
	} {
		assert.NotContains(t, id.AsOf.String(), " m=", name)
		assert.WithinDuration(t, time.Now(), id.AsOf, time.Minute, name)
	}
	assert.True(t, given.AsOf.Equal(fromNewContext.AsOf))
}

type contextKey struct{}

func TestContextKeepsValuesAndEndOfItsParent(t *testing.T) {
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), contextKey{}, "kept"))
	m := newAuth(t, dssauth.Config{Resolver: newDoorman()})
	r, err := m.Authenticate(fromAnn().WithContext(ctx))
	require.NoError(t, err)
	assert.Equal(t, "kept", r.Context().Value(contextKey{}))
	assert.NoError(t, r.Context().Err())
	cancel()
	assert.ErrorIs(t, r.Context().Err(), context.Canceled)
}

func TestGroups(t *testing.T) {
	id := dssauth.NewIdentity("ann", "analysts", "Gruppe Vertrieb", "caf\u00e9")
	for _, tt := range []struct {
		name, group string
		in          bool
	}{
		{"another case", "Analysts", false},
		{"the beginning", "analyst", false},
		{"something after it", "analysts2", false},
		{"a space before", " analysts", false},
		{"a space after", "analysts ", false},
		{"a NUL after", "analysts\x00", false},
		{"a part", "Gruppe", false},
		{"two at once", "analysts,Gruppe Vertrieb", false},
		{"the same letters, composed differently", "cafe\u0301", false},
		{"look-alikes", "\u0430nalysts", false},
		{"nothing", "", false},
		{"a star", "*", false},
		{"its name", "analysts", true},
		{"its name with a space", "Gruppe Vertrieb", true},
		{"its name beyond ASCII", "caf\u00e9", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.in, id.InGroup(tt.group))
		})
	}
	assert.False(t, dssauth.Identity{}.InGroup(""), "an anonymous visitor is in no group")
	assert.Empty(t, dssauth.Identity{}.Groups())
}

func TestIdentityAsJSON(t *testing.T) {
	tests := []struct {
		name string
		id   dssauth.Identity
		want string
	}{
		{"nobody has empty fields, and groups are a list", dssauth.Identity{}, `{"login":"","groups":[],"profile":""}`},
		{"a user", dssauth.NewIdentity("ann", "analysts"), `{"login":"ann","groups":["analysts"],"profile":""}`},
		{"neither source nor key id nor time is for a front end", dssauth.Identity{APIKeyID: "id", Source: "USER_FROM_UI"}, `{"login":"","groups":[],"profile":""}`},
		{"details where they are known", dssauth.Identity{Login: "ann", Profile: "DESIGNER", DisplayName: "Ann", Email: "ann@example.com"},
			`{"login":"ann","groups":[],"profile":"DESIGNER","displayName":"Ann","email":"ann@example.com"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, v := range []any{tt.id, &tt.id} {
				got, err := json.Marshal(v)
				require.NoError(t, err)
				assert.JSONEq(t, tt.want, string(got))
			}
		})
	}
}

func TestHandlersCannotChangeEachOthersVisitor(t *testing.T) {
	known := newDoorman()
	m := newAuth(t, dssauth.Config{Resolver: known})
	vandal := m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		id, ok := dssauth.FromContext(r.Context())
		if !assert.True(t, ok) {
			return
		}
		groups := id.Groups()
		for i := range groups {
			groups[i] = "administrators"
		}
		_ = append(groups[:0], "administrators", "root")
		slices.Reverse(id.Groups())
		id.Login, id.Profile, id.Source, id.APIKeyID, id.Email = "admin", "ADMIN", "x", "y", "z"
		_ = dssauth.NewContext(r.Context(), id)
		r.Header.Set("Cookie", "session=bob")
	}))
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := dssauth.FromContext(r.Context())
		assert.Equal(t, "ann", id.Login)
		assert.Equal(t, []string{"analysts", "readers"}, id.Groups())
		assert.Empty(t, id.Profile+id.Source+id.APIKeyID+id.Email)
	}))
	serve(h, fromAnn())
	var handlers sync.WaitGroup
	for range 10 {
		handlers.Go(func() { serve(vandal, fromAnn()) })
		handlers.Go(func() { serve(h, fromAnn()) })
	}
	handlers.Wait()
	serve(h, fromAnn())
	assert.Equal(t, 1, known.calls(), "the answer was not shared, and so this test shows nothing")
}

func TestResolverCannotChangeItsAnswerLater(t *testing.T) {
	groups := []string{"analysts"}
	known := newDoorman()
	known.is("session=ann", dssauth.NewIdentity("ann", groups...))
	m := newAuth(t, dssauth.Config{Resolver: known})
	serve(m.Handler(whoami), fromAnn())
	groups[0] = "administrators"
	r, err := m.Authenticate(fromAnn())
	require.NoError(t, err)
	id, _ := dssauth.FromContext(r.Context())
	assert.Equal(t, []string{"analysts"}, id.Groups())
}

func TestContextPrintsNothingOfTheRequest(t *testing.T) {
	const secret = "c4n4ry"
	known := newDoorman()
	known.is("session="+secret, dssauth.NewIdentity("ann"))
	m := newAuth(t, dssauth.Config{Resolver: known})
	r, err := m.Authenticate(request("GET", "/", "Cookie", "session="+secret))
	require.NoError(t, err)

	withValue := context.WithValue(r.Context(), contextKey{}, "x")
	withCancel, cancel := context.WithCancelCause(withValue)
	cancel(errors.New("over"))
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	text := slog.New(slog.NewTextHandler(&log, nil))
	for _, ctx := range []context.Context{r.Context(), withValue, withCancel} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%t"} {
			for _, v := range []any{ctx, &ctx, []any{ctx}, struct{ ctx context.Context }{ctx}} {
				said := fmt.Sprintf(verb, v)
				assert.NotContains(t, said, secret, "%s of %T", verb, v)
				assert.NotContains(t, said, fmt.Sprintf("%x", secret), "%s of %T", verb, v)
			}
		}
		logger.InfoContext(ctx, "here", "ctx", ctx)
		text.InfoContext(ctx, "here", "ctx", ctx)
		if out, err := json.Marshal(ctx); err == nil {
			assert.NotContains(t, string(out), secret, "JSON")
		}
	}
	assert.NotContains(t, log.String(), secret, "slog")
}
