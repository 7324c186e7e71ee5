package dssauth

import (
	"net/http"
	"net/url"
	"strings"
)

// asking is the way in which a request was sent. It decides the form of a refusal.
type asking int

const (
	other asking = iota
	page
	part
	guess
	form
	frame
)

// howAsked returns the way in which r was sent; for nil it is other. The first row
// whose conditions hold counts.
//
//	kind  | the request                                           | if its sender is not signed in
//	------+-------------------------------------------------------+---------------------------------------------
//	other | Upgrade                                               | 401 with problem details
//	guess | Sec-Purpose or Purpose with "prefetch", HX-Preloaded  | the same: nobody looks at it yet
//	part  | HX-Request, Turbo-Frame, X-Turbo-Request-Id,          | the same, and for HX-Request an HX-Redirect
//	      | X-Up-Version, X-Inertia                               |
//	other | Accept without text/html; a Sec-Fetch-Mode other than | 401 with problem details
//	      | navigate                                              |
//	frame | isInForeignFrame                                      | the page, whose links leave the frame
//	page  | GET or HEAD without X-Requested-With                  | redirect to Config.LoginURL, else the page
//	form  | Sec-Fetch-Mode: navigate                              | the page
//	other | all else                                              | 401 with problem details
//
// Over plain http browsers send no Sec-Fetch-*, and no other header tells a form from a
// program.
func howAsked(r *http.Request) asking {
	if r == nil || r.Header.Get("Upgrade") != "" {
		return other
	}
	h := r.Header
	mode := h.Get("Sec-Fetch-Mode")
	switch {
	case has(h, "HX-Preloaded") || isPrefetch(h):
		return guess
	case has(h, "HX-Request", "Turbo-Frame", "X-Turbo-Request-Id", "X-Up-Version", "X-Inertia"):
		return part
	case !acceptsHTML(h) || mode != "" && mode != "navigate":
		return other
	case isInForeignFrame(h):
		return frame
	case isRead(r) && !has(h, "X-Requested-With"):
		return page
	case mode == "navigate":
		return form
	}
	return other
}

// byPerson reports whether a person looks at the answer.
func (a asking) byPerson() bool { return a == page || a == form || a == frame }

// isRead reports whether sending r again changes nothing.
func isRead(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// has reports whether h has one of these headers.
func has(h http.Header, names ...string) bool {
	for _, name := range names {
		if h.Get(name) != "" {
			return true
		}
	}
	return false
}

// isPrefetch reports whether a browser asks ahead: the visitor may never come.
func isPrefetch(h http.Header) bool {
	for _, name := range []string{"Sec-Purpose", "Purpose"} {
		if strings.Contains(strings.ToLower(h.Get(name)), "prefetch") { // "prefetch;prerender"
			return true
		}
	}
	return false
}

// isInForeignFrame reports whether h asks for a page in a frame of another site. There
// browsers keep no cookie with SameSite=Lax, such as ours, so that nothing ends a loop
// of redirects. A link within such a frame comes from the same origin. But its request
// has a Sec-Fetch-Storage-Access, even if other cookies are kept there; a frame of the
// same site never sends that.
func isInForeignFrame(h http.Header) bool {
	switch h.Get("Sec-Fetch-Dest") {
	case "iframe", "frame", "embed", "object":
		return h.Get("Sec-Fetch-Site") == "cross-site" || has(h, "Sec-Fetch-Storage-Access")
	}
	return false
}

// acceptsHTML reports whether h asks for HTML by name: programs send */*.
func acceptsHTML(h http.Header) bool {
	for _, accept := range h["Accept"] {
		for element := range strings.SplitSeq(accept, ",") {
			kind, parameters, _ := strings.Cut(element, ";")
			if strings.EqualFold(trim(kind), "text/html") && !isRefused(parameters) {
				return true
			}
		}
	}
	return false
}

// isRefused reports whether an element of Accept with these parameters has the weight
// 0: the client does not want it at all.
func isRefused(parameters string) bool {
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, weight, _ := strings.Cut(parameter, "=")
		if strings.EqualFold(trim(name), "q") {
			return strings.Trim(trim(weight), "0.") == ""
		}
	}
	return false
}

// isHTTPS reports whether r came over TLS, at least to a proxy in front. Only a header
// says so, and without a proxy the sender can set it: use it only for the attributes of
// the sender's own cookie.
func isHTTPS(r *http.Request) bool {
	proto, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",") // the first proxy's
	return r.TLS != nil || strings.EqualFold(trim(proto), "https")
}

// maxBack bounds the way back; a longer one is replaced by "/".
const maxBack = 2048

// wayBack returns the path and query of the page to which the sender of r wants to
// return after signing in. That is not the address of a part of a page, nor the one to
// which a form is sent.
func (a asking) wayBack(r *http.Request) string {
	switch {
	case a == part:
		return onThisHost(r, r.Header.Get("HX-Current-URL"))
	case !isRead(r):
		return onThisHost(r, r.Header.Get("Referer"))
	}
	return localPath(asSent(r))
}

// onThisHost returns the path and query of the URL ref if its host is that of r, and
// "/" otherwise.
func onThisHost(r *http.Request, ref string) string {
	u, err := url.Parse(ref)
	if err != nil {
		return "/"
	}
	port, web := map[string]string{"https": ":443", "http": ":80"}[u.Scheme]
	if !web || u.Host == "" || !strings.EqualFold(strings.TrimSuffix(u.Host, port), strings.TrimSuffix(r.Host, port)) {
		return "/"
	}
	return localPath(u)
}

// asSent is r's URL as it was before a router stripped a prefix of its path.
func asSent(r *http.Request) *url.URL {
	if sent, err := url.ParseRequestURI(r.RequestURI); err == nil {
		return sent
	}
	return r.URL
}

// localPath returns u's path and query in a form that no browser and no later redirect
// can read as another site's address.
func localPath(u *url.URL) string {
	back := safePath(u)
	if u.RawQuery != "" && isQuery(u.RawQuery) {
		back += "?" + u.RawQuery
	}
	if len(back) > maxBack {
		return "/"
	}
	return back
}

// safePath returns the escaped path of u. It changes a path that begins like another
// site's address, or has parts that browsers rewrite.
func safePath(u *url.URL) string {
	if !printable(u.Path) { // browsers ignore a tab between two slashes
		return "/"
	}
	safe := strings.ReplaceAll(u.Path, `\`, "/") // as browsers do
	safe = "/" + strings.TrimLeft(withoutDotSegments(safe), "/")
	if safe == u.Path {
		return u.EscapedPath()
	}
	return (&url.URL{Path: safe}).EscapedPath()
}

// withoutDotSegments removes "." and ".." from a path, each ".." together with the
// segment before it. It keeps empty segments: "a//b" is another page than "a/b".
func withoutDotSegments(p string) string {
	if !strings.Contains(p, "/.") && !strings.HasPrefix(p, ".") {
		return p
	}
	var kept []string
	for segment := range strings.SplitSeq(p, "/") {
		switch segment {
		case ".":
		case "..":
			kept = kept[:max(0, len(kept)-1)]
		default:
			kept = append(kept, segment)
		}
	}
	return strings.Join(kept, "/")
}

// isQuery reports whether s has only bytes that a query may have unescaped.
func isQuery(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c == '\\' || c == '#' || c == '"' || c == '<' || c == '>' {
			return false
		}
	}
	return true
}
