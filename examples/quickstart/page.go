package main

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"net/http/httptest"
	"slices"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

// page shows a visitor who they are and what they may open.
type page struct {
	ttl    time.Duration
	demo   *demo        // nil with a real DSS
	routes http.Handler // what the page reports on
}

// view is what the template of the page gets.
type view struct {
	Visitor *visitor // nil: anonymous, or DSS could not say
	Outage  bool
	Routes  []route
	TTL     time.Duration

	Demo      bool
	Down      bool
	Users     []dsstest.User
	IsAnalyst bool // in DSS, by now
	Changed   bool // DSS has other groups by now than when it was asked
}

// Current is the visitor's login.
func (v view) Current() string {
	if v.Visitor == nil {
		return ""
	}
	return v.Visitor.Login
}

// Back is where signing in leads.
func (v view) Back() string { return "/" }

type visitor struct{ dssauth.Identity }

// Asked says when DSS was asked.
func (v visitor) Asked() string {
	if age := time.Since(v.AsOf).Truncate(time.Second); age > 0 {
		return age.String() + " ago"
	}
	return "just now"
}

// Name is how to greet the visitor.
func (v visitor) Name() string { return cmp.Or(v.DisplayName, v.Login) }

// Initial stands for the visitor's picture.
func (v visitor) Initial() string {
	for _, first := range v.Name() {
		return string(first)
	}
	return ""
}

// route is one of the application's routes, and what became of a visit to it.
type route struct {
	Path, What, Answer string
	Status             int
}

// Why says it to a person.
func (r route) Why() string {
	switch r.Status {
	case http.StatusOK:
		return "open to you"
	case http.StatusUnauthorized:
		return "for signed-in users"
	case http.StatusForbidden:
		return "for the group analysts, which you are not in"
	case http.StatusServiceUnavailable:
		return "DSS gives no answer, so nobody gets in"
	}
	return http.StatusText(r.Status)
}

func (p *page) show(w http.ResponseWriter, r *http.Request, status int) {
	v := view{
		Outage: status == http.StatusServiceUnavailable,
		TTL:    p.ttl,
		Routes: []route{
			p.visit(r, "/me", "Your identity, as JSON"),
			p.visit(r, "/report", "The analysts' report"),
			p.visit(r, "/as-me", "A call to DSS with your own rights"),
		},
	}
	if id, ok := dssauth.FromContext(r.Context()); ok {
		v.Visitor = &visitor{id}
	}
	if p.demo != nil {
		p.addDemo(&v)
	}
	writePage(w, status, "page", v)
}

func (p *page) addDemo(v *view) {
	v.Demo, v.Down, v.Users = true, p.demo.isDown(), p.demo.currentUsers()
	if v.Visitor == nil {
		return
	}
	for _, u := range v.Users {
		if u.Login == v.Visitor.Login {
			v.IsAnalyst = slices.Contains(u.Groups, "analysts")
			v.Changed = !slices.Equal(u.Groups, v.Visitor.Groups())
		}
	}
}

// visit opens another route as r's visitor, so that the page tells what really
// comes of it.
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
	fmt.Fprintf(&answer, "\n%s", rec.Body)
	return route{Path: path, What: what, Answer: answer.String(), Status: rec.Code}
}

//go:embed page.html
var pageHTML string

var pages = template.Must(template.New("").Parse(pageHTML))

func writePage(w http.ResponseWriter, status int, name string, data any) {
	var body bytes.Buffer
	if err := pages.ExecuteTemplate(&body, name, data); err != nil {
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
