package promises

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
)

// held answers by cookie once release is closed.
func held(release <-chan struct{}) answerer {
	return func(ctx context.Context, cookie string) (dssauth.Identity, error) {
		select {
		case <-release:
			return byCookie(ctx, cookie)
		case <-ctx.Done():
			return dssauth.Identity{}, ctx.Err()
		}
	}
}

// newcomers sends requests of n visitors with different cookies, and returns when all
// of them have ended or wait.
func newcomers(m *dssauth.Middleware, n int) (answers []<-chan string) {
	for i := range n {
		answers = append(answers, asks(m, browser(fmt.Sprint("newcomer", i))))
	}
	synctest.Wait()
	return answers
}

// count returns how many of the answers that have come are s.
func count(answers []<-chan string, is func(string) bool) (n int) {
	for _, c := range answers {
		select {
		case s := <-c:
			if is(s) {
				n++
			}
		default:
		}
	}
	return n
}

func refused(s string) bool    { return s == "503" }
func identified(s string) bool { return s != "503" && s != "401" }

func TestNewcomersTakeThreeQuartersOfThePlaces(t *testing.T) {
	for _, test := range []struct {
		name                         string
		limit, asking, asked, queued int
	}{
		{"none", 8, 0, 0, 0},
		{"below", 8, 5, 5, 0},
		{"at", 8, 6, 6, 0},
		{"above", 8, 7, 6, 1},
		{"far above", 8, 100, 6, 94},
		{"below the least limit", 2, 1, 1, 0},
		{"above the least limit", 2, 2, 1, 1},
		{"above a limit that is not a multiple of four", 5, 5, 3, 2},
		{"above one place fewer than the floor", 31, 31, 23, 8},
		{"above one place more than the floor", 33, 32, 24, 8},
		{"at the default", 0, 24, 24, 0},
		{"above the default", 0, 33, 24, 9},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				dss := resolver(held(release))
				m := newAuth(t, dssauth.Config{Resolver: dss, MaxLookups: test.limit})
				answers := newcomers(m, test.asking)
				assert.EqualValues(t, test.asked, dss.inFlight.Load())
				assert.Equal(t, test.asked, m.Stats().InFlight)
				assert.Equal(t, test.queued, m.Stats().Queued)
				pass(time.Second - 1)
				close(release)
				synctest.Wait()
				assert.Equal(t, test.asking, count(answers, identified), "a waiting lookup gets a place as soon as one is free")
				assert.EqualValues(t, test.asked, dss.mostInFlight.Load())
				assert.Zero(t, m.Stats().InFlight)
				assert.Zero(t, m.Stats().Queued)
			})
		})
	}
}

func TestWaitForPlaceEndsAfterOneSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := resolver(hangs)
		m := newAuth(t, dssauth.Config{Resolver: dss, MaxLookups: 8})
		newcomers(m, 6)
		start := time.Now()
		w := httptest.NewRecorder()
		m.Handler(sayLogin).ServeHTTP(w, browser("late"))
		assert.Equal(t, http.StatusServiceUnavailable, w.Code)
		assert.Equal(t, "1", w.Header().Get("Retry-After"))
		assert.Equal(t, time.Second, time.Since(start))
		assert.Zero(t, m.Stats().Queued)
		pass(5 * time.Second)
		dss.does(byCookie)
		assert.Equal(t, "late", who(m, browser("late")), "a lookup without a place blocks nobody")
	})
}

func TestTheQueueForATurnIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const places, queue = 6, 1024
		dss := resolver(byCookie)
		m := newAuth(t, dssauth.Config{Resolver: dss, MaxLookups: 8})
		require.Equal(t, "ann", who(m, browser("ann")))
		pass(10 * time.Second) // her answer ends, but she is known
		release := make(chan struct{})
		dss.does(held(release))

		answers := newcomers(m, places+queue)
		assert.Zero(t, count(answers, refused), "at the bound")
		assert.Equal(t, queue, m.Stats().Queued)
		more := newcomers(m, places+queue+10)[places+queue:]
		assert.Equal(t, 10, count(more, refused), "above it, they are refused at once")

		ann := asks(m, browser("ann"))
		synctest.Wait()
		assert.EqualValues(t, places+1, dss.inFlight.Load(), "a known visitor does not wait in that queue")
		close(release)
		assert.Equal(t, "ann", <-ann)
		synctest.Wait()
		assert.Equal(t, places+queue, count(answers, identified))
	})
}

func TestKnownVisitorsHavePlacesThatJunkCannotTake(t *testing.T) {
	for _, test := range []struct {
		name  string
		away  time.Duration // since their answers were made
		asked int64         // lookups under way when all four are back
	}{
		{"while their answers live, in refreshes", 9 * time.Second, 8},
		{"after their answers ended", 11 * time.Second, 8},
		{"nearly an hour later", time.Hour, 8},
		{"but not for ever", time.Hour + 11*time.Second, 6},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dss := resolver(byCookie)
				m := newAuth(t, dssauth.Config{Resolver: dss, MaxLookups: 8})
				known := []string{"ann", "bob", "eve", "joe"}
				for _, login := range known {
					require.Equal(t, login, who(m, browser(login)))
				}
				pass(test.away)
				dss.does(hangs)
				newcomers(m, 100)
				require.EqualValues(t, 6, dss.inFlight.Load())
				for _, login := range known {
					asks(m, browser(login))
				}
				synctest.Wait()
				assert.Equal(t, test.asked, dss.inFlight.Load())
				pass(10 * time.Second)
			})
		})
	}
}

func TestKnownVisitorsMayTakeAllPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := resolver(byCookie)
		m := newAuth(t, dssauth.Config{Resolver: dss, MaxLookups: 8})
		for i := range 20 {
			require.NotEqual(t, "503", who(m, browser(fmt.Sprint("newcomer", i))))
		}
		pass(10 * time.Second)
		release := make(chan struct{})
		dss.does(held(release))
		answers := newcomers(m, 20) // they are not newcomers any more
		assert.EqualValues(t, 8, dss.inFlight.Load(), "but not more than all")
		close(release)
		synctest.Wait()
		assert.Equal(t, 20, count(answers, identified))
		assert.EqualValues(t, 8, dss.mostInFlight.Load())
	})
}

func TestPlacesAreGivenBack(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer answerer
		hooks  dssauth.Hooks
		lasts  time.Duration
	}{
		{name: "after an answer", answer: byCookie},
		{name: "after an error", answer: func(context.Context, string) (dssauth.Identity, error) { return dssauth.Identity{}, errBroken }},
		{name: "after a panic", answer: func(context.Context, string) (dssauth.Identity, error) { panic("no") }},
		{name: "after a deadline", answer: hangs, lasts: 5 * time.Second},
		{name: "after a resolver that ignored its deadline", lasts: 20 * time.Second,
			answer: func(ctx context.Context, cookie string) (dssauth.Identity, error) {
				pass(20 * time.Second)
				return byCookie(ctx, cookie)
			}},
		{name: "after a hook that panicked at the start", answer: byCookie,
			hooks: dssauth.Hooks{LookupStart: func(context.Context, bool) context.Context { panic("no") }}},
		{name: "after a hook that panicked at the end", answer: byCookie,
			hooks: dssauth.Hooks{LookupEnd: func(context.Context, dssauth.Lookup) { panic("no") }}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dss := resolver(test.answer)
				m := newAuth(t, dssauth.Config{Resolver: dss, MaxLookups: 8, Hooks: test.hooks})
				for range 3 {
					newcomers(m, 6)
					pass(test.lasts)
					synctest.Wait()
					require.Zero(t, m.Stats().InFlight)
				}
				dss.does(byCookie)
				for i := range 6 {
					login := fmt.Sprint("later", i)
					assert.Equal(t, login, who(m, browser(login)))
				}
			})
		})
	}
}

func TestAbandonedLookupGivesItsPlaceBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := resolver(slowly(2*time.Second, byCookie))
		m := newAuth(t, dssauth.Config{Resolver: dss, MaxLookups: 8})
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 6 {
			asks(m, browser(fmt.Sprint("left", i)).WithContext(ctx))
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		assert.Equal(t, 6, m.Stats().InFlight, "the lookups go on")
		pass(2 * time.Second)
		synctest.Wait()
		assert.Zero(t, m.Stats().InFlight)
		assert.Equal(t, 6, m.Stats().Entries, "and are stored")
	})
}

func TestHitsAreServedWhileDSSHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dss := resolver(byCookie)
		m := newAuth(t, dssauth.Config{Resolver: dss, MaxLookups: 8})
		require.Equal(t, "ann", who(m, browser("ann")))
		dss.does(hangs)
		for range 90 {
			newcomers(m, 20)
			start := time.Now()
			require.Equal(t, "ann", who(m, browser("ann")))
			require.Zero(t, time.Since(start))
			pass(99 * time.Millisecond)
		}
		assert.LessOrEqual(t, dss.mostInFlight.Load(), int64(8))
		pass(10 * time.Second)
	})
}
