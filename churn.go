package dssauth

import (
	"hash/maphash"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// churn finds out which cookies change from request to request where one
// user's answers fill their places. It watches one user, once, and remembers
// hashes only.
type churn struct {
	seed   maphash.Seed
	login  string
	seen   map[string]uint64 // cookie → hash of its value
	warned bool
}

func newChurn() churn { return churn{seed: maphash.MakeSeed()} }

// warnOfChurn is called before an answer is stored. The caller holds the
// cache's mutex.
func (m *Middleware) warnOfChurn(login string, header http.Header) {
	c := &m.churn
	if c.warned || login == "" || c.seen != nil && c.login != login {
		return
	}
	count, now := 0, m.now()
	for e := m.cache.byUser[login]; e != nil; e = e.sibling {
		if now < e.expires {
			count++
		}
	}
	if count < m.cache.maxPerUser {
		return
	}
	values := make(map[string]uint64)
	for pair := range pairs(header["Cookie"]) {
		values[cookieName(pair)] = maphash.String(c.seed, pair)
	}
	if c.seen == nil {
		c.login, c.seen = login, values
		return
	}
	var differ []string
	for name := range maps.Keys(values) {
		if c.seen[name] != values[name] {
			differ = append(differ, name)
		}
	}
	slices.Sort(differ)
	c.warned, c.seen = true, nil
	m.log.Warn("dssauth: one user holds as many answers as Config.MaxEntriesPerUser allows: a cookie seems to change from request to request, "+
		"so that each asks DSS; name the cookies that identify a visitor in Config.Cookies", "changing", strings.Join(differ, " "))
}
