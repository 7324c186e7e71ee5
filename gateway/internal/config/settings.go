package config

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/gateway/internal/headers"
	"github.com/dssauth/dssauth/gateway/internal/rules"
)

// setting is one row of the table. The keys of the file, the variables, the
// flags and the help come from this table.
type setting struct {
	name     string // in the file and as a flag
	fallback string // the default, as a flag gives it; empty: nothing
	help     string
	yaml     bool // a list, written in YAML in variables and flags too
	boolean  bool
	read     func(*Config, entry)
}

var settings = []setting{
	{name: "listen", help: "the address to listen on. The default is 127.0.0.1:8080; in a Code Studio, DSS names the address for port 8080",
		read: func(c *Config, e entry) { e.into(&c.Listen, address) }},
	{name: "tls.certificate", help: "a file with the certificate and its chain, in PEM. Without it the gateway speaks plain http",
		read: func(c *Config, e entry) { e.into(&c.TLS.Certificate, anything) }},
	{name: "tls.key", help: "a file with the certificate's private key, in PEM",
		read: func(c *Config, e entry) { e.into(&c.TLS.Key, anything) }},
	{name: "upstream", help: "the application, as in http://127.0.0.1:3000. Without it the gateway serves the check only",
		read: func(c *Config, e entry) {
			var text string
			if e.into(&text, upstream) {
				c.Upstream, _ = url.Parse(strings.TrimSuffix(text, "/"))
			}
		}},
	{name: "check", fallback: "/dssauth/check", help: "the path that nginx, Caddy or Traefik asks. It is below /dssauth/",
		read: func(c *Config, e entry) { e.into(&c.Check, check) }},
	{name: "proxies", fallback: "[127.0.0.0/8, '::1']", yaml: true, help: "the addresses and networks of the proxies in front: they may ask the check, and the gateway believes their X-Forwarded-... headers. [] means no proxies",
		read: func(c *Config, e entry) {
			elements, _ := e.list("[127.0.0.1, 10.0.0.0/8]")
			c.Proxies = make([]netip.Prefix, len(elements))
			for i, element := range elements {
				element.into(new(string), func(text string) (problem string) {
					c.Proxies[i], problem = network(text)
					return problem
				})
			}
		}},
	{name: "rules", yaml: true, help: "the paths, and which visitors get there. If several rules match the request's path, the rule with the longest path counts. A rule has a path. It can have methods. It has one of these three: allow (everyone, signed-in or nobody); groups, of which the visitor is in at least one; or project, the key of a DSS project that the visitor may read. There must be a rule for /",
		read: readRules},
	{name: "headers.user", fallback: "Remote-User", help: "the header that tells the application the visitor's login",
		read: func(c *Config, e entry) { e.into(&c.Headers.User, header) }},
	{name: "headers.groups", fallback: "Remote-Groups", help: "the header with the visitor's groups, with commas between them",
		read: func(c *Config, e entry) { e.into(&c.Headers.Groups, header) }},
	{name: "headers.name", fallback: "Remote-Name", help: "the header with the visitor's name. It is empty without user_details",
		read: func(c *Config, e entry) { e.into(&c.Headers.Name, header) }},
	{name: "headers.email", fallback: "Remote-Email", help: "the header with the visitor's e-mail address. It is empty without user_details",
		read: func(c *Config, e entry) { e.into(&c.Headers.Email, header) }},
	{name: "assertion.issuer", help: "the iss of the signed assertion, as in https://apps.example. Without assertion.issuer and assertion.audience no assertion is sent",
		read: func(c *Config, e entry) { e.into(&c.assertion().Issuer, anything) }},
	{name: "assertion.audience", help: "the aud of the signed assertion: a name for the application, which checks it",
		read: func(c *Config, e entry) { e.into(&c.assertion().Audience, anything) }},
	{name: "assertion.key_files", yaml: true, help: "files with the private keys of the assertion: the first key signs, and all keys are published. Without key files a key is made at start",
		read: func(c *Config, e entry) { c.assertion().KeyFiles = e.texts("[/etc/dssauth/key.pem]", anything) }},
	{name: "dss_cookies", yaml: true, help: "the names of DSS's cookies, with * for any characters, as in [dss_*]. The application does not get these cookies. Without this setting the application gets no cookie at all",
		read: func(c *Config, e entry) { c.DSSCookies = e.texts("[dss_*]", cookie) }},
	{name: "forward_credentials", fallback: "false", boolean: true, help: "true passes the cookies of DSS and Authorization to the application. Then the application can act as the visitor",
		read: func(c *Config, e entry) { e.boolean(&c.ForwardCredentials) }},
	{name: "login_url", help: "the page where a visitor signs in: a path, or a whole URL. The gateway replaces {back} in its query or fragment by the visitor's path, escaped; without {back} nothing is added. Without login_url the visitor sees the refusal",
		read: func(c *Config, e entry) { e.into(&c.LoginURL, loginURL) }},
	{name: "ttl", fallback: "0s", help: "how long an answer of DSS is used again, at most 1h. 0s is the library's default, 10s",
		read: func(c *Config, e entry) { e.duration(&c.TTL, 0) }},
	{name: "user_details", fallback: "false", boolean: true, help: "true asks DSS for names and e-mail addresses too, with one more call for each lookup",
		read: func(c *Config, e entry) { e.boolean(&c.UserDetails) }},
	{name: "impersonation", fallback: "ticket", help: "for rules with a project: how the gateway asks DSS as the visitor. ticket, or proxy-user, which needs an administrator's key. The doctor finds out which one works",
		read: func(c *Config, e entry) {
			e.into(new(string), func(text string) (problem string) {
				c.Impersonation, problem = impersonation(text)
				return problem
			})
		}},
	{name: "metrics", help: "the address of a separate listener for Prometheus, at /metrics. Without it there are no metrics",
		read: func(c *Config, e entry) { e.into(&c.Metrics, address) }},
	{name: "shutdown", fallback: "20s", help: "how long requests may take to end when the gateway stops, at most 1h",
		read: func(c *Config, e entry) { e.duration(&c.Shutdown, time.Millisecond) }},
}

func settingOf(name string) (setting, bool) {
	i := slices.IndexFunc(settings, func(s setting) bool { return s.name == name })
	if i < 0 {
		return setting{}, false
	}
	return settings[i], true
}

// node returns the text of a variable or a flag as the node that the file would
// have.
func (s setting) node(text string) (*yaml.Node, error) {
	if s.yaml {
		n, _, err := parse([]byte(text))
		return n, err
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	if s.boolean {
		n.Tag = ""
	}
	return n, nil
}

// Help writes how to call the gateway, and all settings with their defaults.
func Help(w io.Writer) {
	fmt.Fprint(w, `Usage: gateway [flags]

Each setting is a key in the file that -config names, a variable and a flag. A
flag wins over a variable, and a variable over the file. In variables and flags,
lists and rules are written in YAML, as in -proxies "[127.0.0.1, '::1']".

  -config file
        the file with the settings; DSSAUTH_CONFIG
  -check-config
        read all settings, report what is wrong with them, and end
  -version
        print the version, and end
  -help
        print this, and end

`)
	for _, s := range settings {
		fmt.Fprintf(w, "  -%s\n        %s; %s", s.name, s.help, variableOf(s.name))
		if s.fallback != "" {
			fmt.Fprintf(w, " (default %s)", s.fallback)
		}
		fmt.Fprintln(w)
	}
}

func (c *Config) assertion() *Assertion {
	if c.Assertion == nil {
		c.Assertion = &Assertion{}
	}
	return c.Assertion
}

// into reads text into field. If check returns a problem, it reports that
// instead.
func (e entry) into(field *string, check func(string) (problem string)) bool {
	text, ok := e.text()
	if !ok {
		return false
	}
	problem := check(text)
	if text == "" {
		problem = "it is empty: leave it out, or give it a value"
	}
	if problem != "" {
		e.refuse(text, problem)
		return false
	}
	*field = text
	return true
}

func (e entry) boolean(field *bool) {
	if !e.plain() {
		return
	}
	if e.node.Kind != yaml.ScalarNode {
		e.wrong("it is %s: it must be true or false", kind(e.node))
		return
	}
	if e.node.ShortTag() != "!!bool" || e.node.Value != "true" && e.node.Value != "false" {
		e.refuse(e.node.Value, "it must be true or false, without quotes")
		return
	}
	*field = e.node.Value == "true"
}

func (e entry) duration(field *time.Duration, least time.Duration) {
	if !e.plain() {
		return
	}
	text := e.node.Value
	switch d, err := time.ParseDuration(text); {
	case e.node.Kind != yaml.ScalarNode:
		e.wrong("it is %s: it must be a duration, as in 10s", kind(e.node))
	case err != nil:
		e.refuse(text, "it must be a duration with its unit, as in 10s or 2m")
	case d < least:
		e.refuse(text, fmt.Sprintf("the least is %s", least))
	case d > 0 && d < time.Millisecond:
		e.refuse(text, "it is less than 1ms: is another unit meant, as in 10s?")
	case d > time.Hour:
		e.refuse(text, "the most is 1h")
	default:
		*field = d
	}
}

func anything(string) string { return "" }

var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$`)

func isHost(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || hostName.MatchString(host)
}

func address(text string) string {
	const example = "it must be host:port, as in 127.0.0.1:8080"
	host, port, err := net.SplitHostPort(text)
	if err != nil || host != "" && !isHost(host) {
		return example
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return example + ", with a port of 0 to 65535"
	}
	return ""
}

// httpURL returns a URL for http or https without a user.
func httpURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		// err is not shown: it repeats the text.
		return nil, errors.New("it must be a URL, as in https://app.example")
	case u.User != nil:
		return nil, errors.New("it holds a user or a password, which logs would show: leave them out")
	case u.Scheme != "http" && u.Scheme != "https" || !isHost(u.Hostname()):
		return nil, errors.New("it must begin with http:// or https:// and a host, as in https://app.example")
	case strings.HasSuffix(u.Host, ":"), u.Port() == "0", u.Port() != "" && address(net.JoinHostPort(u.Hostname(), u.Port())) != "":
		return nil, errors.New("its port must be a number of 1 to 65535")
	}
	return u, nil
}

func upstream(text string) string {
	u, err := httpURL(text)
	switch {
	case err != nil:
		return strings.ReplaceAll(err.Error(), "https://app.example", "http://127.0.0.1:3000")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#"):
		return "it must end after the host and the port, as in http://127.0.0.1:3000: the path is the request's own"
	}
	return ""
}

var checkPath = regexp.MustCompile(`^/dssauth(/[A-Za-z0-9_-]+)+$`)

func check(text string) string {
	switch {
	case slices.Contains([]string{"/dssauth/healthz", "/dssauth/readyz", "/dssauth/refusal"}, text):
		return "this path is the gateway's own: choose another, as in /dssauth/check"
	case !checkPath.MatchString(text):
		return "it must be a path below /dssauth/ of letters, digits, _ and -, as in /dssauth/check"
	}
	return ""
}

func network(text string) (netip.Prefix, string) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), ""
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return p, "it must be an address or a network, as in 127.0.0.1 or 10.0.0.0/8"
	case p.Addr().Is4In6():
		return p, "write an IPv4 network as in 10.0.0.0/8"
	case p != p.Masked():
		return p, fmt.Sprintf("the network of this address is %s: write that, or the address alone", p.Masked())
	case p.Bits() < 8:
		return p, "these are too many addresses, and each may ask the check: name the proxies"
	}
	return p, ""
}

func impersonation(text string) (dssauth.Impersonation, string) {
	switch text {
	case "ticket":
		return dssauth.ByTicket, ""
	case "proxy-user":
		return dssauth.ByProxyUser, ""
	}
	return dssauth.NoImpersonation, "it must be ticket or proxy-user"
}

var token = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

func folded(name string) string { return string(headers.Fold(nil, name)) }

// taken matches the folded names of headers that have another meaning. An
// identity header must not be one of these: the gateway removes identity
// headers from requests, and the check sets them in its answers.
var taken = regexp.MustCompile(`^(cookie2?|authorization|host|connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|` +
	`content-.*|set-cookie2?|forwarded|via|expect|origin|referer|range|if-.*|accept(-.*)?|access-control-.*|sec-.*|user-agent|cache-control|` +
	`server|link|status|x-accel-.*|location|vary|date|expires|pragma|age|etag|last-modified|allow|www-authenticate|retry-after|strict-transport-security|` +
	`x-dssauth-.*|x-dku-.*|x-forwarded-(for|host|proto|port|prefix)|x-original-.*|x-(http-)?method.*|x-real-ip)$`)

func header(text string) string {
	switch {
	case !token.MatchString(text):
		return "it is not a header's name: use letters, digits and -, as in Remote-User"
	case taken.MatchString(folded(text)) || headers.Routing[folded(text)]:
		return "this header has a meaning of its own: choose another name, as in Remote-User"
	}
	return ""
}

// cookie checks a name as dssauth.Config.Cookies does.
func cookie(text string) string {
	_, err := path.Match(text, "")
	if err != nil || text == "" || strings.ContainsAny(text, "=;, \t") {
		return `it must be a cookie's name, with * for any characters, as in "dss_*"`
	}
	return ""
}

func loginURL(text string) string {
	const back = "{back}"
	start := strings.IndexAny(text, "?#")
	if start < 0 {
		start = len(text)
	}
	filled := strings.ReplaceAll(text[start:], back, "back")
	switch {
	case strings.Contains(text[:start], back):
		return "{back} must stand in the query or the fragment, as in /login?back={back}"
	case strings.ContainsAny(text[:start]+filled, "{}"):
		return "between braces only {back} is known, as in /login?back={back}"
	case strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' || c == '\\' }):
		return "a URL has ASCII only, without spaces and backslashes: write others percent-encoded"
	}
	if strings.HasPrefix(text, "/") {
		u, err := url.Parse(text[:start] + filled)
		if err != nil || u.Host != "" || strings.HasPrefix(text, "//") {
			return "it must be a path, as in /login?back={back}, or begin with https:// and a host"
		}
		return ""
	}
	if _, err := httpURL(text[:start] + filled); err != nil {
		return err.Error()
	}
	return ""
}

func readRules(c *Config, e entry) {
	const example = "[{path: /, allow: signed-in}]"
	elements, ok := e.list(example)
	if !ok {
		return
	}
	if len(elements) == 0 {
		e.wrong("the list is empty: fill it, as in %s", example)
		return
	}
	read := make([]ruleEntry, len(elements))
	for i, element := range elements {
		read[i] = readRule(element)
		c.Rules = append(c.Rules, read[i].rule)
	}
	var err error
	c.Set, err = rules.New(c.Rules)
	for _, err := range each(err) {
		var mistake *rules.Error
		switch {
		case !errors.As(err, &mistake):
			e.wrong("%v", err)
		case mistake.Index >= 0 && mistake.Index < len(read):
			read[mistake.Index].wrong(mistake.Field, mistake.Problem)
		// This rule may be the one whose path could not be read, which was
		// reported.
		case !slices.ContainsFunc(read, func(r ruleEntry) bool { return r.bad && r.rule.Path == "" }):
			e.wrong("%s", mistake.Problem)
		}
	}
}

// each returns the errors that errors.Join joined.
func each(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// ruleEntry is a rule as it was read.
type ruleEntry struct {
	entry
	rule   rules.Rule
	fields map[string]entry
	bad    bool // a part could not be read, and that was reported
}

func readRule(e entry) ruleEntry {
	r := ruleEntry{entry: e, fields: map[string]entry{}}
	before := len(e.mistakes)
	for _, member := range e.members([]string{"path", "methods", "allow", "groups", "project"}) {
		key := member.field[strings.LastIndexByte(member.field, '.')+1:]
		r.fields[key] = member
		switch key {
		case "path":
			member.into(&r.rule.Path, anything)
		case "methods":
			r.rule.Methods = member.texts("[GET, POST]", anything)
		case "allow":
			var word string
			member.into(&word, func(text string) string {
				if allows[text] == 0 {
					return "it must be everyone, signed-in or nobody"
				}
				return ""
			})
			r.rule.Allow = allows[word]
		case "groups":
			r.rule.Groups = member.texts("[administrators]", anything)
		case "project":
			member.into(&r.rule.Project, anything)
		}
	}
	r.bad = len(e.mistakes) > before
	return r
}

// wrong reports a mistake in a field of the rule, or in the whole rule. It does
// nothing if the same mistake was reported when the rule was read.
func (r ruleEntry) wrong(field, problem string) {
	at, given := r.fields[field]
	if !given {
		at = r.entry
	}
	if !given && field != "" {
		at.field += "." + field
	}
	// A field that could not be read looks like a missing one.
	zero := map[string]bool{"": true, "path": r.rule.Path == "", "groups": r.rule.Groups == nil, "methods": r.rule.Methods == nil}
	if !r.bad || !zero[field] {
		at.wrong("%s", problem)
	}
}

var allows = map[string]rules.Allow{"everyone": rules.Everyone, "signed-in": rules.SignedIn, "nobody": rules.Nobody}
