package dssauth

import (
	"context"
	"hash/maphash"
)

// flight is a lookup under way, for all requests with the same bytes.
//
// Not singleflight: if it forgets a key, the call under way does not learn that its
// result must not be stored, and its callers may wait without limit.
type flight struct {
	lookup
	ctx    context.Context // no request waits beyond its end
	cancel context.CancelFunc
	done   chan struct{} // closed when entry and err are set
	entry  *entry
	err    error

	older     *flight // of the same key, still under way; new requests do not join it
	outdated  bool    // a newer one brought an answer: not to be stored
	left      bool    // not to be joined any more
	forgotten span    // when its bytes were forgotten
	fate      fate    // of its answer, set before done
	gone      int64   // requests from this number on must not use its answer; 0: all may. Set before done
}

// fate says what other replicas learn about an answer.
type fate int

const (
	untold fate = iota
	publish
	retract // DSS no longer gives it
)

// flights is the ledger of lookups under way, and of the answers that were forgotten
// meanwhile. It has no lock: its owner serialises all calls.
type flights struct {
	byKey  map[key]*flight // the newest of each key; older ones behind flight.older
	owners forgotten       // logins, and the ids of API keys
	bytes  forgotten       // keys; apart, so that junk does not take the room of logins
	seed   maphash.Seed
}

func newFlights(lasts int64) flights {
	return flights{byKey: make(map[key]*flight), owners: newForgotten(lasts), bytes: newForgotten(lasts), seed: maphash.MakeSeed()}
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

// isSecond reports whether an older lookup for the same bytes could be joined as well.
// There are never three, even if many page loads ask anew.
func (f *flight) isSecond() bool { return f.older != nil && !f.older.isLeft() }

// isLeft reports whether new requests must not join f. A flight that still waits for
// its place when its bytes are forgotten may be joined: it asks DSS later.
func (f *flight) isLeft() bool { return f.left || f.number.Load() < f.forgotten.last }

// isLast reports whether f's result may change the cache: no newer lookup has brought
// an answer to its bytes, and they were not forgotten since.
func (f *flight) isLast() bool { return !f.outdated && f.gone == 0 }

// goneFor returns 0 if a request may use f's answer that came when the count was
// arrival. Otherwise it returns the number from which requests may not.
func (f *flight) goneFor(arrival int64) int64 {
	select {
	case <-f.done:
		if f.gone <= arrival {
			return f.gone
		}
	default:
	}
	return 0
}

// outdate keeps the older lookups of f's key from storing an answer and from new
// requests: f brought a newer answer.
func (f *flight) outdate() {
	for older := f.older; older != nil; older = older.older {
		older.outdated, older.left = true, true
	}
}

// isDenied reports whether DSS refused a lookup of k that is under way and asked at
// since or later.
func (l *flights) isDenied(k key, since int64) bool {
	for f := l.byKey[k]; f != nil; f = f.older {
		if f.denied.Load() && f.asked >= since {
			return true
		}
	}
	return false
}

// forget ends the results about k of lookups that asked before number.
func (l *flights) forget(k key, number, now int64) {
	for f := l.byKey[k]; f != nil; f = f.older {
		f.forgotten.add(number, now)
	}
	l.bytes.add(maphash.Comparable(l.seed, k), number, now)
}

// forgetOwner ends the results about an owner of lookups that asked before number. It
// is not known yet which lookups these are, so all go on: a visitor who signs out again
// and again must not keep others from sharing their lookups.
func (l *flights) forgetOwner(owner string, number, now int64) {
	l.owners.add(maphash.String(l.seed, owner), number, now)
}

// ownerGone returns the number from which requests may not use an answer about owner
// for which DSS was asked as asked, or 0.
func (l *flights) ownerGone(owner string, asked int64) int64 {
	return l.owners.since(maphash.String(l.seed, owner), asked)
}

// bytesGone is ownerGone for the answer to k.
func (l *flights) bytesGone(k key, asked int64) int64 {
	return l.bytes.since(maphash.Comparable(l.seed, k), asked)
}
