package dss_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

// A member of another type, or spelled in another case, makes the answer invalid.
// An absent one, and null, leave its field empty.
func TestEachMemberIsReadExactly(t *testing.T) {
	for field := range reflect.TypeFor[dss.AuthInfo]().Fields() {
		member := strings.ToLower(field.Name[:1]) + field.Name[1:]
		with := func(name, value string) (dss.AuthInfo, error) {
			reply := `{"authIdentifier": "alice", "` + name + `": ` + value + `}`
			if name == "authIdentifier" {
				reply = `{"authIdentifier": ` + value + `}`
			}
			return newRecorder(t, replying(http.StatusOK, reply)).client(t).AuthInfo(t.Context(), dss.WithSecrets())
		}
		if member != "via" { // which identifies nobody
			_, err := with(member, "7")
			assert.ErrorIs(t, err, dss.ErrUnexpectedReply, "%s is a number: decodeAuthInfo, in dss/authinfo.go, reads it", member)
		}
		_, err := with(strings.ToUpper(member), `"alice"`)
		assert.ErrorIs(t, err, dss.ErrUnexpectedReply, "%s is spelled in another case: newReader in decodeAuthInfo, in dss/authinfo.go, needs its name", member)
		if member != "authIdentifier" {
			info, err := with(member, "null")
			require.NoError(t, err, member)
			assert.True(t, reflect.ValueOf(info).FieldByIndex(field.Index).IsZero(), member)
		}
	}
}

func TestAuthInfoRefusesAmbiguousReplies(t *testing.T) {
	for name, row := range map[string]struct{ reply, want string }{
		"nothing":                    {``, `the body is not a JSON object`},
		"null":                       {`null`, `the body is not a JSON object`},
		"a list":                     {`[` + aliceInfo + `]`, `the body is not a JSON object`},
		"a login page":               {`<html><form action="/login?token=canary">`, `the body is not a JSON object`},
		"a page after the object":    {aliceInfo + `<html>canary`, `the body has something after its end`},
		"a second object":            {aliceInfo + aliceInfo, `the body has something after its end`},
		"an object cut short":        {`{"authIdentifier": "alice"`, `the body is cut short`},
		"a string cut short":         {`{"authIdentifier": "alice`, `the body is not valid JSON`},
		"invalid UTF-8":              {"{\"authIdentifier\": \"al\xffice\"}", `the body is not valid UTF-8`},
		"invalid UTF-8 elsewhere":    {"{\"authIdentifier\": \"alice\", \"x\": \"\xff\"}", `the body is not valid UTF-8`},
		"an empty object":            {`{}`, `authIdentifier is missing`},
		"no identifier":              {`{"authSource": "USER_FROM_UI", "groups": []}`, `authIdentifier is missing`},
		"no identifier, but a user":  {`{"authSource": "USER_FROM_UI", "associatedDSSUser": "alice"}`, `authIdentifier is missing`},
		"identifier null":            {`{"authIdentifier": null}`, `authIdentifier is missing`},
		"identifier a number":        {`{"authIdentifier": 1}`, `authIdentifier is not a string`},
		"identifier a list":          {`{"authIdentifier": ["alice"]}`, `authIdentifier is not a string`},
		"identifier blank":           {`{"authIdentifier": " "}`, `authIdentifier is empty or blank`},
		"identifier a wide blank":    {`{"authIdentifier": "\u3000"}`, `authIdentifier is empty or blank`},
		"identifier with a line end": {`{"authIdentifier": "alice\nbob"}`, `authIdentifier has control characters`},
		"identifier with CR LF":      {`{"authIdentifier": "alice\r\nX-DKU-ProxyUser: admin"}`, `authIdentifier has control characters`},
		"identifier with NUL":        {`{"authIdentifier": "alice\u0000"}`, `authIdentifier has control characters`},
		"identifier with U+0085":     {`{"authIdentifier": "ali\u0085ce"}`, `authIdentifier has control characters`},
		"identifier with U+2028":     {`{"authIdentifier": "ali\u2028ce"}`, `authIdentifier has control characters`},
		"a space before it":          {`{"authIdentifier": " alice"}`, `authIdentifier has spaces at its ends`},
		"a space after it":           {`{"authIdentifier": "alice "}`, `authIdentifier has spaces at its ends`},
		"a wide space after it":      {`{"authIdentifier": "alice\u00a0"}`, `authIdentifier has spaces at its ends`},
		"half a surrogate pair":      {`{"authIdentifier": "alice\ud800"}`, `authIdentifier has the character U+FFFD, or half a surrogate pair`},
		"identifier in another case": {`{"AuthIdentifier": "alice", "authIdentifier": "bob"}`, `authIdentifier is spelled in another case`},
		"only in another case":       {`{"AUTHIDENTIFIER": "alice", "groups": []}`, `authIdentifier is spelled in another case`},
		"groups with a long s":       {`{"authIdentifier": "alice", "groupſ": ["admin"]}`, `groups is spelled in another case`},
		"identifier twice":           {`{"authIdentifier": "alice", "authIdentifier": "bob"}`, `the body has a name twice`},
		"identifier twice, escaped":  {`{"authIdentifier": "alice", "authIdentifie\u0072": "bob"}`, `the body has a name twice`},
		"groups twice":               {`{"authIdentifier": "alice", "groups": [], "groups": ["admin"]}`, `the body has a name twice`},
		"a name twice, deep inside":  {`{"authIdentifier": "alice", "future": [{"a": {"b": 1, "b": 2}}]}`, `the body has a name twice`},
		"identifier with U+FFFD":     {`{"authIdentifier": "ali\ufffdce"}`, `authIdentifier has the character U+FFFD, or half a surrogate pair`},
		"half a pair in a name":      {`{"authIdentifier": "alice", "groups\ud800": ["admin"]}`, `groups is spelled with the character U+FFFD, or half a surrogate pair`},
		"U+FFFD in a name":           {`{"authIdentifier": "alice", "associated\ufffdDSSUser": "bob"}`, `associatedDSSUser is spelled with the character U+FFFD, or half a surrogate pair`},
		"a byte order mark":          {"\ufeff" + aliceInfo, `the body is not a JSON object`},
		"a comma at the end":         {`{"authIdentifier": "alice",}`, `the body is not valid JSON`},
		"a comma among groups":       {`{"authIdentifier": "alice", "groups": ["readers",]}`, `the body is not valid JSON`},
		"no comma":                   {`{"authIdentifier": "alice" "groups": []}`, `the body is not valid JSON`},
		"a name without quotes":      {`{authIdentifier: "alice"}`, `the body is not valid JSON`},
		"a name that is a number":    {`{1: "alice"}`, `the body is not valid JSON`},
		"a raw line end":             {"{\"authIdentifier\": \"ali\nce\"}", `the body is not valid JSON`},
		"nested too deep":            {`{"authIdentifier": "alice", "future": ` + strings.Repeat("[", 100_000), `the body is not valid JSON`},
		"null after the object":      {aliceInfo + `null`, `the body has something after its end`},
		"groups a string":            {`{"authIdentifier": "alice", "groups": "admin"}`, `groups is not a list`},
		"groups an object":           {`{"authIdentifier": "alice", "groups": {"admin": true}}`, `groups is not a list`},
		"null among groups":          {`{"authIdentifier": "alice", "groups": ["readers", null]}`, `groups has an element that is not a string`},
		"a number among groups":      {`{"authIdentifier": "alice", "groups": [7]}`, `groups has an element that is not a string`},
		"a list among groups":        {`{"authIdentifier": "alice", "groups": [["readers"]]}`, `groups has an element that is not a string`},
		"source a number":            {`{"authIdentifier": "alice", "authSource": 1}`, `authSource is not a string`},
		"profile an object":          {`{"authIdentifier": "alice", "userProfile": {}}`, `userProfile is not a string`},
		"run-as user a list":         {`{"authIdentifier": "alice", "userForImpersonation": []}`, `userForImpersonation is not a string`},
		"user a number":              {`{"authIdentifier": "alice", "associatedDSSUser": 1}`, `associatedDSSUser is not a string`},
		"user blank":                 {`{"authIdentifier": "alice", "associatedDSSUser": "\t"}`, `associatedDSSUser is empty or blank`},
		"user with a line end":       {`{"authIdentifier": "alice", "associatedDSSUser": "bob\nadmin"}`, `associatedDSSUser has control characters`},
		"user with a space":          {`{"authIdentifier": "alice", "associatedDSSUser": "bob "}`, `associatedDSSUser has spaces at its ends`},
		"user in another case":       {`{"authIdentifier": "alice", "associatedDssUser": "bob"}`, `associatedDSSUser is spelled in another case`},
		"user in two spellings":      {`{"authIdentifier": "alice", "associatedDSSUser": "alice", "associatedDSSUSer": "bob"}`, `associatedDSSUSer differs from its other spelling`},
		"user object without login":  {`{"authIdentifier": "alice", "associatedDSSUser": {"name": "bob"}}`, `associatedDSSUser is an object whose login is missing`},
		"user object, login null":    {`{"authIdentifier": "alice", "associatedDSSUser": {"login": null}}`, `associatedDSSUser is an object whose login is missing`},
		"user object, login twice":   {`{"authIdentifier": "alice", "associatedDSSUser": {"login": "bob", "login": "alice"}}`, `the body has a name twice`},
		"user object, another case":  {`{"authIdentifier": "alice", "associatedDSSUser": {"Login": "bob"}}`, `associatedDSSUser is an object whose login is spelled in another case`},
		"user object, blank login":   {`{"authIdentifier": "alice", "associatedDSSUser": {"login": " "}}`, `associatedDSSUser is empty or blank`},
		"no identifier, yet a user":  {`{"authIdentifier": "", "associatedDSSUser": "alice"}`, `associatedDSSUser is there, and authIdentifier is empty`},
		"secrets an object":          {`{"authIdentifier": "alice", "secrets": {"name": "canary"}}`, `secrets is not a list`},
		"null among secrets":         {`{"authIdentifier": "alice", "secrets": [null]}`, `secrets has an element that is not a JSON object`},
		"a secret without name":      {`{"authIdentifier": "alice", "secrets": [{"value": "canary"}]}`, `secrets has an element that is a secret whose name is missing`},
		"a secret of two names":      {`{"authIdentifier": "alice", "secrets": [{"name": "db", "key": "canary", "value": "x"}]}`, `secrets has an element that is a secret whose key differs from its name`},
		"a secret with a number":     {`{"authIdentifier": "alice", "secrets": [{"name": "db", "value": 1}]}`, `secrets has an element that is a secret whose value is not a string`},
	} {
		t.Run(name, func(t *testing.T) {
			c := newRecorder(t, replying(http.StatusOK, row.reply)).client(t)

			info, err := c.AuthInfo(t.Context(), dss.WithSecrets())
			assert.EqualError(t, err, "dss: GET /auth/info: unexpected reply: "+row.want)
			assert.ErrorIs(t, err, dss.ErrUnexpectedReply)
			assert.Zero(t, info, "the result is empty")

			_, err = c.AuthInfoFromBrowserHeaders(t.Context(), http.Header{"Cookie": {"a=b"}})
			assert.EqualError(t, err, "dss: POST /auth/info-from-browser-headers: unexpected reply: "+row.want)
		})
	}
}

func TestLogin(t *testing.T) {
	for name, row := range map[string]struct{ reply, want string }{
		"nobody":                        {`{"authIdentifier": ""}`, ""},
		"nobody, with groups":           {`{"authIdentifier": "", "groups": ["readers"]}`, ""},
		"nobody, twice said":            {`{"authIdentifier": "", "associatedDSSUser": ""}`, ""},
		"nobody, user null":             {`{"authIdentifier": "", "associatedDSSUser": null}`, ""},
		"an API key":                    {`{"authSource": "API_KEY", "authIdentifier": "alice"}`, ""},
		"an API key with groups":        {`{"authSource": "API_KEY", "authIdentifier": "alice", "groups": ["admin"]}`, ""},
		"a global key with a user":      {`{"authSource": "GLOBAL_API_KEY", "authIdentifier": "alice", "associatedDSSUser": "alice"}`, ""},
		"a key in small letters":        {`{"authSource": "global_api_key", "authIdentifier": "alice", "associatedDSSUser": "alice"}`, ""},
		"a personal key, small letters": {`{"authSource": "personal_api_key", "authIdentifier": "alice", "associatedDSSUser": "alice"}`, ""},
		"a personal key without user":   {`{"authSource": "PERSONAL_API_KEY", "authIdentifier": "alice", "groups": ["readers"]}`, ""},
		"neither source nor groups":     {`{"authIdentifier": "alice"}`, ""},
		"groups null":                   {`{"authIdentifier": "alice", "groups": null}`, ""},
		"a key, empty associated user":  {`{"authSource": "GLOBAL_API_KEY", "authIdentifier": "alice", "associatedDSSUser": "", "groups": ["admin"]}`, ""},
		"an unknown source":             {`{"authSource": "SOMETHING_NEW", "authIdentifier": "alice", "groups": ["readers"]}`, ""},
		"a blank source":                {`{"authSource": " ", "authIdentifier": "alice", "groups": ["readers"]}`, ""},

		"a personal key":             {`{"authSource": "PERSONAL_API_KEY", "authIdentifier": "key-1", "associatedDSSUser": "alice"}`, "alice"},
		"a browser":                  {aliceInfo, "alice"},
		"a browser without user":     {`{"authSource": "USER_FROM_UI", "authIdentifier": "alice"}`, "alice"},
		"a user, no source":          {`{"authIdentifier": "alice", "groups": ["readers"]}`, "alice"},
		"a user without any group":   {`{"authIdentifier": "alice", "groups": []}`, "alice"},
		"source null":                {`{"authSource": null, "authIdentifier": "alice", "groups": []}`, "alice"},
		"an unknown source, a user":  {`{"authSource": "SOMETHING_NEW", "authIdentifier": "x", "associatedDSSUser": "alice"}`, "alice"},
		"the user differs":           {`{"authSource": "USER_FROM_UI", "authIdentifier": "bob", "associatedDSSUser": "alice"}`, "alice"},
		"a user's other spelling":    {`{"authSource": "USER_FROM_UI", "authIdentifier": "bob", "associatedDSSUSer": "alice"}`, "alice"},
		"both spellings alike":       {`{"authIdentifier": "bob", "associatedDSSUser": "alice", "associatedDSSUSer": {"login": "alice"}}`, "alice"},
		"a user as an object":        {`{"authIdentifier": "bob", "associatedDSSUser": {"displayName": "A", "login": "alice"}}`, "alice"},
		"via of another shape":       {`{"via": {"a": 1}, "authSource": "USER_FROM_UI", "authIdentifier": "alice"}`, "alice"},
		"unknown members":            {`{"authIdentifier": "alice", "groups": [], "future": [{"a": null}], "x": 1e999}`, "alice"},
		"an empty associated user":   {`{"authSource": "USER_FROM_UI", "authIdentifier": "alice", "associatedDSSUser": ""}`, "alice"},
		"an empty one as an object":  {`{"authSource": "USER_FROM_UI", "authIdentifier": "alice", "associatedDSSUSer": {"login": ""}}`, "alice"},
		"one spelling of it empty":   {`{"authIdentifier": "bob", "associatedDSSUser": "", "associatedDSSUSer": "alice"}`, "alice"},
		"U+FFFD outside the login":   {`{"authIdentifier": "alice", "groups": ["\udc00", "\ufffd"], "userProfile": "\ud800", "via": ["\ufffd"]}`, "alice"},
		"a login with inner spaces":  {`{"authSource": "USER_FROM_UI", "authIdentifier": "alice de bob"}`, "alice de bob"},
		"a login outside ASCII":      {`{"authSource": "USER_FROM_UI", "authIdentifier": "\u00e1lice\ud83d\ude00"}`, "álice😀"},
		"a login in another case":    {`{"authSource": "USER_FROM_UI", "authIdentifier": "Alice"}`, "Alice"},
		"a login with a markup sign": {`{"authSource": "USER_FROM_UI", "authIdentifier": "<alice>"}`, "<alice>"},
	} {
		t.Run(name, func(t *testing.T) {
			info, err := newRecorder(t, replying(http.StatusOK, row.reply)).client(t).AuthInfo(t.Context())
			require.NoError(t, err)
			assert.Equal(t, row.want, info.Login())
			assert.Equal(t, strings.HasPrefix(name, "nobody"), info.IsAnonymous())
		})
	}
}

func TestMissingGroupsAreNil(t *testing.T) {
	server := newRecorder(t, replying(http.StatusOK, `{"authIdentifier": "key"}`))
	info, err := server.client(t).AuthInfo(t.Context())
	require.NoError(t, err)
	assert.Nil(t, info.Groups)

	server = newRecorder(t, replying(http.StatusOK, `{"authIdentifier": "alice", "groups": []}`))
	info, err = server.client(t).AuthInfo(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{}, info.Groups)
}

func TestSecretsOnlyOnRequest(t *testing.T) {
	server := newRecorder(t, replying(http.StatusOK, `{"authIdentifier": "alice", "groups": [], "secrets": [{"name": "db", "value": "s3cret", "secret": true}, {"name": "hidden"},
		{"key": "mail", "value": "m1"}, {"key": "sms", "name": "sms", "value": "s1"}]}`))
	c := server.client(t)

	info, err := c.AuthInfo(t.Context())
	require.NoError(t, err)
	assert.Empty(t, info.Secrets)
	assert.Contains(t, server.last(t).Target, "withSecrets=False")

	info, err = c.AuthInfo(t.Context(), dss.WithSecrets())
	require.NoError(t, err)
	assert.Contains(t, server.last(t).Target, "withSecrets=True")
	require.Len(t, info.Secrets, 4)
	assert.Equal(t, "db", info.Secrets[0].Name)
	assert.Equal(t, "s3cret", info.Secrets[0].Value())
	assert.Equal(t, "", info.Secrets[1].Value())
	assert.Equal(t, "mail", info.Secrets[2].Name, "named as in DSS's samples")
	assert.Equal(t, "m1", info.Secrets[2].Value())
	assert.Equal(t, "sms", info.Secrets[3].Name)
	assert.Equal(t, "", dss.Secret{}.Value())
}

// Auth info may hold any secret that a user may save.
func TestSecretsOfAnyText(t *testing.T) {
	server := newRecorder(t, replying(http.StatusOK, `{"authIdentifier": "alice", "groups": [], "secrets": [{"key": "\ufffd", "value": "a\ud800b"}]}`))
	info, err := server.client(t).AuthInfo(t.Context(), dss.WithSecrets())
	require.NoError(t, err)
	require.Len(t, info.Secrets, 1)
	assert.Equal(t, "\ufffd", info.Secrets[0].Name)
	assert.Equal(t, "a\ufffdb", info.Secrets[0].Value())
}

// FuzzAuthInfo checks that any other reader of JSON finds the same user in an
// accepted reply.
func FuzzAuthInfo(f *testing.F) {
	for _, seed := range []string{
		aliceInfo, `{}`, `null`, `{"authIdentifier": ""}`, `{"authIdentifier": "alice", "groups": null}`,
		`{"authIdentifier": "a", "authidentifier": "b"}`, `{"authIdentifier": "\ud800"}`, `{"authIdentifier": "a"}{}`,
		`{"authIdentifier": "key", "authSource": "GLOBAL_API_KEY", "associatedDSSUSer": {"login": "alice"}}`,
		`{"authIdentifier": "alice", "secrets": [{"name": "a", "value": "b"}]}`, "{\"authIdentifier\": \"\xff\"}", `[[[[`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		info, err := dss.DecodeAuthInfo(body)
		if err != nil {
			require.Zero(t, info)
			return
		}
		require.True(t, utf8.Valid(body))
		var plain map[string]any
		require.NoError(t, json.Unmarshal(body, &plain))
		require.Equal(t, plain["authIdentifier"], info.AuthIdentifier)
		login := info.Login()
		if login == "" {
			return
		}
		require.Equal(t, strings.TrimSpace(login), login)
		require.Equal(t, login, strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return -1
			}
			return r
		}, login))
		source, _ := plain["authSource"].(string)
		require.False(t, strings.Contains(source, "API_KEY") && source != "PERSONAL_API_KEY", "an API key is not a user")
		if list, ok := plain["groups"].([]any); ok {
			require.Len(t, info.Groups, len(list))
			for i, group := range list {
				require.Equal(t, group, info.Groups[i])
			}
		}
	})
}

func TestUser(t *testing.T) {
	const bob = `{"login": "bob", "displayName": "Bob", "email": "bob@example.com", "groups": ["readers"], "enabled": true, "userProfile": "X"}`
	server := newRecorder(t, replying(http.StatusOK, bob))
	u, err := server.client(t).User(t.Context(), "bob")
	require.NoError(t, err)
	assert.Equal(t, dss.User{Login: "bob", DisplayName: "Bob", Email: "bob@example.com", Groups: []string{"readers"}, Enabled: true}, u)

	u, err = server.client(t).User(t.Context(), "Bob")
	require.NoError(t, err, "DSS may fold the case")
	assert.Equal(t, "bob", u.Login)

	for login, want := range map[string]string{
		"":         `the login is empty or blank`,
		" ":        `the login is empty or blank`,
		"bob\n":    `the login has control characters`,
		" bob":     `the login has spaces at its ends`,
		"b\xffb":   `the login is not valid UTF-8`,
		"..":       `its path is refused: dot segments are not allowed`,
		"../users": `its path is refused: dot segments are not allowed`,
		`..\x`:     `its path is refused: dot segments are not allowed`,
		"%2e%2e":   `its path is refused: dot segments are not allowed`,
	} {
		before := len(server.requests())
		_, err := server.client(t).User(t.Context(), login)
		assert.EqualError(t, err, "dss: GET /users/{login}: "+want)
		assert.Len(t, server.requests(), before, "calls")
	}
	for login, target := range map[string]string{
		"bob@example.com": "/users/bob@example.com",
		"a/b":             "/users/a%2Fb",
		"a b?c#d":         "/users/a%20b%3Fc%23d",
		"100%":            "/users/100%25",
		"é":               "/users/%C3%A9",
	} {
		_, err := server.client(t).User(t.Context(), login)
		assert.EqualError(t, err, "dss: GET /users/{login}: unexpected reply: it is about another user")
		assert.Equal(t, "/dip/publicapi"+target, server.last(t).Target)
	}
}

func TestUserRefusesOtherReplies(t *testing.T) {
	for reply, want := range map[string]string{
		`<html>`:                              `the body is not a JSON object`,
		`{}`:                                  `login is empty or blank`,
		`{"login": "bob", "groups": 1}`:       `groups is not a list`,
		`{"login": "bob", "enabled": "true"}`: `enabled is neither true nor false`,
		`{"login": "bob", "Enabled": true}`:   `enabled is spelled in another case`,
	} {
		_, err := newRecorder(t, replying(http.StatusOK, reply)).client(t).User(t.Context(), "bob")
		assert.EqualError(t, err, "dss: GET /users/{login}: unexpected reply: "+want)
	}
	_, err := newRecorder(t, replying(http.StatusNotFound, `{"errorType": "x.NotFoundException", "message": "none"}`)).client(t).User(t.Context(), "bob")
	var e *dss.Error
	require.True(t, errors.As(err, &e))
	assert.Equal(t, http.StatusNotFound, e.StatusCode)
}

func TestVia(t *testing.T) {
	for name, row := range map[string]struct {
		via  string
		want []string
	}{
		"a list":              {`["ticket", "api"]`, []string{"ticket", "api"}},
		"a list of two kinds": {`["ticket", 1, null]`, []string{"ticket"}},
		"an empty list":       {`[]`, []string{}},
		"null":                {`null`, nil},
		"an object":           {`{"ticket": true}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			info, err := fakeClient(t, func(*http.Request) (*http.Response, error) {
				return reply(200, `{"authIdentifier": "alice", "via": `+row.via+`}`), nil
			}).AuthInfo(t.Context())
			require.NoError(t, err)
			assert.Equal(t, row.want, info.Via)
		})
	}
}
