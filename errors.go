package dssauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/dssauth/dssauth/dss"
)

// What a request is refused for. [StatusCode] gives the HTTP status.
var (
	// ErrUnauthenticated means that the visitor is anonymous, to DSS or for want of credentials: 401.
	ErrUnauthenticated = errors.New("dssauth: not signed in to DSS")
	// ErrForbidden means that the visitor is known and may not do this: 403.
	ErrForbidden = errors.New("dssauth: not allowed")
	// ErrUnavailable means that DSS could not say who the visitor is: 503.
	ErrUnavailable = errors.New("dssauth: visitor cannot be identified now")
	// ErrMalformed means that the identifying headers make no sense, or that the
	// address names no project: 400.
	ErrMalformed = errors.New("dssauth: malformed credentials")
	// ErrTooLarge means that the identifying headers are too long: 431.
	ErrTooLarge = errors.New("dssauth: credentials too large")
)

// Kinds that have no name outside: StatusCode tells them.
var (
	errMistake  = errors.New("dssauth: a mistake of this application")     // 500
	errNotFound = errors.New("dssauth: not found in DSS")                  // 404
	errNonsense = errors.New("dssauth: DSS answered something unexpected") // 502
)

// errMayNotAct is an outage for the visitor, which waiting does not end.
var errMayNotAct = fmt.Errorf("%w: DSS does not let this application act as its visitors", ErrUnavailable)

// kinds are all of them with their statuses. An error that is of several is of
// the first one: nothing that hides an outage looks like a refusal.
var kinds = []struct {
	kind   error
	status int
}{
	{errMistake, http.StatusInternalServerError},
	{ErrUnavailable, http.StatusServiceUnavailable},
	{ErrUnauthenticated, http.StatusUnauthorized},
	{ErrForbidden, http.StatusForbidden},
	{ErrMalformed, http.StatusBadRequest},
	{ErrTooLarge, http.StatusRequestHeaderFieldsTooLarge},
	{errNotFound, http.StatusNotFound},
	{errNonsense, http.StatusBadGateway},
}

// StatusCode returns the HTTP status for an error: 401, 403, 503, 400 or 431 for
// those of this package. For what a call of DSS ended with it is 401 where DSS
// knows no session any more, 403 and 404 where DSS says so, 503 where DSS is
// overloaded, fails or does not answer (5xx, 429, a [dss.WireError]), and else
// 502. It is 200 for nil, and 500 for every other error: a mistake of the
// application, and no outage.
//
// A 401 of DSS can also mean the application's own credentials. StatusCode
// cannot tell, and [Middleware.Refuse] makes sure.
func StatusCode(err error) int {
	if err == nil {
		return http.StatusOK
	}
	kind := kindOf(err)
	for _, k := range kinds {
		if k.kind == kind {
			return k.status
		}
	}
	return http.StatusInternalServerError
}

// kindOf is which of the kinds err is.
func kindOf(err error) error {
	for _, k := range kinds {
		if errors.Is(err, k.kind) {
			return k.kind
		}
	}
	var reply *dss.Error
	var wire *dss.WireError
	switch unsent, replied := errors.Is(err, dss.ErrNoCredentials), errors.As(err, &reply); {
	case replied && reply.NotAuthenticated():
		return ErrUnauthenticated
	case unsent: // what DSS refused, it refused to the application
		return ErrUnavailable
	case replied:
		return kindOfReply(reply)
	case errors.As(err, &wire):
		return ErrUnavailable
	case errors.Is(err, dss.ErrUnexpectedReply):
		return errNonsense
	}
	return errMistake
}

// kindOfReply is what it means that DSS answered a call with reply.
func kindOfReply(reply *dss.Error) error {
	status := reply.StatusCode
	switch {
	case isRefusal(reply):
		return ErrForbidden
	case status == http.StatusNotFound:
		return errNotFound
	case status >= 500 || status == http.StatusTooManyRequests:
		return ErrUnavailable
	}
	return errNonsense
}

// isRefusal reports whether reply forbids something. By the class, since DSS may
// say it with a 401; that says nothing about whether anybody is signed in.
func isRefusal(reply *dss.Error) bool {
	return reply.StatusCode == http.StatusForbidden ||
		reply.StatusCode == http.StatusUnauthorized && reply.Type == "com.dataiku.dip.exceptions.UnauthorizedException"
}

// refusal is one of the errors above, with what an operator wants to know.
type refusal struct {
	kind       error
	why        string
	cause      error
	retryAfter time.Duration
	unasked    bool // DSS was not asked, for want of a place or since it is down
	ofDSS      bool // DSS said so of the visitor, in answer to a call
}

func refuse(kind error, why string) error { return &refusal{kind: kind, why: why} }

func unavailable(why string, cause error, retryAfter int64) error {
	return &refusal{kind: ErrUnavailable, why: why, cause: cause, retryAfter: time.Duration(retryAfter)}
}

func (e *refusal) Error() string {
	s := e.kind.Error()
	if e.why != "" {
		s += ": " + e.why
	}
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap leads to the kind, and to the cause if there is one. A cause that is of
// an earlier one of the kinds is left out where the error is made: it would look
// like a second kind of refusal.
func (e *refusal) Unwrap() []error {
	if e.cause == nil {
		return []error{e.kind}
	}
	return []error{e.kind, e.cause}
}

// ownWords is an error that says nothing but what stands in this package.
type ownWords string

func (w ownWords) Error() string { return string(w) }

// foreign is an error of code that is not ours, or not ours alone: of a
// Resolver, a gate, a context's cause. errors.Is and errors.As find it. Its text,
// which can quote what that code saw, is in no text of ours, and its own errors
// are not handed out to be printed.
type foreign struct {
	text  string
	cause func() error // a function, because fmt prints what is in fields
}

// unquoted returns err behind a text of ours; one that is ours, or nil, as it is.
func unquoted(err error) error {
	switch err {
	case nil, context.Canceled, context.DeadlineExceeded:
		return err
	}
	switch err.(type) {
	case *refusal, ownWords:
		return err
	}
	text := fmt.Sprintf("an error of type %T", err)
	var own *refusal
	var reply *dss.Error
	var wire *dss.WireError
	switch {
	case errors.As(err, &own):
		text = own.Error()
	case errors.As(err, &reply):
		text = reply.Error()
	case errors.As(err, &wire):
		text = "dss: " + wire.Error()
	}
	return &foreign{text, func() error { return err }}
}

func (f *foreign) Error() string        { return f.text }
func (f *foreign) Is(target error) bool { return errors.Is(f.cause(), target) }
func (f *foreign) As(target any) bool   { return errors.As(f.cause(), target) }

// inOurWords is an error of the application's code that is of this kind, without
// what it says beside that. Why is said instead.
func inOurWords(err, kind error, why string) error {
	if _, ok := err.(*refusal); ok || err == kind {
		return err
	}
	said := &refusal{kind: kind, why: why, cause: unquoted(err)}
	var own *refusal
	if errors.As(err, &own) {
		said.retryAfter = own.retryAfter
	}
	return said
}

// errNoLogin is the failure of a Resolver that names nobody.
const errNoLogin = ownWords("the resolver returned an identity without a valid login")

var (
	errNoVisitor       = refuse(errMistake, "nothing identifies the visitor of this handler: wrap it with Middleware.Handler, and pass it the request's context")
	errNoImpersonation = refuse(errMistake, "ClientFromContext needs an impersonation: set Config.Impersonation to ByTicket or ByProxyUser")
	errNoClient        = refuse(errMistake, "SecretsFromContext needs DSS: set Config.Client")
	errMadeUp          = refuse(errMistake, "this identity comes from NewContext, and DSS knows nothing of it: test with dsstest and a Middleware instead")

	errProjectKey    = refuse(ErrMalformed, "the request names no project by a key of letters, digits and underscores")
	errNoCredentials = refuse(ErrUnauthenticated, "the request has no credentials")
	errAnonymous     = refuse(ErrUnauthenticated, "the visitor is anonymous")
	errClosed        = refuse(ErrUnavailable, "this Middleware is closed")
	errOtherUser     = error(&refusal{kind: ErrUnauthenticated, why: "the session belongs to another user now", ofDSS: true})
	errAPIKey        = refuse(ErrForbidden, "the caller is an API key without a user: set Config.AllowAPIKeys to admit it")
)

// recovered turns a panic of the function that defers it into an error.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = ownWords(fmt.Sprintf("panic of type %T", p)) // its value may quote what it choked on
	}
}
