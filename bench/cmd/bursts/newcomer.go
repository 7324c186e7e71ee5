package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/bench"
)

const atOnce = 1000

// newcomer lets a thousand requests of one new visitor arrive at once, with
// dssauth and with a middleware that asks DSS for each.
func newcomer(rounds int) ([]bench.Target, error) {
	d, err := startSlowDSS(rounds)
	if err != nil {
		return nil, err
	}
	defer d.Close()

	var ours, plain bench.Sample
	mostCalls := 0
	for round := range rounds {
		auth, err := dssauth.New(dssauth.Config{Client: d.Client})
		if err != nil {
			return nil, err
		}
		before := d.Lookups()
		took, err := burst(auth.Handler, round)
		if err != nil {
			return nil, fmt.Errorf("dssauth: %w", err)
		}
		mostCalls = max(mostCalls, d.Lookups()-before)
		ours = append(ours, took.Seconds())
		_ = auth.Close()

		if took, err = burst(askEachTime(d), round); err != nil {
			return nil, fmt.Errorf("without coalescing: %w", err)
		}
		plain = append(plain, took.Seconds())
	}
	ratio := ours.Ratio(plain)
	fmt.Printf("%d requests of one new visitor at once (DSS takes %s, %d at a time): at most %d call; %.0f ms, against %.0f ms and %d calls where each request asks; ratio %s.\n",
		atOnce, dssLatency, dssThreads, mostCalls, 1000*ours.Median(), 1000*plain.Median(), atOnce, ratio.Spread())
	return []bench.Target{
		{Number: "7", What: "calls for 1,000 requests of one new visitor", Reached: float64(mostCalls), AtMost: true, Bound: 1},
		{Number: "7", What: "their time, times that without coalescing", Reached: ratio.Median(), AtMost: true, Bound: 0.3},
	}, nil
}

// burst returns the time of all requests together.
func burst(wrap func(http.Handler) http.Handler, user int) (time.Duration, error) {
	var served atomic.Int64
	h := wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }))
	var ready, running sync.WaitGroup
	start := make(chan struct{})
	ready.Add(atOnce)
	for range atOnce {
		r := bench.Request(bench.Session, user, 350)
		running.Go(func() {
			ready.Done()
			<-start
			h.ServeHTTP(bench.Discard(), r)
		})
	}
	ready.Wait()
	began := time.Now()
	close(start)
	running.Wait()
	took := time.Since(began)
	if n := served.Load(); n != atOnce {
		return 0, fmt.Errorf("%d of %d requests of a signed-in visitor were refused", atOnce-n, atOnce)
	}
	return took, nil
}

type loginKey struct{}

// askEachTime is the simplest middleware: it asks DSS for each request.
func askEachTime(d *bench.DSS) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			info, err := d.Client.AuthInfoFromBrowserHeaders(r.Context(), http.Header{"Cookie": r.Header["Cookie"]})
			if err != nil || info.Login() == "" {
				http.Error(w, "unauthorized", http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), loginKey{}, info.Login())))
		})
	}
}
