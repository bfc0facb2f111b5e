// SPDX-License-Identifier: Apache-2.0

package sim

import "time"

// Registers and values of the ADS1115 (Texas Instruments SBAS444D §9.6).
const (
	adsConversion = 0
	adsConfig     = 1
	adsLow        = 2
	adsHigh       = 3

	adsStart  = 1 << 15 // OS: write 1 to start; reads 1 when no conversion runs
	adsSingle = 1 << 8  // MODE: single-shot, powered down between

	adsReset     = 0x8583
	adsLowReset  = 0x8000
	adsHighReset = 0x7fff
)

// ADS1x15 models TI's ADS1115 and ADS1015: multiplexer, gain, data rate, single-shot and continuous conversions. The comparator's registers
// are there, its output is not led out. Used through a Bus.
type ADS1x15 struct {
	now     func() time.Time
	volts   [4]func(time.Time) float64
	bits    int        // of a result
	rates   [8]float64 // conversions a second
	conv    conversions
	pointer byte
	regs    [4]uint16
	active  uint16 // settings of the conversion that runs
}

// NewADS1115 returns a chip of 16 bits that has just been powered. The volts are those of the four inputs against ground.
func NewADS1115(now func() time.Time, volts [4]func(time.Time) float64) *ADS1x15 {
	return newADS1x15(now, volts, 16, [8]float64{8, 16, 32, 64, 128, 250, 475, 860})
}

// NewADS1015 returns a chip of 12 bits, the upper ones of its registers (SBAS473 §9.6).
func NewADS1015(now func() time.Time, volts [4]func(time.Time) float64) *ADS1x15 {
	return newADS1x15(now, volts, 12, [8]float64{128, 250, 490, 920, 1600, 2400, 3300, 3300})
}

func newADS1x15(now func() time.Time, volts [4]func(time.Time) float64, bits int, rates [8]float64) *ADS1x15 {
	return &ADS1x15{now: now, volts: volts, bits: bits, rates: rates, regs: [4]uint16{0, adsReset &^ adsStart, adsLowReset, adsHighReset}}
}

// Tx implements Device. A register is written with two bytes after the pointer, high byte first; reads come from the register that the
// pointer selects (§9.5.3).
func (c *ADS1x15) Tx(w, r []byte) error {
	c.conv.advance(c.now(), c.ended)
	if len(w) > 0 {
		c.pointer = w[0] & 3
	}
	if len(w) > 2 {
		c.write(uint16(w[1])<<8 | uint16(w[2]))
	}
	value := c.regs[c.pointer]
	if c.pointer == adsConfig && !c.conv.busy(c.now()) {
		value |= adsStart
	}
	answerWord(r, value)
	return nil
}

func (c *ADS1x15) write(value uint16) {
	unused := uint16(1)<<(16-c.bits) - 1
	switch c.pointer {
	case adsConfig:
		c.configure(value)
	case adsLow:
		c.regs[adsLow] = value &^ unused
	case adsHigh:
		c.regs[adsHigh] = value | unused
	}
}

// configure lets a conversion that runs end with its own settings; new ones count from the next on (§9.4.2). Writing OS does something
// only when none runs.
func (c *ADS1x15) configure(value uint16) {
	c.regs[adsConfig] = value &^ adsStart
	now := c.now()
	switch {
	case c.conv.busy(now):
		if c.regs[adsConfig] != c.active {
			c.conv.finish(now)
		}
	case value&adsSingle == 0 || value&adsStart != 0:
		c.begin(now)
	}
}

// begin starts a conversion, or a series of them, with the settings of the configuration register. The clock is 10 % slow, as it may be
// (electrical characteristics, data rate variation). Waking up takes 25 µs more, less than the next byte on the bus.
func (c *ADS1x15) begin(at time.Time) {
	c.active = c.regs[adsConfig]
	c.conv = conversions{start: at, length: time.Duration(1.1 / c.rates[c.active>>5&7] * float64(time.Second))}
	if c.active&adsSingle == 0 {
		c.conv.period = c.conv.length
	}
}

func (c *ADS1x15) ended(at time.Time) {
	c.convert(at)
	if c.conv.length == 0 && c.regs[adsConfig]&adsSingle == 0 {
		c.begin(at)
	}
}

// convert measures between the two inputs of the multiplexer, and stops at the ends of the range.
func (c *ADS1x15) convert(at time.Time) {
	pairs := [8][2]int{{0, 1}, {0, 3}, {1, 3}, {2, 3}, {0, -1}, {1, -1}, {2, -1}, {3, -1}} // -1 = ground
	ranges := [8]float64{6.144, 4.096, 2.048, 1.024, 0.512, 0.256, 0.256, 0.256}
	pair := pairs[c.active>>12&7]
	volts := c.volts[pair[0]](at)
	if pair[1] >= 0 {
		volts -= c.volts[pair[1]](at)
	}
	full := 1 << (c.bits - 1)
	steps := quantise(volts, ranges[c.active>>9&7]/float64(full), -full, full-1)
	c.regs[adsConversion] = uint16(steps << (16 - c.bits))
}
