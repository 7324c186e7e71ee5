package dsstest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/dssauth/dssauth/dsstest"
)

func TestOwnSettingsRefused(t *testing.T) {
	fake := newFake(t)
	before := fake.OwnSettings("ann")
	for name, body := range map[string]string{
		"nothing":          ``,
		"null":             `null`,
		"a list":           `[]`,
		"half an object":   `{"login":`,
		"two objects":      `{} {}`,
		"bytes, not UTF-8": "{\"a\": \"\xff\"}",
	} {
		t.Run(name, func(t *testing.T) {
			status, reply := call(t, fake, keyOf("ann-key"), "PUT", "/current-user", body)
			assert.Equal(t, 400, status)
			assertError(t, "IllegalArgumentException", reply)
			assert.Equal(t, before, fake.OwnSettings("ann"))
			assert.Panics(t, func() { fake.SetOwnSettings("ann", body) })
		})
	}
	for _, method := range []string{"GET", "PUT"} {
		status, reply := call(t, fake, keyOf(fake.AdminKey()), method, "/current-user", `{}`)
		assert.Equal(t, 403, status, "a key without a user has no settings")
		assertError(t, "UnauthorizedException", reply)
	}
	assert.Panics(t, func() { fake.SetOwnSettings("zed", `{}`) })
	assert.Empty(t, fake.OwnSettings("zed"))
}

func TestOwnSettingsOfANewUser(t *testing.T) {
	fake := newFake(t)
	_, reply := call(t, fake, keyOf("ann-key"), "GET", "/current-user", "")
	assert.JSONEq(t, `{"login":"ann","displayName":"Ann","email":"ann@example.com","enabled":true,"groups":["analysts","readers"],
		"userProfile":"READER","userProperties":{},"secrets":[],"credentials":{}}`, reply)
}

func TestOwnSettingsAreKeptAsTheyAre(t *testing.T) {
	fake := newFake(t)
	const odd = `{ "z": 1e400, "n": 123456789012345678901234567890, "f": 1.10,
		"secrets": [{"name": "db", "value": "s", "secret": true, "more": 12345678901234567890}],
		"deep": [[{"a": null}], "<&>\u2028"], "groups": ["administrators"], "login": "ann"}`
	status, reply := call(t, fake, keyOf("ann-key"), "PUT", "/current-user", odd)
	assert.Equal(t, 200, status)
	assert.Empty(t, reply)
	assert.Equal(t, "ann", fake.LastCaller())

	_, reply = call(t, fake, keyOf("ann-key"), "GET", "/current-user", "")
	assert.Equal(t, odd, reply, "byte by byte")

	_, reply = call(t, fake, keyOf("ann-key"), "GET", authInfo, "")
	assert.Equal(t, []any{"analysts", "readers"}, decode(t, reply).(map[string]any)["groups"], "users cannot save rights for themselves")

	fake.AddUser(dsstest.User{Login: "ann", Email: "new@example.com"})
	_, reply = call(t, fake, keyOf("ann-key"), "GET", "/current-user", "")
	got, want := decode(t, reply).(map[string]any), decode(t, odd).(map[string]any)
	assert.Equal(t, "new@example.com", got["email"])
	for _, field := range []string{"z", "n", "f", "secrets", "deep"} {
		assert.Equal(t, want[field], got[field], "a changed user keeps %s", field)
	}
}

func TestOwnSettingsOfAnotherUser(t *testing.T) {
	fake := newFake(t)
	before := fake.OwnSettings("root")
	status, _ := call(t, fake, creds(keyOf("root-key")).as("ann"), "PUT", "/current-user", `{"login":"root"}`)
	assert.Equal(t, 200, status)
	assert.Equal(t, before, fake.OwnSettings("root"))
	assert.JSONEq(t, `{"login":"ann"}`, fake.OwnSettings("ann"), "only the credentials decide the owner")
}

func TestSecrets(t *testing.T) {
	fake := newFake(t)
	cookie := cookieOf(fake.SignIn("ann"))
	const secret = `{"name": "db", "value": "s3cret", "secret": true}`
	fake.SetOwnSettings("ann", `{"secrets": [`+secret+`]}`)
	for query, shown := range map[string]bool{
		"": false, "?withSecrets=False": false, "?withSecrets=": false, "?withSecrets=1": false, "?withsecrets=true": false,
		"?withSecrets=True": true, "?withSecrets=true": true, "?withSecrets=TRUE": true,
	} {
		_, own := call(t, fake, keyOf("ann-key"), "GET", authInfo+query, "")
		_, browser := call(t, fake, keyOf("root-key"), "POST", browserInfo+query, cookie)
		for _, reply := range []string{own, browser} {
			secrets, ok := decode(t, reply).(map[string]any)["secrets"]
			assert.Equal(t, shown, ok, query)
			if shown {
				assert.Equal(t, decode(t, `[{"name": "db", "key": "db", "value": "s3cret", "secret": true}]`), secrets)
			}
		}
	}
	for _, none := range []string{`{}`, `{"secrets": null}`, `{"secrets": "odd"}`} {
		fake.SetOwnSettings("ann", none)
		_, reply := call(t, fake, keyOf("ann-key"), "GET", authInfo+"?withSecrets=True", "")
		assert.Equal(t, []any{}, decode(t, reply).(map[string]any)["secrets"], none)
	}
}

func TestAnotherLoginIsNotSaved(t *testing.T) {
	fake := newFake(t)
	for _, login := range []string{`"root"`, `"ANN"`, `null`, `7`, `["ann"]`} {
		status, _ := call(t, fake, keyOf("ann-key"), "PUT", "/current-user", `{"login": `+login+`, "n": 12345678901234567890.10}`)
		assert.Equal(t, 200, status)
		assert.JSONEq(t, `{"login":"ann","n":12345678901234567890.10}`, fake.OwnSettings("ann"), login)
		assert.Contains(t, fake.OwnSettings("ann"), "12345678901234567890.10", "the other fields, to the digit")
		assert.Contains(t, fake.OwnSettings("root"), `"login":"root"`)
	}
	assert.Equal(t, "ann", whoAmI(t, fake, keyOf("ann-key")))
}

// DSS's samples read the secrets of auth info by key.
func TestSecretsHaveKeys(t *testing.T) {
	fake := newFake(t)
	fake.SetOwnSettings("ann", `{"login":"ann","secrets":[{"name":"a","value":"1","secret":true},{"name":"b","key":"B","value":"2"},7]}`)
	_, reply := call(t, fake, keyOf("ann-key"), "GET", authInfo+"?withSecrets=True", "")
	info := decode(t, reply).(map[string]any)
	first := info["secrets"].([]any)[0].(map[string]any)
	assert.Equal(t, map[string]any{"name": "a", "key": "a", "value": "1", "secret": true}, first)
	assert.Len(t, info["secrets"], 3)
	assert.Equal(t, "B", info["secrets"].([]any)[1].(map[string]any)["key"])
	assert.NotContains(t, fake.OwnSettings("ann"), `"key":"a"`, "settings have no key")
}
