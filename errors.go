package dssauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/dssauth/dssauth/dss"
)

// What a request is refused for. Errors of this package wrap one of these;
// [StatusCode] gives the HTTP status.
var (
	// ErrUnauthenticated means that the visitor is anonymous, to DSS or for want of credentials: 401.
	ErrUnauthenticated = errors.New("dssauth: not signed in to DSS")
	// ErrForbidden means that the visitor is known and may not do this: 403.
	ErrForbidden = errors.New("dssauth: not allowed")
	// ErrUnavailable means that DSS could not say who the visitor is: 503.
	ErrUnavailable = errors.New("dssauth: visitor cannot be identified now")
	// ErrMalformed means that the identifying headers make no sense: 400.
	ErrMalformed = errors.New("dssauth: malformed credentials")
	// ErrTooLarge means that the identifying headers are too long: 431.
	ErrTooLarge = errors.New("dssauth: credentials too large")
)

// StatusCode returns the HTTP status for an error of this package: 401, 403,
// 400 or 431; 403 for a [dss.Error] by which DSS forbids something to the
// visitor; 200 for nil, and 503 for every other error.
func StatusCode(err error) int {
	switch {
	case err == nil:
		return http.StatusOK
	case errors.Is(err, ErrUnavailable):
		return http.StatusServiceUnavailable
	case errors.Is(err, ErrUnauthenticated):
		return http.StatusUnauthorized
	case errors.Is(err, ErrForbidden):
		return http.StatusForbidden
	case errors.Is(err, ErrMalformed):
		return http.StatusBadRequest
	case errors.Is(err, ErrTooLarge):
		return http.StatusRequestHeaderFieldsTooLarge
	}
	// What a handler's call as the visitor ended with.
	var reply *dss.Error
	if errors.As(err, &reply) && reply.StatusCode == http.StatusForbidden {
		return http.StatusForbidden
	}
	return http.StatusServiceUnavailable
}

// refusal is one of the errors above, with what an operator wants to know.
type refusal struct {
	kind       error
	why        string
	cause      error
	retryAfter time.Duration
	unasked    bool // DSS was not asked, for want of a place or since it is down
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

// Unwrap leads to the cause of an outage only: what another refusal was
// caused by must not make it look like a second kind of refusal.
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

// inOurWords is an error of a Resolver that wraps ErrUnauthenticated or
// ErrUnavailable, without what it says beside that.
func inOurWords(err error) error {
	if _, ok := err.(*refusal); ok || err == ErrUnauthenticated || err == ErrUnavailable {
		return err
	}
	said := &refusal{kind: ErrUnavailable, why: "the resolver says so", cause: unquoted(err)}
	if errors.Is(err, ErrUnauthenticated) {
		said.kind = ErrUnauthenticated
	}
	var own *refusal
	if errors.As(err, &own) {
		said.retryAfter = own.retryAfter
	}
	return said
}

// errNoLogin is the failure of a Resolver that names nobody.
const errNoLogin = ownWords("the resolver returned an identity without a valid login")

var (
	errNoCredentials = refuse(ErrUnauthenticated, "the request has no credentials")
	errAnonymous     = refuse(ErrUnauthenticated, "NewContext said that the visitor is anonymous")
	errClosed        = refuse(ErrUnavailable, "this Middleware is closed")
	errAPIKey        = refuse(ErrForbidden, "the caller is an API key without a user: set Config.AllowAPIKeys to admit it")
)

// gateError is what a request is refused with where a gate said err.
func gateError(err error) error {
	if errors.Is(err, ErrForbidden) {
		return err
	}
	return unavailable("a gate failed", unquoted(err), 0)
}

// recovered turns a panic of the function that defers it into an error.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = ownWords(fmt.Sprintf("panic of type %T", p)) // its value may quote what it choked on
	}
}
