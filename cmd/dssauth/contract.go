package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/internal/diagnose"
	"github.com/dssauth/dssauth/internal/shown"
)

// contract tries this library's assumptions about DSS one after the other, with the
// doctor's settings and cookies.
type contract struct {
	*doctor
	journal journal
	project string   // of -project, or ""
	ended   source   // of the cookies of a session that has ended, or nil
	file    *os.File // of -report, or nil
	results []outcome

	accepted   bool // DSS accepts our own credentials
	asOwn      *dss.Client
	asStranger *dss.Client // with a ticket that nobody has
	asVisitor  *dss.Client // nil: we may not act as the visitor
	ticket     string      // the visitor's, or "" and the reason
	ticketErr  error
	nobody     look        // of cookies that nobody has
	visiting   look        // of the visitor's cookies
	extra      http.Header // what it takes beside them
	noCookies  string      // the reason if there are none
}

// look is one lookup of a browser's headers.
type look struct {
	asked bool
	info  dss.AuthInfo
	err   error
}

func (l look) isAnonymous() bool { return diagnose.IsAnonymous(l.info, l.err) }
func (l look) isUser() bool      { return l.err == nil && l.info.Login() != "" }

// said describes DSS's answer without a name.
func (l look) said() string {
	switch {
	case l.err != nil:
		return said(l.err)
	case l.info.IsAnonymous():
		return "200 with an empty authIdentifier"
	case l.info.Login() == "":
		return "an API key without a user"
	}
	return "a user"
}

func said(err error) string {
	if reply, ok := typed(err); ok {
		return fmt.Sprintf("%d%s", reply.StatusCode, diagnose.Exception(reply.Type))
	}
	return explain(err).what
}

// finding is the result of trying an assumption.
type finding struct{ status, seen string }

const (
	holds    = "holds"
	differs  = "differs"
	notTried = "not tried"
)

func held(seen string, args ...any) finding   { return finding{holds, fmt.Sprintf(seen, args...)} }
func other(seen string, args ...any) finding  { return finding{differs, fmt.Sprintf(seen, args...)} }
func untried(why string, args ...any) finding { return finding{notTried, fmt.Sprintf(why, args...)} }
func heldIf(holds bool, seen string) finding {
	if holds {
		return held("%s", seen)
	}
	return other("%s", seen)
}

// outcome is the report's word about an assumption.
type outcome struct {
	Assumption string `json:"assumption"`
	Status     string `json:"status"`
}

// examine is the doctor's job when it tries the contract.
func (c *contract) examine(ctx context.Context) {
	if c.file != nil {
		defer c.file.Close()
	}
	if !c.settings() {
		return
	}
	if err := c.prepare(ctx); err != nil {
		c.report.problem("settings", err.Error())
		return
	}
	counts := map[string]int{}
	for _, a := range assumptions {
		if ctx.Err() != nil {
			return
		}
		c.journal.assumption = a.name
		f := c.try(ctx, a)
		if ctx.Err() != nil {
			return
		}
		c.tell(a, f)
		c.results = append(c.results, outcome{a.name, f.status})
		counts[f.status]++
	}
	fmt.Fprintf(c.report.out, "%d assumptions: %d hold, %d differ, %d not tried\n", len(assumptions), counts[holds], counts[differs], counts[notTried])
	if c.file == nil {
		return
	}
	if err := c.writeReport(); err != nil {
		c.report.problem("report", "it cannot be written", "Check the space on its disk, and the rights of its folder.")
		return
	}
	fmt.Fprintln(c.report.out, "The report holds no value of a cookie, key, login, group or secret: read it before you send it.")
}

// prepare makes the clients, and asks for the cookies.
func (c *contract) prepare(ctx context.Context) (err error) {
	if c.asOwn, err = c.journal.recording(c.client, "own credentials"); err != nil {
		return err
	}
	stranger, err := c.client.WithTicket("dssauth-contract-" + rand.Text())
	if err != nil {
		return err
	}
	if c.asStranger, err = c.journal.recording(stranger, "a ticket that nobody has"); err != nil {
		return err
	}
	c.copied.cookies, c.noCookies = c.paste(ctx, c.pastes)
	if c.noCookies != "" {
		return nil
	}
	// Cookies alone: an assumption is about the rest.
	c.copied = newRequest(http.Header{}, c.copied.header())
	if c.sent, err = selected(ctx, c.copied, picks{}, 0); err != nil {
		c.noCookies = "the cookies are larger than a Middleware takes by default: see the doctor"
	} else if len(c.sent.pairs()) == 0 {
		c.noCookies = "an application sends none of these cookies to DSS by default: see the doctor"
	}
	return nil
}

// paste gets a Cookie header, or gives the reason why there is none.
func (c *contract) paste(ctx context.Context, from source) (cookies, string) {
	pasted, ok, err := from.next(ctx, "Paste the Cookie header that a signed-in browser sends to DSS (see -help).")
	switch {
	case err != nil:
		return cookies{}, err.Error()
	case !ok:
		return cookies{}, "this needs the cookies of a signed-in user: see -cookie-file"
	}
	c.hide(pasted)
	return pasted.cookies, ""
}

// try tries an assumption if its needs are met.
func (c *contract) try(ctx context.Context, a assumption) finding {
	if why := c.lacks(ctx, a.takes); why != "" {
		return untried("%s", why)
	}
	f := a.try(c, ctx)
	if calls := c.journal.calls; f.status == differs && a.takes > anything && calls[len(calls)-1].lost {
		return untried("%s", f.seen) // this proves nothing about DSS's answers
	}
	return f
}

// lacks names the missing need of an assumption.
func (c *contract) lacks(ctx context.Context, takes need) string {
	switch {
	case takes >= acceptance && !c.accepted:
		return "this needs credentials that DSS accepts"
	case takes >= lookups && diagnose.IsRefusal(c.lookNobody(ctx).err) && !c.lookVisitor(ctx).isUser():
		return "this needs the right to identify a browser"
	case takes >= aVisitor && c.noCookies != "":
		return c.noCookies
	case takes >= aVisitor && !c.lookVisitor(ctx).isUser():
		return "this needs the cookies of a user whom DSS identifies"
	case takes >= acting && c.asVisitor == nil:
		return "this needs the right to act as the visitor: see the doctor"
	}
	return ""
}

// tell prints one line.
func (c *contract) tell(a assumption, f finding) {
	text := f.seen
	switch f.status {
	case holds:
		text = fmt.Sprintf("%s (seen: %s)", a.says, f.seen)
	case differs:
		c.report.problems++
		text = fmt.Sprintf("assumed: %s (%s). Seen: %s. For this library: %s. What to set: %s.", a.says, a.source, f.seen, a.means, a.setting)
	}
	c.report.finding(diagnose.Finding{Check: a.name, Status: fmt.Sprintf("%-9s", f.status), Found: text})
}

// asking paces and bounds one call.
func (c *contract) asking(ctx context.Context) (context.Context, context.CancelFunc) {
	_ = c.journal.ready(ctx) // the call itself fails if ctx has ended
	return c.limited(ctx)
}

// look asks DSS for the sender of some headers.
func (c *contract) look(ctx context.Context, as *dss.Client, h http.Header) look {
	ctx, cancel := c.asking(ctx)
	defer cancel()
	info, err := as.AuthInfoFromBrowserHeaders(ctx, h)
	return look{true, info, err}
}

// do makes any call.
func (c *contract) do(ctx context.Context, as *dss.Client, method, path string, in, out any) error {
	ctx, cancel := c.asking(ctx)
	defer cancel()
	return as.Do(ctx, method, path, in, out)
}

// lookNobody asks, once, about cookies that nobody has.
func (c *contract) lookNobody(ctx context.Context) look {
	if !c.nobody.asked {
		c.nobody = c.look(ctx, c.asOwn, nobodysCookies())
	}
	return c.nobody
}

func nobodysCookies() http.Header {
	return http.Header{"Cookie": {"dssauth_contract=" + rand.Text()}}
}

// lookVisitor asks, once, about the visitor's cookies. If they are not enough, it asks
// with other headers of a browser beside them.
func (c *contract) lookVisitor(ctx context.Context) look {
	if c.visiting.asked || c.noCookies != "" {
		return c.visiting
	}
	c.visiting = c.look(ctx, c.asOwn, c.browserHeaders())
	if !c.visiting.isAnonymous() {
		return c.visiting
	}
	alone := c.visiting
	c.extra = c.browsers()
	if c.visiting = c.look(ctx, c.asOwn, c.browserHeaders()); !c.visiting.isUser() {
		c.visiting, c.extra = alone, nil
		return alone
	}
	all := c.extra
	for _, name := range slices.Sorted(maps.Keys(all)) {
		c.extra = http.Header{name: all[name]}
		if l := c.look(ctx, c.asOwn, c.browserHeaders()); l.isUser() {
			c.visiting = l
			return l
		}
	}
	c.extra = all
	return c.visiting
}

// browserHeaders are the visitor's, and the other needed header.
func (c *contract) browserHeaders() http.Header {
	h := c.extra.Clone()
	if h == nil {
		h = http.Header{}
	}
	h.Set("Cookie", c.sent.header())
	return h
}

// browsers are headers that a browser may send beside its cookies. A session may be
// bound to them.
func (c *contract) browsers() http.Header {
	return http.Header{
		"User-Agent":       {"Mozilla/5.0"},
		"Accept":           {"*/*"},
		"Accept-Language":  {"en"},
		"Referer":          {c.client.URL() + "/"},
		"Origin":           {c.client.URL()},
		"X-Requested-With": {"XMLHttpRequest"},
		"X-Forwarded-For":  {"127.0.0.1"},
	}
}

// writeReport writes a report that you can send to others.
func (c *contract) writeReport() error {
	for i, call := range c.journal.calls {
		for j, name := range call.Headers {
			if !shown.IsName(name) || c.holdsValue(name) {
				c.journal.calls[i].Headers[j] = "(a name that is not shown)"
			}
		}
		if c.holdsValue(call.DSS) || c.holdsValue(call.API) {
			c.journal.calls[i].DSS, c.journal.calls[i].API = "not shown", "not shown"
		}
	}
	enc := json.NewEncoder(c.file)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(map[string]any{
		"dssauth": ownVersion(), "go": runtime.Version(), "assumptions": c.results, "calls": c.journal.calls,
	}); err != nil {
		return err
	}
	return c.file.Sync()
}

// holdsValue reports whether text may hold a value of ours, the visitor's or a
// cookie's. It ignores case, since the case of headers' names changes on the way.
func (c *contract) holdsValue(text string) bool {
	values := []string{c.env("DKU_API_KEY"), c.env("DKU_API_TICKET"), c.ticket, c.project}
	for _, info := range []dss.AuthInfo{c.own, c.visiting.info} {
		values = append(values, textsOf(info)...)
	}
	if c.noCookies == "" {
		for _, pair := range c.copied.pairs() {
			values = append(values, valueOf(pair))
		}
	}
	return slices.ContainsFunc(values, func(value string) bool {
		return len(value) >= minShown && strings.Contains(strings.ToLower(text), strings.ToLower(value))
	})
}

// textsOf returns each text of DSS's answer, but for authSource: that is DSS's own word.
func textsOf(info dss.AuthInfo) (texts []string) {
	for field, v := range reflect.ValueOf(info).Fields() {
		switch value := v.Interface().(type) {
		case string:
			if field.Name != "AuthSource" {
				texts = append(texts, value)
			}
		case []string:
			texts = append(texts, value...)
		}
	}
	return texts
}

// minShown is the least length of a value that is found within a name: a cookie "1"
// proves nothing.
const minShown = 3

// ownVersion is the version of this library, if it is known.
func ownVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return ""
}
