package main

import (
	"fmt"
	"io"
	"math"

	"github.com/dssauth/dssauth/bench"
)

// table is the results of all rounds, and the limits.
type table struct {
	cookies int
	limit   float64
	rounds  []round
}

// print prints the table and reports whether every ratio is within the limit for
// certain, and a hit allocates no more than before.
func (t table) print(w io.Writer) bool {
	fmt.Fprintf(w, "| | old | new | new / old, median of %d rounds [its 95%% interval] | within %g |\n| --- | --- | --- | --- | --- |\n", len(t.rounds), t.limit)
	hit := t.row(w, fmt.Sprintf("hit, %d B of cookies", t.cookies), func(r round) [2]cost { return r.Hit })
	changing := t.row(w, "hit, a stray cookie that changes", func(r round) [2]cost { return r.Changing })
	lookup := t.row(w, "lookup", func(r round) [2]cost { return r.Lookup })
	return hit && changing && lookup
}

func (t table) row(w io.Writer, what string, of func(round) [2]cost) bool {
	var ns, allocs, bytes [2]bench.Sample
	for _, r := range t.rounds {
		for side, c := range of(r) {
			each := func(whole float64) float64 { return whole / float64(c.Requests) }
			ns[side] = append(ns[side], each(float64(c.CPU)))
			allocs[side] = append(allocs[side], each(float64(c.Allocs)))
			bytes[side] = append(bytes[side], each(float64(c.Bytes)))
		}
	}
	cell := func(side int) string {
		return fmt.Sprintf("%.0f ns, %.0f allocations, %.0f B", ns[side].Median(), allocs[side].Median(), bytes[side].Median())
	}
	ratio := ns[1].Ratio(ns[0])
	low, high := ratio.Interval(0.95)
	verdict, within := "not certain: take more rounds", false
	switch {
	case high <= t.limit:
		verdict, within = "yes", true
	case low > t.limit:
		verdict = "no"
	}
	// The mean of many requests: a rare allocation is not one of each request.
	if math.Round(allocs[1].Median()) > math.Round(allocs[0].Median()) {
		verdict, within = verdict+"; more allocations", false
	}
	fmt.Fprintf(w, "| %s | %s | %s | %.3f [%.3f–%.3f] | %s |\n", what, cell(0), cell(1), ratio.Median(), low, high, verdict)
	return within
}
