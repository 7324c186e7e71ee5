package dssauth

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"time"
)

// take takes the leases of f, and returns the one that another replica has. They
// are taken in one order by all, so that replicas exclude each other that have one
// secret in common. Leases that were taken before are kept, for those who wait for
// them: their answer comes from that other replica, too. If the store fails, DSS is
// asked without leases.
func (s *sharing) take(ctx context.Context, f *found) (busy string, err error) {
	f.token = rand.Text()
	for _, k := range slices.Sorted(slices.Values(f.keys.lease)) {
		var stored bool
		stored, err = s.put(ctx, StoreEntry{Key: k, Value: []byte(f.token), TTL: s.lookup, IfAbsent: true})
		switch {
		case err == nil && !stored:
			return k, nil
		default: // a call that failed may have stored it all the same
			f.leases = append(f.leases, k)
		}
		if err != nil {
			break
		}
	}
	return "", err
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
