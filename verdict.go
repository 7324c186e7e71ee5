package dssauth

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/dssauth/dssauth/dss"
)

// manyAnonymous is the number of anonymous lookups, without one identified visitor,
// after which the log warns.
const manyAnonymous = 20

// verdict interprets err, the end of a lookup of k that began at asked.
func (d *dssResolver) verdict(ctx context.Context, k key, asked int64, err error) error {
	err = d.meaning(ctx, k, asked, err)
	switch {
	case err == nil:
		d.identified.Store(true)
	case errors.Is(err, ErrUnauthenticated) && !d.identified.Load() && d.anonymous.Add(1) == manyAnonymous:
		// A DSS that hides sessions answers as if no visitor were signed in.
		d.log.Warn("dssauth: DSS has identified none of the first visitors with cookies or keys: if they are signed in to DSS, switch “Hide access tokens” off there " +
			"(Administration > Settings > Login & Security), or name in Config.Headers the headers that a lookup needs beside Cookie; cmd/dssauth doctor and contract find them")
	}
	return err
}

func (d *dssResolver) meaning(ctx context.Context, k key, asked int64, err error) error {
	if err == nil || errors.Is(err, ErrUnauthenticated) {
		d.outage.accepts(asked)
		d.outage.resume(k)
		return err
	}
	var reply *dss.Error
	if errors.As(err, &reply) && reply.Type != "" {
		d.outage.hears()
	}
	switch {
	case isNotAuthenticated(err):
		// DSS gives this answer for a browser without a session, and for a rejected API
		// key. If the second counted as the first, a rotated key would silently sign
		// everybody out.
		if unsure := d.outage.vouched(ctx, asked, err); unsure != nil {
			return unavailable("DSS refused either the visitor or us, and it is not known which", errors.Join(err, unsure), 0)
		}
		d.outage.resume(k)
		return refuse(ErrUnauthenticated, "DSS knows no session for this request")
	case isFailure(err):
		return unavailable("the lookup failed", err, d.outage.failed(k, asked, retryAfter(reply)))
	}
	return unavailable("DSS gave no clear answer", err, 0)
}

// isFailure reports whether a lookup that ended with err had no answer at all: the wire
// failed, time ran out, or DSS or a proxy is overloaded or broken. An unexpected reply
// is not such a failure.
func isFailure(err error) bool {
	var reply *dss.Error
	if errors.As(err, &reply) {
		return reply.StatusCode >= 500 || reply.StatusCode == http.StatusTooManyRequests
	}
	return !errors.Is(err, dss.ErrUnexpectedReply) && !errors.Is(err, context.Canceled) && !errors.Is(err, errNoLogin)
}

// maybeOutage reports whether a lookup that ended with err may have failed
// because DSS is down.
func maybeOutage(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.kind == ErrUnavailable && (r.unasked || r.cause != nil && isFailure(r.cause))
}

// isDenial reports whether DSS itself refused either the visitor or us in a failed
// lookup.
func isDenial(err error) bool {
	var reply *dss.Error
	return errors.As(err, &reply) && reply.Type != "" && reply.StatusCode >= 400 && reply.StatusCode < 500 && reply.StatusCode != http.StatusTooManyRequests
}

func retryAfter(reply *dss.Error) time.Duration {
	if reply == nil {
		return 0
	}
	return reply.RetryAfter
}
