// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"errors"
	"math"
	"time"
)

// Registers of the BME280 (Bosch Sensortec BST-BME280-DS002 §5.3).
const (
	regCalib1   = 0x88
	regID       = 0xd0
	regReset    = 0xe0
	regCalib2   = 0xe1
	regCtrlHum  = 0xf2
	regStatus   = 0xf3
	regCtrlMeas = 0xf4
	regConfig   = 0xf5
	regData     = 0xf7

	bme280ID    = 0x60
	resetWord   = 0xb6
	measuring   = 1 << 3
	copyingNVM  = 1 << 0
	startupTime = 2 * time.Millisecond // §1.1, table 1
)

// calibration is what the factory burnt into the chip (§4.2.2). Temperature and pressure are those of the worked example that Bosch
// prints for the same circuit (BST-BMP280-DS001 §3.12); the humidity ones are typical.
type calibration struct {
	t1     uint16
	t2, t3 int16
	p1     uint16
	p      [8]int16 // dig_P2 … dig_P9
	h1     uint8
	h2     int16
	h3     uint8
	h4, h5 int16
	h6     int8
}

var factory = calibration{
	t1: 27504, t2: 26435, t3: -1000,
	p1: 36477, p: [8]int16{-10685, 3024, 2855, 140, -7, 15500, -14600, 6000},
	h1: 75, h2: 362, h3: 0, h4: 315, h5: 50, h6: 30,
}

// BME280 models the chip's registers: the factory calibration, reset with the copying of the NVM, oversampling, forced and normal mode
// with their conversion times. Its readings come from a function that says how the air is. Used through a Bus.
type BME280 struct {
	now     func() time.Time
	air     func(time.Time) Air
	regs    [256]byte
	hum     byte      // ctrl_hum as in force: a write counts from the next write of ctrl_meas (§5.4.3)
	pointer byte      // register that the next read begins at
	started time.Time // start of the conversion that runs, zero when none does
	booted  time.Time
}

// NewBME280 returns a chip that has just been powered.
func NewBME280(now func() time.Time, air func(time.Time) Air) *BME280 {
	c := &BME280{now: now, air: air}
	c.powerOn()
	return c
}

func (c *BME280) powerOn() {
	c.regs, c.hum, c.pointer, c.started, c.booted = [256]byte{}, 0, 0, time.Time{}, c.now()
	c.regs[regID] = bme280ID
	c.regs[regData], c.regs[regData+3], c.regs[regData+6] = 0x80, 0x80, 0x80
	f := factory
	words := []uint16{f.t1, uint16(f.t2), uint16(f.t3), f.p1}
	for _, p := range f.p {
		words = append(words, uint16(p))
	}
	for i, w := range words {
		c.regs[regCalib1+2*i], c.regs[regCalib1+2*i+1] = byte(w), byte(w>>8)
	}
	c.regs[0xa1] = f.h1
	copy(c.regs[regCalib2:], []byte{
		byte(f.h2), byte(f.h2 >> 8), f.h3,
		byte(f.h4 >> 4), byte(f.h4&0xf) | byte(f.h5&0xf)<<4, byte(f.h5 >> 4), byte(f.h6),
	})
}

// Tx implements Device: one byte sets the register pointer, further bytes are pairs of value and next register (§6.2.1), and
// reads go on through the registers (§6.2.2).
func (c *BME280) Tx(w, r []byte) error {
	if len(w)%2 == 0 && len(w) > 0 && len(r) > 0 {
		return errors.New("sim: bme280: a write of pairs and a read in one transaction")
	}
	if len(w) == 1 {
		c.pointer = w[0]
	}
	for i := 0; i+1 < len(w); i += 2 {
		c.write(w[i], w[i+1])
	}
	c.advance()
	for i := range r {
		r[i] = c.regs[c.pointer]
		c.pointer++
	}
	return nil
}

func (c *BME280) write(reg, value byte) {
	c.advance()
	switch reg {
	case regReset:
		if value == resetWord {
			c.powerOn()
		}
	case regCtrlHum, regConfig:
		c.regs[reg] = value
	case regCtrlMeas:
		c.regs[reg] = value
		c.hum = c.regs[regCtrlHum]
		if value&3 != 0 && c.started.IsZero() {
			c.started = c.now()
		}
	}
}

// advance lets the time pass that has passed: it ends a conversion and sets the status register.
func (c *BME280) advance() {
	now := c.now()
	c.regs[regStatus] = 0
	if now.Sub(c.booted) < startupTime {
		c.regs[regStatus] |= copyingNVM
	}
	if c.started.IsZero() {
		return
	}
	if now.Sub(c.started) < c.conversionTime() {
		c.regs[regStatus] |= measuring
		return
	}
	c.convert(now)
	c.started = time.Time{}
	if c.regs[regCtrlMeas]&3 == 3 {
		c.started = now
	} else {
		c.regs[regCtrlMeas] &^= 3 // back to sleep (§3.3.3)
	}
}

// conversionTime is the maximum of §9.1.
func (c *BME280) conversionTime() time.Duration {
	meas := c.regs[regCtrlMeas]
	us := 1250 + 2300*oversampling(meas>>5)
	if n := oversampling(meas >> 2); n > 0 {
		us += 2300*n + 575
	}
	if n := oversampling(c.hum); n > 0 {
		us += 2300*n + 575
	}
	return time.Duration(us) * time.Microsecond
}

func oversampling(bits byte) int {
	switch bits &= 7; {
	case bits == 0:
		return 0
	case bits > 5:
		return 16
	default:
		return 1 << (bits - 1)
	}
}

// convert finds the raw values that the data sheet's formulas turn into the air of now.
func (c *BME280) convert(now time.Time) {
	air, meas := c.air(now), c.regs[regCtrlMeas]
	rawT := search(0xfffff, func(raw float64) bool { return factory.fine(raw)/5120 >= air.Celsius })
	fine := factory.fine(float64(rawT))
	rawP := search(0xfffff, func(raw float64) bool { return factory.pascal(raw, fine) <= air.Pascal })
	rawH := search(0xffff, func(raw float64) bool { return factory.percent(raw, fine) >= air.Percent })
	if oversampling(meas>>5) == 0 {
		rawT = 0x80000
	}
	if oversampling(meas>>2) == 0 {
		rawP = 0x80000
	}
	if oversampling(c.hum) == 0 {
		rawH = 0x8000
	}
	copy(c.regs[regData:], []byte{
		byte(rawP >> 12), byte(rawP >> 4), byte(rawP << 4),
		byte(rawT >> 12), byte(rawT >> 4), byte(rawT << 4),
		byte(rawH >> 8), byte(rawH),
	})
}

// search returns the smallest raw value in [1, limit) from which on reached holds.
func search(limit uint32, reached func(raw float64) bool) uint32 {
	low, high := uint32(1), limit-1
	for low < high {
		if mid := low + (high-low)/2; reached(float64(mid)) {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}

// The three formulas are the double-precision ones of §8.1; the driver uses the integer ones, so each checks the other.

func (c calibration) fine(raw float64) float64 {
	v1 := (raw/16384 - float64(c.t1)/1024) * float64(c.t2)
	d := raw/131072 - float64(c.t1)/8192
	return v1 + d*d*float64(c.t3)
}

func (c calibration) pascal(raw, fine float64) float64 {
	p := c.p
	v1 := fine/2 - 64000
	v2 := v1*v1*float64(p[4])/32768 + v1*float64(p[3])*2
	v2 = v2/4 + float64(p[2])*65536
	v1 = (float64(p[1])*v1*v1/524288 + float64(p[0])*v1) / 524288
	v1 = (1 + v1/32768) * float64(c.p1)
	if v1 == 0 {
		return math.Inf(1)
	}
	out := (1048576 - raw - v2/4096) * 6250 / v1
	v1 = float64(p[7]) * out * out / 2147483648
	v2 = out * float64(p[6]) / 32768
	return out + (v1+v2+float64(p[5]))/16
}

func (c calibration) percent(raw, fine float64) float64 {
	h := fine - 76800
	h = (raw - (float64(c.h4)*64 + float64(c.h5)/16384*h)) *
		(float64(c.h2) / 65536 * (1 + float64(c.h6)/67108864*h*(1+float64(c.h3)/67108864*h)))
	return h * (1 - float64(c.h1)*h/524288)
}
