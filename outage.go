package dssauth

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/internal/ownkey"
)

// outage is what we know of DSS by our own question: GET /auth/info with our
// own credentials. Only that question says that DSS is down, or that it rejects
// us. What a visitor's bytes bring may be the doing of these bytes, as where a
// firewall answers 502 to them: it is held against them alone, see pauses.
type outage struct {
	own  func(context.Context) (dss.AuthInfo, error) // asks the question
	log  *slog.Logger
	time *clock
	life *lifetime

	answered  atomic.Int64 // when DSS last answered a lookup
	wondering atomic.Int64 // lookups that wait in vouched, without a place

	mu        sync.Mutex
	question  *question     // the newest
	evidence                // what questions and lookups brought
	goesDown  chan struct{} // closed when DSS goes down
	pauses    pauses
	rejection nag
}

// evidence is what is known of DSS and our own credentials, by the clock.
type evidence struct {
	accepted int64 // start of the newest call in which DSS accepted our credentials
	rejected int64 // until when our credentials count as rejected
	waiting  bool  // they were rejected, and the source of our key may give others
	down     bool  // as the last question said
	known    int64 // when that question ended
	back     int64 // when DSS last was back
}

const (
	// questionPause is the least time from the start of one question to the
	// start of the next, questionTime what one may take.
	questionPause = time.Second
	questionTime  = 2 * time.Second
	// silence is how long DSS may leave a lookup unanswered, and answer no
	// other, until the question is asked beside it.
	silence = time.Second
	// evidenceTime is how long a question vouches for DSS being down. Visitors
	// have it asked every second; after a gap, lookups wait for a new one.
	evidenceTime = 3 * time.Second
	// ownTrust is how far back an accepted call vouches for our credentials.
	ownTrust = time.Second
	// maxWondering bounds the lookups that DSS refused and that wait for the
	// question: a flood of junk brings them quicker than it is answered.
	maxWondering = 1024
	// rejectionTime is how long lookups fail at once after DSS rejected our
	// credentials, keyRejectionTime the same where they have a source, which may
	// give others after a second.
	rejectionTime    = 5 * time.Second
	keyRejectionTime = time.Second
	// keyQuestionPause is questionPause where refusals wait that were given to a
	// key which can be replaced: each must be older than the question.
	keyQuestionPause = 100 * time.Millisecond
)

// question is one time that DSS is asked who we are.
type question struct {
	asked int64         // when it starts, which may lie ahead
	done  chan struct{} // closed when the rest is set
	err   error         // nil: DSS accepted us
	key   int64         // the number of our API key, if it can be replaced
}

func (q *question) ended() bool {
	select {
	case <-q.done:
		return true
	default:
		return false
	}
}

func newOutage(client *dss.Client, log *slog.Logger, time *clock, life *lifetime) *outage {
	return &outage{
		own:      func(ctx context.Context) (dss.AuthInfo, error) { return client.AuthInfo(ctx) },
		log:      log,
		time:     time,
		life:     life,
		evidence: evidence{accepted: -int64(ownTrust) - 1}, // nothing was accepted yet
		goesDown: make(chan struct{}),
		pauses:   newPauses(),
	}
}

// refusal returns why no lookup may start now, and none that is under way be
// waited for. While DSS is down it has the question asked again, and nobody
// waits for that.
func (o *outage) refusal() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.time.now()
	if now < o.rejected {
		return unavailable("DSS rejects our own credentials", nil, o.rejected-now)
	}
	if o.down {
		o.ask(now)
	}
	if o.isDown(now) {
		return errDown
	}
	return nil
}

// paused returns why no lookup of these bytes may start now, though others may.
// Where DSS was down and the evidence for it has ended, a new question decides
// that first, see settle: an old answer may be due.
func (o *outage) paused(k key) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if left := o.pauses.until(k) - o.time.now(); left > 0 && !o.down {
		return unavailable("a lookup of these credentials failed a moment ago", nil, left)
	}
	return nil
}

var (
	errDown     error = &refusal{kind: ErrUnavailable, why: "DSS is down", unasked: true}
	errRejected       = errors.New("DSS rejected our own credentials a moment ago")
	errReplaced       = errors.New("our own API key was replaced meanwhile")
)

// isDown reports whether DSS is down by evidence that still counts.
func (o *outage) isDown(now int64) bool { return o.down && now < o.known+int64(evidenceTime) }

// countsAsDown is isDown for those who do not hold mu.
func (o *outage) countsAsDown() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.isDown(o.time.now())
}

// isKnownDown reports what the last question said, however long ago.
func (o *outage) isKnownDown() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.down
}

// settle waits for a new question where DSS was down, or rejected a key that can
// be replaced, and nobody asked since. No lookup is asked with such a key.
func (o *outage) settle(ctx context.Context) {
	o.mu.Lock()
	now := o.time.now()
	if (!o.down || o.isDown(now)) && (!o.waiting || now < o.rejected) {
		o.mu.Unlock()
		return
	}
	q := o.ask(now)
	o.mu.Unlock()
	q.wait(ctx)
}

// findOut waits until it is known whether DSS is down. It is for those who have
// an old answer to bridge an outage with. A question from before since, when
// their lookup began, may be older than the outage.
func (o *outage) findOut(ctx context.Context, since int64) {
	for {
		o.mu.Lock()
		now := o.time.now()
		if o.isDown(now) {
			o.mu.Unlock()
			return
		}
		q := o.ask(now)
		o.mu.Unlock()
		if !q.wait(ctx) || q.asked >= since {
			return
		}
	}
}

// vouched returns nil if DSS accepts our own credentials, by a call that began
// at most ownTrust before asked, and has not rejected them since. If need be it
// waits for the question. Where a lookup began at asked, it ended with err.
func (o *outage) vouched(ctx context.Context, asked int64, err error) error {
	defer o.wondering.Add(-1)
	if o.wondering.Add(1) > maxWondering {
		return errors.New("too many wait to know whether DSS accepts our own credentials")
	}
	since, pause, key := asked-int64(ownTrust), questionPause, int64(0)
	var with *refusedKey
	if errors.As(err, &with) {
		// Keys that can be replaced end while the application is at work. Only a
		// question that began later tells that this one had not.
		since, pause, key = o.time.now(), keyQuestionPause, with.number
	}
	for { // twice at most: one may be under way that began too early
		o.mu.Lock()
		rejected, accepted := asked < o.rejected, key == 0 && o.accepted >= since
		if rejected || accepted {
			o.mu.Unlock()
			if rejected { // that may be whom the refusal was about
				return errRejected
			}
			return nil
		}
		q := o.askAfter(pause, o.time.now())
		o.mu.Unlock()
		if !q.wait(ctx) {
			return context.Cause(ctx)
		}
		switch {
		case q.err != nil:
			return q.err
		case key != 0 && q.key != key:
			return errReplaced
		case key != 0 && q.asked >= since:
			return nil
		}
	}
}

// refusedKey is the refusal of a call about a browser that was made with a key of
// ours which can be replaced.
type refusedKey struct {
	error
	number int64
}

func (r *refusedKey) Unwrap() error { return r.error }

// withOwnKey makes a call about a browser, and marks a refusal with the key of ours
// that it was made with, if that can be replaced.
func withOwnKey[T any](ctx context.Context, call func(context.Context) (T, error)) (T, error) {
	var used ownkey.Used
	said, err := call(used.Context(ctx))
	if used.Number() != 0 && isNotAuthenticated(err) {
		err = &refusedKey{err, used.Number()}
	}
	return said, err
}

// wait reports whether q ended before ctx did.
func (q *question) wait(ctx context.Context) bool {
	select {
	case <-q.done:
		return true
	case <-ctx.Done():
		return q.ended()
	}
}

// ask returns the question under way, or else starts one, questionPause after
// the last. The caller holds mu.
func (o *outage) ask(now int64) *question { return o.askAfter(questionPause, now) }

// askAfter is ask with another pause.
func (o *outage) askAfter(pause time.Duration, now int64) *question {
	if o.question != nil && !o.question.ended() {
		return o.question
	}
	q := &question{asked: now, done: make(chan struct{})}
	if o.question != nil {
		q.asked = max(now, o.question.asked+int64(pause))
	}
	if !o.life.run(func() { o.run(q) }) {
		q.end(errClosed)
		return q
	}
	o.question = q
	return q
}

func (o *outage) run(q *question) {
	// The error if something below the client ends the goroutine.
	info, err := dss.AuthInfo{}, errors.New("the question ended without an answer")
	defer func() { o.conclude(q, info, err) }()
	if wait := time.Duration(q.asked - o.time.now()); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-o.life.ctx.Done():
			err = errClosed
			return
		}
	}
	defer recovered(&err)
	ctx, cancel := context.WithTimeout(o.life.ctx, questionTime)
	defer cancel()
	var used ownkey.Used
	defer func() { q.key = used.Number() }()
	info, err = o.own(used.Context(ctx))
}

// conclude takes down what q brought, and tells those who wait for it.
func (o *outage) conclude(q *question, info dss.AuthInfo, err error) {
	if err == nil && info.IsAnonymous() {
		err = errUnknownOurselves
	}
	if o.life.ctx.Err() != nil { // the Middleware is closed: that says nothing of DSS
		q.end(errClosed)
		return
	}
	// Reading an error of the client's transport, and logging, may call whatever
	// code an application plugged in: not under lock.
	down, rejected := o.meansDown(q, err), rejectsUs(err)
	o.mu.Lock()
	now, wasDown := o.time.now(), o.down
	o.down, o.known = down, now
	switch {
	case err == nil:
		if o.waiting {
			o.waiting, o.rejected = false, min(o.rejected, now)
		}
		o.accepted = max(o.accepted, q.asked)
		if wasDown {
			o.back = now
			o.pauses.clear()
		}
	case rejected && q.key != 0:
		o.waiting, o.rejected = true, now+int64(keyRejectionTime)
	case rejected:
		o.rejected = now + int64(rejectionTime)
	}
	switch {
	case down && !wasDown:
		close(o.goesDown)
	case wasDown && !down:
		o.goesDown = make(chan struct{})
	}
	q.end(err)
	o.mu.Unlock()

	switch {
	case rejected:
		if o.rejection.due(now) {
			o.log.Error("dssauth: DSS REJECTS OUR OWN CREDENTIALS, so no visitor can be identified: "+
				"replace the API key (DKU_API_KEY, the file that DKU_API_KEY_FILE names, or api_key in ~/.dataiku/config.json), or restart the webapp for a new ticket", "error", err.Error())
		}
	case down && !wasDown:
		o.log.Error("dssauth: DSS is down: visitors who are not known are refused until it answers", "error", err.Error())
	case wasDown && err == nil:
		o.log.Info("dssauth: DSS is back")
	case wasDown && !down:
		o.log.Warn("dssauth: DSS answers again, but not as it should", "error", err.Error())
	}
}

func (q *question) end(err error) {
	q.err = err
	close(q.done)
}

var errUnknownOurselves = errors.New("DSS does not know us")

// rejectsUs reports whether DSS answered our own question with "not authenticated".
func rejectsUs(err error) bool { return err == errUnknownOurselves || isNotAuthenticated(err) }

// meansDown reports whether our own question that ended with err says that DSS
// is down. One that timed out does not while DSS answers lookups: a DSS that is
// only busy answers it late, too.
func (o *outage) meansDown(q *question, err error) bool {
	if isTimeout(err) {
		return o.answered.Load() <= q.asked
	}
	return isOutage(err)
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout()
}

// isOutage reports whether err is about DSS being down or overloaded, rather
// than about a visitor, about us, or about a certificate.
func isOutage(err error) bool {
	var reply *dss.Error
	var network net.Error
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		return false
	case errors.As(err, &reply):
		return reply.StatusCode >= 500 || reply.StatusCode == http.StatusTooManyRequests
	case errors.Is(err, context.DeadlineExceeded):
		return true
	}
	return errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// isNotAuthenticated reports whether DSS does not know somebody, be it the
// visitor or us.
func isNotAuthenticated(err error) bool {
	var reply *dss.Error
	return errors.As(err, &reply) && reply.NotAuthenticated()
}

// vigil watches one lookup that is under way.
type vigil struct {
	o     *outage
	asked int64
	mu    sync.Mutex
	timer *time.Timer // nil: the lookup has ended
}

// beside has the question asked beside a lookup that DSS leaves unanswered, and
// again for as long as it does, until stop is called.
func (o *outage) beside(asked int64) (stop func()) {
	v := &vigil{o: o, asked: asked}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.timer = time.AfterFunc(silence, v.look)
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.timer.Stop()
		v.timer = nil
	}
}

func (v *vigil) look() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.timer == nil {
		return
	}
	now := v.o.time.now()
	if left := max(v.asked, v.o.answered.Load()) + int64(silence) - now; left > 0 {
		v.timer.Reset(time.Duration(left))
		return
	}
	v.timer.Reset(silence) // one that is under way may say nothing, see meansDown
	v.o.mu.Lock()
	defer v.o.mu.Unlock()
	v.o.ask(now)
}

// accepts takes down that DSS answered a lookup, begun at asked, with 2xx, and
// so accepted our credentials.
func (o *outage) accepts(asked int64) {
	o.hears()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.accepted = max(o.accepted, asked)
}

// resume ends what failures of these bytes brought.
func (o *outage) resume(k key) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pauses.end(k)
}

// hears takes down that DSS, and no proxy, answered a lookup now.
func (o *outage) hears() { o.answered.Store(o.time.now()) }

// failed takes down that a lookup of k, begun at asked, failed; it has the
// question asked, and returns how long these bytes must wait.
func (o *outage) failed(k key, asked int64, retryAfter time.Duration) (pause int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.time.now()
	o.ask(now)
	if asked < o.back { // it belongs to an outage that is over
		return 0
	}
	return o.pauses.begin(k, now, retryAfter)
}

// isBack reports whether DSS was down and came back since the given time. A
// lookup from before must not keep anybody waiting.
func (o *outage) isBack(since int64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.back > since
}

// whenDown returns a channel that is closed when DSS goes down.
func (o *outage) whenDown() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.goesDown
}

// pauses remembers which bytes are not asked about for a moment, since a lookup
// of them failed while DSS was up. It holds no answer. A stranger can push
// others out of it, whose bytes are then asked about sooner.
type pauses struct {
	byKey *simplelru.LRU[key, pause]
}

type pause struct {
	until    int64
	failures int // without an answer in between
}

const (
	maxPauses = 4096
	minPause  = time.Second
	maxPause  = 4 * time.Second
)

func newPauses() pauses {
	byKey, _ := simplelru.NewLRU[key, pause](maxPauses, nil) // fails for no positive size
	return pauses{byKey}
}

func (p pauses) until(k key) int64 {
	at, _ := p.byKey.Peek(k)
	return at.until
}

// begin starts a pause: of 1s, then 2s, then 4s, or as long as DSS asked for.
func (p pauses) begin(k key, now int64, retryAfter time.Duration) (length int64) {
	at, _ := p.byKey.Peek(k)
	if now >= at.until+int64(maxPause) {
		at.failures = 0
	}
	wait := min(minPause<<min(at.failures, 2), maxPause)
	if retryAfter > 0 {
		wait = min(retryAfter, maxPause)
	}
	p.byKey.Add(k, pause{until: now + int64(wait), failures: at.failures + 1})
	return int64(wait)
}

func (p pauses) end(k key) { p.byKey.Remove(k) }

func (p pauses) clear() { p.byKey.Purge() }
