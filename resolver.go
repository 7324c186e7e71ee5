package dssauth

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dssauth/dssauth/dss"
)

// A Resolver identifies the sender of a request by its identifying headers and no
// others. Set [Config.Resolver] to ask something else than DSS, or DSS in another way.
//
// An error that wraps [ErrUnauthenticated] means that the visitor is anonymous, and is
// believed. Any other error, and an identity without a login, means that the question
// has no answer now. Many goroutines call Resolve. It should return when ctx ends.
type Resolver interface {
	Resolve(ctx context.Context, identifying http.Header) (Identity, error)
}

// detailsTime bounds the further calls that Config.UserDetails makes.
const detailsTime = time.Second

// dssResolver asks DSS, and interprets its answer.
type dssResolver struct {
	client    *dss.Client
	outage    *outage
	patience  time.Duration                                                // with one question
	details   func(context.Context, http.Header, string) (dss.User, error) // nil: nobody asks for them
	log       *slog.Logger
	now       func() int64
	forbidden nag
	nameless  nag

	identified atomic.Bool  // a visitor, since the start
	anonymous  atomic.Int64 // lookups of nobody before that
}

func newDSSResolver(client *dss.Client, timeout time.Duration, log *slog.Logger, c *clock, life *lifetime) *dssResolver {
	return &dssResolver{
		client:   client,
		outage:   newOutage(client, log, c, life),
		patience: timeout / 4 * 3, // questions after a failure take time, too
		log:      log,
		now:      c.now,
	}
}

// Resolve returns errors unchanged. Verdict interprets them, after the lookup has given
// its place back.
func (d *dssResolver) Resolve(ctx context.Context, identifying http.Header) (Identity, error) {
	info, err := d.ask(ctx, identifying)
	if err == nil {
		return d.identity(ctx, identifying, info)
	}
	if forbids(err) && d.forbidden.due(d.now()) {
		d.log.Error("dssauth: DSS does not let us ask who a browser is: give the API key, or the run-as user of this webapp, the right to do so", "error", err.Error())
	}
	return Identity{}, err
}

// forbids reports whether DSS itself, and not a proxy, says that we lack a right. We do
// not know whether DSS's status is then 403 or 401.
func forbids(err error) bool {
	var reply *dss.Error
	return errors.As(err, &reply) && reply.Type != "" && !reply.NotAuthenticated() &&
		(reply.StatusCode == http.StatusForbidden || strings.HasSuffix(reply.Type, ".UnauthorizedException"))
}

func (d *dssResolver) ask(ctx context.Context, identifying http.Header) (dss.AuthInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, d.patience)
	defer cancel()
	return withOwnKey(ctx, func(ctx context.Context) (dss.AuthInfo, error) {
		return d.client.AuthInfoFromBrowserHeaders(ctx, identifying)
	})
}

// identity reads DSS's positive answer.
func (d *dssResolver) identity(ctx context.Context, identifying http.Header, info dss.AuthInfo) (Identity, error) {
	if info.IsAnonymous() {
		return Identity{}, refuse(ErrUnauthenticated, "DSS knows no session for this request")
	}
	id := Identity{Login: info.Login(), Profile: info.UserProfile, Source: info.AuthSource, groups: makeGroups(info.Groups)}
	if id.Login == "" {
		id.APIKeyID, id.groups = info.AuthIdentifier, nil
		return id, nil
	}
	if d.details != nil {
		d.addDetails(ctx, identifying, &id)
	}
	return id, nil
}

// addDetails leaves id unchanged if the calls fail: a missing display name must not
// cause a refusal.
func (d *dssResolver) addDetails(ctx context.Context, identifying http.Header, id *Identity) {
	ctx, cancel := context.WithTimeout(ctx, detailsTime)
	defer cancel()
	user, err := d.details(ctx, identifying, id.Login)
	if err == nil && user.Login != id.Login {
		err = errors.New("DSS answered about another user")
	}
	var reply *dss.Error
	switch {
	case errors.As(err, &reply) && isRefusal(reply):
		if d.nameless.due(d.now()) {
			d.log.Warn("dssauth: DSS does not let us read users, so that Config.UserDetails has no effect: give the API key, or the run-as user of this webapp, "+
				"the right to read them, or leave Config.UserDetails off (said once a minute)", "error", err.Error())
		}
		return
	case err != nil:
		d.log.Debug("dssauth: no display name and e-mail address for a visitor", "error", err.Error())
		return
	}
	id.DisplayName, id.Email = user.DisplayName, user.Email
}

// asVisitor returns a client that acts as the visitor of this login. The visitor's
// browser sent these headers.
type asVisitor func(ctx context.Context, identifying http.Header, login string) (*dss.Client, error)

// detailsOf returns a function that asks for a user's name and e-mail address. It asks
// as the visitor first. If that fails, or if as is nil, it asks with our own rights;
// DSS can restrict these.
func detailsOf(client *dss.Client, as asVisitor) func(context.Context, http.Header, string) (dss.User, error) {
	return func(ctx context.Context, identifying http.Header, login string) (dss.User, error) {
		if as != nil {
			visitor, err := as(ctx, identifying, login)
			if err == nil {
				if user, err := ownDetails(ctx, visitor); err == nil && user.Login == login {
					return user, nil
				}
			}
		}
		return client.User(ctx, login)
	}
}

// ownDetails reads them in the visitor's own settings.
func ownDetails(ctx context.Context, visitor *dss.Client) (dss.User, error) {
	var settings bounded
	if err := visitor.Do(ctx, http.MethodGet, "/current-user", nil, &settings); err != nil {
		return dss.User{}, err
	}
	var user dss.User // its fields have the names of the JSON
	err := json.Unmarshal(settings.text, &user)
	return user, err
}

// bounded keeps the written text, up to maxOwnSettings: a visitor can save settings of
// any size.
type bounded struct{ text []byte }

const maxOwnSettings = 1 << 20

func (b *bounded) Write(p []byte) (int, error) {
	if len(b.text)+len(p) > maxOwnSettings {
		return 0, errors.New("the settings are too long")
	}
	b.text = append(b.text, p...)
	return len(p), nil
}
