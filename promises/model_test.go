package promises

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
)

var (
	stepsFlag = flag.Int("steps", 0, "random steps of the identity test; 0: 10^6 where CI=true, 10^5 elsewhere, fewer with -short")
)

func manySteps() int {
	switch {
	case *stepsFlag > 0:
		return *stepsFlag
	case testing.Short():
		return 20_000
	case os.Getenv("CI") == "true":
		return 1_000_000
	}
	return 100_000
}

const (
	// modelTimeout bounds lookups. A waiting request may get an answer of that age, and
	// a second more: see flights that ignore their deadline.
	modelTimeout = 200 * time.Millisecond
	modelTTL     = modelTimeout + time.Second
)

// model is a DSS that remembers its past: the users of each credential, and their
// times. So it knows whether an answer was true lately.
type model struct {
	start       time.Time
	credentials []*credential
	userForgot  [modelUsers]atomic.Int64 // when the user was last forgotten
	plant       plant
	toMix       atomic.Bool // the next lookup gets another credential's identity
	lookups     atomic.Int64
}

const (
	modelUsers       = 40
	modelCredentials = 250
)

// credential is a session cookie or an API key.
type credential struct {
	id        string // also a group of its owner: so its identities are told apart
	header    string
	value     string
	mu        sync.Mutex
	past      []state      // the last is what is now
	forgotten atomic.Int64 // when Forget was last called
}

// state is the owner of a credential: a user with a version of groups, or nobody.
type state struct {
	user         int // -1: nobody
	since, until int64
}

// plant is a deliberate fault. The checker must notice it.
type plant struct {
	mixEvery    int64         // one in this many lookups is answered with another credential's identity; 0: none
	old         time.Duration // answers are that old
	forgetsNone bool          // Forget is not called although the model thinks so
}

func newModel(name string, p plant) *model {
	w := &model{start: time.Now(), plant: p}
	for i := range modelCredentials {
		c := &credential{id: name + "'s credential " + strconv.Itoa(i), header: "Cookie", value: "session=" + strconv.Itoa(i)}
		if i%10 == 0 {
			c.header, c.value = "Authorization", "Bearer "+strconv.Itoa(i)
		}
		c.past = []state{{user: i%(modelUsers+1) - 1, until: math.MaxInt64}}
		w.credentials = append(w.credentials, c)
	}
	return w
}

func (w *model) now() int64 { return int64(time.Since(w.start)) }

func login(user int) string { return "user" + strconv.Itoa(user) }

// change gives c another owner, or the same owner new groups.
func (w *model) change(c *credential, user int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := w.now()
	c.past[len(c.past)-1].until = now
	c.past = append(c.past, state{user: user, since: now, until: math.MaxInt64})
}

// truth is c's owner, with the version.
func (w *model) truth(c *credential) (version int, s state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	version = len(c.past) - 1
	if w.plant.old > 0 {
		for version > 0 && c.past[version].since > w.now()-int64(w.plant.old) {
			version--
		}
	}
	return version, c.past[version]
}

// Resolve answers as DSS would, now and then late or not at all.
func (w *model) Resolve(ctx context.Context, h http.Header) (dssauth.Identity, error) {
	n := w.lookups.Add(1)
	c := w.find(h)
	if c == nil {
		return dssauth.Identity{}, dssauth.ErrUnauthenticated
	}
	if w.plant.mixEvery > 0 && n%w.plant.mixEvery == 0 {
		w.toMix.Store(true)
	}
	if other := w.credentials[rand.N(len(w.credentials))]; other != c && w.toMix.Load() {
		if version, s := w.truth(other); s.user >= 0 && w.toMix.CompareAndSwap(true, false) {
			return dssauth.NewIdentity(login(s.user), other.id, strconv.Itoa(version)), nil
		}
	}
	if rand.N(100) == 0 {
		return dssauth.Identity{}, errBroken
	}
	if rand.N(1000) == 0 {
		panic("now and then")
	}
	late := rand.N(50) == 0
	if late && rand.N(2) == 0 {
		w.linger(ctx)
	}
	version, s := w.truth(c)
	if late {
		w.linger(ctx)
	}
	if s.user < 0 {
		return dssauth.Identity{}, dssauth.ErrUnauthenticated
	}
	return dssauth.NewIdentity(login(s.user), c.id, strconv.Itoa(version)), nil
}

func (w *model) linger(ctx context.Context) {
	select {
	case <-time.After(rand.N(5 * time.Millisecond)):
	case <-ctx.Done():
	}
}

func (w *model) find(h http.Header) *credential {
	name, value := "Authorization", strings.TrimPrefix(h.Get("Authorization"), "Bearer ")
	if value == "" {
		name, value = "Cookie", strings.TrimPrefix(h.Get("Cookie"), "session=")
	}
	if i, err := strconv.Atoi(value); err == nil && i < len(w.credentials) && w.credentials[i].header == name {
		return w.credentials[i]
	}
	return nil
}

// request is one with c, beside cookies that change all the time.
func (w *model) request(c *credential) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set(c.header, c.value)
	if rand.N(3) == 0 {
		stray := "_ga=" + strconv.Itoa(rand.N(4))
		if c.header == "Cookie" {
			stray += "; " + c.value
		}
		r.Header.Set("Cookie", stray)
	}
	if rand.N(20) == 0 {
		r.Header.Set("Accept", "text/html") // a navigation
	}
	return r
}

// sight is the result for a handler or the visitor.
type sight struct {
	status int
	id     dssauth.Identity
}

// visit sends r through m, sometimes twice, and sometimes through a gate that only
// c's identities pass.
func visit(m *dssauth.Middleware, c *credential, r *http.Request) (s sight) {
	h := http.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s.id, _ = dssauth.FromContext(r.Context())
	}))
	if rand.N(3) == 0 {
		h = m.RequireGroup(c.id)(h)
	}
	h = m.Handler(h)
	if rand.N(4) == 0 {
		h = m.Optional(h)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	s.status = w.Code
	return s
}

// check reports why s, seen between from and to, cannot have been true lately. Answers
// from atLeast or earlier had to be forgotten.
func (w *model) check(c *credential, s sight, from, to, atLeast int64, forgot *[modelUsers]int64) error {
	oldest := max(from-int64(modelTTL), atLeast)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s.status {
	case http.StatusServiceUnavailable:
		return nil // always allowed, never wrong
	case http.StatusUnauthorized:
		for i := len(c.past) - 1; i >= 0 && c.past[i].until >= oldest; i-- {
			if c.past[i].user < 0 && c.past[i].since <= to {
				return nil
			}
		}
		return fmt.Errorf("%s was refused, but was somebody all the time", c.id)
	case http.StatusOK:
	default:
		return fmt.Errorf("%s got status %d", c.id, s.status)
	}
	groups := s.id.Groups()
	if len(groups) != 2 || groups[0] != c.id {
		return fmt.Errorf("%s got the identity %q with groups %q", c.id, s.id.Login, groups)
	}
	version, err := strconv.Atoi(groups[1])
	if err != nil || version >= len(c.past) {
		return fmt.Errorf("%s got version %q", c.id, groups[1])
	}
	was := c.past[version]
	switch {
	case was.user < 0 || login(was.user) != s.id.Login:
		return fmt.Errorf("%s got the login %q, not that of its version", c.id, s.id.Login)
	case was.since > to:
		return fmt.Errorf("%s got an identity of the future", c.id)
	case was.until < oldest:
		return fmt.Errorf("%s got an identity that ended %s before its time", c.id, time.Duration(oldest-was.until))
	case was.until < forgot[was.user]:
		return fmt.Errorf("%s got an identity of a user forgotten since", c.id)
	}
	return nil
}

// tally counts the results that visitors saw.
type tally struct{ identified, nobody, unavailable atomic.Int64 }

func (c *tally) add(status int) {
	switch status {
	case http.StatusOK:
		c.identified.Add(1)
	case http.StatusUnauthorized:
		c.nobody.Add(1)
	default:
		c.unavailable.Add(1)
	}
}

// step does one random thing, and reports an error in its result.
func (w *model) step(m *dssauth.Middleware, seen *tally) error {
	c := w.credentials[rand.N(len(w.credentials))]
	switch dice := rand.N(1000); {
	case dice < 5:
		w.change(c, -1) // signs out
	case dice < 15:
		w.change(c, rand.N(modelUsers)) // signs in, or new groups
	case dice < 20:
		at := w.now()
		if !w.plant.forgetsNone {
			m.Forget(w.request(c))
		}
		raise(&c.forgotten, at)
	case dice < 25:
		w.signOut(m, c)
	case dice < 28:
		user, at := rand.N(modelUsers), w.now()
		m.ForgetUser(login(user))
		raise(&w.userForgot[user], at)
	case dice < 100:
		return w.sendJunk(m)
	default:
		return w.send(m, c, dice < 150, seen)
	}
	return nil
}

// signOut forgets c's visitor from a handler, which knows whose other credentials
// are forgotten with it.
func (w *model) signOut(m *dssauth.Middleware, c *credential) {
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		id, ok := dssauth.FromContext(r.Context())
		user, err := strconv.Atoi(strings.TrimPrefix(id.Login, "user"))
		if !ok || err != nil {
			return // send finds it
		}
		at := w.now()
		if !w.plant.forgetsNone {
			m.Forget(r)
		}
		raise(&c.forgotten, at)
		raise(&w.userForgot[user], at)
	})).ServeHTTP(httptest.NewRecorder(), w.request(c))
}

// raise sets v to at, unless it is later already.
func raise(v *atomic.Int64, at int64) {
	for last := v.Load(); at > last && !v.CompareAndSwap(last, at); last = v.Load() {
	}
}

// send sends one request with c and checks what it got.
func (w *model) send(m *dssauth.Middleware, c *credential, cancelled bool, seen *tally) error {
	r := w.request(c)
	if cancelled {
		ctx, cancel := context.WithTimeout(context.Background(), rand.N(time.Millisecond))
		defer cancel()
		r = r.WithContext(ctx)
	}
	var forgot [modelUsers]int64
	for user := range forgot {
		forgot[user] = w.userForgot[user].Load()
	}
	atLeast, from := c.forgotten.Load(), w.now()
	s := visit(m, c, r)
	seen.add(s.status)
	return w.check(c, s, from, w.now(), atLeast, &forgot)
}

// sendJunk sends credentials that nobody ever had. Some differ only a little
// from a user's.
func (w *model) sendJunk(m *dssauth.Middleware) error {
	c := w.credentials[rand.N(len(w.credentials))]
	r := w.request(c)
	switch rand.N(3) {
	case 0:
		r.Header.Set("Cookie", "session="+strconv.Itoa(len(w.credentials)+rand.N(1000)))
		r.Header.Del("Authorization")
	case 1:
		r.Header.Set(c.header, c.value+"x")
	default:
		r.Header.Set(c.header, c.value+"; session="+strconv.Itoa(rand.N(len(w.credentials))))
	}
	if s := visit(m, c, r); s.status != http.StatusUnauthorized && s.status != http.StatusServiceUnavailable {
		return fmt.Errorf("junk got status %d and the identity %q", s.status, s.id.Login)
	}
	return nil
}

// run lets many visitors of two DSS instances do this many random steps, and
// returns the first errors. Both instances know the same cookies, but as other
// users'.
func (p plant) run(t *testing.T, steps int, c dssauth.Config) (wrong []error, seen *tally, lookups int64) {
	const goroutines = 16
	seen = &tally{}
	var worlds []*model
	var auths []*dssauth.Middleware
	for _, name := range []string{"a", "b"} {
		w := newModel(name, p)
		for _, c := range w.credentials { // each instance has its own users
			w.change(c, rand.N(modelUsers+1)-1)
		}
		c.Resolver = w
		worlds, auths = append(worlds, w), append(auths, newAuth(t, c))
	}
	var mu sync.Mutex
	var left atomic.Int64
	left.Store(int64(steps))
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				i := rand.N(len(worlds))
				if err := worlds[i].step(auths[i], seen); err != nil {
					mu.Lock()
					wrong = append(wrong, err)
					mu.Unlock()
					left.Store(0)
				}
			}
		})
	}
	all.Wait()
	for _, w := range worlds {
		lookups += w.lookups.Load()
	}
	return wrong, seen, lookups
}

var modelConfig = dssauth.Config{
	TTL:        modelTTL,
	RefusalTTL: 300 * time.Millisecond,
	Timeout:    modelTimeout,
	// Less than there are visitors, so that answers are evicted.
	MaxEntries: modelCredentials * 3 / 4, MaxEntriesPerUser: 5,
}

// Many visitors of two DSS instances do anything at once. Each gets DSS's answer about
// exactly their credentials from within the last TTL, or is refused. For longer than
// usual:
//
//	go test . -run TestRandomVisitors -steps 100000000 -timeout 0 -v
func TestRandomVisitorsAreNeverTakenForOthers(t *testing.T) {
	steps := manySteps()
	start := time.Now()
	wrong, seen, lookups := plant{}.run(t, steps, modelConfig)
	for _, err := range wrong {
		t.Error(err)
	}
	t.Logf("figure: %d wrong identities in %d random steps (%d identified, %d nobody, %d unavailable, %d lookups, %s)", len(wrong), steps,
		seen.identified.Load(), seen.nobody.Load(), seen.unavailable.Load(), lookups, time.Since(start).Round(time.Second))
	require.Greater(t, seen.identified.Load(), int64(steps/2), "most are known")
	require.Less(t, seen.unavailable.Load(), int64(steps/4), "and few refused without an answer")
}

// The test above can fail: each planted fault is found.
func TestModelFindsPlantedFaults(t *testing.T) {
	everyTime := modelConfig
	everyTime.TTL, everyTime.RefusalTTL = -1, -1
	for _, test := range []struct {
		name   string
		plant  plant
		config dssauth.Config
	}{
		{"a lookup in ten thousand brings another's identity", plant{mixEvery: 10_000}, everyTime},
		{"answers are too old", plant{old: 2 * modelTTL}, everyTime},
		{"Forget does nothing", plant{forgetsNone: true}, modelConfig},
	} {
		t.Run(test.name, func(t *testing.T) {
			wrong, _, lookups := test.plant.run(t, 100_000, test.config)
			require.NotEmpty(t, wrong, "in %d lookups", lookups)
			t.Logf("found: %v", wrong[0])
		})
	}
}

func TestModelRejectsWrongAnswers(t *testing.T) {
	const at = int64(10 * modelTTL)
	w := newModel("a", plant{})
	c := w.credentials[1]
	c.past = []state{
		{user: 1, since: 0, until: at - int64(modelTTL) - 1},
		{user: -1, since: at - int64(modelTTL) - 1, until: at - 10},
		{user: 2, since: at - 10, until: math.MaxInt64},
	}
	saw := func(user, version int) sight {
		return sight{http.StatusOK, dssauth.NewIdentity(login(user), c.id, strconv.Itoa(version))}
	}
	refused := sight{status: http.StatusUnauthorized}
	wrong := errors.New("wrong")
	for _, test := range []struct {
		name    string
		sight   sight
		forgot  int64 // when Forget was called
		forgot2 int64 // when ForgetUser was, for user 2
		want    error
	}{
		{"what ended more than a TTL ago", saw(1, 0), 0, 0, wrong},
		{"another user", saw(3, 2), 0, 0, wrong},
		{"the version of a nobody", saw(2, 1), 0, 0, wrong},
		{"a version that never was", saw(2, 3), 0, 0, wrong},
		{"another credential", sight{http.StatusOK, dssauth.NewIdentity(login(2), "a's credential 2", "2")}, 0, 0, wrong},
		{"no identity", sight{status: http.StatusOK}, 0, 0, wrong},
		{"a gate's refusal", sight{status: http.StatusForbidden}, 0, 0, wrong},
		{"a refusal of before Forget", refused, at - 5, 0, wrong},
		{"what is", saw(2, 2), at, at, nil},
		{"a refusal of a moment ago", refused, 0, 0, nil},
		{"no answer", sight{status: http.StatusServiceUnavailable}, 0, 0, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := w.check(c, test.sight, at, at, test.forgot, &[modelUsers]int64{2: test.forgot2})
			assert.Equal(t, test.want == nil, err == nil, "%v", err)
		})
	}
}
