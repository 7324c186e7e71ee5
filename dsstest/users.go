package dsstest

import (
	"maps"
	"slices"
	"strings"
)

// User is a user of the fake DSS. The zero value of every field but Login is
// fine.
type User struct {
	Login       string
	DisplayName string
	Email       string
	Groups      []string
	Profile     string // "" is DESIGNER

	// Admin gives an administrator's rights. Members of the group "administrators"
	// have them anyway, as in a newly installed DSS.
	Admin bool

	// Disabled users cannot sign in. Their sessions, keys and tickets are not
	// accepted.
	Disabled bool
}

func (u User) isAdmin() bool {
	return u.Admin || slices.Contains(u.Groups, "administrators")
}

// AddUser adds a user, or changes the one with that login. Sessions, keys,
// tickets and other own settings stay, and the next call sees the new groups.
// It panics on an empty login.
func (d *DSS) AddUser(u User) {
	if u.Login == "" {
		panic("dsstest: AddUser: Login is required")
	}
	if u.Profile == "" {
		u.Profile = "DESIGNER"
	}
	// Never nil: users have a list of groups in JSON, even an empty one.
	u.Groups = append([]string{}, u.Groups...)

	d.mu.Lock()
	defer d.mu.Unlock()
	d.putUser(u)
}

// putUser stores u, whose groups no other code changes. The caller holds d.mu.
func (d *DSS) putUser(u User) {
	d.users[u.Login] = u
	d.settings[u.Login] = withUser(d.settings[u.Login], u)
	for _, g := range u.Groups {
		if !slices.Contains(d.groups, g) {
			d.groups = append(d.groups, g)
		}
	}
}

// RemoveUser removes a user, with all sessions, API keys and tickets.
func (d *DSS) RemoveUser(login string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if login == "" { // the keys and tickets without a user
		return
	}
	delete(d.users, login)
	delete(d.settings, login)
	maps.DeleteFunc(d.sessions, func(_ session, of string) bool { return of == login })
	maps.DeleteFunc(d.keys, func(_ string, k apiKey) bool { return k.login == login })
	maps.DeleteFunc(d.tickets, func(_, of string) bool { return of == login })
}

// DemoUsers are the users of the quickstart and of the fakedss command: ann
// may read and analyse, bob may only read, eve has no group, and admin is an
// administrator.
func DemoUsers() []User {
	return []User{
		{Login: "ann", DisplayName: "Ann Analyst", Email: "ann@example.com", Groups: []string{"analysts", "readers"}, Profile: "DESIGNER"},
		{Login: "bob", DisplayName: "Bob Reader", Email: "bob@example.com", Groups: []string{"readers"}, Profile: "READER"},
		{Login: "eve", DisplayName: "Eve Newcomer", Email: "eve@example.com", Profile: "READER"},
		{Login: "admin", DisplayName: "Administrator", Email: "admin@example.com", Groups: []string{"administrators"}, Profile: "DESIGNER"},
	}
}

// spelling returns the user's own spelling of a call's login. The caller holds
// d.mu.
func (d *DSS) spelling(login string) string {
	if _, ok := d.users[login]; ok || !d.options.IgnoreLoginCase {
		return login
	}
	for own := range d.users {
		if strings.EqualFold(own, login) {
			return own
		}
	}
	return login
}

// enabled returns a user that may act. The caller holds d.mu.
func (d *DSS) enabled(login string) (User, bool) {
	u, ok := d.users[login]
	return u, ok && !u.Disabled
}
