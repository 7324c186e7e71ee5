package dss

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Tickets keeps the ticket of one user until DSS rejects it, for all clients
// that act as that user through [Client.WithTickets]. The zero value holds
// none. It is safe for concurrent use, and must not be copied.
type Tickets struct{ kept keep }

// Format shows nothing of a ticket, for every verb.
func (t *Tickets) Format(s fmt.State, _ rune) { fmt.Fprint(s, "dss.Tickets") }

// WithTickets is [Client.WithTicketSource] for clients that share a ticket. If t
// holds no ticket, one client asks its source, and this ticket serves all the
// clients. So all of them must act as the same user.
func (c *Client) WithTickets(t *Tickets, source func(context.Context) (string, error)) *Client {
	_, err := c.mayAct()
	switch {
	case err != nil:
	case source == nil:
		err = errors.New("the source is nil")
	case t == nil:
		err = errors.New("the Tickets are nil")
	}
	if err != nil {
		err = fmt.Errorf("WithTicketSource: %w", err)
		return c.acting(caller{kind: "no credentials", current: func(context.Context) (*credentials, error) { return nil, err }})
	}
	tickets := &credentialSource{keep: &t.kept, name: "ticket source", gives: "ticket", fetch: func(ctx context.Context) (*credentials, error) {
		ticket, err := source(ctx)
		if err == nil {
			err = checkTicket(ticket)
		}
		if err != nil {
			return nil, err
		}
		return ticketCredentials(ticket), nil
	}}
	return c.acting(caller{kind: "tickets of a user", current: tickets.current, tickets: tickets.keep})
}

// ErrNoCredentials is wrapped by the error of a call that was not made because
// it had no credentials: a source of tickets failed, or the check of
// [Client.AsVerified] failed. If errors.As finds an [*Error] in it, DSS refused
// the source or the check, and not the call.
var ErrNoCredentials = errors.New("no credentials to call DSS with")

// credentialSource gives the credentials that are kept, or else fetches them.
type credentialSource struct {
	*keep
	name  string // in errors
	gives string // in errors
	fetch func(context.Context) (*credentials, error)

	outdated func(*credentials) bool // whether kept credentials must be fetched again; nil: never
}

// keep holds credentials until DSS rejects them.
type keep struct {
	mu     sync.Mutex
	held   *credentials
	flight *fetching // the one fetch under way, or nil
}

// fetching is a question to something of the application's that gives
// credentials.
type fetching struct {
	done chan struct{} // closed when the rest is set
	got  *credentials
	err  error
}

// run asks next, calls land with the result in f, and ends the wait for f. In
// errors, name is what was asked, and gives is what it gives.
func (f *fetching) run(name, gives string, limit time.Duration, next func(context.Context) (*credentials, error), land func()) {
	f.err = errors.New(name + ": it gave no " + gives) // the result if next calls runtime.Goexit
	defer func() {
		if recover() != nil {
			// Without the panic's value, which may be a secret.
			f.got, f.err = nil, errors.New(name+": it panicked")
		}
		land()
		close(f.done)
	}()

	// Not the context of a call: many may wait for this, and each may leave.
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	got, err := next(ctx)
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	f.got, f.err = got, err
}

// current returns the credentials. It fetches them if none are kept. The end of
// ctx ends only the wait for a fetch, not the fetch: others may wait for it
// too.
func (s *credentialSource) current(ctx context.Context) (*credentials, error) {
	if err := ctx.Err(); err != nil {
		return nil, newWireError(ctx, err)
	}
	s.mu.Lock()
	if s.held != nil && (s.outdated == nil || !s.outdated(s.held)) {
		defer s.mu.Unlock()
		return s.held, nil
	}
	f := s.flight
	if f == nil {
		f = &fetching{done: make(chan struct{})}
		s.flight = f
		go f.run(s.name, s.gives, defaultTimeout, s.next, func() { s.land(f) })
	}
	s.mu.Unlock()

	select {
	case <-f.done:
		return f.got, f.err
	case <-ctx.Done():
		return nil, newWireError(ctx, ctx.Err())
	}
}

func (s *credentialSource) next(ctx context.Context) (*credentials, error) {
	got, err := s.fetch(ctx)
	if err != nil {
		return nil, oneLine{clean(err.Error(), 300), err} // here, since an error's own method can panic, too
	}
	return got, nil
}

func (s *credentialSource) land(f *fetching) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held, s.flight = f.got, nil
	if f.err != nil {
		f.err = unsent{f.err}
	}
}

// unsent is the error of a call that had no credentials to act with.
type unsent struct{ error }

func (u unsent) Unwrap() []error { return []error{ErrNoCredentials, u.error} }

// oneLine returns the application's own error as one short line.
type oneLine struct {
	text string
	err  error
}

func (e oneLine) Error() string { return e.text }
func (e oneLine) Unwrap() error { return e.err }

// forget drops credentials that DSS rejected, unless they were replaced meanwhile.
func (k *keep) forget(rejected *credentials) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held == rejected {
		k.held = nil
	}
}
