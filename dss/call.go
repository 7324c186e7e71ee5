package dss

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// defaultTimeout ends calls that have no other time limit.
const defaultTimeout = 30 * time.Second

const (
	maxReplyBytes    = 1 << 20  // auth info, tickets, users
	maxSettingsBytes = 16 << 20 // own settings
	maxJSONBytes     = 64 << 20 // values that Do decodes
)

// call is one call of the API.
type call struct {
	method string
	path   string // relative to the API, escaped, with its query
	name   string // shown in errors in place of the path, if the path must not be shown

	body        io.Reader
	contentType string
	reply       taker // nil: the reply does not matter

	read   bool // changes nothing, so it may be tried twice
	stream bool // has no time limit of its own
}

// taker takes the body of a 2xx reply to k, and judges it.
type taker func(ctx context.Context, k call, body io.Reader, x *exchange) error

// errorf is fmt.Errorf with the name of the call in front.
func (k call) errorf(format string, args ...any) error {
	name := k.name
	if name == "" {
		name, _, _ = strings.Cut(k.path, "?")
	}
	return fmt.Errorf("dss: %s: "+format, append([]any{clean(k.method+" "+name, 300)}, args...)...)
}

// unexpected is the error of a reply that is not a valid answer to the call.
func (k call) unexpected(err error) error {
	return k.errorf("%w: %w", ErrUnexpectedReply, err)
}

// call calls DSS. Its taker reads a 2xx reply.
func (c *Client) call(ctx context.Context, k call) error {
	if err := c.check(); err != nil {
		return k.errorf("%w", err)
	}
	u, err := apiURL(c.dss.base, k.path)
	if err != nil {
		return k.errorf("its path is refused: %w", err)
	}
	ctx, cancel := c.deadline(ctx, k.stream)
	defer cancel()
	req, err := newRequest(ctx, k)
	if err != nil {
		return err
	}
	req.URL = u
	if k.contentType != "" {
		req.Header.Set("Content-Type", k.contentType)
	}

	reply, x, err := c.sendTwice(req, k.read)
	if err != nil {
		return k.errorf("%w", err)
	}
	defer x.judge(false) // no effect if it was judged before
	defer reply.Body.Close()
	if !isSuccess(reply.StatusCode) {
		var body []byte
		// After a switch of protocols the body is the connection, and has no end.
		if reply.StatusCode >= 200 && !isRedirect(reply.StatusCode) {
			body, _ = io.ReadAll(io.LimitReader(reply.Body, maxErrorBytes))
		}
		e := newError(reply, body)
		if c.as.keys != nil && e.NotAuthenticated() && !isAboutABrowser(c.dss.base, req.URL) {
			e.because = c.as.keys.why(x.used.ofKey())
		}
		x.judge(e.Type != "")
		return e
	}
	if k.reply == nil {
		k.reply = ignored
	}
	return k.reply(ctx, k, reply.Body, x)
}

func newRequest(ctx context.Context, k call) (*http.Request, error) {
	if ctx == nil {
		return nil, k.errorf("the context is nil")
	}
	req, err := http.NewRequestWithContext(ctx, k.method, "", k.body)
	if err != nil {
		return nil, k.errorf("the method is not valid")
	}
	return req, nil
}

// ignored takes a reply that does not matter to the caller.
func ignored(_ context.Context, _ call, body io.Reader, x *exchange) error {
	start, err := io.ReadAll(io.LimitReader(body, maxErrorBytes))
	x.judge(err == nil && isNothingOrJSON(start))
	return nil
}

// passedOn takes a reply of any kind and size for a writer.
func passedOn(w io.Writer) taker {
	return func(ctx context.Context, k call, body io.Reader, x *exchange) error {
		x.judge(true) // first: any reply is a valid answer here, and w may call DSS itself
		to := &givenWriter{Writer: w}
		_, err := io.Copy(to, body)
		switch {
		case to.err != nil:
			return k.errorf("passing on the reply: %w", quietly("the io.Writer failed", to.err))
		case err != nil:
			return k.errorf("passing on the reply: %w", newWireError(ctx, err))
		}
		return nil
	}
}

// decoded takes a reply of up to limit bytes, which decode may refuse.
func decoded(limit int64, decode func([]byte) error) taker {
	return func(ctx context.Context, k call, body io.Reader, x *exchange) error {
		data, err := io.ReadAll(io.LimitReader(body, limit+1))
		if err != nil {
			return k.errorf("reading the reply: %w", newWireError(ctx, err))
		}
		if int64(len(data)) > limit {
			return k.unexpected(fmt.Errorf("the body is longer than %d MiB", limit>>20))
		}
		if err := decode(data); err != nil {
			return k.unexpected(err)
		}
		x.judge(true)
		return nil
	}
}

// deadline adds the client's own limits to those of ctx.
func (c *Client) deadline(ctx context.Context, stream bool) (context.Context, context.CancelFunc) {
	if ctx == nil {
		return nil, func() {} // newRequest refuses it
	}
	limit := c.dss.timeout
	if limit == 0 && !stream {
		if _, ok := ctx.Deadline(); ok {
			return ctx, func() {} // nothing to add
		}
		limit = defaultTimeout
	}
	if limit == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, limit)
}

// sendTwice sends a read once more if DSS dropped the connection before it
// answered. net/http itself does so for a connection that was kept open; then
// sendTwice does not do it again.
func (c *Client) sendTwice(req *http.Request, read bool) (*http.Response, *exchange, error) {
	reply, x, err := c.roundTrip(req)
	// Without an exchange nothing was sent: the source of the credentials
	// failed.
	if err == nil || !read || x == nil || !isReset(err) || !x.mayRepeat() {
		return reply, x, err
	}
	body, ok := rewound(req)
	if !ok {
		return reply, x, err
	}
	req.Body = body
	return c.roundTrip(req)
}

func isReset(err error) bool {
	var wire *WireError
	return errors.As(err, &wire) && (wire.Kind == kindReset || wire.Kind == kindClosed)
}

// givenWriter keeps an error of the caller's writer apart from an error of the
// reply.
type givenWriter struct {
	io.Writer
	err error
}

func (w *givenWriter) Write(p []byte) (n int, err error) {
	n, err = w.Writer.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	w.err = err
	return n, err
}

// jsonBody returns v as the body of a call.
func jsonBody(v any) (io.Reader, error) {
	data, err := encode(v)
	if err != nil {
		return nil, quietly(fmt.Sprintf("%T cannot be written as JSON", v), err)
	}
	return bytes.NewReader(data), nil
}

const typeJSON = "application/json"
