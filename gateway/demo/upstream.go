package main

import (
	"html/template"
	"net/http"
	"net/url"
)

// upstream is the application: it knows nothing of DSS, and shows what it got.
func upstream(w http.ResponseWriter, r *http.Request) {
	login, _ := url.PathUnescape(r.Header.Get("Remote-User"))
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = page.Execute(w, struct {
		Login, Method, Target string
		Header                http.Header
	}{login, r.Method, r.RequestURI, r.Header})
}

var page = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>The application</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
th { text-align: left; vertical-align: top; padding-right: 1rem; white-space: nowrap; font-weight: 600 }
td { overflow-wrap: anywhere; font-family: ui-monospace, monospace }
</style>
<h1>{{with .Login}}Hello, {{.}}{{else}}Hello, anonymous visitor{{end}}</h1>
<p><a href="/">/</a> for users of DSS · <a href="/open/">/open/</a> for everyone ·
<a href="/admin/">/admin/</a> for administrators · <a href="/churn/">/churn/</a> for those who may see the project CHURN</p>
<p>This application knows nothing of DSS. The gateway sent it <code>{{.Method}} {{.Target}}</code> with these headers:</p>
<table>{{range $name, $values := .Header}}{{range $values}}<tr><th>{{$name}}<td>{{.}}
{{end}}{{end}}</table>
`))
