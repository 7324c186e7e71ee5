package dssauth

import (
	"hash/maphash"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dssauth/dssauth/internal/shown"
)

// churn finds cookies and headers that change from request to request, so that each
// request asks DSS. It watches a few users, each for an hour, and remembers only hashes
// of values. It has no lock: its owner serialises all calls.
type churn struct {
	seed  maphash.Seed
	limit int // of answers for one user
	users []*watched
	told  map[string]bool // names that were returned
	next  int64           // until then, no name is returned
}

const (
	// maxWatched bounds the watched users. If there are more, the next one replaces a
	// user whose bytes have not changed for a minute, or else the last one. So some are
	// watched to the end, and one user cannot keep out all others.
	maxWatched = 8
	// maxParts bounds the watched cookies and headers of one user. The Cookie header is
	// always watched.
	maxParts = 64
	// maxTold bounds the returned names. Users choose the names of cookies: when the
	// bound is reached, all names may be returned again.
	maxTold = 64
)

func newChurn(limit int) churn {
	return churn{seed: maphash.MakeSeed(), limit: limit, told: make(map[string]bool)}
}

// watch is called before an answer about login is stored. Held is the number of other
// answers about login. It returns the names of cookies and headers that change from
// request to request, each name once.
func (c *churn) watch(login string, header http.Header, held int, isNew bool, now int64) (changing []string) {
	c.users = slices.DeleteFunc(c.users, func(w *watched) bool { return now-w.began > int64(time.Hour) })
	i := slices.IndexFunc(c.users, func(w *watched) bool { return w.login == login })
	if i < 0 {
		if !isNew || held == 0 {
			return nil // DSS would have been asked anyway
		}
		i = c.admit(login, now)
	}
	w := c.users[i]
	if isNew {
		w.changed = now
	}
	w.full = w.full || held >= c.limit
	w.lookups++
	for name, value := range c.hashes(header) {
		w.see(name, value, c.enough())
	}
	return c.unnamed(w.changing(c.enough()), now)
}

// enough is the number of values that must differ. The first of twice the limit came
// before its user was watched. A single value proves nothing.
func (c *churn) enough() int { return max(2, 2*c.limit-1) }

// admit starts to watch a user, and returns its place.
func (c *churn) admit(login string, now int64) int {
	if len(c.users) == maxWatched {
		i := slices.IndexFunc(c.users, func(w *watched) bool { return now-w.changed > int64(time.Minute) })
		if i < 0 {
			i = maxWatched - 1
		}
		c.users = slices.Delete(c.users, i, i+1)
	}
	c.users = append(c.users, &watched{login: login, began: now, parts: make(map[string]*piece)})
	return len(c.users) - 1
}

// hashes returns a hash for each cookie and each header of a request.
func (c *churn) hashes(header http.Header) map[string]uint64 {
	values := make(map[string]uint64)
	for name := range header {
		values[name+":"] = maphash.String(c.seed, header.Get(name))
	}
	for pair := range pairs(header["Cookie"]) {
		// Cookies with the same name count as one, and so do all cookies whose names
		// are not shown.
		values[shownName(pair)] += maphash.String(c.seed, pair)
	}
	return values
}

// unnamed returns the names that were not returned before, once a minute at most.
func (c *churn) unnamed(names []string, now int64) []string {
	names = slices.DeleteFunc(names, func(name string) bool { return c.told[name] })
	if len(names) == 0 || now < c.next {
		return nil
	}
	if len(c.told) >= maxTold {
		clear(c.told)
	}
	c.next = now + int64(time.Minute)
	for i, name := range names {
		c.told[name] = true
		names[i] = strings.TrimSuffix(name, ":")
	}
	slices.Sort(names)
	return names
}

// watched is the record of one user.
type watched struct {
	login   string
	began   int64
	changed int64 // time of the last lookup for bytes that were not remembered
	lookups int
	full    bool              // the user held as many answers as allowed
	parts   map[string]*piece // by the name of a cookie, or of a header with a colon
}

// piece is one cookie, or one header.
type piece struct {
	seen     map[uint32]bool // hash of a value → it came back
	cameBack int             // how many did
	lookups  int
}

func isHeader(name string) bool { return strings.HasSuffix(name, ":") }

func (w *watched) see(name string, value uint64, enough int) {
	p := w.parts[name]
	if p == nil {
		if len(w.parts) >= maxParts && !isHeader(name) {
			return
		}
		p = &piece{seen: make(map[uint32]bool)}
		w.parts[strings.Clone(name)] = p // a copy, since the other cookies' values are in the same memory
	}
	p.lookups++
	switch back, seen := p.seen[uint32(value)]; {
	case seen && !back:
		p.seen[uint32(value)] = true
		p.cameBack++
	case !seen && len(p.seen) < enough:
		p.seen[uint32(value)] = false
	}
	if len(p.seen) >= enough && !p.changes(enough) {
		delete(w.parts, name) // and watched again: it may change from now on
	}
}

// changes reports whether enough values were seen, and almost none came back.
func (p *piece) changes(enough int) bool { return len(p.seen) >= enough && 8*p.cameBack <= len(p.seen) }

// changing returns the names of the parts that change from request to request. It names
// the Cookie header only if it names none of the cookies.
func (w *watched) changing(enough int) (names []string) {
	inCookies := false
	for name, p := range w.parts {
		if name != cookieHeader && p.changes(enough) && (isHeader(name) || w.isOneBrowser()) {
			names = append(names, name)
			inCookies = inCookies || !isHeader(name)
		}
	}
	if p := w.parts[cookieHeader]; p != nil && !inCookies && p.changes(enough) && w.isOneBrowser() {
		names = append(names, cookieHeader)
	}
	return names
}

const cookieHeader = "Cookie:"

// isOneBrowser reports whether there were too many lookups for separate sessions, or
// whether the lookups have a value in common.
func (w *watched) isOneBrowser() bool {
	if w.full {
		return true
	}
	for _, p := range w.parts {
		if len(p.seen) == 1 && p.lookups == w.lookups {
			return true
		}
	}
	return false
}

// shownName returns the name of a cookie for the log.
func shownName(cookie string) string {
	name, ok := shown.CookieName(cookie)
	if !ok {
		return "(name not shown)"
	}
	return name
}
