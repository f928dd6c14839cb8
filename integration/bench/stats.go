package main

import (
	"cmp"
	"math/rand/v2"
	"slices"
)

// median returns the middle of the values, the mean of the middle two where
// their number is even, and 0 of none.
func median[T ~int64 | ~float64](values []T) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// medianRatio returns the median of a[i]/b[i]: what was measured in one round
// is compared with its own round. A round without both is left out.
func medianRatio(a, b []float64) float64 {
	return median(ratios(a, b))
}

// ratios are a[i]/b[i], of the rounds that have both.
func ratios(a, b []float64) (list []float64) {
	for i := range min(len(a), len(b)) {
		if b[i] > 0 {
			list = append(list, a[i]/b[i])
		}
	}
	return list
}

// confidence of the intervals, in percent.
const confidence = 90

// resamples are as many as make the interval's ends steady to a part in 1,000.
const resamples = 10_000

// medianWithin returns the median of the values, and the interval in which it lies with
// 90 % confidence, by the bootstrap: it draws as many values from these, with repetition,
// and looks how far the medians of such draws are apart. The draws are the same each time.
// Without values all results are 0.
func medianWithin(values []float64) (mid, low, high float64) {
	if len(values) == 0 {
		return 0, 0, 0
	}
	draw := rand.New(rand.NewPCG(1, 2))
	medians, some := make([]float64, resamples), make([]float64, len(values))
	for i := range medians {
		for j := range some {
			some[j] = values[draw.IntN(len(values))]
		}
		medians[i] = median(some)
	}
	slices.Sort(medians)
	const outside = (100 - confidence) / 2
	return median(values), percentile(medians, outside), percentile(medians, 100-outside)
}

// percentile returns the smallest of the sorted values that is not below p percent of
// them; the zero value if there are none.
func percentile[T cmp.Ordered](sorted []T, p int) T {
	if len(sorted) == 0 {
		var zero T
		return zero
	}
	rank := (len(sorted)*p + 99) / 100
	return sorted[max(rank, 1)-1]
}
