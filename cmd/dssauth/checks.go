package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/internal/diagnose"
)

// settings finds the address of DSS.
func (d *doctor) settings() bool {
	d.report.Hide(d.env("DKU_API_TICKET"), d.env("DKU_API_KEY"))
	client, err := d.connect()
	if err != nil {
		d.report.problem("settings", err.Error(),
			"Inside DSS, DKU_API_TICKET is set by DSS. Elsewhere, set DKU_DSS_URL and DKU_API_KEY, or write both into ~/.dataiku/config.json. "+
				"Run this as the same user and with the same environment as the application.")
		return false
	}
	d.client = client
	var notes []string
	if d.inside() && (d.env("DKU_DSS_URL") != "" || d.env("DKU_API_KEY") != "") {
		notes = append(notes, "DKU_DSS_URL and DKU_API_KEY have no effect, since DKU_API_TICKET is set and comes first.")
	}
	d.report.ok("settings", settingsOf(client), notes...)
	return true
}

// start does the checks that need no visitor.
func (d *doctor) start(ctx context.Context) bool {
	d.examined = &diagnose.Application{Client: d.client, Inside: d.inside(), Flags: true, Timeout: d.timeout}
	well := true
	for f := range d.examined.Start(ctx) {
		d.report.finding(f)
		well = f.Status == diagnose.OK
	}
	d.own = d.examined.Own
	return well && ctx.Err() == nil
}

// browser asks DSS for the sender of some headers.
func (d *doctor) browser(ctx context.Context, h http.Header) (dss.AuthInfo, error) {
	ctx, cancel := d.limited(ctx)
	defer cancel()
	return d.client.AuthInfoFromBrowserHeaders(ctx, h)
}

// pasted gets a browser's request.
func (d *doctor) pasted(ctx context.Context) bool {
	const check = "cookies"
	r, ok, err := d.pastes.next(ctx, "Paste a request of a signed-in browser to DSS: “Copy as cURL”, or its Cookie header (see -help).")
	switch {
	case err != nil:
		d.report.problem(check, err.Error(), "Paste “Cookie: a=b; c=d”, the value alone, all headers of a request, or “Copy as cURL”.")
		return false
	case !ok:
		d.report.skipped(check, "none were given")
		return false
	}
	d.hide(r)
	d.copied = r
	return true
}

// hide keeps the values of a paste out of the report.
func (d *doctor) hide(r request) {
	for _, pair := range r.pairs() {
		d.report.Hide(pair, valueOf(pair))
		if name := nameOf(pair); name == nameless || name == unshown {
			d.report.Hide(strings.TrimRight(pair, "="))
		}
	}
	for name, values := range r.others() {
		if isPublic(name) {
			continue
		}
		for _, v := range values {
			d.report.HideHeader(v)
		}
	}
}

// selection finds the headers that the application sends to DSS.
func (d *doctor) selection(ctx context.Context) bool {
	const check = "cookies"
	sent, err := selected(ctx, d.copied, picks{}, 0)
	if err != nil {
		d.report.problem(check, fmt.Sprintf("they have %d bytes, and a Middleware sends 16 KiB at most by default", len(d.copied.header())),
			"Another application on this host name sets such large cookies: find it, or raise Config.MaxHeaderBytes.")
		return false
	}
	d.sent = sent
	dropped := without(d.copied.names(), sent.names())
	var notes []string
	if len(dropped) > 0 {
		notes = append(notes, "Not sent unless Config.Cookies names them, because they are known to change and to identify nobody: "+list(dropped)+".")
	}
	if len(sent.others()) > 0 {
		notes = append(notes, "The Authorization header is sent, too.")
	}
	d.report.ok(check, "sent to DSS are "+list(sent.names()), notes...)
	return true
}

// resolves finds the sender of the paste.
func (d *doctor) resolves(ctx context.Context) bool {
	const check = "visitor"
	info, err := dss.AuthInfo{}, error(nil)
	if h := d.sent.headers(); len(h) > 0 {
		info, err = d.browser(ctx, h)
	}
	switch {
	case diagnose.IsAnonymous(info, err):
		return d.search(ctx)
	case err != nil:
		d.fails(check, err)
		return false
	case info.Login() == "":
		d.report.problem(check, "the cookies are those of "+diagnose.Who(info),
			"A browser should have the cookies of a user. Without Config.AllowAPIKeys, such callers are refused.")
		return false
	}
	d.visitor = info
	d.report.ok(check, "the cookies are those of "+diagnose.Who(info), "Groups: "+list(info.Groups)+".")
	return true
}

// nobody explains why DSS may not know a signed-in browser.
func (d *doctor) nobody(tried int) {
	bound := "Or DSS also needs something beside the cookies, such as the browser's address: paste all headers of the request " +
		"(“Copy as cURL”), and the doctor finds the needed ones. “dssauth contract” finds them from the cookies alone, for Config.Headers."
	if tried > 0 {
		bound = fmt.Sprintf("Or DSS needs something that is not in the paste: with %d other headers of it, DSS knows nobody either. "+
			"A browser's copy does not have headers that a proxy adds on the way, such as the browser's address or a single sign-on's header: "+
			"add them to the paste, as -H 'Name: value'. “dssauth contract” tries the usual ones, for Config.Headers.", tried)
	}
	d.report.problem("visitor", "DSS says that nobody is signed in with these cookies",
		"If the browser is signed in to this DSS, and the cookies are from a new request to it:",
		"“Hide access tokens” keeps the session from webapps: in DSS, switch it off under Administration > Settings > Login & Security. "+
			"With it, no visitor can be identified.",
		"Or the cookies are from another host than DSS's, or another DSS on the same host. The application must be under the same host name as DSS, so that "+
			"browsers send it the session cookie.",
		bound,
		"Otherwise the session has ended: sign in and copy again.")
}

// identifying names the cookies that are enough to identify login. It asks DSS with
// each of them alone.
func (d *doctor) identifying(ctx context.Context, login string) string {
	const most = 50 // calls
	var names []string
	for i, name := range d.sent.names() {
		if i == most {
			break
		}
		h := d.sent.headers()
		h.Set("Cookie", strings.Join(d.sent.named(name), "; "))
		info, err := d.browser(ctx, h)
		if err == nil && info.Login() == login {
			names = append(names, name)
		}
	}
	if names == nil {
		return "no single one is enough, so find the needed ones among " + list(d.sent.names())
	}
	named := without(names, []string{nameless, unshown})
	if len(named) == 0 {
		return "it has no name, or a name that may be a value and is not shown"
	}
	return "[]string{" + list(named) + "}"
}

// changing finds the cookies and headers that differ in another request.
func (d *doctor) changing(ctx context.Context) {
	const check = "changing cookies"
	again, ok, err := d.pastes.next(ctx, "Load the page again, and paste the same part of the new request.")
	switch {
	case err != nil:
		d.report.problem(check, "the second paste: "+err.Error(), "Paste the same part as the first time.")
		return
	case !ok:
		d.report.skipped(check, "this needs the Cookie header of a second request")
		return
	}
	d.hide(again)
	sent, err := selected(ctx, again, d.picks, 0)
	if err != nil {
		d.report.problem(check, "the second Cookie header is larger than a Middleware sends by default", "Raise Config.MaxHeaderBytes.")
		return
	}
	for name, values := range d.sent.others() {
		if !slices.Equal(values, sent.others()[name]) {
			d.report.problem("changing headers", list([]string{name}),
				"Answers are remembered for the exact headers, so with this one each request asks DSS. Leave it out of Config.Headers if DSS allows that.")
		}
	}
	changed := differing(d.sent.cookies, sent.cookies)
	if len(changed) == 0 {
		d.report.ok(check, "none of the cookies sent to DSS", "The next request finds the remembered answer.")
		return
	}
	d.report.problem(check, list(changed),
		"Answers are remembered for the exact cookies, so with these each request asks DSS. Set Config.Cookies to the names of the cookies "+
			"that identify a visitor: "+d.identifying(ctx, d.visitor.Login())+".")
}
