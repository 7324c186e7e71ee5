package dssauth

import (
	"net/http"
	"net/url"
	"path"
	"strings"
)

const (
	// redirectCookie marks a browser that was just sent to sign in.
	redirectCookie = "dssauth_redirected"
	// redirectPause is how many seconds pass before it is sent there again.
	redirectPause = 30
	// maxBack bounds the return path; a longer one is replaced by "/".
	maxBack = 2048
)

// loginTarget returns where the sender of r can sign in, or "" where that is
// no answer to err: only a person's page navigation can be sent elsewhere.
func (m *Middleware) loginTarget(r *http.Request, err error) string {
	if m.loginURL == nil || StatusCode(err) != http.StatusUnauthorized || r.Method != http.MethodGet || !isNavigation(r) {
		return ""
	}
	return m.loginURL(r, localPath(r))
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
	u := r.URL
	if r.RequestURI != "" { // as it was before a router stripped a prefix
		if parsed, err := url.ParseRequestURI(r.RequestURI); err == nil {
			u = parsed
		}
	}
	if !printable(u.Path) { // browsers ignore a tab between two slashes
		return "/"
	}
	back := u.EscapedPath()
	if !strings.HasPrefix(back, "/") || strings.HasPrefix(u.Path, "//") || strings.ContainsAny(u.Path, "\\") || path.Clean(u.Path) != strings.TrimSuffix(u.Path, "/") {
		clean := path.Clean("/" + strings.ReplaceAll(u.Path, `\`, "/"))
		back = (&url.URL{Path: clean}).EscapedPath()
	}
	if isQuery(u.RawQuery) && u.RawQuery != "" {
		back += "?" + u.RawQuery
	}
	if len(back) > maxBack || !strings.HasPrefix(back, "/") || strings.HasPrefix(back, "//") {
		return "/"
	}
	return back
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
