package dssauth

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"time"
)

// take takes the leases of f, and returns the one that another replica has. All
// replicas take them in the same order, so that two replicas with one common secret
// exclude each other. Take keeps the leases that it got before: replicas that wait for
// them get the other replica's answer, too. If the store fails, DSS is asked without
// leases.
func (s *sharing) take(ctx context.Context, f *found) (busy string, err error) {
	f.token = rand.Text()
	for _, k := range slices.Sorted(slices.Values(f.keys.lease)) {
		var stored bool
		stored, err = s.put(ctx, StoreEntry{Key: k, Value: []byte(f.token), TTL: s.lookup, IfAbsent: true})
		switch {
		case err == nil && !stored:
			return k, nil
		default: // a failed call may have stored it
			f.leases = append(f.leases, k)
		}
		if err != nil {
			break
		}
	}
	return "", err
}

// giveUp ends the leases of f. Without an answer, the replicas that wait for it ask
// DSS themselves.
func (s *sharing) giveUp(f *found) {
	for _, k := range f.leases {
		if s.delete(context.Background(), k) != nil {
			s.endLater(k, f.token)
		}
	}
	f.leases = nil
}

// endLater ends a lease when the store answers again: other replicas would wait for it
// without a result. A slow call may even store the lease only then.
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

// endLeft ends the leases that are left, until they end by themselves.
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
