package dssauth

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// numbered is a key that differs from others in its last bytes only.
func numbered(n int) key { return key{0, uint64(n)} }

// answer is DSS's answer for the bytes of k, asked for at some time.
func answer(k key, login string, asked time.Duration) *entry {
	e := &entry{
		node:     node{key: k},
		period:   period{asked: int64(asked), expires: int64(asked + time.Minute)},
		identity: NewIdentity(login),
	}
	e.touched.Store(int64(asked))
	e.aliased.Store(-int64(time.Hour))
	return e
}

// owned is a cache with an owner, who serialises writing to it.
type owned struct {
	*cache
	by *answers
}

func newOwned(maxEntries, maxPerUser int) owned {
	c := newCache(maxEntries, maxPerUser)
	return owned{c, &answers{cache: c}}
}

func (c owned) addAlias(raw key, e *entry, now int64) { c.by.addAlias(raw, e, now) }

func (c owned) putLocked(e *entry) *entry {
	c.by.mu.Lock()
	defer c.by.mu.Unlock()
	c.put(e)
	return e
}

// sound checks that table, order and index have the same entries.
func sound(t testing.TB, c owned, maxEntries int) {
	t.Helper()
	c.by.mu.Lock()
	defer c.by.mu.Unlock()
	require.LessOrEqual(t, c.order.Len(), maxEntries)

	inTable := map[*entry]int{}
	for i := range c.buckets {
		for n := c.buckets[i].Load(); n != nil; n = n.next.Load() {
			require.Same(t, &c.buckets[i], c.bucket(n.key), "a node is in another key's bucket")
			require.True(t, c.order.Contains(n.entry), "an answer that was removed can be found")
			require.True(t, n == &n.entry.node || n == n.entry.alias, "a node that its answer does not know")
			inTable[n.entry]++
		}
	}
	byUser := 0
	for owner, e := range c.byUser {
		require.NotNil(t, e, "a user without answers is in the index")
		held := 0
		for ; e != nil; e = e.sibling {
			require.Equal(t, owner, e.identity.owner(), "an answer is with another user's")
			require.True(t, c.order.Contains(e), "an answer that was removed is in the index")
			held++
		}
		require.LessOrEqual(t, held, c.maxPerUser)
		byUser += held
	}
	require.Equal(t, c.order.Len(), byUser)
	for _, e := range c.order.Keys() {
		want := 1
		if e.alias != nil {
			want = 2
		}
		require.Equal(t, want, inTable[e], "an answer cannot be found")
	}
}

func TestCacheHoldsMaxEntries(t *testing.T) {
	c := newOwned(10, 5)
	for i := range 9 {
		c.putLocked(answer(numbered(i), fmt.Sprint("user", i), 0))
	}
	assert.Equal(t, 9, c.order.Len(), "below the bound")
	c.putLocked(answer(numbered(9), "user9", 0))
	assert.Equal(t, 10, c.order.Len(), "at the bound")
	assert.Zero(t, c.evictions, "evicted although there was room")
	assert.NotNil(t, c.find(numbered(0)))

	c.putLocked(answer(numbered(10), "user10", 0))
	assert.Equal(t, 10, c.order.Len(), "above the bound")
	assert.EqualValues(t, 1, c.evictions)
	assert.Nil(t, c.find(numbered(0)), "not the least recently used went")
	assert.NotNil(t, c.find(numbered(10)))
	sound(t, c, 10)
}

func TestCacheKeepsWhatIsUsed(t *testing.T) {
	c := newOwned(3, 5)
	a := c.putLocked(answer(numbered(1), "ann", 0))
	c.putLocked(answer(numbered(2), "bob", 0))
	c.putLocked(answer(numbered(3), "cat", 0))
	a.touch(int64(2 * time.Second))
	c.putLocked(answer(numbered(4), "dan", 3*time.Second))
	assert.NotNil(t, c.find(numbered(1)), "ann's answer was just used")
	assert.Nil(t, c.find(numbered(2)), "bob's was used before all others")
	sound(t, c, 3)
}

func TestReadsReorderOnceASecondAtMost(t *testing.T) {
	c := newOwned(2, 5)
	a := c.putLocked(answer(numbered(1), "ann", 0))
	c.putLocked(answer(numbered(2), "bob", 0))
	a.touch(int64(time.Second))
	assert.Zero(t, a.touched.Load())
	a.touch(int64(time.Second) + 1)
	assert.EqualValues(t, time.Second+1, a.touched.Load())
}

func TestUserEvictsOnlyOwnAnswers(t *testing.T) {
	c := newOwned(100, 3)
	c.putLocked(answer(numbered(0), "bob", 0))
	for i := range 3 {
		c.putLocked(answer(numbered(1+i), "ann", time.Duration(1+i)*time.Second))
	}
	assert.Zero(t, c.evictions, "at the bound")
	for i := range 100 {
		c.putLocked(answer(numbered(4+i), "ann", 5*time.Second))
		assert.NotNil(t, c.find(numbered(4+i)), "the answer itself")
		assert.Equal(t, 4, c.order.Len())
		assert.EqualValues(t, 1+i, c.evictions)
	}
	assert.NotNil(t, c.find(numbered(0)), "ann evicted bob")
	sound(t, c, 100)
}

// A user's entries never exceed the bound. This is the choice of the entry that
// makes room.
func TestUsersLeastUsefulAnswerIsEvicted(t *testing.T) {
	const minute = time.Minute
	for name, test := range map[string]struct {
		asked, touched [4]time.Duration // of answers 0 to 3; they end a minute after asked
		evicted        []int            // one of these
	}{
		"one that has ended, before all others": {
			[4]time.Duration{100, 100, 50 - minute, 100}, [4]time.Duration{200, 200, 200, 200}, []int{2}},
		"of those that have ended, the least recently used": {
			[4]time.Duration{40 - minute, 50 - minute, 30 - minute, 100}, [4]time.Duration{60, 55, 57, 100}, []int{1}},
		"one that did not come back, though it was asked for last": {
			[4]time.Duration{10, 20, 30, 100}, [4]time.Duration{11, 21, 31, 100}, []int{3}},
		"any that did not come back": {
			[4]time.Duration{10, 20, 30, 40}, [4]time.Duration{10, 21, 30, 40}, []int{0, 2, 3}},
		"of those that came back, the least recently used": {
			[4]time.Duration{10, 20, 30, 40}, [4]time.Duration{90, 91, 80, 92}, []int{2}},
		"of those last used at one moment, the oldest": {
			[4]time.Duration{10, 10, 10, 10}, [4]time.Duration{90, 90, 90, 90}, []int{0}},
	} {
		t.Run(name, func(t *testing.T) {
			evicted := map[int]int{}
			for range 1000 {
				c := newOwned(100, 4)
				for i := range 4 {
					e := answer(numbered(i), "ann", test.asked[i])
					e.touched.Store(int64(test.touched[i]))
					c.putLocked(e)
				}
				c.putLocked(answer(numbered(9), "ann", 100))
				for i := range 4 {
					if c.find(numbered(i)) == nil {
						evicted[i]++
					}
				}
			}
			assert.ElementsMatch(t, test.evicted, slices.Collect(maps.Keys(evicted)), "%v", evicted)
		})
	}
}

// Most often the newest of those that did not come back is evicted. So the
// answers of most browsers that take turns are still there in the next round.
func TestNewestIsEvictedMostOften(t *testing.T) {
	gone := 0
	for range 1000 {
		c := newOwned(100, 32)
		for i := range 33 {
			c.putLocked(answer(numbered(i), "ann", 0))
		}
		if c.find(numbered(31)) == nil {
			gone++
		}
	}
	assert.Greater(t, gone, 900) // 969 by chance
	assert.Less(t, gone, 1000)
}

func TestRefreshedAnswerIsNotEvictedByJunk(t *testing.T) {
	c := newOwned(100, 3)
	for i := range 3 {
		c.putLocked(answer(numbered(i), "ann", 0))
	}
	c.putLocked(answer(numbered(1), "ann", time.Second)) // a refresh
	for i := range 100 {
		c.putLocked(answer(numbered(10+i), "ann", 2*time.Second))
		require.NotNil(t, c.find(numbered(1)), "after %d others", i+1)
	}
}

func TestAPIKeyAndUserOfOneNameAreApart(t *testing.T) {
	c := newOwned(100, 1)
	e := answer(numbered(1), "", 0)
	e.identity.APIKeyID = "ann"
	c.putLocked(e)
	c.putLocked(answer(numbered(2), "ann", 0))
	assert.NotNil(t, c.find(numbered(1)), "the user ann evicted the API key ann")
	c.by.mu.Lock()
	c.dropUser("ann")
	c.by.mu.Unlock()
	assert.NotNil(t, c.find(numbered(1)), "the user ann and the API key ann were confused")
	sound(t, c, 100)
}

func TestNewerAnswerReplacesOlder(t *testing.T) {
	c := newOwned(10, 1)
	old := c.putLocked(answer(numbered(1), "ann", 0))
	c.addAlias(numbered(100), old, 0)
	fresh := c.putLocked(answer(numbered(1), "bob", time.Second))
	assert.Same(t, fresh, c.find(numbered(1)))
	assert.Nil(t, c.find(numbered(100)), "the older answer can still be found")
	assert.Equal(t, 1, c.order.Len())
	assert.Zero(t, c.evictions, "a replaced answer does not count as evicted")
	assert.NotContains(t, c.byUser, "ann")
	sound(t, c, 10)

	c.putLocked(answer(numbered(1), "eve", 0))
	assert.Same(t, fresh, c.find(numbered(1)), "an answer asked for earlier came later, and won")
	sound(t, c, 10)
}

func TestAnswerEndsRefusal(t *testing.T) {
	c := newOwned(10, 5)
	c.refusals.Add(numbered(1), int64(time.Minute))
	c.refusals.Add(numbered(2), int64(time.Minute))
	c.putLocked(answer(numbered(1), "ann", 0))
	assert.False(t, c.refusals.Contains(numbered(1)))
	assert.True(t, c.refusals.Contains(numbered(2)))
}

// ofSize is DSS's answer with this many bytes in one group.
func ofSize(k key, bytes int, asked time.Duration) *entry {
	e := answer(k, "ann", asked)
	e.identity.groups = makeGroups([]string{strings.Repeat("g", bytes-len("ann")-16)})
	return e
}

func TestAnswersAreRememberedUpToASize(t *testing.T) {
	c := newOwned(10, 5)
	c.putLocked(ofSize(numbered(1), maxAnswerBytes-1, 0))
	c.putLocked(ofSize(numbered(2), maxAnswerBytes, 0))
	c.putLocked(ofSize(numbered(3), maxAnswerBytes+1, 0))
	assert.NotNil(t, c.find(numbered(1)), "below the bound")
	assert.NotNil(t, c.find(numbered(2)), "at the bound")
	assert.Nil(t, c.find(numbered(3)), "above the bound")
	assert.Zero(t, c.evictions)
	sound(t, c, 10)

	long := strings.Repeat("x", maxAnswerBytes)
	for name, id := range map[string]Identity{
		"the login":           {Login: long},
		"the profile":         {Login: "ann", Profile: long},
		"the source":          {Login: "ann", Source: long},
		"the key's id":        {APIKeyID: long + "x"},
		"the display name":    {Login: "ann", DisplayName: long},
		"the e-mail address":  {Login: "ann", Email: long},
		"all of them":         {Login: "ann", Profile: long[:maxAnswerBytes/2], DisplayName: long[:maxAnswerBytes/2]},
		"many groups":         NewIdentity("ann", slices.Repeat([]string{"g"}, maxAnswerBytes/17)...),
		"many without a name": NewIdentity("ann", make([]string, maxAnswerBytes/16)...),
	} {
		e := answer(numbered(4), "", 0)
		e.identity = id
		c.putLocked(e)
		assert.Equal(t, name == "the login", c.find(numbered(4)) != nil, name)
	}
}

func TestTooLargeAnswerEndsOlderOne(t *testing.T) {
	c := newOwned(10, 5)
	old := c.putLocked(ofSize(numbered(1), 100, time.Second))
	c.addAlias(numbered(100), old, 0)
	c.putLocked(ofSize(numbered(1), maxAnswerBytes+1, 0))
	assert.Same(t, old, c.find(numbered(1)), "one that was asked for before does not")
	c.putLocked(ofSize(numbered(1), maxAnswerBytes+1, 2*time.Second))
	assert.Nil(t, c.find(numbered(1)))
	assert.Nil(t, c.find(numbered(100)))
	assert.Zero(t, c.order.Len())
	sound(t, c, 10)
}

func TestRefusalsAreBoundedAndApart(t *testing.T) {
	c := newOwned(10, 5)
	for i := range 10 {
		c.putLocked(answer(numbered(i), fmt.Sprint("user", i), 0))
	}
	for i := range 1000 {
		c.refusals.Add(numbered(1000+i), int64(time.Minute))
	}
	assert.Equal(t, 10, c.refusals.Len())
	assert.Equal(t, 10, c.order.Len(), "junk evicted a user")
}

func TestDropRemovesOlderAnswersOnly(t *testing.T) {
	c := newOwned(10, 5)
	c.putLocked(answer(numbered(1), "ann", 2*time.Second))
	c.by.mu.Lock()
	c.drop(numbered(1), int64(time.Second))
	c.by.mu.Unlock()
	assert.NotNil(t, c.find(numbered(1)), "a newer answer was dropped")
	c.by.mu.Lock()
	c.drop(numbered(1), int64(3*time.Second))
	c.drop(numbered(2), int64(3*time.Second)) // not there
	c.by.mu.Unlock()
	assert.Nil(t, c.find(numbered(1)))
	sound(t, c, 10)
}

func TestAlias(t *testing.T) {
	c := newOwned(10, 5)
	e := c.putLocked(answer(numbered(1), "ann", 0))
	second := int64(time.Second)

	c.addAlias(numbered(1), e, 0)
	assert.Nil(t, e.alias, "the key itself needs no alias")

	c.addAlias(numbered(100), e, 0)
	assert.Same(t, &e.first, e.alias, "the first alias takes memory of its own")
	assert.Same(t, e, c.find(numbered(100)))
	assert.Same(t, e, c.find(numbered(1)))

	c.addAlias(numbered(101), e, second-1)
	assert.Nil(t, c.find(numbered(101)), "a second alias within a second")
	assert.Same(t, e, c.find(numbered(100)))

	c.addAlias(numbered(101), e, second)
	assert.NotSame(t, &e.first, e.alias, "a reader may stand on the first")
	assert.Same(t, e, c.find(numbered(101)))
	assert.Nil(t, c.find(numbered(100)), "an answer with two aliases: they would pile up")
	sound(t, c, 10)

	c.by.mu.Lock()
	c.drop(numbered(1), second)
	c.by.mu.Unlock()
	assert.Nil(t, c.find(numbered(101)), "the alias outlived its answer")
	sound(t, c, 10)

	c.addAlias(numbered(102), e, 5*second)
	assert.Nil(t, c.find(numbered(102)), "an alias for an answer that was removed")
	sound(t, c, 10)
}

func TestRemovalFromAUsersAnswers(t *testing.T) {
	for count := 1; count <= 4; count++ {
		for removed := range count {
			t.Run(fmt.Sprintf("number %d of %d", removed+1, count), func(t *testing.T) {
				c := newOwned(10, 5)
				for i := range count {
					c.putLocked(answer(numbered(i), "ann", 0))
				}
				c.by.mu.Lock()
				c.drop(numbered(removed), 0)
				c.by.mu.Unlock()
				for i := range count {
					assert.Equal(t, i != removed, c.find(numbered(i)) != nil, "answer %d", i)
				}
				sound(t, c, 10)

				c.by.mu.Lock()
				c.dropUser("ann")
				c.by.mu.Unlock()
				assert.Zero(t, c.order.Len())
				assert.Empty(t, c.byUser)
				sound(t, c, 10)
			})
		}
	}
}

func TestClosedCacheIsEmpty(t *testing.T) {
	c := newOwned(10, 5)
	e := c.putLocked(answer(numbered(1), "ann", 0))
	c.addAlias(numbered(100), e, 0)
	c.refusals.Add(numbered(2), int64(time.Minute))
	c.purge()
	assert.Nil(t, c.find(numbered(1)))
	assert.Nil(t, c.find(numbered(100)))
	assert.Empty(t, c.byUser)
	assert.Zero(t, c.refusals.Len())
	sound(t, c, 10)
}

// If raw bits of a key chose its place, an observer of places would learn
// something about the key's secret.
func TestPlacesTellNothingAboutKeys(t *testing.T) {
	one, two := newCache(1024, 8), newCache(1024, 8)
	place := func(c *cache, k key) uint64 { return c.spread(k) & 1023 }
	const n = 4096
	same, places := 0, map[uint64]bool{}
	for range n {
		k := key{rand.Uint64() << 32, 7} // all low bits are equal
		if place(one, k) == place(two, k) {
			same++
		}
		places[place(one, k)] = true
	}
	// By chance: 4, and about 1,005.
	assert.Less(t, same, 64, "two caches place keys alike")
	assert.Greater(t, len(places), 900, "keys with equal low bits crowd")
	places = map[uint64]bool{}
	for range n {
		places[place(one, key{7, rand.Uint64() >> 32})] = true
	}
	assert.Greater(t, len(places), 900, "keys with equal high bits crowd")
}

func TestCacheStaysSoundUnderRandomCalls(t *testing.T) {
	const maxEntries, users, keys = 20, 6, 40
	c := newOwned(maxEntries, 4)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for now := range int64(20_000) {
		k := numbered(r.IntN(keys))
		switch at := now * int64(time.Second) / 10; r.IntN(10) {
		case 0:
			c.by.mu.Lock()
			c.drop(k, at)
			c.by.mu.Unlock()
		case 1:
			c.by.mu.Lock()
			c.dropUser(fmt.Sprint("user", r.IntN(users)))
			c.by.mu.Unlock()
		case 2, 3, 4:
			if e := c.find(k); e != nil {
				c.addAlias(numbered(1000+r.IntN(keys)*keys+r.IntN(keys)), e, at)
			}
		case 5:
			if e := c.find(k); e != nil {
				e.touch(at)
			}
		default:
			late := time.Duration(r.IntN(3)) * time.Second
			c.putLocked(answer(k, fmt.Sprint("user", r.IntN(users)), time.Duration(at)-late))
		}
		if now%10 == 0 {
			sound(t, c, maxEntries)
		}
	}
}

// Readers take no lock, while others put, replace, alias and remove. Each entry
// that a reader finds is an answer to the key that it looked for.
func TestReadersNeedNoLock(t *testing.T) {
	const keys, rounds = 64, 3000
	c := newOwned(32, 8)
	login := func(n int) string { return fmt.Sprint("user", n%10) }
	var writers, readers sync.WaitGroup
	var done atomic.Bool
	var found atomic.Int64
	for range 4 {
		writers.Go(func() {
			for i := range rounds {
				n := rand.IntN(keys)
				e := c.putLocked(answer(numbered(n), login(n), time.Duration(i)*time.Second))
				c.addAlias(numbered(1000+n), e, int64(i)*int64(time.Second))
				if i%3 == 0 {
					c.by.mu.Lock()
					c.drop(numbered(rand.IntN(keys)), int64(time.Hour))
					c.by.mu.Unlock()
				}
			}
		})
	}
	for range 4 {
		readers.Go(func() {
			for !done.Load() {
				n := rand.IntN(keys)
				for _, k := range []key{numbered(n), numbered(1000 + n)} {
					e := c.find(k)
					if e == nil {
						continue
					}
					found.Add(1)
					if e.key != numbered(n) || e.identity.Login != login(n) {
						t.Errorf("looked for %v of %s and found %v of %s", n, login(n), e.key, e.identity.Login)
						return
					}
					e.touch(int64(time.Hour) + rand.Int64N(int64(time.Hour)))
				}
			}
		})
	}
	writers.Wait()
	done.Store(true)
	readers.Wait()
	assert.NotZero(t, found.Load())
	sound(t, c, 32)
}

// Memory is given in sizes: this one, and then 320, 352 and 384 bytes.
func TestEntryIsSmall(t *testing.T) {
	assert.LessOrEqual(t, unsafe.Sizeof(entry{}), uintptr(288), "a field of Identity takes its size in each entry. "+
		"Raise this limit to the next of the sizes above, and measure anew: cd bench && go run ./cmd/memory")
}

func TestForgottenBelowTheFloor(t *testing.T) {
	f := newForgotten(int64(time.Minute))
	f.floor = 10
	assert.Equal(t, int64(10), f.since(1, 9))
	assert.Zero(t, f.since(1, 10))
}
