package promises

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

// Handlers get each field of Identity from DSS: from a user, or from an API key without
// one.
func TestEachFieldOfIdentityComesFromDSS(t *testing.T) {
	fake := dsstest.NewServer(t)
	user := dsstest.User{Groups: []string{"analysts"}}
	for field, v := range reflect.ValueOf(&user).Elem().Fields() {
		if field.Type.Kind() == reflect.String {
			v.SetString("the-" + field.Name)
		}
	}
	fake.AddUser(user)
	auth, err := dssauth.New(dssauth.Config{Client: fake.Client(), UserDetails: true, AllowAPIKeys: true})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, auth.Close()) })
	seen := func(change func(*http.Request)) (id dssauth.Identity) {
		r := httptest.NewRequest("GET", "/", nil)
		change(r)
		auth.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			id, _ = dssauth.FromContext(r.Context())
		})).ServeHTTP(httptest.NewRecorder(), r)
		return id
	}
	ofUser := seen(func(r *http.Request) { r.AddCookie(fake.SignIn(user.Login)) })
	fake.AddAPIKey("key-of-nobody", "")
	ofKey := seen(func(r *http.Request) { r.SetBasicAuth("key-of-nobody", "") })

	assert.Equal(t, []string{"analysts"}, ofUser.Groups(), "resolver.go does not set the groups")
	for field := range reflect.TypeFor[dssauth.Identity]().Fields() {
		if field.IsExported() {
			assert.False(t, reflect.ValueOf(ofUser).FieldByIndex(field.Index).IsZero() && reflect.ValueOf(ofKey).FieldByIndex(field.Index).IsZero(),
				"%s is empty in the handler: set it in resolver.go; the fake sends it by info, in dsstest/handler.go, from User, in dsstest/users.go", field.Name)
		}
	}
}
