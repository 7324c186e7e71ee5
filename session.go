package dssauth

import (
	"sync"

	"github.com/dssauth/dssauth/dss"
)

// session is what the answers about one visitor share, one after the other: a
// refresh that names the same login carries it over. Whatever ends the answer
// ends it.
type session struct {
	tickets dss.Tickets

	mu       sync.Mutex
	verified *dss.Client // acts by X-DKU-ProxyUser, and has DSS confirm it once
}

// proxied returns the client that acts as login, for all handlers the same, so
// that DSS is asked once whom it takes it for.
func (s *session) proxied(own *dss.Client, login string) (_ *dss.Client, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.verified == nil {
		s.verified, err = own.AsVerified(login)
	}
	return s.verified, err
}
