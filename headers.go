package dssauth

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dssauth/dssauth/internal/latin1"
	"github.com/dssauth/dssauth/internal/shown"
)

// selector decides which bytes of a request identify its visitor. DSS receives exactly
// these bytes, and the key covers exactly these bytes: a header that could change DSS's
// answer without changing the key would give one visitor another's identity.
type selector struct {
	keyer
	cookies cookieRule
}

// credentials are the headers about a visitor for DSS, and their key.
type credentials struct {
	key    key
	header http.Header
}

// pick returns a copy of the headers for DSS, and its key. The copy outlives the
// request, but the request's strings may not: servers built on fasthttp put the next
// request's headers into the same memory.
func (s *selector) pick(h http.Header) (credentials, error) {
	var room [pickRoom]byte
	p, err := s.choose(room[:0], h)
	if err != nil {
		return credentials{}, err
	}
	return credentials{s.key(p), s.header(p)}, nil
}

// pickKey returns the same key as pick, and allocates nothing for most requests. Its
// caller needs it if a dropped cookie changes each time.
func (s *selector) pickKey(h http.Header) (key, error) {
	var room [pickRoom]byte
	p, err := s.choose(room[:0], h)
	if err != nil {
		return key{}, err
	}
	return s.key(p), nil
}

// pickRoom is the largest size of a pick that needs no memory of its own. A larger room
// would take time to clear at each request.
const pickRoom = 2 << 10

// choose appends the bytes that identify h's visitor to p. P is empty.
func (s *selector) choose(p picked, h http.Header) (picked, error) {
	limit := s.maxBytes
	for _, name := range s.names {
		limit += lengthBytes
		start := len(p) + lengthBytes
		p = append(p, make([]byte, lengthBytes)...)
		values := h[name]
		switch {
		case len(values) == 0:
			continue
		case name == "Cookie":
			if p = s.cookies.appendKept(p, values, limit); len(p) == start {
				continue // absent, not empty
			}
		case name != "Authorization":
			if !differ(values) {
				values = values[:1]
			}
			if p = appendList(p, values, limit); p == nil {
				return nil, refuse(ErrMalformed, fmt.Sprintf("the %s header has control characters", name))
			}
		case differ(values):
			return nil, refuse(ErrMalformed, fmt.Sprintf("%d different %s headers: only one is allowed", len(values), name))
		case !printable(values[0]):
			return nil, refuse(ErrMalformed, fmt.Sprintf("the %s header has control characters or is not UTF-8", name))
		default:
			p = append(p, values[0]...)
		}
		if len(p) > limit {
			return nil, s.tooLarge()
		}
		binary.LittleEndian.PutUint32(p[start-lengthBytes:], uint32(len(p)-start+1))
	}
	if len(p) == lengthBytes*len(s.names) {
		return nil, errNoCredentials
	}
	return p, nil
}

const (
	// redirectCookie marks a browser that was just sent to sign in. It does not
	// identify the visitor.
	redirectCookie = "dssauth_redirected"
	// hostPrefix begins its name under TLS.
	hostPrefix = "__Host-"
)

// cookieRule says which cookies identify a visitor.
type cookieRule struct {
	only    bool            // the patterns name the kept cookies; otherwise the dropped ones
	byFirst *[256][]pattern // by the first byte of the matching names
}

// pattern matches names of cookies. Its kind is found once: a search for wildcards
// takes longer than a comparison.
type pattern struct {
	text string // without the asterisk of a prefix
	kind patternKind
}

type patternKind uint8

const (
	exact patternKind = iota
	prefix
	glob // for path.Match
)

// strayCookies change from request to request, or between visits, and mean nothing to
// DSS. In a key they would make every request a new visitor.
var strayCookies = []string{
	"_ga", "_ga_*", "_gid", "_gat*", "_gcl_*", "__utm*", "_hj*", "_pk_*", "mp_*", "ajs_*", "amp_*", "amplitude_*",
	"intercom-*", "_fbp", "_clck", "_clsk", "optimizely*",
	// Load balancers. Not AWSELBAuthSessionCookie*: that is a sign-in.
	"AWSALB", "AWSALBCORS", "AWSALBTG", "AWSALBTGCORS", "AWSELB", "AWSELBCORS",
	"__cf_bm", "__cflb", "_cfuvid", "ARRAffinity*", "BIGipServer*",
}

func newCookieRule(only []string) (cookieRule, error) {
	if only == nil {
		return makeCookieRule(false, strayCookies), nil
	}
	if len(only) == 0 {
		return cookieRule{}, errors.New("dssauth: Config.Cookies is empty: nil sends all except well-known stray ones; to send none, leave Cookie out of Config.Headers")
	}
	for _, p := range only {
		if p == "" || strings.ContainsAny(p, "=;, \t") {
			return cookieRule{}, fmt.Errorf("dssauth: Config.Cookies: %s is not a cookie name: name cookies as in \"session\" or \"dss_*\"", shown.Quote(p))
		}
		if _, err := path.Match(p, ""); err != nil {
			return cookieRule{}, fmt.Errorf("dssauth: Config.Cookies: %s is not a valid pattern: use * for any characters, as in \"dss_*\"", shown.Quote(p))
		}
	}
	return makeCookieRule(true, only), nil
}

func makeCookieRule(only bool, patterns []string) cookieRule {
	rule := cookieRule{only: only, byFirst: new([256][]pattern)}
	for _, p := range patterns {
		first, last := p[0], p[0]
		if strings.IndexByte(wildcards, first) >= 0 {
			first, last = 0, 255 // a name may begin with anything
		}
		for b := int(first); b <= int(last); b++ {
			rule.byFirst[b] = append(rule.byFirst[b], newPattern(p))
		}
	}
	return rule
}

const wildcards = `*?[\`

func newPattern(p string) pattern {
	switch i := strings.IndexAny(p, wildcards); {
	case i < 0:
		return pattern{p, exact}
	case i == len(p)-1 && p[i] == '*':
		return pattern{p[:i], prefix}
	}
	return pattern{p, glob}
}

func (c *cookieRule) keeps(name string) bool {
	if name == redirectCookie || name == hostPrefix+redirectCookie {
		return false
	}
	if name == "" {
		return !c.only
	}
	for _, p := range c.byFirst[name[0]] {
		if p.matches(name) {
			return c.only
		}
	}
	return !c.only
}

func (p pattern) matches(name string) bool {
	switch p.kind {
	case exact:
		return p.text == name
	case prefix:
		return strings.HasPrefix(name, p.text)
	}
	ok, _ := path.Match(p.text, name) // the pattern was checked at construction
	return ok
}

// appendKept appends the kept cookies to p, byte for byte and in their order, joined as
// in HTTP/2. It stops after limit bytes. A cookie that JSON cannot carry is dropped:
// another application's cookie must not lock a visitor out.
func (c *cookieRule) appendKept(p picked, values []string, limit int) picked {
	start := len(p)
	for _, rest := range values {
		for rest != "" && len(p) <= limit {
			pair, end := rest, strings.IndexByte(rest, ';')
			if end >= 0 {
				pair, rest = rest[:end], rest[end+1:]
			} else {
				rest = ""
			}
			if pair = trim(pair); pair == "" || !c.keeps(cookieName(pair)) || !printable(pair) {
				continue
			}
			if len(p) > start {
				p = append(p, "; "...)
			}
			p = append(p, pair...)
		}
	}
	return p
}

func differ(values []string) bool {
	return slices.ContainsFunc(values, func(v string) bool { return v != values[0] })
}

// appendList appends the lines of one header to p, as servers for Python give them to
// DSS: joined, and bytes that are not UTF-8 read as Latin-1. It stops after limit
// bytes, and returns nil if a line has control characters.
func appendList(p picked, values []string, limit int) picked {
	for i, v := range values {
		if i > 0 {
			p = append(p, ", "...)
		}
		if len(p) > limit {
			break
		}
		if v = latin1.Text(v); !printable(v) {
			return nil
		}
		p = append(p, v...)
	}
	return p
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

// trim is strings.Trim(s, " \t"), in a fraction of the time.
func trim(s string) string {
	for s != "" && isBlank(s[0]) {
		s = s[1:]
	}
	for s != "" && isBlank(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// cookieName is empty for a cookie without a name: browsers send only its value.
func cookieName(pair string) string {
	return trim(pair[:max(0, strings.IndexByte(pair, '='))])
}

// printable reports whether s is valid UTF-8 without control characters: JSON and a log
// line carry that unchanged.
func printable(s string) bool {
	for len(s) >= 8 && isPlain(binary.LittleEndian.Uint64([]byte(s))) { // read only, so nothing is copied
		s = s[8:]
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}

// isPlain reports that eight bytes are ASCII without control characters. Between such
// bytes the sums below carry and borrow nothing.
func isPlain(w uint64) bool {
	const each = 0x0101010101010101
	return (w|(w+each)|(w-' '*each))&(0x80*each) == 0
}

// defaultHeaders are the headers with which the samples of DSS identify a caller.
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

// neverForwarded are headers about the connection or the message, not the visitor.
var neverForwarded = []string{
	"Connection", "Content-Encoding", "Content-Length", "Host", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Proxy-Connection", "Set-Cookie", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

func forwardable(given, name string) error {
	switch dashed := strings.ReplaceAll(strings.ToUpper(name), "_", "-"); {
	case !isToken(given):
		return fmt.Errorf("dssauth: Config.Headers: %s is not a header name: name headers as in \"X-Sso-Session\"", shown.Quote(given))
	case strings.HasPrefix(dashed, "X-DKU-"):
		return fmt.Errorf("dssauth: Config.Headers: %s is never taken from a browser: DSS could read it as an order to act as somebody else; leave it out", shown.Quote(given))
	case slices.Contains(neverForwarded, name):
		return fmt.Errorf("dssauth: Config.Headers: %q does not identify a visitor: leave it out", given)
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
