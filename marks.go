package dssauth

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// mark says that a browser was sent to sign in for a page. If signing in did not help,
// the browser sees the next refusal of that page. Pages in other tabs are not affected.
//
// The browser keeps its marks in a cookie. The cookie is not signed: each replica must
// understand it, and a mark that an attacker planted only shows the page with its link
// to sign in.
type mark struct {
	page string // a hash of its path
	at   int64  // when, in milliseconds of Unix time
}

const (
	markLife = 30 * time.Second
	// markAhead is how much the clock of another replica may be ahead of ours.
	markAhead = 5 * time.Second
	// maxMarks bounds the cookie. With this many valid marks, no page is redirected
	// any more: another mark would push out the first, and that page would be
	// redirected again.
	maxMarks = 4
)

// marksCookie returns the name of r's cookie, and whether it is for TLS only.
// A prefixed name keeps neighbouring hosts from setting it, but browsers drop
// such a cookie over plain http.
func marksCookie(r *http.Request) (name string, secure bool) {
	if isHTTPS(r) {
		return hostPrefix + redirectCookie, true
	}
	return redirectCookie, false
}

const pageHashBytes = 8

func pageHash(path string) string {
	sum := sha256.Sum256([]byte(path))
	return hex.EncodeToString(sum[:pageHashBytes])
}

// isPageHash rejects long texts: browsers drop a cookie above 4 KiB, and our marks with
// it.
func isPageHash(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 2*pageHashBytes
}

// marks returns the valid ones of r's marks.
func marks(r *http.Request, now time.Time) (counted []mark) {
	name, _ := marksCookie(r)
	earliest, latest := now.Add(-markLife).UnixMilli(), now.Add(markAhead).UnixMilli()
	for _, c := range r.CookiesNamed(name) { // an attacker may plant a second one: it must not hide the first
		for s := range strings.SplitSeq(c.Value, ".") {
			page, at, _ := strings.Cut(s, "-")
			ms, err := strconv.ParseInt(at, 16, 64)
			if err == nil && isPageHash(page) && earliest <= ms && ms <= latest {
				counted = append(counted, mark{page, ms})
			}
		}
	}
	return counted
}

// markPage marks the page of back, a path and query. If r's sender must not be sent to
// sign in again, it reports false and marks nothing.
func markPage(w http.ResponseWriter, r *http.Request, back string) bool {
	path, _, _ := strings.Cut(back, "?")
	now := time.Now()
	this := mark{pageHash(path), now.UnixMilli()}
	all := marks(r, now)
	if len(all) >= maxMarks || slices.ContainsFunc(all, func(m mark) bool { return m.page == this.page }) {
		return false
	}
	var written []string
	for _, m := range append(all, this) {
		written = append(written, m.page+"-"+strconv.FormatInt(m.at, 16))
	}
	setMarks(w, r, strings.Join(written, "."), int(markLife/time.Second))
	return true
}

// clearMarks is for a visitor whom DSS knows now: the sign-in worked.
func clearMarks(w http.ResponseWriter, r *http.Request) {
	name, _ := marksCookie(r)
	if len(r.CookiesNamed(name)) > 0 {
		setMarks(w, r, "", -1)
	}
}

// keepMarks undoes clearMarks for a visitor who was admitted and then refused: DSS did
// not accept a known session for a call, or another Middleware refused it. Without the
// marks the browser could go round in circles.
func keepMarks(h http.Header) {
	if cookies := h["Set-Cookie"]; len(cookies) > 0 {
		h["Set-Cookie"] = slices.DeleteFunc(cookies, func(c string) bool {
			return strings.HasPrefix(strings.TrimPrefix(c, hostPrefix), redirectCookie+"=;")
		})
	}
}

func setMarks(w http.ResponseWriter, r *http.Request, value string, maxAge int) {
	name, secure := marksCookie(r)
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode,
	})
}
