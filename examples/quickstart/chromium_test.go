package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// browser is a headless Chromium with one page.
type browser struct {
	*testing.T
	ctx context.Context
}

func newBrowser(t *testing.T, path string) *browser {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	// Its user data is in a new folder, which chromedp removes.
	ctx, cancel = chromedp.NewExecAllocator(ctx,
		chromedp.ExecPath(path),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
	)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	return &browser{t, ctx}
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	require.NoError(b, chromedp.Do(b.ctx, steps...))
}

// clicks a button, and waits for the page that it leads to.
func (b *browser) clicks(button chromedp.CSS) {
	b.Helper()
	_, err := chromedp.RunResponse(b.ctx, chromedp.Click(button))
	require.NoError(b, err, button)
}

func (b *browser) text(of chromedp.CSS) string {
	b.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Text(of))
	require.NoError(b, err, of)
	return text
}

func (b *browser) sees(in chromedp.CSS, texts ...string) {
	b.Helper()
	got := b.text(in)
	for _, want := range texts {
		assert.Contains(b, got, want)
	}
}

// reloadsUntil is how a person waits.
func (b *browser) reloadsUntil(in chromedp.CSS, text string) {
	b.Helper()
	for !strings.Contains(b.text(in), text) {
		b.do(chromedp.Reload())
	}
}
