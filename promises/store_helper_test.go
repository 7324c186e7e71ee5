package promises

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// memory is a simple Store. A test can make it fail, wait and lie.
type memory struct {
	mu       sync.Mutex
	entries  map[string]stored
	watchers map[*watcher]bool
	puts     []dssauth.StoreEntry
	calls    int // under way, but Watch

	fails error                                 // answered to everything, if set
	waits time.Duration                         // before each answer
	hangs bool                                  // and ignores contexts
	lies  func(key string, value []byte) []byte // Get's result instead
	deaf  func(value []byte) (kept bool)        // true for notices that reach nobody
}

type stored struct {
	value []byte
	ends  time.Time
}

type watcher struct {
	heard chan []byte
	cut   chan struct{}
}

func newStore() *memory {
	return &memory{entries: make(map[string]stored), watchers: make(map[*watcher]bool)}
}

var errStoreBroken = errors.New("the store is broken")

// does runs before each answer.
func (s *memory) does(ctx context.Context) error {
	s.mu.Lock()
	err, wait, hangs := s.fails, s.waits, s.hangs
	s.calls++
	s.mu.Unlock()
	defer s.set(func(s *memory) { s.calls-- })
	switch {
	case hangs:
		<-time.After(wait)
	case wait > 0:
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (s *memory) Get(ctx context.Context, key string) ([]byte, error) {
	if err := s.does(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[key]
	if !ok || !time.Now().Before(e.ends) {
		e.value = nil
	}
	if s.lies != nil {
		return s.lies(key, e.value), nil
	}
	return bytes.Clone(e.value), nil
}

func (s *memory) Put(ctx context.Context, e dssauth.StoreEntry) (bool, error) {
	if err := s.does(ctx); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.entries[e.Key]; e.IfAbsent && ok && time.Now().Before(old.ends) {
		return false, nil
	}
	e.Value = bytes.Clone(e.Value)
	s.puts = append(s.puts, e)
	s.entries[e.Key] = stored{e.Value, time.Now().Add(e.TTL)}
	if e.Notify && (s.deaf == nil || s.deaf(e.Value)) {
		s.tell(e.Value)
	}
	return true, nil
}

// tell gives a notice to all watchers. The caller holds mu.
func (s *memory) tell(value []byte) {
	for w := range s.watchers {
		w.heard <- bytes.Clone(value)
	}
}

func (s *memory) Delete(ctx context.Context, key string) error {
	if err := s.does(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entries, key)
	return nil
}

func (s *memory) Watch(ctx context.Context, ready func(), heard func([]byte)) error {
	if err := s.does(ctx); err != nil {
		return err
	}
	w := &watcher{make(chan []byte, 1000), make(chan struct{})}
	s.mu.Lock()
	s.watchers[w] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, w)
	}()
	ready()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.cut:
			return errStoreBroken
		case value := <-w.heard:
			heard(value)
		}
	}
}

// set changes what the store does.
func (s *memory) set(change func(*memory)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// under returns how many calls are under way.
func (s *memory) under() (n int) {
	s.set(func(s *memory) { n = s.calls })
	return n
}

// cut ends all calls of Watch.
func (s *memory) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watchers {
		close(w.cut)
		delete(s.watchers, w)
	}
}

// live returns the stored values.
func (s *memory) live() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string][]byte)
	for k, e := range s.entries {
		if time.Now().Before(e.ends) {
			all[k] = e.value
		}
	}
	return maps.Clone(all)
}

// written returns all that was ever put.
func (s *memory) written() []dssauth.StoreEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]dssauth.StoreEntry(nil), s.puts...)
}

// notices returns how many were ever told.
func (s *memory) notices() (n int) {
	for _, e := range s.written() {
		if e.Notify {
			n++
		}
	}
	return n
}

var sharedSecret = bytes.Repeat([]byte("0123456789abcdef"), 2)

// replica is one process of an application with a store.
func replica(t testing.TB, client *dss.Client, store dssauth.Store, change ...func(*dssauth.Config)) *dssauth.Middleware {
	t.Helper()
	c := dssauth.Config{Client: client, Store: store, StoreSecrets: [][]byte{sharedSecret}}
	for _, f := range change {
		f(&c)
	}
	return newAuth(t, c)
}

// replicas are n of them.
func replicas(t testing.TB, n int, client *dss.Client, store dssauth.Store, change ...func(*dssauth.Config)) []*dssauth.Middleware {
	all := make([]*dssauth.Middleware, n)
	for i := range all {
		all[i] = replica(t, client, store, change...)
	}
	return all
}

// sharing returns n replicas that hear each other, with their DSS and their store.
func sharing(t testing.TB, n int, change ...func(*dssauth.Config)) (*dsstest.DSS, *memory, []*dssauth.Middleware) {
	t.Helper()
	d, client := newMemory(t)
	store := newStore()
	all := replicas(t, n, client, store, change...)
	synctest.Wait()
	return d, store, all
}
