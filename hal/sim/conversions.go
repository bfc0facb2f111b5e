// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"math"
	"time"
)

// conversions is the time line of a converter that measures once or over and over. Chip models look at it when they are spoken to.
type conversions struct {
	start  time.Time     // of the conversion that runs, or of the next one
	length time.Duration // of one conversion; 0 = none runs or will
	period time.Duration // from one start to the next; 0 = there is only one
}

// history is how many conversions of a long series are made up for, enough for the longest fault queue (6) to fill and to empty again.
const history = 12

// advance calls ended for the conversions that have ended by now, oldest first, with the time of each end.
func (c *conversions) advance(now time.Time, ended func(time.Time)) {
	if c.period > 0 {
		if n := now.Sub(c.start.Add(c.length)) / c.period; n > history {
			c.start = c.start.Add((n - history) * c.period)
		}
	}
	for c.length > 0 && !now.Before(c.start.Add(c.length)) {
		end := c.start.Add(c.length)
		c.start = c.start.Add(c.period)
		if c.period == 0 {
			c.length = 0
		}
		ended(end)
	}
}

// busy reports whether a conversion runs; the caller has advanced to now.
func (c *conversions) busy(now time.Time) bool { return c.length > 0 && !now.Before(c.start) }

// finish lets the conversion that runs be the last one.
func (c *conversions) finish(now time.Time) {
	if c.period = 0; !c.busy(now) {
		c.length = 0
	}
}

// quantise returns the multiple of step that is nearest to value, within [low, high].
func quantise(value, step float64, low, high int) int {
	return int(math.Round(min(max(value/step, float64(low)), float64(high))))
}

// answer fills r with what a register holds. Nobody drives the line after that, so the rest reads as ones.
func answer(r []byte, register ...byte) {
	for i := copy(r, register); i < len(r); i++ {
		r[i] = 0xff
	}
}

// answerWord is answer for a register of 16 bits, high byte first.
func answerWord(r []byte, register uint16) { answer(r, byte(register>>8), byte(register)) }
