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

// table holds what all rounds measured.
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

// perFloor is how many times as long as FLOOR a contender takes.
func (t *table) perFloor(name string, c cell) bench.Sample {
	return t.ns(name, c).Ratio(t.ns(bench.Floor, c))
}

// gain is how many times as long as ours a contender takes.
func (t *table) gain(name string, c cell) bench.Sample {
	return t.ns(name, c).Ratio(t.ns(bench.Ours, c))
}

func (t *table) print() {
	clock := "wall"
	if t.cpu {
		clock = "CPU"
	}
	fmt.Printf("Nanoseconds of %s time per request, median (with two cores, two requests share them):\n\n", clock)
	t.printRows("allocations, bytes", func(name string) string {
		allocs, bytes := t.memory(name)
		return fmt.Sprintf("%.0f, %.0f B", allocs, bytes)
	}, func(name string, c cell) string { return fmt.Sprintf("%.0f", t.ns(name, c).Median()) })

	fmt.Print("\nTimes FLOOR, median of the rounds' ratios [quartiles]:\n\n")
	t.printRows("", nil, func(name string, c cell) string { return t.perFloor(name, c).Spread() })

	fmt.Print("\nTimes dssauth, likewise: what the others take for each nanosecond of ours:\n\n")
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
			row = append(row, value(name, c))
		}
		fmt.Printf("| %s |\n", strings.Join(row, " | "))
	}
}

// targets are judged in every cell, at one core and at two.
func (t *table) targets() []bench.Target {
	allocs, bytes := t.memory(bench.Ours)
	targets := []bench.Target{
		{Number: 1, What: "allocations of a hit", Reached: allocs, AtMost: true, Bound: 1},
		{Number: 1, What: "bytes of a hit", Reached: bytes, AtMost: true, Bound: 368},
	}
	floor := map[int]map[string]float64{
		350:  {bench.Hot.Name: 1.5, bench.Zipf10k.Name: 1.9},
		1536: {bench.Hot.Name: 2.0, bench.Zipf10k.Name: 2.4},
	}
	number := map[int]int{350: 2, 1536: 3}
	for _, c := range t.cells {
		targets = append(targets, bench.Target{
			Number: number[c.size], What: "times FLOOR, " + c.String(),
			Reached: t.perFloor(bench.Ours, c).Median(), AtMost: true, Bound: floor[c.size][c.users],
		})
	}
	k8s := map[string]float64{bench.Hot.Name: 4, bench.Zipf10k.Name: 3}
	for _, c := range t.cells {
		targets = append(targets, bench.Target{
			Number: 4, What: "times faster than Kubernetes', " + c.String(),
			Reached: t.gain(bench.K8s, c).Median(), Bound: k8s[c.users],
		})
	}
	return targets
}
