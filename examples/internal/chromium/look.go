package chromium

import (
	"encoding/json"
	"fmt"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// screens are phones and a desktop: width and height in CSS pixels. A desktop
// that enlarges everything four times is as wide as the first.
var screens = [][2]int64{{320, 568}, {390, 844}, {1280, 800}}

// onEachScreen checks the page on phones and on a desktop.
func (b *Tab) onEachScreen(check func()) {
	b.Helper()
	for _, size := range screens {
		b.Do(chromedp.EmulateViewport(size[0], size[1]))
		check()
	}
}

// Evaluates evaluates a JavaScript expression, and reads its value as JSON.
func (b *Tab) Evaluates(expression string, into any) {
	b.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("JSON.stringify("+expression+")"))
	require.NoError(b, err, expression)
	require.NoError(b, json.Unmarshal([]byte(text), into), expression)
}

// Screenshot is a picture, in PNG, of the page in a window of this size.
func (b *Tab) Screenshot(width, height int64) []byte {
	b.Helper()
	b.Do(chromedp.EmulateViewport(width, height))
	picture, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	require.NoError(b, err)
	return picture
}

// LooksRight checks the rules for every page on every screen: no page scrolls
// sideways, no short word is broken, all text is readable, also on a disabled
// button, no stripe along one edge bends at rounded corners, and each element
// with a name for screen readers has a role.
func (b *Tab) LooksRight() {
	b.Helper()
	b.onEachScreen(func() {
		var faults []string
		b.Evaluates(looks, &faults)
		assert.Empty(b, faults, b.URL())
	})
}

// looks lists faults. The contrast rule is WCAG 2.2, level AA.
const looks = `(() => {
	const faults = []
	const root = document.documentElement
	if (root.scrollWidth > innerWidth) faults.push("wider than the screen: " + root.scrollWidth)
	const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true})
	const rgba = (color) => {
		canvas.clearRect(0, 0, 1, 1)
		canvas.fillStyle = color
		canvas.fillRect(0, 0, 1, 1)
		return canvas.getImageData(0, 0, 1, 1).data
	}
	const luminance = (color) => {
		const [r, g, b] = [...rgba(color)].slice(0, 3).map(c => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
		return .2126 * r + .7152 * g + .0722 * b
	}
	const ground = (e) => {
		for (; e; e = e.parentElement) {
			const color = getComputedStyle(e).backgroundColor
			if (rgba(color)[3] === 255) return color
		}
		return "white"
	}
	for (const e of document.body.querySelectorAll("*")) {
		const style = getComputedStyle(e)
		const name = e.tagName.toLowerCase() + (e.id ? "#" + e.id : "") + (e.className ? "." + e.className : "")
		if (e.ariaLabel && e.matches("div, span, p, pre, code") && !e.role) faults.push("a name without a role: " + name)
		if (parseFloat(style.borderRadius) > 0) {
			if (style.borderLeftWidth !== style.borderRightWidth || style.borderTopWidth !== style.borderBottomWidth || style.boxShadow.includes("inset"))
				faults.push("stripe with round corners: " + name)
		}
		if (![...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.data.trim()) || !e.checkVisibility()) continue
		for (const n of e.childNodes) for (const word of n.nodeType === Node.TEXT_NODE ? n.data.matchAll(/\p{L}+/gu) : []) {
			const range = new Range()
			range.setStart(n, word.index)
			range.setEnd(n, word.index + word[0].length)
			if (word[0].length < 16 && new Set([...range.getClientRects()].map(r => r.top)).size > 1) faults.push("broken word: " + name + ": " + word[0])
		}
		for (let p = e; p; p = p.parentElement) if (getComputedStyle(p).opacity !== "1") faults.push("faded: " + name)
		const [light, dark] = [luminance(style.color), luminance(ground(e))].sort((a, b) => b - a)
		const contrast = (light + .05) / (dark + .05)
		if (contrast < 4.5) faults.push("contrast " + contrast.toFixed(1) + ": " + name + ": " + e.textContent.trim())
	}
	return faults
})()`

// Above checks that an element ends before another one begins.
func (b *Tab) Above(upper, lower string) {
	b.Helper()
	b.onEachScreen(func() {
		var above bool
		b.Evaluates(fmt.Sprintf(`document.querySelector(%q).getBoundingClientRect().bottom <= document.querySelector(%q).getBoundingClientRect().top`, upper, lower), &above)
		assert.True(b, above, "%s is not above %s", upper, lower)
	})
}

// WithinReach checks that an element is seen without scrolling.
func (b *Tab) WithinReach(element string) {
	b.Helper()
	b.onEachScreen(func() {
		var seen bool
		b.Evaluates(fmt.Sprintf(`scrollY === 0 && document.querySelector(%q).getBoundingClientRect().bottom <= innerHeight`, element), &seen)
		assert.True(b, seen, "%s is out of sight", element)
	})
}
