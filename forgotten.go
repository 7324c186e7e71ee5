package dssauth

import "maps"

// span is the time from the first to the last call of forget for one thing, in the
// numbers that order lookups. It counts as forgotten during the whole span.
type span struct {
	first, last int64
	at          int64 // when last was
}

func (s *span) add(number, now int64) {
	if s.first == 0 {
		s.first = number
	}
	s.last, s.at = max(s.last, number), now // a wall clock may be set back
}

// since returns the number at which an answer ended, or 0. Asked is the number of the
// answer's lookup.
func (s span) since(asked int64) int64 {
	if asked >= s.last {
		return 0
	}
	return max(s.first, asked+1)
}

// forgotten remembers the things forgotten lately, by their hashes: a login has no
// maximum length, and a server may reuse its memory. A thing that is no longer
// remembered counts as forgotten.
type forgotten struct {
	spans   map[uint64]span
	floor   int64 // all earlier answers count as forgotten
	purgeAt int   // size at which spans is purged
	lasts   int64 // how long a lookup can last, and so how long a span is remembered
}

// maxForgotten bounds the spans, also if very much is forgotten at once.
const maxForgotten = 1 << 16

func newForgotten(lasts int64) forgotten {
	return forgotten{spans: make(map[uint64]span), lasts: lasts}
}

func (l *forgotten) add(hash uint64, number, now int64) {
	if len(l.spans) >= l.purgeAt {
		l.purge(number, now)
	}
	s := l.spans[hash]
	if s.at < now-l.lasts {
		s = span{}
	}
	s.add(number, now)
	l.spans[hash] = s
}

func (l *forgotten) purge(number, now int64) {
	maps.DeleteFunc(l.spans, func(_ uint64, s span) bool {
		if s.at >= now-l.lasts {
			return false
		}
		l.floor = max(l.floor, s.last)
		return true
	})
	if len(l.spans) >= maxForgotten {
		clear(l.spans)
		l.floor = number
	}
	l.purgeAt = min(2*len(l.spans)+64, maxForgotten)
}

func (l *forgotten) since(hash uint64, asked int64) int64 {
	if asked < l.floor {
		return asked + 1
	}
	return l.spans[hash].since(asked)
}
