package dsstest_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// The fake sends each member that dss reads, and no other: the recordings have
// no member that is new.
func TestAuthInfoHasEachMember(t *testing.T) {
	fake := dsstest.NewServer(t)
	user := dsstest.User{Groups: []string{"analysts"}}
	for field, v := range reflect.ValueOf(&user).Elem().Fields() {
		if field.Type.Kind() == reflect.String {
			v.SetString("the-" + field.Name)
		}
	}
	fake.AddUser(user)
	fake.SetOwnSettings(user.Login, `{"secrets": [{"name": "token", "value": "canary"}]}`)
	session := http.Header{"Cookie": {fake.SignIn(user.Login).String()}}

	info, err := fake.Client().AuthInfoFromBrowserHeaders(t.Context(), session, dss.WithSecrets())
	require.NoError(t, err)
	for field, v := range reflect.ValueOf(info).Fields() {
		assert.False(t, v.IsZero(), "%s of dss.AuthInfo is empty: decodeAuthInfo, in dss/authinfo.go, does not read it, "+
			"or the fake does not send it: authInfo and info, in dsstest/handler.go, from User, in dsstest/users.go", field.Name)
	}

	var sent map[string]json.RawMessage
	require.NoError(t, fake.Client().Do(t.Context(), "POST", "/auth/info-from-browser-headers?withSecrets=true", map[string]string{"Cookie": session.Get("Cookie")}, &sent))
	for name := range sent {
		_, read := reflect.TypeFor[dss.AuthInfo]().FieldByNameFunc(func(field string) bool { return strings.EqualFold(field, name) })
		assert.True(t, read, "the fake sends %s, and dss.AuthInfo has no such field: see dss/authinfo.go", name)
	}
}
