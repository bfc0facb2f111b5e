// SPDX-License-Identifier: Apache-2.0

package sim

import "time"

// Instructions of the BH1750FVI (ROHM technical note 2009.04 Rev. B, "Instruction Set Architecture").
const (
	bh1750PowerDown = 0x00
	bh1750PowerOn   = 0x01
	bh1750Reset     = 0x07
	bh1750MTHigh    = 0x40 // 01000 and bits 7 to 5 of the measurement time register
	bh1750MTLow     = 0x60 // 011 and bits 4 to 0

	bh1750Continuous = 0x10
	bh1750Once       = 0x20
	bh1750H2         = 1 // mode bits below these two
	bh1750L          = 3

	bh1750MT    = 69 // default; 31 to 254
	bh1750MinMT = 31
	bh1750MaxMT = 254
)

// Typical measurement times at the default sensitivity. The longest are 180 ms and 24 ms; Linux waits for 135 ms.
const (
	bh1750HTime = 120 * time.Millisecond
	bh1750LTime = 16 * time.Millisecond
)

// BH1750 models ROHM's BH1750FVI: the six measuring modes with their times, the measurement time register, power-down, reset. A read
// gives the data register at any time. Used through a Bus.
type BH1750 struct {
	now  func() time.Time
	lux  func(time.Time) float64
	conv conversions
	on   bool
	mode byte
	mt   byte
	data uint16
}

// NewBH1750 returns a chip that has just been powered. It is in power-down, and its data register is 0.
func NewBH1750(now func() time.Time, lux func(time.Time) float64) *BH1750 {
	return &BH1750{now: now, lux: lux, mt: bh1750MT}
}

// Tx implements Device. The chip takes one instruction in a transaction ("Write Format").
func (c *BH1750) Tx(w, r []byte) error {
	c.conv.advance(c.now(), c.measure)
	if len(w) > 1 {
		return ErrNAK
	}
	if len(w) == 1 {
		c.instruct(w[0])
	}
	answerWord(r, c.data)
	return nil
}

func (c *BH1750) instruct(code byte) {
	mode := code & 0x0f
	switch {
	case code == bh1750PowerDown:
		c.on, c.conv = false, conversions{}
	case code == bh1750PowerOn:
		c.on = true
	case code == bh1750Reset:
		if c.on { // "not acceptable in Power Down mode"
			c.data = 0
		}
	case code&0xf8 == bh1750MTHigh:
		c.mt = c.mt&0x1f | code<<5
	case code&0xe0 == bh1750MTLow:
		c.mt = c.mt&0xe0 | code&0x1f
	case (code&0xf0 == bh1750Continuous || code&0xf0 == bh1750Once) && (mode <= bh1750H2 || mode == bh1750L):
		c.on, c.mode = true, code
		length := time.Duration(bh1750HTime)
		if mode == bh1750L {
			length = bh1750LTime
		}
		c.conv = conversions{start: c.now(), length: length * time.Duration(c.time()) / bh1750MT}
		if code&0xf0 == bh1750Continuous {
			c.conv.period = c.conv.length
		}
	}
}

// time returns the measurement time register as far as the chip goes; what it does outside is not in the data sheet.
func (c *BH1750) time() byte { return min(max(c.mt, bh1750MinMT), bh1750MaxMT) }

// measure counts 1.2 for each lux at the default sensitivity, twice as many in H-resolution mode 2. L-resolution is 4 lx; that its
// counts are multiples of 4 is an assumption.
func (c *BH1750) measure(end time.Time) {
	counts := c.lux(end) * 1.2 * float64(c.time()) / bh1750MT
	switch c.mode & 0x0f {
	case bh1750H2:
		counts *= 2
	case bh1750L:
		counts = float64(4 * quantise(counts, 4, 0, 0x3fff))
	}
	c.data = uint16(quantise(counts, 1, 0, 0xffff))
	if c.mode&0xf0 == bh1750Once {
		c.on = false
	}
}
