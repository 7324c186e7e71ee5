// Package config reads the gateway's settings from a file, from variables and
// from flags.
//
// One table lists all settings. A flag wins over a variable, and a variable over the
// file. All mistakes are reported at once, one on a line, up to 100. Each names the
// file and the line in it, the variable or the flag.
package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/gateway/internal/rules"
)

// Config has all settings, checked. Settings that are not given have their
// defaults.
type Config struct {
	// Listen is host:port. If it is not set, it is 127.0.0.1:8080, or in a Code
	// Studio the address that [dss.CodeStudio] returns for port 8080.
	Listen string
	TLS    struct{ Certificate, Key string } // files: both or none
	// Upstream has a scheme and a host, and nothing else. Nil: only the check is served.
	Upstream *url.URL
	Check    string         // the path of the check, below /dssauth/
	Proxies  []netip.Prefix // those that may ask the check; empty: none may
	Rules    []rules.Rule
	Set      *rules.Set // made of Rules
	Headers  struct{ User, Groups, Name, Email string }
	// Assertion is nil where none is sent.
	Assertion          *Assertion
	DSSCookies         []string // as dssauth.Config.Cookies has them; nil: not set
	ForwardCredentials bool
	// LoginURL is a path, a whole URL or empty. After its ? or # it can hold
	// {back}, which stands for the escaped path to come back to.
	LoginURL    string
	TTL         time.Duration // zero: the library's
	UserDetails bool
	// Impersonation is how DSS is asked as the visitor, for rules with a project.
	Impersonation dssauth.Impersonation
	Metrics       string        // host:port of a listener of its own; empty: none
	Shutdown      time.Duration // how long requests may take to end at a stop

	places map[string]string
}

// Place returns where a setting was given, for errors, as in gateway.yaml:3:
// tls.key, or flag -tls.key.
func (c Config) Place(setting string) string {
	if place, ok := c.places[setting]; ok {
		return place
	}
	return setting
}

// Assertion is what the signed assertion says, and the files of the keys that sign it.
type Assertion struct {
	Issuer, Audience string
	KeyFiles         []string // nil: not set
}

// Command has the parts of a command line that are not settings.
type Command struct {
	File          string // -config or DSSAUTH_CONFIG; empty: no file is read
	Check         bool   // -check-config
	Help, Version bool   // -help, -version
	// Warnings are about variables that begin with DSSAUTH_ and name no
	// setting.
	Warnings []string
}

// Load reads args, as in os.Args[1:], environ, as in os.Environ(), and the file
// that they name. Its error has a line for each mistake, and shows nothing that
// could be a credential. In a Code Studio the default of listen comes from the
// process's own variables, not from environ. With -help or -version no setting
// is read.
func Load(args, environ []string) (Config, Command, error) {
	r := &reader{found: map[string]entry{}}
	command, flags := r.flags(args)
	if command.Help || command.Version {
		return Config{}, command, nil
	}
	variables := map[string]string{}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		variables[name] = value
	}
	if command.File == "" {
		command.File = variables[variableOf("config")]
	}
	// In this order: what comes later wins.
	if command.File != "" {
		r.file(command.File)
	}
	command.Warnings = r.variables(variables)
	for _, s := range settings {
		if text, given := flags[s.name]; given {
			r.give(s.name, "flag -"+s.name, text)
		}
	}

	var c Config
	for _, s := range settings {
		e, ok := r.found[s.name]
		if !ok && s.fallback != "" {
			e = entry{reader: r, origin: "the default of " + s.name, field: s.name}
			e.node, _ = s.node(s.fallback)
		}
		if e.node != nil {
			s.read(&c, e)
		}
	}
	r.together(&c, command.File)
	if len(r.mistakes) > maxMistakes {
		r.mistakes = append(r.mistakes[:maxMistakes], errors.New("there are more mistakes: these are the first 100"))
	}
	if len(r.mistakes) > 0 {
		return Config{}, command, errors.Join(r.mistakes...)
	}
	c.places = map[string]string{}
	for name, e := range r.found {
		if c.places[name] = e.origin; e.line > 0 {
			c.places[name] = fmt.Sprintf("%s:%d: %s", e.origin, e.line, name)
		}
	}
	return c, command, nil
}

// together checks settings that depend on each other.
func (r *reader) together(c *Config, file string) {
	if !r.has("listen") {
		addr, _, err := dss.CodeStudio(8080)
		if err != nil {
			r.mistakes = append(r.mistakes, fmt.Errorf("listen: it is not set, and the default does not fit: %w", err))
		}
		c.Listen = addr
	}
	r.allOf("tls.certificate", "tls.key")
	r.allOf("assertion.issuer", "assertion.audience")
	if r.has("assertion.key_files") && !r.has("assertion.issuer") && !r.has("assertion.audience") {
		r.found["assertion.key_files"].wrong("assertion.issuer and assertion.audience are missing: set them, or leave this out")
	}

	if c.Metrics != "" && overlap(c.Listen, c.Metrics) {
		r.found["metrics"].refuse(c.Metrics, "listen has this address: choose another port")
	}
	if c.Upstream != nil && isLoopback(c.Upstream.Hostname()) && overlap(c.Listen, hostAndPort(c.Upstream)) {
		r.found["upstream"].refuse(c.Upstream.String(), "this is the gateway's own address (listen): give the application's")
	}

	names := []struct{ field, header string }{
		{"headers.user", c.Headers.User}, {"headers.groups", c.Headers.Groups}, {"headers.name", c.Headers.Name}, {"headers.email", c.Headers.Email},
	}
	for i, a := range names {
		for _, b := range names[:i] {
			if a.header == "" || folded(a.header) != folded(b.header) {
				continue
			}
			given, other := a, b
			if !r.has(a.field) {
				given, other = b, a // a has its default
			}
			r.found[given.field].refuse(given.header, fmt.Sprintf("a program may read it as %s, which is %s: choose another name", other.header, other.field))
		}
	}

	if !r.has("rules") && !r.unread {
		where := "no file was named by -config"
		if file != "" {
			where = file
		}
		r.mistakes = append(r.mistakes, fmt.Errorf("%s: rules: there are none: add some, as in rules: [{path: /, allow: signed-in}]", where))
	}
}

// allOf reports a mistake if only some of these settings are given.
func (r *reader) allOf(names ...string) {
	for _, there := range names {
		for _, missing := range names {
			if r.has(there) && !r.has(missing) {
				r.found[there].wrong("%s is missing: set both, or none", missing)
			}
		}
	}
}

// overlap reports whether listeners on a and b, each host:port, would conflict.
func overlap(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	if portA != portB || portA == "0" {
		return false
	}
	addrA, addrB := hostAddr(hostA), hostAddr(hostB)
	return hostA == hostB || addrA == addrB && addrA.IsValid() || addrA.IsUnspecified() || addrB.IsUnspecified()
}

// hostAddr returns host as an address. For a name other than localhost it
// returns the zero Addr.
func hostAddr(host string) netip.Addr {
	switch strings.ToLower(host) {
	case "":
		return netip.IPv6Unspecified()
	case "localhost":
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	addr, _ := netip.ParseAddr(host)
	return addr.Unmap()
}

func isLoopback(host string) bool { return hostAddr(host).IsLoopback() }

func hostAndPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}
