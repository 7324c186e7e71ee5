package dssauth

import (
	"hash/maphash"
	"net/http"
	"slices"

	"github.com/dssauth/dssauth/internal/shown"
)

// churn finds out which cookies change from request to request where one
// user's answers fill their places. It watches one user, once, and remembers
// hashes only.
type churn struct {
	seed   maphash.Seed
	login  string
	seen   map[string]uint64 // cookie → hash of its values
	warned bool
}

func newChurn() churn { return churn{seed: maphash.MakeSeed()} }

// watch is called before an answer for login is stored, with the number of
// answers that the user holds at most and now. It returns the names of the
// cookies that change, once they are known.
func (c *churn) watch(login string, header http.Header, limit, held int) (changing []string) {
	if c.warned || held < limit || c.seen != nil && c.login != login {
		return nil
	}
	values := make(map[string]uint64)
	for pair := range pairs(header["Cookie"]) {
		// Cookies of one name, and all whose names are not shown, are seen as one.
		values[shownName(pair)] += maphash.String(c.seed, pair)
	}
	if c.seen == nil {
		c.login, c.seen = login, values
		return nil
	}
	for name := range values {
		if c.seen[name] != values[name] {
			changing = append(changing, name)
		}
	}
	slices.Sort(changing)
	c.warned, c.seen = true, nil
	return changing
}

// shownName is what the log calls a cookie.
func shownName(cookie string) string {
	name, ok := shown.CookieName(cookie)
	if !ok {
		return "(name not shown)"
	}
	return name
}
