package bench

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Sample is one figure, measured several times.
type Sample []float64

// Ratio divides two samples round by round, so that a slow round cancels out.
func (s Sample) Ratio(by Sample) Sample {
	ratio := make(Sample, min(len(s), len(by)))
	for i := range ratio {
		ratio[i] = s[i] / by[i]
	}
	return ratio
}

// Minus subtracts in the same way.
func (s Sample) Minus(other Sample) Sample {
	rest := make(Sample, min(len(s), len(other)))
	for i := range rest {
		rest[i] = s[i] - other[i]
	}
	return rest
}

// Quantile returns the q-quantile, with linear interpolation; NaN of nothing.
func (s Sample) Quantile(q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

// Median is the 0.5-quantile.
func (s Sample) Median() float64 { return s.Quantile(0.5) }

// Spread prints the median with the quartiles, as in "1.50 [1.47–1.55]".
func (s Sample) Spread() string {
	return fmt.Sprintf("%.2f [%.2f–%.2f]", s.Median(), s.Quantile(0.25), s.Quantile(0.75))
}

// Whole is Spread without decimals.
func (s Sample) Whole() string {
	return fmt.Sprintf("%.0f [%.0f–%.0f]", s.Median(), s.Quantile(0.25), s.Quantile(0.75))
}

// Interval returns a range that holds the true median with at least the given
// confidence, for any distribution. The range lies between two of the values,
// and is as narrow as the sign test allows. With too few values it is infinite.
func (s Sample) Interval(confidence float64) (low, high float64) {
	n, out := len(s), 0
	// The chance that fewer than out+1 of n values lie below the median, or as
	// many above it.
	term := math.Pow(0.5, float64(n))
	for outside := 2 * term; outside <= 1-confidence; outside += 2 * term {
		out++
		term *= float64(n-out+1) / float64(out)
	}
	if out == 0 {
		return math.Inf(-1), math.Inf(1)
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[out-1], sorted[n-out]
}

// Target is a figure to reach, and the reached one.
type Target struct {
	Number  string // in README.md
	What    string
	Reached float64
	AtMost  bool // otherwise at least
	Bound   float64
	Stretch bool // good to reach; missing it is not a failure
}

// Met reports whether the target was reached.
func (t Target) Met() bool {
	if t.AtMost {
		return t.Reached <= t.Bound
	}
	return t.Reached >= t.Bound
}

func (t Target) String() string {
	sign, verdict := "≥", "PASS"
	if t.AtMost {
		sign = "≤"
	}
	if !t.Met() {
		verdict = fmt.Sprintf("MISS by %.0f%%", 100*math.Abs(t.Reached/t.Bound-1))
	}
	return fmt.Sprintf("| %s | %s | %s %.4g | %.4g | %s |", t.Number, t.What, sign, t.Bound, t.Reached, verdict)
}

// PrintTargets prints a table of targets and reports whether all were met.
func PrintTargets(targets []Target) bool {
	met := true
	fmt.Print("\n| # | target | bound | reached | |\n| --- | --- | --- | --- | --- |\n")
	for _, t := range targets {
		fmt.Println(t)
		met = met && (t.Met() || t.Stretch)
	}
	return met
}

// Machine describes the machine and the time of a run.
func Machine() string {
	model := runtime.GOARCH
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, found := strings.CutPrefix(line, "model name"); found {
				model = strings.Trim(name, "\t :\n")
				break
			}
		}
	}
	commit := "an uncommitted tree"
	if out, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output(); err == nil {
		commit = strings.TrimSpace(string(out))
		if out, err := exec.Command("git", "status", "--porcelain", "--untracked-files=no").Output(); err != nil || len(out) > 0 {
			commit += " with changes"
		}
	}
	return fmt.Sprintf("%s · %s %s/%s · %s, %d cores · %s",
		time.Now().UTC().Format("2006-01-02 15:04 UTC"), runtime.Version(), runtime.GOOS, runtime.GOARCH, model, runtime.NumCPU(), commit)
}
