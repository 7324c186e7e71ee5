package dss

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Call is a call that a client of [Client.Reported] made. Nothing in it is a
// credential. A path can name users and projects.
type Call struct {
	Method   string
	Path     string        // of the URL, decoded and without its query, as in /dip/publicapi/projects/
	Status   int           // of the reply; zero where none came
	Duration time.Duration // until the reply began, or the call failed
	Err      error         // why no reply came; nil where one did
}

// Reported returns a copy of the client that tells report of each call that it
// makes, by [Client.Transport] too, for a log of what was done as a visitor. It
// runs once a call, when its reply has begun or it has failed, with the call's
// context, and before the caller gets the reply. It must be quick and safe for
// concurrent use. A call for which there were no credentials counts, and one that
// is refused for its method or address does not.
//
// Copies that are made of the copy, as by [Client.As], report nothing. A nil
// report reports nothing, and a second one takes the place of the first.
func (c *Client) Reported(report func(context.Context, Call)) *Client {
	if c == nil {
		return nil
	}
	return &Client{dss: c.dss, as: c.as, report: report}
}

// reports tells how req ended, in reply or err.
func (c *Client) reports(req *http.Request, start time.Time, reply **http.Response, err *error) {
	call := Call{Method: req.Method, Path: req.URL.Path, Duration: time.Since(start), Err: *err}
	switch {
	case *reply != nil:
		call.Status = (*reply).StatusCode
	case *err == nil: // a panic on its way out
		call.Err = errors.New("the transport panicked")
	}
	if call.Method == "" {
		call.Method = http.MethodGet
	}
	c.report(req.Context(), call)
}
