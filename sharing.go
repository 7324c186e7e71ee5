package dssauth

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/dssauth/dssauth/internal/seal"
)

// sharing is what replicas tell each other through a [Store]: what DSS answered,
// who asks it just now, and what was forgotten. All of it is sealed.
//
// What a store gives back is believed about exactly the bytes that it was put
// for, as long as this replica's own answer would be, and not beyond what was
// forgotten. So a store can cost a call of DSS, and never an identity.
type sharing struct {
	*storeAccess
	sealer   *seal.Sealer
	about    []string // what all keys cover
	names    []string // of the identifying headers
	ttl      time.Duration
	patience time.Duration // with another replica's lookup
	lookup   time.Duration // what one can take

	finds    atomic.Int64                      // lookups that look here
	forget   func(owners []string, keys []key) // what another replica forgot
	has      func(key) bool                    // whether an answer is in memory
	hears    atomic.Bool                       // what others forget
	restored atomic.Int64                      // since when, without a gap

	mu      sync.Mutex
	locally // guarded by mu
}

// locally is what one replica keeps about the others.
type locally struct {
	marks   forgotten // what was forgotten lately; the numbers are nanoseconds of the wall clock up to which answers end
	seed    maphash.Seed
	heard   *simplelru.LRU[string, struct{}] // notices: each counts once
	keys    map[uint64]key                   // of answers in memory, by the hash of their keys in the store
	purgeAt int                              // size at which keys is purged
	looking map[string]looked                // the same of lookups under way
	unheard map[string]unheard               // what the store did not take, by the first mark
	left    map[string]string                // leases that the store did not end when it should have, and their values; nil: none
	strange bool                             // a notice came that no secret opens
}

// looked are the bytes that some lookups under way are about.
type looked struct {
	key     key
	lookups int
}

const (
	// skew is how far the clocks of replicas may differ.
	skew = 2 * time.Second
	// maxFinds bounds the lookups that look into the store. Newcomers have three
	// quarters of it, so that junk keeps known visitors' answers from nobody.
	maxFinds = 1024
	// minLook and maxLook are the pauses between two looks for the answer to a
	// lookup of another replica.
	minLook = 2 * time.Millisecond
	maxLook = 25 * time.Millisecond
	// minAgain and maxAgain are the pauses before the store is tried again.
	minAgain = 50 * time.Millisecond
	maxAgain = time.Minute
	// maxUnheard bounds what waits to be told.
	maxUnheard = 4096
	// helloTime is how long a replica's greeting is kept. It matters only to those
	// who hear it.
	helloTime = time.Minute
)

// newLocally remembers forgetting as long as an answer can be used.
func newLocally(ttl time.Duration) locally {
	l := locally{marks: newForgotten(int64(ttl + 2*skew)), seed: maphash.MakeSeed(), keys: make(map[uint64]key), looking: make(map[string]looked), unheard: make(map[string]unheard)}
	l.heard, _ = simplelru.NewLRU[string, struct{}](maxForgotten, nil) // fails for no positive size
	return l
}

// storedKeys are the keys in the store of what belongs to some bytes, one for each
// secret.
type storedKeys struct{ answer, lease, mark []string }

// keysOf returns the keys of c: HMACs of an injective encoding.
func (s *sharing) keysOf(c credentials) storedKeys {
	parts := slices.Clip(s.about)
	for _, name := range s.names {
		if values := c.header[name]; len(values) > 0 {
			parts = append(parts, "is", values[0]) // what is picked has one value
		} else {
			parts = append(parts, "none")
		}
	}
	return storedKeys{s.sealer.Keys("answer", parts...), s.sealer.Keys("lease", parts...), s.sealer.Keys("mark", parts...)}
}

// marksOf returns the keys of what says that an owner's answers were forgotten.
func (s *sharing) marksOf(owner string) []string {
	return s.sealer.Keys("owner", append(slices.Clip(s.about), owner)...)
}

// sharedAnswer is what is stored of an answer.
type sharedAnswer struct {
	AsOf                                                 int64 // in nanoseconds, by the wall clock of whom DSS was asked by
	Login, Profile, Source, APIKeyID, DisplayName, Email string
	Groups                                               []string
}

// found is what the other replicas had to say about a lookup.
type found struct {
	keys   storedKeys
	leases []string // that were taken: other replicas wait for this one
	token  string   // what is stored under them
	stale  bool     // the store has an answer that was not believed

	identity Identity // of somebody: DSS need not be asked
	asked    int64    // when it was
	number   int64    // of lookups here that had asked when the store was
}

// isAnswer reports whether another replica has answered.
func (f *found) isAnswer() bool { return f.identity.isSomebody() }

// find looks for an answer that another replica has, or is about to have: one that
// DSS was asked for later than for last, if there is one. A refresh takes none that
// is to be refreshed itself. Where nobody has, the lookup gets leases, and its caller
// must publish or give up f. Refusal says why DSS cannot be asked; waits is called
// before another replica's lookup is waited for. An error is that of refusal.
func (s *sharing) find(ctx context.Context, c credentials, last *entry, renews bool, count *atomic.Int64, refusal func() error, waits func()) (f *found, err error) {
	f = &found{}
	most := int64(maxFinds)
	if last == nil {
		most = maxFinds / 4 * 3
	}
	defer s.finds.Add(-1)
	f.keys = s.keysOf(c)
	s.begins(f, c.key) // whether or not the store is asked: others may forget its answer
	if s.finds.Add(1) > most || s.out.Load() {
		return f, nil
	}
	defer func() {
		if f.isAnswer() {
			s.hits.Add(1)
		} else {
			s.misses.Add(1)
		}
	}()
	look := func() (done bool) {
		number := count.Load() // before the store is asked: what is forgotten meanwhile counts
		a, err := s.read(ctx, f, c.key)
		if err != nil {
			return true
		}
		if a == nil {
			return false
		}
		asked := s.askedAt(a)
		age := time.Duration(s.now() - asked)
		if last != nil && (a.AsOf <= last.identity.AsOf.UnixNano() || asked <= last.asked) || renews && age >= time.Duration(renewAt*float64(s.ttl)) {
			return false
		}
		f.identity, f.asked, f.number = a.identity(), asked, number
		return true
	}
	if look() {
		return f, nil
	}
	if err = refusal(); err != nil {
		return f, err
	}
	busy := s.take(ctx, f)
	if busy == "" {
		if len(f.leases) > 0 && look() { // it may have come since the first look
			s.giveUp(f)
		}
		return f, nil
	}
	waits()
	return f, s.await(ctx, busy, look, refusal)
}

// await waits for the answer to another replica's lookup, which has the lease of
// this key. It leaves time to ask DSS: that replica may have been killed.
func (s *sharing) await(ctx context.Context, lease string, look func() bool, refusal func() error) error {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	theirs, err := s.get(ctx, lease)
	for pause := minLook; err == nil; pause = min(2*pause, maxLook) {
		if look() {
			return nil
		}
		var now []byte
		if now, err = s.get(ctx, lease); err != nil {
			break // the store is of no help any more, or time is up
		}
		if now == nil || !bytes.Equal(now, theirs) { // it has ended
			look() // unless its answer has come since the last look, there is none to share
			break
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		if err := refusal(); err != nil {
			return err
		}
	}
	return nil
}

// take takes the leases of f, and returns the one that another replica has. They
// are taken in one order by all, so that replicas exclude each other that have one
// secret in common. What was taken before is kept, for those who wait for it: their
// answer comes from that other replica, too.
func (s *sharing) take(ctx context.Context, f *found) (busy string) {
	f.token = rand.Text()
	for _, k := range slices.Sorted(slices.Values(f.keys.lease)) {
		stored, err := s.put(ctx, StoreEntry{Key: k, Value: []byte(f.token), TTL: s.lookup, IfAbsent: true})
		switch {
		case err == nil && !stored:
			return k
		default: // a call that failed may have stored it all the same
			f.leases = append(f.leases, k)
		}
		if err != nil {
			return ""
		}
	}
	return ""
}

// giveUp ends the leases of f. Those who wait for its answer ask DSS themselves if
// there is none.
func (s *sharing) giveUp(f *found) {
	for _, k := range f.leases {
		if s.delete(context.Background(), k) != nil {
			s.endLater(k, f.token)
		}
	}
	f.leases = nil
}

// endLater ends a lease once the store answers again: others would wait for it in
// vain. It may even be stored only then, where the call that put it was slow.
func (s *sharing) endLater(lease, token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == nil {
		s.left = make(map[string]string)
		s.life.run(s.endLeft)
	}
	if len(s.left) < maxFinds {
		s.left[lease] = token // beyond that it ends by itself
	}
}

// endLeft ends what is left, for as long as that does not end by itself.
func (s *sharing) endLeft() {
	until := s.now() + int64(s.lookup)
	ticker := time.NewTicker(storeTime)
	defer ticker.Stop()
	for {
		select {
		case <-s.life.ctx.Done():
			return
		case <-ticker.C:
		}
		s.mu.Lock()
		left := maps.Clone(s.left)
		if len(left) == 0 {
			s.left = nil
		}
		s.mu.Unlock()
		if len(left) == 0 {
			return
		}
		for k, token := range left {
			value, err := s.get(s.life.ctx, k)
			if err == nil && string(value) == token { // and not another one's
				err = s.delete(s.life.ctx, k)
			}
			if err == nil || s.now() > until {
				s.mu.Lock()
				delete(s.left, k)
				s.mu.Unlock()
			}
		}
	}
}

// read returns the answer that the store has and that is believed, or nil.
func (s *sharing) read(ctx context.Context, f *found, k key) (*sharedAnswer, error) {
	for i, stored := range f.keys.answer {
		value, err := s.get(ctx, stored)
		if err != nil {
			return nil, err
		}
		if value == nil {
			continue
		}
		a := s.open(i, stored, value)
		if a != nil {
			gone, err := s.isForgotten(ctx, f.keys.mark, k, a)
			if err != nil {
				return nil, err
			}
			if !gone {
				return a, nil
			}
		}
		f.stale = true
		s.rejected.Add(1)
	}
	return nil, nil
}

// open returns a stored answer, if it is one and of the right age.
func (s *sharing) open(number int, stored string, value []byte) *sharedAnswer {
	text, ok := s.sealer.Open(number, stored, value)
	var a sharedAnswer
	if !ok || json.Unmarshal(text, &a) != nil {
		return nil
	}
	id := a.identity()
	age := time.Since(id.AsOf)
	// An answer that was asked for later than this ends before the least life that
	// it would have here.
	if !id.isSomebody() || !id.fits() || age < -skew || age >= time.Duration(float64(s.ttl)*(1-jitter)) {
		return nil
	}
	return &a
}

// askedAt is when DSS was asked for a, by this replica's clock. The wall clocks of
// replicas tell it; it is never in the future.
func (s *sharing) askedAt(a *sharedAnswer) int64 {
	return s.now() - int64(max(0, time.Since(time.Unix(0, a.AsOf))))
}

func (a *sharedAnswer) identity() Identity {
	return Identity{
		Login: a.Login, Profile: a.Profile, Source: a.Source, APIKeyID: a.APIKeyID, DisplayName: a.DisplayName, Email: a.Email,
		AsOf: time.Unix(0, a.AsOf), groups: makeGroups(a.Groups),
	}
}

// isForgotten reports whether a was forgotten, here or by a replica that has left a
// mark. A mark that makes no sense forgets as well.
func (s *sharing) isForgotten(ctx context.Context, marks []string, k key, a *sharedAnswer) (bool, error) {
	id := a.identity()
	owner := id.owner()
	if s.isMarked(k, owner, a.AsOf) {
		return true, nil
	}
	for _, all := range [][]string{marks, s.marksOf(owner)} {
		for i, mark := range all {
			value, err := s.get(ctx, mark)
			if err != nil {
				return false, err
			}
			if value == nil {
				continue
			}
			if n, ok := s.openPart(i, mark, value); !ok || a.AsOf <= n.At+int64(skew) {
				return true, nil
			}
		}
	}
	return false, nil
}

// isMarked reports whether an answer about k or owner was forgotten here.
func (s *sharing) isMarked(k key, owner string, asOf int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.marks.since(maphash.Comparable(s.seed, k), asOf) > 0 || s.marks.since(maphash.String(s.seed, owner), asOf) > 0
}

// markBytes lets nothing be believed that the store has about k. It comes before
// what is in memory is forgotten.
func (s *sharing) markBytes(k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marks.add(maphash.Comparable(s.seed, k), time.Now().Add(skew).UnixNano(), s.now())
}

// markOwner does the same for all about an owner.
func (s *sharing) markOwner(owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marks.add(maphash.String(s.seed, owner), time.Now().Add(skew).UnixNano(), s.now())
}

// publish shares the answer that f's lookup brought.
func (s *sharing) publish(f *found, e *entry) {
	s.keeps(f, e.key)
	left := s.ttl - time.Duration(s.now()-e.asked)
	if f.isAnswer() || s.out.Load() || left < time.Millisecond || !e.identity.fits() {
		return
	}
	id := &e.identity
	text, err := json.Marshal(&sharedAnswer{id.AsOf.UnixNano(), id.Login, id.Profile, id.Source, id.APIKeyID, id.DisplayName, id.Email, id.Groups()})
	if err != nil {
		return
	}
	if value := s.sealer.Seal(0, f.keys.answer[0], text); len(value) <= maxStored {
		_, _ = s.put(context.Background(), StoreEntry{Key: f.keys.answer[0], Value: value, TTL: left})
	}
}

// retract removes an answer that DSS does not give any more.
func (s *sharing) retract(f *found) {
	for _, k := range f.keys.answer {
		_ = s.delete(context.Background(), k) // it ends within its TTL
	}
}

// conclude ends the leases of f, and all else that was kept for it.
func (s *sharing) conclude(f *found) {
	s.giveUp(f)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, stored := range f.keys.answer {
		if l := s.looking[stored]; l.lookups > 1 {
			s.looking[stored] = looked{l.key, l.lookups - 1}
		} else {
			delete(s.looking, stored)
		}
	}
}

// begins says which bytes the keys of f are about here, while they are looked up.
func (s *sharing) begins(f *found, k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, stored := range f.keys.answer {
		s.looking[stored] = looked{k, s.looking[stored].lookups + 1}
	}
}

// keeps says the same while their answer is in memory. Whatever is not is left out
// now and then, so that one visitor's many answers push out nobody else.
func (s *sharing) keeps(f *found, k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.keys) >= s.purgeAt {
		maps.DeleteFunc(s.keys, func(_ uint64, k key) bool { return !s.has(k) })
		s.purgeAt = 2*len(s.keys) + 64
	}
	for _, stored := range f.keys.answer {
		s.keys[maphash.String(s.seed, stored)] = k
	}
}

// forgetting says what a replica forgot: as the mark of that, and as a notice for
// the other replicas.
type forgetting struct {
	ID     string
	At     int64    // in nanoseconds, by the wall clock
	Owners []string // whose answers were forgotten
	Answer []string // the keys of the answer that was, if there are any
}

// unheard is a notice with the keys of its marks.
type unheard struct {
	forgetting
	marks []string
}

// tell lets all replicas forget what this one has: all about some owners, and the
// answer to c, if it is given. It waits for the store: where that
// answers, its caller can rely on it.
func (s *sharing) tell(c *credentials, owners ...string) {
	n := forgetting{ID: rand.Text(), At: time.Now().UnixNano(), Owners: owners}
	var marks []string
	for _, owner := range owners {
		marks = append(marks, s.marksOf(owner)...)
	}
	if c != nil {
		keys := s.keysOf(*c)
		n.Answer, marks = keys.answer, append(marks, keys.mark...)
	}
	s.isNew(n.ID)
	if u := (unheard{n, marks}); !s.send(u) {
		s.tellLater(u)
	}
}

// send reports whether the store took all of u.
func (s *sharing) send(u unheard) bool {
	// What a visitor forgets does not depend on the visitor's connection.
	ctx, value := context.Background(), s.closed(u.forgetting, u.marks)
	if len(value) > maxStored { // no answer is about so long a login
		return true
	}
	for i, k := range u.marks {
		if _, err := s.put(ctx, StoreEntry{Key: k, Value: value, TTL: s.ttl + 2*skew, Notify: i == 0}); err != nil {
			return false
		}
	}
	for _, k := range u.Answer {
		_ = s.delete(ctx, k) // the mark is what counts
	}
	return true
}

// tellLater keeps u until the store takes it: others may use answers for longer than
// the TTL in an outage of DSS, and this replica may be the only one that the store
// does not answer. Of too many, any is left out.
func (s *sharing) tellLater(u unheard) {
	for i, owner := range u.Owners {
		u.Owners[i] = strings.Clone(owner) // a server may reuse its memory
	}
	of := u.marks[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	switch len(s.unheard) {
	case 0:
		s.life.run(s.tellAgain)
	case maxUnheard:
		for other := range s.unheard {
			delete(s.unheard, other)
			break
		}
	}
	s.unheard[of] = u
}

// tellAgain tells what waits, until nothing does. The id of a notice stays, so that it
// counts once. Its time does not: what was asked in between is not known to be good.
func (s *sharing) tellAgain() {
	for pause := minAgain; s.life.sleep(pause); pause = min(2*pause, maxAgain) {
		s.mu.Lock()
		waiting := maps.Clone(s.unheard)
		s.mu.Unlock()
		if s.out.Load() {
			pause = storeProbe / 2
			continue
		}
		for of, u := range waiting {
			u.At = time.Now().UnixNano()
			if s.life.ctx.Err() != nil || !s.send(u) {
				break
			}
			if s.wasTold(of, u.ID) {
				return
			}
		}
	}
}

// wasTold ends the wait of what was told, and reports whether nothing else waits.
func (s *sharing) wasTold(of, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unheard[of].ID == id {
		delete(s.unheard, of)
	}
	return len(s.unheard) == 0
}

// ownerOf returns whom the store's answer to c is about, or "".
func (s *sharing) ownerOf(c credentials) string {
	for i, stored := range s.keysOf(c).answer {
		if value, _ := s.get(context.Background(), stored); value != nil {
			if a := s.open(i, stored, value); a != nil {
				id := a.identity()
				return id.owner()
			}
		}
	}
	return ""
}

// greet lets replicas without a common secret find out about each other.
func (s *sharing) greet() {
	n := forgetting{ID: rand.Text(), At: time.Now().UnixNano()}
	s.isNew(n.ID)
	keys := s.sealer.Keys("hello", s.about...)
	_, _ = s.put(s.life.ctx, StoreEntry{Key: keys[0], Value: s.closed(n, keys), TTL: helloTime, Notify: true})
}

// closed seals n as the value of each of keys, which are some times one for each
// secret. The key stands in front of it.
func (s *sharing) closed(n forgetting, keys []string) (value []byte) {
	text, err := json.Marshal(n)
	if err != nil {
		return nil
	}
	for i, k := range keys {
		part := s.sealer.Seal(i%s.sealer.Secrets(), k, text)
		value = append(value, k...)
		value = append(value, byte(len(part)>>16), byte(len(part)>>8), byte(len(part)))
		value = append(value, part...)
	}
	return value
}

// parts yields the sealed parts of a notice, with the keys that they were sealed
// for.
func parts(value []byte) func(yield func(key string, part []byte) bool) {
	return func(yield func(string, []byte) bool) {
		const head = seal.KeyLength + 3
		for len(value) >= head {
			k, n := string(value[:seal.KeyLength]), int(value[head-3])<<16|int(value[head-2])<<8|int(value[head-1])
			value = value[head:]
			if n > len(value) || !yield(k, value[:n]) {
				return
			}
			value = value[n:]
		}
	}
}

// openPart opens the part of a notice that was sealed for this key.
func (s *sharing) openPart(number int, stored string, value []byte) (n forgetting, ok bool) {
	for k, part := range parts(value) {
		if k == stored {
			return s.unsealed(number, k, part)
		}
	}
	return n, false
}

// openNotice opens a notice with any secret.
func (s *sharing) openNotice(value []byte) (n forgetting, ok bool) {
	tried := 0
	for k, part := range parts(value) {
		for i := range s.sealer.Secrets() {
			if n, ok = s.unsealed(i, k, part); ok {
				return n, true
			}
		}
		if tried++; tried == maxSecrets { // the first thing's parts; a stranger may send thousands
			break
		}
	}
	return forgetting{}, false
}

func (s *sharing) unsealed(number int, stored string, part []byte) (n forgetting, ok bool) {
	text, ok := s.sealer.Open(number, stored, part)
	ok = ok && json.Unmarshal(text, &n) == nil
	return n, ok
}

// hear forgets what another replica forgot. A notice counts once, and one that is
// older than an answer can be, not at all.
func (s *sharing) hear(value []byte) {
	n, ok := s.openNotice(value)
	if !ok {
		if s.isStrange() {
			s.told.hearsStrangers()
		}
		return
	}
	age := time.Since(time.Unix(0, n.At))
	if age > s.ttl+s.lookup+2*skew || !s.isNew(n.ID) {
		return
	}
	if len(n.Owners)+len(n.Answer) == 0 { // a greeting, which came at once
		if age < -skew || age > skew {
			s.told.clocksDiffer(age)
		}
		return
	}
	s.forget(n.Owners, s.local(n.Answer))
}

// local returns the bytes here that the stored keys of an answer are about.
func (s *sharing) local(stored []string) (keys []key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range stored {
		if known, ok := s.keys[maphash.String(s.seed, k)]; ok {
			keys = append(keys, known)
		}
		if l, ok := s.looking[k]; ok {
			keys = append(keys, l.key)
		}
	}
	return keys
}

// isNew takes down that a notice was heard, and reports whether for the first time.
func (s *sharing) isNew(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.heard.Contains(id)
	s.heard.Add(id, struct{}{})
	return !known
}

// isStrange reports, once, that a notice came that no secret opens.
func (s *sharing) isStrange() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.strange
	s.strange = true
	return first
}

// listen hears what others forget, for as long as the Middleware lives.
func (s *sharing) listen() {
	for pause := minAgain; s.life.ctx.Err() == nil; pause = min(2*pause, storeProbe) {
		began := s.now()
		s.watch()
		s.hears.Store(false)
		if s.now()-began > int64(storeProbe) {
			pause = minAgain
		}
		s.life.sleep(pause)
	}
}

// watch listens until the store may have missed something. It waits for the
// goroutine in which the store may call Goexit.
func (s *sharing) watch() {
	ended := make(chan struct{})
	var over atomic.Bool // a store may go on to call what it was given
	go func() {
		defer close(ended)
		defer func() { _ = recover() }()
		ready := func() {
			if !over.Load() {
				s.isRestored()
				s.hears.Store(true)
				s.life.run(s.greet)
			}
		}
		heard := func(value []byte) {
			if !over.Load() && len(value) <= maxStored {
				s.hear(value)
			}
		}
		_ = s.store.Watch(s.life.ctx, ready, heard)
	}()
	<-ended
	over.Store(true)
}

// isRestored takes down that what others forgot before may not have been heard.
func (s *sharing) isRestored() { s.restored.Store(s.now()) }

// vouches reports whether all that others have forgotten since asked was heard:
// where nothing is shared, it was.
func (s *sharing) vouches(asked int64) bool {
	return s == nil || s.hears.Load() && !s.out.Load() && asked > s.restored.Load()
}

// addTo sets what stats says about the store.
func (s *sharing) addTo(stats *StoreStats) {
	stats.Hits, stats.Misses = s.hits.Load(), s.misses.Load()
	stats.Rejected, stats.Failures = s.rejected.Load(), s.failed.Load()
	stats.Out, stats.Hears = s.out.Load(), s.hears.Load()
}

// mayKnow reports whether another replica's answer can be had.
func (s *sharing) mayKnow() bool { return s != nil && !s.out.Load() }
