package bench

import (
	"math/bits"
	"time"
)

// Histogram counts durations in buckets that are about 3% wide, without
// allocating. It is the part of an HdrHistogram that bench needs.
type Histogram struct {
	counts [64 * 32]int
	total  int
}

// Add counts one duration.
func (h *Histogram) Add(d time.Duration) {
	h.counts[bucket(uint64(max(d, 0)))]++
	h.total++
}

// Merge adds the counts of other.
func (h *Histogram) Merge(other *Histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
}

// Total is the number of counted durations.
func (h *Histogram) Total() int { return h.total }

// Quantile returns the upper end of the bucket in which the q-quantile lies;
// 0 of nothing.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := int(q * float64(h.total))
	for i, n := range h.counts {
		if rank -= n; rank < 0 {
			return time.Duration(upper(i))
		}
	}
	return 0
}

// bucket is exact below 32, and has 32 steps to each power of two above.
func bucket(ns uint64) int {
	shift := max(0, bits.Len64(ns)-6)
	return shift*32 + int(ns>>shift)
}

func upper(bucket int) uint64 {
	shift := max(0, bucket/32-1)
	return uint64(bucket-shift*32+1)<<shift - 1
}
