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

// outage keeps the results of our own question to DSS: GET /auth/info with our own
// credentials. Only that question shows that DSS is down, or that it rejects us. A
// visitor's bytes may themselves cause a failure, for example if a firewall answers 502
// to them: only these bytes then have to wait, see pauses.
type outage struct {
	own  func(context.Context) (dss.AuthInfo, error) // asks the question
	log  *slog.Logger
	time *clock
	life *lifetime

	answered  atomic.Int64 // when DSS last answered a lookup
	wondering atomic.Int64 // lookups that wait in vouched, without a place

	mu        sync.Mutex
	question  *question     // the newest
	evidence                // results of questions and lookups
	goesDown  chan struct{} // closed when DSS goes down
	pauses    pauses
	rejection struct {
		nag
		said atomic.Int64 // just after the time of the log's line; 0: accepted since
	}
}

// evidence is our knowledge of DSS and our own credentials. Times are those of clock.
type evidence struct {
	accepted int64 // start of the newest call in which DSS accepted our credentials
	rejected int64 // until when our credentials count as rejected
	waiting  bool  // they were rejected, and the source of our key may give others
	down     bool  // the result of the last question
	known    int64 // when that question ended
	back     int64 // when DSS last was back
}

const (
	// questionPause is the least time from the start of one question to the start of
	// the next. questionTime is the most that one may take.
	questionPause = time.Second
	questionTime  = 2 * time.Second
	// silence is how long DSS may answer no lookup until the question is asked beside
	// one.
	silence = time.Second
	// evidenceTime is how long a question proves that DSS is down. Visitors cause a new
	// one every second; after a gap, lookups wait for a new one.
	evidenceTime = 3 * time.Second
	// ownTrust is how old an accepted call may be to prove that our credentials are
	// valid.
	ownTrust = time.Second
	// maxWondering bounds the refused lookups that wait for the question: in a flood of
	// junk they come faster than its answer.
	maxWondering = 1024
	// rejectionTime is how long lookups fail at once after DSS rejected our
	// credentials. keyRejectionTime is the same for credentials from a source: it may
	// give others after a second.
	rejectionTime    = 5 * time.Second
	keyRejectionTime = time.Second
	// keyQuestionPause is questionPause for refusals of calls with a replaceable key:
	// each must be older than the question.
	keyQuestionPause = 100 * time.Millisecond
)

// question is one question to DSS about our own credentials.
type question struct {
	asked int64         // its start, perhaps in the future
	done  chan struct{} // closed when the fields below are set
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

// refusal returns the reason why no lookup may start now, and why no request may wait
// for one under way. While DSS is down it starts the question again, and no request
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

// paused returns the reason why no lookup of these bytes may start now, although others
// may. If DSS was down and the evidence is too old, a new question decides first, see
// settle: an old answer may have to bridge the outage.
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

// isDown reports whether DSS is down by valid evidence.
func (o *outage) isDown(now int64) bool { return o.down && now < o.known+int64(evidenceTime) }

// countsAsDown is isDown for callers that do not hold mu.
func (o *outage) countsAsDown() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.isDown(o.time.now())
}

// isKnownDown reports the result of the last question, of any age.
func (o *outage) isKnownDown() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.down
}

// settle waits for a new question if DSS was down, or rejected a replaceable key, and
// there was no question since. No lookup is made with a rejected key.
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

// findOut waits until it is known whether DSS is down. It is for lookups with an old
// answer that could bridge an outage. Since is the start of the lookup: an earlier
// question may be older than the outage.
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

// vouched returns nil if DSS accepted our own credentials in a call that began at most
// ownTrust before asked, and has not rejected them since. It waits for the question if
// necessary. Asked is the start of a lookup that ended with err.
func (o *outage) vouched(ctx context.Context, asked int64, err error) error {
	defer o.wondering.Add(-1)
	if o.wondering.Add(1) > maxWondering {
		return errors.New("too many lookups wait for a check of our own credentials")
	}
	since, pause, key := asked-int64(ownTrust), questionPause, int64(0)
	var with *refusedKey
	if errors.As(err, &with) {
		// Replaceable keys end while the application runs. Only a question that began
		// later proves that this one was valid.
		since, pause, key = o.time.now(), keyQuestionPause, with.number
	}
	for { // at most twice: one under way may have begun too early
		o.mu.Lock()
		rejected, accepted := asked < o.rejected, key == 0 && o.accepted >= since
		if rejected || accepted {
			o.mu.Unlock()
			if rejected { // the refusal may have been about us
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

// refusedKey is DSS's refusal of a call about a browser, made with a replaceable key of
// ours.
type refusedKey struct {
	error
	number int64
}

func (r *refusedKey) Unwrap() error { return r.error }

// withOwnKey makes a call about a browser. It marks a refusal with the number of our
// key, if that is replaceable.
func withOwnKey[T any](ctx context.Context, call func(context.Context) (T, error)) (T, error) {
	var used ownkey.Used
	said, err := call(used.Context(ctx))
	if used.Number() != 0 && isNotAuthenticated(err) {
		err = &refusedKey{err, used.Number()}
	}
	return said, err
}

// wait reports whether q ended before ctx.
func (q *question) wait(ctx context.Context) bool {
	select {
	case <-q.done:
		return true
	case <-ctx.Done():
		return q.ended()
	}
}

// ask returns the question under way, or starts one, questionPause after the last. The
// caller holds mu.
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

// conclude records q's result, and releases the waiters.
func (o *outage) conclude(q *question, info dss.AuthInfo, err error) {
	if err == nil && info.IsAnonymous() {
		err = errUnknownOurselves
	}
	if o.life.ctx.Err() != nil { // the Middleware is closed: this proves nothing about DSS
		q.end(errClosed)
		return
	}
	// Reading an error of the client's transport, and logging, may call code of the
	// application: not under lock.
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

	if err == nil {
		o.saysAccepted(q.asked)
	}
	switch {
	case rejected:
		if o.rejection.due(now) {
			o.rejection.said.Store(now + 1)
			o.log.Error("dssauth: DSS REJECTS OUR OWN CREDENTIALS, so no visitor can be identified: "+
				"replace the API key (DKU_API_KEY, the file that DKU_API_KEY_FILE names, or api_key in ~/.dataiku/config.json), or restart the webapp for a new ticket", "error", err.Error())
		}
	case down && !wasDown:
		o.log.Error("dssauth: DSS is down: until it answers, visitors without a remembered answer are refused", "error", err.Error())
	case wasDown && err == nil:
		o.log.Info("dssauth: DSS is back")
	case wasDown && !down:
		o.log.Warn("dssauth: DSS answers again, but with an unexpected reply", "error", err.Error())
	}
}

func (q *question) end(err error) {
	q.err = err
	close(q.done)
}

var errUnknownOurselves = errors.New("DSS does not know us")

// rejectsUs reports whether DSS answered our own question with "not authenticated".
func rejectsUs(err error) bool { return err == errUnknownOurselves || isNotAuthenticated(err) }

// meansDown reports whether err, the end of our own question, means that DSS is down. A
// timeout does not while DSS answers lookups: a busy DSS also answers late.
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

// isOutage reports whether err means that DSS is down or overloaded, and is not about a
// visitor, about us, or about a certificate.
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

// isNotAuthenticated reports whether DSS does not know either the visitor or us.
func isNotAuthenticated(err error) bool {
	var reply *dss.Error
	return errors.As(err, &reply) && reply.NotAuthenticated()
}

// vigil watches one lookup under way.
type vigil struct {
	o     *outage
	asked int64
	mu    sync.Mutex
	timer *time.Timer // nil: the lookup has ended
}

// beside asks the question beside a lookup that DSS leaves unanswered, again and again,
// until stop is called.
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
	v.timer.Reset(silence) // one under way may prove nothing, see meansDown
	v.o.mu.Lock()
	defer v.o.mu.Unlock()
	v.o.ask(now)
}

// accepts records that DSS answered a lookup, begun at asked, with 2xx, and so accepted
// our credentials.
func (o *outage) accepts(asked int64) {
	o.hears()
	o.saysAccepted(asked)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.accepted = max(o.accepted, asked)
}

// saysAccepted logs that DSS accepted our credentials in a call that began at asked, if
// the log's last word was that it rejects them.
func (o *outage) saysAccepted(asked int64) {
	if said := o.rejection.said.Load(); said != 0 && asked >= said && o.rejection.said.CompareAndSwap(said, 0) {
		o.log.Info("dssauth: DSS accepts our own credentials again")
	}
}

// resume ends the pause of these bytes after failures.
func (o *outage) resume(k key) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pauses.end(k)
}

// hears records that DSS itself, not a proxy, answered a lookup now.
func (o *outage) hears() { o.answered.Store(o.time.now()) }

// failed records that a lookup of k, begun at asked, failed. It starts the question,
// and returns how long these bytes must wait.
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

// isBack reports whether DSS was down and came back after since. No request must wait
// for a lookup from before.
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

// pauses remembers bytes about which DSS is not asked for a moment: a lookup of them
// failed while DSS was up. It holds no answer. A stranger can push out other visitors'
// bytes: DSS is then asked about these sooner.
type pauses struct {
	byKey *simplelru.LRU[key, pause]
}

type pause struct {
	until    int64
	failures int // in a row, without an answer between them
}

const (
	maxPauses = 4096
	minPause  = time.Second
	maxPause  = 4 * time.Second
)

func newPauses() pauses {
	byKey, _ := simplelru.NewLRU[key, pause](maxPauses, nil) // does not fail for a positive size
	return pauses{byKey}
}

func (p pauses) until(k key) int64 {
	at, _ := p.byKey.Peek(k)
	return at.until
}

// begin starts a pause of 1s, then 2s, then 4s, or of the length that DSS asked for.
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
