// Command gates compares a hit without a gate with the same hit through a gate by
// group and through one by a remembered project verdict, in turns of one process.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/bench"
)

func main() {
	rounds := flag.Int("rounds", 40, "rounds")
	each := flag.Duration("time", 50*time.Millisecond, "how long each is measured in a round")
	size := flag.Int("size", 350, "bytes of the Cookie header")
	enforce := flag.Bool("enforce", false, "exit with status 1 if a target is missed")
	flag.Parse()
	log.SetFlags(0)
	log.SetPrefix("gates: ")

	d, err := bench.StartDSS(1)
	if err != nil {
		log.Fatal(err)
	}
	auth, err := dssauth.New(dssauth.Config{Client: d.Client, Impersonation: dssauth.ByTicket})
	if err != nil {
		log.Fatal(err)
	}
	met := compare(auth, *size, *rounds, *each)
	_ = auth.Close()
	d.Close()
	if *enforce && !met {
		os.Exit(1)
	}
}

// alive is the size of an application's heap. With a smaller heap the collector
// would dominate the figures.
const alive = 64 << 20

func compare(auth *dssauth.Middleware, size, rounds int, each time.Duration) (met bool) {
	contenders := []struct {
		name string
		wrap func(http.Handler) http.Handler
	}{
		{"no gate", auth.Handler},
		{"RequireGroup", func(next http.Handler) http.Handler { return auth.Handler(auth.RequireGroup("analysts")(next)) }},
		{"RequireProject", func(next http.Handler) http.Handler { return auth.Handler(auth.RequireProject("CHURN")(next)) }},
	}
	heap := make([]byte, alive)
	traffic := bench.NewTraffic(bench.Session, bench.Hot, size)
	times := make([]bench.Sample, len(contenders))
	allocations := make([]float64, len(contenders))
	started := time.Now()
	for round := range rounds + 1 { // the first one fills the cache
		for turn := range contenders {
			i := (turn + round) % len(contenders)
			r := bench.Measure(contenders[i].wrap, traffic, 1, each)
			if r.Lost > 0 {
				log.Fatalf("%s: %d requests were refused", contenders[i].name, r.Lost)
			}
			if round > 0 {
				times[i] = append(times[i], r.Each(float64(r.CPU)))
				allocations[i] = r.Each(float64(r.Allocs))
			}
		}
	}
	heap[0] = 1

	fmt.Print("| a hit through | ns of CPU time, median | allocations | times the hit without a gate, median [its 95 % interval] |\n| --- | --- | --- | --- |\n")
	for i, c := range contenders {
		ratio := times[i].Ratio(times[0])
		low, high := ratio.Interval(0.95)
		fmt.Printf("| %s | %.0f | %.2f | %.3f [%.3f–%.3f] |\n", c.name, times[i].Median(), allocations[i], ratio.Median(), low, high)
	}
	fmt.Printf("\n%s · %d rounds in %s · `go run ./cmd/gates`\n", bench.Machine(), rounds, time.Since(started).Round(time.Second))
	last := len(contenders) - 1
	return bench.PrintTargets([]bench.Target{
		{Number: "14", What: "a remembered project verdict, times the hit without the gate", Reached: times[last].Ratio(times[0]).Median(), AtMost: true, Bound: 1.2},
		{Number: "14", What: "its allocations", Reached: float64(int(allocations[last] + 0.5)), AtMost: true, Bound: 1},
	})
}
