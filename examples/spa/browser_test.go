package main

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"

	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/examples/internal/chromium"
)

const (
	text = chromedp.CSS("#text")
	send = chromedp.CSS("form button")
)

func TestPersonWritesNotesInABrowser(t *testing.T) {
	f := newFixture(t, false)
	tab := chromium.New(t)
	tab.Do(chromedp.Navigate(f.url + "/"))
	tab.Awaits("#alert", "Sign in again")

	// The link leads to DSS, in another tab.
	dss := tab.NewTab(t)
	dss.Do(chromedp.Navigate(f.url + "/sign-in"))
	dss.Clicks("#ann")
	comesBack(tab)
	tab.Awaits("#me", "ann")
	tab.Awaits("#notes", "None so far")

	// A note reaches all who look.
	other := tab.NewTab(t)
	other.Do(chromedp.Navigate(f.url + "/"))
	other.Awaits("#me", "ann")
	tab.Do(chromedp.SendKeys(text, "the first note"), chromedp.Click(send))
	other.Awaits("ol", "the first note")
	tab.Awaits("ol", "the first note")
	tab.Awaits("#sent", "Sent.")
	tab.AwaitsThat(`document.querySelector("#text").value === ""`)

	// DSS is down: the text stays, and is sent once DSS is back.
	f.fake.SetDown(true)
	f.auth.ForgetUser("ann")
	tab.Do(chromedp.SendKeys(text, "written in an outage"), chromedp.Click(send))
	tab.Awaits("#waiting", "Dataiku DSS cannot say who you are")
	tab.Awaits("#countdown", "Trying again in")
	tab.Awaits("#sent", "Not sent yet")
	tab.AwaitsThat(`document.querySelector("#text").value === "written in an outage"`)
	other.Awaits("#countdown", "Trying again in")
	f.fake.SetDown(false)
	tab.Awaits("ol", "written in an outage")
	tab.Awaits("#sent", "Sent.")
	tab.AwaitsThat(`document.querySelector("#text").value === "" && document.querySelector("#reason").textContent === ""`)
	other.Awaits("ol", "written in an outage")
	notes, _ := f.board.read()
	assert.Len(t, notes, 2, "it was sent twice")

	// Ann loses the group.
	tab.Do(chromedp.SendKeys(text, "not finished"))
	f.fake.AddUser(dsstest.User{Login: "ann"})
	tab.Awaits("#alert", "No access")
	other.Awaits("#alert", "No access")
	tab.AwaitsThat(nothingIsShown)
	f.fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"analysts"}})
	f.auth.ForgetUser("ann")
	for _, each := range []*chromium.Tab{tab, other} {
		comesBack(each)
		each.Awaits("ol", "the first note")
	}

	// Ann signs out in the tab of DSS, and signs in again.
	dss.Clicks("#sign-out")
	tab.Awaits("#alert", "Sign in again")
	other.Awaits("#alert", "Sign in again")
	tab.AwaitsThat(nothingIsShown)
	dss.Clicks("#ann")
	comesBack(tab)
	tab.AwaitsThat(`document.querySelector("#text").value === "not finished"`)

	// Bob signs in instead: he neither sees nor sends what Ann wrote.
	f.fake.AddUser(dsstest.User{Login: "bob", Groups: []string{"analysts"}})
	dss.Clicks("#bob")
	tab.Awaits("#me", "bob")
	tab.AwaitsThat(`document.querySelector("#text").value === ""`)
}

// nothingIsShown of the notes, and the text that was not sent is out of sight.
const nothingIsShown = `document.querySelector("ol").children.length === 0 && document.querySelector("#text").offsetParent === null && document.querySelector("#me").innerText === ""`

// comesBack is a person who has done something in another tab.
func comesBack(tab *chromium.Tab) {
	tab.Do(chromedp.Click(chromedp.CSS("#alert .look")))
}

// showDSS stands for the pages of DSS.
func (f *fixture) showDSS(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprint(w, `<!doctype html><title>DSS</title><link rel="icon" href="data:,">`+
		`<form method="post" action="/sign-in"><button name="login" value="ann" id="ann">Ann</button> <button name="login" value="bob" id="bob">Bob</button></form>`+
		`<form method="post" action="/sign-out"><button id="sign-out">Sign out</button></form>`)
}

func (f *fixture) signIn(w http.ResponseWriter, r *http.Request) {
	f.endSessions(r)
	http.SetCookie(w, f.fake.SignIn(r.PostFormValue("login")))
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (f *fixture) signOut(w http.ResponseWriter, r *http.Request) {
	f.endSessions(r)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (f *fixture) endSessions(r *http.Request) {
	for _, c := range r.Cookies() {
		f.fake.SignOut(c)
	}
}

