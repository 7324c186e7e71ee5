package dssauth

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/dssauth/dssauth/internal/keyhash"
)

// cache remembers DSS's answers for seconds. Finding one walks a chain of atomic
// pointers, at any time. The cache has no lock: its owner serialises all other calls.
//
// The table has a fixed size, since the number of entries has a bound: so it is simple
// to read it without a lock. Measured, finding an entry takes 1.2 to 1.3 times as long
// in an xsync.Map, and 2.5 to 9 times as long in otter v2. Otter has neither a bound
// per user nor aliases.
type cache struct {
	buckets []atomic.Pointer[node]
	placing keyhash.MultiplyShift

	order      *simplelru.LRU[*entry, struct{}] // least recently used first
	byUser     map[string]*entry                // the newest entry of each user; more behind entry.sibling
	maxPerUser int
	maxEntries int
	evictions  uint64
	displaced  uint64 // of these, by other users' answers while they were fresh

	refusals *lru.Cache[key, int64]          // key → when it expires; apart, so that junk evicts nobody
	lately   *simplelru.LRU[key, pastAnswer] // forgotten answers: these visitors are not newcomers
}

// entry is one answer of DSS. Its content never changes: a newer answer is another
// entry.
type entry struct {
	node       // under the key of the bytes sent to DSS
	first node // the first alias: in the memory that a hit reads, not elsewhere
	period
	renewing atomic.Bool  // one refresh per entry, even if it fails
	denied   bool         // forgotten, or DSS has refused since and may have meant this visitor; guarded by the owner
	touched  atomic.Int64 // time of the last hit, to a second; before the first hit, asked
	moved    int64        // touched, when it last moved to the front of the order; guarded by the owner
	alias    *node        // under the key of raw headers that were filtered; guarded by the owner
	aliased  atomic.Int64 // when alias last changed
	sibling  *entry       // next one of the same user; guarded by the owner
	session  *session     // shared with later answers about the same visitor
	identity Identity
}

// period is the life of an answer. All times are monotonic, see clock.
type period struct {
	expires int64
	asked   int64 // when DSS was asked
	number  int64 // of the lookup; a later call of forget has a higher one
}

// isOld reports whether a hit starts a refresh. It computes that each time, since eight
// more bytes would put an entry into the next larger size of memory.
func (p *period) isOld(now int64) bool {
	return now >= p.asked+int64(float64(p.expires-p.asked)*renewAt)
}

// renewAt is the part of an answer's life after which a hit starts a refresh.
const renewAt = 0.7

// jitter is the part of an answer's life by which it can be shorter.
const jitter = 0.1

// node is one place in the table.
type node struct {
	key   key
	next  atomic.Pointer[node]
	entry *entry
}

func newCache(maxEntries, maxPerUser int) *cache {
	size := 1
	for size < maxEntries {
		size *= 2
	}
	c := &cache{
		buckets:    make([]atomic.Pointer[node], size),
		placing:    keyhash.NewMultiplyShift(),
		maxPerUser: maxPerUser,
		maxEntries: maxEntries,
		byUser:     make(map[string]*entry),
	}
	// Neither constructor fails for a positive size.
	c.order, _ = simplelru.NewLRU[*entry, struct{}](maxEntries, func(e *entry, _ struct{}) { c.unlink(e) })
	c.refusals, _ = lru.New[key, int64](maxEntries)
	c.lately, _ = simplelru.NewLRU[key, pastAnswer](maxEntries, nil)
	return c
}

// spread is a second hash, for placing keys. If raw bits of a key decided a place, an
// observer could learn something about the key's secret.
func (c *cache) spread(k key) uint64 { return c.placing.Of(k[0], k[1], 0) }

func (c *cache) bucket(k key) *atomic.Pointer[node] {
	return &c.buckets[c.spread(k)&uint64(len(c.buckets)-1)]
}

// find returns the entry under k, expired or not, or nil.
func (c *cache) find(k key) *entry {
	for n := c.bucket(k).Load(); n != nil; n = n.next.Load() {
		if n.key == k {
			return n.entry
		}
	}
	return nil
}

// touch protects e from eviction, see spare. Once a second is enough, and the cores do
// not have to pass the entry's memory to and fro.
func (e *entry) touch(now int64) {
	if now-e.touched.Load() > int64(time.Second) {
		e.touched.Store(now)
	}
}

// cameBack reports whether e's bytes were seen again: more than a second after the
// first request, or after the answer had ended.
func (e *entry) cameBack() bool { return e.touched.Load() > e.asked }

// spare gives the next entries to evict a second chance if they were hit since they
// came to the front of the order. So a hit does not move them, and needs no lock.
func (c *cache) spare() {
	for range maxSpared {
		e, _, ok := c.order.GetOldest()
		if !ok || c.order.Len() < c.maxEntries || e.moved == e.touched.Load() {
			return
		}
		e.moved = e.touched.Load()
		c.order.Get(e)
	}
}

// maxSpared bounds the entries that spare moves for one stored entry.
const maxSpared = 8

// addAlias makes e findable under raw too, in place of its last alias.
func (c *cache) addAlias(raw key, e *entry) {
	if !c.order.Contains(e) {
		return
	}
	if e.alias != nil {
		c.removeNode(e.alias)
	}
	if e.alias = &e.first; e.first.entry != nil {
		e.alias = new(node) // a reader may still stand on the first
	}
	e.alias.key, e.alias.entry = raw, e
	c.insertNode(e.alias)
}

// put stores e in place of an older answer to the same bytes. An answer that is too
// large to store also removes the older one.
func (c *cache) put(e *entry) {
	if old := c.find(e.key); old != nil {
		if old.asked > e.asked {
			return
		}
		if e.asked < old.expires && e.identity.owner() == old.identity.owner() {
			e.session = old.session
		}
		e.touched.Store(max(e.touched.Load(), e.asked+1)) // these bytes came back
		c.order.Remove(old)
	}
	if !e.identity.fits() {
		return
	}
	e.entry = e
	owner := e.identity.owner()
	c.makeRoom(owner, e.asked)
	c.insertNode(&e.node)
	e.moved = e.touched.Load()
	c.spare()
	e.sibling, c.byUser[owner] = c.byUser[owner], e
	oldest, _, _ := c.order.GetOldest()
	if c.order.Add(e, struct{}{}) {
		c.evictions++
		if e.asked < oldest.expires {
			c.displaced++
		}
	}
	c.refusals.Remove(e.key)
}

// makeRoom evicts one of the owner's own entries if the owner has the allowed number: a
// sender of one valid cookie beside random ones evicts no other user.
func (c *cache) makeRoom(owner string, now int64) {
	count := 0
	for e := c.byUser[owner]; e != nil; e = e.sibling {
		count++
	}
	if count >= c.maxPerUser {
		c.order.Remove(c.leastUseful(owner, now))
		c.evictions++
	}
}

// leastUseful returns the owner's entry to evict: an ended one; else one whose bytes
// did not come back; else the least recently used one.
//
// If more browsers than allowed take turns, the least recently used one comes next: a
// cache that always evicts that one keeps no answer from round to round. Evicting the
// newest keeps all others. Now and then it evicts any one that did not come back: so a
// new session gets in beside any amount of junk. Junk never comes back, so it evicts no
// active session.
func (c *cache) leastUseful(owner string, now int64) *entry {
	var ended, used *entry
	var once []*entry // the newest first
	for e := c.byUser[owner]; e != nil; e = e.sibling {
		switch {
		case now >= e.expires:
			ended = lessRecent(ended, e)
		case e.cameBack():
			used = lessRecent(used, e)
		default:
			once = append(once, e)
		}
	}
	switch {
	case ended != nil:
		return ended
	case len(once) == 0:
		return used
	case rand.IntN(c.maxPerUser) == 0:
		return once[rand.IntN(len(once))]
	}
	return once[0]
}

// lessRecent returns the less recently used one. The first may be nil.
func lessRecent(a, b *entry) *entry {
	if a == nil || b.touched.Load() <= a.touched.Load() {
		return b
	}
	return a
}

// held returns how many unexpired answers the owner holds besides the one
// under k.
func (c *cache) held(owner string, k key, now int64) (count int) {
	for e := c.byUser[owner]; e != nil; e = e.sibling {
		if now < e.expires && e.key != k {
			count++
		}
	}
	return count
}

// drop removes the entry under k if DSS was asked for it before asked.
func (c *cache) drop(k key, asked int64) {
	if e := c.find(k); e != nil && e.asked <= asked {
		c.order.Remove(e)
	}
}

// forget removes the answer under k, including "not signed in". No connection may rely
// on it in an outage any more.
func (c *cache) forget(k key) {
	if e := c.find(k); e != nil {
		c.end(e)
	}
	c.refusals.Remove(k)
}

// dropUser does the same with all of a user's entries.
func (c *cache) dropUser(login string) {
	for e := c.byUser[login]; e != nil; e = c.byUser[login] {
		c.end(e)
	}
}

func (c *cache) end(e *entry) {
	e.denied = true
	c.lately.Add(e.key, pastAnswer{e.identity.owner(), e.expires})
	c.order.Remove(e)
}

// knownFor is how long after the end of an answer its visitor is not a newcomer.
const knownFor = time.Hour

// pastAnswer is the rest of a forgotten answer. It does not identify anybody now.
type pastAnswer struct {
	owner   string
	expires int64
}

// knownAs returns the owner of k's bytes, now or within the last hour, for the turn of
// a lookup. It is empty for a newcomer.
func (c *cache) knownAs(k key, now int64) string {
	last, known := pastAnswer{}, false
	if e := c.find(k); e != nil {
		last, known = pastAnswer{e.identity.owner(), e.expires}, true
	} else {
		last, known = c.lately.Peek(k)
	}
	if !known || now >= last.expires+int64(knownFor) {
		return ""
	}
	return last.owner
}

// unlink runs when an entry leaves the LRU order, for any reason.
func (c *cache) unlink(e *entry) {
	c.removeNode(&e.node)
	if e.alias != nil {
		c.removeNode(e.alias)
	}
	owner := e.identity.owner()
	if c.byUser[owner] != e {
		for s := c.byUser[owner]; s != nil; s = s.sibling {
			if s.sibling == e {
				s.sibling = e.sibling
			}
		}
	} else if c.byUser[owner] = e.sibling; e.sibling == nil {
		delete(c.byUser, owner)
	}
}

func (c *cache) insertNode(n *node) {
	b := c.bucket(n.key)
	n.next.Store(b.Load())
	b.Store(n)
}

// removeNode does not change n.next: a reader may be at n now.
func (c *cache) removeNode(n *node) {
	for p := c.bucket(n.key); p.Load() != nil; p = &p.Load().next {
		if p.Load() == n {
			p.Store(n.next.Load())
			return
		}
	}
}

// purge removes everything.
func (c *cache) purge() {
	c.order.Purge()
	c.refusals.Purge()
	c.lately.Purge()
}
