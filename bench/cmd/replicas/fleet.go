//go:build unix

package main

import (
	"fmt"
	"time"
)

// The fleet: each visitor has a request every 3 seconds on the mean, at
// random times, and each request reaches a random pod.
const (
	pods        = 50
	ofFleet     = 20_000 // visitors
	between     = 3 * time.Second
	ttl         = 10 * time.Second
	life        = 0.95 // of an answer, on the mean: it ends up to a tenth early
	renewed     = 0.7  // of its life, after which a hit asks DSS again
	believed    = 0.9  // of the TTL: the time for which a store's answer is used
	probesOfPod = 1.0  // a second, of a store that is out
)

// printFleet computes the cost of a fleet from the cost of one request.
func printFleet(c costs) {
	rate := ofFleet / between.Seconds() // requests a second
	// A renewal process: an answer's life, and then the time until the next
	// request, which is distributed like any time between two requests.
	every := func(lived float64, gap time.Duration) float64 {
		return ofFleet / (lived*ttl.Seconds() + gap.Seconds())
	}
	one := every(life*renewed, between)
	apart := pods * every(life, pods*between)
	// An answer from the store has, on the mean, half its time left.
	found := pods * every(believed/2, pods*between)
	shared := every(believed, between)
	found -= shared

	cores := func(n float64, of time.Duration) float64 { return n * of.Seconds() }
	calls := found*c.shared.calls + shared*c.asked.calls
	fmt.Printf("\n## %d pods and %d visitors\n\nComputed from the costs above: a request of each visitor every %v, at random times and random pods; TTL %v. Cores are those of all pods together, for this library's part of a request.\n\n", pods, ofFleet, between, ttl)
	fmt.Print("| | calls of DSS a second | times one process | calls of Redis a second | cores, all pods | cores, Redis |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, row := range []struct {
		name       string
		dss, redis float64
		cores      float64
	}{
		{"one process, if it could serve all", one, 0, cores(rate, c.memory) + cores(one, c.own.cpu)},
		{"50 pods without the store", apart, 0, cores(rate, c.memory) + cores(apart, c.own.cpu)},
		{"50 pods with it", shared, calls, cores(rate, c.memory) + cores(found, c.shared.cpu) + cores(shared, c.asked.cpu)},
		{"50 pods while it is out", apart, pods * probesOfPod, cores(rate, c.memory) + cores(apart, c.own.cpu)},
	} {
		fmt.Printf("| %s | %.0f | %.2f | %.0f | %.2f | %.2f |\n", row.name, row.dss, row.dss/one, row.redis, row.cores, cores(row.redis, c.redis))
	}
}
