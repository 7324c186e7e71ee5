package dssauth

import (
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"strconv"
	"time"
)

// refuser decides what a refused visitor sees.
type refuser struct {
	vary     []string // the names of the identifying headers; shared by all responses
	loginURL func(r *http.Request, back string) string
	onError  func(http.ResponseWriter, *http.Request, error)
	told     *observer
}

// notice is for WriteRefusal. OnError gets it in the context of its request.
type notice struct {
	login string // URL of the sign-in page; empty: none
	ofKey bool   // the caller is an API key without a user
}

type noticeKey struct{}

// noticeOf returns the notice in r's context, or nil if r is not being refused.
func noticeOf(r *http.Request) *notice {
	if r == nil {
		return nil
	}
	n, _ := r.Context().Value(noticeKey{}).(*notice)
	return n
}

// refuse answers a request that must not reach its handler.
func (d *refuser) refuse(w http.ResponseWriter, r *http.Request, err error, with *notice) {
	tellRefusal(r.Context(), err)
	d.told.refused(r, err)
	addVary(w.Header(), d.vary)
	setRefusalHeaders(w.Header(), err)
	if StatusCode(err) == http.StatusUnauthorized {
		keepMarks(w.Header())
	}
	a := howAsked(r)
	login, back := d.login(r, a, err)
	with.login = login
	drain(w, r)
	if login != "" && StatusCode(err) == http.StatusUnauthorized && (a == page || a == part) && markPage(w, r, back) {
		if a == page {
			http.Redirect(w, r, login, http.StatusFound)
			return
		}
		w.Header().Set("HX-Redirect", login) // htmx follows it with any status
	}
	if d.onError != nil {
		d.onError(w, r, err)
		return
	}
	WriteRefusal(w, r, err)
}

// login returns the URL where the sender of r can sign in after err, and the way back
// from there. It returns "" if signing in cannot help, and if neither a person nor htmx
// would follow it.
func (d *refuser) login(r *http.Request, a asking, err error) (login, back string) {
	follows := a.byPerson()
	switch StatusCode(err) {
	case http.StatusUnauthorized:
		follows = follows || a == part && has(r.Header, "HX-Request")
	case http.StatusForbidden: // as somebody else
	default:
		return "", ""
	}
	if d.loginURL == nil || !follows {
		return "", ""
	}
	back = a.wayBack(r)
	return d.loginURL(r, back), back
}

func setRefusalHeaders(h http.Header, err error) {
	h.Set("Cache-Control", "no-store")
	h.Del("Content-Length") // of the page that the handler meant to write; a redirect keeps it
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

// WriteRefusal answers a request with err's status. A person who opened a page or sent
// a form gets a small page; other senders get problem details (RFC 9457). Both reveal
// only the kind of err. A nil err is a mistake of the application, a 500.
//
// It is the default of [Config.OnError], and such a function may call it. Pass it the
// request that the function got: then the page links to the sign-in page. Elsewhere use
// [Middleware.Refuse]. A nil request counts as a program's.
//
// WriteRefusal keeps a Content-Encoding, since a compressing middleware in front may
// have set it. A handler that has set it itself removes it first.
func WriteRefusal(w http.ResponseWriter, r *http.Request, err error) {
	if err == nil { // neither a reason to refuse nor to admit
		err = errMistake
	}
	status := StatusCode(err)
	text := refusalTexts[status]
	with := noticeOf(r)
	if with == nil {
		with = &notice{ofKey: errors.Is(err, errAPIKey)}
	}
	switch {
	case with.ofKey && status == http.StatusForbidden:
		text = refusalOfKey
	case errors.Is(err, errProjectKey):
		text = refusalOfAddress
	case errors.Is(err, errMayNotAct):
		text = refusalOfApplication
	case status == http.StatusServiceUnavailable:
		text.Detail += " Try again in " + seconds(retrySeconds(err)) + "."
	}
	h := w.Header()
	setRefusalHeaders(h, err)
	h.Add("Vary", "Accept")
	h.Add("Vary", "Sec-Fetch-Mode")
	h.Set("X-Content-Type-Options", "nosniff")
	if a := howAsked(r); a.byPerson() {
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'")
		w.WriteHeader(status)
		_ = refusalPage.Execute(w, refusalPageData{
			refusalText: text, Status: status, Login: with.login, Lost: !isRead(r), Framed: a == frame,
		})
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

func seconds(n int) string {
	if n == 1 {
		return "a second"
	}
	return strconv.Itoa(n) + " seconds"
}

type refusalText struct{ Mark, Title, Detail string }

type refusalPageData struct {
	refusalText
	Status int
	Login  string // where to sign in
	Lost   bool   // a form's data: no link sends it again
	Framed bool   // in a frame of another site, where signing in has no effect
}

var refusalTexts = map[int]refusalText{
	http.StatusUnauthorized: {"Signed out", "You are not signed in",
		"Sign in to Dataiku DSS in this browser, then try again."},
	http.StatusForbidden: {"No access", "You may not open this",
		"You are signed in to Dataiku DSS, but neither you nor your groups have access here. Ask the owner of this application for access."},
	http.StatusServiceUnavailable: {"Not now", "We cannot check who you are right now",
		"Dataiku DSS did not answer. Nothing is wrong with your account."},
	http.StatusNotFound: {"Not found", "There is nothing here",
		"This does not exist in Dataiku DSS, or you may not see it."},
	http.StatusInternalServerError: {"Mistake", "This application made a mistake",
		"It is not your fault, and signing in again does not help. Tell the owner of this application."},
	http.StatusBadGateway: {"Unexpected", "Dataiku DSS gave an unexpected answer",
		"This application cannot use that answer. If this happens again, tell the owner of this application."},
	http.StatusBadRequest: {"Unreadable", "Your browser sent something unreadable",
		"The address, or a header that says who you are, such as Authorization, is malformed. Change it in the link, program, proxy or browser extension that it comes from."},
	http.StatusRequestHeaderFieldsTooLarge: {"Too much", "Your browser sent too much",
		"The cookies and credentials in this request are too large. Delete this site's cookies, sign in to Dataiku DSS and try again."},
}

// refusalOfAddress is for a 400 that the address caused, and no header.
var refusalOfAddress = refusalText{"Unreadable", "This address names no project",
	"The key of a project in Dataiku DSS has letters, digits and underscores only. Check the address."}

// refusalOfApplication is for a 503 that waiting does not end.
var refusalOfApplication = refusalText{"Not now", "This application may not act as you",
	"Dataiku DSS does not let this application act as its visitors. Tell the owner of this application."}

// refusalOfKey is for a 403 to an API key without a user: it has no groups.
var refusalOfKey = refusalText{"No access", "This API key may not open this",
	"It does not belong to a user of Dataiku DSS. Use the personal API key of a user, or ask the owner of this application for access."}

var refusalPage = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
<style>
:root { color-scheme: light dark; --ground: #f4f5f7; --card: #fff; --line: #dfe2e8; --text: #1b2230; --quiet: #5b6577; --accent: #0b6e75; --on-accent: #fff; --mark: #a33a10; --mark-bg: #fdebe2 }
.s401 { --mark: #0b6e75; --mark-bg: #def1f2 }
.s503 { --mark: #9c1c3a; --mark-bg: #fce5ea }
@media (prefers-color-scheme: dark) {
:root { --ground: #14171c; --card: #1d2129; --line: #333a46; --text: #e8ebf1; --quiet: #9aa5b8; --accent: #4fc3c9; --on-accent: #0c1a1b; --mark: #f2a37e; --mark-bg: #3b2117 }
.s401 { --mark: #4fc3c9; --mark-bg: #12363a }
.s503 { --mark: #ff9db1; --mark-bg: #401a25 }
}
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.25rem; background: var(--ground); color: var(--text); font: 1rem/1.55 system-ui, sans-serif }
main { width: 100%; max-width: 30rem; padding: 1.75rem; background: var(--card); border: 1px solid var(--line); border-radius: .9rem }
.mark { display: inline-block; margin: 0 0 .9rem; padding: .1rem .7rem; border-radius: 1rem; background: var(--mark-bg); color: var(--mark); font-size: .85rem; font-weight: 650 }
h1 { margin: 0 0 .6rem; font-size: 1.5rem; line-height: 1.25; letter-spacing: -.015em; text-wrap: balance }
p { margin: 0 0 .75rem; text-wrap: balance }
.ways { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1.4rem 0 0 }
.ways:empty { display: none }
a { padding: .45rem 1rem; border: 1px solid var(--line); border-radius: .6rem; color: inherit; font-weight: 600; text-decoration: none }
a:hover { border-color: var(--accent); color: var(--accent) }
a.main { background: var(--accent); border-color: var(--accent); color: var(--on-accent) }
a.main:hover { filter: brightness(1.08) }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
</style>
</head>
<body>
<main class="s{{.Status}}">
<p class="mark">{{.Mark}}</p>
<h1>{{.Title}}</h1>
<p>{{.Detail}}</p>
{{- if and .Framed (eq .Status 401)}}
<p>Another site shows this page in a frame, and browsers keep nobody signed in there. Open it outside the frame.</p>
{{- end}}
{{- if .Lost}}
<p>Nothing was saved. Use your browser’s “back” to see the form again.</p>
{{- end}}
<p class="ways">
{{- with .Login}}<a class="main" href="{{.}}"{{if $.Framed}} target="_top"{{end}}>{{if eq $.Status 403}}Use another account{{else}}Sign in{{end}}</a>{{end}}
{{- if not .Lost}}<a href=""{{if .Framed}} target="_top"{{end}}>{{if .Framed}}Open outside the frame{{else}}Try again{{end}}</a>{{end -}}
</p>
</main>
</body>
</html>
`))
