package dssauth

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"hash/maphash"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dssauth/dssauth/internal/seal"
)

// isForgotten reports whether a was forgotten, here or by a replica that has left a
// mark. An unreadable mark counts, too.
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

// markBytes makes the store's answers about k count as forgotten. Call it before the
// answer in memory is forgotten.
func (s *sharing) markBytes(k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marks.add(maphash.Comparable(s.seed, k), time.Now().Add(skew).UnixNano(), s.now())
}

// markOwner does the same for all answers about an owner.
func (s *sharing) markOwner(owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marks.add(maphash.String(s.seed, owner), time.Now().Add(skew).UnixNano(), s.now())
}

// tell makes all replicas forget the answers about these owners, and the answer to c,
// if it is given. It waits for the store: if that answers, the caller can rely on it.
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
	// Not the request's context: the visitor may close the connection.
	ctx, value := context.Background(), s.closed(u.forgetting, u.marks)
	if len(value) > maxStored { // no answer has such a long login
		return true
	}
	for i, k := range u.marks {
		if _, err := s.put(ctx, StoreEntry{Key: k, Value: value, TTL: s.ttl + 2*skew, Notify: i == 0}); err != nil {
			return false
		}
	}
	for _, k := range u.Answer {
		_ = s.delete(ctx, k) // the mark is enough
	}
	return true
}

// tellLater keeps u until the store takes it: others may use answers for longer than
// the TTL in an outage of DSS, and the store may answer all replicas but this one. If
// too many wait, one without an owner is dropped first: anybody can sign out with
// unknown bytes.
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
		var least string
		for other, waits := range s.unheard {
			if least = other; len(waits.Owners) == 0 {
				break
			}
		}
		if len(u.Owners) == 0 && len(s.unheard[least].Owners) > 0 {
			return
		}
		delete(s.unheard, least)
	}
	s.unheard[of] = u
}

// tellAgain sends the waiting notices, until none waits. The id of a notice stays, so
// that it counts once. Its time is renewed: answers from the time between may be wrong.
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

// wasTold removes a notice that was sent, and reports whether no other one waits.
func (s *sharing) wasTold(of, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unheard[of].ID == id {
		delete(s.unheard, of)
	}
	return len(s.unheard) == 0
}

// greet sends a notice from which replicas without a common secret learn about each
// other.
func (s *sharing) greet() {
	n := forgetting{ID: rand.Text(), At: time.Now().UnixNano()}
	s.isNew(n.ID)
	keys := s.sealer.Keys("hello", s.about...)
	_, _ = s.put(s.life.ctx, StoreEntry{Key: keys[0], Value: s.closed(n, keys), TTL: helloTime, Notify: true})
}

// closed seals n once for each of keys. These are one or more groups of one key for
// each secret. The key stands in front of each sealed part.
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
		if tried++; tried == maxSecrets { // the parts of the first mark; a stranger may send thousands
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

// hear forgets the answers that another replica forgot. A notice counts once. It does
// not count if it is older than an answer can be.
func (s *sharing) hear(value []byte) {
	n, ok := s.openNotice(value)
	if !ok {
		if s.isStrange() {
			s.told.hearsStrangers()
			s.life.run(s.greet) // they may have missed the last notice, and must log it too
		}
		return
	}
	age := time.Since(time.Unix(0, n.At))
	if age > s.ttl+s.lookup+2*skew || !s.isNew(n.ID) {
		return
	}
	if len(n.Owners)+len(n.Answer) == 0 { // a greeting; it came at once
		if age < -skew || age > skew {
			s.told.clocksDiffer(age, s.now())
		}
		return
	}
	s.forget(n.Owners, s.local(n.Answer))
}

// local returns the keys here for the stored keys of an answer.
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

// isNew records that a notice was heard, and reports whether it is the first time.
func (s *sharing) isNew(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.heard.Contains(id)
	s.heard.Add(id, struct{}{})
	return !known
}

// isStrange records that a notice came that no secret opens. It reports true once.
func (s *sharing) isStrange() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.strange
	s.strange = true
	return first
}

// listen hears the notices of others, for as long as the Middleware lives.
func (s *sharing) listen() {
	heard := s.now()
	for pause := minAgain; s.life.ctx.Err() == nil; pause = min(2*pause, storeProbe) {
		began := s.now()
		why := s.watch()
		now := s.now()
		if s.hears.Swap(false) {
			heard = now
		}
		// Short gaps are usual. A store that is out has its own log line.
		if now-heard > int64(storeProbe) && !s.out.Load() && s.life.ctx.Err() == nil {
			s.told.hearsNothing(why, now)
		}
		if now-began > int64(storeProbe) {
			pause = minAgain
		}
		s.life.sleep(pause)
	}
}

var errNotReady = ownWords("Watch did not call ready within 10s")

// watch listens until the store may have missed something, and returns why it
// ended. It waits for the goroutine in which the store may call Goexit.
func (s *sharing) watch() (why string) {
	why = "Watch ended without an error"
	ctx, cancel := context.WithCancelCause(s.life.ctx)
	defer cancel(nil)
	late := time.AfterFunc(readyTime, func() { cancel(errNotReady) })
	defer late.Stop()
	ended := make(chan struct{})
	var over atomic.Bool // a store may still call these functions
	go func() {
		defer close(ended)
		defer func() { _ = recover() }()
		ready := func() {
			if !over.Load() {
				late.Stop()
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
		if err := s.store.Watch(ctx, ready, heard); err != nil {
			why = err.Error() // here: it may panic
		}
	}()
	<-ended
	over.Store(true)
	if context.Cause(ctx) == errNotReady {
		return errNotReady.Error()
	}
	return why
}

// isRestored records that earlier notices of others may have been missed.
func (s *sharing) isRestored() { s.restored.Store(s.now()) }

// vouches reports whether no notice of others since asked was missed. Without a Store
// it is true.
func (s *sharing) vouches(asked int64) bool {
	return s == nil || s.hears.Load() && !s.out.Load() && asked > s.restored.Load()
}
