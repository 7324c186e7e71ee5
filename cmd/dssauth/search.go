package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/internal/diagnose"
	"github.com/dssauth/dssauth/internal/shown"
)

const (
	// maxQuestions bounds the questions to DSS of one search.
	maxQuestions = 120
	// searchPause is the least time between two of these questions.
	searchPause = 100 * time.Millisecond
	// maxTries is how often a question without an answer is asked.
	maxTries = 3
	// maxSearched is the most names in the search for the smallest set. A longer list
	// is first thinned out.
	maxSearched = 24
	// maxCombinations is the most sets of one size that are tried.
	maxCombinations = 40
)

// Headers that do not identify a visitor. Config.Headers often refuses them.
var neverAsked = []string{
	"Connection", "Content-*", "Expect", "Host", "If-*", "Keep-Alive", "Proxy-*", "Range", "Set-Cookie*",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Sec-Websocket-*",
}

// Headers that all browsers send, or that change from page to page: DSS is asked with
// them only if it knows nobody without them.
var askedLast = []string{
	"Accept", "Accept-*", "Cache-Control", "Dnt", "Origin", "Pragma", "Priority", "Referer", "Save-Data", "Sec-Ch-*",
	"Sec-Fetch-*", "Sec-Gpc", "Upgrade-Insecure-Requests", "X-Requested-With",
}

// Headers in which proxies name the origin of a request.
var ofAddress = []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Envoy-External-Address"}

// isOne reports whether a canonical name is in a list. An asterisk at the end of an
// element matches anything.
func isOne(name string, of []string) bool {
	return slices.ContainsFunc(of, func(pattern string) bool {
		prefix, many := strings.CutSuffix(pattern, "*")
		return name == pattern || many && strings.HasPrefix(name, prefix)
	})
}

// isPublic reports whether a header's value is not a secret: a hidden value of this
// kind would remove words of the report. A web socket's protocol and Referer can hold a
// token.
func isPublic(name string) bool {
	switch name {
	case "User-Agent", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "Connection", "Host", "Te", "Upgrade", "Content-Type":
		return true
	}
	return name != "Referer" && isOne(name, askedLast)
}

func isDKU(name string) bool {
	return strings.HasPrefix(strings.ReplaceAll(strings.ToUpper(name), "_", "-"), "X-DKU-")
}

// candidates are the names of headers for questions: first the promising ones, and then
// those to ask with last. The most likely one comes first.
func (r request) candidates() (first, last []string) {
	for _, name := range slices.Sorted(maps.Keys(r.others())) {
		switch {
		case isDKU(name), isOne(name, neverAsked), !shown.IsName(name):
		case isOne(name, askedLast):
			last = append(last, name)
		default:
			first = append(first, name)
		}
	}
	slices.SortStableFunc(first, func(a, b string) int { return rank(a) - rank(b) })
	return append([]string{"Cookie"}, first...), last
}

func rank(name string) int {
	switch {
	case name == "Authorization":
		return 0
	case name == "User-Agent":
		return 2
	case isOne(name, ofAddress):
		return 3
	}
	return 1
}

// search looks for the smallest part of a paste with which DSS knows the visitor.
type search struct {
	*doctor
	ctx   context.Context
	asked int
	info  dss.AuthInfo    // the owner of everything in the paste
	known map[string]bool // the sets in questions, and whether they were enough
	err   error           // the error that ended the search
}

var errQuestions = errors.New("too many questions")

// search looks for headers and cookies that DSS needs beside the default ones, and
// reports whether DSS knows the visitor with them.
func (d *doctor) search(ctx context.Context) bool {
	s := &search{doctor: d, ctx: ctx, known: map[string]bool{asText(d.sent): false}}
	first, last := d.copied.candidates()
	all := picks{first, []string{"*"}}
	if !s.enough(all) && len(last) > 0 {
		all.headers = slices.Concat(first, last)
		s.enough(all)
	}
	switch {
	case s.info.Login() == "" && s.err != nil:
		d.fails("visitor", s.err)
		return false
	case s.info.Login() == "":
		d.nobody(len(all.headers) - 1)
		return false
	}
	return s.found(s.least(all))
}

// least is the result of a search.
type least struct {
	picks
	others    [][]string // other sets of headers that are as small
	unneeded  bool       // cookies need not be named
	unnamed   bool       // a cookie is needed that cannot be named
	inDoubt   bool       // it may be smaller
	questions int
}

// least finds the smallest sufficient part of a sufficient set.
func (s *search) least(all picks) least {
	l := least{picks: all}
	if s.enough(picks{nil, all.cookies}) {
		l.headers = nil
	} else {
		l.unneeded = s.enough(picks{all.headers, nil})
		if l.unneeded {
			l.cookies = nil
		}
		var exact bool
		l.headers, l.others, exact = s.minimal(all.headers, func(headers []string) bool { return s.enough(picks{headers, l.cookies}) })
		l.inDoubt = !exact
	}
	if l.headers != nil && !slices.Contains(l.headers, "Cookie") {
		l.cookies = nil
	} else {
		s.leastCookies(&l)
	}
	l.questions = s.asked
	return l
}

func (s *search) leastCookies(l *least) {
	named := without(s.copied.names(), []string{nameless, unshown})
	if len(named) == 0 || !s.enough(picks{l.headers, named}) {
		l.unnamed = !l.unneeded && s.err == nil
		return
	}
	cookies, _, exact := s.minimal(named, func(cookies []string) bool { return s.enough(picks{l.headers, cookies}) })
	l.cookies, l.inDoubt = cookies, l.inDoubt || !exact
}

// minimal returns the smallest sufficient part of names, and others of that size; exact
// is false if there may be a smaller one. All names together are enough.
func (s *search) minimal(names []string, enough func([]string) bool) (least []string, others [][]string, exact bool) {
	exact = len(names) <= maxSearched
	least = names
	for size := len(least) / 2; len(least) > maxSearched && size > 0; size /= 2 {
		for i := 0; i+size <= len(least); {
			if fewer := slices.Concat(least[:i], least[i+size:]); enough(fewer) {
				least = fewer
			} else {
				i += size
			}
		}
	}
	all := least
	var needed, rest []string // each sufficient set has all needed names
	for i := len(all) - 1; i >= 0; i-- {
		if len(all) == 1 || !enough(without(all, all[i:i+1])) {
			needed = append(needed, all[i])
		} else {
			rest = append(rest, all[i])
		}
	}
	slices.Reverse(needed)
	slices.Reverse(rest)
	if s.err != nil || len(rest) == 0 {
		return least, nil, exact && s.err == nil
	}
	if len(needed) > 0 && enough(needed) {
		return needed, nil, exact
	}
	for i := len(all) - 1; i >= 0; i-- { // a set in which each name is needed
		if fewer := without(least, all[i:i+1]); slices.Contains(rest, all[i]) && enough(fewer) {
			least = fewer
		}
	}
	for size := 1; s.err == nil; size++ {
		last := len(needed)+size >= len(least)
		if binomial(len(rest), size) > maxCombinations {
			return least, nil, exact && last
		}
		var found [][]string
		for some := range combinations(rest, size) {
			if set := slices.Concat(needed, some); enough(set) {
				found = append(found, set)
			}
		}
		switch {
		case len(found) > 0:
			return found[0], found[1:], exact && (last || s.err == nil)
		case last:
			return least, nil, exact && s.err == nil
		}
	}
	return least, nil, false
}

// binomial returns the number of choices of k among n.
func binomial(n, k int) int {
	choices := 1
	for i := range k {
		choices = choices * (n - i) / (i + 1)
	}
	return choices
}

// combinations yields each choice of size names, in their order.
func combinations(names []string, size int) func(func([]string) bool) {
	return func(yield func([]string) bool) {
		var choose func(chosen, from []string) bool
		choose = func(chosen, from []string) bool {
			if len(chosen) == size {
				return yield(slices.Clone(chosen))
			}
			for i := range from {
				if !choose(append(chosen, from[i]), from[i+1:]) {
					return false
				}
			}
			return true
		}
		choose(nil, names)
	}
}

// bytes is a Config.MaxHeaderBytes with which a Middleware accepts the whole request:
// its size matters only for the result.
func (r request) bytes() int { return min(max(1<<10, len(asText(r))), 1<<20) }

// asText returns the sent part of a request as one text.
func asText(r request) string { return fmt.Sprintf("%q", r.headers()) }

// enough reports whether DSS knows the visitor by the headers that an application with
// these settings sends. It is false after the end of the search.
func (s *search) enough(with picks) bool {
	if s.err != nil {
		return false
	}
	if !slices.Contains(with.headers, "Cookie") && with.headers != nil {
		with.cookies = nil // without Cookie, there are none to name
	}
	sent, err := selected(s.ctx, s.copied, with, s.copied.bytes())
	if err != nil || len(sent.headers()) == 0 {
		return false // an application could not send it
	}
	q := asText(sent)
	enough, asked := s.known[q]
	if asked {
		return enough
	}
	if s.asked > maxQuestions-2*maxTries { // the last ones are for found
		s.err = errQuestions
		return false
	}
	info, err := s.ask(sent.headers())
	if err != nil {
		s.err = err
		return false
	}
	if info.Login() != "" && s.info.Login() == "" {
		s.info = info
	}
	s.known[q] = info.Login() != "" && info.Login() == s.info.Login()
	return s.known[q]
}

// ask asks one question, and repeats it if no answer comes. For an anonymous visitor,
// the answer has no login.
func (s *search) ask(h http.Header) (dss.AuthInfo, error) {
	var info dss.AuthInfo
	var err error
	for try := range maxTries {
		s.asked++
		timer := time.NewTimer(s.pause * time.Duration(1+10*try))
		select {
		case <-timer.C:
		case <-s.ctx.Done():
			timer.Stop()
			return info, s.ctx.Err()
		}
		if info, err = s.browser(s.ctx, h); diagnose.IsAnonymous(info, err) {
			return dss.AuthInfo{}, nil
		}
		if err == nil {
			return info, nil
		}
	}
	return info, err
}

// found reports the result of a search after one more question: if the session has
// ended meanwhile, every name looks needed.
func (s *search) found(l least) bool {
	const check = "visitor"
	sent, err := selected(s.ctx, s.copied, l.picks, s.copied.bytes())
	if err != nil {
		s.report.problem(check, "the search found no set that DSS accepts", "Copy a new request, and run this again.")
		return false
	}
	info, err := s.ask(sent.headers())
	switch {
	case err == nil && info.Login() != s.info.Login():
		s.report.problem(check, "the session ended during the search, or DSS answers differently each time",
			"Sign in again, copy a new request, and run this again.")
		return false
	case err != nil:
		s.report.problem(check, "the search was interrupted: "+explain(err).what, explain(err).fix, "Then run this again.")
		return false
	}
	s.picks, s.sent, s.visitor = l.picks, sent, info
	s.report.problem(check, s.beyond(l), s.advice(l)...)
	s.report.code(l.code())
	return true
}

// beyond names the headers and cookies by which DSS knows the visitor.
func (s *search) beyond(l least) string {
	if l.headers == nil {
		return "the session is in a cookie that the application does not send by default: with it, DSS knows " + diagnose.Who(s.visitor)
	}
	return "DSS needs headers that the application does not send by default: with them, it knows " + diagnose.Who(s.visitor)
}

func (s *search) advice(l least) []string {
	what := fmt.Sprintf("This is the smallest set that is enough (questions asked: %d).", l.questions)
	switch {
	case errors.Is(s.err, errQuestions):
		what = fmt.Sprintf("This is enough, but perhaps not the smallest set: the search stopped after %d questions.", l.questions)
	case s.err != nil:
		what = "This is enough, but perhaps not the smallest set, since the search was interrupted: " + explain(s.err).what + "."
	case l.inDoubt:
		what = fmt.Sprintf("This is enough, and no part of it can be left out (questions asked: %d).", l.questions)
	}
	paragraphs := []string{"Groups: " + list(s.visitor.Groups) + "."}
	if l.unnamed {
		paragraphs = append(paragraphs, "The name of one needed cookie may be a value, and is not shown: find it in the browser, and put it in place of the asterisk.")
	}
	for _, set := range l.others {
		paragraphs = append(paragraphs, "As small, and enough as well: Headers of "+list(set)+".")
	}
	for _, name := range l.headers {
		switch {
		case isOne(name, ofAddress):
			paragraphs = append(paragraphs, name+" is an address: use a header that the proxy in front of the application sets anew, since browsers can send any.")
		case isOne(name, askedLast):
			paragraphs = append(paragraphs, name+" may differ from page to page, and each value is a lookup of its own.")
		}
	}
	if l.headers != nil && !slices.Contains(l.headers, "Authorization") {
		paragraphs = append(paragraphs, `Add "Authorization" to Headers where programs send API keys.`)
	}
	if l.headers != nil && !slices.Contains(l.headers, "Cookie") && !slices.Contains(l.headers, "Authorization") {
		paragraphs = append(paragraphs, "DSS needs no cookie: anybody who can send these headers is the visitor. Make the proxy in front of the application remove them from browsers' requests.")
	}
	if l.unneeded && l.cookies != nil {
		paragraphs = append(paragraphs, "Config.Cookies may be left out: the default sends more of them, and is enough as well.")
	}
	if _, err := selected(s.ctx, s.copied, l.picks, 0); err != nil {
		paragraphs = append(paragraphs, "It is larger than a Middleware sends by default: raise Config.MaxHeaderBytes.")
	}
	return append(paragraphs, what+" In dssauth.Config, write:")
}

// code returns the lines for dssauth.Config.
func (l least) code() []string {
	var lines []string
	if l.headers != nil {
		lines = append(lines, "Headers: []string{"+list(l.headers)+"},")
	}
	if l.cookies != nil {
		lines = append(lines, "Cookies: []string{"+list(l.cookies)+"},")
	}
	return lines
}
