//go:build unix

package main

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dssauth/dssauth/bench"
)

const (
	callsTTL = 2 * time.Second
	visitors = 40
	gap      = 40 * time.Millisecond // between the requests of one, on the mean
)

// fleet is some replicas of an application, and its DSS.
type fleet struct {
	dss      *bench.DSS
	replicas []*replica
	shared   bool
	calls    bench.Sample // in each window
	failures uint64       // calls of the store
}

func newFleet(size int, server *bench.Redis) (*fleet, error) {
	d, err := bench.StartDSS(visitors)
	if err != nil {
		return nil, err
	}
	d.SetLatency(5 * time.Millisecond)
	f := &fleet{dss: d, shared: server != nil}
	for range size {
		r, err := newReplica(server, d.Client, callsTTL)
		if err != nil {
			return nil, err
		}
		f.replicas = append(f.replicas, r)
	}
	return f, nil
}

// compareCalls counts at the same time what fleets of all sizes ask of their DSS,
// whose visitors reach any replica with each request. It returns what eight with a
// store ask, times what one process asks.
func compareCalls(server *bench.Redis) (float64, error) {
	var fleets []*fleet
	for _, s := range []*bench.Redis{nil, server} {
		for _, size := range []int{1, 2, 4, 8} {
			f, err := newFleet(size, s)
			if err != nil {
				return 0, err
			}
			fleets = append(fleets, f)
		}
	}
	var over atomic.Bool
	var failed atomic.Int64
	var running sync.WaitGroup
	for _, f := range fleets {
		for user := range visitors {
			running.Go(func() {
				for !over.Load() {
					if _, err := f.replicas[rand.IntN(len(f.replicas))].visit(user); err != nil {
						failed.Add(1)
					}
					time.Sleep(gap/2 + rand.N(gap))
				}
			})
		}
	}
	time.Sleep(2 * callsTTL) // all are known
	before := make([]int, len(fleets))
	for i, f := range fleets {
		before[i] = f.dss.Lookups()
	}
	for range *windows {
		time.Sleep(*window)
		for i, f := range fleets {
			now := f.dss.Lookups()
			f.calls = append(f.calls, float64(now-before[i]))
			before[i] = now
		}
	}
	over.Store(true)
	running.Wait()
	for _, f := range fleets {
		for _, r := range f.replicas {
			f.failures += r.auth.Stats().Store.Failures
			r.close()
		}
		f.dss.Close()
	}
	if n := failed.Load(); n > 0 {
		return 0, fmt.Errorf("%d requests were refused", n)
	}

	fmt.Printf("## Calls of DSS\n\n%d visitors, each with a request every %v on the mean, at a random replica; TTL %v, DSS takes 5ms. All fleets run at once, each with a DSS of its own.\n\n", visitors, gap, callsTTL)
	fmt.Print("| replicas | calls of DSS a second, times those of one process, median [its 95 % interval], without the store | with it | calls of it that failed |\n| --- | --- | --- | --- |\n")
	one := fleets[0].calls
	times := func(f *fleet) string {
		ratio := f.calls.Ratio(one)
		low, high := ratio.Interval(0.95)
		return fmt.Sprintf("%.0f, %.2f [%.2f–%.2f]", f.calls.Median()/window.Seconds(), ratio.Median(), low, high)
	}
	half := len(fleets) / 2
	for i, f := range fleets[:half] {
		with := fleets[half+i]
		fmt.Printf("| %d | %s | %s | %d |\n", len(f.replicas), times(f), times(with), with.failures)
	}
	return fleets[len(fleets)-1].calls.Ratio(one).Median(), nil
}
