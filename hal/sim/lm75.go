// SPDX-License-Identifier: Apache-2.0

package sim

import "time"

// Registers and values of the LM75 (National Semiconductor DS012658 §1.11 to 1.14), which its descendants share.
const (
	lm75Temperature = 0
	lm75Config      = 1
	lm75Low         = 2 // T_HYST
	lm75High        = 3 // T_OS

	lm75Shutdown = 1 << 0
	lm75Polarity = 1 << 2

	lm75LowReset  = 0x4b00 // 75 °C
	lm75HighReset = 0x5000 // 80 °C

	lm75Conversion = 100 * time.Millisecond // §1.13: "about 100 ms, typically"; the data sheet has no maximum
)

// LM75 models National's LM75: temperature in steps of 0.5 °C, shutdown, the two limits. Its alarm output is not led out.
// Used through a Bus.
type LM75 struct {
	now     func() time.Time
	celsius func(time.Time) float64
	conv    conversions
	pointer byte
	config  byte
	latest  int // half degrees
	limits  [2]uint16
}

// NewLM75 returns a chip that has just been powered.
func NewLM75(now func() time.Time, celsius func(time.Time) float64) *LM75 {
	c := &LM75{now: now, celsius: celsius, limits: [2]uint16{lm75LowReset, lm75HighReset}}
	c.run()
	return c
}

func (c *LM75) run() {
	c.conv = conversions{start: c.now(), length: lm75Conversion, period: lm75Conversion}
}

// Tx implements Device. Writes set the pointer and then the register; reads come from the register that the pointer selects,
// however often. Of the pointer three bits count, and an address that has no register (4 to 7) leaves the selection as it is: neither
// is in the data sheet, but Linux tells the chip by it (drivers/hwmon/lm75.c, lm75_detect).
func (c *LM75) Tx(w, r []byte) error {
	c.conv.advance(c.now(), func(end time.Time) { c.latest = quantise(c.celsius(end), 0.5, -256, 255) })
	if len(w) > 0 {
		selected := w[0] & 7
		if selected <= lm75High {
			c.pointer = selected
			c.write(w[1:])
		}
	}
	switch c.pointer {
	case lm75Temperature:
		answerWord(r, uint16(c.latest)<<7)
	case lm75Config:
		answer(r, c.config)
	default:
		answerWord(r, c.limits[c.pointer-lm75Low])
	}
	return nil
}

func (c *LM75) write(data []byte) {
	if len(data) == 0 {
		return
	}
	switch c.pointer {
	case lm75Config:
		was := c.config
		c.config = data[0] & 0x1f // bits 5 to 7 are for the factory and zero
		switch {
		case c.config&lm75Shutdown != 0:
			c.conv = conversions{}
		case was&lm75Shutdown != 0:
			c.run()
		}
	case lm75Low, lm75High:
		c.limits[c.pointer-lm75Low] = overwrite(c.limits[c.pointer-lm75Low], data) &^ 0x7f
	}
}

// overwrite puts one or two bytes into a register of 16 bits that is written byte by byte, the high one first.
func overwrite(register uint16, data []byte) uint16 {
	if len(data) > 0 {
		register = uint16(data[0])<<8 | register&0xff
	}
	if len(data) > 1 {
		register = register&0xff00 | uint16(data[1])
	}
	return register
}
