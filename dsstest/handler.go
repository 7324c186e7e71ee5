package dsstest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
)

// maxBody bounds what a call may carry.
const maxBody = 32 << 20

// ServeHTTP answers a call, after counting it.
func (d *DSS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	under, found := underAPI(r.URL)
	n := d.calls.arrived(r.Method, under.Path)
	rec := &statusRecorder{ResponseWriter: w, note: func(status int) {
		d.calls.update(n, func(c *Call) { c.Status = status })
	}}
	d.answer(rec, r, under, found, n)
	rec.end()
}

// answer answers call n, or panics with [http.ErrAbortHandler] to cut it off.
func (d *DSS) answer(w http.ResponseWriter, r *http.Request, under *url.URL, found bool, n int) {
	d.mu.RLock()
	down, latency := d.down, d.latency
	d.mu.RUnlock()
	if down {
		writeHTML(w, http.StatusServiceUnavailable, "Service Unavailable")
		return
	}

	// Read the body first: net/http notices only then that a client has left.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		badRequest("the body does not end, or is too long").write(w)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if !wait(r.Context(), latency) {
		panic(http.ErrAbortHandler)
	}

	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !found {
			writeHTML(w, http.StatusNotFound, "Not Found")
			return
		}
		d.serveAPI(w, r, under, n)
	})
	if intercept := d.nextFault(under.Path); intercept != nil {
		intercept(w, r, api)
		return
	}
	api(w, r)
}

// underAPI returns u with its path relative to the API's base, and reports
// whether it is below that base.
func underAPI(u *url.URL) (*url.URL, bool) {
	for _, base := range []string{"/dip/publicapi", "/public/api"} {
		if rest, ok := strings.CutPrefix(u.Path, base); ok && strings.HasPrefix(rest, "/") {
			under := *u
			under.Path = rest
			under.RawPath = strings.TrimPrefix(u.RawPath, base)
			return &under, true
		}
	}
	return u, false
}

type principalKey struct{}

func (d *DSS) serveAPI(w http.ResponseWriter, r *http.Request, under *url.URL, call int) {
	w.Header().Set("DSS-Version", d.currentOptions().version())
	w.Header().Set("DSS-API-Version", apiVersion)
	p, fail := d.authenticate(r.Header)
	if fail != nil {
		fail.write(w)
		return
	}
	d.calls.update(call, func(c *Call) { c.Caller, c.Admin = p.login, p.admin })

	r = r.WithContext(context.WithValue(r.Context(), principalKey{}, p))
	r.URL = under
	for _, mux := range []*http.ServeMux{d.added, d.api} {
		// A mux would redirect to the clean path. DSS does not redirect.
		if _, pattern := mux.Handler(r); pattern != "" && clean(under.EscapedPath()) {
			mux.ServeHTTP(w, r)
			return
		}
	}
	notFound("no such endpoint: " + r.Method + " " + under.Path).write(w)
}

func clean(p string) bool {
	return path.Clean(p) == p || path.Clean(p)+"/" == p
}

// Handle adds an endpoint, or replaces one of the fake's own. The pattern
// is one of [http.ServeMux] without a host, for paths after
// /dip/publicapi. h runs after the credentials were accepted; caller is
// the login that DSS acts as, "" for an API key without a user.
func (d *DSS) Handle(pattern string, h func(w http.ResponseWriter, r *http.Request, caller string)) {
	d.added.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		h(w, r, r.Context().Value(principalKey{}).(principal).login)
	})
}

func (d *DSS) endpoints() *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, serve := range map[string]func(http.ResponseWriter, *http.Request, principal){
		"GET /auth/info":                         d.getAuthInfo,
		"POST /auth/info-from-browser-headers":   d.postBrowserInfo,
		"POST /auth/ticket-from-browser-headers": d.postBrowserTicket,
		"GET /users":                             d.getUsers,
		"GET /users/{$}":                         d.getUsers,
		"GET /users/{login}":                     d.getUser,
		"GET /current-user":                      d.getSettings,
		"PUT /current-user":                      d.putSettings,
		"GET /projects":                          d.getProjects,
		"GET /projects/{$}":                      d.getProjects,
		"GET /projects/{key}":                    d.getProject,
		"GET /projects/{key}/jobs/{$}":           d.getJobs,
		"GET /projects/{key}/permissions":        d.getPermissions,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			serve(w, r, r.Context().Value(principalKey{}).(principal))
		})
	}
	return mux
}

// authInfo is DSS's answer about a caller or a visitor.
type authInfo struct {
	AuthSource           string            `json:"authSource,omitzero"`
	Via                  []string          `json:"via"`
	AuthIdentifier       string            `json:"authIdentifier"`
	Groups               []string          `json:"groups,omitzero"` // a user's list may be empty, and a key has no list
	UserProfile          string            `json:"userProfile,omitzero"`
	AssociatedDSSUser    string            `json:"associatedDSSUser,omitzero"`
	UserForImpersonation string            `json:"userForImpersonation,omitzero"`
	Secrets              []json.RawMessage `json:"secrets,omitzero"`
}

// info returns DSS's answer about a principal.
func (d *DSS) info(p principal, withSecrets bool) authInfo {
	if p.login == "" {
		return authInfo{AuthSource: p.source, Via: []string{}, AuthIdentifier: p.keyID}
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	u := d.users[p.login] // not changed in place: AddUser stores a copy
	info := authInfo{
		AuthSource: p.source, Via: []string{}, AuthIdentifier: p.login,
		Groups: u.Groups, UserProfile: u.Profile,
		AssociatedDSSUser: p.login, UserForImpersonation: p.onBehalf,
	}
	if withSecrets {
		info.Secrets = d.secrets(p.login)
	}
	return info
}

func withSecrets(r *http.Request) bool {
	return strings.EqualFold(r.URL.Query().Get("withSecrets"), "true")
}

func (d *DSS) getAuthInfo(w http.ResponseWriter, r *http.Request, caller principal) {
	writeJSON(w, http.StatusOK, d.info(caller, withSecrets(r)))
}

func (d *DSS) postBrowserInfo(w http.ResponseWriter, r *http.Request, caller principal) {
	visitor, fail := d.visitor(r, caller)
	switch {
	case fail == nil:
		writeJSON(w, http.StatusOK, d.info(visitor, withSecrets(r)))
	case fail.nobody && d.currentOptions().EmptyIdentifier:
		writeJSON(w, http.StatusOK, authInfo{Via: []string{}})
	default:
		fail.write(w)
	}
}

func (d *DSS) postBrowserTicket(w http.ResponseWriter, r *http.Request, caller principal) {
	visitor, fail := d.visitor(r, caller)
	if fail != nil {
		fail.write(w)
		return
	}
	d.mu.Lock()
	ticket, bare := "", d.options.BareTickets
	if d.impersonable(visitor) {
		ticket = d.issueTicket(visitor.login)
	}
	d.mu.Unlock()
	switch {
	case ticket == "":
		unauthorized("no right to impersonate this user in webapps").write(w)
	case bare:
		w.Header().Set("Content-Type", "text/plain;charset=utf-8")
		io.WriteString(w, ticket)
	default:
		writeJSON(w, http.StatusOK, map[string]string{"msg": ticket})
	}
}

// userInfo holds the facts about a user that callers may know.
type userInfo struct {
	Login       string   `json:"login"`
	DisplayName string   `json:"displayName"`
	Groups      []string `json:"groups"`
	Email       string   `json:"email"`
	Enabled     bool     `json:"enabled"`
}

func (u User) info() userInfo {
	return userInfo{u.Login, u.DisplayName, u.Groups, u.Email, !u.Disabled}
}

func (d *DSS) getUser(w http.ResponseWriter, r *http.Request, caller principal) {
	if d.currentOptions().RestrictedUsers && !caller.admin {
		usersRestricted.write(w)
		return
	}
	login := r.PathValue("login")
	d.mu.RLock()
	u, ok := d.users[d.spelling(login)]
	d.mu.RUnlock()
	if !ok {
		notFound("user does not exist: " + login).write(w)
		return
	}
	writeJSON(w, http.StatusOK, u.info())
}

func (d *DSS) getUsers(w http.ResponseWriter, _ *http.Request, caller principal) {
	if d.currentOptions().RestrictedUsers && !caller.admin {
		usersRestricted.write(w)
		return
	}
	d.mu.RLock()
	users := []userInfo{}
	for _, u := range d.users {
		users = append(users, u.info())
	}
	d.mu.RUnlock()
	slices.SortFunc(users, func(a, b userInfo) int { return strings.Compare(a.Login, b.Login) })
	writeJSON(w, http.StatusOK, users)
}

func (d *DSS) getSettings(w http.ResponseWriter, _ *http.Request, caller principal) {
	if caller.login == "" {
		noUser.write(w)
		return
	}
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	io.WriteString(w, d.OwnSettings(caller.login))
}

func (d *DSS) putSettings(w http.ResponseWriter, r *http.Request, caller principal) {
	if caller.login == "" {
		noUser.write(w)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = d.saveSettings(caller.login, body)
	}
	if err != nil {
		badRequest(err.Error()).write(w)
		return
	}
	w.WriteHeader(http.StatusOK)
}
