package dssauth

import (
	"container/list"
	"context"
	"sync"
	"time"
)

const (
	// maxWait is how long a lookup waits for its place.
	maxWait = time.Second
	// maxQueue is how many newcomers may wait for their place, and how many
	// refreshes.
	maxQueue = 1024
	// fewestPlaces are always open, unless Config.MaxLookups is less.
	fewestPlaces = 32
)

// places limits the lookups under way towards DSS, and decides whose turn it is. Places
// open while lookups wait and DSS names visitors quickly. They close if DSS is slow,
// fails, or does not know the visitors. A stranger's bytes can close places down to
// fewestPlaces, but can open none.
//
// Known visitors come first, and a quarter of the places is reserved for them: a flood
// of junk delays new visitors, and known ones do not notice it.
type places struct {
	clock          *clock
	slow           time.Duration // a lookup that takes longer closes places
	floor, ceiling int           // of open

	mu      sync.Mutex
	open    int            // in quarters of a place
	taken   int            // by everybody
	held    [4]int         // by lookups from each line
	owners  map[string]int // turns of each user in the line of known visitors, or with a place from there
	queued  [3]int         // lookups that wait in these lines, or will soon
	lines   [4]list.List   // of *turn
	waited  time.Duration  // in sum
	latency time.Duration  // of lookups: each one moves it by an eighth
}

// The lines, in their order of priority.
const (
	knownVisitors = iota
	crowds        // known visitors above their user's share
	newcomers
	refreshes // before an answer's last second
)

// turn belongs to a lookup: it waits in a line, and then has a place.
type turn struct {
	owner string // the user; empty for newcomers and crowds
	line  int
	spot  *list.Element // in its line, while it waits
	since int64         // when it came into the line
	until int64         // the longest that it waits
	ready chan struct{} // closed when it has a place
	held  bool
	joins bool // a request has joined a refresh
}

// result is the result of a lookup.
type result int

const (
	failed    result = iota
	anonymous        // DSS knew nobody
	named            // DSS named a user
	crowding         // the same, but the answer only replaces another one of the user
)

func newPlaces(most int, timeout time.Duration, c *clock) *places {
	floor := 4 * min(fewestPlaces, most)
	return &places{clock: c, slow: timeout / 4, floor: floor, ceiling: 4 * most, open: floor, owners: make(map[string]int)}
}

// newTurn returns the turn of a visitor known as owner, or of a newcomer if owner is
// empty.
func newTurn(owner string) *turn {
	t := &turn{owner: owner, line: knownVisitors, ready: make(chan struct{})}
	if owner == "" {
		t.line = newcomers
	}
	return t
}

var (
	errNoPlace   error = &refusal{kind: ErrUnavailable, why: "no lookup place became free in time", unasked: true}
	errQueueFull error = &refusal{kind: ErrUnavailable, why: "too many lookups are waiting for DSS", unasked: true}
)

// enter waits for a place, for at most maxWait. It first calls before, if given; before
// may also wait.
func (p *places) enter(ctx context.Context, t *turn, before func(context.Context)) error {
	if !p.arrive(t) {
		return errQueueFull
	}
	if before != nil {
		before(ctx)
	}
	p.mu.Lock()
	p.queue(t, maxWait)
	p.mu.Unlock()
	if !p.wait(ctx, t) {
		return errNoPlace
	}
	return nil
}

// arrive counts t, and reports whether it may wait. Hanging lookups of one user must
// not take the reserved places of all users: those above the user's share get
// newcomers' places. They go before newcomers, since junk must not lock out an account
// on many screens.
func (p *places) arrive(t *turn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case t.line == knownVisitors && p.owners[t.owner] < p.share():
		p.owners[t.owner]++
	case t.line == knownVisitors:
		t.owner, t.line = "", crowds
	case p.queued[newcomers] >= maxQueue:
		return false
	}
	p.queued[t.line]++
	return true
}

// ahead takes a free place for a refresh, and then sets t.held, or else lets t wait for
// up to patience. It reports false if it does neither.
func (p *places) ahead(t *turn, patience time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.line = refreshes; p.owners[t.owner] >= p.share() || p.lines[refreshes].Len() >= maxQueue {
		return false
	}
	p.owners[t.owner]++
	p.queue(t, patience)
	return true
}

// queue puts t at the end of its line. The caller holds mu.
func (p *places) queue(t *turn, patience time.Duration) {
	t.since = p.clock.now()
	t.until = t.since + int64(patience)
	t.spot = p.lines[t.line].PushBack(t)
	p.admit(t.since)
}

// wait reports whether t got a place in time.
func (p *places) wait(ctx context.Context, t *turn) bool {
	timer := time.NewTimer(p.left(t))
	defer timer.Stop()
	for {
		select {
		case <-t.ready:
			return true
		case <-ctx.Done():
		case <-timer.C:
			if left := p.left(t); left > 0 {
				timer.Reset(left)
				continue
			}
		}
		return p.giveUp(t)
	}
}

func (p *places) left(t *turn) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Duration(t.until - p.clock.now())
}

// isReady reports whether t has a place, or had one.
func (t *turn) isReady() bool {
	select {
	case <-t.ready:
		return true
	default:
		return false
	}
}

// join lets a refresh in its answer's last second wait longer for the first request
// that joins it: as long as that request itself would have waited.
func (p *places) join(t *turn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !t.joins {
		t.joins, t.until = true, p.clock.now()+int64(maxWait)
	}
}

// giveUp ends the wait of t, and reports whether t has just got a place.
func (p *places) giveUp(t *turn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !t.held {
		p.step(t, p.clock.now())
		p.forget(t)
	}
	return t.held
}

// admit gives free places to waiting turns. The caller holds mu.
func (p *places) admit(now int64) {
	for line := range p.lines {
		for p.isFree(line) && p.lines[line].Len() > 0 {
			t := p.lines[line].Front().Value.(*turn)
			p.step(t, now)
			t.held = true
			p.taken++
			p.held[line]++
			close(t.ready)
		}
	}
}

// isFree reports whether there is a place for a turn from the line. The caller holds
// mu.
func (p *places) isFree(line int) bool {
	open := p.open / 4
	theirs, shared := p.held[crowds]+p.held[newcomers], open-p.reserved()
	switch {
	case p.taken >= open:
		return false
	case line == newcomers:
		return theirs < shared
	case line == crowds: // a user with hanging lookups leaves half to newcomers
		return theirs < shared && p.held[crowds] < max(1, shared/2)
	}
	return true
}

// reserved returns the number of places that newcomers cannot have: a quarter, rounded
// up. The caller holds mu.
func (p *places) reserved() int { return (p.open/4 + 3) / 4 }

// share returns how many lookups of one user at once have a known visitor's priority: a
// quarter of the reserved places. The caller holds mu.
func (p *places) share() int { return max(1, p.reserved()/4) }

// step takes t out of its line. The caller holds mu.
func (p *places) step(t *turn, now int64) {
	p.lines[t.line].Remove(t.spot)
	if t.line != refreshes { // no request waits for it
		p.queued[t.line]--
		p.waited += time.Duration(now - t.since)
	}
}

// forget takes t out of its user's share. The caller holds mu.
func (p *places) forget(t *turn) {
	if t.owner == "" {
		return
	}
	if p.owners[t.owner]--; p.owners[t.owner] == 0 {
		delete(p.owners, t.owner)
	}
}

// leave gives t's place back if it still has one. It opens or closes places by the
// result and the duration of the lookup.
func (p *places) leave(t *turn, took time.Duration, r result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.held {
		if p.latency == 0 {
			p.latency = took
		}
		p.latency += (took - p.latency) / 8
		p.adjust(took, r)
		p.free(t)
	}
}

// giveBack is leave for a lookup that did not ask DSS.
func (p *places) giveBack(t *turn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.held {
		p.free(t)
	}
}

// postpone gives t's place back if it has one: t then waits for another one as a known
// visitor's.
func (p *places) postpone(t *turn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.held {
		p.free(t)
		t.line, t.ready = knownVisitors, make(chan struct{})
	}
}

func (p *places) free(t *turn) {
	t.held = false
	p.taken--
	p.held[t.line]--
	p.forget(t)
	p.admit(p.clock.now())
}

func (p *places) adjust(took time.Duration, r result) {
	waits := p.lines[knownVisitors].Len()+p.lines[crowds].Len()+p.lines[newcomers].Len() > 0
	switch {
	case took > p.slow || r == failed:
		p.open -= 2
	case waits && r == named:
		p.open++
	case waits && r == anonymous:
		p.open--
	}
	p.open = min(max(p.open, p.floor), p.ceiling)
}

// addTo sets the numbers about places in s.
func (p *places) addTo(s *Stats) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Places, s.InFlight, s.Waited = p.open/4, p.taken, p.waited
	s.Queued = p.queued[knownVisitors] + p.queued[crowds] + p.queued[newcomers]
}

// shortage returns the reason why there are not more places.
func (p *places) shortage() shortage {
	p.mu.Lock()
	defer p.mu.Unlock()
	return shortage{places: p.open / 4, most: p.ceiling / 4, latency: p.latency, slow: p.latency > p.slow}
}
