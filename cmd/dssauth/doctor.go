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

// doctor examines one deployment, from the settings to what a visitor's cookies
// are good for. Each check needs what the ones before it found.
type doctor struct {
	connect func() (*dss.Client, error)
	env     func(string) string
	pastes  source
	person  *os.File // the terminal to ask, or nil
	options
	report   *report
	contract *contract // nil: the job is the doctor's own

	client   *dss.Client
	examined *diagnose.Application // what the client is to DSS, by the first checks
	own      dss.AuthInfo          // who we are to DSS
	copied   request               // as the browser sent it
	picks    picks                 // with which DSS knows the visitor
	sent     request               // what the application sends of it to DSS, with these
	visitor  dss.AuthInfo          // who DSS says that is
}

// options are what the flags say.
type options struct {
	mode    string // of impersonation, see -help
	user    string // of -user, or ""
	app     site   // of -app-url, or none
	timeout time.Duration
	pause   time.Duration // between the questions of a search
}

// run prints what it finds, and returns the exit code.
func (d *doctor) run(ctx context.Context, out io.Writer) int {
	// Once it is interrupted, each call that is left fails, which tells nothing.
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
		d.report.skipped("everything else", "it depends on what is a problem above")
		return
	}
	known := d.pasted(ctx) && d.selection(ctx) && d.resolves(ctx)
	d.hostNames(known)
	if !known {
		d.report.skipped("acting as the visitor", "it takes the cookies of somebody who is signed in")
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

// fails reports a call that brought no answer to what was asked.
func (d *doctor) fails(check string, err error) {
	f := explain(err)
	d.report.problem(check, f.what, f.fix)
}

// fault is a [diagnose.Fault].
type fault struct{ what, fix string }

// explain says what an error of a call means, whatever was asked.
func explain(err error) fault {
	f := diagnose.Explain(err)
	return fault{f.What, f.Fix}
}

// inside reports whether DSS started us and gave us a ticket.
func (d *doctor) inside() bool { return d.env("DKU_API_TICKET") != "" }

// settingsOf is a client's own description, without the name of its type.
func settingsOf(c *dss.Client) string {
	return strings.TrimSuffix(strings.TrimPrefix(c.String(), "dss.Client("), ")")
}
