package chromium_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"

	"github.com/dssauth/dssauth/examples/internal/chromium"
)

// A person without a session signs in from any kind of page, and returns to it:
// over https, and over plain http, where browsers do not name the kind of
// request.
func TestPersonSignsInFromAnywhere(t *testing.T) {
	script := htmx(t)
	const https, both = "https", "https http"
	for _, test := range []struct {
		name string
		over string // over https only, Chromium marks forms and frames, and prefetches
		try  func(*testing.T, *app, *chromium.Tab)
	}{
		{"a page", both, fromAPage},
		{"a part", both, fromAPart},
		{"a form", https, fromAForm},
		{"a prefetched link", https, fromAPrefetchedLink},
		{"two tabs", https, fromTwoTabs},
		{"sign-out and return", both, afterASignOut},
		{"a page that no sign-in opens", https, nowhereToGo},
		{"parts that no sign-in brings", both, partsThatFail},
		{"frames that no sign-in opens", https, framesThatFail},
		{"a frame of another site", https, fromAForeignFrame},
	} {
		for scheme := range strings.FieldsSeq(test.over) {
			t.Run(test.name+" over "+scheme, func(t *testing.T) {
				test.try(t, newApp(t, scheme, script), chromium.New(t)) // without the cookies of the last one
			})
		}
	}
}

func fromAPage(t *testing.T, a *app, b *chromium.Tab) {
	b.Do(chromedp.Navigate(a.url + "/page/report?year=2025&month=3"))
	b.Sees("h1", "Who are you?")
	b.Clicks("#ann")
	b.Sees("#who", "ann")
	b.Sees("#where", "/page/report?year=2025&month=3")

	a.sessionsEnd()
	b.Do(chromedp.Navigate(a.url + "/files/bucket//key"))
	b.Clicks("#ann")
	b.Sees("#where", "/files/bucket//key")
}

func fromAPart(t *testing.T, a *app, b *chromium.Tab) {
	b.Do(chromedp.Navigate(a.url+"/public?tab=2&x=1"), chromedp.Click(chromedp.CSS("#get")))
	b.Awaits("h1", "Who are you?")
	b.Clicks("#ann")
	b.Sees("h1", "public")
	assert.Equal(t, a.url+"/public?tab=2&x=1", b.URL())
	b.Do(chromedp.Click(chromedp.CSS("#get")))
	b.Awaits("#part", "a part for ann")

	a.sessionsEnd() // the control works again, even at once
	b.Do(chromedp.Click(chromedp.CSS("#get")))
	b.Awaits("h1", "Who are you?")
}

func fromAForm(t *testing.T, a *app, b *chromium.Tab) {
	b.Do(chromedp.Navigate(a.url+"/edit?id=7"), chromedp.SendKeys(chromedp.CSS("#text"), "a long text"))
	b.Clicks("#save")
	b.Sees("h1", "You are not signed in")
	b.Sees("main", "Nothing was saved", "“back”")
	assert.Zero(t, a.asked("/sign-in"), "its text is lost in a redirect")

	// The page promises this: "back" shows the form again, and it can be sent
	// after the person has signed in elsewhere.
	other := b.NewTab(t)
	other.Do(chromedp.Navigate(a.url + "/page/"))
	other.Clicks("#ann")
	b.Do(chromedp.NavigateBack())
	b.Sees("h1", "edit")
	b.Clicks("#save")
	b.Sees("#what", "saved")
	b.Sees("#text", "a long text")

	a.sessionsEnd()
	b.Do(chromedp.Navigate(a.url + "/edit?id=7"))
	b.Clicks("#save")
	b.Clicks("a.main")
	b.Sees("h1", "Who are you?")
	b.Clicks("#ann")
	assert.Equal(t, a.url+"/edit?id=7", b.URL())
}

func fromAPrefetchedLink(t *testing.T, a *app, b *chromium.Tab) {
	b.Do(chromedp.Navigate(a.url + "/ahead"))
	for a.asked("/page/ahead") == 0 {
		b.Sees("h1", "ahead")
	}
	assert.Zero(t, a.asked("/sign-in"), "the guess was followed")
	b.Clicks("#link")
	b.Sees("h1", "Who are you?")
	b.Clicks("#ann")
	b.Sees("#where", "/page/ahead")
}

func fromTwoTabs(t *testing.T, a *app, b *chromium.Tab) {
	other := b.NewTab(t)
	b.Do(chromedp.Navigate(a.url + "/page/one?a=b"))
	other.Do(chromedp.Navigate(a.url + "/page/two?c=d"))
	b.Sees("h1", "Who are you?")
	other.Sees("h1", "Who are you?")
	other.Clicks("#ann")
	other.Sees("#where", "/page/two?c=d")
	b.Clicks("#ann")
	b.Sees("#where", "/page/one?a=b")
}

func afterASignOut(t *testing.T, a *app, b *chromium.Tab) {
	for range 3 { // within 30 seconds
		b.Do(chromedp.Navigate(a.url + "/page/"))
		b.Sees("h1", "Who are you?")
		b.Clicks("#ann")
		b.Sees("#who", "ann")
		b.Clicks("#sign-out")
		b.Sees("h1", "public")
	}
}

func nowhereToGo(t *testing.T, a *app, b *chromium.Tab) {
	a.signingInDoesNotHelp()
	for i := range 6 { // as in six tabs
		b.Do(chromedp.Navigate(a.url + fmt.Sprint("/page/", i)))
		b.Sees("h1", "You are not signed in")
		b.Clicks("a.main") // the control works: it leads to sign in, and back
		b.Sees("h1", "You are not signed in")
	}
	assert.Equal(t, 4+6, a.asked("/sign-in"), "four times by itself, and at each click")
}

func partsThatFail(t *testing.T, a *app, b *chromium.Tab) {
	a.signingInDoesNotHelp()
	b.Do(chromedp.Navigate(a.url + "/parts"))
	b.Awaits("#failed", "6 failed")
	// The browser may send a request again when the next part's answer comes, and
	// drop the first. So the test counts the pages that it has shown.
	b.Sees("#loads", "2 loads")
	assert.LessOrEqual(t, a.asked("/sign-in"), 6, "once for each part")
}

func framesThatFail(t *testing.T, a *app, b *chromium.Tab) {
	a.signingInDoesNotHelp()
	b.Do(chromedp.Navigate(a.url + "/frames"))
	b.AwaitsThat(`[...document.querySelectorAll("iframe")].every(f => f.contentDocument?.querySelector("h1")?.innerText == "You are not signed in")`)
	assert.LessOrEqual(t, a.asked("/sign-in"), 2*6)
}

func fromAForeignFrame(t *testing.T, a *app, b *chromium.Tab) {
	outer := strings.Replace(a.url, "app.example", "other.example", 1) + "/embedder"
	for _, end := range []string{"/page/framed", "/page/linked"} {
		b.Do(chromedp.Navigate(outer))
		frame := b.Frame(end)
		frame.Sees("h1", "You are not signed in")
		assert.Zero(t, a.asked("/sign-in"), "it was redirected, which loops")
		b.Sees("h1", "another site")
	}
	_ = b.Frame("/page/linked")
	frame := b.Frame("/page/framed")
	frame.Do(chromedp.Click(chromedp.CSS("a.main"))) // which leaves the frame
	b.Awaits("h1", "Who are you?")
	b.Clicks("#ann")
	b.Sees("#where", "/page/framed")
}
