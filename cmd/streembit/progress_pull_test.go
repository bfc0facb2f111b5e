// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"

	"github.com/streembit/edge/collector"
)

func TestPullLine(t *testing.T) {
	for want, p := range map[string]collector.Progress{
		"0 readings · 0/s":          {},
		"12 000 readings · 3 000/s": {Readings: 12_000, Segments: 12, Expected: 12},
		"12 000 readings · 3 000/s · 12 of 1200 segments · 6m36s left":       {Readings: 12_000, Segments: 12, Expected: 1200},
		"4 000 000 readings · 1 000 000/s · 4000 of 4001 segments · 0s left": {Readings: 4_000_000, Segments: 4000, Expected: 4001},
	} {
		if got := pullLine(p, 4*time.Second); got != want {
			t.Errorf("%+v: %q, want %q", p, got, want)
		}
	}
}
