package bench_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/dssauth/dssauth/bench"
)

func TestHistogram(t *testing.T) {
	var h, other bench.Histogram
	for d := time.Duration(1); d <= 1000; d++ {
		h.Add(d * time.Microsecond)
	}
	assert.InEpsilon(t, 500*time.Microsecond, h.Quantile(0.5), 0.04)
	assert.InEpsilon(t, 990*time.Microsecond, h.Quantile(0.99), 0.04)
	other.Add(time.Hour)
	h.Merge(&other)
	assert.Equal(t, 1001, h.Total())
	assert.InEpsilon(t, time.Hour, h.Quantile(0.9999), 0.04)
	for _, d := range []time.Duration{0, 1, 31, 32, 63, 64, 65, 1 << 40, 1<<62 + 5} {
		var one bench.Histogram
		one.Add(d)
		q := one.Quantile(0.5)
		assert.GreaterOrEqual(t, q, d)
		assert.LessOrEqual(t, float64(q), float64(d)*1.04+1)
	}
}
