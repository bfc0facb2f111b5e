// SPDX-License-Identifier: Apache-2.0

package sim

import "time"

// Registers and values of the INA219 (Texas Instruments SBOS448G §8.6).
const (
	inaConfig      = 0
	inaShunt       = 1
	inaBus         = 2
	inaPower       = 3
	inaCurrent     = 4
	inaCalibration = 5

	inaReset      = 1 << 15
	inaUnused     = 1 << 14
	inaWide       = 1 << 13 // 32 V, otherwise 16 V
	inaContinuous = 1 << 2
	inaBusMode    = 1 << 1
	inaShuntMode  = 1 << 0

	inaReady    = 1 << 1 // CNVR, in the bus voltage register
	inaOverflow = 1 << 0 // OVF

	inaConfigReset = 0x399f // 32 V, ±320 mV, 12 bits, continuous
)

// INA219 models TI's INA219: the two converters with their ranges, resolutions and averaging, the calibration, current and power computed from it.
// Used through a Bus.
type INA219 struct {
	now     func() time.Time
	battery func(time.Time) (float64, float64)
	ohms    float64
	conv    conversions
	pointer byte
	regs    [6]uint16 // the bus voltage without its two flags
	ready   bool
	over    bool
}

// NewINA219 returns a chip that has just been powered. battery gives the voltage behind the shunt and the current through it.
func NewINA219(now func() time.Time, battery func(time.Time) (busVolts, amperes float64), shuntOhms float64) *INA219 {
	c := &INA219{now: now, battery: battery, ohms: shuntOhms}
	c.powerOn()
	return c
}

func (c *INA219) powerOn() {
	c.regs, c.ready, c.over = [6]uint16{inaConfig: inaConfigReset}, false, false
	c.begin()
}

// Tx implements Device. A register is written with two bytes after the pointer, high byte first; reads come from the register that the
// pointer selects (§8.5.6). Of the pointer three bits count: a dump of a real chip repeats itself after eight registers, which is not
// in the data sheet, nor what the last two are.
func (c *INA219) Tx(w, r []byte) error {
	c.conv.advance(c.now(), c.convert)
	if len(w) > 0 {
		c.pointer = w[0] & 7
	}
	if len(w) > 2 {
		c.write(uint16(w[1])<<8 | uint16(w[2]))
	}
	var value uint16
	if int(c.pointer) < len(c.regs) {
		value = c.regs[c.pointer]
	}
	if c.pointer == inaBus {
		value |= inaFlag(c.ready, inaReady) | inaFlag(c.over, inaOverflow)
	}
	if c.pointer == inaPower && len(r) > 0 {
		c.ready = false // §8.6.3.2
	}
	answerWord(r, value)
	return nil
}

func inaFlag(on bool, bit uint16) uint16 {
	if on {
		return bit
	}
	return 0
}

func (c *INA219) write(value uint16) {
	switch {
	case c.pointer == inaCalibration:
		c.regs[inaCalibration] = value &^ 1 // bit 0 cannot be set (§8.6.4.1)
	case c.pointer != inaConfig:
	case value&inaReset != 0:
		c.powerOn()
	default:
		c.regs[inaConfig] = value &^ inaUnused
		if value&(inaBusMode|inaShuntMode) != 0 {
			c.ready = false
		}
		c.begin()
	}
}

// begin starts what the mode says: nothing, one conversion, or a series. Any write of a triggered mode triggers (§8.6.2.1).
func (c *INA219) begin() {
	config := c.regs[inaConfig]
	var length time.Duration
	if config&inaShuntMode != 0 {
		length += inaTime(config >> 3)
	}
	if config&inaBusMode != 0 {
		length += inaTime(config >> 7)
	}
	c.conv = conversions{start: c.now(), length: length}
	if config&inaContinuous != 0 {
		c.conv.period = length
	}
}

// inaTime is the longest time of one conversion: table 5, where 532 µs are typical, and 586 the maximum (§7.5), that is 10 % more.
func inaTime(adc uint16) time.Duration {
	us := [...]int{84, 148, 276, 532, 84, 148, 276, 532, 532, 1060, 2130, 4260, 8510, 17020, 34050, 68100}[adc&0xf]
	return time.Duration(us) * 1102 * time.Nanosecond
}

// inaStep is how coarse a converter is: with 9 bits eight times as with 12. How it fills the lowest bits is not in the data sheet.
func inaStep(adc uint16) int {
	if adc&8 != 0 {
		return 1
	}
	return 8 >> (adc & 3)
}

func (c *INA219) convert(end time.Time) {
	config := c.regs[inaConfig]
	volts, amperes := c.battery(end)
	if config&inaShuntMode != 0 { // 10 µV, ±40 mV to ±320 mV
		step, full := inaStep(config>>3), 4000<<(config>>11&3)
		c.regs[inaShunt] = uint16(step * quantise(amperes*c.ohms, 10e-6*float64(step), -full/step, full/step))
	}
	if config&inaBusMode != 0 { // 4 mV, 16 V or 32 V
		step, full := inaStep(config>>7), 4000
		if config&inaWide != 0 {
			full = 8000
		}
		c.regs[inaBus] = uint16(step*quantise(volts, 4e-3*float64(step), 0, full/step)) << 3
	}
	c.compute()
	c.ready = true
}

// compute follows §8.5.1 with its equations 4 and 5. That power has no sign is from the width of its register; the data sheet does not say so.
func (c *INA219) compute() {
	current := int(int16(c.regs[inaShunt])) * int(c.regs[inaCalibration]) / 4096
	power := max(current, -current) * int(c.regs[inaBus]>>3) / 5000
	c.regs[inaCurrent], c.regs[inaPower] = uint16(current), uint16(power)
	c.over = current != int(int16(current)) || power > 0xffff
}
