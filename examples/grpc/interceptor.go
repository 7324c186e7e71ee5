package main

import (
	"context"
	"net/http"
	"net/url"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/dssauth/dssauth"
)

// interceptor admits signed-in DSS users only, and refuses in gRPC's own codes.
type interceptor struct{ auth *dssauth.Middleware }

func (i interceptor) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	call, err := i.identify(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	reply, err := next(call.Context(), req)
	return reply, i.coded(call, err)
}

// stream ends a stream whose visitor signs out.
func (i interceptor) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	call, err := i.identify(ss.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	signedIn, end := i.auth.WhileSignedIn(call, 0)
	defer end()
	err = next(srv, stream{ss, signedIn})
	if ss.Context().Err() == nil && signedIn.Err() != nil {
		err = context.Cause(signedIn)
	}
	return i.coded(call, err)
}

// identify returns the call as a request that carries the visitor.
func (i interceptor) identify(ctx context.Context, method string) (*http.Request, error) {
	call := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: method}, Header: http.Header{}}
	call = call.WithContext(ctx)
	sent, _ := metadata.FromIncomingContext(ctx)
	for name, values := range sent {
		call.Header[http.CanonicalHeaderKey(name)] = values
	}
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
	code, ok := byStatus[decided.status]
	if !ok {
		code = codes.Internal
	}
	return status.Error(code, http.StatusText(decided.status))
}

// coded gives a handler's error a code. An error with a code stays unchanged.
func (i interceptor) coded(call *http.Request, err error) error {
	if _, ok := status.FromError(err); ok { // nil has one too
		return err
	}
	return i.refusal(call, err)
}

var byStatus = map[int]codes.Code{
	http.StatusUnauthorized:                codes.Unauthenticated,
	http.StatusForbidden:                   codes.PermissionDenied,
	http.StatusServiceUnavailable:          codes.Unavailable,
	http.StatusNotFound:                    codes.NotFound,
	http.StatusBadRequest:                  codes.InvalidArgument,
	http.StatusRequestHeaderFieldsTooLarge: codes.InvalidArgument,
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
	grpc.ServerStream
	signedIn context.Context
}

func (s stream) Context() context.Context { return s.signedIn }

func (s stream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return context.Cause(s.signedIn)
}

func (s stream) SendMsg(m any) error {
	if err := context.Cause(s.signedIn); err != nil {
		return err
	}
	return s.ServerStream.SendMsg(m)
}
