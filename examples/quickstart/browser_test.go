package main

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/chromedp/chromedp"
)

func TestPersonClicksThroughThePage(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("chromium is missing")
		}
		t.Skip("chromium is missing: apt-get install chromium")
	}
	clearDSS(t)
	server, shutDown := context.WithCancel(t.Context())
	defer shutDown()
	url, _ := start(server, t)
	b := newBrowser(t, chromium)

	b.do(chromedp.Navigate(url))
	b.sees("#you", "Nobody, so far")
	b.sees("#routes", "401", "for signed-in users")

	b.clicks("#sign-in-ann")
	b.sees("#you", "Ann Analyst", "analysts", "readers")
	b.sees("#routes", "200", "open to you")
	b.sees("footer", "up to 10s")

	b.clicks("#group")
	b.sees("#changed", "DSS has other groups for you by now", "up to 10s")

	b.clicks("#sign-in-bob")
	b.sees("#you", "Bob Reader")
	b.sees("#routes", "403", "for the group analysts, which you are not in")

	b.clicks("#outage")
	b.sees("#you", "We cannot check who you are right now")
	b.sees("#routes", "503", "nobody gets in")
	b.sees("#try", "The fake DSS is down", "Bring it back")

	b.clicks("#outage")
	b.sees("#try", "The fake DSS is up")
	b.reloadsUntil("#you", "Bob Reader")

	b.clicks("#sign-out")
	b.sees("#you", "Nobody, so far")
	b.do(chromedp.Navigate(url + "report"))
	b.sees("h1", "Sign in")
	b.clicks("#sign-in-bob")
	b.sees("h1", "You may not open this") // back at the report
}
