package dssauth

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"
)

const (
	// minEvery bounds how often [Middleware.WhileSignedIn] looks.
	minEvery = 100 * time.Millisecond
	// afterFailure is the wait for the next look if a look got no answer.
	afterFailure = time.Second
)

// WhileSignedIn returns a context for a connection that outlives its request's
// handling, such as a websocket or server-sent events. The context ends when a new
// request with the same credentials would no longer be admitted; [context.Cause] then
// returns the reason, an error that wraps one of this package's. It also ends with the
// request's context, as when the visitor leaves. Call WhileSignedIn in a handler, with
// its request, and call the [context.CancelFunc] when the connection ends. If the
// handler is not wrapped, the context has ended from the start, and a log line says so.
//
// The visitor is identified at least once in each interval (zero means [Config.TTL];
// less than 100ms counts as 100ms), once for all connections with the same
// credentials. The login must stay the same, and the gates of this Middleware that
// admitted the request must admit the visitor again; [Middleware.Require] describes
// the arguments of a gate. If DSS or a gate cannot answer, or a gate takes longer
// than Timeout, the next check comes about a second later. The connection lasts for
// interval + TTL after the last successful question to DSS, and for
// [Config.StaleIfError] more while DSS is down, unless DSS refused the visitor
// before. Then it ends with [ErrUnavailable]. If TTL is negative, [Config.Timeout]
// takes its place.
//
// The CancelFunc waits for a running gate: a gate must not call it.
func (m *Middleware) WhileSignedIn(r *http.Request, interval time.Duration) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancelCause(r.Context())
	v, ok := m.attached(r.Context())
	switch {
	case !ok && v != nil:
		end(errAnonymous)
		return ctx, func() {}
	case !ok:
		end(m.faults.of(r.Context(), errNoVisitor, origin{route: r.Pattern}))
		return ctx, func() {}
	case v.m == nil: // from NewContext: DSS does not know it
		return ctx, func() { end(context.Canceled) }
	}
	credentials, err := m.selector.pick(v.request.Header)
	if err == nil && credentials.key != v.entry.key {
		err = refuse(ErrUnauthenticated, "the request's credentials have changed since they were authenticated")
	}
	if err != nil {
		end(err)
		return ctx, func() {}
	}
	c := &connection{
		m:           m,
		answers:     m.answers,
		credentials: credentials,
		ctx:         ctx,
		owner:       v.entry.identity.owner(),
		gates:       m.gatesOf(v),
		every:       m.answers.interval(interval),
		asking:      make(chan struct{}, 1),
	}
	if len(c.gates) > 0 {
		c.request = lastingCopy(r)
	}
	entry := v.entry
	if !m.answers.life.run(func() {
		// The cause if a gate calls Goexit.
		why := unavailable("the session check stopped unexpectedly", nil, 0)
		defer func() { end(why) }()
		why = c.watch(entry)
	}) {
		end(errClosed)
		return ctx, func() {}
	}
	return ctx, func() {
		end(context.Canceled)
		c.asking <- struct{}{}
		<-c.asking
	}
}

func (a *answers) interval(every time.Duration) time.Duration {
	switch {
	case every != 0:
		return max(every, minEvery)
	case a.keep.ttl > 0:
		return max(a.keep.ttl, minEvery)
	}
	return max(a.timeout, minEvery)
}

// connection is one that WhileSignedIn watches. It keeps only copies of parts of its
// request.
type connection struct {
	m *Middleware
	*answers
	credentials
	ctx     context.Context
	owner   string
	gates   []*gate
	request *http.Request // for the gates, with the visitor
	every   time.Duration
	asking  chan struct{} // holds a token while gates run
}

// watch returns the reason why the visitor would no longer be admitted. E is DSS's last
// answer.
func (c *connection) watch(e *entry) error {
	next := c.due(e)
	for {
		if err := c.sleep(next); err != nil {
			return err
		}
		began := c.now()
		confirmed, err := c.look(e)
		switch {
		case c.ctx.Err() != nil:
			return context.Cause(c.ctx)
		case err == nil:
			e = confirmed
			next = c.due(e)
		case !errors.Is(err, ErrUnavailable):
			return err
		case began > e.asked+c.patience(e, began):
			return unavailable("the session could not be confirmed for too long", err, 0)
		default:
			next = c.now() + untilNextLook(err)
		}
	}
}

// due is the time when e must be confirmed again. Connections with the same credentials
// share the answer, and so the time and the lookup. Visitors who came at the same
// moment do not: the life of answers differs at random.
func (c *connection) due(e *entry) int64 {
	if c.keep.ttl <= 0 {
		return e.asked + int64(c.every)
	}
	return e.asked + int64(float64(c.every)*float64(e.expires-e.asked)/float64(c.keep.ttl))
}

// patience is how long the connection lasts after e, the last successful answer. It is
// judged after a failed look that began at began.
func (c *connection) patience(e *entry, began int64) int64 {
	limit := c.every + c.keep.ttl
	if c.keep.ttl < 0 {
		limit = c.every + c.timeout
	}
	if c.outageMayBeBridged(e, began) {
		limit += c.keep.staleIfError
	}
	return int64(limit)
}

// untilNextLook is the time from a failed look to the next one.
func untilNextLook(err error) int64 {
	var r *refusal
	if errors.As(err, &r) && r.retryAfter >= minEvery {
		return int64(r.retryAfter)
	}
	return int64(afterFailure)
}

func (c *connection) sleep(until int64) error {
	timer := time.NewTimer(time.Duration(until - c.now()))
	defer timer.Stop()
	select {
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	case <-c.life.ctx.Done():
		return errClosed
	case <-timer.C:
		return nil
	}
}

// look returns an answer that is newer than last, if it names the same visitor and the
// gates admit that. If DSS gives no answer, the gates are asked about last, as for a
// new request in an outage: their refusal ends the connection in an outage, too.
func (c *connection) look(last *entry) (*entry, error) {
	e, unconfirmed := c.identify(last.asked)
	switch {
	case unconfirmed == nil:
	case errors.Is(unconfirmed, ErrUnavailable):
		e = last
	default:
		return nil, unconfirmed
	}
	if e.identity.owner() != c.owner {
		return nil, errOtherUser
	}
	if err := c.askGates(e); err != nil && (unconfirmed == nil || !errors.Is(err, ErrUnavailable)) {
		return nil, err
	}
	return e, unconfirmed
}

// askGates asks the gates about e's visitor, as a new request would. It waits no longer
// than a lookup may take: a gate that never returns must not keep the connection open.
func (c *connection) askGates(e *entry) error {
	if len(c.gates) == 0 {
		return nil
	}
	select {
	case c.asking <- struct{}{}:
	default:
		return unavailable("a gate has not returned yet", nil, 0)
	}
	ctx, cancel := context.WithTimeout(within{context.Background(), c.ctx}, c.timeout)
	defer cancel()
	answer := make(chan error, 1)
	if !c.life.run(func() {
		// The answer if a gate calls Goexit.
		err := unavailable("a gate ended its goroutine", nil, 0)
		defer func() {
			<-c.asking
			answer <- err
		}()
		err = c.passes(ctx, e)
	}) {
		<-c.asking
		return errClosed
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return unavailable("a gate did not answer in time", unquoted(ctx.Err()), 0)
	case <-c.life.ctx.Done():
		return errClosed
	}
}

// passes asks one gate after the other.
func (c *connection) passes(ctx context.Context, e *entry) error {
	if ctx.Err() != nil { // the handler may have returned
		return context.Cause(ctx)
	}
	// Each look has a copy of its own, since gates may change the request.
	v := newVisit(c.request.Clone(ctx), c.m, e)
	for _, g := range c.gates {
		if err := g.asksAgain(v.request, v); err != nil {
			return err
		}
	}
	return nil
}

func (c *connection) identify(since int64) (*entry, error) {
	// Twice, since a lookup may be under way that started earlier. The next one starts
	// later: an older answer then only bridges an outage.
	for range 2 {
		e, err := c.answers.ask(c.ctx, c.credentials, func(e *entry) bool { return e.asked > since }, false)
		switch {
		case err != nil:
			return nil, err
		case e.asked > since:
			return e, nil
		}
	}
	return nil, unavailable("DSS did not confirm who this is", nil, 0)
}

// gatesOf returns the gates of m that admitted the request of v, in their order: each
// may rely on those in front of it.
func (m *Middleware) gatesOf(v *visit) (gates []*gate) {
	for ok := true; ok; v, ok = v.Context.Value(ownKey{m}).(*visit) {
		if g := v.gate.Load(); g != nil {
			gates = append(slices.DeleteFunc(gates, func(inner *gate) bool { return inner == g }), g)
		}
	}
	slices.Reverse(gates)
	return gates
}

// lastingCopy returns a copy of r, without its body and its context's values, that
// stays valid when the handler has returned: servers reuse the memory of a request's
// strings, and routers the values in its context.
func lastingCopy(r *http.Request) *http.Request {
	c := r.Clone(context.Background())
	c.Method, c.Host = strings.Clone(r.Method), strings.Clone(r.Host)
	c.Proto = strings.Clone(r.Proto)
	c.RemoteAddr, c.RequestURI = strings.Clone(r.RemoteAddr), strings.Clone(r.RequestURI)
	c.Pattern = strings.Clone(r.Pattern)
	c.Header, c.Trailer = cloned(r.Header), nil
	c.Form, c.PostForm, c.MultipartForm = cloned(r.Form), cloned(r.PostForm), nil
	c.TransferEncoding = nil
	c.Body, c.ContentLength, c.GetBody = http.NoBody, 0, nil
	c.Response = nil
	if r.URL != nil {
		c.URL = clonedURL(r.URL)
	}
	for _, name := range append(pathNames(r.Pattern), otherPathNames(r)...) {
		if value := r.PathValue(name); value != "" {
			c.SetPathValue(strings.Clone(name), strings.Clone(value))
		}
	}
	return c
}

func cloned[M ~map[string][]string](from M) M {
	if from == nil {
		return nil
	}
	to := make(M, len(from))
	for name, values := range from {
		copies := make([]string, len(values))
		for i, v := range values {
			copies[i] = strings.Clone(v)
		}
		to[strings.Clone(name)] = copies
	}
	return to
}

func clonedURL(u *url.URL) *url.URL {
	return &url.URL{
		Scheme: strings.Clone(u.Scheme), Opaque: strings.Clone(u.Opaque), Host: strings.Clone(u.Host),
		Path: strings.Clone(u.Path), RawPath: strings.Clone(u.RawPath), OmitHost: u.OmitHost, ForceQuery: u.ForceQuery,
		RawQuery: strings.Clone(u.RawQuery), Fragment: strings.Clone(u.Fragment), RawFragment: strings.Clone(u.RawFragment),
	}
}

// otherPathNames returns the names that were given to SetPathValue and are not in r's
// pattern. net/http does not export them; if it stores them elsewhere one day, none is
// found.
func otherPathNames(r *http.Request) (names []string) {
	values := reflect.ValueOf(r).Elem().FieldByName("otherValues")
	if values.Kind() != reflect.Map {
		return nil
	}
	for _, name := range values.MapKeys() {
		names = append(names, name.String())
	}
	return names
}

// pathNames returns the names of the wildcards in a pattern of net/http, as in
// "/{id}/{rest...}", or of chi, as in "/{id:[0-9]+}/*".
func pathNames(pattern string) []string {
	names := []string{"*"}
	for {
		_, rest, found := strings.Cut(pattern, "{")
		name, rest, closed := strings.Cut(rest, "}")
		if !found || !closed {
			return names
		}
		name, _, _ = strings.Cut(name, ":")
		names = append(names, strings.TrimSuffix(name, "..."))
		pattern = rest
	}
}
