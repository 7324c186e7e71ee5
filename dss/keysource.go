package dss

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// keyPause is the shortest time between two questions to an APIKeySource.
	keyPause = time.Second
	// keyTime is how long the source may take, and how long New waits for it.
	keyTime = 5 * time.Second
	// keyPatience is the time that a call waits for another key after its key was
	// rejected. For its caller the rejection is better than a long wait.
	keyPatience = time.Second
)

// keySource keeps a client's own API key, for all copies of the client, until its
// source gives another one. The source is asked when DSS rejects the key.
type keySource struct {
	name  string // in errors
	fetch func(context.Context) (string, error)

	mu      sync.Mutex
	held    *credentials
	asked   time.Time // when the source was last asked
	flight  *fetching // the one question under way, or nil
	trouble error     // the reason why the last question brought no other key
}

// newKeySource asks source for the first key, and waits for it.
func newKeySource(name string, source func(context.Context) (string, error)) (*keySource, error) {
	s := &keySource{name: name, fetch: source}
	s.mu.Lock()
	f := s.ask()
	s.mu.Unlock()
	enough := time.NewTimer(keyTime)
	defer enough.Stop()
	select {
	case <-f.done:
	case <-enough.C:
		return nil, fmt.Errorf("dss: %s: it gave no API key within %v", name, keyTime)
	}
	if f.err != nil {
		return nil, fmt.Errorf("dss: %w", f.err)
	}
	return s, nil
}

func (s *keySource) current() *credentials {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// instead reports whether there is a key other than rejected, which DSS
// rejected. It asks the source for one, but at most once in a keyPause.
func (s *keySource) instead(ctx context.Context, rejected *credentials) bool {
	f := s.question(rejected)
	if f == nil {
		return s.current() != rejected
	}

	enough := time.NewTimer(keyPatience)
	defer enough.Stop()
	select {
	case <-f.done:
	case <-enough.C:
	case <-ctx.Done():
	}
	return s.current() != rejected
}

// question returns the question to wait for, or nil: the key was replaced
// meanwhile, or the source was asked a moment ago.
func (s *keySource) question(rejected *credentials) *fetching {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.held != rejected:
		return nil
	case s.flight == nil && time.Since(s.asked) >= keyPause:
		return s.ask()
	}
	return s.flight
}

// why returns, in words, the reason why there is no other key. It returns "" if
// used was replaced. It returns a text and not an error, because DSS rejected
// this call: a source's timeout must not make it a call that timed out.
func (s *keySource) why(used *credentials) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.held != used:
		return ""
	case s.flight != nil:
		return s.name + ": it has not answered yet"
	case s.trouble == nil: // it was asked a moment ago, for this key
		return ""
	}
	return s.trouble.Error()
}

// ask starts the one question. The caller holds mu.
func (s *keySource) ask() *fetching {
	f := &fetching{done: make(chan struct{})}
	s.flight, s.asked = f, time.Now()
	go f.run(s.name, "API key", keyTime, s.next, func() { s.land(f) })
	return f
}

// next returns the source's key.
func (s *keySource) next(ctx context.Context) (*credentials, error) {
	key, err := s.fetch(ctx)
	switch {
	case err != nil:
		return nil, s.oneLine(err, key) // here, since an error's own method can panic, too
	case key == "":
		return nil, errors.New("the API key is empty")
	}
	if err := checkAPIKey(key); err != nil {
		return nil, err
	}
	return keyCredentials(key), nil
}

// land keeps the key that f brought, unless it is the one that is there.
func (s *keySource) land(f *fetching) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flight, s.trouble = nil, f.err
	switch {
	case f.err != nil:
		return
	case s.held == nil:
		f.got.number = 1
	case s.held.secret() == f.got.secret():
		s.trouble = errors.New(s.name + ": it gave the same API key again")
		return
	default:
		f.got.number = s.held.number + 1
	}
	s.held = f.got
}

// oneLine returns a source's error as one line, without a key that came with it
// and without the current key.
func (s *keySource) oneLine(err error, key string) error {
	hidden := []string{key}
	if held := s.current(); held != nil {
		hidden = append(hidden, held.secret())
	}
	text := err.Error()
	for _, secret := range hidden {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[redacted]")
		}
	}
	return quietly(clean(text, 300), err)
}

// isAboutABrowser reports whether a call asks about the browser that sent some
// headers. DSS rejects such a browser with the same reply as our own key.
func isAboutABrowser(base, u *url.URL) bool {
	path := strings.TrimPrefix(u.Path, base.Path)
	for _, api := range []string{apiPath, proxiedAPIPath} {
		if rest, ok := strings.CutPrefix(path, api); ok {
			return rest == pathBrowserInfo || rest == pathBrowserTicket
		}
	}
	return false
}

// keyOfFile is the APIKeySource for DKU_API_KEY_FILE: it returns the file's
// current text, without white space around it.
func keyOfFile(file string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, maxKeyFileBytes+1))
		if err == nil && len(text) > maxKeyFileBytes {
			err = fmt.Errorf("%s is longer than %d KiB", file, maxKeyFileBytes>>10)
		}
		return strings.TrimSpace(string(text)), err
	}
}

const maxKeyFileBytes = 64 << 10
