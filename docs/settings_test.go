package docs_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

func TestSettingsAreShownAsTheyWereTried(t *testing.T) {
	assert.Equal(t, "docs/settings_test.go", filesShown(t, "settings.md"))
}

func withSSO(client *dss.Client) dssauth.Config {
	return dssauth.Config{
		Client:  client,
		Headers: []string{"Cookie", "Authorization", "X-Sso-Token"},
		Cookies: []string{"dss_*"},
	}
}

func TestHeadersAndCookiesThatIdentify(t *testing.T) {
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "ann"})
	var sent map[string]string
	fake.Intercept("/auth/info-from-browser-headers", -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		assert.NoError(t, json.Unmarshal(body, &sent))
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		next.ServeHTTP(w, r)
	})
	auth := newAuth(t, withSSO(fake.Client()))
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(&http.Cookie{Name: "theme", Value: "dark"})
	session := fake.SignIn("ann")
	r.AddCookie(session)
	r.Header.Set("X-Sso-Token", "token")
	r.Header.Set("User-Agent", "a browser")
	r, err := auth.Authenticate(r)
	require.NoError(t, err)
	id, ok := dssauth.FromContext(r.Context())
	require.True(t, ok)
	assert.Equal(t, "ann", id.Login)
	assert.Equal(t, map[string]string{"Cookie": session.Name + "=" + session.Value, "X-Sso-Token": "token"}, sent)
}
