package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/dssauth/dssauth/bench"
)

// cell is one situation in which all contenders are measured.
type cell struct {
	size  int
	users string
	cores int
}

var coreCounts = []int{1, 2}

func (c cell) String() string {
	cores := "1 core"
	if c.cores > 1 {
		cores = fmt.Sprintf("%d cores", c.cores)
	}
	return fmt.Sprintf("%d B %s, %s", c.size, c.users, cores)
}

// table holds the results of all rounds.
type table struct {
	names   []string
	cells   []cell
	rounds  map[string]map[cell][]bench.Result // by contender
	lookups map[string]int
	cpu     bool // judge by CPU time
}

func newTable() *table {
	t := &table{rounds: map[string]map[cell][]bench.Result{}, lookups: map[string]int{}}
	for _, s := range scenes {
		for _, cores := range coreCounts {
			t.cells = append(t.cells, cell{s.size, s.users.Name, cores})
		}
	}
	return t
}

func (t *table) add(name string, c cell, r bench.Result, lookups int) {
	if t.rounds[name] == nil {
		t.names = append(t.names, name)
		t.rounds[name] = map[cell][]bench.Result{}
	}
	t.rounds[name][c] = append(t.rounds[name][c], r)
	t.lookups[name] += lookups
}

func (t *table) ns(name string, c cell) bench.Sample {
	var s bench.Sample
	for _, r := range t.rounds[name][c] {
		if t.cpu {
			s = append(s, r.Each(float64(r.CPU)))
		} else {
			s = append(s, r.Each(float64(r.Wall)))
		}
	}
	return s
}

// memory returns allocations and bytes of a request, medians of all cells.
func (t *table) memory(name string) (allocs, bytes float64) {
	var a, b bench.Sample
	for _, rounds := range t.rounds[name] {
		for _, r := range rounds {
			a, b = append(a, r.Each(float64(r.Allocs))), append(b, r.Each(float64(r.Bytes)))
		}
	}
	return math.Round(a.Median()), math.Round(b.Median())
}

// above is a contender's time above FLOOR.
func (t *table) above(name string, c cell) bench.Sample {
	return t.ns(name, c).Minus(t.ns(bench.Floor, c))
}

// bare is a hit's time above FLOOR without the two response headers.
func (t *table) bare(c cell) bench.Sample {
	return t.ns(bench.Ours, c).Minus(t.ns(bench.FloorHeaders, c))
}

// gain is a contender's addition to FLOOR, divided by ours.
func (t *table) gain(name string, c cell) bench.Sample {
	return t.above(name, c).Ratio(t.above(bench.Ours, c))
}

func (t *table) print() {
	clock := "wall"
	if t.cpu {
		clock = "CPU"
	}
	fmt.Printf("Nanoseconds of %s time above FLOOR per request, with %d MB of live heap and 19 request headers; median of the rounds' differences [quartiles]. "+
		"With two cores, two requests share them:\n\n", clock, liveHeap>>20)
	t.printRows("allocations, bytes", func(name string) string {
		allocs, bytes := t.memory(name)
		return fmt.Sprintf("%.0f, %.0f B", allocs, bytes)
	}, func(name string, c cell) string { return t.above(name, c).Whole() })

	fmt.Printf("\nThe whole request, FLOOR included, in nanoseconds of %s time, median:\n\n", clock)
	t.printRows("", nil, func(name string, c cell) string { return fmt.Sprintf("%.0f", t.ns(name, c).Median()) })

	fmt.Print("\nTimes what dssauth adds to FLOOR, median of the rounds' ratios [quartiles]:\n\n")
	t.printRows("", nil, func(name string, c cell) string { return t.gain(name, c).Spread() })

	fmt.Print("\nCalls to DSS while hits were measured:")
	for _, name := range t.names {
		if t.lookups[name] > 0 {
			fmt.Printf(" %s %d.", name, t.lookups[name])
		}
	}
	fmt.Println()
}

func (t *table) printRows(extra string, extraValue func(name string) string, value func(name string, c cell) string) {
	head, line := []string{"", extra}, []string{"---", "---"}
	for _, c := range t.cells {
		head, line = append(head, c.String()), append(line, "---")
	}
	if extraValue == nil {
		head, line = append(head[:1], head[2:]...), line[1:]
	}
	fmt.Printf("| %s |\n| %s |\n", strings.Join(head, " | "), strings.Join(line, " | "))
	for _, name := range t.names {
		row := []string{name}
		if extraValue != nil {
			row = append(row, extraValue(name))
		}
		for _, c := range t.cells {
			if len(t.rounds[name][c]) == 0 {
				row = append(row, "–")
				continue
			}
			row = append(row, value(name, c))
		}
		fmt.Printf("| %s |\n", strings.Join(row, " | "))
	}
}

// targets of a hit's time are judged with one user on one core, and targets
// against Kubernetes in every cell.
func (t *table) targets() []bench.Target {
	allocs, bytes := t.memory(bench.Ours)
	changing, _ := t.memory(bench.OursChanging)
	small, large := cell{350, bench.Hot.Name, 1}, cell{1536, bench.Hot.Name, 1}
	targets := []bench.Target{
		{Number: "1", What: "allocations of a hit", Reached: allocs, AtMost: true, Bound: 1},
		{Number: "1", What: "bytes of a hit", Reached: bytes, AtMost: true, Bound: 384},
		{Number: "2", What: "ns above FLOOR, without the two response headers, " + small.String(), Reached: t.bare(small).Median(), AtMost: true, Bound: 105},
		{Number: "3", What: "the same, " + large.String(), Reached: t.bare(large).Median(), AtMost: true, Bound: 215},
		{Number: "13a", What: "ns that the two response headers add, " + small.String(), Reached: t.above(bench.FloorHeaders, small).Median(), AtMost: true, Bound: 130},
		{Number: "11a", What: "allocations of a hit whose stray cookie changes", Reached: changing, AtMost: true, Bound: 1},
		{Number: "11a", What: fmt.Sprintf("its ns in all, %s (a hit whose cookies do not change: %.0f)", small, t.ns(bench.Ours, small).Median()),
			Reached: t.ns(bench.OursChanging, small).Median(), AtMost: true, Bound: 950},
	}
	k8s := map[int]map[string]float64{
		350:  {bench.Hot.Name: 3.5, bench.Zipf10k.Name: 3},
		1536: {bench.Hot.Name: 4.5, bench.Zipf10k.Name: 3.5},
	}
	for _, c := range t.cells {
		targets = append(targets, bench.Target{
			Number: "4", What: "what Kubernetes' adds, times what dssauth adds, " + c.String(),
			Reached: t.gain(bench.K8s, c).Median(), Bound: k8s[c.size][c.users],
		})
	}
	return targets
}
