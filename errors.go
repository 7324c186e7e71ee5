package dssauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dssauth/dssauth/dss"
)

// What a request is refused for. Errors of this package wrap one of these;
// [StatusCode] gives the HTTP status.
var (
	// ErrUnauthenticated means that DSS said nobody is signed in: 401.
	ErrUnauthenticated = errors.New("dssauth: not signed in to DSS")
	// ErrForbidden means that the visitor is known and may not do this: 403.
	ErrForbidden = errors.New("dssauth: not allowed")
	// ErrUnavailable means that DSS could not say who the visitor is: 503.
	ErrUnavailable = errors.New("dssauth: visitor cannot be identified now")
	// ErrMalformed means that the identifying headers make no sense: 400.
	ErrMalformed = errors.New("dssauth: malformed credentials")
	// ErrTooLarge means that the identifying headers are too long: 431.
	ErrTooLarge = errors.New("dssauth: credentials too large")
)

// StatusCode returns the HTTP status for an error of this package: 401, 403,
// 400 or 431; 403 for a [dss.Error] by which DSS forbids something to the
// visitor; 200 for nil, and 503 for every other error.
func StatusCode(err error) int {
	switch {
	case err == nil:
		return http.StatusOK
	case errors.Is(err, ErrUnavailable):
		return http.StatusServiceUnavailable
	case errors.Is(err, ErrUnauthenticated):
		return http.StatusUnauthorized
	case errors.Is(err, ErrForbidden):
		return http.StatusForbidden
	case errors.Is(err, ErrMalformed):
		return http.StatusBadRequest
	case errors.Is(err, ErrTooLarge):
		return http.StatusRequestHeaderFieldsTooLarge
	}
	// What a handler's call as the visitor ended with.
	var reply *dss.Error
	if errors.As(err, &reply) && reply.StatusCode == http.StatusForbidden {
		return http.StatusForbidden
	}
	return http.StatusServiceUnavailable
}

// refusal is one of the errors above, with what an operator wants to know.
type refusal struct {
	kind       error
	why        string
	cause      error
	retryAfter time.Duration
	unasked    bool // DSS was not asked, for want of a place or since it is down
}

func refuse(kind error, why string) error { return &refusal{kind: kind, why: why} }

func unavailable(why string, cause error, retryAfter int64) error {
	return &refusal{kind: ErrUnavailable, why: why, cause: cause, retryAfter: time.Duration(retryAfter)}
}

func (e *refusal) Error() string {
	s := e.kind.Error()
	if e.why != "" {
		s += ": " + e.why
	}
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap leads to the cause of an outage only: what another refusal was
// caused by must not make it look like a second kind of refusal.
func (e *refusal) Unwrap() []error {
	if e.cause == nil {
		return []error{e.kind}
	}
	return []error{e.kind, e.cause}
}

// ownWords is an error that says nothing but what stands in this package.
type ownWords string

func (w ownWords) Error() string { return string(w) }

// foreign is an error of code that is not ours, or not ours alone: of a
// Resolver, a gate, a context's cause. errors.Is and errors.As find it. Its text,
// which can quote what that code saw, is in no text of ours, and its own errors
// are not handed out to be printed.
type foreign struct {
	text  string
	cause func() error // a function, because fmt prints what is in fields
}

// unquoted returns err behind a text of ours; one that is ours, or nil, as it is.
func unquoted(err error) error {
	switch err {
	case nil, context.Canceled, context.DeadlineExceeded:
		return err
	}
	switch err.(type) {
	case *refusal, ownWords:
		return err
	}
	text := fmt.Sprintf("an error of type %T", err)
	var own *refusal
	var reply *dss.Error
	var wire *dss.WireError
	switch {
	case errors.As(err, &own):
		text = own.Error()
	case errors.As(err, &reply):
		text = reply.Error()
	case errors.As(err, &wire):
		text = "dss: " + wire.Error()
	}
	return &foreign{text, func() error { return err }}
}

func (f *foreign) Error() string        { return f.text }
func (f *foreign) Is(target error) bool { return errors.Is(f.cause(), target) }
func (f *foreign) As(target any) bool   { return errors.As(f.cause(), target) }

// inOurWords is an error of a Resolver that wraps ErrUnauthenticated or
// ErrUnavailable, without what it says beside that.
func inOurWords(err error) error {
	if _, ok := err.(*refusal); ok || err == ErrUnauthenticated || err == ErrUnavailable {
		return err
	}
	said := &refusal{kind: ErrUnavailable, why: "the resolver says so", cause: unquoted(err)}
	if errors.Is(err, ErrUnauthenticated) {
		said.kind = ErrUnauthenticated
	}
	var own *refusal
	if errors.As(err, &own) {
		said.retryAfter = own.retryAfter
	}
	return said
}

var (
	errNoCredentials = refuse(ErrUnauthenticated, "the request has no credentials")
	errAnonymous     = refuse(ErrUnauthenticated, "NewContext said that the visitor is anonymous")
	errClosed        = refuse(ErrUnavailable, "this Middleware is closed")
	errAPIKey        = refuse(ErrForbidden, "the caller is an API key without a user: set Config.AllowAPIKeys to admit it")
)

// refuse answers a request that must not reach its handler.
func (m *Middleware) refuse(w http.ResponseWriter, r *http.Request, err error) {
	m.hookRefused(r, err)
	m.refusalHeaders(w.Header(), err)
	login := m.loginTarget(r, err)
	switch {
	case login != "" && !justRedirected(r):
		redirectToLogin(w, r, login)
	case m.onError != nil:
		m.onError(w, r, err)
	default:
		writeRefusal(w, r, err, login)
	}
}

func (m *Middleware) refusalHeaders(h http.Header, err error) {
	addVary(h, m.vary)
	setRefusalHeaders(h, err)
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

// Refuse answers a request with err's status: a small page for a browser's
// page navigation, problem details (RFC 9457) for everybody else. Neither
// tells more than the kind of err. It is the default of [Config.OnError]. The
// request is read to tell a browser's navigation; nil is none.
func Refuse(w http.ResponseWriter, r *http.Request, err error) { writeRefusal(w, r, err, "") }

// writeRefusal is Refuse with a page that leads to sign in, if login is given.
func writeRefusal(w http.ResponseWriter, r *http.Request, err error, login string) {
	if err == nil { // no reason to refuse, and none to admit
		err = ErrUnavailable
	}
	status := StatusCode(err)
	text := refusalTexts[status]
	h := w.Header()
	setRefusalHeaders(h, err)
	h.Add("Vary", "Accept")
	h.Add("Vary", "Sec-Fetch-Mode")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Del("Content-Length")
	h.Del("Content-Encoding")
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
	http.StatusBadRequest: {"Your browser sent something unreadable",
		"The credentials in this request are malformed. Delete this site's cookies, sign in to Dataiku DSS and try again."},
	http.StatusRequestHeaderFieldsTooLarge: {"Your browser sent too much",
		"The cookies and credentials in this request are too large. Delete this site's cookies, sign in to Dataiku DSS and try again."},
}

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

// gateError is what a request is refused with where a gate said err.
func gateError(err error) error {
	if errors.Is(err, ErrForbidden) {
		return err
	}
	return unavailable("a gate failed", unquoted(err), 0)
}
