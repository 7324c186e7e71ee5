package server

import (
	"maps"
	"net/http"
	"strings"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/gateway/internal/assertion"
	"github.com/dssauth/dssauth/gateway/internal/config"
	"github.com/dssauth/dssauth/gateway/internal/headers"
)

const (
	// assertionHeader carries the signed assertion.
	assertionHeader = "X-Dssauth-Assertion"
	// cookieHeader is a header of the check's answer. It carries the cookies that
	// may pass.
	cookieHeader = "X-Dssauth-Cookie"
)

// identity sets the headers that tell the upstream about a visitor, and removes
// the headers that a browser must not send.
type identity struct {
	names   names
	signer  *assertion.Signer // nil: no assertion
	cookies cookies
	// credentials is true if DSS's cookies and Authorization pass to the
	// upstream.
	credentials bool
	owned       map[string]bool // the names, folded
	removed     map[string]bool // owned and headers.Routing
	// first is true for each byte with which a name to remove can begin. So most
	// names need not be folded.
	first [256]bool
}

// names are the names of the identity headers, in canonical spelling.
type names struct{ user, groups, name, email string }

func newIdentity(c config.Config, signer *assertion.Signer) *identity {
	n := names{
		http.CanonicalHeaderKey(c.Headers.User), http.CanonicalHeaderKey(c.Headers.Groups),
		http.CanonicalHeaderKey(c.Headers.Name), http.CanonicalHeaderKey(c.Headers.Email),
	}
	i := &identity{names: n, signer: signer, cookies: newCookies(c.DSSCookies), credentials: c.ForwardCredentials, owned: map[string]bool{}, removed: maps.Clone(headers.Routing)}
	for _, name := range []string{n.user, n.groups, n.name, n.email} {
		folded := string(headers.Fold(nil, name))
		i.owned[folded], i.removed[folded] = true, true
	}
	starts := map[byte]bool{'x': true} // the names of isReserved begin with it
	for name := range i.removed {
		starts[name[0]] = true
	}
	for c := range i.first {
		i.first[c] = starts[headers.Fold(nil, string([]byte{byte(c)}))[0]]
	}
	return i
}

// said has the header values that tell the upstream about one visitor. A value is
// empty if there is nothing to tell.
type said struct{ user, groups, name, email, assertion string }

// say returns the header values for id. All are empty if the visitor is not
// named.
func (i *identity) say(id dssauth.Identity, named bool) (s said, err error) {
	if !named {
		return said{}, nil
	}
	if i.signer != nil {
		if s.assertion, err = i.signer.Sign(id); err != nil {
			return said{}, err
		}
	}
	s.user, s.name, s.email = encode(id.Login), encode(id.DisplayName), encode(id.Email)
	s.groups = encodeList(id.Groups())
	return s, nil
}

// put sets the headers in h. If all is false, it leaves out empty ones.
func (i *identity) put(h http.Header, s said, all bool) {
	values := []string{s.user, s.groups, s.name, s.email, s.assertion} // one allocation for all
	for n, name := range [...]string{i.names.user, i.names.groups, i.names.name, i.names.email, assertionHeader} {
		if values[n] != "" || all {
			h[name] = values[n : n+1 : n+1]
		}
	}
}

// clean removes from h the headers that a browser must not send, and the
// credentials of DSS unless these may pass.
func (i *identity) clean(h http.Header) {
	var room [48]byte
	for name := range h {
		if name == "" || !i.first[name[0]] {
			continue
		}
		if folded := headers.Fold(room[:0], name); i.removed[string(folded)] || isReserved(folded) {
			delete(h, name)
		}
	}
	if i.credentials {
		return
	}
	delete(h, "Authorization")
	delete(h, "Cookie2") // some servers still read it
	if kept := i.cookies.others(h["Cookie"]); kept != "" {
		h["Cookie"] = []string{kept}
	} else {
		delete(h, "Cookie")
	}
}

// speaksForUs reports whether only the gateway or DSS may send a header with this
// name. It finds all spellings that a server may read as the same name.
func (i *identity) speaksForUs(name string) bool {
	var room [48]byte
	folded := headers.Fold(room[:0], name)
	return i.owned[string(folded)] || isReserved(folded)
}

func isReserved(folded []byte) bool {
	return hasPrefix(folded, "x-dssauth-") || hasPrefix(folded, "x-dku-")
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

func reroutes(name string) bool {
	var room [48]byte
	return headers.Routing[string(headers.Fold(room[:0], name))]
}

// encode makes a text fit for a header. It percent-encodes each byte of UTF-8 that
// is not visible ASCII, the percent sign, and the comma, which separates groups. It
// encodes a space only at the start or the end, where servers cut it off. Any
// decoder for components of URLs restores the text.
func encode(text string) string {
	const digits = "0123456789ABCDEF"
	n := 0
	for n < len(text) && !mustEncode(text, n) {
		n++
	}
	if n == len(text) {
		return text
	}
	var b strings.Builder
	for n := range len(text) {
		if c := text[n]; mustEncode(text, n) {
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func mustEncode(text string, n int) bool {
	c := text[n]
	return c < ' ' || c > '~' || c == '%' || c == ',' || c == ' ' && (n == 0 || n == len(text)-1)
}

func encodeList(groups []string) string {
	switch len(groups) {
	case 0:
		return ""
	case 1:
		return encode(groups[0])
	}
	var b strings.Builder
	b.Grow(64)
	for n, g := range groups {
		if n > 0 {
			b.WriteByte(',')
		}
		b.WriteString(encode(g))
	}
	return b.String()
}
