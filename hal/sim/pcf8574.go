// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"sync/atomic"
	"time"
)

// PCF8574 models NXP's PCF8574, an expander of eight quasi-bidirectional lines: a 1 is a weak pull-up of 100 µA, so that the outside can pull
// the line low, and a 0 is a strong low (Rev. 5 §8.1). It has no registers: each byte written goes to the lines, each byte read comes from
// them. Its interrupt output is not led out. Used through a Bus; Outputs can be called beside it.
type PCF8574 struct {
	now    func() time.Time
	inputs func(time.Time) byte
	latch  atomic.Uint32
}

// NewPCF8574 returns a chip that has just been powered: all lines are weakly high (§8.1). inputs gives the levels that the outside
// drives, line 0 in bit 0; 1 = it leaves the line alone.
func NewPCF8574(now func() time.Time, inputs func(time.Time) byte) *PCF8574 {
	c := &PCF8574{now: now, inputs: inputs}
	c.latch.Store(0xff)
	return c
}

// Tx implements Device.
func (c *PCF8574) Tx(w, r []byte) error {
	if len(w) > 0 {
		c.latch.Store(uint32(w[len(w)-1]))
	}
	for i := range r {
		r[i] = c.Outputs() & c.inputs(c.now())
	}
	return nil
}

// Outputs returns what the chip drives: 0 = low, 1 = the weak pull-up.
func (c *PCF8574) Outputs() byte { return byte(c.latch.Load()) }
