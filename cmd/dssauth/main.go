// Dssauth finds out why a web application cannot identify its visitors by Dataiku
// DSS. Run it where the application runs, as the same user and with the same
// environment:
//
//	go run github.com/dssauth/dssauth/cmd/dssauth@latest doctor
//
// It finds DSS as [dss.FromEnv] does. It checks the following, and prints a remedy for
// each problem:
//
//   - the source of the settings
//   - whether DSS answers, and if not, what is in between
//   - our own user in DSS, and our right to identify a browser
//   - the user of a browser's cookies, and the cookies that the application sends to
//     DSS
//   - whether the application may act as that user, with a ticket of the browser's or
//     as an administrator
//   - if DSS needs more than an application sends by default: the least that is
//     enough, as lines for dssauth.Config
//   - whether browsers send DSS's session cookie to the application
//   - which cookies change from request to request, so that remembered answers are not
//     found again
//
// The last five checks need a request of a signed-in browser, best as “Copy as cURL”.
// The doctor asks for it, or reads it from a file. It never prints a credential, and
// prints only the names of cookies. At a terminal it does not show a paste, and leaves
// no part of it for the shell, even if the command is interrupted.
//
// It changes nothing in DSS. DSS's audit log shows the calls, and these only read.
//
//	go run github.com/dssauth/dssauth/cmd/dssauth@latest contract
//
// tries this library's assumptions about DSS, at most two calls a second, and reports
// for each assumption whether it holds. -report writes a report that you can send to
// others.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/dssauth/dssauth/dss"
)

const help = `Usage: dssauth doctor [flags]
       dssauth contract [flags]

Finds out why a deployment does not work, and how to correct it. Run it where the
application runs, with the same environment: it finds DSS as dss.FromEnv does.
Each line of the result is one check: ok, problem or skipped.

For checks of a visitor it asks for a request of a signed-in browser to DSS: in
the browser's developer tools, under Network, use "Copy as cURL" on one, or copy
its Cookie header. If DSS needs more than an application sends by default, the
doctor finds the least that is enough, by at most 120 questions, ten a second,
and prints it for dssauth.Config; this needs all headers. A second request, of
the same page loaded again, shows which cookies change. Paste, then press Enter.
The paste is not shown, no credential is printed, and no part of a paste is left
for your shell. The request can come from a file or another command as well:

  pbpaste | dssauth doctor -cookie-file -

contract tries this library's assumptions about DSS with the same settings and
cookies. Each line of its result is one assumption: holds, differs or not tried.
Its calls only read, at most two start in a second, and the audit log of DSS
shows them. One asks for a ticket for the visitor, one uses a ticket that nobody
has. An API key in DKU_API_KEY is also sent to DSS as a browser's.

Flags:

  -cookie-file file
        read the Cookie header from a file; - is standard input, and a terminal
        there is asked as without this flag. A file may hold a second header, of
        another request of the same browser, after an empty line. An empty file
        skips these checks
  -app-url URL
        the address of the application in the browser, to find out whether it
        gets the session cookie of DSS
  -impersonation mode
        the application's Config.Impersonation: none, ticket or proxy-user; if
        DSS refuses another mode, that is not a problem then (default either: it
        is a problem if DSS allows neither)
  -user login
        the user to act as if there is no cookie, to find out whether we are an
        administrator (default: some user of DSS)
  -timeout duration
        how long to wait for each answer of DSS (default 10s)

Flags of contract, beside -cookie-file and -timeout:

  -report file
        write a report that you can send to others: methods, paths, statuses,
        names of headers, versions, and JSON with the kind and length of each
        value in place of the value. An existing file is overwritten
  -project key
        a project that the visitor may find but not read (default: one that we
        see and the visitor does not, if the visitor may find it)
  -ended-cookie-file file
        the Cookie header of a session that has ended

The exit code is 0 if all is well, 1 on a problem or if an assumption differs,
2 after a wrong call, and 130 after an interrupt.
`

const (
	exitWell        = 0
	exitProblem     = 1
	exitUsage       = 2
	exitInterrupted = 130 // as in shells
)

func main() {
	// The warnings of package dss, and not net/http's log lines about odd replies:
	// those may repeat credentials.
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main with everything that it uses except the environment. It returns the exit
// code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	d, err := parseArgs(args, stdin, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, help)
		return exitWell
	case err != nil:
		fmt.Fprintf(stderr, "dssauth: %v: see dssauth -help\n", err)
		return exitUsage
	}
	if d.person != nil {
		t, interruptible, ok := openTerminal(ctx, d.person, stderr)
		if !ok {
			fmt.Fprintln(stderr, "dssauth: this terminal cannot be kept from showing a paste: use -cookie-file with a file")
			return exitUsage
		}
		defer t.close()
		ctx, d.pastes = interruptible, t
	}
	code := d.run(ctx, stdout)
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "dssauth: interrupted")
		return exitInterrupted
	}
	return code
}

// parseArgs returns a doctor with its job, which has not begun.
func parseArgs(args []string, stdin io.Reader, prompts io.Writer) (*doctor, error) {
	const commands = "doctor or contract"
	switch {
	case len(args) == 0:
		return nil, errors.New("a command is missing: " + commands)
	case args[0] == "help" || args[0] == "-h" || args[0] == "-help" || args[0] == "--help":
		return nil, flag.ErrHelp
	case args[0] != "doctor" && args[0] != "contract":
		// Not quoted: it may be a pasted cookie.
		return nil, errors.New("unknown command: it is " + commands)
	}
	d := &doctor{connect: dss.FromEnv, env: os.Getenv, pastes: asked(stdin, prompts)}
	d.pause = searchPause
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("cookie-file", "", "")
	flags.DurationVar(&d.timeout, "timeout", 10*time.Second, "")
	finish := func() error { return nil }
	app := ""
	if args[0] == "doctor" {
		flags.StringVar(&d.mode, "impersonation", "either", "")
		flags.StringVar(&d.user, "user", "", "")
		flags.StringVar(&app, "app-url", "", "")
	} else {
		finish = contractFlags(flags, d, stdin)
	}
	if err := flags.Parse(args[1:]); err != nil {
		return nil, err
	}
	switch {
	case flags.NArg() > 0:
		return nil, errors.New("unexpected argument after the flags: cookies are read from standard input or a file")
	case args[0] == "doctor" && !isMode(d.mode):
		return nil, fmt.Errorf("-impersonation %q: use none, ticket, proxy-user or either", d.mode)
	case app != "" && !d.setApp(app):
		return nil, errors.New("-app-url: it is a whole address, as https://apps.example.com/report") // not quoted, as above
	case d.timeout <= 0:
		return nil, fmt.Errorf("-timeout %s: it must be positive, such as 10s", d.timeout)
	}
	if (*file == "" || *file == "-") && isTerminal(stdin) {
		d.person, _ = stdin.(*os.File)
	} else if *file != "" {
		text, err := readCookieFile(*file, stdin)
		if err != nil {
			return nil, fmt.Errorf("-cookie-file: %w", err)
		}
		d.pastes = asked(strings.NewReader(text), io.Discard)
	}
	return d, finish()
}

// contractFlags gives d the contract for a job, and its flags. The returned function
// applies them.
func contractFlags(flags *flag.FlagSet, d *doctor, stdin io.Reader) func() error {
	c := &contract{doctor: d, journal: journal{pause: callPause}}
	d.contract = c
	report := flags.String("report", "", "")
	ended := flags.String("ended-cookie-file", "", "")
	flags.StringVar(&c.project, "project", "", "")
	return func() error {
		if c.project != "" && !isProjectKey(c.project) {
			return errors.New("-project: a key has letters, digits and underscores only") // not quoted, as above
		}
		if *ended != "" {
			text, err := readCookieFile(*ended, stdin)
			if err != nil {
				return fmt.Errorf("-ended-cookie-file: %w", err)
			}
			c.ended = asked(strings.NewReader(text), io.Discard)
		}
		if *report == "" {
			return nil
		}
		var err error
		// Before the first call: a bad file must not waste calls.
		if c.file, err = os.OpenFile(*report, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
			var path *fs.PathError
			if errors.As(err, &path) {
				err = path.Err
			}
			return fmt.Errorf("-report: %w", err)
		}
		return nil
	}
}

func isMode(s string) bool {
	return s == "none" || s == "ticket" || s == "proxy-user" || s == "either"
}
