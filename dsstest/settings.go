package dsstest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// SetOwnSettings replaces a user's own settings, as PUT /current-user does.
// Settings are a JSON object. GET /current-user answers with it unchanged,
// including numbers of any size and unknown fields. SetOwnSettings panics if
// the user does not exist, or the text is not such an object.
func (d *DSS) SetOwnSettings(login, settings string) {
	if err := d.saveSettings(login, []byte(settings)); err != nil {
		panic(fmt.Sprintf("dsstest: SetOwnSettings(%q): %v", login, err))
	}
}

// OwnSettings returns a user's own settings, byte by byte as they were saved.
// It returns "" if the user does not exist.
func (d *DSS) OwnSettings(login string) string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return string(d.settings[login])
}

// saveSettings stores the settings that a user saved. Groups and similar fields
// are stored too, but have no effect: only AddUser decides them. Another user's
// login is not stored.
func (d *DSS) saveSettings(login string, settings []byte) error {
	var fields map[string]json.RawMessage
	if !utf8.Valid(settings) || json.Unmarshal(settings, &fields) != nil || fields == nil {
		return errors.New("own settings are one JSON object")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.users[login]; !ok {
		return errors.New("no such user; call AddUser first")
	}
	d.settings[login] = withLogin(settings, fields, login)
	return nil
}

// withLogin returns settings, whose fields these are, as settings of login:
// byte by byte the same, unless they name another login.
func withLogin(settings []byte, fields map[string]json.RawMessage, login string) []byte {
	own, _ := json.Marshal(login)
	var said any
	if stored, ok := fields["login"]; !ok || json.Unmarshal(stored, &said) == nil && said == login {
		return slices.Clone(settings)
	}
	fields["login"] = own
	changed, _ := json.Marshal(fields) // it was decoded, so it can be encoded
	return changed
}

// secrets returns the list of that name in a user's own settings, as auth info
// has it: each name is there as key, too. The caller holds d.mu.
func (d *DSS) secrets(login string) []json.RawMessage {
	var own struct {
		Secrets []json.RawMessage `json:"secrets"`
	}
	// It may not be a list, because settings are stored as they come.
	_ = json.Unmarshal(d.settings[login], &own)
	secrets := []json.RawMessage{}
	for _, stored := range own.Secrets {
		var fields map[string]json.RawMessage
		if json.Unmarshal(stored, &fields) == nil && fields["name"] != nil && fields["key"] == nil {
			fields["key"] = fields["name"]
			stored, _ = json.Marshal(fields) // it was decoded, so it can be encoded
		}
		secrets = append(secrets, stored)
	}
	return secrets
}

// withUser returns settings with the facts of AddUser about u, and otherwise
// unchanged. A new user's settings have empty properties, secrets and
// credentials.
func withUser(settings []byte, u User) []byte {
	fields := map[string]any{
		"userProperties": struct{}{},
		"secrets":        []string{},
		"credentials":    struct{}{},
	}
	if settings != nil {
		var stored map[string]json.RawMessage
		_ = json.Unmarshal(settings, &stored) // valid, because it was stored
		fields = map[string]any{}
		for name, value := range stored {
			fields[name] = value
		}
	}
	fields["login"] = u.Login
	fields["displayName"] = u.DisplayName
	fields["email"] = u.Email
	fields["enabled"] = !u.Disabled
	fields["groups"] = u.Groups
	fields["userProfile"] = u.Profile
	out, err := json.Marshal(fields)
	if err != nil {
		panic("dsstest: own settings: " + err.Error())
	}
	return out
}
