package dss

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// ticketSource keeps the ticket that a function gave until DSS rejects it.
type ticketSource struct {
	fetch func(context.Context) (string, error)

	mu     sync.Mutex
	held   *credentials
	flight *ticketFlight // the one fetch under way, or nil
}

type ticketFlight struct {
	done chan struct{} // closed when the rest is set
	got  *credentials
	err  error
}

// current returns the ticket, which it fetches if it has none. The end of ctx
// ends the wait for a fetch, and not the fetch: others may wait for it too.
func (s *ticketSource) current(ctx context.Context) (*credentials, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	if s.held != nil {
		defer s.mu.Unlock()
		return s.held, nil
	}
	f := s.flight
	if f == nil {
		f = &ticketFlight{done: make(chan struct{})}
		s.flight = f
		go s.run(f)
	}
	s.mu.Unlock()

	select {
	case <-f.done:
		return f.got, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *ticketSource) run(f *ticketFlight) {
	// What remains where the source ends the goroutine without returning.
	f.err = errors.New("ticket source: it gave no ticket")
	defer func() {
		if recover() != nil {
			// Not what it panicked with, which may be the ticket.
			f.got, f.err = nil, errors.New("ticket source: it panicked")
		}
		s.mu.Lock()
		s.held, s.flight = f.got, nil
		s.mu.Unlock()
		close(f.done)
	}()

	// Not the context of a call: many may wait for this ticket, and each may go.
	ctx, cancel := context.WithTimeout(context.Background(), defaultTimeout)
	defer cancel()
	ticket, err := s.fetch(ctx)
	if err == nil {
		err = checkTicket(ticket)
	}
	if err != nil {
		f.err = fmt.Errorf("ticket source: %w", err)
		return
	}
	f.got, f.err = ticketCredentials(ticket), nil
}

// forget drops a ticket that DSS rejected, unless it was replaced meanwhile.
func (s *ticketSource) forget(rejected *credentials) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == rejected {
		s.held = nil
	}
}
