package dssauth

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unique"
)

// Identity is DSS's answer about a visitor. It is a value: a handler that changes its
// copy changes no other. The zero Identity is an anonymous visitor.
type Identity struct {
	// Login is the DSS user's login. It is empty for an API key without a user. Only
	// Config.AllowAPIKeys admits such a key.
	Login string
	// Profile is the user's licence profile, such as DESIGNER; often empty.
	Profile string
	// Source is DSS's name for the kind of credentials, such as USER_FROM_UI for a
	// browser session and PERSONAL_API_KEY for a user's own API key.
	Source string
	// APIKeyID is the id, not the secret, of an API key without a user. It is
	// empty for users.
	APIKeyID string
	// DisplayName and Email are set only with Config.UserDetails, and empty if DSS did
	// not give them. Never base rights on them.
	DisplayName, Email string
	// AsOf is the time when DSS was asked. It is older than Config.TTL only while
	// Config.StaleIfError bridges an outage. It has no monotonic clock reading, so that
	// [time.Since] includes the time when the machine was suspended.
	AsOf time.Time

	groups []group // never changed: copies of an Identity share them
}

// group is the name of a group. Visitors share groups, and each name is in memory
// once.
type group = unique.Handle[string]

func makeGroups(names []string) []group {
	if names == nil {
		return nil
	}
	groups := make([]group, len(names))
	for i, name := range names {
		groups[i] = unique.Make(name)
	}
	return groups
}

// NewIdentity returns the identity of a user, for a [Resolver] and for tests.
func NewIdentity(login string, groups ...string) Identity {
	return Identity{Login: login, AsOf: time.Now().Round(0), groups: makeGroups(groups)}
}

// Groups returns a copy of the names of the visitor's groups in DSS, in DSS's
// order. API keys without a user have none.
func (id Identity) Groups() []string {
	if id.groups == nil {
		return nil
	}
	names := make([]string, len(id.groups))
	for i, g := range id.groups {
		names[i] = g.Value()
	}
	return names
}

// InGroup reports whether the visitor is in the group with exactly this name.
func (id Identity) InGroup(name string) bool {
	return slices.ContainsFunc(id.groups, func(g group) bool { return g.Value() == name })
}

// String returns the login, or the id of an API key, and the groups, for people to
// read.
func (id Identity) String() string {
	switch {
	case id.Login != "":
		return fmt.Sprintf("%s %q", id.Login, id.Groups())
	case id.APIKeyID != "":
		return "API key " + id.APIKeyID
	}
	return "anonymous"
}

// MarshalJSON returns an object for a front end: login, groups and profile, and display
// name and e-mail address if they are known.
func (id Identity) MarshalJSON() ([]byte, error) {
	groups := id.Groups()
	if groups == nil {
		groups = []string{}
	}
	return json.Marshal(struct {
		Login       string   `json:"login"`
		Groups      []string `json:"groups"`
		Profile     string   `json:"profile"`
		DisplayName string   `json:"displayName,omitempty"`
		Email       string   `json:"email,omitempty"`
	}{id.Login, groups, id.Profile, id.DisplayName, id.Email})
}

// isSomebody reports whether id is that of a user, or of an API key.
func (id *Identity) isSomebody() bool { return id.APIKeyID != "" || isLogin(id.Login) }

// isLogin reports whether s can be a user's login. A blank login or control characters
// could deceive a comparison or the reader of a log line.
func isLogin(s string) bool {
	return s != "" && strings.TrimSpace(s) == s && printable(s)
}

// owner names the user or API key whose entries are counted together.
func (id *Identity) owner() string {
	if id.Login == "" {
		return "\x00" + id.APIKeyID // no login has control characters
	}
	return id.Login
}

// maxAnswerBytes bounds the text of an answer that is remembered. See
// [Config.MaxEntries].
const maxAnswerBytes = 64 << 10

// fits reports whether id is within maxAnswerBytes.
func (id *Identity) fits() bool {
	size := len(id.Login) + len(id.Profile) + len(id.Source) + len(id.APIKeyID) + len(id.DisplayName) + len(id.Email)
	for _, g := range id.groups {
		if size += 16 + len(g.Value()); size > maxAnswerBytes { // 16 for where the text is
			return false
		}
	}
	return size <= maxAnswerBytes
}

// own returns id in memory of its own: a Resolver may have cut its answer out of its
// headers, and these would then stay in memory as well. Most visitors have one of a few
// profiles and sources: answers that came between two garbage collections share them. A
// handle would keep one copy for all, for 16 bytes an answer.
func (id Identity) own() Identity {
	id.Login, id.APIKeyID = strings.Clone(id.Login), strings.Clone(id.APIKeyID)
	id.DisplayName, id.Email = strings.Clone(id.DisplayName), strings.Clone(id.Email)
	id.Profile, id.Source = unique.Make(id.Profile).Value(), unique.Make(id.Source).Value()
	return id
}
