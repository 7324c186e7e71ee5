package main

import (
	"context"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/internal/diagnose"
)

// doctor examines one deployment, from the settings to the use of a visitor's cookies.
// Each check needs the results of those before it.
type doctor struct {
	connect func() (*dss.Client, error)
	env     func(string) string
	pastes  source
	person  *os.File // the terminal to ask, or nil
	options
	report   *report
	contract *contract // nil: the job is the doctor's own

	client   *dss.Client
	examined *diagnose.Application // the client's user in DSS, from the first checks
	own      dss.AuthInfo          // who we are to DSS
	copied   request               // as the browser sent it
	picks    picks                 // the settings with which DSS knows the visitor
	sent     request               // its headers that the application sends to DSS with these settings
	visitor  dss.AuthInfo          // DSS's answer about them
}

// options are the values of the flags.
type options struct {
	mode    string // of impersonation, see -help
	user    string // of -user, or ""
	app     site   // of -app-url, or none
	timeout time.Duration
	pause   time.Duration // between the questions of a search
}

// run prints its findings, and returns the exit code.
func (d *doctor) run(ctx context.Context, out io.Writer) int {
	// After an interrupt all further calls fail: that proves nothing.
	d.report = &report{out: out, muted: func() bool { return ctx.Err() != nil }}
	if d.contract != nil {
		d.contract.examine(ctx)
	} else {
		d.examine(ctx)
	}
	if d.client != nil {
		d.client.CloseIdleConnections()
	}
	if d.report.problems > 0 {
		return exitProblem
	}
	return exitWell
}

func (d *doctor) examine(ctx context.Context) {
	if !d.settings() || !d.start(ctx) {
		d.report.skipped("everything else", "it depends on the problem above")
		return
	}
	known := d.pasted(ctx) && d.selection(ctx) && d.resolves(ctx)
	d.hostNames(known)
	if !known {
		d.report.skipped("acting as the visitor", "this needs the cookies of a signed-in user")
		d.administrator(ctx)
		return
	}
	d.impersonation(ctx)
	d.changing(ctx)
}

// limited bounds one call.
func (d *doctor) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d.timeout)
}

// fails reports a call without an answer to its question.
func (d *doctor) fails(check string, err error) {
	f := explain(err)
	d.report.problem(check, f.what, f.fix)
}

// fault is a [diagnose.Fault].
type fault struct{ what, fix string }

// explain explains an error of any call.
func explain(err error) fault {
	f := diagnose.Explain(err)
	return fault{f.What, f.Fix}
}

// inside reports whether DSS started us and gave us a ticket.
func (d *doctor) inside() bool { return d.env("DKU_API_TICKET") != "" }

// settingsOf returns a client's own description, without the name of its type.
func settingsOf(c *dss.Client) string {
	return strings.TrimSuffix(strings.TrimPrefix(c.String(), "dss.Client("), ")")
}
