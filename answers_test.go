package dssauth

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// countingResolver knows everybody as ann.
type countingResolver struct{ calls atomic.Int64 }

func (c *countingResolver) Resolve(context.Context, http.Header) (Identity, error) {
	c.calls.Add(1)
	return NewIdentity("ann"), nil
}

func newCounted(t *testing.T) (*Middleware, *countingResolver) {
	dss := &countingResolver{}
	m, err := New(Config{Resolver: dss, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close() })
	return m, dss
}

func TestSecondLookFindsLandedLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, dss := newCounted(t)
		c, err := m.selector.pick(http.Header{"Cookie": {"session=ann"}})
		require.NoError(t, err)
		fresh := func(e *entry) bool { return m.answers.now() < e.expires }
		landed, err := m.answers.ask(t.Context(), c, fresh, false)
		require.NoError(t, err)
		// As if the first look came before that.
		again, err := m.answers.ask(t.Context(), c, fresh, false)
		require.NoError(t, err)
		assert.Same(t, landed, again)
		assert.EqualValues(t, 1, dss.calls.Load())
	})
}

func TestReplacedAnswerIsNotRefreshed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, dss := newCounted(t)
		r := &http.Request{Header: http.Header{"Cookie": {"session=ann"}}}
		old, _, err := m.identify(r, false)
		require.NoError(t, err)
		m.Forget(r)
		_, _, err = m.identify(r, false)
		require.NoError(t, err)
		require.EqualValues(t, 2, dss.calls.Load())
		c, err := m.selector.pick(r.Header)
		require.NoError(t, err)
		m.answers.refresh(c, old)
		synctest.Wait()
		assert.EqualValues(t, 2, dss.calls.Load())
	})
}

func TestWallClockDoesNotEndAnswers(t *testing.T) {
	m, _ := newCounted(t)
	// Go measures by the monotonic clock if the earlier time has one. All kept
	// times are differences to this one.
	assert.Contains(t, m.answers.base.String(), " m=")
}

func TestForgottenLoginsAreNotKeptForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := newCounted(t)
		for i := range 10_000 {
			m.ForgetUser(fmt.Sprint("user", i))
			<-time.After(100 * time.Millisecond)
		}
		// 70 in the 7s that a lookup can last, and as many again between purges.
		assert.Less(t, len(m.answers.flights.owners.spans), 300)
		assert.GreaterOrEqual(t, len(m.answers.flights.owners.spans), 60, "as long as a lookup can last, they are")
	})
}

// This holds for any number of logins forgotten at once. Those that are not
// remembered any more count as forgotten.
func TestForgottenLoginsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, dss := newCounted(t)
		r := &http.Request{Header: http.Header{"Cookie": {"session=ann"}}}
		_, err := m.Authenticate(r)
		require.NoError(t, err)
		ann, err := m.attachedAnswer(r.Context(), r.Context().(*placed).entry.key)
		require.NoError(t, err)
		require.NotNil(t, ann)
		for i := range maxForgotten {
			m.ForgetUser(fmt.Sprint("user", i))
		}
		again, err := m.attachedAnswer(r.Context(), ann.key)
		require.NoError(t, err)
		require.Same(t, ann, again, "all are remembered")
		for i := range maxForgotten + 1 {
			m.ForgetUser(fmt.Sprint("other", i))
			require.LessOrEqual(t, len(m.answers.flights.owners.spans), maxForgotten)
		}
		again, err = m.attachedAnswer(r.Context(), ann.key)
		require.NoError(t, err)
		require.Nil(t, again)
		for i := range maxForgotten + 1 {
			m.Forget(&http.Request{Header: http.Header{"Cookie": {fmt.Sprint("junk=", i)}}})
		}
		assert.LessOrEqual(t, len(m.answers.flights.bytes.spans), maxForgotten)
		_, _, err = m.identify(r, false)
		require.NoError(t, err)
		assert.EqualValues(t, 1, dss.calls.Load(), "the remembered answer stays: ann was not forgotten")
	})
}

func TestSecondVisitReplacesTheFirst(t *testing.T) {
	m, _ := newCounted(t)
	other, _ := newCounted(t)
	r, err := http.NewRequestWithContext(t.Context(), "GET", "/", nil)
	require.NoError(t, err)
	r.Header.Set("Cookie", "session=ann")
	for range 3 {
		for range 3 {
			_, err = m.Authenticate(r)
			require.NoError(t, err)
		}
		assert.Equal(t, t.Context(), r.Context().(*placed).Context, "a second visit around the first one")
		assert.Same(t, r, r.Context().(*placed).request)
		r = r.WithContext(t.Context())
	}
	_, err = other.Authenticate(r)
	require.NoError(t, err)
	_, err = m.Authenticate(r)
	require.NoError(t, err)
	assert.Equal(t, other, r.Context().(*placed).Context.(*placed).m, "another Middleware's visit stays")
}

func TestLandedLookupLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := newCounted(t)
		for i := range 100 {
			r := &http.Request{Header: http.Header{"Cookie": {fmt.Sprint("session=", i)}}}
			_, _, err := m.identify(r, false)
			require.NoError(t, err)
		}
		assert.Empty(t, m.answers.flights.byKey)
		assert.Len(t, m.answers.cache.byUser, 1)
		assert.Equal(t, m.answers.cache.maxPerUser, m.answers.cache.order.Len())
		m.ForgetUser("ann")
		assert.Empty(t, m.answers.cache.byUser)
		for i := range m.answers.cache.buckets {
			require.Nil(t, m.answers.cache.buckets[i].Load())
		}
	})
}

// lateResolver answers after an hour, and ignores its context.
type lateResolver struct{}

func (lateResolver) Resolve(context.Context, http.Header) (Identity, error) {
	<-time.After(time.Hour)
	return NewIdentity("ann"), nil
}

func TestAnswerLongAfterDeadlineIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var outcome Outcome
		m, err := New(Config{Resolver: lateResolver{}, Logger: slog.New(slog.DiscardHandler), Hooks: Hooks{
			LookupEnd: func(_ context.Context, l Lookup) { outcome = l.Outcome },
		}})
		require.NoError(t, err)
		c, err := m.selector.pick(http.Header{"Cookie": {"session=ann"}})
		require.NoError(t, err)
		_, f, _ := m.answers.join(c, func(*entry) bool { return false }, nil, anyLookup)
		<-time.After(2 * time.Hour)
		synctest.Wait()
		// As a request that came at the moment when it landed.
		e, err := m.answers.wait(t.Context(), f)
		assert.Nil(t, e)
		require.ErrorIs(t, err, ErrUnavailable)
		assert.Equal(t, OutcomeUnavailable, outcome)
		require.NoError(t, m.Close())
	})
}

func TestProjectTurnTakesAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newReplica(t, shelf{}, func(c *Config) { c.MaxLookups = 2 })
		defer m.Close()
		e := &entry{identity: Identity{Login: "ann"}}
		for _, other := range []string{"bob", "carl"} {
			require.NoError(t, m.answers.places.enter(t.Context(), newTurn(other), nil))
		}
		for _, until := range []int64{0, m.answers.now() + int64(500*time.Millisecond)} {
			start := time.Now()
			_, err := m.projectTurn(t.Context(), e, until)
			assert.ErrorIs(t, err, ErrUnavailable)
			assert.Equal(t, maxWait, time.Since(start))
		}
	})
}

// A renewal of a project's verdict lets all others go first, until a second before the
// verdict ends.
func TestProjectTurnIsLastUntilTheLastMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newReplica(t, shelf{}, func(c *Config) { c.MaxLookups = 2 })
		defer m.Close()
		places := m.answers.places
		for after, line := range map[time.Duration]int{1900 * time.Millisecond: refreshes, 2100 * time.Millisecond: knownVisitors} {
			others := []*turn{newTurn("bob"), newTurn("carl")}
			for _, other := range others {
				require.NoError(t, places.enter(t.Context(), other, nil))
			}
			var got *turn
			go func() {
				got, _ = m.projectTurn(t.Context(), &entry{identity: Identity{Login: "ann"}}, m.answers.now()+int64(3*time.Second))
			}()
			<-time.After(after)
			for _, other := range others {
				places.giveBack(other)
			}
			synctest.Wait()
			require.NotNil(t, got)
			assert.Equal(t, line, got.line, after)
			places.giveBack(got)
			assert.Empty(t, places.owners)
		}
	})
}
