package promises

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// vault holds the keys of an APIKeySource.
type vault struct {
	mu    sync.Mutex
	key   string
	asked []time.Time
}

func (v *vault) source(context.Context) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked = append(v.asked, time.Now())
	return v.key, nil
}

func (v *vault) put(key string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.key = key
}

// questions returns how often the source was asked, and the least time in
// between.
func (v *vault) questions() (count int, least time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	least = time.Hour
	for i := 1; i < len(v.asked); i++ {
		least = min(least, v.asked[i].Sub(v.asked[i-1]))
	}
	return len(v.asked), least
}

// newRotating is newMemory with a client whose key comes from a vault.
func newRotating(t testing.TB) (*dsstest.DSS, *dss.Client, *vault) {
	d, _ := newMemory(t)
	v := &vault{key: ownKey}
	client, err := dss.New(dss.Config{URL: "https://dss.example", APIKeySource: v.source, HTTPClient: &http.Client{Transport: inMemory(d)}})
	require.NoError(t, err)
	return d, client, v
}

// DSS accepted the key a moment ago, and accepts its successor. Neither proves
// that it accepted the key of the lookup.
func TestRefusalOfAReplacedKeySignsNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client, v := newRotating(t)
		m := newAuth(t, dssauth.Config{Client: client})
		ann, bob := signedIn(d, "ann"), signedIn(d, "bob")
		require.Equal(t, "ann", who(m, ann))
		pass(1100 * time.Millisecond)
		require.Equal(t, "503", func() string { // a key was accepted just now
			require.Equal(t, "bob", who(m, bob))
			d.RemoveAPIKey(ownKey)
			d.AddAPIKey("second", "")
			v.put("second")
			return who(m, signedIn(d, "ann"))
		}())
		assert.Equal(t, 2, d.Calls(ownInfoPath), "the question, with either key")
		assert.Equal(t, "ann", who(m, signedIn(d, "ann")), "with the new key")
		assert.Zero(t, m.Stats().Refusals)

		d.RemoveAPIKey("second") // and within a second of that, without a new one
		assert.Equal(t, "503", who(m, signedIn(d, "ann")))
		assert.Zero(t, m.Stats().Refusals)
	})
}

// The same for the calls that handlers make about a visitor's browser.
func TestTicketRefusedToAReplacedKeySignsNobodyOut(t *testing.T) {
	for name, act := range map[string]func(context.Context) error{
		"a ticket": func(ctx context.Context) error {
			client, err := dssauth.ClientFromContext(ctx)
			if err == nil {
				_, err = client.AuthInfo(ctx)
			}
			return err
		},
		"secrets": func(ctx context.Context) error {
			_, err := dssauth.SecretsFromContext(ctx)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client, v := newRotating(t)
				m := newAuth(t, dssauth.Config{Client: client, Impersonation: dssauth.ByTicket})
				ann := signedIn(d, "ann")
				status := func() int {
					w := httptest.NewRecorder()
					m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if err := act(r.Context()); err != nil {
							m.Refuse(w, r, err)
						}
					})).ServeHTTP(w, ann)
					return w.Code
				}
				require.Equal(t, "ann", who(m, ann))
				pass(2 * time.Second)
				d.RemoveAPIKey(ownKey)
				d.AddAPIKey("second", "")
				v.put("second")
				assert.Equal(t, 503, status())
				assert.Equal(t, 200, status(), "with the new key")
			})
		})
	}
}

func TestRejectedKeyOfASourceIsReplacedWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client, v := newRotating(t)
		var book logBook
		m := newAuth(t, dssauth.Config{Client: client, Logger: book.logger()})
		ann := signedIn(d, "ann")
		pass(time.Minute)
		d.RemoveAPIKey(ownKey)
		w := httptest.NewRecorder()
		m.Handler(sayLogin).ServeHTTP(w, ann)
		require.Equal(t, 503, w.Code)
		asked, _ := v.questions()
		require.Equal(t, 2, asked)
		lookups := d.Calls(lookupPath)

		w = httptest.NewRecorder()
		m.Handler(sayLogin).ServeHTTP(w, ann)
		require.Equal(t, 503, w.Code)
		assert.Equal(t, "1", w.Header().Get("Retry-After"))
		pass(time.Second - 1)
		d.AddAPIKey("second", "")
		v.put("second")
		require.Equal(t, "503", who(m, ann))
		assert.Equal(t, lookups, d.Calls(lookupPath), "DSS is not asked meanwhile")
		pass(1)
		assert.Equal(t, "ann", who(m, ann), "the first request waits for the new key")
		assert.Equal(t, lookups+1, d.Calls(lookupPath), "and is not asked about with the old one")

		synctest.Wait()
		lines := book.with("REJECTS OUR OWN CREDENTIALS")
		require.Len(t, lines, 1, "one loud line")
		assert.Contains(t, lines[0], "Config.APIKeySource: it gave the same API key again", "why nothing helped")
		assert.Len(t, book.with("DSS accepts our own credentials again"), 1)
		assert.Empty(t, book.with(ownKey))
		assert.Empty(t, book.with("second"))
	})
}

// While the key is good, visitors without a session are told so, each by a
// question that is newer than the refusal.
func TestAnonymousNeedsANewerCheckOfAReplaceableKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client, v := newRotating(t)
		d.SetLatency(10 * time.Millisecond)
		m := newAuth(t, dssauth.Config{Client: client})
		start := time.Now()
		var visits sync.WaitGroup
		for i := range 300 {
			visits.Go(func() {
				pass(time.Duration(i) * 10 * time.Millisecond)
				began := time.Now()
				assert.Equal(t, "401", who(m, browser(fmt.Sprint("junk", i))))
				assert.LessOrEqual(t, time.Since(began), 250*time.Millisecond)
			})
		}
		visits.Wait()
		assert.LessOrEqual(t, d.Calls(ownInfoPath), int(time.Since(start)/(100*time.Millisecond))+2)
		asked, _ := v.questions()
		assert.Equal(t, 1, asked, "nobody's session is not a reason to ask for a key")
	})
}

// Keys are replaced while visitors are at work: the new one is there before the
// old one ends, at once, or seconds later.
func TestKeyRotationUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const visitors, rotations = 60, 30
		d, client, v := newRotating(t)
		d.SetLatency(20 * time.Millisecond)
		m := newAuth(t, dssauth.Config{Client: client, TTL: 2 * time.Second})
		r := rand.New(rand.NewPCG(21, 5))

		var mu sync.Mutex
		var gone, back time.Time // when the last key ended, and its successor was there
		var served, unavailable, wrong, anonymous, late int
		judge := func(login, got string, began time.Time) {
			mu.Lock()
			defer mu.Unlock()
			switch got {
			case login:
				served++
			case "401":
				anonymous++
			case "503":
				unavailable++
				if gone.IsZero() || began.Before(gone.Add(-time.Second)) || !back.IsZero() && began.After(back.Add(2*time.Second)) {
					late++
				}
			default:
				wrong++
			}
		}

		ctx, stop := context.WithCancel(t.Context())
		var work sync.WaitGroup
		for i := range visitors {
			login := fmt.Sprint("user", i)
			d.AddUser(dsstest.User{Login: login})
			browser := signedIn(d, login)
			work.Go(func() {
				pass(time.Duration(i) * 7 * time.Millisecond)
				for ctx.Err() == nil {
					began := time.Now()
					judge(login, who(m, browser.Clone(ctx)), began)
					pass(100 * time.Millisecond)
				}
			})
		}
		pass(3 * time.Second)
		key := ownKey
		for n := range rotations {
			next := fmt.Sprint("key-", n)
			before := time.Duration(r.IntN(3000)-1500) * time.Millisecond // the new key is in the vault, below 0: after
			if n%3 == 0 {
				before = 0
			}
			d.AddAPIKey(next, "")
			if before >= 0 {
				v.put(next)
				pass(before)
			}
			mu.Lock()
			gone, back = time.Now(), time.Time{}
			mu.Unlock()
			d.RemoveAPIKey(key)
			if before < 0 {
				pass(-before)
				v.put(next)
			}
			mu.Lock()
			back = time.Now()
			mu.Unlock()
			key = next
			pass(5 * time.Second)
		}
		stop()
		work.Wait()

		asked, least := v.questions()
		t.Logf("%d rotations of the own key beside %d visitors: %d served, %d times 503, %d wrong, %d called anonymous, %d later than 2s; the source was asked %d times",
			rotations, visitors, served, unavailable, wrong, anonymous, late, asked)
		assert.Zero(t, wrong)
		assert.Zero(t, anonymous)
		assert.Zero(t, late, "503 more than 2s after a good key was there")
		assert.Greater(t, served, 20*unavailable)
		assert.GreaterOrEqual(t, asked, rotations+1)
		assert.GreaterOrEqual(t, least, time.Second)
	})
}

// Each refusal of a lookup must be older than the question: a stranger's junk causes ten
// questions a second at most.
func TestQuestionsAboutAReplaceableKeyAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client, _ := newRotating(t)
		m := newAuth(t, dssauth.Config{Client: client})
		defer m.Close()
		for i := range 1000 { // 100 visitors a second
			asks(m, browser(fmt.Sprint("junk", i)))
			pass(10 * time.Millisecond)
		}
		synctest.Wait()
		questions := d.Calls("/auth/info")
		t.Logf("figure: own questions with a replaceable key, 100 strangers a second for 10s: %d", questions)
		assert.LessOrEqual(t, questions, 102)
		assert.Equal(t, "ann", who(m, signedIn(d, "ann")))
	})
}
