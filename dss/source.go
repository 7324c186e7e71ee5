package dss

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// source keeps the credentials that a function gave, until DSS rejects them.
type source struct {
	name  string // in errors
	gives string // in errors
	fetch func(context.Context) (*credentials, error)

	mu     sync.Mutex
	held   *credentials
	flight *fetching // the one fetch under way, or nil
}

type fetching struct {
	done chan struct{} // closed when the rest is set
	got  *credentials
	err  error
}

func ticketSource(fetch func(context.Context) (string, error)) *source {
	return &source{name: "ticket source", gives: "ticket", fetch: func(ctx context.Context) (*credentials, error) {
		ticket, err := fetch(ctx)
		if err == nil {
			err = checkTicket(ticket)
		}
		if err != nil {
			return nil, err
		}
		return ticketCredentials(ticket), nil
	}}
}

// current returns the credentials, which it fetches if it has none. The end of
// ctx ends the wait for a fetch, and not the fetch: others may wait for it too.
func (s *source) current(ctx context.Context) (*credentials, error) {
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
		f = &fetching{done: make(chan struct{})}
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

func (s *source) run(f *fetching) {
	// What remains where fetch ends the goroutine without returning.
	f.err = fmt.Errorf("%s: it gave no %s", s.name, s.gives)
	defer func() {
		if recover() != nil {
			// Not what it panicked with, which may be a ticket.
			f.got, f.err = nil, errors.New(s.name+": it panicked")
		}
		s.mu.Lock()
		s.held, s.flight = f.got, nil
		s.mu.Unlock()
		close(f.done)
	}()

	// Not the context of a call: many may wait for this, and each may go.
	ctx, cancel := context.WithTimeout(context.Background(), defaultTimeout)
	defer cancel()
	got, err := s.fetch(ctx)
	if err != nil {
		f.err = fmt.Errorf("%s: %w", s.name, err)
		return
	}
	f.got, f.err = got, nil
}

// forget drops credentials that DSS rejected, unless they were replaced meanwhile.
func (s *source) forget(rejected *credentials) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == rejected {
		s.held = nil
	}
}
