package dssauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/internal/ownkey"
)

// faults turns errors of the application's gates and handlers into refusals, and logs
// mistakes for the operator.
type faults struct {
	*clock
	log      *slog.Logger
	own      *outage // tells whether DSS accepts us; nil without a Config.Client
	patience time.Duration

	unwrapped, unset, gate, plain nag // one for each cause of a mistake
	acting, other                 nag
}

// origin is where an error comes from.
type origin struct {
	route string // the pattern of the request, for the log
	gate  bool   // from a gate, and not from a handler
}

// of returns the error for hooks, OnError and the visitor: err as one of the kinds,
// without any text that is not ours. Only an error that forbids something keeps its
// text.
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
	case from.gate && !saidByDSS(err): // a gate is asked only about visitors who are signed in
		return f.mistake(ctx, err, from)
	}
	return inOurWords(err, kind, "the handler says so")
}

// saidByDSS reports whether err is a refusal of ours for an answer of DSS about the
// visitor.
func saidByDSS(err error) bool {
	var own *refusal
	return errors.As(err, &own) && own.ofDSS
}

// ofDSS is of for errors of calls to DSS.
func (f *faults) ofDSS(ctx context.Context, err, kind error) error {
	said := &refusal{kind: kind, why: "a call of DSS", cause: unquoted(err)}
	var reply *dss.Error
	switch {
	case errors.Is(err, ownkey.ErrOtherUser):
		f.actsAsOther()
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

// signedOut handles said, with which DSS refuses the visitor, or us. It returns said
// only if DSS has accepted our own credentials since; the lookup that admitted the
// visitor a moment ago does not prove that. A refused lookup is checked in the same
// way.
func (f *faults) signedOut(ctx context.Context, said *refusal) error {
	said.ofDSS = true
	if f.own == nil {
		return said
	}
	ctx, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	if unsure := f.own.vouched(ctx, f.now()+int64(ownTrust), said.cause); unsure != nil {
		return unavailable("DSS refused a call of either the visitor or us, and it is not known which", errors.Join(said.cause, unsure), 0)
	}
	return said
}

// noTicket interprets err, with which DSS gave no ticket for a visitor. A refusal of
// the application has nothing to do with the visitor's groups.
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

// mayNotAct logs that DSS does not let the application act as its visitors, and returns
// the refusal for a visitor.
func (f *faults) mayNotAct(err error) error {
	if f.acting.due(f.now()) {
		f.log.Error(`dssauth: DSS does not let this application act as its visitors: with ByTicket, give the group of the user that the webapp `+
			`runs as, or of the API key, the right "Impersonation in webapps" on the visitors' groups; with ByProxyUser, use an administrator's `+
			`API key (said once a minute)`, "error", unquoted(err).Error())
	}
	return &refusal{kind: errMayNotAct, cause: unquoted(err)}
}

// actsAsOther logs that a call for a visitor would act as another user. A session that
// changed hands brings it once.
func (f *faults) actsAsOther() {
	if f.other.due(f.now()) {
		f.log.Warn("dssauth: DSS acts as another user than the visitor, so a call was not made (said once a minute): if this goes on, a proxy before " +
			"DSS drops X-DKU headers or adds an Authorization header; run cmd/dssauth doctor")
	}
}

// mistake returns the refusal for an error that is neither DSS's fault nor the
// visitor's, and logs how to correct it.
func (f *faults) mistake(ctx context.Context, err error, from origin) error {
	if over := ctx.Err(); over != nil && errors.Is(err, over) {
		return unavailable("the request ended before it was answered", unquoted(over), 0)
	}
	var own *refusal
	isOwn := errors.As(err, &own) && own.kind == errMistake
	cause, said := &f.plain, &refusal{kind: errMistake, why: "Middleware.Refuse got an error that means no refusal: " + fix}
	switch {
	case isOwn && own == errNoVisitor:
		cause, said = &f.unwrapped, own
	case isOwn:
		cause, said = &f.unset, own
	case from.gate:
		cause, said.why = &f.gate, "a gate returned an error that means no refusal: "+fix
	case err == nil:
		said.why = "Middleware.Refuse got a nil error: call it only with an error, and return after it"
	}
	if !isOwn && err != nil && kindOf(err) == errMistake { // errors.Is would still find another kind in it
		said.cause = unquoted(err)
	}
	if cause.due(f.now()) {
		f.log.Error(said.Error()+" (said once a minute)", "route", strings.Clone(from.route))
	}
	return said
}

const fix = "wrap dssauth.ErrForbidden, or dssauth.ErrUnavailable if the question could not be answered, and return errors of DSS unchanged"
