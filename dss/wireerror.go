package dss

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"syscall"
)

// WireError is the error of a call without a readable reply: the network, TLS
// or the other end failed, or the call's context ended.
//
// It names the failure in its own words. It repeats no text of net/http: that
// can quote the reply, and a reply can quote the request. [errors.Is] and
// [errors.As] find the cause, as in [context.DeadlineExceeded],
// [syscall.ECONNREFUSED], [io.ErrUnexpectedEOF], [net.Error] or
// [x509.UnknownAuthorityError]; [errors.Unwrap] does not. Never log a cause.
type WireError struct {
	// Kind is the failure, in one of a few fixed texts, as in "no reply in time"
	// and "TLS: the certificate is for another name". It is for people, and for
	// labels of metrics. Texts can change: programs decide by errors.Is and
	// errors.As.
	Kind string

	cause
}

// Error returns the kind.
func (e *WireError) Error() string { return e.Kind }

// cause is the error behind one of our texts. It can be found, and is not
// shown. It is a function, because fmt prints the content of fields.
type cause func() error

// Is reports whether target is the cause, or an error that the cause wraps; see
// [errors.Is].
func (c cause) Is(target error) bool { return c != nil && errors.Is(c(), target) }

// As finds the cause, or an error that the cause wraps; see [errors.As].
func (c cause) As(target any) bool { return c != nil && errors.As(c(), target) }

// quietError is a text of ours about an error of foreign code. That error's own
// text can quote the bytes that went through the code.
type quietError struct {
	text string
	cause
}

func quietly(text string, err error) error {
	return &quietError{text, func() error { return err }}
}

func (e *quietError) Error() string { return e.text }

// The kinds of a WireError.
const (
	kindCancelled     = "the call was cancelled"
	kindTimeout       = "no reply in time"
	kindConnecting    = "no connection in time"
	kindRefused       = "cannot connect: the connection is refused"
	kindUnreachable   = "cannot connect: there is no route"
	kindNoConnection  = "cannot connect"
	kindNoProxy       = "cannot connect to the proxy"
	kindNoTunnel      = "the proxy refuses to connect: status " // and which
	kindNoName        = "the name is not found"
	kindExpired       = "TLS: the certificate has expired, or is not valid yet"
	kindOtherName     = "TLS: the certificate is for another name"
	kindUnknownSigner = "TLS: the certificate is of an unknown authority"
	kindNoAuthorities = "TLS: there is no list of authorities to trust"
	kindInvalid       = "TLS: the certificate is not valid"
	kindNoTLS         = "TLS: the other side does not speak it"
	kindAlert         = "TLS: the other side sent an alert" // and which
	kindHandshake     = "TLS: the handshake failed"
	kindReset         = "the connection was reset"
	kindClosed        = "the connection was closed before the reply"
	kindCutShort      = "the reply is cut short"
	kindUnreadable    = "no reply that can be understood"
	kindRequestBody   = "the request's body cannot be read"
)

// newWireError describes err. net/http, or a transport of the caller's,
// returned it for a call with this context.
func newWireError(ctx context.Context, err error) error {
	if _, ok := err.(*WireError); ok || err == nil {
		return err
	}
	return &WireError{Kind: kindOf(ctx, err), cause: func() error { return err }}
}

func kindOf(ctx context.Context, err error) string {
	if kind := kindOfEnd(err); kind != "" {
		return kind
	}
	if kind := kindOfTLS(err); kind != "" {
		return kind
	}
	if kind := kindOfNetwork(err); kind != "" {
		return kind
	}
	// A context can end with its maker's own cause. net/http then returns only
	// that cause.
	if kind := kindOfEnd(ctx.Err()); kind != "" {
		return kind
	}
	return kindUnreadable
}

// kindOfEnd is about calls whose context ended.
func kindOfEnd(err error) string {
	var op *net.OpError
	var timeout net.Error
	switch {
	case errors.As(err, &op) && op.Op == "dial" && op.Timeout():
		return kindConnecting
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return kindTimeout
	case errors.Is(err, context.Canceled):
		return kindCancelled
	}
	return ""
}

func kindOfTLS(err error) string {
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var roots x509.SystemRootsError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var op *net.OpError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return kindExpired
	case errors.As(err, &name):
		return kindOtherName
	case errors.As(err, &unknown):
		return kindUnknownSigner
	case errors.As(err, &roots):
		return kindNoAuthorities
	case errors.As(err, &invalid), errors.As(err, &certificate):
		return kindInvalid
	case errors.As(err, &record):
		return kindNoTLS
	case errors.As(err, &op) && op.Op == "remote error":
		return kindAlert + alertName(op.Err)
	case errors.As(err, &op) && op.Op == "local error", strings.HasPrefix(err.Error(), "tls: "):
		return kindHandshake
	}
	return ""
}

// alertName returns crypto/tls's name for the alert's number: only the number
// comes from the other side.
func alertName(err error) string {
	number := reflect.ValueOf(err)
	if number.Kind() != reflect.Uint8 {
		return ""
	}
	return ": " + strings.TrimPrefix(tls.AlertError(number.Uint()).Error(), "tls: ")
}

// closedIdle is net/http's text for a kept connection that ended just as it was
// used. The error has no exported name.
const closedIdle = "http: server closed idle connection"

func kindOfNetwork(err error) string {
	var op *net.OpError
	var lookup *net.DNSError
	var tunnel tunnelError
	switch {
	case errors.As(err, &tunnel):
		return tunnel.Error()
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return kindNoProxy
	case errors.As(err, &lookup):
		return kindNoName
	case errors.Is(err, syscall.ECONNREFUSED):
		return kindRefused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return kindUnreachable
	case op != nil && op.Op == "dial":
		return kindNoConnection
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return kindReset
	case errors.Is(err, io.ErrUnexpectedEOF):
		return kindCutShort
	case errors.Is(err, io.EOF), err.Error() == closedIdle:
		return kindClosed
	}
	return ""
}

// wireBody is a body whose errors are a WireError. The exceptions are the few
// errors that callers compare with and that quote nothing.
type wireBody struct {
	io.ReadCloser
	ctx context.Context
}

func (b wireBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch err {
	case nil, io.EOF, io.ErrUnexpectedEOF, context.Canceled, context.DeadlineExceeded:
		return n, err
	}
	return n, newWireError(b.ctx, err)
}

func (b wireBody) Close() error { return newWireError(b.ctx, b.ReadCloser.Close()) }

// sentBody is the body of a request. It notes a failed read: that is neither
// DSS's fault nor the network's.
type sentBody struct {
	io.ReadCloser
	failed atomic.Bool
}

func (b *sentBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.failed.Store(true)
	}
	return n, err
}
