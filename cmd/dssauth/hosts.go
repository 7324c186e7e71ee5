package main

import (
	"net"
	"net/netip"
	"strings"

	"github.com/dssauth/dssauth/internal/loopback"
)

// setApp reports whether a URL is the address of an application.
func (o *options) setApp(url string) bool {
	o.app = asSite(strings.TrimSpace(url))
	return o.app.host != "" && (o.app.scheme == "http" || o.app.scheme == "https")
}

// name is the host without its port: cookies do not know ports.
func (a site) name() string {
	host := a.host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if address, err := netip.ParseAddr(host); err == nil {
		return address.String() // as browsers write it
	}
	return host
}

// hostNames finds out whether browsers send DSS's session cookie to the application.
func (d *doctor) hostNames(known bool) {
	const check = "host names"
	if d.app.host == "" {
		d.report.skipped(check, "to check whether browsers send DSS's session cookie to the application, add -app-url with the application's address")
		return
	}
	// The paste has the address at which browsers find DSS. We may know DSS by another
	// name.
	inBrowser, pasted := asSite(d.client.URL()), d.copied.to
	// A name with a dot at its end is another host to browsers. Our own has one only to
	// keep search domains away.
	inBrowser.host = strings.TrimSuffix(inBrowser.name(), ".")
	toApp := pasted.name() == d.app.name() && (pasted.scheme == "" || pasted.scheme == d.app.scheme)
	if pasted.host != "" && !toApp {
		inBrowser = pasted
	}
	app, browser := list([]string{d.app.name()}), list([]string{inBrowser.name()})
	arrived := known && toApp
	parent := sharedDomain(d.app.name(), inBrowser.name())
	const move = "Serve both under one host name, for example behind one reverse proxy; their ports may differ."
	switch {
	case d.app.scheme == "http" && inBrowser.scheme == "https" && !arrived && inBrowser.name() == d.app.name() && !loopback.Is(d.app.name()):
		d.report.problem(check, "the application and DSS share "+app+", but DSS is at https and the application is not",
			"DSS under https marks its session cookie as Secure, and browsers then do not send it over http. Serve the application over https, too.")
	case inBrowser.name() == d.app.name():
		d.report.ok(check, "the application and DSS share "+app, "Browsers send DSS's session cookie to both; cookies do not know ports.")
	case arrived:
		d.report.ok(check, "the application is at "+app+", and DSS at "+browser+", but the paste is from a request to the application, and its cookies are a user's",
			"Either browsers reach DSS by the application's host name, or the session cookie has a Domain that covers both.")
	case d.inside() && pasted.host == "":
		d.report.skipped(check, "the application is at "+app+", and inside DSS we do not know the address at which browsers find DSS: paste a request to DSS with “Copy as cURL”")
	case parent != "":
		d.report.skipped(check, "the application is at "+app+", and DSS at "+browser+": browsers send DSS's session cookie to the application only if it has a Domain "+
			"that covers both, such as "+list([]string{parent})+". That is not the default, and a request to DSS does not show it. Paste one that the browser "+
			"sends to the application, with “Copy as cURL”, to find out. "+move)
	default:
		d.report.problem(check, "the application is at "+app+", and DSS at "+browser,
			"If browsers find DSS under that name, they do not send its session cookie to the application, since the names have no common domain. "+move)
	}
}

// sharedDomain returns the longest common domain of two names, or "". Browsers refuse a
// Domain that is a public suffix: one label never counts.
func sharedDomain(a, b string) string {
	if isAddress(a) || isAddress(b) {
		return ""
	}
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	n := 0
	for n < len(as) && n < len(bs) && as[len(as)-1-n] == bs[len(bs)-1-n] {
		n++
	}
	if n < 2 {
		return ""
	}
	return strings.Join(as[len(as)-n:], ".")
}

func isAddress(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}
