package dss

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
)

// Do calls any endpoint of DSS as this client's caller. The path is the part
// after /dip/publicapi, escaped and with its query if it has one, as in
// "/projects/KEY/datasets/?includeShared=true". Absolute URLs, empty segments
// (//), dot segments, backslashes, fragments and control characters are
// refused. The method is GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS.
//
// The argument in is the body. Nil means no body. An [io.Reader] is sent as its
// bytes, and is closed if it is an [io.Closer]. Any other value is sent as
// JSON. The argument out gets the reply. Nil drops the reply. An [io.Writer]
// gets its bytes. Any other out is a pointer; JSON of at most 64 MiB is decoded
// into it.
//
// With a reader or a writer only its context limits the time of a call, and an
// [io.Writer] gets as much as DSS sends. Other calls end after 30 seconds if
// neither the context nor Config.HTTPClient has a limit. GET and HEAD are tried
// once more if DSS drops the connection before it answers; other methods never
// are.
//
// A reply outside 2xx is an [*Error]; an [io.Writer] gets nothing of it. Errors
// name the method and the path without its query, and quote nothing else: not
// in, not the reply, and not the text of an error of the caller's reader,
// writer or type. [errors.Is] and [errors.As] find such an error.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	k := call{method: method, path: path}
	k.read = method == http.MethodGet || method == http.MethodHead
	// "" is refused too: a call that writes may have been meant.
	if !isMethod(method) {
		return k.errorf("%w", errMethod)
	}

	var err error
	switch in := in.(type) {
	case nil:
	case io.Reader:
		k.body, k.contentType, k.stream = in, "application/octet-stream", true
	default:
		if k.body, err = jsonBody(in); err != nil {
			return k.errorf("in: %w", err)
		}
		k.contentType = typeJSON
	}
	switch to := out.(type) {
	case nil:
	case io.Writer:
		k.reply, k.stream = passedOn(to), true
	default:
		// Before the call, because the call may change something.
		if v := reflect.ValueOf(out); v.Kind() != reflect.Pointer || v.IsNil() {
			return k.errorf("out: %T is neither an io.Writer nor a pointer to decode JSON into", out)
		}
		k.reply = decoded(maxJSONBytes, func(reply []byte) error { return decodeInto(reply, out) })
	}
	return c.call(ctx, k)
}

func decodeInto(reply []byte, out any) error {
	if err := json.Unmarshal(reply, out); err != nil {
		return quietly(misfit(err, out), err)
	}
	return nil
}

// misfit gives the reason why a body cannot be decoded into out, without
// quoting the body: encoding/json quotes numbers, and methods of out's types
// can quote anything.
func misfit(err error, out any) string {
	var syntax *json.SyntaxError
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return "the body is not JSON"
	case errors.As(err, &wrongType):
		return fmt.Sprintf("a value in the body does not fit %v", wrongType.Type)
	}
	return fmt.Sprintf("the body does not fit %T", out)
}
