package main

import (
	"fmt"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/bench"
)

// earliestRefresh is the age of an answer at which a hit may first start its
// refresh: 70% of a life that is up to 10% shorter than Config.TTL.
const earliestRefresh = time.Duration(0.9 * 0.7 * float64(10*time.Second))

// busyVisitor lets one visitor send a request every millisecond, and counts the
// requests that wait for DSS. DSS is slow enough for that to show.
func busyVisitor(watched time.Duration) ([]bench.Target, error) {
	const latency = 250 * time.Millisecond
	d, err := bench.StartDSS(1)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	d.WorkAs(dssThreads, latency)
	auth, err := dssauth.New(dssauth.Config{Client: d.Client})
	if err != nil {
		return nil, err
	}
	defer func() { _ = auth.Close() }()

	var served atomic.Int64
	h := auth.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }))
	waited, requests := 0, int64(0)
	for end := time.Now().Add(watched); time.Now().Before(end); requests++ {
		began := time.Now()
		h.ServeHTTP(bench.Discard(), bench.Request(bench.Session, 0, 350))
		if time.Since(began) > latency/2 {
			waited++
		}
		time.Sleep(time.Millisecond)
	}
	if served.Load() != requests {
		return nil, fmt.Errorf("the busy visitor: %d of %d requests were refused", requests-served.Load(), requests)
	}
	allowed := math.Ceil(float64(watched)/float64(earliestRefresh)) + 1
	fmt.Printf("\nOne visitor, %d requests in %s: %d calls, %d request waited for DSS.\n", requests, watched, d.Lookups(), waited)
	return []bench.Target{
		{Number: "8", What: fmt.Sprintf("calls for one busy visitor in %s", watched), Reached: float64(d.Lookups()), AtMost: true, Bound: allowed},
		{Number: "8", What: "requests that waited for DSS", Reached: float64(waited), AtMost: true, Bound: 1},
	}, nil
}

// expiry lets a thousand answers expire within a tenth of Config.TTL. Then all
// their visitors come back at once, with three requests each.
func expiry() ([]bench.Target, error) {
	const visitors, each = 1000, 3
	d, err := startSlowDSS(visitors)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	auth, err := dssauth.New(dssauth.Config{Client: d.Client, TTL: time.Second})
	if err != nil {
		return nil, err
	}
	defer func() { _ = auth.Close() }()
	if err := bench.VisitAll(auth.Handler, bench.Session, visitors, 350, func(int, *http.Request) {}); err != nil {
		return nil, err
	}
	time.Sleep(1100 * time.Millisecond)
	before := d.Lookups()

	var served, mostInFlight atomic.Int64
	h := auth.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }))
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
				mostInFlight.Store(max(mostInFlight.Load(), int64(auth.Stats().InFlight)))
			}
		}
	}()
	var running sync.WaitGroup
	began := time.Now()
	for i := range visitors * each {
		running.Go(func() { h.ServeHTTP(bench.Discard(), bench.Request(bench.Session, i%visitors, 350)) })
	}
	running.Wait()
	took := time.Since(began)
	close(done)

	calls := d.Lookups() - before
	fmt.Printf("\n%d answers expired, all visitors back at once, %d requests each: %d calls, at most %d at a time, %d of %d requests served, in %.0f ms (DSS alone needs %.0f ms).\n",
		visitors, each, calls, mostInFlight.Load(), served.Load(), visitors*each, 1000*took.Seconds(),
		1000*dssLatency.Seconds()*visitors/dssThreads)
	return nil, nil
}
