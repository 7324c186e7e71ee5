// Package chromium is a browser for the tests of the examples.
package chromium

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Missing skips the test, because a part is missing. In CI the test fails.
func Missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// Tab is a page of a headless Chromium.
type Tab struct {
	*testing.T
	ctx context.Context
}

// New starts a browser with one tab. All hosts below example lead to this
// machine, and any certificate is accepted.
func New(t *testing.T) *Tab {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		Missing(t, "chromium is missing: apt-get install chromium")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	// Its user data is in a new folder, which chromedp removes.
	ctx, cancel = chromedp.NewExecAllocator(ctx,
		chromedp.ExecPath(path),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-features", "BackForwardCache"), // chromedp waits for a load, also after going back
		chromedp.Flag("host-resolver-rules", "MAP *.example 127.0.0.1"),
		chromedp.Flag("ignore-certificate-errors", true),
	)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	return &Tab{t, ctx}
}

// NewTab opens another tab of the same browser, which has the same cookies.
// It ends with t.
func (b *Tab) NewTab(t *testing.T) *Tab {
	b.Do() // otherwise there is no browser yet
	ctx, cancel := chromedp.NewContext(b.ctx)
	t.Cleanup(cancel)
	return &Tab{t, ctx}
}

// Frame waits for a frame of another site with this end of its URL.
func (b *Tab) Frame(end string) *Tab {
	b.Helper()
	for {
		frames, err := chromedp.Targets(b.ctx)
		require.NoError(b, err)
		for _, f := range frames {
			if f.Type == "iframe" && strings.HasSuffix(f.URL, end) {
				ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithTargetID(f.TargetID))
				b.Cleanup(cancel)
				return &Tab{b.T, ctx}
			}
		}
	}
}

// Do runs these steps.
func (b *Tab) Do(steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	require.NoError(b, chromedp.Do(b.ctx, steps...))
}

// Clicks clicks a button, and waits for the next page.
func (b *Tab) Clicks(button chromedp.CSS) {
	b.Helper()
	_, err := chromedp.RunResponse(b.ctx, chromedp.Click(button))
	require.NoError(b, err, button)
}

// URL returns the page's URL.
func (b *Tab) URL() string {
	b.Helper()
	url, err := chromedp.Run(b.ctx, chromedp.Location())
	require.NoError(b, err)
	return url
}

// Text returns the text of an element.
func (b *Tab) Text(of chromedp.CSS) string {
	b.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Text(of))
	require.NoError(b, err, of)
	return text
}

// Sees checks that an element has these texts.
func (b *Tab) Sees(in chromedp.CSS, texts ...string) {
	b.Helper()
	got := b.Text(in)
	for _, want := range texts {
		assert.Contains(b, got, want)
	}
}

// Awaits waits for a text in an element, also over several pages.
func (b *Tab) Awaits(in chromedp.CSS, text string) {
	b.Helper()
	b.AwaitsThat(fmt.Sprintf(`document.querySelector(%q)?.innerText.includes(%q)`, in, text))
}

// AwaitsThat waits until a JavaScript expression is true, also over several
// pages.
func (b *Tab) AwaitsThat(expression string) {
	b.Helper()
	for {
		// A page that is left ends the poll with an error.
		if is, err := chromedp.Run(b.ctx, chromedp.Poll[bool](expression)); err == nil && is {
			return
		}
		require.NoError(b, b.ctx.Err(), "waiting for %s", expression)
	}
}
