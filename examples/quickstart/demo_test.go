package main

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
)

func TestSignInRedirectsNowhereElse(t *testing.T) {
	demo, err := startDemo()
	require.NoError(t, err)
	defer demo.close()
	client, err := demo.client()
	require.NoError(t, err)
	app, err := newApp(dssauth.Config{Client: client}, demo)
	require.NoError(t, err)
	defer app.auth.Close()

	for back, want := range map[string]string{
		"":                         "/",
		"https://evil.example/":    "/",
		"//evil.example/":          "/",
		"/\\evil.example/":         "/",
		"\\\\evil.example/":        "/",
		"/\t/evil.example/":        "/",
		"javascript:alert(1)":      "/",
		"report":                   "/",
		"/report":                  "/report",
		"/report?year=2026&page=2": "/report?year=2026&page=2",
	} {
		form := url.Values{"login": {"ann"}, "redirect": {back}}
		r := httptest.NewRequest(http.MethodPost, "/sign-in", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		app.handler.ServeHTTP(w, r)
		assert.Equal(t, http.StatusSeeOther, w.Code, back)
		assert.Equal(t, want, w.Header().Get("Location"), back)
	}
}
