package chromium_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/examples/internal/chromium"
)

// A person signs in to the fake DSS on its own page, and an application on
// another port knows the person.
func TestSignInAtTheFakeReachesTheApplication(t *testing.T) {
	fake := dsstest.New()
	fake.AddAPIKey("dev", "")
	for _, u := range dsstest.DemoUsers() {
		fake.AddUser(u)
	}
	page := httptest.NewServer(fake.SignInPage())
	defer page.Close()
	client, err := dss.New(dss.Config{URL: page.URL, APIKey: "dev"})
	require.NoError(t, err)
	auth, err := dssauth.New(dssauth.Config{Client: client})
	require.NoError(t, err)
	defer auth.Close()
	app := httptest.NewServer(auth.RequireGroup("analysts")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, ok := dssauth.FromContext(r.Context())
		assert.True(t, ok)
		w.Header().Set("Content-Type", "text/html")
		w.Write([]byte("<h1>hello " + id.Login + "</h1>"))
	})))
	defer app.Close()

	b := chromium.New(t)
	b.Do(chromedp.Navigate(app.URL + "/me"))
	b.Sees(".mark", "Signed out")
	b.LooksRight()

	signIn := page.URL + "/?redirect=" + url.QueryEscape(app.URL+"/me")
	b.Do(chromedp.Navigate(signIn))
	b.Sees("#you", "You are signed out")
	b.LooksRight()
	b.Clicks("#sign-in-ann")
	assert.Equal(t, app.URL+"/me", b.URL())
	b.Sees("h1", "hello ann")

	b.Do(chromedp.Navigate(signIn))
	b.Sees("#you", "You are Ann Analyst")
	b.LooksRight()
	b.Clicks("button[aria-label='Leave analysts']")
	auth.ForgetUser("ann") // or wait for the TTL
	b.Clicks("#go-on")
	b.Sees(".mark", "No access")
	b.LooksRight()

	b.Do(chromedp.Navigate(signIn))
	b.Clicks("#outage")
	auth.ForgetUser("ann")
	b.WithinReach("#outage")
	b.LooksRight()
	b.Do(chromedp.Navigate(app.URL + "/me"))
	b.Sees(".mark", "Not now")
	b.LooksRight()

	b.Do(chromedp.Navigate(signIn))
	b.Clicks("#outage")
	b.Clicks("#sign-out")
	b.Sees("#you", "You are signed out")

	// A page of another port cannot sign a person in.
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Write([]byte(`<form method="post" action="` + page.URL + `/sign-in"><input name="login" value="admin"><button id="go">go</button></form>`))
	}))
	defer other.Close()
	b.Do(chromedp.Navigate(other.URL))
	b.Clicks("#go")
	b.Do(chromedp.Navigate(page.URL))
	b.Sees("#you", "You are signed out")
}
