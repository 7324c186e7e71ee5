package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"connectrpc.com/connect"

	"github.com/dssauth/dssauth"
)

// interceptor admits signed-in DSS users only, and refuses in connect's own codes.
type interceptor struct{ auth *dssauth.Middleware }

func (i interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if req.Spec().IsClient {
			return next(ctx, req)
		}
		call, err := i.identify(ctx, req.Spec().Procedure, req.Header())
		if err != nil {
			return nil, err
		}
		reply, err := next(call.Context(), req)
		return reply, i.coded(call, err)
	}
}

// WrapStreamingHandler ends a stream whose visitor signs out.
func (i interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		call, err := i.identify(ctx, conn.Spec().Procedure, conn.RequestHeader())
		if err != nil {
			return err
		}
		signedIn, end := i.auth.WhileSignedIn(call, 0)
		defer end()
		err = next(signedIn, stream{conn, signedIn})
		if ctx.Err() == nil && signedIn.Err() != nil {
			err = context.Cause(signedIn)
		}
		return i.coded(call, err)
	}
}

func (i interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// identify returns the call as a request that carries the visitor.
func (i interceptor) identify(ctx context.Context, procedure string, header http.Header) (*http.Request, error) {
	call := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: procedure}, Header: header}
	call = call.WithContext(ctx)
	if _, err := i.auth.Authenticate(call); err != nil {
		return nil, i.refusal(call, err)
	}
	return call, nil
}

// refusal calls the hooks, and returns the code for Refuse's status, without
// the text of err.
func (i interceptor) refusal(call *http.Request, err error) error {
	decided := answer{header: http.Header{}}
	i.auth.Refuse(&decided, call, err)
	code, ok := codes[decided.status]
	if !ok {
		code = connect.CodeInternal
	}
	return connect.NewError(code, errors.New(http.StatusText(decided.status)))
}

// coded gives a handler's error a code. An error with a code stays unchanged.
func (i interceptor) coded(call *http.Request, err error) error {
	if own := new(connect.Error); err == nil || errors.As(err, &own) {
		return err
	}
	return i.refusal(call, err)
}

var codes = map[int]connect.Code{
	http.StatusUnauthorized:                connect.CodeUnauthenticated,
	http.StatusForbidden:                   connect.CodePermissionDenied,
	http.StatusServiceUnavailable:          connect.CodeUnavailable,
	http.StatusNotFound:                    connect.CodeNotFound,
	http.StatusBadRequest:                  connect.CodeInvalidArgument,
	http.StatusRequestHeaderFieldsTooLarge: connect.CodeInvalidArgument,
}

// answer is a response. Only its status counts.
type answer struct {
	header http.Header
	status int
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return len(b), nil }

// stream carries nothing after the visitor's session has ended.
type stream struct {
	connect.StreamingHandlerConn
	signedIn context.Context
}

func (s stream) Receive(m any) error {
	if err := s.StreamingHandlerConn.Receive(m); err != nil {
		return err
	}
	return context.Cause(s.signedIn)
}

func (s stream) Send(m any) error {
	if err := context.Cause(s.signedIn); err != nil {
		return err
	}
	return s.StreamingHandlerConn.Send(m)
}
