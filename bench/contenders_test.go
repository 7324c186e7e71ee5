package bench_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/bench"
)

const users = 20

func start(t *testing.T) (*bench.DSS, []*bench.Contender) {
	d, err := bench.StartDSS(users)
	require.NoError(t, err)
	t.Cleanup(d.Close)
	contenders, err := bench.NewContenders(d, users)
	require.NoError(t, err)
	for _, c := range contenders {
		t.Cleanup(c.Close)
	}
	return d, contenders
}

// A middleware that refuses everybody would be fast.
func TestRefusedRequests(t *testing.T) {
	_, contenders := start(t)
	for _, c := range contenders {
		if strings.HasPrefix(c.Name, bench.Floor) {
			continue // it admits everybody
		}
		t.Run(c.Name, func(t *testing.T) {
			h := c.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler was reached") }))
			for what, credential := range map[string]bench.Credential{
				"no such cookie": func(int) string { return "other=1" },
				"an empty value": func(user int) string { return cookieName(c.Credential(user)) + "=" },
				"a changed byte": func(user int) string { return change(c.Credential(user)) },
			} {
				for range 2 { // a refusal may be cached, but not as an admission
					w := httptest.NewRecorder()
					h.ServeHTTP(w, bench.Request(credential, 3, 400))
					assert.Contains(t, []int{http.StatusUnauthorized, http.StatusBadRequest}, w.Code, what)
				}
			}
		})
	}
}

func cookieName(credential string) string {
	name, _, _ := strings.Cut(credential, "=")
	return name
}

// change changes a byte near the end, where a JWT has its signature.
func change(credential string) string {
	at := len(credential) - 5
	other := byte('A')
	if credential[at] == other {
		other = 'B'
	}
	return credential[:at] + string(other) + credential[at+1:]
}

func TestAdmittedRequests(t *testing.T) {
	_, contenders := start(t)
	for _, c := range contenders {
		if strings.HasPrefix(c.Name, bench.Floor) {
			continue // it never knows a user
		}
		t.Run(c.Name, func(t *testing.T) {
			require.NoError(t, c.Fill(bench.Users{Count: users}, 350))
			for user := range users {
				login := ""
				h := c.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { login = c.Login(r.Context()) }))
				h.ServeHTTP(httptest.NewRecorder(), bench.Request(c.Credential, user, 350))
				assert.Equal(t, bench.Login(user), login)
			}
		})
	}
}

// After Fill, DSS is not asked again: so the figures are about hits only.
func TestHitsAreHits(t *testing.T) {
	d, contenders := start(t)
	for _, c := range contenders {
		if !c.Remembers() {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			before := d.Lookups()
			require.NoError(t, c.Fill(bench.Users{Count: users}, 350))
			assert.Equal(t, users, d.Lookups()-before, "lookups of the first requests")
			r := bench.Measure(c.Wrap, bench.NewTraffic(c.Credential, bench.Users{Count: users}, 350), 2, time.Millisecond)
			assert.Positive(t, r.Requests)
			assert.Zero(t, r.Lost)
			assert.Equal(t, users, d.Lookups()-before, "lookups after that")
		})
	}
}

func TestTraffic(t *testing.T) {
	_, contenders := start(t)
	for _, c := range contenders {
		for _, size := range []int{350, 1536} {
			for user := range users {
				r := bench.Request(c.Credential, user, size)
				require.Len(t, r.Header["Cookie"], 1)
				assert.Len(t, r.Header["Cookie"][0], size)
				cookies := 8
				if c.Name == bench.OursChanging {
					cookies++ // the load balancer's
				}
				assert.Len(t, r.Cookies(), cookies, "cookies of %s at %d bytes", c.Name, size)
			}
		}
	}
	for _, size := range []int{100, 16 << 10} {
		assert.Len(t, bench.Request(bench.Session, 1, size).Header["Cookie"][0], size)
	}
	seen := map[string]bool{}
	for user := range 10_000 {
		seen[bench.Request(bench.Session, user, 350).Header["Cookie"][0]] = true
	}
	assert.Len(t, seen, 10_000, "every user has cookies of their own")
}

func TestMeasureSeesRefusals(t *testing.T) {
	refuse := func(http.Handler) http.Handler { return http.NotFoundHandler() }
	r := bench.Measure(refuse, bench.NewTraffic(bench.Session, bench.Hot, 350), 1, time.Millisecond)
	assert.Equal(t, r.Requests, r.Lost)
}

func TestSample(t *testing.T) {
	s := bench.Sample{4, 1, 3, 2}
	assert.Equal(t, 2.5, s.Median())
	assert.Equal(t, 1.75, s.Quantile(0.25))
	assert.Equal(t, bench.Sample{2, 1}, bench.Sample{4, 1}.Ratio(bench.Sample{2, 1}), "round by round, not by rank")
	assert.Equal(t, "2.50 [1.75–3.25]", s.Spread())
}

func TestTargets(t *testing.T) {
	for _, test := range []struct {
		target bench.Target
		met    bool
		says   string
	}{
		{bench.Target{AtMost: true, Bound: 2, Reached: 2.5}, false, "MISS by 25%"},
		{bench.Target{Bound: 4, Reached: 3}, false, "MISS by 25%"},
		{bench.Target{AtMost: true, Bound: 2, Reached: 2}, true, "PASS"},
		{bench.Target{Bound: 4, Reached: 4}, true, "PASS"},
	} {
		assert.Equal(t, test.met, test.target.Met())
		assert.Contains(t, test.target.String(), test.says)
	}
}
