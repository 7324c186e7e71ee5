package dssauth

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Identity is who DSS said a visitor is. It is a value: what a handler
// changes in its copy stays its own. The zero Identity is an anonymous visitor.
type Identity struct {
	// Login is the DSS user's login. It is empty for an API key without a
	// user, which only Config.AllowAPIKeys admits.
	Login string
	// Profile is the user's licence profile, such as DESIGNER; often empty.
	Profile string
	// Source is how DSS knows the visitor, such as USER_FROM_UI for a
	// browser session and PERSONAL_API_KEY for a user's own API key.
	Source string
	// APIKeyID is the id, not the secret, of an API key without a user. It is
	// empty for users.
	APIKeyID string
	// DisplayName and Email are set only with Config.UserDetails, and empty
	// where DSS did not give them. Never decide about rights by them.
	DisplayName, Email string
	// AsOf is when DSS was asked. It is older than Config.TTL only while
	// Config.StaleIfError bridges an outage. It has no monotonic clock reading,
	// so that [time.Since] counts the time that the machine was suspended.
	AsOf time.Time

	groups []string
}

// NewIdentity returns the identity of a user, for a [Resolver] and for tests.
func NewIdentity(login string, groups ...string) Identity {
	return Identity{Login: login, AsOf: time.Now().Round(0), groups: slices.Clone(groups)}
}

// Groups returns a copy of the names of the visitor's groups in DSS, in DSS's
// order. API keys without a user have none.
func (id Identity) Groups() []string { return slices.Clone(id.groups) }

// InGroup reports whether the visitor is in the group of exactly this name.
func (id Identity) InGroup(name string) bool { return slices.Contains(id.groups, name) }

// MarshalJSON gives what a front end wants to know: login, groups and profile,
// and display name and e-mail address where they are known.
func (id Identity) MarshalJSON() ([]byte, error) {
	groups := id.groups
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

// isLogin reports whether s can be a user's login. Blank and control
// characters would slip through a comparison or a log line somewhere.
func isLogin(s string) bool {
	return s != "" && strings.TrimSpace(s) == s && printable(s)
}

// owner is whose entries are counted together.
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
	for _, group := range id.groups {
		if size += 16 + len(group); size > maxAnswerBytes { // 16 for where the text is
			return false
		}
	}
	return size <= maxAnswerBytes
}
