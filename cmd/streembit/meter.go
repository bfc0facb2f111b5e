// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/streembit/edge/image"
)

// meter shows how far a long copy is: a bar, the rate and the time left.
type meter struct {
	p     *progress
	step  string
	begun time.Time
	drawn time.Time
}

func newMeter(w *os.File) *meter { return &meter{p: newProgress(w)} }

// show draws the line anew, ten times a second at most. of = 0: nobody knows how much there is.
func (m *meter) show(step string, done, of int64) {
	now := time.Now()
	if step != m.step {
		m.step, m.begun, m.drawn = step, now, time.Time{}
	}
	if now.Sub(m.drawn) >= 100*time.Millisecond || done == of {
		m.drawn = now
		m.p.live(step, "%s", meterText(done, of, now.Sub(m.begun)))
	}
}

// meterText is what a meter shows after a time.
func meterText(done, of int64, after time.Duration) string {
	rate := 0.0
	if after > 0 {
		rate = float64(done) / after.Seconds()
	}
	if of <= 0 {
		return fmt.Sprintf("%s  %s/s", image.Bytes(done), image.Bytes(int64(rate)))
	}
	const width = 24
	full := int(min(done, of) * width / of)
	left := "?"
	if rate > 0 {
		left = (time.Duration(float64(max(of-done, 0))/rate) * time.Second).Round(time.Second).String()
	}
	return fmt.Sprintf("[%s%s] %3d %%  %s of %s  %s/s  %s left", strings.Repeat("#", full), strings.Repeat(".", width-full), min(done, of)*100/of,
		image.Bytes(done), image.Bytes(of), image.Bytes(int64(rate)), left)
}

// end takes the line away.
func (m *meter) end() { m.p.clear() }
