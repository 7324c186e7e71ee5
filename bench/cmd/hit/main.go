// Command hit compares what a request of a known user costs in dssauth and in
// its peers, in interleaved rounds.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/dssauth/dssauth/bench"
)

func main() {
	rounds := flag.Int("rounds", 12, "rounds; each measures every contender in every cell")
	each := flag.Duration("time", 150*time.Millisecond, "time of one measurement")
	hot := flag.Bool("hot", false, "measure one user only, and not ten thousand")
	cpu := flag.Bool("cpu", false, "judge by the process's CPU time instead of the clock on the wall, where other processes need the machine too")
	enforce := flag.Bool("enforce", false, "exit with status 1 where a target is missed")
	flag.Parse()
	log.SetFlags(0)

	if *hot {
		scenes = slices.DeleteFunc(scenes, func(s scene) bool { return s.users.Count > 1 })
	}
	ballast := make([]byte, liveHeap)
	defer runtime.KeepAlive(ballast)
	started := time.Now()
	table, err := measure(*rounds, *each)
	if err != nil {
		log.Fatal("hit: ", err)
	}
	table.cpu = *cpu
	table.print()
	met := bench.PrintTargets(table.targets())
	fmt.Printf("\n%s · %d rounds of %s in %s · `go run ./cmd/hit -rounds %d -time %s -cpu=%t -hot=%t`\n",
		bench.Machine(), *rounds, *each, time.Since(started).Round(time.Second), *rounds, *each, *cpu, *hot)
	if *enforce && !met {
		os.Exit(1)
	}
}

// liveHeap is what an application holds in memory. How often the collector runs,
// and so what each allocation costs, depends on it: without it, FLOOR and all
// else would be measured with a heap of some megabytes.
const liveHeap = 64 << 20

// scene is one kind of traffic.
type scene struct {
	size  int
	users bench.Users
}

var scenes = []scene{{350, bench.Hot}, {350, bench.Zipf10k}, {1536, bench.Hot}, {1536, bench.Zipf10k}}

func measure(rounds int, each time.Duration) (*table, error) {
	d, err := bench.StartDSS(bench.Zipf10k.Count)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	t := newTable()
	for round := range rounds {
		for _, s := range scenes {
			if err := s.measure(d, t, round, each); err != nil {
				return nil, err
			}
		}
		fmt.Fprintf(os.Stderr, "\rround %d of %d", round+1, rounds)
	}
	fmt.Fprint(os.Stderr, "\r                    \r")
	return t, nil
}

// judged is how many contenders, the first ones, the targets speak of.
const judged = 6

// measure lets every contender run on one core and on two, each round in
// another order, and all of them new, since those that remember do so for
// seconds only.
func (s scene) measure(d *bench.DSS, t *table, round int, each time.Duration) error {
	contenders, err := bench.NewContenders(d, s.users.Count)
	if err != nil {
		return err
	}
	// All are filled first, so that the contenders' turns lie close together.
	for _, c := range contenders {
		defer c.Close()
		if s.leavesOut(c) {
			continue
		}
		if err := c.Fill(s.users, s.size); err != nil {
			return err
		}
	}
	// Those whose ratios are judged come first, before answers grow old.
	for _, group := range [][]*bench.Contender{contenders[:judged], contenders[judged:]} {
		for i := range group {
			c := group[(i+round)%len(group)]
			if s.leavesOut(c) {
				continue
			}
			traffic := bench.NewTraffic(c.Credential, s.users, s.size)
			for _, cores := range coreCounts {
				before := c.Lookups()
				r := bench.Measure(c.Wrap, traffic, cores, each)
				if r.Lost > 0 {
					return fmt.Errorf("%s refused %d of %d requests", c.Name, r.Lost, r.Requests)
				}
				t.add(c.Name, cell{s.size, s.users.Name, cores}, r, c.Lookups()-before)
			}
		}
	}
	return nil
}

// leavesOut reports whether a contender is not measured: where there is one
// request of each user, it comes again and again, and no cookie changes.
func (s scene) leavesOut(c *bench.Contender) bool {
	return c.Name == bench.OursChanging && s.users.Count > 1
}
