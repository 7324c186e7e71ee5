package main

import (
	"strings"
	"testing"
	"time"

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
	f.turn <- struct{}{}
	tab.Do(chromedp.Navigate(f.url + "/"))
	tab.Sees("main", "Checking your sign-in…")
	f.proxy.Store(503)
	<-f.turn
	tab.Awaits("#waiting", "Dataiku DSS cannot confirm your sign-in")
	assert.NotContains(t, tab.Text("body"), "text", "there is none")
	f.proxy.Store(0)
	tab.Do(chromedp.Click(chromedp.CSS("#waiting .look")))
	tab.Awaits("#alert", "Sign in again")
	assert.NotContains(t, tab.Text("body"), "Checking")
	tab.LooksRight()

	// The link leads to DSS, in another tab.
	dss := tab.NewTab(t)
	dss.Do(chromedp.Navigate(f.url + "/sign-in"))
	dss.Clicks("#sign-in-ann")
	comesBack(tab)
	tab.Awaits("#me", "ann")
	tab.Awaits("#notes", "No notes yet")

	// A note reaches all open pages.
	other := tab.NewTab(t)
	other.Do(chromedp.Navigate(f.url + "/"))
	other.Awaits("#me", "ann")
	f.turn <- struct{}{}
	tab.Do(chromedp.SendKeys(text, "the first note"), chromedp.Click(send), chromedp.Click(send))
	tab.Awaits("#sent", "Sending…")
	<-f.turn
	for _, each := range []*chromium.Tab{tab, other} {
		each.Awaits("ol", "the first note")
	}
	tab.Awaits("#sent", "Sent.")
	tab.AwaitsThat(textIs(""))
	tab.LooksRight()

	// DSS is down: the text stays, and is sent when DSS is back.
	dss.Clicks("#outage")
	other.Awaits("#countdown", "Trying again in")
	tab.Do(chromedp.SendKeys(text, "written in an outage"), chromedp.Click(send))
	tab.Awaits("#sent", "Not sent yet")
	tab.Awaits("#waiting", "Dataiku DSS cannot confirm your sign-in")
	tab.Awaits("#countdown", "Trying again in")
	tab.AwaitsThat(textIs("written in an outage"))
	tab.Sees("#waiting", "Your text stays here.")
	tab.AwaitsThat("!" + leaves) // a reload would lose the text
	tab.LooksRight()
	tab.WithinReach("#waiting .look")
	dss.Clicks("#outage")
	for _, each := range []*chromium.Tab{tab, other} {
		each.Awaits("ol", "written in an outage")
		each.AwaitsThat(`document.querySelector("#waiting").innerText.trim() === ""`)
	}
	tab.Awaits("#sent", "Sent.")
	tab.AwaitsThat(textIs(""))
	tab.AwaitsThat(leaves)
	notes, _ := f.board.read()
	assert.Len(t, notes, 2, "it was sent twice")

	// Ann loses the group, and gets it back.
	tab.Do(chromedp.SendKeys(text, "not finished"))
	dss.Clicks("button[value=analysts].leave")
	for _, each := range []*chromium.Tab{tab, other} {
		each.Awaits("#alert", "No access")
		each.AwaitsThat(nothingIsShown)
	}
	tab.LooksRight()
	tab.AwaitsThat(`document.activeElement.innerText === "No access"`)
	dss.Clicks("button[value=analysts].join")
	f.auth.ForgetUser("ann") // sooner than the TTL
	for _, each := range []*chromium.Tab{tab, other} {
		comesBack(each)
		each.Awaits("ol", "the first note")
		each.AwaitsThat(`document.activeElement.id === "text"`)
	}

	// Ann signs out in the tab of DSS, and signs in again.
	dss.Clicks("#sign-out")
	for _, each := range []*chromium.Tab{tab, other} {
		each.Awaits("#alert", "Sign in again")
		each.AwaitsThat(nothingIsShown)
	}
	f.proxy.Store(503)
	comesBack(tab)
	tab.Awaits("#waiting", "Dataiku DSS cannot confirm your sign-in")
	tab.AwaitsThat(nothingIsShown)
	f.proxy.Store(0)
	tab.Do(chromedp.Click(chromedp.CSS("#waiting .look")))
	tab.Awaits("#alert", "Sign in again")
	dss.Clicks("#sign-in-ann")
	comesBack(tab)
	tab.Awaits("ol", "the first note")
	tab.AwaitsThat(textIs("not finished"))

	// Bob signs in instead: he can neither see nor send Ann's text.
	dss.Clicks("#sign-in-bob")
	tab.Awaits("#alert", "No access")
	dss.Clicks(".current button[value=analysts].join")
	f.auth.ForgetUser("bob")
	comesBack(tab)
	tab.Awaits("#me", "bob")
	tab.AwaitsThat(textIs(""))

	// The page waits for the given time, or until Bob clicks or comes back.
	for what, happens := range map[string]string{
		"a click":           `document.querySelector("#waiting .look").click()`,
		"another tab again": `document.dispatchEvent(new Event("visibilitychange"))`,
		"another window":    `dispatchEvent(new Event("focus"))`,
		"the network again": `dispatchEvent(new Event("online"))`,
	} {
		f.proxy.Store(503)
		tab.Do(chromedp.SendKeys(text, what), chromedp.Click(send))
		tab.AwaitsThat(`/Trying again in (30|2.) s/.test(document.querySelector("#waiting").innerText)`)
		f.proxy.Store(0)
		came := time.Now()
		tab.AwaitsThat(happens + " ?? true")
		tab.Awaits("ol", what)
		assert.Less(t, time.Since(came), 20*time.Second, "it waited for the given time in spite of %s", what)
	}

	// Bob has left the page and its text, and "back" shows an old copy.
	tab.Do(chromedp.SendKeys(text, "left"))
	tab.AwaitsThat(`window.old = true`)
	tab.AwaitsThat(`dispatchEvent(new PageTransitionEvent("pageshow", {persisted: true}))`)
	tab.AwaitsThat(`!window.old`)
	tab.Awaits("#me", "bob")
	tab.AwaitsThat(textIs(""))

	// The proxy itself sends Bob to sign in.
	f.proxy.Store(302)
	tab.Do(chromedp.SendKeys(text, "not sent"), chromedp.Click(send))
	tab.Awaits("#alert", "Sign in again")
}

func TestLongNamesFit(t *testing.T) {
	f := newFixture(t, false)
	long := strings.Repeat("a", 100)
	f.fake.AddUser(dsstest.User{Login: long, Groups: []string{"analysts", long}})
	tab := chromium.New(t)
	tab.Do(chromedp.Navigate(f.url + "/sign-in"))
	tab.LooksRight()
	tab.Clicks(chromedp.CSS("#sign-in-" + long))
	tab.LooksRight()
	tab.Do(chromedp.Navigate(f.url + "/"))
	tab.Awaits("#me", long)
	tab.Do(chromedp.SendKeys(text, long), chromedp.Click(send))
	tab.Awaits("ol", long)
	tab.LooksRight()
}

// nothingIsShown checks that the notes and the unsent text are hidden.
const nothingIsShown = `document.querySelector("ol").children.length === 0 && document.querySelector("#text").offsetParent === null && document.querySelector("#me").innerText === ""`

// leaves reports whether the person can leave the page without a question.
const leaves = `dispatchEvent(new Event("beforeunload", {cancelable: true}))`

func textIs(what string) string { return `document.querySelector("#text").value === "` + what + `"` }

// comesBack is a person that returns from another tab.
func comesBack(tab *chromium.Tab) {
	tab.Do(chromedp.Click(chromedp.CSS("#alert .look")))
}
