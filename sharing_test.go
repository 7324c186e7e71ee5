package dssauth

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

// shelf is a Store that keeps all and tells nothing.
type shelf map[string][]byte

func (s shelf) Get(_ context.Context, key string) ([]byte, error) { return s[key], nil }

func (s shelf) Put(_ context.Context, e StoreEntry) (bool, error) {
	s[e.Key] = e.Value
	return true, nil
}

func (s shelf) Delete(_ context.Context, key string) error {
	delete(s, key)
	return nil
}

func (s shelf) Watch(ctx context.Context, ready func(), _ func([]byte)) error {
	<-ctx.Done()
	return ctx.Err()
}

var testSecret = []byte("a secret of more than 32 bytes of text")

// newReplica is a Middleware with a Store, whose DSS answers nothing.
func newReplica(t *testing.T, store Store, change func(*Config)) *Middleware {
	client, err := dss.New(dss.Config{URL: "https://dss.example", APIKey: "key"})
	require.NoError(t, err)
	c := Config{Client: client, Store: store, StoreSecrets: [][]byte{testSecret}, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&c)
	}
	m, err := New(c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func ofAnn(t *testing.T, m *Middleware) credentials {
	c, err := m.pick(http.Header{"Cookie": {"session=ann"}})
	require.NoError(t, err)
	return c
}

// TestStoredAnswersOfTheRightAge puts sealed answers into a store whose clocks
// differ.
func TestStoredAnswersOfTheRightAge(t *testing.T) {
	for name, test := range map[string]struct {
		asked    time.Duration // from now
		believed bool
		atMost   time.Duration // its age here
	}{
		"of now":                      {0, true, time.Second},
		"of eight seconds ago":        {-8 * time.Second, true, 9 * time.Second},
		"nearly as old as the TTL":    {-9 * time.Second, false, 0},
		"older than the TTL":          {-11 * time.Second, false, 0},
		"of a clock a second ahead":   {time.Second, true, time.Second},
		"of a clock 2.5s ahead":       {2500 * time.Millisecond, false, 0},
		"of a clock an hour ahead":    {time.Hour, false, 0},
		"of before the process began": {-time.Hour, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := newReplica(t, shelf{}, nil)
			s := m.answers.shared
			c := ofAnn(t, m)
			stored := s.keysOf(c).answer[0]
			text, err := json.Marshal(sharedAnswer{AsOf: time.Now().Add(test.asked).UnixNano(), Login: "ann", Groups: []string{"analysts"}})
			require.NoError(t, err)
			s.store.(shelf)[stored] = s.sealer.Seal(0, stored, text)
			var count atomic.Int64
			f, err := s.find(t.Context(), c, nil, false, &count, func() error { return nil }, func() {})
			require.NoError(t, err)
			assert.Equal(t, test.believed, f.isAnswer())
			if test.believed {
				age := time.Duration(s.now() - f.asked)
				assert.LessOrEqual(t, age, test.atMost)
				assert.GreaterOrEqual(t, age, max(0, -test.asked))
			}
		})
	}
}

// TestStoredTextThatIsNobody has what no replica seals, though it opens.
func TestStoredTextThatIsNobody(t *testing.T) {
	m := newReplica(t, shelf{}, nil)
	s := m.answers.shared
	stored := s.keysOf(ofAnn(t, m)).answer[0]
	for _, text := range []string{"", "{}", "null", "[]", `{"AsOf": 1`, `{"Login": " "}`, `{"Login": "a\nb"}`, `{"Login": 1}`} {
		assert.Nil(t, s.open(0, stored, s.sealer.Seal(0, stored, []byte(text))), text)
	}
}

func TestStoredKeysCoverWhatAnAnswerHolds(t *testing.T) {
	keys := map[string]string{}
	for name, change := range map[string]func(*Config){
		"as it is":      nil,
		"details":       func(c *Config) { c.UserDetails = true },
		"other headers": func(c *Config) { c.Headers = []string{"Cookie"} },
		"their order":   func(c *Config) { c.Headers = []string{"Authorization", "Cookie"} },
		"another DSS":   func(c *Config) { c.Client, _ = dss.New(dss.Config{URL: "https://dss.example/two", APIKey: "key"}) },
		"another secret": func(c *Config) {
			c.StoreSecrets = [][]byte{append([]byte("other"), testSecret...)}
		},
	} {
		m := newReplica(t, shelf{}, change)
		all := m.answers.shared.keysOf(ofAnn(t, m))
		for _, k := range []string{all.answer[0], all.lease[0], all.mark[0], m.answers.shared.marksOf("ann")[0]} {
			assert.Empty(t, keys[k], name)
			keys[k] = name
		}
	}
	again := newReplica(t, shelf{}, func(c *Config) { c.TTL = time.Minute })
	assert.Equal(t, "as it is", keys[again.answers.shared.keysOf(ofAnn(t, again)).answer[0]], "what an answer does not depend on")
}

func FuzzNotice(f *testing.F) {
	client, err := dss.New(dss.Config{URL: "https://dss.example", APIKey: "key"})
	require.NoError(f, err)
	m, err := New(Config{Client: client, Store: shelf{}, StoreSecrets: [][]byte{testSecret}, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(f, err)
	f.Cleanup(func() { _ = m.Close() })
	s := m.answers.shared
	forgot := ""
	s.forget = func(owners []string, _ []key) { forgot = owners[0] }
	f.Add(s.closed(forgetting{ID: "one", At: time.Now().UnixNano(), Owners: []string{"ann"}}, s.marksOf("ann")))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, value []byte) {
		forgot = ""
		s.hear(value)
		if forgot != "" && forgot != "ann" {
			t.Fatal("forgot somebody of whom nothing was sealed")
		}
	})
}
