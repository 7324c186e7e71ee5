package dssauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/sync/singleflight"

	"github.com/dssauth/dssauth/dss"
)

// A Resolver says who sent a request, given its identifying headers and no
// others. Set [Config.Resolver] to ask something else than DSS, or DSS in
// another way.
//
// An error that wraps [ErrUnauthenticated] means nobody is signed in, and is
// believed. Any other error means that the question has no answer now, and so
// does an identity without a login. Resolve is called by many goroutines and
// should return when ctx ends.
type Resolver interface {
	Resolve(ctx context.Context, identifying http.Header) (Identity, error)
}

const (
	// ownTrust is how far back an accepted call vouches for our credentials.
	ownTrust = time.Second
	// rejectionTime is how long lookups fail at once after DSS rejected them.
	rejectionTime = 5 * time.Second
	// maxRetryAfter bounds what DSS can make us wait.
	maxRetryAfter = 5 * time.Second
	// breakerTrips is how many lookups in a row must fail to open the breaker,
	// breakerPause how long it then stays open.
	breakerTrips = 5
	breakerPause = time.Second
	// probeTime bounds the breaker's probe: DSS is noticed to be back at most
	// breakerPause + probeTime later.
	probeTime = 2 * time.Second
	// detailsTime bounds the second call that Config.UserDetails makes.
	detailsTime = time.Second
)

// dssResolver asks DSS, and decides what its answer means.
type dssResolver struct {
	client   *dss.Client
	patience time.Duration // with one question
	details  bool
	log      *slog.Logger
	now      func() int64

	breaker   *gobreaker.CircuitBreaker[dss.AuthInfo]
	notBefore atomic.Int64 // Retry-After, as told by DSS
	accepted  atomic.Int64 // start of the newest call in which DSS accepted our credentials
	rejected  atomic.Int64 // until when our credentials count as rejected
	down      atomic.Bool  // as last logged
	ownCheck  singleflight.Group
	rejection nag
	forbidden nag
}

func newDSSResolver(c Config, now func() int64) *dssResolver {
	d := &dssResolver{client: c.Client, details: c.UserDetails, log: c.Logger, now: now}
	// Less than a lookup may take: one that hung when DSS came back, and opened
	// the breaker by it, must leave time for the breaker's pause.
	d.patience = c.Timeout / 4 * 3
	d.accepted.Store(-int64(ownTrust) - 1) // nothing was accepted yet
	d.breaker = gobreaker.NewCircuitBreaker[dss.AuthInfo](gobreaker.Settings{
		Name:         "dss",
		MaxRequests:  1,
		Timeout:      breakerPause,
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= breakerTrips },
		IsSuccessful: func(err error) bool { return !tripsBreaker(err) },
	})
	return d
}

func (d *dssResolver) Resolve(ctx context.Context, identifying http.Header) (Identity, error) {
	asked := d.now()
	if asked < d.rejected.Load() {
		return Identity{}, unavailable("DSS rejects our own credentials", nil, d.rejected.Load()-asked)
	}
	info, err := d.throughBreaker(ctx, func() (dss.AuthInfo, error) {
		ctx, cancel := context.WithTimeout(ctx, d.patience)
		defer cancel()
		return d.client.AuthInfoFromBrowserHeaders(ctx, identifying)
	})
	d.logBreaker()
	if err == nil {
		d.vouch(asked)
		return d.identity(ctx, info)
	}
	return Identity{}, d.verdict(ctx, asked, err)
}

// identity reads DSS's positive answer.
func (d *dssResolver) identity(ctx context.Context, info dss.AuthInfo) (Identity, error) {
	if info.IsNobody() {
		return Identity{}, refuse(ErrUnauthenticated, "DSS knows no session for this request")
	}
	id := Identity{Login: info.Login(), Profile: info.UserProfile, Source: info.AuthSource, groups: slices.Clone(info.Groups)}
	if id.Login == "" {
		id.APIKey, id.groups = info.AuthIdentifier, nil
		return id, nil
	}
	if d.details {
		d.addDetails(ctx, &id)
	}
	return id, nil
}

// addDetails leaves id as it is where the call fails: a name to greet
// somebody by is not worth a refusal.
func (d *dssResolver) addDetails(ctx context.Context, id *Identity) {
	ctx, cancel := context.WithTimeout(ctx, detailsTime)
	defer cancel()
	user, err := d.client.User(ctx, id.Login)
	if err == nil && user.Login != id.Login {
		err = errors.New("DSS answered about another user")
	}
	if err != nil {
		d.log.Debug("dssauth: no display name and e-mail address for a visitor", "error", err.Error())
		return
	}
	id.DisplayName, id.Email = user.DisplayName, user.Email
}

// verdict says what DSS's negative answer means: nobody, or no answer.
func (d *dssResolver) verdict(ctx context.Context, asked int64, err error) error {
	var reply *dss.Error
	if !errors.As(err, &reply) {
		var busy *busyError
		if errors.As(err, &busy) {
			return unavailable("DSS is not asked now", err, busy.wait)
		}
		return unavailable("DSS did not answer", err, 0)
	}
	if reply.NotAuthenticated() {
		return d.nobodyOrOurselves(ctx, asked, err)
	}
	if reply.StatusCode == http.StatusTooManyRequests || reply.StatusCode == http.StatusServiceUnavailable {
		if wait := min(reply.RetryAfter, maxRetryAfter); wait > 0 {
			d.notBefore.Store(d.now() + int64(wait))
		}
	}
	if reply.StatusCode == http.StatusForbidden && d.forbidden.due(d.now()) {
		d.log.Error("dssauth: DSS does not let us ask who a browser is: give the API key, or the run-as user of this webapp, the right to", "error", err.Error())
	}
	return unavailable("DSS could not say", err, int64(min(reply.RetryAfter, maxRetryAfter)))
}

// nobodyOrOurselves resolves DSS's ambiguous 401, which it gives for a browser
// without a session and for a rejected API key alike. Read as the first, a
// rotated key would quietly sign everybody out.
func (d *dssResolver) nobodyOrOurselves(ctx context.Context, asked int64, err error) error {
	if !d.vouchedSince(asked) {
		if checkErr := d.checkOurselves(ctx); checkErr != nil || !d.vouchedSince(asked) {
			return unavailable("DSS refused, and whom it refused is not known", errors.Join(err, checkErr), 0)
		}
	}
	return refuse(ErrUnauthenticated, "DSS knows no session for this request")
}

// checkOurselves asks DSS for our own auth info, once for all who wonder.
func (d *dssResolver) checkOurselves(ctx context.Context) error {
	_, err, _ := d.ownCheck.Do("", func() (_ any, err error) {
		defer recovered(&err)
		asked := d.now()
		info, err := d.client.AuthInfo(ctx)
		if err == nil && info.IsNobody() {
			err = errNobodyOurselves
		}
		if err == nil {
			d.vouch(asked)
			return nil, nil
		}
		if err == errNobodyOurselves || isDenial(err) {
			d.rejected.Store(d.now() + int64(rejectionTime))
			if d.rejection.due(d.now()) {
				d.log.Error("dssauth: DSS REJECTS OUR OWN CREDENTIALS, so no visitor can be identified: "+
					"replace the API key (DKU_API_KEY, or api_key in ~/.dataiku/config.json), or restart the webapp for a new ticket", "error", err.Error())
			}
		}
		return nil, err
	})
	return err
}

var errNobodyOurselves = errors.New("DSS takes us for nobody")

func (d *dssResolver) vouch(asked int64) {
	for {
		last := d.accepted.Load()
		if asked <= last || d.accepted.CompareAndSwap(last, asked) {
			return
		}
	}
}

func (d *dssResolver) vouchedSince(asked int64) bool {
	return d.accepted.Load() >= asked-int64(ownTrust)
}

// throughBreaker asks DSS unless it is known to be down. Whether it is back is
// probed by our own auth info, since a visitor's lookup can fail for reasons
// of its own.
func (d *dssResolver) throughBreaker(ctx context.Context, ask func() (dss.AuthInfo, error)) (dss.AuthInfo, error) {
	if wait := d.notBefore.Load() - d.now(); wait > 0 {
		return dss.AuthInfo{}, &busyError{wait}
	}
	if d.breaker.State() == gobreaker.StateHalfOpen {
		_, err := d.breaker.Execute(func() (dss.AuthInfo, error) {
			ctx, cancel := context.WithTimeout(ctx, probeTime)
			defer cancel()
			return d.client.AuthInfo(ctx)
		})
		if tripsBreaker(err) || isBreakerError(err) {
			return dss.AuthInfo{}, err
		}
	}
	return d.breaker.Execute(ask)
}

// logBreaker says once when DSS is taken to be down, and once when it is back.
func (d *dssResolver) logBreaker() {
	down := d.breaker.State() != gobreaker.StateClosed
	switch {
	case d.down.Swap(down) == down:
	case down:
		d.log.Error("dssauth: DSS is down: visitors who are not known are refused until it answers")
	default:
		d.log.Info("dssauth: DSS is back")
	}
}

// busyError is DSS's own word that it must not be asked yet.
type busyError struct{ wait int64 }

func (e *busyError) Error() string {
	return fmt.Sprintf("DSS asked to be left alone for %s", time.Duration(e.wait).Round(time.Millisecond))
}

func isBreakerError(err error) bool {
	return errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests)
}

// isOutage reports whether err says that DSS is down or overloaded, rather
// than anything about a visitor or about us.
func isOutage(err error) bool {
	var reply *dss.Error
	var busy *busyError
	var network net.Error
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		return false
	case errors.As(err, &reply):
		return reply.StatusCode >= 500 || reply.StatusCode == http.StatusTooManyRequests
	case errors.As(err, &busy), isBreakerError(err), errors.Is(err, context.DeadlineExceeded):
		return true
	}
	return errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// isDenial reports whether DSS refused somebody, be it the visitor or us.
func isDenial(err error) bool {
	var reply *dss.Error
	return errors.As(err, &reply) && reply.NotAuthenticated()
}

// tripsBreaker is isOutage without the statuses that one visitor's bytes can
// cause: else one visitor could lock out all the others.
func tripsBreaker(err error) bool {
	var reply *dss.Error
	if errors.As(err, &reply) {
		switch reply.StatusCode {
		case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusTooManyRequests:
			return true
		}
		return false
	}
	return isOutage(err)
}

// nag lets one log line of a kind through a minute.
type nag struct{ next atomic.Int64 }

func (n *nag) due(now int64) bool {
	next := n.next.Load()
	return now >= next && n.next.CompareAndSwap(next, now+int64(time.Minute))
}

// recovered turns a panic of the function that defers it into an error.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = ownWords(fmt.Sprintf("panic of type %T", p)) // its value may quote what it choked on
	}
}
