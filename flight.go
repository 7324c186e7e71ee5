package dssauth

import (
	"context"
	"hash/maphash"
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
	outdated  bool    // a newer one brought an answer: not to be stored
	left      bool    // not to be joined any more
	forgotten span    // when its bytes were forgotten
	fate      fate    // of its answer, set before done
	gone      int64   // its answer is none for requests of this number and later; 0: for all it is one. Set before done
}

// fate is what other replicas are told of an answer.
type fate int

const (
	untold fate = iota
	publish
	retract // DSS does not give it any more
)

// flights is the ledger of lookups under way, and of what must not come out of
// them. It has no lock: its owner serialises all calls.
type flights struct {
	byKey  map[key]*flight // the newest of each key; older ones behind flight.older
	owners forgotten       // logins, and the ids of API keys
	bytes  forgotten       // keys; apart, so that junk takes no login's room
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

// isSecond reports whether an older lookup for the same bytes could be joined as
// well. There are never three, however many page loads ask anew.
func (f *flight) isSecond() bool { return f.older != nil && !f.older.isLeft() }

// isLeft reports whether f is not to be joined any more. One that waits for its
// place when its bytes are forgotten asks DSS afterwards.
func (f *flight) isLeft() bool { return f.left || f.number.Load() < f.forgotten.last }

// isLast reports whether what f brings counts for what is remembered: no newer
// lookup has brought an answer to its bytes, and they were not forgotten since.
func (f *flight) isLast() bool { return !f.outdated && f.gone == 0 }

// goneFor returns since which number f's answer is none, if it is none for a
// request that came when there were arrival numbers, else 0.
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

// outdate keeps the older lookups of f's key from being stored and joined: f
// brought a newer answer.
func (f *flight) outdate() {
	for older := f.older; older != nil; older = older.older {
		older.outdated, older.left = true, true
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

// forget ends what lookups bring about k that asked before number.
func (l *flights) forget(k key, number, now int64) {
	for f := l.byKey[k]; f != nil; f = f.older {
		f.forgotten.add(number, now)
	}
	l.bytes.add(maphash.Comparable(l.seed, k), number, now)
}

// forgetOwner ends what lookups bring about an owner that asked before number.
// Which ones they are is not known yet. All go on: a visitor who signs out again
// and again must not keep others from sharing their lookups.
func (l *flights) forgetOwner(owner string, number, now int64) {
	l.owners.add(maphash.String(l.seed, owner), number, now)
}

// ownerGone returns since which number an answer about owner is none that DSS
// was asked for as asked, or 0.
func (l *flights) ownerGone(owner string, asked int64) int64 {
	return l.owners.since(maphash.String(l.seed, owner), asked)
}

// bytesGone is ownerGone for the answer to k.
func (l *flights) bytesGone(k key, asked int64) int64 {
	return l.bytes.since(maphash.Comparable(l.seed, k), asked)
}
