package main

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// page shows visitors their identity and the routes that they may open.
type page struct {
	ttl    time.Duration
	client *dss.Client
	demo   *demo        // nil with a real DSS
	routes http.Handler // the routes that the page reports on
}

// view is the data of the page's template.
type view struct {
	Head     template.HTML
	SignIn   template.HTML // empty with a real DSS
	Visitor  *visitor      // nil: anonymous, or DSS could not say
	Outage   bool
	Recovers bool // DSS is back, and not yet asked again
	Changed  bool // the groups in DSS have changed since the question
	Routes   []route
	TTL      time.Duration
}

type visitor struct{ dssauth.Identity }

// Asked returns the time of the question to DSS.
func (v visitor) Asked() string {
	if age := time.Since(v.AsOf).Truncate(time.Second); age > 0 {
		return age.String() + " ago"
	}
	return "just now"
}

// Name is the visitor's name for a greeting.
func (v visitor) Name() string { return cmp.Or(v.DisplayName, v.Login) }

// route is one of the application's routes, and the result of a visit to it.
type route struct {
	Path, What, Answer string
	Status             int
}

// Word is the result in one word, and Why in a sentence.
func (r route) Word() string {
	switch r.Status {
	case http.StatusOK:
		return "Open"
	case http.StatusUnauthorized:
		return "Signed out"
	case http.StatusForbidden:
		return "No access"
	case http.StatusServiceUnavailable:
		return "Not now"
	}
	return "Mistake"
}

func (r route) Why() string {
	switch r.Status {
	case http.StatusOK:
		return "open to you"
	case http.StatusUnauthorized:
		return "for signed-in users"
	case http.StatusForbidden:
		return "for the group analysts; you are not in it"
	case http.StatusServiceUnavailable:
		if r.Path == "/as-me" { // or DSS gives this application no right to such calls
			return "DSS allows no call as you now"
		}
		return "DSS gives no answer, so nobody gets in"
	}
	return http.StatusText(r.Status)
}

func (p *page) show(w http.ResponseWriter, r *http.Request, status int) {
	v := view{
		Head:   dsstest.PageHead("Who is browsing?"),
		Outage: status == http.StatusServiceUnavailable,
		TTL:    p.ttl,
		Routes: []route{
			p.visit(r, "/me", "Your identity, as JSON"),
			p.visit(r, "/report", "The analysts' report"),
			p.visit(r, "/as-me", "A call to DSS with your own rights"),
		},
	}
	if v.Outage {
		_, err := p.client.AuthInfo(r.Context())
		v.Recovers = err == nil
	}
	if id, ok := dssauth.FromContext(r.Context()); ok {
		v.Visitor = &visitor{id}
		v.Changed = p.changed(r, id)
	}
	if p.demo != nil {
		v.SignIn = p.demo.fake.SignInControls(r, "/")
	}
	writePage(w, status, v)
}

// changed reports whether the visitor's groups in DSS have changed.
func (p *page) changed(r *http.Request, id dssauth.Identity) bool {
	if p.demo == nil {
		return false
	}
	now, err := p.client.AuthInfoFromBrowserHeaders(r.Context(), http.Header{"Cookie": r.Header["Cookie"]})
	return err == nil && now.Login() == id.Login && !slices.Equal(now.Groups, id.Groups())
}

// visit opens another route as r's visitor, so that the page shows the real
// result.
func (p *page) visit(r *http.Request, path, what string) route {
	visit := httptest.NewRequestWithContext(r.Context(), http.MethodGet, path, nil)
	for _, name := range []string{"Cookie", "Authorization"} {
		visit.Header[name] = r.Header[name]
	}
	rec := httptest.NewRecorder()
	p.routes.ServeHTTP(rec, visit)

	var answer bytes.Buffer
	fmt.Fprintf(&answer, "HTTP/1.1 %d %s\n", rec.Code, http.StatusText(rec.Code))
	_ = rec.Header().Write(&answer)
	answer.WriteString("\n")
	if !strings.Contains(rec.Header().Get("Content-Type"), "json") || json.Indent(&answer, rec.Body.Bytes(), "", "  ") != nil {
		answer.Write(rec.Body.Bytes())
	}
	return route{Path: path, What: what, Answer: strings.ReplaceAll(answer.String(), "\r", ""), Status: rec.Code}
}

//go:embed page.html
var pageHTML string

var pageTemplate = template.Must(template.New("").Parse(pageHTML))

func writePage(w http.ResponseWriter, status int, v view) {
	var body bytes.Buffer
	if err := pageTemplate.Execute(&body, v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = body.WriteTo(w)
}
