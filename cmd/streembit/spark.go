// SPDX-License-Identifier: Apache-2.0

package main

import "slices"

// sparkline draws values as width blocks at most, lowest to highest, each the mean of what falls into it. A value that
// never moves is drawn in the middle.
func sparkline(values []float64, width int) string {
	if len(values) == 0 || width <= 0 {
		return ""
	}
	means := shrink(values, width)
	lo, hi := slices.Min(means), slices.Max(means)
	moves := hi-lo > 1e-9*max(hi, -lo) // less is the rounding of the means
	blocks := []rune("▁▂▃▄▅▆▇█")
	out := make([]rune, len(means))
	for i, v := range means {
		out[i] = blocks[3]
		if moves {
			out[i] = blocks[int((v-lo)/(hi-lo)*float64(len(blocks)-1)+0.5)]
		}
	}
	return string(out)
}

// shrink returns at most width means of consecutive values.
func shrink(values []float64, width int) []float64 {
	n := min(width, len(values))
	means := make([]float64, n)
	for i := range means {
		part := values[i*len(values)/n : (i+1)*len(values)/n]
		for _, v := range part {
			means[i] += v
		}
		means[i] /= float64(len(part))
	}
	return means
}
