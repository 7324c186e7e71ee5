package main

import (
	"context"
	"flag"
	"os"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/examples/internal/chromium"
)

// README's picture is written by:
//
//	go test ./examples/quickstart -run Person -screenshot "$PWD/docs/quickstart.png"
var screenshot = flag.String("screenshot", "", "write a picture of the page to this file")

func TestPersonClicksThroughThePage(t *testing.T) {
	b := chromium.New(t)
	clearDSS(t)
	server, shutDown := context.WithCancel(t.Context())
	defer shutDown()
	url, _ := start(server, t)

	b.Do(chromedp.Navigate(url))
	b.Sees("#you", "You are not signed in")
	b.Sees("#routes", "401 Signed out", "for signed-in users")
	b.Above("#sign-in", "#routes")
	b.WithinReach("#sign-in-ann")
	b.LooksRight()

	b.Clicks("#sign-in-ann")
	b.Sees("#you", "Ann Analyst", "analysts", "readers")
	b.Sees("#routes", "200 Open", "open to you")
	b.Sees("footer", "up to 10s")
	if *screenshot != "" {
		require.NoError(b, os.WriteFile(*screenshot, b.Screenshot(640, 1216), 0o644))
	}
	var open int
	b.Evaluates(`[...document.querySelectorAll("pre")].filter(e => e.checkVisibility()).length`, &open)
	assert.Zero(b, open, "answers are open before a click")
	b.Do(chromedp.Click(chromedp.CSS("#answers > summary"))) // the only one there is
	b.Sees("#answers", "\n{\n  \"login\": \"ann\",\n  \"groups\": [\n    \"analysts\",", "  \"calledDSSAs\": \"ann\"", "The analysts' report, for ann.")
	b.LooksRight()

	b.Clicks("button[aria-label='Leave analysts']")
	b.Sees("#changed", "Your DSS groups have changed", "up to 10s")

	b.Clicks("#sign-in-bob")
	b.Sees("#you", "Bob Reader")
	b.Sees("#routes", "403 No access", "for the group analysts; you are not in it")
	b.LooksRight()

	b.Clicks("#outage")
	b.Sees("#you", "We cannot check who you are right now")
	b.Sees("#routes", "503 Not now", "nobody gets in")
	b.Sees("#dss", "The fake DSS is down", "Bring it back")
	b.WithinReach("#outage")
	b.Above("#outage", "#sign-in")
	b.LooksRight() // its disabled buttons included

	b.Clicks("#outage")
	b.Sees("#dss", "The fake DSS is up")
	recovering := b.Text("body")
	assert.NotContains(b, recovering, "503")
	assert.Contains(b, recovering, "Recovering…")
	b.Awaits("#you", "Bob Reader") // without a click
	b.Sees("#routes", "200 Open")

	b.Clicks("#sign-out")
	b.Sees("#you", "You are not signed in")
	b.Do(chromedp.Navigate(url + "report"))
	b.Sees("h1", "Sign in")
	b.Sees("footer", "After signing in you go to /report")
	b.LooksRight()
	b.Clicks("#sign-in-bob")
	b.Sees("h1", "You may not open this") // back at the report
	b.Sees(".mark", "No access")
	b.LooksRight()
}
