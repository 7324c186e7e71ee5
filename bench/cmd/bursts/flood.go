package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/bench"
)

const (
	warmUsers  = 100
	warmTTL    = 3 * time.Second
	watchUntil = 2500 * time.Millisecond // answers are refreshed before, and end after
	strangers  = 256                     // strangers that send junk at once
	junkRatio  = 100                     // junk requests to one of a warm user
)

// weather is the load on DSS while the hits of warm users are timed.
type weather string

const (
	quiet   weather = "quiet"
	hanging weather = "DSS hangs"
	flooded weather = "junk cookies"
)

// quietHangFlood measures the hits of a hundred warm users while DSS works,
// while it hangs, and while strangers flood it with junk cookies.
func quietHangFlood(rounds int) ([]bench.Target, error) {
	p99 := map[weather]bench.Sample{}
	all := map[weather]*bench.Histogram{quiet: {}, hanging: {}, flooded: {}}
	var flood floodCount
	order := []weather{quiet, hanging, flooded}
	for round := range rounds {
		for i := range order {
			w := order[(i+round)%len(order)]
			h, err := hits(w, &flood)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", w, err)
			}
			p99[w] = append(p99[w], float64(h.Quantile(0.99)))
			all[w].Merge(h)
		}
	}
	fmt.Printf("\nHits of %d warm users:\n\n| | hits | p50 | p99 | p99.9 | p99, times quiet |\n| --- | --- | --- | --- | --- | --- |\n", warmUsers)
	for _, w := range order {
		fmt.Printf("| %s | %d | %s | %s | %s | %s |\n", w, all[w].Total(), all[w].Quantile(0.5), all[w].Quantile(0.99), all[w].Quantile(0.999),
			p99[w].Ratio(p99[quiet]).Spread())
	}
	fmt.Printf("\nThe flood: %d junk requests (%d calls to DSS), beside %d of warm users at one in %d, of which %d were refused or waited for DSS; %d warm answers evicted.\n",
		flood.junk, flood.calls, flood.warm, junkRatio, flood.lost, flood.evictions)
	return []bench.Target{
		{Number: "10", What: "p99 of hits while DSS hangs, times quiet", Reached: p99[hanging].Ratio(p99[quiet]).Median(), AtMost: true, Bound: 1.2},
		{Number: "10", What: "p99 of hits in a flood, times quiet", Reached: p99[flooded].Ratio(p99[quiet]).Median(), AtMost: true, Bound: 1.2},
		{Number: "10", What: "warm users' requests that a flood cost a hit", Reached: float64(flood.lost + flood.evictions), AtMost: true},
	}, nil
}

// floodCount sums up the effects of floods.
type floodCount struct{ junk, calls, warm, lost, evictions int }

// hits times requests of warm users, one after the other. It begins with fresh
// answers, goes on after their refresh, and stops before their end.
func hits(w weather, count *floodCount) (*bench.Histogram, error) {
	d, err := startSlowDSS(warmUsers)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var missed atomic.Int64
	auth, err := dssauth.New(dssauth.Config{Client: d.Client, TTL: warmTTL, Hooks: dssauth.Hooks{
		LookupEnd: func(_ context.Context, l dssauth.Lookup) {
			if l.Outcome == dssauth.OutcomeIdentified && !l.Renewal {
				missed.Add(1)
			}
		},
	}})
	if err != nil {
		return nil, err
	}
	defer func() { _ = auth.Close() }()

	ctx, cancel := context.WithTimeout(context.Background(), watchUntil)
	defer cancel()
	for range 2 {
		if err := bench.VisitAll(auth.Handler, bench.Session, warmUsers, 350, func(int, *http.Request) {}); err != nil {
			return nil, err
		}
	}
	missed.Store(0)
	calls := d.Lookups()
	var f flood
	switch w {
	case hanging:
		d.Hang()
	case flooded:
		f.start(ctx, auth)
	}
	h, served := timeHits(ctx, auth)
	f.running.Wait()

	if served != h.Total() {
		return nil, fmt.Errorf("%d of %d requests of warm users were refused", h.Total()-served, h.Total())
	}
	if n := f.admitted.Load(); n > 0 {
		return nil, fmt.Errorf("%d junk requests were admitted", n)
	}
	if w == flooded {
		count.junk += int(f.junk.Load())
		count.calls += d.Lookups() - calls
		count.warm += int(f.warm.Load())
		count.lost += int(f.warm.Load() - f.warmServed.Load() + missed.Load())
		count.evictions += int(auth.Stats().Evictions)
	}
	return h, nil
}

func timeHits(ctx context.Context, auth *dssauth.Middleware) (h *bench.Histogram, served int) {
	traffic := bench.NewTraffic(bench.Session, bench.Users{Count: warmUsers}, 350)
	handler := auth.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ }))
	response := bench.Discard()
	h = &bench.Histogram{}
	for i := 0; ctx.Err() == nil; i++ {
		r := traffic.Requests[traffic.Order[i%len(traffic.Order)]]
		began := time.Now()
		handler.ServeHTTP(response, r)
		h.Add(time.Since(began))
	}
	return h, served
}

// flood sends strangers' requests, each with a new junk cookie, and warm users'
// requests among them.
type flood struct {
	running                          sync.WaitGroup
	junk, admitted, warm, warmServed atomic.Int64
}

func (f *flood) start(ctx context.Context, auth *dssauth.Middleware) {
	junk := auth.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { f.admitted.Add(1) }))
	warm := auth.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { f.warmServed.Add(1) }))
	for range strangers {
		f.running.Go(func() {
			for ctx.Err() == nil {
				if n := f.junk.Add(1); n%junkRatio == 0 {
					f.warm.Add(1)
					warm.ServeHTTP(bench.Discard(), bench.Request(bench.Session, rand.IntN(warmUsers), 350))
				}
				junk.ServeHTTP(bench.Discard(), bench.Request(stranger, rand.IntN(1<<40), 350))
			}
		})
	}
}

func stranger(user int) string { return bench.Session(user + 1<<41) }
