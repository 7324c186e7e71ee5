package dsstest

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// maxForm bounds what a form of the page may send.
const maxForm = 64 << 10

// SignInPage serves a page to sign in to the fake. It answers all other
// requests as d does. It asks for no password: serve it on a loopback address
// only, as the fakedss command does.
//
//	GET  /, /sign-in   the page
//	POST /sign-in      signs in as login, and ends the browser's session before
//	POST /sign-out     ends the browser's session
//	POST /groups       lets login join one group (join=…), or leave it (leave=…)
//	POST /outage       takes the fake down (down=true), or brings it back
//
// A redirect, in the page's query or in the form of /sign-in, is the target
// after signing in: a path of the same server, or a URL on a loopback host. Any
// other is ignored. A cookie is for all ports of a host: a browser that signed
// in here is signed in to every application on the same host name.
//
// Forms of other origins are refused with a 403, and so is a request that reached
// a loopback address under another host name.
func (d *DSS) SignInPage() http.Handler {
	page := http.NewServeMux()
	page.HandleFunc("GET /{$}", d.showPage)
	page.HandleFunc("GET /sign-in", d.showPage)
	page.HandleFunc("POST /sign-in", d.postSignIn)
	page.HandleFunc("POST /sign-out", d.postSignOut)
	page.HandleFunc("POST /groups", d.postGroups)
	page.HandleFunc("POST /outage", d.postOutage)
	protected := sameName(http.NewCrossOriginProtection().Handler(http.MaxBytesHandler(page, maxForm)))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/", "/sign-in", "/sign-out", "/groups", "/outage":
			protected.ServeHTTP(w, r)
		default:
			d.ServeHTTP(w, r)
		}
	})
}

// sameName refuses a request that arrived on a loopback address under another
// host's name: for a browser, a foreign site whose name resolves to this
// address has the same origin.
func sameName(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		if local != nil && local.IP.IsLoopback() && !isLoopback(hostName(r.Host)) {
			http.Error(w, fmt.Sprintf("dsstest: host %q is not a name of this machine: use 127.0.0.1 or localhost", r.Host), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func hostName(host string) string { return (&url.URL{Host: host}).Hostname() }

// isLoopback refuses an address with a zone: a zone can hold a semicolon and
// spaces.
func isLoopback(name string) bool {
	addr, err := netip.ParseAddr(name)
	return strings.EqualFold(name, "localhost") || err == nil && addr.IsLoopback() && addr.Zone() == ""
}

// ownPath returns path if it is a path of this server, else "/".
func ownPath(path string) string {
	if u, ok := parseTarget(path); ok && u.Scheme == "" && u.Host == "" {
		return path
	}
	return "/"
}

// redirectTarget returns to if it may be the target after signing in, else "".
func redirectTarget(to string) string {
	u, ok := parseTarget(to)
	switch {
	case !ok:
		return ""
	case u.Scheme == "" && u.Host == "":
		return to
	case (u.Scheme == "http" || u.Scheme == "https") && isLoopback(u.Hostname()):
		return u.String()
	}
	return ""
}

// parseTarget parses a target that an attacker may have written. Browsers read
// a backslash as a slash.
func parseTarget(to string) (*url.URL, bool) {
	u, err := url.Parse(to)
	if err != nil || u.User != nil || u.Opaque != "" || strings.Contains(to, `\`) {
		return nil, false
	}
	return u, strings.HasPrefix(u.Path, "/") && !strings.HasPrefix(u.Path, "//") || u.Path == "" && u.Host != ""
}

func (d *DSS) postSignIn(w http.ResponseWriter, r *http.Request) {
	login := r.PostFormValue("login")
	d.mu.RLock()
	down := d.down
	_, ok := d.enabled(login)
	d.mu.RUnlock()
	switch {
	case down:
		http.Error(w, "The fake DSS is down, so nobody can sign in.", http.StatusServiceUnavailable)
		return
	case !ok:
		http.Error(w, "no such user, or a disabled one", http.StatusBadRequest)
		return
	}
	d.endSessions(r)
	dropOldCookies(w, r, d.cookieName)
	http.SetCookie(w, d.SignIn(login))
	to := redirectTarget(r.PostFormValue("redirect"))
	if to == "" {
		to = ownPath(r.PostFormValue("at"))
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func (d *DSS) postSignOut(w http.ResponseWriter, r *http.Request) {
	d.endSessions(r)
	http.SetCookie(w, &http.Cookie{Name: d.cookieName, Path: "/", MaxAge: -1})
	http.Redirect(w, r, ownPath(r.PostFormValue("at")), http.StatusSeeOther)
}

func (d *DSS) endSessions(r *http.Request) {
	for _, c := range r.CookiesNamed(d.cookieName) {
		d.SignOut(c)
	}
}

// dropOldCookies keeps only the newest cookies of other fakes. Each fake has
// its own cookie name. A fake that is started each day would otherwise fill
// the Cookie header.
func dropOldCookies(w http.ResponseWriter, r *http.Request, own string) {
	const kept = 3
	others := slices.DeleteFunc(r.Cookies(), func(c *http.Cookie) bool {
		return c.Name == own || !strings.HasPrefix(c.Name, cookiePrefix)
	})
	for _, c := range others[:max(0, len(others)-kept)] { // browsers send the oldest first
		http.SetCookie(w, &http.Cookie{Name: c.Name, Path: "/", MaxAge: -1})
	}
}

func (d *DSS) postGroups(w http.ResponseWriter, r *http.Request) {
	join, leave := strings.TrimSpace(r.PostFormValue("join")), r.PostFormValue("leave")
	switch {
	case (join == "") == (leave == ""):
		http.Error(w, "name one group, as join or as leave", http.StatusBadRequest)
		return
	case len(join) > 200 || strings.ContainsFunc(join, unicode.IsControl):
		http.Error(w, "a group's name has at most 200 bytes, and no control characters", http.StatusBadRequest)
		return
	case !d.changeGroups(r.PostFormValue("login"), join, leave):
		http.Error(w, "no such user", http.StatusBadRequest)
		return
	}
	http.Redirect(w, r, ownPath(r.PostFormValue("at")), http.StatusSeeOther)
}

// changeGroups reports whether the user exists.
func (d *DSS) changeGroups(login, join, leave string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	u, ok := d.users[login]
	if !ok {
		return false
	}
	u.Groups = slices.DeleteFunc(slices.Clone(u.Groups), func(g string) bool { return g == join || g == leave })
	if join != "" {
		u.Groups = append(u.Groups, join)
	}
	d.putUser(u)
	return true
}

func (d *DSS) postOutage(w http.ResponseWriter, r *http.Request) {
	d.SetDown(r.PostFormValue("down") == "true")
	http.Redirect(w, r, ownPath(r.PostFormValue("at")), http.StatusSeeOther)
}

// pageView is the data of the page's templates.
type pageView struct {
	Down     bool
	Current  *pageUser // nil: not signed in
	Users    []pageUser
	At       string // the page that forms return to
	Redirect string // the target after signing in; "" is At
	Host     string // the browser's name for this machine
	Name     string // the host of Redirect, if a browser does not send it the session
}

type pageUser struct {
	User
	Current bool
	Other   []string // groups of other users
}

// Name is the user's name for a greeting.
func (u pageUser) Name() string {
	if u.DisplayName != "" {
		return u.DisplayName
	}
	return u.Login
}

// Initial is shown in place of the user's picture.
func (u pageUser) Initial() string { return string([]rune(u.Name())[:1]) }

// Hue is the user's colour, to tell users apart.
func (u pageUser) Hue() int {
	hue := 190
	for _, c := range u.Login {
		hue += int(c) * 47
	}
	return hue % 360
}

func (d *DSS) pageView(r *http.Request, at, redirect string) pageView {
	v := pageView{At: at, Redirect: redirect, Host: hostName(r.Host)}
	if u, err := url.Parse(redirect); err == nil && u.Host != "" && !strings.EqualFold(u.Hostname(), v.Host) {
		v.Name = u.Hostname()
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	v.Down = d.down
	current := ""
	for _, c := range r.CookiesNamed(d.cookieName) {
		current = d.sessions[session{c.Name, c.Value}]
	}
	for _, u := range d.users { // not changed in place: AddUser stores a copy
		v.Users = append(v.Users, pageUser{User: u, Current: u.Login == current, Other: slices.DeleteFunc(slices.Clone(d.groups), func(g string) bool {
			return slices.Contains(u.Groups, g)
		})})
	}
	slices.SortFunc(v.Users, func(a, b pageUser) int {
		if a.isAdmin() != b.isAdmin() { // administrators last: few users are one
			return map[bool]int{true: 1, false: -1}[a.isAdmin()]
		}
		return strings.Compare(a.Login, b.Login)
	})
	if i := slices.IndexFunc(v.Users, func(u pageUser) bool { return u.Current }); i >= 0 {
		v.Current = &v.Users[i]
	}
	return v
}

//go:embed page.html
var pageHTML string

var pageTemplates = template.Must(template.New("").Parse(pageHTML))

func (d *DSS) showPage(w http.ResponseWriter, r *http.Request) {
	redirect := redirectTarget(r.FormValue("redirect"))
	at := r.URL.Path
	if redirect != "" {
		at += "?redirect=" + url.QueryEscape(redirect)
	}
	// Browsers apply form-action to a form's redirects, too.
	action := "'self'"
	if u, err := url.Parse(redirect); err == nil && u.Host != "" {
		action += " " + u.Scheme + "://" + u.Host
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'; form-action "+action)
	h.Set("X-Content-Type-Options", "nosniff")
	w.Write([]byte(render("page", d.pageView(r, at, redirect))))
}

// SignInControls returns the controls of [DSS.SignInPage] for a page of your own:
// the users with their groups, and the switch to take the fake down. The page
// needs [PageHead]. The argument at is the path of that page. Its server must
// also serve the POST routes of SignInPage.
func (d *DSS) SignInControls(r *http.Request, at string) template.HTML {
	return render("controls", d.pageView(r, at, ""))
}

// PageHead is the start of a page that looks like the fake's own, up to and
// without </head>.
func PageHead(title string) template.HTML { return render("head", title) }

func render(name string, data any) template.HTML {
	var html bytes.Buffer
	if err := pageTemplates.ExecuteTemplate(&html, name, data); err != nil {
		panic(err) // a mistake in the templates
	}
	return template.HTML(html.String())
}
