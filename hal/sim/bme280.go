// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"errors"
	"time"
)

// Registers of the BME280 (Bosch Sensortec BST-BME280-DS002 §5.3). The BMP280 (BST-BMP280-DS001 §4.2) has those of temperature and
// pressure at the same addresses.
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
	bmp280ID    = 0x58
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

// The standby times of normal mode (§5.4.6, table 27; DS001 §3.6.3, table 11): those of the last two settings are the chip's own.
const standbys = 8

var (
	bme280Standby = [standbys]time.Duration{500 * time.Microsecond, 62500 * time.Microsecond, 125 * time.Millisecond,
		250 * time.Millisecond, 500 * time.Millisecond, time.Second, 10 * time.Millisecond, 20 * time.Millisecond}
	bmp280Standby = [standbys]time.Duration{500 * time.Microsecond, 62500 * time.Microsecond, 125 * time.Millisecond,
		250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}
)

// BME280 models the chip's registers: the factory calibration, reset with the copying of the NVM, oversampling, forced and normal mode
// with their conversion and standby times; the IIR filter is always off. Its readings come from a function that says how the air is.
// Used through a Bus.
type BME280 struct{ bosch }

// NewBME280 returns a chip that has just been powered.
func NewBME280(now func() time.Time, air func(time.Time) Air) *BME280 {
	c := &BME280{bosch{now: now, air: air, id: bme280ID, standby: bme280Standby}}
	c.powerOn()
	return c
}

// BMP280 models a BME280 without humidity. Used through a Bus.
type BMP280 struct{ bosch }

// NewBMP280 returns a chip that has just been powered.
func NewBMP280(now func() time.Time, air func(time.Time) Air) *BMP280 {
	c := &BMP280{bosch{now: now, air: air, id: bmp280ID, standby: bmp280Standby}}
	c.powerOn()
	return c
}

// bosch is what the two chips have in common.
type bosch struct {
	now     func() time.Time
	air     func(time.Time) Air
	id      byte
	standby [standbys]time.Duration
	regs    [256]byte
	hum     byte        // ctrl_hum as in force: a write counts from the next write of ctrl_meas (§5.4.3)
	pointer byte        // register that the next read begins at
	conv    conversions // measurements
	booted  time.Time
}

func (c *bosch) powerOn() {
	c.regs, c.hum, c.pointer, c.conv, c.booted = [256]byte{}, 0, 0, conversions{}, c.now()
	c.regs[regID] = c.id
	c.regs[regData], c.regs[regData+3] = 0x80, 0x80
	f := factory
	words := []uint16{f.t1, uint16(f.t2), uint16(f.t3), f.p1}
	for _, p := range f.p {
		words = append(words, uint16(p))
	}
	for i, w := range words {
		c.regs[regCalib1+2*i], c.regs[regCalib1+2*i+1] = byte(w), byte(w>>8)
	}
	if c.id != bme280ID {
		return
	}
	c.regs[regData+6] = 0x80
	c.regs[0xa1] = f.h1
	copy(c.regs[regCalib2:], []byte{
		byte(f.h2), byte(f.h2 >> 8), f.h3,
		byte(f.h4 >> 4), byte(f.h4&0xf) | byte(f.h5&0xf)<<4, byte(f.h5 >> 4), byte(f.h6),
	})
}

// Tx implements Device: one byte sets the register pointer, further bytes are pairs of value and next register (§6.2.1), and
// reads go on through the registers (§6.2.2).
func (c *bosch) Tx(w, r []byte) error {
	if len(w)%2 == 0 && len(w) > 0 && len(r) > 0 {
		return errors.New("sim: BME280 or BMP280: a write of pairs and a read in one transaction")
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

func (c *bosch) write(reg, value byte) {
	c.advance()
	switch reg {
	case regReset:
		if value == resetWord {
			c.powerOn()
		}
	case regConfig:
		c.regs[reg] = value
	case regCtrlHum:
		if c.id == bme280ID {
			c.regs[reg] = value
		}
	case regCtrlMeas:
		running := c.conv.busy(c.now())
		c.regs[reg] = value
		c.hum = c.regs[regCtrlHum]
		c.run(running)
	}
}

// run does what the mode bits say (§3.3). A measurement that runs is ended first.
func (c *bosch) run(running bool) {
	if !running {
		c.conv = conversions{start: c.now(), length: c.conversionTime()}
	}
	c.conv.period = 0
	switch c.regs[regCtrlMeas] & 3 {
	case 0:
		if !running {
			c.conv = conversions{}
		}
	case 3:
		c.conv.period = c.conv.length + c.standby[c.regs[regConfig]>>5]
	}
}

// advance lets the time pass that has passed: it ends measurements and sets the status register.
func (c *bosch) advance() {
	now := c.now()
	c.conv.advance(now, c.convert)
	c.regs[regStatus] = 0
	if now.Sub(c.booted) < startupTime {
		c.regs[regStatus] |= copyingNVM
	}
	if c.conv.busy(now) {
		c.regs[regStatus] |= measuring
	}
}

// conversionTime is the maximum of §9.1.
func (c *bosch) conversionTime() time.Duration {
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

// convert ends a measurement: it finds the raw values that the data sheet's formulas turn into the air.
func (c *bosch) convert(end time.Time) {
	air, meas := c.air(end), c.regs[regCtrlMeas]
	if meas&3 != 3 {
		c.regs[regCtrlMeas] &^= 3 // back to sleep (§3.3.3)
	}
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
	})
	if c.id == bme280ID {
		c.regs[regData+6], c.regs[regData+7] = byte(rawH>>8), byte(rawH)
	}
}
