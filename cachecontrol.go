package dssauth

import (
	"net/http"
	"slices"
	"strings"
)

// private is the Cache-Control of a response for one visitor. All responses share it,
// so that setting it allocates nothing. Its capacity is its length, so that append
// makes a copy.
var private = []string{"private"}

// forOneVisitor marks a response as meant only for the visitor whom these headers
// identify.
func forOneVisitor(h http.Header, names []string) {
	if given := h["Cache-Control"]; len(given) == 0 || isForSharedCaches(given) {
		h["Cache-Control"] = private
	}
	addVary(h, names)
}

// isForSharedCaches reports whether a Cache-Control allows shared caches to keep a
// response.
func isForSharedCaches(cacheControl []string) bool {
	for _, line := range cacheControl {
		for directive := range strings.SplitSeq(line, ",") {
			name, _, _ := strings.Cut(directive, "=")
			if name = trim(name); strings.EqualFold(name, "public") || strings.EqualFold(name, "s-maxage") {
				return true
			}
		}
	}
	return false
}

// addVary adds the missing names to h's Vary. It changes neither the list in h nor
// names: other responses may share them.
func addVary(h http.Header, names []string) {
	given := h["Vary"]
	if len(given) == 0 {
		h["Vary"] = names
		return
	}
	if &given[0] == &names[0] {
		return
	}
	vary := slices.Clip(given)
	for _, name := range names {
		if !hasElement(given, name) {
			vary = append(vary, name)
		}
	}
	h["Vary"] = vary
}

// hasElement reports whether a Vary names a header, or has an asterisk for all.
func hasElement(vary []string, name string) bool {
	for _, line := range vary {
		for element := range strings.SplitSeq(line, ",") {
			if element = trim(element); element == "*" || strings.EqualFold(element, name) {
				return true
			}
		}
	}
	return false
}
