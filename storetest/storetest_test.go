package storetest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
)

func TestRun(t *testing.T) {
	data := &data{entries: map[string]entry{}}
	Run(t, func(*testing.T) dssauth.Store { return &store{data: data} })
}

func TestRunInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := &data{entries: map[string]entry{}}
		Run(t, func(*testing.T) dssauth.Store { return &store{data: data} })
	})
}

// Each row breaks one sentence of the interface's documentation.
func TestBrokenStoresAreNoticed(t *testing.T) {
	for name, row := range map[string]struct {
		spoil func(*store)
		want  string
	}{
		"an absent key has an empty value": {func(s *store) {
			s.get = func(value []byte) ([]byte, error) { return append([]byte{}, value...), nil }
		}, "an absent key: get returned 0 bytes, and not nil"},
		"an absent key is an error": {func(s *store) {
			s.get = func(value []byte) ([]byte, error) {
				if value == nil {
					return nil, errors.New("not found")
				}
				return bytes.Clone(value), nil
			}
		}, "an absent key: get: not found"},
		"an absent key stays absent for a while": {func(s *store) {
			s.absentUntil = map[string]time.Time{}
		}, "an absent key: get returned nil, and not a value"},
		"Put keeps nothing": {func(s *store) {
			s.put = func(e *dssauth.StoreEntry) { e.TTL = 0 }
		}, "values: get returned nil"},
		"Put keeps an entry, and reports an error": {func(s *store) {
			s.failure = errors.New("no answer")
		}, "values: put: no answer"},
		"values end at NUL": {func(s *store) {
			s.put = func(e *dssauth.StoreEntry) { e.Value, _, _ = bytes.Cut(e.Value, []byte{0}) }
		}, "values: get returned"},
		"values are trimmed": {func(s *store) {
			s.put = func(e *dssauth.StoreEntry) { e.Value = bytes.TrimSpace(e.Value) }
		}, "values: get returned"},
		"values are made valid text": {func(s *store) {
			s.put = func(e *dssauth.StoreEntry) { e.Value = bytes.ToValidUTF8(e.Value, []byte("?")) }
		}, "values: get returned another value"},
		"large values are cut": {func(s *store) {
			s.put = func(e *dssauth.StoreEntry) { e.Value = e.Value[:min(len(e.Value), maxValue-1)] }
		}, "values: get returned another value: byte 262143 is the first that differs, of 262143 (want 262144)"},
		"keys have no case": {func(s *store) {
			s.key = strings.ToLower
		}, "keys: get returned another value"},
		"keys are cut": {func(s *store) {
			s.key = func(key string) string { return key[:min(len(key), 60)] }
		}, "keys: get returned another value"},
		"each store has its own data": {func(s *store) {
			s.data = &data{entries: map[string]entry{}}
		}, "replaced: get returned nil"},
		"the first value stays": {func(s *store) {
			s.put = func(e *dssauth.StoreEntry) { e.IfAbsent = true }
		}, "replaced: put reported false"},
		"entries never end": {func(s *store) {
			s.put = func(e *dssauth.StoreEntry) { e.TTL = time.Hour }
		}, "TTL: 300ms after its TTL ended"},
		"entries end long before": {func(s *store) {
			s.put = func(e *dssauth.StoreEntry) { e.TTL /= 3 }
		}, "TTL: 500ms before its TTL ends: get returned nil"},
		"TTL counts in whole minutes": {func(s *store) {
			s.put = func(e *dssauth.StoreEntry) { e.TTL = e.TTL.Truncate(time.Minute) + time.Minute }
		}, "TTL: 300ms after"},
		"TTL counts in whole seconds": {func(s *store) {
			s.put = func(e *dssauth.StoreEntry) {
				if e.TTL = e.TTL.Truncate(time.Second); e.TTL == 0 { // as if there was none
					e.TTL = time.Hour
				}
			}
		}, "the least TTL: 300ms after its TTL ended"},
		"TTL is rounded up": {func(s *store) {
			s.put = func(e *dssauth.StoreEntry) { e.TTL = (e.TTL + time.Second - 1).Truncate(time.Second) }
		}, "the least TTL: 300ms after its TTL ended"},
		"a short TTL is an error": {func(s *store) {
			s.wholeSeconds = true
		}, "the least TTL: put: invalid expire time"},
		"the first TTL stays": {func(s *store) {
			s.keepsTTL = true
		}, "TTL of a replaced entry: 300ms after its TTL ended"},
		"IfAbsent has no effect": {func(s *store) {
			s.put = func(e *dssauth.StoreEntry) { e.IfAbsent = false }
		}, "IfAbsent: an entry was kept beside"},
		"IfAbsent is two steps": {func(s *store) {
			s.twoSteps = true
		}, "IfAbsent, at once: 100 of 100 entries were kept"},
		"IfAbsent prolongs an existing entry": {func(s *store) {
			s.prolongs = true
		}, "IfAbsent: an entry that was not kept prolonged"},
		"Delete has no effect": {func(s *store) {
			s.delete = func(*data, string) error { return nil }
		}, "Delete: get returned 1 bytes, and not nil"},
		"Delete of an absent key is an error": {func(s *store) {
			s.delete = func(d *data, key string) error {
				if _, ok := d.entries[key]; !ok {
					return errors.New("not found")
				}
				delete(d.entries, key)
				return nil
			}
		}, "Delete: delete: not found"},
		"Delete empties all": {func(s *store) {
			s.delete = func(d *data, _ string) error { clear(d.entries); return nil }
		}, "Delete: get returned nil"},
		"Put keeps its caller's memory": {func(s *store) {
			s.copy = func(value []byte) []byte { return value }
		}, "memory: after the slice that Put was given"},
		"Get returns its own memory": {func(s *store) {
			s.get = func(value []byte) ([]byte, error) { return value, nil }
		}, "memory: after the slice that Get returned"},
		"contexts have no effect": {func(s *store) {
			s.ignoresContext = true
		}, "ended contexts: Get returned no error"},
		"Get is slow": {func(s *store) {
			s.get = func(value []byte) ([]byte, error) {
				<-time.After(time.Hour)
				return bytes.Clone(value), nil
			}
			s.ignoresContext = true
		}, "ended contexts: Get did not return within 5s"},
		"ready is never called": {func(s *store) {
			s.ready = func(func()) {}
		}, "Watch: the first store: ready was not called within 5s"},
		"ready is called twice": {func(s *store) {
			s.ready = func(ready func()) { ready(); ready() }
		}, "Watch: ready was called twice"},
		"ready is called after the first notice": {func(s *store) {
			s.readyLate = true
		}, "Watch"},
		"Watch returns at once": {func(s *store) {
			s.returnsEarly = true
		}, "Watch returned before its context ended"},
		"a notice is heard twice": {func(s *store) {
			s.tell = func(w *subscriber, value []byte) { w.queue <- value; w.queue <- value }
		}, "a notice was heard 2 times"},
		"no notice is heard": {func(s *store) {
			s.tell = func(*subscriber, []byte) {}
		}, "Watch: the second store: a notice was not heard within 5s"},
		"only the store that puts hears": {func(s *store) {
			s.tell = func(w *subscriber, value []byte) {
				if w.of == s {
					w.queue <- value
				}
			}
		}, "Watch: the second store: a notice was not heard within 5s"},
		"the store that puts does not hear": {func(s *store) {
			s.tell = func(w *subscriber, value []byte) {
				if w.of != s {
					w.queue <- value
				}
			}
		}, "Watch: the first store: a notice was not heard within 5s"},
		"one watcher of a store hears": {func(s *store) {
			s.oneWatcher = true
		}, "a notice was not heard within 5s"},
		"puts without Notify are heard": {func(s *store) {
			s.put = func(e *dssauth.StoreEntry) { e.Notify = true }
		}, "silent value was heard"},
		"a refused entry is heard": {func(s *store) {
			s.tellsUnkept = true
		}, "refused value was heard"},
		"a notice is heard before its entry is kept": {func(s *store) {
			s.tellsFirst = true
		}, "a notice was heard before its entry was kept"},
		"a notice is its putter's memory": {func(s *store) {
			s.noticeShared = true
		}, "a notice was not heard"},
		"large notices are cut": {func(s *store) {
			s.tell = func(w *subscriber, value []byte) { w.queue <- value[:min(len(value), 8000)] }
		}, "Watch: of 262140 bytes: the first store: a notice was not heard"},
		"large notices are lost": {func(s *store) {
			s.tell = func(w *subscriber, value []byte) {
				if len(value) < 8000 {
					w.queue <- value
				}
			}
		}, "Watch: of 262140 bytes: the first store: a notice was not heard"},
		"a replaced entry is not heard": {func(s *store) {
			s.tellsNew = true
		}, "a notice was not heard"},
		"a slow watcher misses notices": {func(s *store) {
			s.tell = func(w *subscriber, value []byte) {
				if len(w.queue) < 100 {
					w.queue <- value
				}
			}
		}, "Watch, a slow watcher: the slow watcher: a notice was not heard"},
		"notices are text": {func(s *store) {
			s.tell = func(w *subscriber, value []byte) {
				w.queue <- bytes.TrimRight(bytes.ReplaceAll(value, []byte{0}, nil), "\n")
			}
		}, "a notice was not heard"},
		"notices are heard at once": {func(s *store) {
			s.hear = func(heard func([]byte), value []byte) { go heard(value) }
		}, "heard was called twice at once"},
		"Watch does not end": {func(s *store) {
			s.endsLate = true
		}, "watch did not return within 5s after its context had ended"},
		"Watch calls after it has returned": {func(s *store) {
			s.hearsOn = true
		}, "heard was called after Watch had returned"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				data := &data{entries: map[string]entry{}}
				a, b := &store{data: data}, &store{data: data}
				row.spoil(a)
				row.spoil(b)
				assert.ErrorContains(t, errors.Join(violations(a, b)...), row.want)
				<-time.After(2 * time.Hour) // Slow calls have ended.
			})
		})
	}
}

// store is a correct store, in memory, that a test can break.
type store struct {
	data *data

	key    func(string) string
	copy   func([]byte) []byte
	put    func(*dssauth.StoreEntry)
	get    func([]byte) ([]byte, error)
	delete func(*data, string) error
	ready  func(ready func())
	tell   func(*subscriber, []byte)
	hear   func(heard func([]byte), value []byte)

	failure error // of Put

	absentUntil map[string]time.Time // the same for Get; guarded by data

	ignoresContext, keepsTTL, twoSteps, prolongs, readyLate, returnsEarly bool
	oneWatcher, tellsUnkept, tellsFirst, noticeShared, endsLate, hearsOn  bool
	wholeSeconds, tellsNew                                                bool
}

// data is shared by all stores.
type data struct {
	mu          sync.Mutex
	entries     map[string]entry
	subscribers []*subscriber
}

type entry struct {
	value []byte
	end   time.Time
}

type subscriber struct {
	of    *store
	queue chan []byte
}

func (s *store) Get(ctx context.Context, key string) ([]byte, error) {
	if err := ctx.Err(); err != nil && !s.ignoresContext {
		return nil, err
	}
	s.data.mu.Lock()
	e := s.data.entries[s.keyOf(key)]
	if !time.Now().Before(e.end) || time.Now().Before(s.absentUntil[key]) {
		e.value = nil
	}
	if s.absentUntil != nil && e.value == nil {
		s.absentUntil[key] = time.Now().Add(time.Second)
	}
	s.data.mu.Unlock()
	if s.get != nil {
		return s.get(e.value)
	}
	return bytes.Clone(e.value), nil
}

func (s *store) Put(ctx context.Context, e dssauth.StoreEntry) (bool, error) {
	if err := ctx.Err(); err != nil && !s.ignoresContext {
		return false, err
	}
	if s.wholeSeconds && e.TTL < time.Second {
		return false, errors.New("invalid expire time")
	}
	given := e.Value
	if s.put != nil {
		s.put(&e)
	}
	if s.copy != nil {
		e.Value = s.copy(e.Value)
	} else {
		e.Value = bytes.Clone(e.Value)
	}
	notice := bytes.Clone(e.Value)
	if s.noticeShared {
		notice = given
	}
	if s.tellsFirst && e.Notify {
		s.tellAll(notice)
		<-time.After(10 * time.Millisecond)
	}
	d := s.data
	d.mu.Lock()
	defer d.mu.Unlock()
	key, now := s.keyOf(e.Key), time.Now()
	old, ok := d.entries[key]
	ok = ok && now.Before(old.end)
	if s.twoSteps {
		d.mu.Unlock()
		<-time.After(time.Millisecond)
		d.mu.Lock()
	}
	if e.IfAbsent && ok {
		if s.prolongs {
			d.entries[key] = entry{old.value, now.Add(e.TTL)}
		}
		if s.tellsUnkept && e.Notify {
			s.tellAllLocked(notice)
		}
		return false, nil
	}
	end := now.Add(e.TTL)
	if s.keepsTTL && ok {
		end = old.end
	}
	d.entries[key] = entry{e.Value, end}
	if e.Notify && !s.tellsFirst && !(s.tellsNew && ok) {
		s.tellAllLocked(notice)
	}
	return true, s.failure
}

func (s *store) Delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil && !s.ignoresContext {
		return err
	}
	s.data.mu.Lock()
	defer s.data.mu.Unlock()
	if s.delete != nil {
		return s.delete(s.data, s.keyOf(key))
	}
	delete(s.data.entries, s.keyOf(key))
	return nil
}

func (s *store) Watch(ctx context.Context, ready func(), heard func([]byte)) error {
	w := &subscriber{s, make(chan []byte, 10_000)}
	d := s.data
	d.mu.Lock()
	d.subscribers = append(d.subscribers, w)
	d.mu.Unlock()
	remove := func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		for i, other := range d.subscribers {
			if other == w {
				d.subscribers = append(d.subscribers[:i:i], d.subscribers[i+1:]...)
				return
			}
		}
	}
	switch {
	case s.ready != nil:
		s.ready(ready)
	case !s.readyLate:
		ready()
	}
	if s.returnsEarly {
		remove()
		return nil
	}
	if s.readyLate {
		go func() {
			<-time.After(time.Millisecond)
			s.tellAll([]byte("something else"))
			<-time.After(time.Millisecond)
			ready()
		}()
	}
	for {
		select {
		case value := <-w.queue:
			if s.hear != nil {
				s.hear(heard, value)
			} else {
				heard(value)
			}
		case <-ctx.Done():
			switch {
			case s.endsLate:
				<-time.After(time.Minute)
			case s.hearsOn:
				go func() {
					defer remove()
					for timeout := time.After(time.Minute); ; {
						select {
						case value := <-w.queue:
							heard(value)
						case <-timeout:
							return
						}
					}
				}()
				return ctx.Err()
			}
			remove()
			return ctx.Err()
		}
	}
}

func (s *store) tellAll(value []byte) {
	s.data.mu.Lock()
	defer s.data.mu.Unlock()
	s.tellAllLocked(value)
}

func (s *store) tellAllLocked(value []byte) {
	told := map[*store]bool{}
	for _, w := range s.data.subscribers {
		if s.oneWatcher && told[w.of] {
			continue
		}
		told[w.of] = true
		if s.tell != nil {
			s.tell(w, value)
		} else if s.noticeShared {
			w.queue <- value
		} else {
			w.queue <- bytes.Clone(value)
		}
	}
}

func (s *store) keyOf(key string) string {
	if s.key != nil {
		return s.key(key)
	}
	return key
}

// failing is a store whose call with this number fails, of all calls whose context
// lives.
type failing struct {
	dssauth.Store
	calls *atomic.Int64
	at    int64
}

var errNoAnswer = errors.New("no answer")

func (f failing) fails(ctx context.Context) bool { return ctx.Err() == nil && f.calls.Add(1) == f.at }

func (f failing) Get(ctx context.Context, key string) ([]byte, error) {
	if f.fails(ctx) {
		return nil, errNoAnswer
	}
	return f.Store.Get(ctx, key)
}

func (f failing) Put(ctx context.Context, e dssauth.StoreEntry) (bool, error) {
	if f.fails(ctx) {
		return false, errNoAnswer
	}
	return f.Store.Put(ctx, e)
}

func (f failing) Delete(ctx context.Context, key string) error {
	if f.fails(ctx) {
		return errNoAnswer
	}
	return f.Store.Delete(ctx, key)
}

func TestEachFailedCallIsReported(t *testing.T) {
	run := func(t *testing.T, check func(context.Context, dssauth.Store, dssauth.Store) error, at int64) (calls int64, err error) {
		synctest.Test(t, func(t *testing.T) {
			sound := &store{data: &data{entries: map[string]entry{}}}
			f := failing{sound, new(atomic.Int64), at}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err = check(ctx, f, f)
			calls = f.calls.Load()
		})
		return calls, err
	}
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			calls, err := run(t, c.check, 0)
			require.NoError(t, err)
			for at := int64(1); at <= calls; at += 1 + at/40 {
				_, err := run(t, c.check, at)
				assert.Error(t, err, "call %d of %d", at, calls)
			}
		})
	}
}
