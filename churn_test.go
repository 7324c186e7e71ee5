package dssauth

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The remembered data is bounded, for anything that users send.
func TestChurnRemembersLittle(t *testing.T) {
	const limit = 8
	c := newChurn(limit)
	var told, users, names, parts, values int
	var longest int64
	for i := range 4000 {
		h := http.Header{"Authorization": {fmt.Sprint("Negotiate ", i)}}
		for j := range 40 {
			h.Add("Cookie", fmt.Sprintf("c%d=%d; n%d=1", j, i, i))
		}
		now := int64(i) * int64(time.Second)
		if changing := c.watch(fmt.Sprint("user", i/40%30), h, 1, true, now); changing != nil {
			told++
		}
		users, names = max(users, len(c.users)), max(names, len(c.told))
		for _, w := range c.users {
			parts, longest = max(parts, len(w.parts)), max(longest, now-w.began)
			for _, p := range w.parts {
				values = max(values, len(p.seen))
			}
		}
	}
	assert.LessOrEqual(t, users, maxWatched)
	assert.LessOrEqual(t, names, maxTold+maxParts)
	assert.LessOrEqual(t, parts, maxParts+2, "with two headers")
	assert.LessOrEqual(t, values, 2*limit)
	assert.LessOrEqual(t, longest, int64(time.Hour))
	assert.NotZero(t, told)
	assert.LessOrEqual(t, told, 4000/60+1, "once a minute at most")
}

// More users churn at once than are watched: some are watched to the end.
func TestChurnOfManyUsersIsSeen(t *testing.T) {
	c := newChurn(8)
	var changing []string
	for i := range 16 {
		for user := range 1000 {
			h := http.Header{"Cookie": {"session=a"}, "Authorization": {fmt.Sprint("Negotiate ", user, i)}}
			if i > 0 {
				changing = append(changing, c.watch(fmt.Sprint("user", user), h, 1, true, 0)...)
			}
		}
	}
	assert.Equal(t, []string{"Authorization"}, changing)
}

// Users who stay away do not keep others from being watched, even if there are
// many.
func TestChurnForgetsIdleUsers(t *testing.T) {
	for _, away := range []int{1, maxWatched - 1, maxWatched, 100} {
		for _, pause := range []time.Duration{0, 2 * time.Minute} {
			c := newChurn(8)
			visit := func(user string, i int, now time.Duration) []string {
				return c.watch(user, http.Header{"Cookie": {fmt.Sprintf("session=a; trace=%s-%d", user, i)}}, 1, true, int64(now))
			}
			for user := range away {
				for i := range 14 {
					require.Empty(t, visit(fmt.Sprint("user", user), i, 0))
				}
			}
			var changing []string
			for i := range 15 {
				require.Empty(t, changing)
				changing = visit("bob", i, pause)
			}
			assert.Equal(t, []string{"trace"}, changing, "%d others", away)
		}
	}
}

// A user is watched for an hour: a cookie that changes more seldom costs
// little.
func TestChurnWithinAnHour(t *testing.T) {
	for _, test := range []struct {
		pace  time.Duration
		named bool
	}{{time.Second, true}, {4 * time.Minute, true}, {5 * time.Minute, false}, {time.Hour, false}} {
		c := newChurn(8)
		var changing []string
		for i := range 100 {
			h := http.Header{"Cookie": {fmt.Sprintf("session=a; trace=%d", i)}}
			changing = append(changing, c.watch("ann", h, 1, true, int64(i)*int64(test.pace))...)
		}
		assert.Equal(t, test.named, len(changing) > 0, "%s", test.pace)
	}
}

func TestValueThatReturnsOftenCountsOnce(t *testing.T) {
	w := &watched{parts: map[string]*piece{}}
	for range 10 {
		w.see("cookie", 1, 20)
	}
	assert.Equal(t, 1, w.parts["cookie"].cameBack)
}
