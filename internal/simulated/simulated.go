// Package simulated simulates the many visitors of an application, and its DSS. It is
// for tests and measurements in virtual time ([testing/synctest]): a minute of
// thousands of visitors takes seconds.
package simulated

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/dssauth/dssauth"
)

// DSS works on a fixed number of questions at once, each for the same time, even if
// its caller has gone. Others wait. It is a [dssauth.Resolver].
type DSS struct {
	workers chan struct{}
	latency time.Duration

	mu   sync.Mutex
	seen Load
}

// Load counts the questions to a DSS.
type Load struct {
	Calls     int
	InFlight  int // now
	Most      int // in flight
	Abandoned int // their callers left before the answer
}

// NewDSS returns a DSS. It knows every visitor of [Visitors], and nobody else.
func NewDSS(workers int, latency time.Duration) *DSS {
	return &DSS{workers: make(chan struct{}, workers), latency: latency}
}

// Resolve names a visitor.
func (d *DSS) Resolve(ctx context.Context, identifying http.Header) (dssauth.Identity, error) {
	d.note(func(l *Load) { l.Calls++; l.InFlight++; l.Most = max(l.Most, l.InFlight) })
	defer d.note(func(l *Load) { l.InFlight-- })
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.workers <- struct{}{}
		<-time.After(d.latency)
		<-d.workers
	}()
	select {
	case <-done:
	case <-ctx.Done():
		d.note(func(l *Load) { l.Abandoned++ })
		return dssauth.Identity{}, ctx.Err()
	}
	_, login, _ := strings.Cut(identifying.Get("Cookie"), "=")
	if !strings.HasPrefix(login, visitor) {
		return dssauth.Identity{}, dssauth.ErrUnauthenticated
	}
	return dssauth.NewIdentity(login, "readers"), nil
}

const visitor = "visitor"

func (d *DSS) note(what func(*Load)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	what(&d.seen)
}

// Load returns the count of questions so far.
func (d *DSS) Load() (l Load) {
	d.note(func(seen *Load) { l = *seen })
	return l
}

// Visitors come one after the other, each with a session of its own, and stay. Each
// sends requests from time to time. A refused visitor comes back after a second, as
// Retry-After says.
type Visitors struct {
	Count    int
	Arriving time.Duration // within which they come
	Every    time.Duration // the mean time between two requests of one visitor
	Staying  time.Duration // from the start to the end
	Settling time.Duration // from the start to the time when all should be known
}

// Seen counts the results of [Visitors].
type Seen struct {
	All     Share // of requests that were refused
	Known   Share // the same, of visitors who were admitted before
	Settled Share // the same, of all visitors, after all should be known
	In      int   // admitted visitors
	Quickly int   // of these, within 0.3 s of their arrival
	Longest time.Duration
	Waited  time.Duration // for answers, in sum
}

// Share is a part of something.
type Share struct{ Of, Part int }

func (s *Share) add(part bool) {
	s.Of++
	if part {
		s.Part++
	}
}

// Percent is the part in percent.
func (s Share) Percent() float64 { return 100 * float64(s.Part) / float64(max(1, s.Of)) }

func (s Share) String() string { return fmt.Sprintf("%d of %d (%.2f %%)", s.Part, s.Of, s.Percent()) }

// Visit makes them come, and returns when they have gone.
func (v Visitors) Visit(auth *dssauth.Middleware) Seen {
	handler := auth.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	start := time.Now()
	var mu sync.Mutex
	var seen Seen
	var all sync.WaitGroup
	for i := range v.Count {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			<-time.After(between(random, 0, v.Arriving))
			arrival, known := time.Now(), false
			for time.Since(start) < v.Staying {
				asked := time.Now()
				refused := Status(handler, fmt.Sprint(visitor, i)) != http.StatusOK
				mu.Lock()
				seen.All.add(refused)
				seen.Waited += time.Since(asked)
				if known {
					seen.Known.add(refused)
				}
				if asked.Sub(start) >= v.Settling {
					seen.Settled.add(refused)
				}
				if !known && !refused {
					known = true
					seen.In++
					seen.Longest = max(seen.Longest, time.Since(arrival))
					if time.Since(arrival) <= 300*time.Millisecond {
						seen.Quickly++
					}
				}
				mu.Unlock()
				if refused {
					<-time.After(time.Second)
				} else {
					<-time.After(between(random, v.Every/2, v.Every*3/2))
				}
			}
		})
	}
	all.Wait()
	return seen
}

func between(random *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(random.Int64N(max(1, int64(most-least))))
}

// Status returns the status of the answer to a request with such a session.
func Status(handler http.Handler, session string) int {
	w := response{header: http.Header{}, status: http.StatusOK}
	handler.ServeHTTP(&w, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/"}, Header: http.Header{"Cookie": {"session=" + session}}})
	return w.status
}

// response keeps the status only: there are millions.
type response struct {
	header http.Header
	status int
}

func (r *response) Header() http.Header         { return r.header }
func (r *response) Write(p []byte) (int, error) { return len(p), nil }
func (r *response) WriteHeader(status int)      { r.status = status }
