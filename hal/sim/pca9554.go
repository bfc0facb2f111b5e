// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"sync"
	"time"
)

// Registers of the PCA9554 (NXP, Rev. 9 §6.1).
const (
	pcaInput    = 0
	pcaOutput   = 1
	pcaPolarity = 2
	pcaConfig   = 3 // 1 = input
)

// PCA9554 models NXP's PCA9554, an expander of eight lines with a direction each. Inputs have a pull-up of 100 kΩ. A line
// that the outside pulls low reads low even when the chip drives it high: a short circuit wins. Its interrupt output is not led out.
// Used through a Bus; Outputs can be called beside it.
type PCA9554 struct {
	now     func() time.Time
	inputs  func(time.Time) byte
	pointer byte
	mu      sync.Mutex // of regs
	regs    [4]byte
}

// NewPCA9554 returns a chip that has just been powered: all lines are inputs (§6.3). inputs gives the levels that the outside
// drives, line 0 in bit 0; 1 = it leaves the line alone.
func NewPCA9554(now func() time.Time, inputs func(time.Time) byte) *PCA9554 {
	return &PCA9554{now: now, inputs: inputs, regs: [4]byte{pcaOutput: 0xff, pcaConfig: 0xff}}
}

// Tx implements Device. The first byte selects the register, all others are written to it one after the other; reads repeat it, and the
// input register is looked at anew for each byte (§7). Of the command byte two bits count, the others must be 0.
func (c *PCA9554) Tx(w, r []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(w) > 0 {
		c.pointer = w[0] & 3
		if len(w) > 1 && c.pointer != pcaInput {
			c.regs[c.pointer] = w[len(w)-1]
		}
	}
	for i := range r {
		r[i] = c.regs[c.pointer]
		if c.pointer == pcaInput {
			r[i] = c.outputs()&c.inputs(c.now()) ^ c.regs[pcaPolarity]&c.regs[pcaConfig] // of inputs only (§6.1.4)
		}
	}
	return nil
}

// Outputs returns what the chip drives: 0 = low, 1 = high, or the weak pull-up of an input.
func (c *PCA9554) Outputs() byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outputs()
}

func (c *PCA9554) outputs() byte { return c.regs[pcaOutput] | c.regs[pcaConfig] }
