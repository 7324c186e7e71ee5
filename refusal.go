package dssauth

import (
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
)

// refuser decides what a refused visitor sees.
type refuser struct {
	vary     []string // the names of the identifying headers; shared by all responses
	loginURL func(r *http.Request, back string) string
	onError  func(http.ResponseWriter, *http.Request, error)
	told     *observer
}

// notice is what WriteRefusal is told by the context of the request that OnError
// gets, and passes on.
type notice struct {
	login string // where to sign in; empty: nowhere
	ofKey bool   // the caller is an API key without a user
}

type noticeKey struct{}

// noticeOf returns what goes with r, or nil where r is not being refused.
func noticeOf(r *http.Request) *notice {
	if r == nil {
		return nil
	}
	n, _ := r.Context().Value(noticeKey{}).(*notice)
	return n
}

// refuse answers a request that must not reach its handler.
func (d *refuser) refuse(w http.ResponseWriter, r *http.Request, err error, with *notice) {
	d.told.refused(r, err)
	addVary(w.Header(), d.vary)
	setRefusalHeaders(w.Header(), err)
	with.login = d.loginTarget(r, err)
	drain(w, r)
	switch {
	case with.login != "" && !justRedirected(r):
		redirectToLogin(w, r, with.login)
	case d.onError != nil:
		d.onError(w, r, err)
	default:
		WriteRefusal(w, r, err)
	}
}

func setRefusalHeaders(h http.Header, err error) {
	h.Set("Cache-Control", "no-store")
	switch StatusCode(err) {
	case http.StatusUnauthorized:
		// Not Basic, which makes browsers ask for a password.
		h.Set("WWW-Authenticate", "Bearer")
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", strconv.Itoa(retrySeconds(err)))
	}
}

func retrySeconds(err error) int {
	var e *refusal
	if errors.As(err, &e) && e.retryAfter > time.Second {
		return int((e.retryAfter + time.Second - 1) / time.Second)
	}
	return 1
}

// WriteRefusal answers a request with err's status: a small page for a browser's
// page navigation, problem details (RFC 9457) for everybody else. Neither
// tells more than the kind of err; nil is a mistake of the application, a 500.
//
// It is the default of [Config.OnError], and for use in such a function: given
// the request that the function got, the page leads to where the visitor can sign
// in. Elsewhere use [Middleware.Refuse]. A nil request is no browser's.
//
// A Content-Encoding stays, since it may be that of a middleware in front which
// compresses. A handler that has set it itself removes it first.
func WriteRefusal(w http.ResponseWriter, r *http.Request, err error) {
	if err == nil { // no reason to refuse, and none to admit
		err = errMistake
	}
	status := StatusCode(err)
	text := refusalTexts[status]
	var login string
	if with := noticeOf(r); with != nil {
		login = with.login
		if with.ofKey && status == http.StatusForbidden {
			text = refusalOfKey
		}
	}
	h := w.Header()
	setRefusalHeaders(h, err)
	h.Add("Vary", "Accept")
	h.Add("Vary", "Sec-Fetch-Mode")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Del("Content-Length")
	if isNavigation(r) {
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'")
		w.WriteHeader(status)
		_ = refusalPage.Execute(w, refusalPageData{text, login})
		return
	}
	h.Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{"about:blank", http.StatusText(status), status, text.Detail})
}

type refusalText struct{ Title, Detail string }

type refusalPageData struct {
	refusalText
	Login string
}

var refusalTexts = map[int]refusalText{
	http.StatusUnauthorized: {"You are not signed in",
		"Sign in to Dataiku DSS in this browser, then try again."},
	http.StatusForbidden: {"You may not open this",
		"You are signed in to Dataiku DSS, but your groups do not give access here. Ask the owner of this application for access."},
	http.StatusServiceUnavailable: {"We cannot check who you are right now",
		"Dataiku DSS did not answer. Nothing is wrong with your account. Try again in a moment."},
	http.StatusNotFound: {"There is nothing here",
		"Dataiku DSS does not have what you asked for, or does not show it to you."},
	http.StatusInternalServerError: {"This application made a mistake",
		"It is not your fault, and signing in again does not help. Tell the owner of this application."},
	http.StatusBadGateway: {"Dataiku DSS gave an unexpected answer",
		"This application cannot go on with it. If this happens again, tell the owner of this application."},
	http.StatusBadRequest: {"Your browser sent something unreadable",
		"A header that says who you are, such as Authorization, is malformed. It comes from a program, a proxy or a browser extension: change it there."},
	http.StatusRequestHeaderFieldsTooLarge: {"Your browser sent too much",
		"The cookies and credentials in this request are too large. Delete this site's cookies, sign in to Dataiku DSS and try again."},
}

// refusalOfKey is that of a 403 to an API key without a user, which has no groups.
var refusalOfKey = refusalText{"This API key may not open this",
	"It belongs to no user of Dataiku DSS. Use the personal API key of a user, or ask the owner of this application for access."}

var refusalPage = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
<style>
:root { color-scheme: light dark }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; font: 1rem/1.6 system-ui, sans-serif }
main { max-width: 32rem; padding: 2rem }
h1 { font-size: 1.5rem; line-height: 1.3; margin: 0 0 .75rem }
p { margin: 0 0 1.5rem }
a { color: inherit }
</style>
</head>
<body>
<main>
<h1>{{.Title}}</h1>
<p>{{.Detail}}</p>
{{with .Login}}<a href="{{.}}">Sign in</a> · {{end}}<a href="">Try again</a>
</main>
</body>
</html>
`))

// isNavigation reports whether a person's browser asked for a page, rather
// than a script or a program for data.
func isNavigation(r *http.Request) bool {
	if r == nil || r.Method != http.MethodGet && r.Method != http.MethodHead || r.Header.Get("Upgrade") != "" {
		return false
	}
	if r.Header.Get("X-Requested-With") != "" || !acceptsHTML(r.Header) {
		return false
	}
	mode := r.Header.Get("Sec-Fetch-Mode")
	return mode == "" || mode == "navigate"
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

// isRefused reports whether an element of Accept with these parameters has the
// weight 0: what is not wanted at all.
func isRefused(parameters string) bool {
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, weight, _ := strings.Cut(parameter, "=")
		if strings.EqualFold(trim(name), "q") {
			return strings.Trim(trim(weight), "0.") == ""
		}
	}
	return false
}

const (
	// redirectPause is how many seconds pass before it is sent there again.
	redirectPause = 30
	// maxBack bounds the return path; a longer one is replaced by "/".
	maxBack = 2048
)

// loginTarget returns where the sender of r can sign in, or "" where that is
// no answer to err: only a person's page navigation can be sent elsewhere.
func (d *refuser) loginTarget(r *http.Request, err error) string {
	if d.loginURL == nil || StatusCode(err) != http.StatusUnauthorized || r.Method != http.MethodGet || !isNavigation(r) {
		return ""
	}
	return d.loginURL(r, localPath(r))
}

// redirectToLogin sends a browser to sign in, and marks it. Where signing in
// does not help, the next refusal must be seen, not looped over.
func redirectToLogin(w http.ResponseWriter, r *http.Request, target string) {
	http.SetCookie(w, &http.Cookie{
		Name: redirectCookie, Value: "1", Path: "/", MaxAge: redirectPause,
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode,
	})
	http.Redirect(w, r, target, http.StatusFound)
}

func justRedirected(r *http.Request) bool {
	_, err := r.Cookie(redirectCookie)
	return err == nil
}

// localPath returns r's path and query in a form that no browser and no
// further redirect can take for another site's address.
func localPath(r *http.Request) string {
	u := asSent(r)
	back := safePath(u)
	if u.RawQuery != "" && isQuery(u.RawQuery) {
		back += "?" + u.RawQuery
	}
	if len(back) > maxBack {
		return "/"
	}
	return back
}

// asSent is r's URL as it was before a router stripped a prefix of its path.
func asSent(r *http.Request) *url.URL {
	if sent, err := url.ParseRequestURI(r.RequestURI); err == nil {
		return sent
	}
	return r.URL
}

// safePath returns the path of u, escaped. One that begins like another site's
// address, or that a browser would rewrite, is cleaned first.
func safePath(u *url.URL) string {
	if !printable(u.Path) { // browsers ignore a tab between two slashes
		return "/"
	}
	escaped := u.EscapedPath()
	asItIs := strings.HasPrefix(escaped, "/") && !strings.HasPrefix(u.Path, "//") && !strings.Contains(u.Path, `\`) &&
		path.Clean(u.Path) == strings.TrimSuffix(u.Path, "/")
	if !asItIs {
		escaped = (&url.URL{Path: path.Clean("/" + strings.ReplaceAll(u.Path, `\`, "/"))}).EscapedPath()
	}
	if !strings.HasPrefix(escaped, "/") || strings.HasPrefix(escaped, "//") {
		return "/"
	}
	return escaped
}

// isQuery reports whether s has only bytes that may stand in a query as they are.
func isQuery(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c == '\\' || c == '#' || c == '"' || c == '<' || c == '>' {
			return false
		}
	}
	return true
}
