package dssauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/dssauth/dssauth/dss"
)

// These errors are the reasons for a refusal. [StatusCode] gives the HTTP status.
var (
	// ErrUnauthenticated means that the visitor is anonymous: DSS knows no session, or
	// the request has no credentials. 401.
	ErrUnauthenticated = errors.New("dssauth: not signed in to DSS")
	// ErrForbidden means that the visitor is known and may not do this. 403.
	ErrForbidden = errors.New("dssauth: not allowed")
	// ErrUnavailable means that DSS gave no answer about the visitor. 503.
	ErrUnavailable = errors.New("dssauth: visitor cannot be identified now")
	// ErrMalformed means that the identifying headers make no sense, or that the
	// address names no project. 400.
	ErrMalformed = errors.New("dssauth: malformed credentials")
	// ErrTooLarge means that the identifying headers are too long. 431.
	ErrTooLarge = errors.New("dssauth: credentials too large")
)

// These kinds are not exported: StatusCode tells them apart.
var (
	errMistake  = errors.New("dssauth: a mistake of this application")     // 500
	errNotFound = errors.New("dssauth: not found in DSS")                  // 404
	errNonsense = errors.New("dssauth: DSS answered something unexpected") // 502
)

// errMayNotAct is an outage for the visitor, and waiting does not end it.
var errMayNotAct = fmt.Errorf("%w: DSS does not let this application act as its visitors", ErrUnavailable)

// kinds are all of them with their statuses. An error of several kinds counts as the
// first one in this list: an error that hides an outage never looks like a refusal.
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

// StatusCode returns the HTTP status for an error. For an error of this package it is
// 401, 403, 503, 400 or 431. For an error of a call to DSS it is 401 if DSS knows no
// session any more, and 403 or 404 if DSS says so. It is 503 if DSS is overloaded,
// fails or does not answer (5xx, 429, a [dss.WireError]), and 502 otherwise. For nil it
// is 200. Every other error is a mistake of the application, not an outage: 500.
//
// A 401 of DSS can also be about the application's own credentials. StatusCode cannot
// tell the two apart; [Middleware.Refuse] does.
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

// kindOf returns the kind of err.
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
	case unsent: // DSS refused the application, not the visitor
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

// kindOfReply returns the kind of a refusal after DSS answered a call with reply.
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

// isRefusal reports whether reply forbids something. The class counts, since DSS may
// use the status 401 for it; such a 401 says nothing about a session.
func isRefusal(reply *dss.Error) bool {
	return reply.StatusCode == http.StatusForbidden ||
		reply.StatusCode == http.StatusUnauthorized && reply.Type == "com.dataiku.dip.exceptions.UnauthorizedException"
}

// refusal is one of the errors above, with details for the operator.
type refusal struct {
	kind       error
	why        string
	cause      error
	retryAfter time.Duration
	unasked    bool // DSS was not asked: it is down, or no place was free
	ofDSS      bool // DSS refused the visitor, in answer to a call
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

// Unwrap leads to the kind, and to the cause if there is one. The code that makes a
// refusal leaves out a cause of an earlier kind: it would look like a second kind of
// refusal.
func (e *refusal) Unwrap() []error {
	if e.cause == nil {
		return []error{e.kind}
	}
	return []error{e.kind, e.cause}
}

// ownWords is an error whose whole text comes from this package.
type ownWords string

func (w ownWords) Error() string { return string(w) }

// foreign is an error of code that is not ours, or not ours alone: of a Resolver, a
// gate, a context's cause. errors.Is and errors.As find it. Its text can quote what
// that code saw, so no text of ours repeats it, and Unwrap does not hand it out.
type foreign struct {
	text  string
	cause func() error // a function, because fmt prints what is in fields
}

// unquoted hides err behind a text of ours. It returns an error of ours, and nil,
// unchanged.
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

// inOurWords returns a refusal of this kind for an error of the application's code. Its
// text is why, and not the text of err.
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

// errNoLogin means that a Resolver returned an identity without a login.
const errNoLogin = ownWords("the resolver returned an identity without a valid login")

var (
	errNoVisitor       = refuse(errMistake, "this context has no visitor: wrap the handler with Middleware.Handler, and pass on the request's context")
	errNoImpersonation = refuse(errMistake, "ClientFromContext needs an impersonation: set Config.Impersonation to ByTicket or ByProxyUser")
	errNoClient        = refuse(errMistake, "SecretsFromContext needs DSS: set Config.Client")
	errMadeUp          = refuse(errMistake, "this identity comes from NewContext, and DSS does not know it: test with dsstest and a Middleware instead")

	errProjectKey    = refuse(ErrMalformed, "the request has no project key of letters, digits and underscores")
	errNoCredentials = refuse(ErrUnauthenticated, "the request has no credentials")
	errAnonymous     = refuse(ErrUnauthenticated, "the visitor is anonymous")
	errClosed        = refuse(ErrUnavailable, "this Middleware is closed")
	errOtherUser     = error(&refusal{kind: ErrUnauthenticated, why: "the session belongs to another user now", ofDSS: true})
	errAPIKey        = refuse(ErrForbidden, "the caller is an API key without a user: set Config.AllowAPIKeys to admit it")
)

// recovered turns a panic of the function that defers it into an error.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = ownWords(fmt.Sprintf("panic of type %T", p)) // its value may quote credentials
	}
}
