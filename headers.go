package dssauth

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dssauth/dssauth/internal/shown"
)

// selector decides which bytes of a request identify its visitor. What it
// picks is what DSS receives and what the key covers, and nothing else is
// either: a header that could change DSS's answer without changing the key
// would hand one visitor another's identity.
type selector struct {
	keyer
	cookies cookieRule
}

// credentials are what is sent to DSS about a visitor, and its key.
type credentials struct {
	key    key
	header http.Header
}

// raw returns the key of h's identifying headers exactly as they arrived.
// Equal raw headers yield equal picks, so an answer found under the raw key
// needs no look at the single cookies.
func (s *selector) raw(h http.Header) (key, error) { return s.key(h, s.maxBytes) }

// pick returns a copy of the headers to send to DSS, and its key. It outlives
// the request, whose strings may not: servers built on fasthttp put the next
// request's headers into the same memory.
func (s *selector) pick(h http.Header) (credentials, error) {
	picked := make(http.Header, len(s.names))
	size := 0
	for _, name := range s.names {
		values := h[name]
		if len(values) == 0 {
			continue
		}
		for _, v := range values {
			size += len(v)
		}
		if size > s.maxBytes {
			return credentials{}, s.tooLarge()
		}
		if name == "Cookie" {
			if kept := s.cookies.filter(values); kept != "" {
				picked[name] = []string{kept}
			}
			continue
		}
		if len(values) > 1 {
			return credentials{}, refuse(ErrMalformed, fmt.Sprintf("%d %s headers where one is allowed", len(values), name))
		}
		if !printable(values[0]) {
			return credentials{}, refuse(ErrMalformed, fmt.Sprintf("the %s header has control characters or is not UTF-8", name))
		}
		picked[name] = []string{strings.Clone(values[0])}
	}
	// The size that arrived is what is bounded; joining cookies adds to it.
	k, err := s.key(picked, math.MaxInt)
	if err != nil {
		return credentials{}, err
	}
	return credentials{k, picked}, nil
}

const (
	// redirectCookie marks a browser that was just sent to sign in. It says nothing
	// about the visitor.
	redirectCookie = "dssauth_redirected"
	// hostPrefix begins its name under TLS.
	hostPrefix = "__Host-"
)

// cookieRule says which cookies identify a visitor.
type cookieRule struct {
	only    bool           // the patterns name what is kept; otherwise what is dropped
	byFirst *[256][]string // patterns by the first byte of the names that they match
}

// strayCookies change from request to request, or between visits, and mean
// nothing to DSS. Keyed, they would make every request a new visitor.
var strayCookies = []string{
	"_ga", "_ga_*", "_gid", "_gat*", "_gcl_*", "__utm*", "_hj*", "_pk_*", "mp_*", "ajs_*", "amp_*", "amplitude_*",
	"intercom-*", "_fbp", "_clck", "_clsk", "optimizely*",
	// Load balancers. Not AWSELBAuthSessionCookie*, which is a sign-in.
	"AWSALB", "AWSALBCORS", "AWSALBTG", "AWSALBTGCORS", "AWSELB", "AWSELBCORS",
	"__cf_bm", "__cflb", "_cfuvid", "ARRAffinity*", "BIGipServer*",
}

func newCookieRule(only []string) (cookieRule, error) {
	if only == nil {
		return makeCookieRule(false, strayCookies), nil
	}
	if len(only) == 0 {
		return cookieRule{}, errors.New("dssauth: Config.Cookies is empty: nil sends all but well-known stray ones; to send none, leave Cookie out of Config.Headers")
	}
	for _, p := range only {
		if p == "" || strings.ContainsAny(p, "=;, \t") {
			return cookieRule{}, fmt.Errorf("dssauth: Config.Cookies: %s is no cookie name: name cookies as in \"session\" or \"dss_*\"", shown.Quote(p))
		}
		if _, err := path.Match(p, ""); err != nil {
			return cookieRule{}, fmt.Errorf("dssauth: Config.Cookies: %s is no valid pattern: use * for any characters, as in \"dss_*\"", shown.Quote(p))
		}
	}
	return makeCookieRule(true, only), nil
}

func makeCookieRule(only bool, patterns []string) cookieRule {
	rule := cookieRule{only: only, byFirst: new([256][]string)}
	for _, p := range patterns {
		first, last := p[0], p[0]
		if strings.IndexByte(`*?[\`, first) >= 0 {
			first, last = 0, 255 // a name may begin with anything
		}
		for b := int(first); b <= int(last); b++ {
			rule.byFirst[b] = append(rule.byFirst[b], p)
		}
	}
	return rule
}

func (c *cookieRule) keeps(name string) bool {
	if name == redirectCookie || name == hostPrefix+redirectCookie {
		return false
	}
	if name == "" {
		return !c.only
	}
	for _, p := range c.byFirst[name[0]] {
		if matches(p, name) {
			return c.only
		}
	}
	return !c.only
}

func matches(pattern, name string) bool {
	if i := strings.IndexAny(pattern, `*?[\`); i < 0 {
		return pattern == name
	} else if i == len(pattern)-1 && pattern[i] == '*' {
		return strings.HasPrefix(name, pattern[:i])
	}
	ok, _ := path.Match(pattern, name) // the pattern was checked at construction
	return ok
}

// filter returns the cookies to keep, each byte-identical and in its order,
// joined as HTTP/2 joins them. A cookie that JSON cannot carry is dropped: a
// neighbouring application's cookie must not lock a visitor out.
func (c *cookieRule) filter(values []string) string {
	var b strings.Builder
	for pair := range pairs(values) {
		if c.keeps(cookieName(pair)) && printable(pair) {
			if b.Len() > 0 {
				b.WriteString("; ")
			}
			b.WriteString(pair)
		}
	}
	return b.String()
}

// pairs yields the cookies of some Cookie headers, without surrounding space.
func pairs(values []string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, v := range values {
			for pair := range strings.SplitSeq(v, ";") {
				if pair = trim(pair); pair != "" && !yield(pair) {
					return
				}
			}
		}
	}
}

func trim(s string) string { return strings.Trim(s, " \t") }

// cookieName is empty for a cookie without a name, which browsers send as
// its bare value.
func cookieName(pair string) string {
	name, _, found := strings.Cut(pair, "=")
	if !found {
		return ""
	}
	return trim(name)
}

// printable reports whether JSON carries s unchanged and a log line could:
// valid UTF-8 without control characters.
func printable(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}

// defaultHeaders are what the samples of DSS identify a caller by.
var defaultHeaders = []string{"Cookie", "Authorization"}

func newSelector(headers, cookies []string, maxBytes int) (selector, error) {
	names := []string{}
	for _, h := range headers {
		name := http.CanonicalHeaderKey(h)
		if err := forwardable(h, name); err != nil {
			return selector{}, err
		}
		if slices.Contains(names, name) {
			return selector{}, fmt.Errorf("dssauth: Config.Headers: %s appears twice", shown.Quote(h))
		}
		names = append(names, name)
	}
	switch {
	case headers == nil:
		names = defaultHeaders
	case len(names) == 0:
		return selector{}, errors.New("dssauth: Config.Headers is empty: nil means Cookie and Authorization")
	case cookies != nil && !slices.Contains(names, "Cookie"):
		return selector{}, errors.New("dssauth: Config.Cookies is set, but Config.Headers leaves Cookie out: add \"Cookie\" to it")
	}
	rule, err := newCookieRule(cookies)
	if err != nil {
		return selector{}, err
	}
	return selector{newKeyer(names, maxBytes), rule}, nil
}

// neverForwarded are about the connection or the message, not the visitor.
var neverForwarded = []string{
	"Connection", "Content-Encoding", "Content-Length", "Host", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Proxy-Connection", "Set-Cookie", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

func forwardable(given, name string) error {
	switch dashed := strings.ReplaceAll(strings.ToUpper(name), "_", "-"); {
	case !isToken(given):
		return fmt.Errorf("dssauth: Config.Headers: %s is no header name: name headers as in \"X-Sso-Session\"", shown.Quote(given))
	case strings.HasPrefix(dashed, "X-DKU-"):
		return fmt.Errorf("dssauth: Config.Headers: %s is never taken from a browser: DSS could read it as an order to act as somebody else; leave it out", shown.Quote(given))
	case slices.Contains(neverForwarded, name):
		return fmt.Errorf("dssauth: Config.Headers: %q says nothing about a visitor: leave it out", given)
	}
	return nil
}

// isToken reports whether s may be a header's name (RFC 9110, 5.6.2).
func isToken(s string) bool {
	for _, c := range []byte(s) {
		alphanumeric := '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
		if !alphanumeric && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}
