// Command hit compares the cost of a known user's request in dssauth and in its
// peers, in interleaved rounds.
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
	enforce := flag.Bool("enforce", false, "exit with status 1 if a target is missed")
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

// liveHeap is an application's data in memory. The collector's frequency, and
// so the cost of each allocation, depends on it: without it, all would be
// measured with a heap of some megabytes.
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

// judged is the number of contenders, the first ones, that have targets.
const judged = 6

// measure runs every contender on one core and on two, in another order each
// round. All contenders are new in each round, since their answers live for
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
	// Contenders with judged ratios come first, before answers grow old.
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

// leavesOut reports whether a contender is not measured: with one request for
// each user, the same request comes again and again, and no cookie changes.
func (s scene) leavesOut(c *bench.Contender) bool {
	return c.Name == bench.OursChanging && s.users.Count > 1
}
