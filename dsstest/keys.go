package dsstest

import (
	"crypto/rand"
	"encoding/base64"
	"strings"
)

// maxIssued bounds the tickets given out to browsers; the oldest expire.
const maxIssued = 100_000

type apiKey struct {
	login string // "" for a global key
	id    string
}

// AddAPIKey adds an API key. It is a user's personal key, with that user's
// rights. With login "" it is a global key without a user, with an
// administrator's rights. DSS does not accept the key while the user does not
// exist.
func (d *DSS) AddAPIKey(key, login string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keys[key] = apiKey{login: login, id: "key-" + rand.Text()[:8]}
}

// SetAPIKeyID sets the authIdentifier of a global key. Key ids and logins are
// different things, even if their texts are equal.
func (d *DSS) SetAPIKeyID(key, id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if k, ok := d.keys[key]; ok {
		k.id = id
		d.keys[key] = k
	}
}

// RemoveAPIKey revokes an API key.
func (d *DSS) RemoveAPIKey(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.keys, key)
}

// AddTicket adds a ticket. It acts as a user, or, with login "", as an
// administrator without one. DSS does not accept it while the user does not
// exist.
func (d *DSS) AddTicket(ticket, login string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tickets[ticket] = login
}

// ExpireTickets ends all tickets, including those of AddTicket.
func (d *DSS) ExpireTickets() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.tickets)
	d.issued = nil
}

// issueTicket makes a ticket for a user. The caller holds d.mu for writing.
func (d *DSS) issueTicket(login string) string {
	if len(d.issued) == maxIssued {
		delete(d.tickets, d.issued[0])
		d.issued = d.issued[1:]
	}
	ticket := "ticket-" + rand.Text()
	d.issued = append(d.issued, ticket)
	d.tickets[ticket] = login
	return ticket
}

// byKey returns the principal of an API key. The caller holds d.mu.
func (d *DSS) byKey(key string) (principal, bool) {
	k, ok := d.keys[key]
	if !ok {
		return principal{}, false
	}
	if k.login == "" {
		return principal{source: "GLOBAL_API_KEY", keyID: k.id, admin: true}, true
	}
	return d.byLogin(k.login, "PERSONAL_API_KEY")
}

// byTicket returns the principal of a ticket. The caller holds d.mu.
func (d *DSS) byTicket(ticket string) (principal, bool) {
	login, ok := d.tickets[ticket]
	if !ok {
		return principal{}, false
	}
	if login == "" {
		return principal{source: "GLOBAL_API_KEY", keyID: "ticket", admin: true}, true
	}
	return d.byLogin(login, "USER_FROM_UI")
}

// keyIn returns the API key in an Authorization header: Bearer, or Basic with
// the key as user name or as password and the other one empty.
func keyIn(authorization string) (key string, ok bool) {
	scheme, rest, _ := strings.Cut(authorization, " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		return strings.Trim(rest, " "), true
	case strings.EqualFold(scheme, "Basic"):
		plain, err := base64.StdEncoding.DecodeString(strings.Trim(rest, " "))
		if err != nil {
			return "", false
		}
		user, password, colon := strings.Cut(string(plain), ":")
		return user + password, colon && (user == "" || password == "")
	}
	return "", false
}
