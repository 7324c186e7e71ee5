package dssauth

import (
	"hash/maphash"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dssauth/dssauth/internal/shown"
)

// churn finds out which cookies and headers change from request to request, so
// that each request asks DSS. It watches a few users, each for an hour, and
// remembers hashes of values only. It has no lock: its owner serialises all calls.
type churn struct {
	seed  maphash.Seed
	limit int // of answers for one user
	users []*watched
	told  map[string]bool // names that were returned
	next  int64           // until then no name is
}

const (
	// maxWatched bounds the users who are watched. Beyond it, the next one takes
	// the place of one whose bytes have not changed for a minute, or else of the
	// last one: some are watched to the end, and nobody keeps all others out.
	maxWatched = 8
	// maxParts bounds what is watched of one user. The Cookie header is watched
	// in any case.
	maxParts = 64
	// maxTold bounds the names. Users choose those of cookies: beyond it all may
	// be returned again.
	maxTold = 64
)

func newChurn(limit int) churn {
	return churn{seed: maphash.MakeSeed(), limit: limit, told: make(map[string]bool)}
}

// watch is called before an answer about login is stored, of whom so many others
// are held. It returns the names of what changes from request to request, each
// name once.
func (c *churn) watch(login string, header http.Header, held int, isNew bool, now int64) (changing []string) {
	c.users = slices.DeleteFunc(c.users, func(w *watched) bool { return now-w.began > int64(time.Hour) })
	i := slices.IndexFunc(c.users, func(w *watched) bool { return w.login == login })
	if i < 0 {
		if !isNew || held == 0 {
			return nil // DSS would have been asked all the same
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

// enough is how many values have to differ. The first one of twice the limit came
// before its user was watched. One value alone tells nothing.
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

// hashes returns one for each cookie and each header of a request.
func (c *churn) hashes(header http.Header) map[string]uint64 {
	values := make(map[string]uint64)
	for name := range header {
		values[name+":"] = maphash.String(c.seed, header.Get(name))
	}
	for pair := range pairs(header["Cookie"]) {
		// Cookies of one name, and all whose names are not shown, are seen as one.
		values[shownName(pair)] += maphash.String(c.seed, pair)
	}
	return values
}

// unnamed returns those of names that were not returned before, once a minute at
// most.
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

// watched is what was seen of one user.
type watched struct {
	login   string
	began   int64
	changed int64 // when the last lookup came for bytes that were not remembered
	lookups int
	full    bool              // the user held as many answers as allowed
	parts   map[string]*piece // by the name of a cookie, or by that of a header with a colon
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
		w.parts[strings.Clone(name)] = p // not the other cookies' values, which are in the same memory
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
		delete(w.parts, name) // and watched anew: it may change from now on
	}
}

// changes reports whether enough values were seen, and hardly one came back.
func (p *piece) changes(enough int) bool { return len(p.seen) >= enough && 8*p.cameBack <= len(p.seen) }

// changing returns the names of the parts that change from request to request.
// The Cookie header stands for its cookies, and so is named where none of them is.
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

// isOneBrowser reports whether the lookups were too many for sessions that come
// and go, or had something in common.
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

// shownName is what the log calls a cookie.
func shownName(cookie string) string {
	name, ok := shown.CookieName(cookie)
	if !ok {
		return "(name not shown)"
	}
	return name
}
