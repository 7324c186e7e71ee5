package dssauth

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The rows of howAsked's comment, each with requests that just miss it.
// TestHowEachKindOfRequestIsRefused in promises checks the answers.
func TestHowAsked(t *testing.T) {
	const html = "text/html,application/xhtml+xml,*/*;q=0.8"
	for _, tt := range []struct {
		name    string
		method  string
		headers []string
		want    asking
	}{
		{"a program", "GET", nil, other},
		{"a program that takes anything", "GET", []string{"Accept", "*/*"}, other},
		{"a websocket", "GET", []string{"Accept", html, "Upgrade", "websocket", "Hx-Request", "true", "Purpose", "prefetch"}, other},
		{"a fetch of HTML", "GET", []string{"Accept", html, "Sec-Fetch-Mode", "cors"}, other},
		{"a fetch of HTML by POST", "POST", []string{"Accept", html, "Sec-Fetch-Mode", "same-origin"}, other},
		{"an XMLHttpRequest of HTML", "GET", []string{"Accept", html, "X-Requested-With", "XMLHttpRequest"}, other},
		{"a program that posts", "POST", []string{"Accept", html}, other},
		{"a navigation to an image", "GET", []string{"Accept", "image/*", "Sec-Fetch-Mode", "navigate"}, other},

		{"a prefetched page", "GET", []string{"Accept", html, "Sec-Fetch-Mode", "navigate", "Sec-Purpose", "prefetch"}, guess},
		{"a prerendered page", "GET", []string{"Accept", html, "Sec-Fetch-Mode", "navigate", "Sec-Purpose", "prefetch;prerender"}, guess},
		{"a page prefetched by an old browser", "GET", []string{"Accept", html, "Purpose", "Prefetch"}, guess},
		{"a page prefetched in a frame", "GET", []string{"Accept", html, "Sec-Purpose", "prefetch", "Sec-Fetch-Dest", "iframe", "Sec-Fetch-Site", "cross-site"}, guess},
		{"a part that htmx preloads", "GET", []string{"Hx-Request", "true", "Hx-Preloaded", "true"}, guess},
		{"a page for another purpose", "GET", []string{"Accept", html, "Sec-Purpose", "translate"}, page},

		{"htmx", "GET", []string{"Accept", "*/*", "Hx-Request", "true"}, part},
		{"htmx, by POST", "POST", []string{"Accept", "*/*", "Hx-Request", "true", "Sec-Fetch-Mode", "cors"}, part},
		{"a Turbo frame", "GET", []string{"Accept", html, "Turbo-Frame", "messages"}, part},
		{"a Turbo visit", "GET", []string{"Accept", html, "X-Turbo-Request-Id", "1"}, part},
		{"Unpoly", "GET", []string{"Accept", html, "X-Up-Version", "3.9.0"}, part},
		{"Inertia", "GET", []string{"Accept", html, "X-Inertia", "true", "X-Requested-With", "XMLHttpRequest"}, part},
		{"an empty header of htmx's", "GET", []string{"Accept", html, "Hx-Request", ""}, page},

		{"a frame of another site", "GET", []string{"Accept", html, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe", "Sec-Fetch-Site", "cross-site"}, frame},
		{"a link in such a frame", "GET", []string{"Accept", html, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "frame", "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Storage-Access", "none"}, frame},
		{"a link in one that may use cookies", "GET", []string{"Accept", html, "Sec-Fetch-Dest", "embed", "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Storage-Access", "active"}, frame},
		{"a form in such a frame", "POST", []string{"Accept", html, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "object", "Sec-Fetch-Site", "cross-site"}, frame},
		{"a frame of this site", "GET", []string{"Accept", html, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe", "Sec-Fetch-Site", "same-origin"}, page},
		{"a frame of a neighbour", "GET", []string{"Accept", html, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe", "Sec-Fetch-Site", "same-site"}, page},
		{"a link from another site", "GET", []string{"Accept", html, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Storage-Access", "none"}, page},

		{"a page", "GET", []string{"Accept", html, "Sec-Fetch-Mode", "navigate"}, page},
		{"its head", "HEAD", []string{"Accept", html, "Sec-Fetch-Mode", "navigate"}, page},
		{"a page over plain http", "GET", []string{"Accept", html}, page},

		{"a form", "POST", []string{"Accept", html, "Sec-Fetch-Mode", "navigate"}, form},
		{"a form by another method", "PUT", []string{"Accept", html, "Sec-Fetch-Mode", "navigate"}, form},
		{"a page in an app that names itself", "GET", []string{"Accept", html, "Sec-Fetch-Mode", "navigate", "X-Requested-With", "com.example.app"}, form},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, "/", nil)
			for i := 0; i < len(tt.headers); i += 2 {
				r.Header.Set(tt.headers[i], tt.headers[i+1])
			}
			assert.Equal(t, tt.want, howAsked(r))
		})
	}
	assert.Equal(t, other, howAsked(nil))
	assert.Equal(t, other, howAsked(&http.Request{}))
}

func TestQueryHasNoRawBytesOfAnAddress(t *testing.T) {
	for c := range 256 {
		taken := c > ' ' && c < 0x7f && !strings.ContainsRune(`\#"<>`, rune(c))
		assert.Equal(t, taken, isQuery("a="+string([]byte{byte(c)})), "%q", c)
	}
}
