package dssauth

import (
	"bytes"
	"context"
	"encoding/json"
	"sync/atomic"
	"time"
)

// find looks for an answer that another replica has, or will have soon. The answer must
// be newer than last, if there is a last. A refresh does not take an answer that is due
// for a refresh itself. If no replica has an answer, the lookup gets leases, and its
// caller must publish or give up f. Refusal returns the reason why DSS cannot be asked,
// and find returns that as its error. Find calls waits before it waits for another
// replica's lookup.
func (s *sharing) find(ctx context.Context, c credentials, last *entry, renews bool, count *atomic.Int64, refusal func() error, waits func()) (f *found, err error) {
	f = &found{}
	most := int64(maxFinds)
	if last == nil {
		most = maxFinds / 4 * 3
	}
	defer s.finds.Add(-1)
	f.keys = s.keysOf(c)
	beside := s.begins(f, c.key) // even if the store is not asked: others may forget the answer
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
		number := count.Load() // before the store is asked: an answer may be forgotten meanwhile
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
	if err = refusal(); err != nil || beside { // no request may wait for the older lookup, which has the lease
		return f, err
	}
	busy, failure := s.take(ctx, f)
	switch {
	case failure != nil:
	case busy != "":
		waits()
		err = s.await(ctx, busy, look, refusal)
	case look(): // it may have come since the first look
		s.giveUp(f)
	}
	return f, err
}

// await waits for the answer to the lookup of another replica that has the lease of
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
			break // the store cannot help any more, or time is up
		}
		if now == nil || !bytes.Equal(now, theirs) { // it has ended
			look() // an answer may have come since the last look
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

// read returns the stored answer if it is believed, or nil.
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

// open returns a stored answer, if it is valid and has the right age.
func (s *sharing) open(number int, stored string, value []byte) *sharedAnswer {
	text, ok := s.sealer.Open(number, stored, value)
	var a sharedAnswer
	if !ok || json.Unmarshal(text, &a) != nil {
		return nil
	}
	id := a.identity()
	age := time.Since(id.AsOf)
	// An own answer lives at least as long as this limit: a stored one must not be
	// older.
	if !id.isSomebody() || !id.fits() || age < -skew || age >= time.Duration(float64(s.ttl)*(1-jitter)) {
		return nil
	}
	return &a
}

// askedAt is the time when DSS was asked for a, by this replica's clock. It comes from
// the wall clocks of replicas, and is never in the future.
func (s *sharing) askedAt(a *sharedAnswer) int64 {
	return s.now() - int64(max(0, time.Since(time.Unix(0, a.AsOf))))
}

// publish shares the answer of f's lookup.
func (s *sharing) publish(f *found, e *entry) {
	s.keeps(f, e.key)
	left := s.ttl - time.Duration(s.now()-e.asked)
	if f.isAnswer() || s.out.Load() || left < time.Millisecond || !e.identity.fits() {
		return
	}
	text, err := json.Marshal(newSharedAnswer(&e.identity))
	if err != nil {
		return
	}
	if value := s.sealer.Seal(0, f.keys.answer[0], text); len(value) <= maxStored {
		_, _ = s.put(context.Background(), StoreEntry{Key: f.keys.answer[0], Value: value, TTL: left})
	}
}

// retract removes an answer that DSS no longer gives.
func (s *sharing) retract(f *found) {
	for _, k := range f.keys.answer {
		_ = s.delete(context.Background(), k) // it ends within its TTL
	}
}

// conclude ends the leases of f, and removes everything else that was kept for it.
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

// ownerOf returns the owner of the store's answer to c, or "".
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
