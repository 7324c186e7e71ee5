//go:build unix

package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dssauth/dssauth/bench"
)

const (
	callsTTL = 2 * time.Second
	visitors = 40
	gap      = 80 * time.Millisecond // between the requests of one, on the mean
)

// fleet is some replicas of an application, and its DSS.
type fleet struct {
	dss      *bench.DSS
	replicas []*replica
	calls    bench.Sample // in each window
	failed   []uint64     // calls of the store, in the same way
}

func newFleet(size int, server *bench.Redis) (*fleet, error) {
	d, err := bench.StartDSS(visitors)
	if err != nil {
		return nil, err
	}
	d.SetLatency(5 * time.Millisecond)
	f := &fleet{dss: d}
	for range size {
		r, err := newReplica(server, d.Client, callsTTL)
		if err != nil {
			return nil, err
		}
		f.replicas = append(f.replicas, r)
	}
	return f, nil
}

// compareCalls counts the calls of DSS by fleets of all sizes at the same time.
// Each request of a visitor reaches any replica. It returns the calls of eight
// replicas with a store, divided by those of one process.
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
	before, failures := make([]int, len(fleets)), make([]uint64, len(fleets))
	for i, f := range fleets {
		before[i], failures[i] = f.dss.Lookups(), f.failures()
	}
	for range *windows {
		time.Sleep(*window)
		for i, f := range fleets {
			now, bad := f.dss.Lookups(), f.failures()
			f.calls, f.failed = append(f.calls, float64(now-before[i])), append(f.failed, bad-failures[i])
			before[i], failures[i] = now, bad
		}
	}
	over.Store(true)
	running.Wait()
	for _, f := range fleets {
		for _, r := range f.replicas {
			r.close()
		}
		f.dss.Close()
	}
	if n := failed.Load(); n > 0 {
		return 0, fmt.Errorf("%d requests were refused", n)
	}

	fmt.Printf("## Calls of DSS\n\n%d visitors, each with a request every %v on the mean, at a random replica; TTL %v, DSS takes 5ms. All fleets run at once, each with a DSS of its own.\n\n", visitors, gap, callsTTL)
	fmt.Print("Calls of DSS a second, and times those of one process without a store, median [its 95 % interval]. A window is sound if no call of the store failed in it, as calls do where other processes keep the machine busy for 50 ms.\n\n")
	fmt.Print("| replicas | without the store | with it, all windows | with it, sound windows | sound |\n| --- | --- | --- | --- | --- |\n")
	one := fleets[0].calls
	times := func(calls, ratio bench.Sample) string {
		if len(calls) == 0 {
			return "none"
		}
		low, high := ratio.Interval(0.95)
		if math.IsInf(low, 0) {
			return fmt.Sprintf("%.0f, %.2f [too few for one]", calls.Median()/window.Seconds(), ratio.Median())
		}
		return fmt.Sprintf("%.0f, %.2f [%.2f–%.2f]", calls.Median()/window.Seconds(), ratio.Median(), low, high)
	}
	half := len(fleets) / 2
	reached := 0.0
	for i, f := range fleets[:half] {
		with := fleets[half+i]
		ratio := with.calls.Ratio(one)
		var soundCalls, soundRatio bench.Sample
		for n, failed := range with.failed {
			if failed == 0 {
				soundCalls, soundRatio = append(soundCalls, with.calls[n]), append(soundRatio, ratio[n])
			}
		}
		if reached = ratio.Median(); len(soundRatio) > 0 {
			reached = soundRatio.Median()
		}
		fmt.Printf("| %d | %s | %s | %s | %d of %d |\n", len(f.replicas), times(f.calls, f.calls.Ratio(one)), times(with.calls, ratio), times(soundCalls, soundRatio), len(soundRatio), *windows)
	}
	return reached, nil
}

func (f *fleet) failures() (sum uint64) {
	for _, r := range f.replicas {
		sum += r.auth.Stats().Store.Failures
	}
	return sum
}
