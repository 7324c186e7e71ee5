package dssauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/internal/ownkey"
)

func TestAnsweredOwnQuestionEndsARejection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, key := range []int64{0, 7} { // a fixed key, and one from a source
			o := newReplica(t, shelf{}, nil).answers.dss.outage
			answers := func(info dss.AuthInfo, err error) {
				now := o.time.now()
				o.conclude(&question{asked: now, key: key, done: make(chan struct{})}, info, err)
			}
			ours := dss.AuthInfo{AuthIdentifier: "robot"}
			require.NoError(t, o.refusal())
			answers(dss.AuthInfo{}, &dss.Error{StatusCode: http.StatusUnauthorized, Type: "com.dataiku.dip.exceptions.NotAuthenticatedException"})
			require.ErrorIs(t, o.refusal(), ErrUnavailable)
			answers(ours, nil)
			if key == 0 {
				require.ErrorIs(t, o.refusal(), ErrUnavailable, "a fixed key was rejected, and stays so for its time")
				<-time.After(rejectionTime)
			}
			assert.NoError(t, o.refusal(), "key %d", key)
		}
	})
}

func TestCancelledCallIsNotAnOutage(t *testing.T) {
	cancelled := &url.Error{Op: "Get", URL: "https://dss.example/", Err: context.Canceled}
	assert.False(t, isOutage(cancelled))
	assert.False(t, isOutage(fmt.Errorf("dss: %w", cancelled)))
	assert.True(t, isOutage(&url.Error{Op: "Get", URL: "https://dss.example/", Err: context.DeadlineExceeded}))
}

// A key that may end at any time is proved only by a question that began after the
// refusal.
func TestOlderQuestionDoesNotProveAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newReplica(t, shelf{}, nil)
		defer m.Close()
		o, calls := m.answers.dss.outage, 0
		o.own = func(ctx context.Context) (dss.AuthInfo, error) {
			calls++
			ownkey.Note(ctx, 7)
			<-time.After(time.Second)
			return dss.AuthInfo{AuthIdentifier: "robot"}, nil
		}
		o.mu.Lock()
		o.ask(o.time.now())
		o.mu.Unlock()
		<-time.After(500 * time.Millisecond)
		refused := &refusedKey{&dss.Error{StatusCode: http.StatusUnauthorized}, 7}
		require.NoError(t, o.vouched(t.Context(), o.time.now(), refused))
		assert.Equal(t, 2, calls)
	})
}

// It is not known when DSS says more, so a connection looks again after a second.
func TestUnsureRefusalHasNoTimeOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newReplica(t, shelf{}, nil)
		defer m.Close()
		d := m.answers.dss
		d.outage.own = func(context.Context) (dss.AuthInfo, error) {
			return dss.AuthInfo{}, &dss.Error{StatusCode: http.StatusBadGateway}
		}
		err := d.verdict(t.Context(), key{1}, m.answers.now(), &dss.Error{StatusCode: http.StatusUnauthorized, Type: "com.dataiku.dip.exceptions.NotAuthenticatedException"})
		require.ErrorIs(t, err, ErrUnavailable)
		assert.Equal(t, int64(afterFailure), untilNextLook(err))
	})
}

// A wait of less than 100ms would be a busy loop.
func TestNextLookIsNotAtOnce(t *testing.T) {
	for retryAfter, want := range map[time.Duration]time.Duration{0: afterFailure, 1: afterFailure, minEvery - 1: afterFailure, minEvery: minEvery, time.Minute: time.Minute} {
		assert.Equal(t, int64(want), untilNextLook(unavailable("it failed", nil, int64(retryAfter))))
	}
	assert.Equal(t, int64(afterFailure), untilNextLook(context.DeadlineExceeded))
}

// newWithOwn is a Middleware whose own question of DSS is answered by own. All lookups
// would fail.
func newWithOwn(t *testing.T, own func(context.Context) (dss.AuthInfo, error)) *Middleware {
	client, err := dss.New(dss.Config{URL: "https://dss.example", APIKey: "key"})
	require.NoError(t, err)
	m, err := New(Config{Client: client, Logger: slog.New(slog.DiscardHandler), StaleIfError: time.Hour})
	require.NoError(t, err)
	m.answers.dss.outage.own = own
	return m
}

// A lookup that gets its place when DSS is down does not ask DSS: it says nothing about
// DSS's speed.
func TestLookupsThatDoNotAskLeaveThePlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newWithOwn(t, func(context.Context) (dss.AuthInfo, error) {
			return dss.AuthInfo{}, &dss.Error{StatusCode: http.StatusBadGateway}
		})
		defer m.Close()
		<-time.After(time.Hour)
		places, o := m.answers.places, m.answers.dss.outage
		var others []*turn
		for i := range fewestPlaces {
			others = append(others, newTurn(fmt.Sprint("user ", i)))
			require.NoError(t, places.enter(t.Context(), others[i], nil))
		}
		refused := make(chan int, 8)
		for i := range cap(refused) {
			go func() {
				r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
				r.Header.Set("Cookie", fmt.Sprint("session=", i))
				m.Handler(http.NotFoundHandler()).ServeHTTP(w, r)
				refused <- w.Code
			}()
		}
		synctest.Wait()
		require.Empty(t, refused)
		o.mu.Lock()
		o.down, o.known = true, o.time.now()
		o.mu.Unlock()
		open, latency := places.open, places.latency
		for _, other := range others {
			places.giveBack(other)
		}
		for range cap(refused) {
			assert.Equal(t, 503, <-refused)
		}
		synctest.Wait()
		assert.Equal(t, open, places.open)
		assert.Equal(t, latency, places.latency)
		assert.Zero(t, places.taken)
	})
}

func TestRefuseSharesOurOwnQuestion(t *testing.T) {
	m := newWithOwn(t, nil)
	defer m.Close()
	assert.Same(t, m.answers.dss.outage, m.faults.own)
}

func TestOurOwnWordsNeedNoOthers(t *testing.T) {
	for _, err := range []error{ownWords("the store is out"), errAnonymous} {
		assert.Equal(t, err, unquoted(err))
	}
	assert.NotContains(t, unquoted(errors.New("a secret")).Error(), "secret")
}
