//go:build unix

package rediscache_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dssauth/dssauth/dsstest"
)

var stepsFlag = flag.Int("steps", 0, "random steps of the identity test; 0: 10^5 where CI=true, 20,000 elsewhere")

// size returns the large number in CI, and the small one on a laptop.
func size(ci, laptop int) int {
	if os.Getenv("CI") == "true" {
		return ci
	}
	return laptop
}

// world is a fake DSS that remembers its past: the user of each cookie and the
// groups of each user, with the times. So it can check whether a replica's
// answer was true lately.
type world struct {
	fake     *dsstest.Server
	replicas []*process
	began    time.Time
	ttl      time.Duration
	cookies  []*thing
	users    []*thing

	identified, anonymous, unavailable atomic.Int64
	forgot                             atomic.Int64 // the time of the last Forget

	mu    sync.Mutex
	wrong []error
	took  []time.Duration
}

// thing is a cookie or a user. The value of a cookie is the number of its
// user, or -1 for none. The value of a user is the version of the user's
// groups.
type thing struct {
	name      string
	forgotten []atomic.Int64 // for each replica: the time of the last notice

	mu   sync.Mutex
	past []span // the last one is the present
}

type span struct {
	is           int
	since, until int64
}

// newWorld returns a world with this many users, and five cookies for each.
func newWorld(t *testing.T, users, replicas int, ttl time.Duration) *world {
	w := &world{fake: dsstest.NewServer(t), began: time.Now(), ttl: ttl}
	// DSS is sometimes late, and sometimes fails.
	w.fake.Intercept(lookups, -1, func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		switch rand.N(100) {
		case 0:
			dsstest.Respond(http.StatusBadGateway, "")(rw, r, next)
			return
		case 1:
			<-time.After(rand.N(10 * time.Millisecond))
		}
		next.ServeHTTP(rw, r)
		if rand.N(50) == 0 {
			<-time.After(rand.N(10 * time.Millisecond))
		}
	})
	for i := range users {
		u := &thing{name: fmt.Sprintf("visitor-number-%d", i), forgotten: make([]atomic.Int64, replicas)}
		w.users = append(w.users, u)
		w.setGroups(u)
	}
	for i := range 5 * users {
		c := &thing{name: fmt.Sprintf("cookie-number-%d", i), forgotten: make([]atomic.Int64, replicas)}
		w.cookies = append(w.cookies, c)
		w.signIn(c, rand.N(users+1)-1)
	}
	return w
}

const (
	lookups    = "/auth/info-from-browser-headers"
	cookieName = "session"
)

func (w *world) now() int64 { return int64(time.Since(w.began)) }

// change changes a thing; do makes the change in DSS.
func (w *world) change(c *thing, is func(before int) int, do func(is int)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := len(c.past) - 1
	next := span{is: is(before), since: w.now(), until: math.MaxInt64}
	do(next.is)
	if before >= 0 {
		c.past[before].until = w.now()
	}
	c.past = append(c.past, next)
}

func (w *world) signIn(c *thing, user int) {
	w.change(c, func(int) int { return user }, func(int) {
		if user < 0 {
			w.fake.SignOut(&http.Cookie{Name: cookieName, Value: c.name})
		} else {
			w.fake.AddSession(cookieName, c.name, w.users[user].name)
		}
	})
}

func (w *world) setGroups(u *thing) {
	w.change(u, func(before int) int { return before + 1 }, func(version int) {
		w.fake.AddUser(dsstest.User{Login: u.name, Email: u.name + "@mail", Groups: []string{groupOf(u.name, version)}})
	})
}

func groupOf(login string, version int) string { return fmt.Sprintf("group-%d-of-%s", version, login) }

// was returns the times between from and to at which c had this value.
func (c *thing) was(is int, from, to int64) (spans []span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.past) - 1; i >= 0 && c.past[i].until >= from; i-- {
		if s := c.past[i]; s.is == is && s.since <= to {
			spans = append(spans, span{is, max(s.since, from), min(s.until, to)})
		}
	}
	return spans
}

// check returns the reason why an answer cannot have been true between from and
// to.
func (w *world) check(c *thing, replica, status int, s seen, from, to int64) error {
	what := fmt.Sprintf("%s at replica %d", c.name, replica)
	switch status {
	case http.StatusServiceUnavailable:
		w.unavailable.Add(1)
		return nil // never wrong
	case http.StatusUnauthorized:
		w.anonymous.Add(1)
		if len(c.was(-1, from, to)) == 0 {
			return fmt.Errorf("%s was refused, and was somebody all the time", what)
		}
		return nil
	case http.StatusOK:
	default:
		return fmt.Errorf("%s got status %d", what, status)
	}
	w.identified.Add(1)
	user := slices.IndexFunc(w.users, func(u *thing) bool { return u.name == s.Login })
	if user < 0 || len(s.Groups) != 1 || s.Email != "" && s.Email != s.Login+"@mail" {
		return fmt.Errorf("%s got %+v", what, s)
	}
	var version int
	if _, err := fmt.Sscanf(s.Groups[0], "group-%d", &version); err != nil || s.Groups[0] != groupOf(s.Login, version) {
		return fmt.Errorf("%s got %+v", what, s)
	}
	for _, one := range c.was(user, from, to) {
		if len(w.users[user].was(version, one.since, one.until)) > 0 {
			return nil
		}
	}
	return fmt.Errorf("%s got %+v, which was not true in the last %v", what, s, time.Duration(to-from))
}

// visit asks a replica about c.
func (w *world) visit(c *thing, replica int) error {
	p := w.replicas[replica]
	forgotten := c.forgotten[replica].Load()
	users := make([]int64, len(w.users))
	for i, u := range w.users {
		users[i] = u.forgotten[replica].Load()
	}
	from := w.now()
	began := time.Now()
	status, body, err := p.get("/who", cookieName+"="+c.name)
	took := time.Since(began)
	to := w.now()
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.took = append(w.took, took)
	w.mu.Unlock()
	var s seen
	if status == http.StatusOK {
		if err := json.Unmarshal(body, &s); err != nil {
			return err
		}
	}
	// All replicas have the same clock here, which may be corrected by a
	// little. No lookup takes longer than TTL.
	oldest := max(from-int64(w.ttl+50*time.Millisecond), forgotten)
	for i, u := range w.users {
		if u.name == s.Login {
			oldest = max(oldest, users[i])
		}
	}
	return w.check(c, replica, status, s, oldest, to)
}

// step does one random action, and returns an error if the result is wrong.
func (w *world) step() error {
	c, u := w.cookies[rand.N(len(w.cookies))], rand.N(len(w.users))
	replica := rand.N(len(w.replicas))
	p := w.replicas[replica]
	switch dice := rand.N(1000); {
	case dice < 1:
		w.signIn(c, -1)
	case dice < 15:
		w.signIn(c, u)
	case dice < 25:
		w.setGroups(w.users[u])
	case dice < 45 && !w.mayForget():
	case dice < 30: // signs out at a replica
		at := w.now()
		w.signIn(c, -1)
		return w.forget(p, &c.forgotten[replica], at, "/forget", cookieName+"="+c.name)
	case dice < 37:
		return w.forget(p, &c.forgotten[replica], w.now(), "/forget", cookieName+"="+c.name)
	case dice < 45:
		at := w.now()
		w.setGroups(w.users[u])
		return w.forget(p, &w.users[u].forgotten[replica], at, "/forget-user?login="+w.users[u].name, "")
	case dice < 60:
		status, body, err := p.get("/who", fmt.Sprintf("%s=%s-%d", cookieName, c.name, rand.N(1000)))
		if err == nil && status != http.StatusUnauthorized && status != http.StatusServiceUnavailable {
			err = fmt.Errorf("a stranger got status %d: %s", status, body)
		}
		return err
	default:
		return w.visit(c, replica)
	}
	return nil
}

// mayForget is rarely true: for two seconds after a Forget, replicas share
// nothing about the visitor.
func (w *world) mayForget() bool {
	last := w.forgot.Load()
	return w.now()-last > int64(max(300*time.Millisecond, w.ttl/2)) && w.forgot.CompareAndSwap(last, w.now())
}

func (w *world) forget(p *process, at *atomic.Int64, now int64, path, cookie string) error {
	status, _, err := p.get(path, cookie)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: status %d", path, status)
	}
	for last := at.Load(); now > last && !at.CompareAndSwap(last, now); last = at.Load() {
	}
	return err
}

// run lets many visitors do steps at once while more returns true.
func (w *world) run(visitors int, more func() bool) (wrong []error) {
	var all sync.WaitGroup
	for range visitors {
		all.Go(func() {
			for more() {
				if err := w.step(); err != nil {
					w.mu.Lock()
					w.wrong = append(w.wrong, err)
					w.mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	return w.wrong
}

// steps returns a function that returns true this many times, and false once a
// result is wrong.
func (w *world) steps(n int) func() bool {
	var left atomic.Int64
	left.Store(int64(n))
	return func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return left.Add(-1) >= 0 && len(w.wrong) == 0
	}
}

// mix makes DSS answer one in this many lookups with another cookie's identity.
func (w *world) mix(one int) {
	w.fake.Intercept(lookups, -1, nil)
	w.fake.Intercept(lookups, -1, func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		if rand.N(one) == 0 {
			text, _ := io.ReadAll(r.Body)
			body := string(text)
			for _, c := range w.cookies {
				if quoted := cookieName + "=" + c.name + `"`; strings.Contains(body, quoted) {
					other := w.cookies[rand.N(len(w.cookies))]
					body = strings.Replace(body, quoted, cookieName+"="+other.name+`"`, 1)
					break
				}
			}
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		}
		next.ServeHTTP(rw, r)
	})
}

// latencies returns the median, the 99th percentile and the maximum of the
// times of visits since its last call.
func (w *world) latencies() string {
	w.mu.Lock()
	took := w.took
	w.took = nil
	w.mu.Unlock()
	return percentiles(took)
}

func percentiles(took []time.Duration) string {
	if len(took) == 0 {
		return "nothing was measured"
	}
	slices.Sort(took)
	at := func(p float64) time.Duration {
		return took[int(float64(len(took)-1)*p)].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("median %v, p99 %v, longest %v", at(0.5), at(0.99), at(1))
}
