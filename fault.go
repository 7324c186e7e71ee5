package dssauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/dssauth/dssauth/dss"
)

// faults says what a request is refused with where code of the application, a
// gate or a handler, ended with an error, and tells the operator of mistakes.
type faults struct {
	*clock
	log      *slog.Logger
	own      *outage // knows whether DSS accepts us; nil without a Config.Client
	patience time.Duration

	unwrapped, unset, gate, plain nag // one for each cause of a mistake
	acting                        nag
}

// origin is where an error comes from.
type origin struct {
	route string // the pattern of the request, for the log
	gate  bool   // from a gate, and not from a handler
}

// of returns what hooks, OnError and the visitor are told of err: one of the
// kinds, and nothing of a text that is not ours, but for what forbids something.
func (f *faults) of(ctx context.Context, err error, from origin) error {
	if err == nil {
		return f.mistake(ctx, nil, from)
	}
	kind := kindOf(err)
	switch {
	case kind == errMistake:
		return f.mistake(ctx, err, from)
	case !errors.Is(err, kind):
		return f.ofDSS(ctx, err, kind)
	case kind == ErrForbidden:
		return err
	case kind == ErrUnavailable && from.gate:
		return inOurWords(err, kind, "a gate failed")
	case from.gate && !saidByDSS(err): // it is asked about visitors who are signed in
		return f.mistake(ctx, err, from)
	}
	return inOurWords(err, kind, "the handler says so")
}

// saidByDSS reports whether err is a refusal of ours by which DSS means the visitor.
func saidByDSS(err error) bool {
	var own *refusal
	return errors.As(err, &own) && own.ofDSS
}

// ofDSS is of for what a call of DSS ended with.
func (f *faults) ofDSS(ctx context.Context, err, kind error) error {
	said := &refusal{kind: kind, why: "a call of DSS", cause: unquoted(err)}
	var reply *dss.Error
	switch {
	case kind == ErrUnauthenticated:
		return f.signedOut(ctx, said)
	case kind == ErrUnavailable && errors.As(err, &reply):
		if isRefusal(reply) {
			return f.mayNotAct(err)
		}
		said.retryAfter = reply.RetryAfter
	}
	return said
}

// signedOut returns said, a refusal of DSS that means the visitor, or us. It is
// believed as that of a lookup is, but only if DSS accepted our own credentials
// since: the lookup that let the visitor in a moment ago is no sign of that.
func (f *faults) signedOut(ctx context.Context, said *refusal) error {
	said.ofDSS = true
	if f.own == nil {
		return said
	}
	ctx, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	if unsure := f.own.vouched(ctx, f.now()+int64(ownTrust), said.cause); unsure != nil {
		return unavailable("DSS refused a call, and whom it refused is not known", errors.Join(said.cause, unsure), 0)
	}
	return said
}

// noTicket is what err means, with which DSS gives no ticket for a visitor. One
// that it refuses to the application has nothing to do with the visitor's groups.
func (f *faults) noTicket(ctx context.Context, err error) error {
	var reply *dss.Error
	switch {
	case !errors.As(err, &reply):
	case reply.NotAuthenticated():
		return f.of(ctx, err, origin{})
	case isRefusal(reply):
		return f.mayNotAct(err)
	}
	return fmt.Errorf("dssauth: no ticket for the visitor: %w", err)
}

// mayNotAct tells the operator that DSS lets the application act as nobody, and
// returns what a visitor is refused with.
func (f *faults) mayNotAct(err error) error {
	if f.acting.due(f.now()) {
		f.log.Error(`dssauth: DSS does not let this application act as its visitors: with ByTicket, give the group of the user that the webapp `+
			`runs as, or of the API key, the right "Impersonation in webapps" on the visitors' groups; with ByProxyUser, use an administrator's `+
			`API key (said once a minute)`, "error", unquoted(err).Error())
	}
	return &refusal{kind: errMayNotAct, cause: unquoted(err)}
}

// mistake returns the refusal for an error that is neither DSS's fault nor the
// visitor's, and tells the operator how to mend it.
func (f *faults) mistake(ctx context.Context, err error, from origin) error {
	if over := ctx.Err(); over != nil && errors.Is(err, over) {
		return unavailable("the request ended before it was answered", unquoted(over), 0)
	}
	var own *refusal
	isOwn := errors.As(err, &own) && own.kind == errMistake
	cause, said := &f.plain, &refusal{kind: errMistake, why: "Middleware.Refuse was given an error that is none of a refusal: " + fix}
	switch {
	case isOwn && own == errNoVisitor:
		cause, said = &f.unwrapped, own
	case isOwn:
		cause, said = &f.unset, own
	case from.gate:
		cause, said.why = &f.gate, "a gate returned an error that is none of a refusal: "+fix
	case err == nil:
		said.why = "Middleware.Refuse was given no error: call it where there is one, and return after it"
	}
	if !isOwn && err != nil && kindOf(err) == errMistake { // another kind would still be found in it
		said.cause = unquoted(err)
	}
	if cause.due(f.now()) {
		f.log.Error(said.Error()+" (said once a minute)", "route", strings.Clone(from.route))
	}
	return said
}

const fix = "wrap dssauth.ErrForbidden, or dssauth.ErrUnavailable where the question could not be answered, and return errors of DSS as they are"
