package dss

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"unicode/utf8"
)

// Settings are the settings of the user that a client calls as.
// [Client.OwnSettings] reads them, the methods change them in memory, and
// [Settings.Save] writes them. Parts that this package does not know go back as
// they came, numbers of any size included.
//
// They hold the user's secrets and passwords, and print without them. They are
// not safe for concurrent use.
type Settings struct {
	client   *Client
	document func() *document // a function, because fmt prints what is in fields
}

// document is the settings object, and the first fault in the values that were
// put into it.
type document struct {
	members []member
	err     error
}

// The members that can be changed here.
const (
	memberProperties  = "userProperties"
	memberSecrets     = "secrets"
	memberCredentials = "credentials"
)

// OwnSettings returns the settings of the user that this client calls as.
//
// A reply outside 2xx is an [*Error]. A reply that is not a settings object is
// an error that wraps [ErrUnexpectedReply].
//
// DSS: GET /current-user
func (c *Client) OwnSettings(ctx context.Context) (*Settings, error) {
	k := call{method: http.MethodGet, path: "/current-user", read: true}
	var d *document
	k.reply = decoded(maxSettingsBytes, func(body []byte) (err error) {
		d, err = parseDocument(body)
		return err
	})
	if err := c.call(ctx, k); err != nil {
		return nil, err
	}
	return &Settings{client: c, document: func() *document { return d }}, nil
}

// UpdateOwnSettings reads the settings, calls change, and saves them without a
// pause, since a save overwrites everything that others saved meanwhile.
// Updates of one user's settings in this process wait for each other, also
// those by other clients of the same URL. So change must not start another
// update. An update reads the settings before it waits, to learn the user. It
// reads them again if another update ended meanwhile. If change returns an
// error, nothing is saved and that error is returned.
func (c *Client) UpdateOwnSettings(ctx context.Context, change func(*Settings) error) error {
	if change == nil {
		return errors.New("dss: UpdateOwnSettings: the change is nil")
	}
	s, done, err := c.settingsToUpdate(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := change(s); err != nil {
		return err
	}
	return s.Save(ctx)
}

// settingsToUpdate returns settings that no other update changes until done was
// called.
func (c *Client) settingsToUpdate(ctx context.Context) (s *Settings, done func(), err error) {
	fail := func(err error) (*Settings, func(), error) {
		return nil, nil, fmt.Errorf("dss: UpdateOwnSettings: %w", err)
	}
	for range 3 { // an API key can become another user's, but not each time
		if ctx != nil && ctx.Err() != nil {
			return fail(fmt.Errorf("waiting for another update: %w", ctx.Err()))
		}
		before := allUpdates.count()
		if s, err = c.OwnSettings(ctx); err != nil {
			return nil, nil, err
		}
		owner := settingsOwner{c.dss.base.Scheme + "://" + authority(c.dss.base) + c.dss.base.Path, s.doc().text("login")}
		if done, err = c.updateTurn(ctx, owner); err != nil {
			return fail(fmt.Errorf("waiting for another update: %w", err))
		}
		if allUpdates.count() == before {
			return s, done, nil
		}
		s, err = c.OwnSettings(ctx)
		if err == nil && s.doc().text("login") == owner.login {
			return s, done, nil
		}
		done()
		if err != nil {
			return nil, nil, err
		}
	}
	return fail(errors.New("each time DSS returned the settings of another user"))
}

// updateTurn waits until no other update of owner's settings runs, but not
// longer than a call may take.
func (c *Client) updateTurn(ctx context.Context, owner settingsOwner) (done func(), err error) {
	ctx, cancel := c.deadline(ctx, false)
	defer cancel()
	return allUpdates.take(ctx, owner)
}

// Save writes the settings as a whole. Anything that others saved since the
// settings were read is lost, also in parts that were not changed here. So
// read, change and save without a pause, as [Client.UpdateOwnSettings] does.
//
// It fails, and sends nothing, if text that is not valid UTF-8 was put into the
// settings. Save never tries twice: after an error of the network the settings
// may be saved or not.
//
// DSS: PUT /current-user
func (s *Settings) Save(ctx context.Context) error {
	d := s.doc()
	if d.err != nil {
		return d.err
	}
	k := call{method: http.MethodPut, path: "/current-user", contentType: typeJSON}
	k.body = bytes.NewReader(joinObject(d.members))
	return s.client.call(ctx, k)
}

// Properties returns a copy of the user's properties. The copy leaves out a
// property that is not a string; the settings keep it.
func (s *Settings) Properties() map[string]string {
	properties := map[string]string{}
	for _, m := range s.doc().section(memberProperties) {
		if value, ok := unquote(m.value); ok {
			properties[string(m.name)] = string(value)
		}
	}
	return properties
}

// SetProperty adds a property of the user, or changes it.
func (s *Settings) SetProperty(name, value string) {
	s.doc().set(memberProperties, name, value, field{"SetProperty: name", name}, field{"SetProperty: value", value})
}

// RemoveProperty removes a property. A missing one is not an error.
func (s *Settings) RemoveProperty(name string) {
	s.doc().remove(memberProperties, name, field{"RemoveProperty: name", name})
}

// AddSecret adds a secret of the user. It replaces those of the same name.
func (s *Settings) AddSecret(name, value string) {
	d := s.doc()
	if !d.check(field{"AddSecret: name", name}, field{"AddSecret: value", value}) {
		return
	}
	d.removeSecret(name)
	d.putSecrets(append(d.secrets(), mustEncode(struct {
		Name   string `json:"name"`
		Value  string `json:"value"`
		Secret bool   `json:"secret"`
	}{name, value, true})))
}

// RemoveSecret removes a secret. A missing one is not an error.
func (s *Settings) RemoveSecret(name string) {
	if d := s.doc(); d.check(field{"RemoveSecret: name", name}) {
		d.removeSecret(name)
	}
}

// SetBasicConnectionCredential sets the user's own user name and password for a
// connection.
func (s *Settings) SetBasicConnectionCredential(connection, user, password string) {
	const setter = "SetBasicConnectionCredential: "
	s.doc().set(memberCredentials, connection, basicCredential(user, password),
		field{setter + "connection", connection}, field{setter + "user", user}, field{setter + "password", password})
}

// RemoveConnectionCredential removes a credential of
// SetBasicConnectionCredential. A missing one is not an error.
func (s *Settings) RemoveConnectionCredential(connection string) {
	s.doc().remove(memberCredentials, connection, field{"RemoveConnectionCredential: connection", connection})
}

// SetBasicPluginCredential sets the user's own user name and password for the
// parameter param of a preset of a plugin's parameter set.
func (s *Settings) SetBasicPluginCredential(plugin, paramSet, preset, param, user, password string) {
	const setter = "SetBasicPluginCredential: "
	s.doc().set(memberCredentials, pluginKey(plugin, paramSet, preset, param), basicCredential(user, password),
		append(pluginFields(setter, plugin, paramSet, preset, param), field{setter + "user", user}, field{setter + "password", password})...)
}

// SetOAuth2PluginCredential sets the user's own refresh token for the parameter
// param of a preset of a plugin's parameter set.
func (s *Settings) SetOAuth2PluginCredential(plugin, paramSet, preset, param, refreshToken string) {
	const setter = "SetOAuth2PluginCredential: "
	s.doc().set(memberCredentials, pluginKey(plugin, paramSet, preset, param), struct {
		Type         string `json:"type"`
		RefreshToken string `json:"refreshToken"`
	}{"OAUTH_REFRESH_TOKEN", refreshToken},
		append(pluginFields(setter, plugin, paramSet, preset, param), field{setter + "refreshToken", refreshToken})...)
}

// RemovePluginCredential removes a credential of SetBasicPluginCredential or
// SetOAuth2PluginCredential. A missing one is not an error.
func (s *Settings) RemovePluginCredential(plugin, paramSet, preset, param string) {
	s.doc().remove(memberCredentials, pluginKey(plugin, paramSet, preset, param),
		pluginFields("RemovePluginCredential: ", plugin, paramSet, preset, param)...)
}

func basicCredential(user, password string) any {
	return struct {
		Type     string `json:"type"`
		User     string `json:"user"`
		Password string `json:"password"`
	}{"BASIC", user, password}
}

func pluginFields(setter, plugin, paramSet, preset, param string) []field {
	return []field{{setter + "plugin", plugin}, {setter + "paramSet", paramSet}, {setter + "preset", preset}, {setter + "param", param}}
}

// Format names the type and shows no content, for every verb.
func (s *Settings) Format(f fmt.State, _ rune) { fmt.Fprint(f, "dss.Settings[redacted]") }

// LogValue is the text of Format, for slog.
func (s *Settings) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(s)) }

// doc returns the document. If no client read the Settings, it returns one
// that cannot be saved.
func (s *Settings) doc() *document {
	if s.document == nil {
		d := &document{err: errors.New("dss: Settings: not read by Client.OwnSettings, so there is nothing to save")}
		s.document = func() *document { return d }
	}
	return s.document()
}

// field is a text for the settings, and its place there.
type field struct{ name, text string }

// check reports whether the document is valid with these fields in it. The
// error names the first faulty field, and quotes none.
func (d *document) check(fields ...field) bool {
	for _, f := range fields {
		if d.err == nil && !utf8.ValidString(f.text) {
			d.err = fmt.Errorf("dss: Settings.%s is not valid UTF-8", f.name)
		}
	}
	return d.err == nil
}
