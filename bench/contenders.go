package bench

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	jwtmiddleware "github.com/auth0/go-jwt-middleware/v2"
	"github.com/auth0/go-jwt-middleware/v2/validator"
	"github.com/go-chi/jwtauth/v5"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	tokencache "k8s.io/apiserver/pkg/authentication/token/cache"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
)

// Contender is a middleware under measurement.
type Contender struct {
	Name       string
	Credential Credential
	Wrap       func(http.Handler) http.Handler

	// Login returns the user that the handler behind Wrap finds in the context.
	Login func(context.Context) string

	// asked returns the number of its questions to DSS; nil: it does not ask DSS.
	asked func() int
	close func()
}

// Lookups returns the number of the contender's questions to DSS.
func (c *Contender) Lookups() int {
	if c.asked == nil {
		return 0
	}
	return c.asked()
}

// Close ends the contender's work in the background.
func (c *Contender) Close() {
	if c.close != nil {
		c.close()
	}
}

// Remembers reports whether the first requests of each user fill a cache. Those
// requests are not measured: see [Contender.Fill].
func (c *Contender) Remembers() bool { return c.asked != nil }

// The names of the contenders with targets.
const (
	Floor        = "FLOOR"
	FloorHeaders = "FLOOR with the two response headers"
	Ours         = "dssauth"
	OursChanging = "dssauth, a load balancer's cookie changes each time"
	K8s          = "k8s.io/apiserver v0.37.2, cached token authenticator"
)

// NewContenders returns the contenders, each new, for the users 0 to count-1
// of d.
func NewContenders(d *DSS, count int) ([]*Contender, error) {
	ours, err := newOurs(d, Ours, Session)
	if err != nil {
		return nil, err
	}
	changing, err := newOurs(d, OursChanging, Changing)
	if err != nil {
		return nil, err
	}
	auth0, err := newAuth0()
	if err != nil {
		return nil, err
	}
	jwt, err := newJWTAuth()
	if err != nil {
		return nil, err
	}
	sessions, err := newSCS(count)
	if err != nil {
		return nil, err
	}
	return []*Contender{newFloor(), newFloorHeaders(), newFloorInOne(), ours, changing, newK8s(d), auth0, jwt, sessions}, nil
}

// Fill lets every user send two requests, so that all further requests are
// hits. It fails if one of them is refused.
func (c *Contender) Fill(users Users, size int) error {
	if !c.Remembers() {
		return nil
	}
	for range 2 {
		if err := VisitAll(c.Wrap, c.Credential, users.Count, size, func(int, *http.Request) {}); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return nil
}

// VisitAll lets each user send one request, several at once, and calls seen
// with the requests that reach the handler behind wrap. It fails if a request
// does not reach it.
func VisitAll(wrap func(http.Handler) http.Handler, credential Credential, users, size int, seen func(user int, r *http.Request)) error {
	const workers = 16
	var served atomic.Int64
	var running sync.WaitGroup
	for worker := range workers {
		running.Go(func() {
			for user := worker; user < users; user += workers {
				h := wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					served.Add(1)
					seen(user, r)
				}))
				h.ServeHTTP(Discard(), Request(credential, user, size))
			}
		})
	}
	running.Wait()
	if n := served.Load(); n != int64(users) {
		return fmt.Errorf("%d of %d users were refused", int64(users)-n, users)
	}
	return nil
}

type floorKey struct{}

var anybody = &dssauth.Identity{Login: "somebody"}

// FloorHandler does only context.WithValue and r.WithContext.
func FloorHandler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), floorKey{}, anybody)))
	})
}

func newFloor() *Contender {
	return &Contender{
		Name: Floor, Credential: Session,
		Wrap:  FloorHandler,
		Login: func(ctx context.Context) string { return ctx.Value(floorKey{}).(*dssauth.Identity).Login },
	}
}

// newFloorHeaders also sets dssauth's headers of each admitted answer.
func newFloorHeaders() *Contender {
	c := newFloor()
	c.Name = FloorHeaders
	private, vary := []string{"private"}, []string{"Cookie", "Authorization"}
	c.Wrap = func(next http.Handler) http.Handler {
		next = FloorHandler(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h["Cache-Control"], h["Vary"] = private, vary
			next.ServeHTTP(w, r)
		})
	}
	return c
}

// newFloorInOne does the same as newFloor, with context and request in one allocation.
func newFloorInOne() *Contender {
	return &Contender{
		Name: Floor + " with one allocation", Credential: Session,
		Wrap: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(w, attachInOne(r)) })
		},
		Login: func(ctx context.Context) string { return ctx.Value(floorKey{}).(*dssauth.Identity).Login },
	}
}

type inOne struct {
	context.Context
	identity *dssauth.Identity
	request  http.Request
}

func attachInOne(r *http.Request) *http.Request {
	v := &inOne{Context: r.Context(), identity: anybody}
	v.request = *r.WithContext(v)
	return &v.request
}

func (v *inOne) Value(k any) any {
	if k == (floorKey{}) {
		return v.identity
	}
	return v.Context.Value(k)
}

// newOurs is this module's Middleware with default settings.
func newOurs(d *DSS, name string, credential Credential) (*Contender, error) {
	auth, err := dssauth.New(dssauth.Config{Client: d.Client})
	if err != nil {
		return nil, err
	}
	return &Contender{
		Name: name, Credential: credential,
		Wrap:  auth.Handler,
		asked: func() int { return int(auth.Stats().Lookups) },
		close: func() { _ = auth.Close() },
		Login: func(ctx context.Context) string {
			id, _ := dssauth.FromContext(ctx)
			return id.Login
		},
	}, nil
}

type k8sKey struct{}

// newK8s remembers answers for as long as ours; its bearer token is the whole
// Cookie header, since it does not read single cookies.
func newK8s(d *DSS) *Contender {
	var asked atomic.Int64
	authn := NewK8sAuthenticator(func(ctx context.Context, cookies string) (dss.AuthInfo, error) {
		asked.Add(1)
		return d.Client.AuthInfoFromBrowserHeaders(ctx, http.Header{"Cookie": {cookies}})
	}, 10*time.Second)
	return &Contender{
		Name: K8s, Credential: Session,
		asked: func() int { return int(asked.Load()) },
		Wrap: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				who, ok, err := authn.AuthenticateToken(r.Context(), r.Header.Get("Cookie"))
				if err != nil || !ok {
					http.Error(w, "unauthorized", http.StatusUnauthorized)
					return
				}
				next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), k8sKey{}, who.User)))
			})
		},
		Login: func(ctx context.Context) string { return ctx.Value(k8sKey{}).(user.Info).GetName() },
	}
}

// NewK8sAuthenticator puts Kubernetes' cache in front of ask.
func NewK8sAuthenticator(ask func(context.Context, string) (dss.AuthInfo, error), ttl time.Duration) authenticator.Token {
	return tokencache.New(authenticator.TokenFunc(func(ctx context.Context, token string) (*authenticator.Response, bool, error) {
		info, err := ask(ctx, token)
		if err != nil {
			return nil, false, err
		}
		return &authenticator.Response{User: &user.DefaultInfo{Name: info.Login(), Groups: info.Groups}}, true, nil
	}), false, ttl, 0)
}

var jwtSecret = []byte("a secret of thirty-two bytes, ok")

const jwtCookie = "jwt" // jwtauth reads this cookie

// jwtCredential returns tokens that both JWT libraries accept.
func jwtCredential() (Credential, *jwtauth.JWTAuth) {
	signer := jwtauth.New("HS256", jwtSecret, nil)
	return func(user int) string {
		_, token, err := signer.Encode(map[string]any{"iss": "bench", "aud": "app", "sub": Login(user), "exp": 4_000_000_000})
		if err != nil {
			panic(err) // it cannot fail for these claims
		}
		return jwtCookie + "=" + token
	}, signer
}

func newAuth0() (*Contender, error) {
	v, err := validator.New(func(context.Context) (any, error) { return jwtSecret, nil }, validator.HS256, "bench", []string{"app"})
	if err != nil {
		return nil, err
	}
	credential, _ := jwtCredential()
	m := jwtmiddleware.New(v.ValidateToken, jwtmiddleware.WithTokenExtractor(jwtmiddleware.CookieTokenExtractor(jwtCookie)))
	return &Contender{
		Name: "auth0/go-jwt-middleware v2.3.1, HS256", Credential: credential,
		Wrap: m.CheckJWT,
		Login: func(ctx context.Context) string {
			return ctx.Value(jwtmiddleware.ContextKey{}).(*validator.ValidatedClaims).RegisteredClaims.Subject
		},
	}, nil
}

func newJWTAuth() (*Contender, error) {
	credential, verifier := jwtCredential()
	return &Contender{
		Name: "go-chi/jwtauth v5.3.3, HS256", Credential: credential,
		Wrap: func(next http.Handler) http.Handler {
			return jwtauth.Verify(verifier, jwtauth.TokenFromCookie)(jwtauth.Authenticator(verifier)(next))
		},
		Login: func(ctx context.Context) string {
			token, _, _ := jwtauth.FromContext(ctx)
			return token.Subject()
		},
	}, nil
}

// newSCS keeps sessions with a login in memory, and admits only these.
func newSCS(count int) (*Contender, error) {
	sessions := scs.New()
	sessions.Store = memstore.NewWithCleanupInterval(0) // leaves no goroutine behind
	tokens := make([]string, count)
	for i := range tokens {
		ctx, err := sessions.Load(context.Background(), "")
		if err != nil {
			return nil, err
		}
		sessions.Put(ctx, "login", Login(i))
		if tokens[i], _, err = sessions.Commit(ctx); err != nil {
			return nil, err
		}
	}
	return &Contender{
		Name: "alexedwards/scs v2.9.0, in memory",
		Credential: func(user int) string {
			return sessions.Cookie.Name + "=" + tokens[user]
		},
		Wrap: func(next http.Handler) http.Handler {
			return sessions.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if sessions.GetString(r.Context(), "login") == "" {
					http.Error(w, "unauthorized", http.StatusUnauthorized)
					return
				}
				next.ServeHTTP(w, r)
			}))
		},
		Login: func(ctx context.Context) string { return sessions.GetString(ctx, "login") },
	}, nil
}
