// Command supply shows the refusals and waits of visitors below and above the
// supply of places towards DSS. It simulates visitors in virtual time, with the
// real library, so that each run prints nearly the same on any machine.
package main

import (
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/bench"
	"github.com/dssauth/dssauth/internal/simulated"
)

// row is one simulation.
type row struct {
	name     string
	visitors int
	latency  time.Duration
	places   int // Config.MaxLookups; zero is the default
}

const (
	ttl      = 10 * time.Second // by default
	arriving = ttl
	every    = 3 * time.Second
	settling = 30 * time.Second
	staying  = time.Minute
	places   = 32
	latency  = 100 * time.Millisecond
)

// supply is the number of visitors that this many places serve.
func supply(places int, latency time.Duration) float64 {
	return 0.85 * float64(ttl) * float64(places) / float64(latency)
}

// Virtual time needs a [testing.T], which testing.Main makes. It ends the process.
func main() {
	testing.Main(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "supply", F: table}}, nil, nil)
}

func table(t *testing.T) {
	var rows []row
	for _, times := range []float64{0.5, 1, 2, 4} {
		rows = append(rows, row{fmt.Sprintf("%g × the supply", times), int(times * supply(places, latency)), latency, places})
	}
	rows = append(rows, row{name: "defaults", visitors: 2500, latency: 400 * time.Millisecond})
	fmt.Print("| | visitors | DSS takes | MaxLookups | refused: known visitors | everybody | everybody, once settled | let in | of these within 0.3 s | the last one after | mean wait of a request | calls of DSS a second | places at the end |\n",
		"| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	for _, r := range rows {
		synctest.Test(t, r.simulate)
	}
	fmt.Printf("\nVirtual time: visitors come within %s, send a request every %s, and leave after %s; \"settled\" is after %s.\n", arriving, every, staying, settling)
	fmt.Printf("\n%s · `go run ./cmd/supply`\n", bench.Machine())
}

// simulate prints r's line.
func (r row) simulate(t *testing.T) {
	dss := simulated.NewDSS(1<<20, r.latency)
	auth, err := dssauth.New(dssauth.Config{Resolver: dss, MaxLookups: r.places, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	seen := simulated.Visitors{Count: r.visitors, Arriving: arriving, Every: every, Staying: staying, Settling: settling}.Visit(auth)
	most := fmt.Sprint(r.places)
	if r.places == 0 {
		most = "default"
	}
	fmt.Printf("| %s | %d | %s | %s | %.2f %% | %.1f %% | %.1f %% | %.1f %% | %.1f %% | %.1f s | %d ms | %.0f | %d |\n",
		r.name, r.visitors, r.latency, most, seen.Known.Percent(), seen.All.Percent(), seen.Settled.Percent(),
		100*float64(seen.In)/float64(r.visitors), 100*float64(seen.Quickly)/float64(max(1, seen.In)), seen.Longest.Seconds(),
		(seen.Waited / time.Duration(seen.All.Of)).Milliseconds(), float64(dss.Load().Calls)/staying.Seconds(), auth.Stats().Places)
	if err := auth.Close(); err != nil {
		t.Fatal(err)
	}
	<-time.After(ttl) // until DSS rests
}
