// Package storetest checks an implementation of [dssauth.Store]. A whole test is:
//
//	func TestStore(t *testing.T) {
//		server := startServer(t)
//		storetest.Run(t, func(t *testing.T) dssauth.Store {
//			store := mystore.Open(server.Address())
//			t.Cleanup(func() { store.Close() })
//			return store
//		})
//	}
package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dssauth/dssauth"
)

const (
	// soon is the time within which a requested effect must happen.
	soon = 5 * time.Second
	// quiet is the time to wait for an event that must not happen.
	quiet = 300 * time.Millisecond
	// shortTTL is long enough for a slow machine, and short enough for a test.
	shortTTL = time.Second
	longTTL  = time.Minute
	// maxValue is the size of the largest value for a store.
	maxValue = 256 << 10
)

// Run checks all that the documentation of [dssauth.Store] and
// [dssauth.StoreEntry] promises, and fails t for each promise that the store
// breaks. It takes about four seconds. Run it with the race detector, too.
//
// It calls open twice, as two replicas would: both stores must see the same
// data, and can be the same store. Run does not touch other entries, and
// ignores other programs' notices: all keys are random.
//
// Run waits for time to pass: real time, or virtual time if it is called in a
// bubble of testing/synctest. It starts no subtests, because a bubble cannot
// have them.
func Run(t *testing.T, open func(t *testing.T) dssauth.Store) {
	t.Helper()
	for _, err := range violations(open(t), open(t)) {
		t.Error(err)
	}
}

// violations runs most checks at once, because most of them wait.
func violations(a, b dssauth.Store) []error {
	found := make([]error, len(checks))
	run := func(i int) {
		ctx, cancel := context.WithTimeout(context.Background(), 12*soon)
		defer cancel()
		if err := checks[i].check(ctx, a, b); err != nil {
			found[i] = fmt.Errorf("%s: %w", checks[i].name, err)
		}
	}
	last := len(checks) - 1
	var wg sync.WaitGroup
	for i := range last {
		wg.Go(func() { run(i) })
	}
	wg.Wait()
	run(last)
	return slices.DeleteFunc(found, func(err error) bool { return err == nil })
}

// checks return the first fault that they find. They get two stores with the
// same data. The last one runs alone, since it fills the watchers of others.
var checks = []struct {
	name  string
	check func(ctx context.Context, a, b dssauth.Store) error
}{
	{"an absent key", absent},
	{"values", values},
	{"keys", keys},
	{"replaced", replaced},
	{"TTL", expiry},
	{"the least TTL", leastTTL},
	{"TTL of a replaced entry", expiryReplaced},
	{"IfAbsent", ifAbsent},
	{"IfAbsent, at once", ifAbsentAtOnce},
	{"Delete", deleted},
	{"memory", memory},
	{"many goroutines", manyGoroutines},
	{"ended contexts", endedContexts},
	{"Watch", watched},
	{"Watch, until its context ends", watchedUntil},
	{"Watch, a slow watcher", watchedSlowly},
}

// absent checks that a store does not remember that a key was absent.
func absent(ctx context.Context, a, b dssauth.Store) error {
	key := newKey()
	for _, s := range []dssauth.Store{a, b} {
		if err := holds(ctx, s, key, nil); err != nil {
			return err
		}
	}
	if err := puts(ctx, a, dssauth.StoreEntry{Key: key, Value: []byte("v"), TTL: longTTL}, true); err != nil {
		return err
	}
	return holds(ctx, b, key, []byte("v"))
}

func values(ctx context.Context, a, b dssauth.Store) error {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	large := make([]byte, maxValue)
	if _, err := rand.Read(large); err != nil {
		return err
	}
	for _, value := range [][]byte{
		{0}, []byte(" "), []byte("a\x00b\x00"), []byte(" a\r\nb \n"), []byte("0"), []byte("\xff\xfe"), all, large,
	} {
		key := newKey()
		if err := puts(ctx, a, dssauth.StoreEntry{Key: key, Value: value, TTL: longTTL}, true); err != nil {
			return err
		}
		for _, s := range []dssauth.Store{a, b} {
			if err := holds(ctx, s, key, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// keys checks keys that a store may confuse.
func keys(ctx context.Context, a, b dssauth.Store) error {
	base := newKey()[:60]
	all := []string{base, base + "-_-_", base + "a", base + "A", base + "aa", base + "-", base + "_"}
	for _, key := range all {
		if err := puts(ctx, a, dssauth.StoreEntry{Key: key, Value: []byte("of " + key), TTL: longTTL}, true); err != nil {
			return err
		}
	}
	for _, key := range all {
		if err := holds(ctx, b, key, []byte("of "+key)); err != nil {
			return err
		}
	}
	return nil
}

func replaced(ctx context.Context, a, b dssauth.Store) error {
	key := newKey()
	for _, value := range []string{"the first value", "second"} {
		if err := puts(ctx, a, dssauth.StoreEntry{Key: key, Value: []byte(value), TTL: longTTL}, true); err != nil {
			return err
		}
		if err := holds(ctx, b, key, []byte(value)); err != nil {
			return err
		}
	}
	return nil
}

func expiry(ctx context.Context, a, b dssauth.Store) error {
	return expires(ctx, a, b, newKey())
}

// expires puts an entry, and looks for it before and after its end.
func expires(ctx context.Context, a, b dssauth.Store, key string) error {
	start := time.Now()
	if err := puts(ctx, a, dssauth.StoreEntry{Key: key, Value: []byte("v"), TTL: shortTTL}, true); err != nil {
		return err
	}
	gone := time.After(shortTTL + quiet)
	<-time.After(shortTTL/2 - time.Since(start))
	err := holds(ctx, b, key, []byte("v"))
	// On a machine that stopped for a while it may be correct that it is gone.
	if err != nil && time.Since(start) < shortTTL {
		return fmt.Errorf("%v before its TTL ends: %w", shortTTL-time.Since(start).Round(time.Millisecond), err)
	}
	<-gone
	for _, s := range []dssauth.Store{a, b} {
		if err := holds(ctx, s, key, nil); err != nil {
			return fmt.Errorf("%v after its TTL ended: %w", quiet, err)
		}
	}
	return nil
}

// leastTTL checks that a store does not count in whole seconds.
func leastTTL(ctx context.Context, a, b dssauth.Store) error {
	key := newKey()
	if err := puts(ctx, a, dssauth.StoreEntry{Key: key, Value: []byte("v"), TTL: time.Millisecond}, true); err != nil {
		return err
	}
	<-time.After(quiet)
	if err := holds(ctx, b, key, nil); err != nil {
		return fmt.Errorf("%v after its TTL ended: %w", quiet, err)
	}
	return nil
}

func expiryReplaced(ctx context.Context, a, b dssauth.Store) error {
	longer, shorter := newKey(), newKey()
	for _, e := range []dssauth.StoreEntry{
		{Key: longer, TTL: shortTTL}, {Key: longer, TTL: longTTL}, {Key: shorter, TTL: longTTL},
	} {
		e.Value = []byte("v")
		if err := puts(ctx, a, e, true); err != nil {
			return err
		}
	}
	if err := expires(ctx, a, b, shorter); err != nil {
		return err
	}
	return holds(ctx, b, longer, []byte("v"))
}

func ifAbsent(ctx context.Context, a, b dssauth.Store) error {
	key := newKey()
	lease := dssauth.StoreEntry{Key: key, Value: []byte("first"), TTL: shortTTL, IfAbsent: true}
	start := time.Now()
	if err := puts(ctx, a, lease, true); err != nil {
		return err
	}
	gone := time.After(shortTTL + quiet)
	<-time.After(shortTTL/2 - time.Since(start))
	second := lease
	second.Value = []byte("second")
	second.TTL = longTTL
	if kept, err := b.Put(ctx, second); err != nil {
		return fmt.Errorf("put: %w", err)
	} else if kept && time.Since(start) < shortTTL {
		return errors.New("an entry was kept beside an existing one")
	} else if kept {
		return nil // The machine stopped for a while, so the check cannot decide.
	}
	if err := holds(ctx, b, key, []byte("first")); err != nil && time.Since(start) < shortTTL {
		return fmt.Errorf("an entry that was not kept changed the existing one: %w", err)
	}
	// A refused entry must not prolong the kept one.
	<-gone
	if err := holds(ctx, a, key, nil); err != nil {
		return fmt.Errorf("an entry that was not kept prolonged the existing one: %w", err)
	}
	return puts(ctx, b, second, true)
}

func ifAbsentAtOnce(ctx context.Context, a, b dssauth.Store) error {
	key := newKey()
	// No entry before; a deleted entry; an expired entry.
	for round := range 3 {
		kept := make([]bool, 100)
		errs := make([]error, len(kept))
		start := time.Now()
		var wg sync.WaitGroup
		for i := range kept {
			wg.Go(func() {
				s := []dssauth.Store{a, b}[i%2]
				kept[i], errs[i] = s.Put(ctx, dssauth.StoreEntry{Key: key, Value: fmt.Append(nil, i), TTL: shortTTL, IfAbsent: true})
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		winner := slices.Index(kept, true)
		if n := len(slices.DeleteFunc(kept, func(k bool) bool { return !k })); n != 1 && time.Since(start) < shortTTL {
			return fmt.Errorf("%d of 100 entries were kept, and not one", n)
		}
		if err := holds(ctx, b, key, fmt.Append(nil, winner)); err != nil && time.Since(start) < shortTTL {
			return fmt.Errorf("not the entry that was kept: %w", err)
		}
		if round == 0 {
			if err := a.Delete(ctx, key); err != nil {
				return fmt.Errorf("delete: %w", err)
			}
			continue
		}
		<-time.After(shortTTL + quiet)
	}
	return nil
}

func deleted(ctx context.Context, a, b dssauth.Store) error {
	key, other := newKey(), newKey()
	for _, k := range []string{key, other} {
		if err := puts(ctx, a, dssauth.StoreEntry{Key: k, Value: []byte("v"), TTL: longTTL}, true); err != nil {
			return err
		}
	}
	for _, s := range []dssauth.Store{b, a} {
		if err := s.Delete(ctx, key); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		if err := holds(ctx, a, key, nil); err != nil {
			return err
		}
	}
	return holds(ctx, a, other, []byte("v"))
}

func memory(ctx context.Context, a, _ dssauth.Store) error {
	key, value := newKey(), []byte("value")
	if err := puts(ctx, a, dssauth.StoreEntry{Key: key, Value: value, TTL: longTTL}, true); err != nil {
		return err
	}
	value[0] = 'V'
	if err := holds(ctx, a, key, []byte("value")); err != nil {
		return fmt.Errorf("after the slice that Put was given had been changed: %w", err)
	}
	got, err := a.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	clear(got)
	if err := holds(ctx, a, key, []byte("value")); err != nil {
		return fmt.Errorf("after the slice that Get returned had been changed: %w", err)
	}
	return nil
}

// manyGoroutines use few keys at once. A value is one byte, repeated.
func manyGoroutines(ctx context.Context, a, b dssauth.Store) error {
	some := []string{newKey(), newKey(), newKey()}
	errs := make([]error, 16)
	var wg sync.WaitGroup
	for g := range errs {
		wg.Go(func() {
			s := []dssauth.Store{a, b}[g%2]
			for i := range 50 {
				key := some[(g+i)%len(some)]
				value := bytes.Repeat([]byte{byte(g)}, 1+(i*97)%2000)
				if _, err := s.Put(ctx, dssauth.StoreEntry{Key: key, Value: value, TTL: longTTL, IfAbsent: i%5 == 4}); err != nil {
					errs[g] = fmt.Errorf("put: %w", err)
					return
				}
				got, err := s.Get(ctx, key)
				if err != nil {
					errs[g] = fmt.Errorf("get: %w", err)
					return
				}
				if len(got) > 0 && len(bytes.Trim(got, string(got[:1]))) > 0 {
					errs[g] = errors.New("a value is mixed from two")
					return
				}
				if i%10 == 9 {
					if err := s.Delete(ctx, key); err != nil {
						errs[g] = fmt.Errorf("delete: %w", err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func endedContexts(ctx context.Context, a, b dssauth.Store) error {
	ended, end := context.WithCancel(ctx)
	end()
	key := newKey()
	if err := puts(ctx, a, dssauth.StoreEntry{Key: key, Value: []byte("v"), TTL: longTTL}, true); err != nil {
		return err
	}
	for _, method := range []struct {
		name string
		call func() error
	}{
		{"Get", func() error {
			_, err := a.Get(ended, key)
			return err
		}},
		{"Put", func() error {
			_, err := a.Put(ended, dssauth.StoreEntry{Key: newKey(), Value: []byte("w"), TTL: longTTL})
			return err
		}},
		{"Delete", func() error { return a.Delete(ended, newKey()) }},
		{"Watch", func() error { return a.Watch(ended, func() {}, func([]byte) {}) }},
	} {
		returned := make(chan error, 1)
		go func() { returned <- method.call() }()
		select {
		case err := <-returned:
			if err == nil {
				return fmt.Errorf("%s returned no error", method.name)
			}
		case <-time.After(soon):
			return fmt.Errorf("%s did not return within %v", method.name, soon)
		}
	}
	return holds(ctx, b, key, []byte("v"))
}

// watcher is a call of Watch.
type watcher struct {
	name  string
	ready chan struct{}
	end   context.CancelFunc

	// returned is closed when Watch has returned err.
	returned chan struct{}
	err      error
	over     atomic.Bool
	mu       sync.Mutex
	heard    []string
	wrong    error
	// changed signals a change of heard or wrong.
	changed chan struct{}
}

func watch(ctx context.Context, name string, s dssauth.Store) *watcher {
	w := &watcher{name: name, ready: make(chan struct{}), returned: make(chan struct{}), changed: make(chan struct{}, 1)}
	ctx, w.end = context.WithCancel(ctx)
	var readied, hearing atomic.Int32
	go func() {
		w.err = s.Watch(ctx, func() {
			switch n := readied.Add(1); {
			case n > 1:
				w.note("", errors.New("ready was called twice"))
			case w.over.Load():
				w.note("", errors.New("ready was called after Watch had returned"))
			default:
				close(w.ready)
			}
		}, func(value []byte) {
			var wrong error
			switch {
			case readied.Load() == 0:
				wrong = errors.New("heard was called before ready")
			case hearing.Add(1) > 1:
				wrong = errors.New("heard was called twice at once")
			case w.over.Load():
				wrong = errors.New("heard was called after Watch had returned")
			}
			w.note(string(value), wrong)
			<-time.After(time.Millisecond) // So that a second call at the same time is noticed.
			hearing.Add(-1)
		})
		w.over.Store(true)
		close(w.returned)
	}()
	return w
}

func (w *watcher) note(value string, wrong error) {
	w.mu.Lock()
	if value != "" {
		w.heard = append(w.heard, value)
	}
	if w.wrong == nil {
		w.wrong = wrong
	}
	w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// stop ends the context, and reports whether Watch returned.
func (w *watcher) stop() bool {
	w.end()
	select {
	case <-w.returned:
		return true
	case <-time.After(soon):
		return false
	}
}

// count returns the number of times that a value was heard, and the fault.
func (w *watcher) count(value string) (n int, wrong error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.heard {
		if h == value {
			n++
		}
	}
	return n, w.wrong
}

// await waits until the watcher is ready.
func (w *watcher) await() error {
	select {
	case <-w.ready:
		return nil
	case <-w.returned:
		return fmt.Errorf("%s: Watch returned before its context ended: %v", w.name, w.err)
	case <-time.After(soon):
		return fmt.Errorf("%s: ready was not called within %v", w.name, soon)
	}
}

// hears waits until the watcher has heard a value.
func (w *watcher) hears(value string) error {
	for timeout := time.After(soon); ; {
		if n, wrong := w.count(value); wrong != nil || n > 0 {
			return wrong
		}
		select {
		case <-w.changed:
		case <-w.returned:
			return fmt.Errorf("%s: Watch returned before its context ended: %v", w.name, w.err)
		case <-timeout:
			return fmt.Errorf("%s: a notice was not heard within %v", w.name, soon)
		}
	}
}

func watched(ctx context.Context, a, b dssauth.Store) error {
	watchers := []*watcher{watch(ctx, "the first store", a), watch(ctx, "the first store, again", a), watch(ctx, "the second store", b)}
	for _, w := range watchers {
		defer w.stop()
		if err := w.await(); err != nil {
			return err
		}
	}
	there, silent, refused := newKey(), "silent "+newKey(), "refused "+newKey()
	if err := puts(ctx, a, dssauth.StoreEntry{Key: there, Value: []byte(silent), TTL: longTTL}, true); err != nil {
		return err
	}
	if err := puts(ctx, a, dssauth.StoreEntry{Key: there, Value: []byte(refused), TTL: longTTL, IfAbsent: true, Notify: true}, false); err != nil {
		return err
	}

	// Many at once, from both stores. Each key but one is new, so that IfAbsent keeps it.
	told := make([]string, 40)
	errs := make([]error, len(told))
	var wg sync.WaitGroup
	for i := range told {
		key := newKey()
		told[i] = "told\x00\r\n" + key
		if i == 1 {
			key = there
		}
		wg.Go(func() {
			value := []byte(told[i])
			s := []dssauth.Store{a, b}[i%2]
			errs[i] = puts(ctx, s, dssauth.StoreEntry{Key: key, Value: value, TTL: longTTL, IfAbsent: i%4 == 3, Notify: true}, true)
			clear(value)
		})
		if i == 0 { // A heard entry must already be stored.
			if err := watchers[2].hears(told[i]); err != nil {
				return err
			}
			if err := holds(ctx, b, key, []byte(told[i])); err != nil {
				return fmt.Errorf("a notice was heard before its entry was kept: %w", err)
			}
		}
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, w := range watchers {
		for _, value := range told {
			if err := w.hears(value); err != nil {
				return err
			}
		}
	}
	large := strings.Repeat("large", maxValue/5)
	if err := puts(ctx, b, dssauth.StoreEntry{Key: newKey(), Value: []byte(large), TTL: longTTL, Notify: true}, true); err != nil {
		return err
	}
	for _, w := range watchers {
		if err := w.hears(large); err != nil {
			return fmt.Errorf("of %d bytes: %w", len(large), err)
		}
	}
	<-time.After(quiet)
	for _, w := range watchers {
		for _, value := range told {
			if n, wrong := w.count(value); wrong != nil || n != 1 {
				return errors.Join(wrong, fmt.Errorf("%s: a notice was heard %d times", w.name, n))
			}
		}
		for _, value := range []string{silent, refused} {
			if n, _ := w.count(value); n > 0 {
				return fmt.Errorf("%s: %s value was heard", w.name, strings.Fields(value)[0])
			}
		}
	}
	return nil
}

// watchedSlowly tells more than a slow watcher hears at once.
func watchedSlowly(ctx context.Context, a, b dssauth.Store) error {
	w := watch(ctx, "the slow watcher", b)
	defer w.stop()
	if err := w.await(); err != nil {
		return err
	}
	told := make([]string, 400)
	errs := make([]error, len(told))
	var wg sync.WaitGroup
	for i := range told {
		key := newKey()
		told[i] = "one of many " + key
		wg.Go(func() {
			errs[i] = puts(ctx, a, dssauth.StoreEntry{Key: key, Value: []byte(told[i]), TTL: longTTL, Notify: true}, true)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, value := range told {
		if err := w.hears(value); err != nil {
			select {
			case <-w.returned: // as it must if it may have missed one
				return nil
			default:
				return err
			}
		}
	}
	return nil
}

func watchedUntil(ctx context.Context, a, b dssauth.Store) error {
	ends, stays := watch(ctx, "the watcher that ends", a), watch(ctx, "the watcher that stays", b)
	defer stays.stop()
	defer ends.stop()
	for _, w := range []*watcher{ends, stays} {
		if err := w.await(); err != nil {
			return err
		}
	}
	if !ends.stop() {
		return fmt.Errorf("watch did not return within %v after its context had ended", soon)
	}
	late := "late " + newKey()
	if err := puts(ctx, a, dssauth.StoreEntry{Key: newKey(), Value: []byte(late), TTL: longTTL, Notify: true}, true); err != nil {
		return err
	}
	if err := stays.hears(late); err != nil {
		return err
	}
	<-time.After(quiet)
	if n, wrong := ends.count(late); wrong != nil || n > 0 {
		return errors.Join(wrong, errors.New("a notice was heard after Watch had returned"))
	}
	return nil
}

// newKey returns a key of the greatest length.
func newKey() string {
	return (rand.Text() + rand.Text() + rand.Text())[:64]
}

// puts checks whether an entry is kept.
func puts(ctx context.Context, s dssauth.Store, e dssauth.StoreEntry, want bool) error {
	kept, err := s.Put(ctx, e)
	if err != nil {
		return fmt.Errorf("put: %w", err)
	}
	if kept != want {
		return fmt.Errorf("put reported %t for %d bytes, IfAbsent %t", kept, len(e.Value), e.IfAbsent)
	}
	return nil
}

// holds checks the value of a key; nil means no entry.
func holds(ctx context.Context, s dssauth.Store, key string, want []byte) error {
	got, err := s.Get(ctx, key)
	switch {
	case err != nil:
		return fmt.Errorf("get: %w", err)
	case want == nil && got != nil:
		return fmt.Errorf("get returned %d bytes, and not nil", len(got))
	case want != nil && got == nil:
		return errors.New("get returned nil, and not a value")
	case !bytes.Equal(got, want):
		first := 0
		for first < min(len(got), len(want)) && got[first] == want[first] {
			first++
		}
		return fmt.Errorf("get returned another value: byte %d is the first that differs, of %d (want %d)", first, len(got), len(want))
	}
	return nil
}
