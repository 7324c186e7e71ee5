package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/internal/diagnose"
)

const (
	// callPause is the least time from the start of one call to the next.
	callPause = 500 * time.Millisecond
	// maxRecorded bounds the part of a reply that is read: a long list of projects
	// fits.
	maxRecorded = 16 << 20
)

// journal records the calls of the contract, without their values, and keeps their
// pace.
type journal struct {
	pause      time.Duration
	last       time.Time // when the last call started
	assumption string    // the assumption under test
	calls      []recorded
}

// recorded is one call in a form that others may see: it has only known names, and only
// the kind and the length of its values.
type recorded struct {
	Assumption string   `json:"assumption"`
	As         string   `json:"as"`
	Method     string   `json:"method"`
	Path       string   `json:"path"`
	Sent       any      `json:"sent,omitempty"`
	Status     int      `json:"status,omitempty"`
	Protocol   string   `json:"protocol,omitempty"`
	Headers    []string `json:"headers,omitempty"` // of the reply
	DSS        string   `json:"dssVersion,omitempty"`
	API        string   `json:"dssApiVersion,omitempty"`
	Reply      any      `json:"reply,omitempty"`
	Failed     string   `json:"failed,omitempty"`
	lost       bool     // no reply came
}

// ready waits until the next call may start.
func (j *journal) ready(ctx context.Context) error {
	left := j.pause - time.Since(j.last)
	if j.last.IsZero() || left <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// recording returns a client that makes the same calls as client, and records them. On
// the way, client's credentials replace its own.
func (j *journal) recording(client *dss.Client, as string) (*dss.Client, error) {
	return dss.New(dss.Config{
		URL: client.URL(), APIKey: "replaced-on-the-way", Logger: slog.New(slog.DiscardHandler),
		HTTPClient: &http.Client{Transport: &recorder{journal: j, through: client.Transport(), as: as}},
	})
}

// recorder is the transport of one caller.
type recorder struct {
	*journal
	through http.RoundTripper
	as      string
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := r.ready(req.Context()); err != nil {
		return nil, err
	}
	r.last = time.Now()
	_, path, _ := strings.Cut(req.URL.RequestURI(), apiPath)
	call := recorded{Assumption: r.assumption, As: r.as, Method: req.Method, Path: redactedPath(path)}
	defer func() { r.calls = append(r.calls, call) }()
	if req.GetBody != nil {
		if body, err := req.GetBody(); err == nil {
			sent, _ := io.ReadAll(body)
			call.Sent = shapeOf(sent)
		}
	}
	reply, err := r.through.RoundTrip(req.WithContext(withoutValues{req.Context()}))
	if err != nil {
		call.Failed, call.lost = failure(err), true
		return nil, err
	}
	call.Status, call.Protocol = reply.StatusCode, reply.Proto
	call.DSS, call.API = version(reply.Header.Get("DSS-Version")), version(reply.Header.Get("DSS-API-Version"))
	for name := range reply.Header {
		call.Headers = append(call.Headers, name)
	}
	slices.Sort(call.Headers)
	from := plain(reply)
	start, err := io.ReadAll(io.LimitReader(from, maxRecorded))
	switch {
	case err != nil:
		call.Failed, call.lost = failure(err), errors.As(err, new(*dss.WireError))
		from = failing{err}
	case len(start) == maxRecorded:
		call.Reply = "a reply without end, or a very long one"
	default:
		call.Reply = shapeOf(start)
	}
	reply.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(start), from), reply.Body}
	return reply, nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// withoutValues is a context of a call without the values of the recording client: each
// of the two clients has a trace of its own connections.
type withoutValues struct{ context.Context }

func (withoutValues) Value(any) any { return nil }

// failure returns a name for an error of the wire that a report may show: explain names
// hosts.
func failure(err error) string {
	if wire := (*dss.WireError)(nil); errors.As(err, &wire) {
		return wire.Kind
	}
	return "no readable reply"
}

// plain is the body of a reply, without its compression.
func plain(reply *http.Response) io.Reader {
	if !strings.EqualFold(reply.Header.Get("Content-Encoding"), "gzip") {
		return reply.Body
	}
	reply.Header.Del("Content-Encoding")
	reply.ContentLength = -1
	body, err := gzip.NewReader(reply.Body)
	if err != nil {
		return failing{err}
	}
	return body
}

// apiPath is the path of DSS's API below the URL of DSS.
const apiPath = "/dip/publicapi"

// redactedPath is a path of the API without the names in it.
func redactedPath(path string) string {
	segments := strings.Split(path, "/")
	for i := 1; i < len(segments); i++ {
		name, query, asks := strings.Cut(segments[i], "?")
		stands := map[string]string{"users": "{login}", "projects": "{key}"}[segments[i-1]]
		if name == "" || stands == "" {
			continue
		}
		if segments[i] = stands; asks {
			segments[i] += "?" + query
		}
	}
	return strings.Join(segments, "/")
}

// version returns s if it is a version, and otherwise only its kind: a proxy may put
// anything there.
func version(value string) string {
	if value == "" || diagnose.IsVersion(value) {
		return value
	}
	return "not a version, but a " + kindOf(value)
}
