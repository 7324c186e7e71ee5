package main

import (
	"context"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/dssauth/dssauth/examples/internal/chromium"
)

func TestPersonClicksThroughThePage(t *testing.T) {
	b := chromium.New(t)
	clearDSS(t)
	server, shutDown := context.WithCancel(t.Context())
	defer shutDown()
	url, _ := start(server, t)

	b.Do(chromedp.Navigate(url))
	b.Sees("#you", "Nobody, so far")
	b.Sees("#routes", "401", "for signed-in users")

	b.Clicks("#sign-in-ann")
	b.Sees("#you", "Ann Analyst", "analysts", "readers")
	b.Sees("#routes", "200", "open to you")
	b.Sees("footer", "up to 10s")

	b.Clicks("#group")
	b.Sees("#changed", "DSS has other groups for you by now", "up to 10s")

	b.Clicks("#sign-in-bob")
	b.Sees("#you", "Bob Reader")
	b.Sees("#routes", "403", "for the group analysts, which you are not in")

	b.Clicks("#outage")
	b.Sees("#you", "We cannot check who you are right now")
	b.Sees("#routes", "503", "nobody gets in")
	b.Sees("#try", "The fake DSS is down", "Bring it back")

	b.Clicks("#outage")
	b.Sees("#try", "The fake DSS is up")
	b.ReloadsUntil("#you", "Bob Reader")

	b.Clicks("#sign-out")
	b.Sees("#you", "Nobody, so far")
	b.Do(chromedp.Navigate(url + "report"))
	b.Sees("h1", "Sign in")
	b.Clicks("#sign-in-bob")
	b.Sees("h1", "You may not open this") // back at the report
}
