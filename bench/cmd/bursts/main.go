// Command bursts shows the number of questions to DSS, and the waits of
// visitors, when much happens at once: newcomers, expiry, floods of junk
// cookies, a DSS that hangs.
package main

import (
	"flag"
	"fmt"
	"log"
	"log/slog"
	"os"
	"time"

	"github.com/dssauth/dssauth/bench"
)

func main() {
	rounds := flag.Int("rounds", 12, "rounds of what is timed")
	busy := flag.Duration("busy", 25*time.Second, "how long the busy visitor is watched")
	enforce := flag.Bool("enforce", false, "exit with status 1 if a target is missed")
	flag.Parse()
	log.SetFlags(0)
	// The hanging DSS is intended here.
	slog.SetDefault(slog.New(slog.DiscardHandler))

	started := time.Now()
	var targets []bench.Target
	for _, scenario := range []func() ([]bench.Target, error){
		func() ([]bench.Target, error) { return newcomer(*rounds) },
		func() ([]bench.Target, error) { return busyVisitor(*busy) },
		expiry,
		func() ([]bench.Target, error) { return quietHangFlood(*rounds) },
	} {
		more, err := scenario()
		if err != nil {
			log.Fatal("bursts: ", err)
		}
		targets = append(targets, more...)
	}
	met := bench.PrintTargets(targets)
	fmt.Printf("\n%s · %s · `go run ./cmd/bursts -rounds %d -busy %s`\n",
		bench.Machine(), time.Since(started).Round(time.Second), *rounds, *busy)
	if *enforce && !met {
		os.Exit(1)
	}
}

// dssLatency is DSS's time for an answer, and dssThreads the number of
// questions that it works on at once.
const (
	dssLatency = 20 * time.Millisecond
	dssThreads = 32
)

func startSlowDSS(users int) (*bench.DSS, error) {
	d, err := bench.StartDSS(users)
	if err == nil {
		d.WorkAs(dssThreads, dssLatency)
	}
	return d, err
}
