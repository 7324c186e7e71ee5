package dsstest

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
)

// session is a live session's cookie.
type session struct{ cookie, value string }

// SignIn starts a session for a user and returns its cookie. A user may have
// any number of sessions. It panics if the user does not exist.
func (d *DSS) SignIn(login string) *http.Cookie {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.users[login]; !ok {
		panic(fmt.Sprintf("dsstest: SignIn(%q): no such user; call AddUser first", login))
	}
	value := rand.Text()
	d.sessions[session{d.cookieName, value}] = login
	return &http.Cookie{
		Name: d.cookieName, Value: value, Path: "/",
		HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

// SignOut ends the session of this cookie, and no other.
func (d *DSS) SignOut(c *http.Cookie) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.sessions, session{c.Name, c.Value})
}

// AddSession starts a session with a cookie of your choice, so that a recording
// can be replayed. If the session exists already, its user changes: another
// user signed in. While the user does not exist, the session counts as
// anonymous.
func (d *DSS) AddSession(cookie, value, login string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sessions[session{cookie, value}] = login
}

// EndSessions ends all sessions, as a restart of DSS did before 14.3.
func (d *DSS) EndSessions() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.sessions)
}

// signedIn returns the login of the first cookie in a Cookie header that is a
// live session's. The caller holds d.mu.
func (d *DSS) signedIn(cookies string) (login string, ok bool) {
	if d.options.HideAccessTokens {
		return "", false
	}
	for pair := range strings.SplitSeq(cookies, ";") {
		name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
		if login, ok = d.sessions[session{name, value}]; ok {
			return login, true
		}
	}
	return "", false
}
