package bench_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/dssauth/dssauth/bench"
)

// The ranks are those of tables of the sign test.
func TestIntervalOfTheMedian(t *testing.T) {
	for _, row := range []struct {
		values    int
		low, high float64
	}{
		{5, math.Inf(-1), math.Inf(1)}, {6, 1, 6}, {8, 1, 8}, {9, 2, 8}, {20, 6, 15}, {40, 14, 27}, {100, 40, 61},
	} {
		var s bench.Sample
		for i := range row.values {
			s = append(s, float64((i*7)%row.values+1)) // 1 to values, unless 7 divides it
		}
		low, high := s.Interval(0.95)
		assert.Equal(t, row.low, low, "%d values", row.values)
		assert.Equal(t, row.high, high, "%d values", row.values)
	}
}
