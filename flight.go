package dssauth

import (
	"context"
	"maps"
	"strings"
)

// flight is a lookup under way, for all requests with the same bytes.
//
// Not singleflight: forgetting a key there does not tell the call under way that its
// result must not be stored, and nothing bounds how long its callers wait.
type flight struct {
	lookup
	ctx    context.Context // as long as anybody waits
	cancel context.CancelFunc
	done   chan struct{} // closed when entry and err are set
	entry  *entry
	err    error

	older     *flight // of the same key, still under way but not to be joined
	forgotten bool    // Forget was called: not to be stored
	left      bool    // not to be joined any more
}

// flights is the ledger of lookups under way, and of what must not come out of
// them. It has no lock: its owner serialises all calls.
type flights struct {
	byKey     map[key]*flight  // the newest of each key; older ones behind flight.older
	forgotten map[string]int64 // login → when ForgetUser was called
	purgeAt   int              // size at which forgotten is purged
	lasts     int64            // how long a lookup can last: for so long forgetting is remembered
}

func newFlights(lasts int64) flights {
	return flights{byKey: make(map[key]*flight), forgotten: make(map[string]int64), lasts: lasts}
}

// add makes f the newest lookup of its key.
func (l *flights) add(f *flight) {
	f.older = l.byKey[f.key]
	l.byKey[f.key] = f
}

// remove ends f's place in the ledger.
func (l *flights) remove(f *flight) {
	newest := l.byKey[f.key]
	if newest == f {
		if f.older == nil {
			delete(l.byKey, f.key)
		} else {
			l.byKey[f.key] = f.older
		}
		return
	}
	for g := newest; g != nil; g = g.older {
		if g.older == f {
			g.older = f.older
		}
	}
}

// isSecond reports whether an older lookup for the same bytes could be joined as
// well. There are never three, however many page loads ask anew.
func (f *flight) isSecond() bool { return f.older != nil && !f.older.left }

// outdate keeps the older lookups of f's key from being stored and joined: f
// brought a newer answer.
func (f *flight) outdate() {
	for older := f.older; older != nil; older = older.older {
		older.forgotten, older.left = true, true
	}
}

// isDenied reports whether a lookup of k under way, which asked at since or
// later, was refused.
func (l *flights) isDenied(k key, since int64) bool {
	for f := l.byKey[k]; f != nil; f = f.older {
		if f.denied.Load() && f.asked >= since {
			return true
		}
	}
	return false
}

// forget keeps the lookups of k from being stored and joined.
func (l *flights) forget(k key) {
	for f := l.byKey[k]; f != nil; f = f.older {
		f.forgotten, f.left = true, true
	}
}

// forgetUser keeps answers about login from being stored that were asked for
// until now.
func (l *flights) forgetUser(login string, now int64) {
	for _, f := range l.byKey {
		for ; f != nil; f = f.older {
			f.left = true // whom it is about is not known yet
		}
	}
	if len(l.forgotten) >= l.purgeAt {
		maps.DeleteFunc(l.forgotten, func(_ string, at int64) bool { return at < now-l.lasts })
		l.purgeAt = 2*len(l.forgotten) + 64
	}
	l.forgotten[strings.Clone(login)] = now // a server may reuse its memory
}

// wasForgotten reports whether login was forgotten since DSS was asked.
func (l *flights) wasForgotten(login string, asked int64) bool {
	at, was := l.forgotten[login]
	return was && asked <= at
}
