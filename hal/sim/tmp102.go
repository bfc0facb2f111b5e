// SPDX-License-Identifier: Apache-2.0

package sim

import "time"

// Bits of the TMP102's configuration register (Texas Instruments SBOS397, table 7); the upper byte is also the TMP105's (SLLS648, table 6).
const (
	tmpOneShot    = 1 << 15
	tmpResolution = 3 << 13
	tmpFaults     = 3 << 11
	tmpShutdown   = lm75Shutdown << 8
	tmpPolarity   = lm75Polarity << 8
	tmpWritable   = 0x1f << 8 // fault queue, polarity, thermostat mode, shutdown
	tmp102Rate    = 3 << 6
	tmp102Alert   = 1 << 5
	tmp102Wide    = 1 << 4 // extended mode: 13 bits

	tmp102Reset      = 0x60a0                // 12 bits, 4 Hz, no alert
	tmp102Conversion = 35 * time.Millisecond // electrical characteristics: 26 ms typical, 35 ms maximum
)

// TMP102 models TI's TMP102: temperature in steps of 1/16 °C in 12 bits or 13 (extended mode), four conversion rates, shutdown with
// one-shot conversions, and the alert bit in comparator mode. Used through a Bus.
type TMP102 struct {
	now     func() time.Time
	celsius func(time.Time) float64
	conv    conversions
	pointer byte
	config  uint16 // without the bits that status adds
	value   uint16 // temperature register
	limits  [2]uint16
	faults  int // consecutive conversions that speak for a change of alert
	alert   bool
}

// NewTMP102 returns a chip that has just been powered. It measures four times a second (§7.4.1).
func NewTMP102(now func() time.Time, celsius func(time.Time) float64) *TMP102 {
	c := &TMP102{now: now, celsius: celsius, limits: [2]uint16{lm75LowReset, lm75HighReset}, config: tmp102Reset &^ tmp102Alert}
	c.run()
	return c
}

// run starts the first conversion at once, and the others at the conversion rate (§7.5.3.9).
func (c *TMP102) run() {
	rates := [...]time.Duration{4 * time.Second, time.Second, 250 * time.Millisecond, 125 * time.Millisecond}
	c.conv = conversions{start: c.now(), length: tmp102Conversion, period: rates[c.config&tmp102Rate>>6]}
}

// Tx implements Device. Writes set the pointer and then the register byte by byte; reads come from the register that the pointer selects.
func (c *TMP102) Tx(w, r []byte) error {
	c.conv.advance(c.now(), c.convert)
	if len(w) > 0 {
		c.pointer = w[0] & 3
		c.write(w[1:])
	}
	switch c.pointer {
	case lm75Temperature:
		answerWord(r, c.value)
	case lm75Config:
		answerWord(r, c.status())
	default:
		answerWord(r, c.limits[c.pointer-lm75Low])
	}
	return nil
}

// status is the configuration register as it reads: in shutdown the one-shot bit is 0 during a conversion and 1 after it (§7.4.4); with
// conversions going on it is 0, as at power-up. The alert bit is 1 without an alert unless the polarity is inverted (§7.5.3.8).
func (c *TMP102) status() uint16 {
	status := c.config
	if status&tmpShutdown != 0 && !c.conv.busy(c.now()) {
		status |= tmpOneShot
	}
	if c.alert == (status&tmpPolarity != 0) {
		status |= tmp102Alert
	}
	return status
}

func (c *TMP102) write(data []byte) {
	switch {
	case len(data) == 0 || c.pointer == lm75Temperature:
	case c.pointer == lm75Config:
		c.configure(overwrite(c.config, data))
	default:
		mask := uint16(0xfff0)
		if c.config&tmp102Wide != 0 {
			mask = 0xfff8
		}
		i := c.pointer - lm75Low
		c.limits[i] = overwrite(c.limits[i], data) & mask
	}
}

// configure takes what can be written. The chip ends the running conversion before it shuts down, and a one-shot conversion starts if it
// is already down (§7.4.3, 7.4.4).
func (c *TMP102) configure(config uint16) {
	was, now := c.config, c.now()
	c.config = was&tmpResolution | config&(tmpWritable|tmp102Rate|tmp102Wide)
	down, wasDown := c.config&tmpShutdown != 0, was&tmpShutdown != 0
	switch {
	case down && !wasDown:
		c.conv.finish(now)
	case down && config&tmpOneShot != 0 && !c.conv.busy(now):
		c.conv = conversions{start: now, length: tmp102Conversion}
	case !down && (wasDown || (c.config^was)&tmp102Rate != 0):
		c.run()
	}
}

// convert sets the temperature register in the format of the mode; its bit 0 says which it is (§7.5.2).
func (c *TMP102) convert(end time.Time) {
	shift, low, high := 4, -2048, 2047
	if c.config&tmp102Wide != 0 {
		shift, low, high = 3, -4096, 4095
	}
	sixteenths := quantise(c.celsius(end), 1./16, low, high)
	c.value = uint16(sixteenths << shift)
	if shift == 3 {
		c.value |= 1
	}
	below, above := int(int16(c.limits[0]))>>shift, int(int16(c.limits[1]))>>shift
	if c.alert && sixteenths < below || !c.alert && sixteenths >= above {
		c.faults++
	} else {
		c.faults = 0
	}
	if queue := [...]int{1, 2, 4, 6}; c.faults >= queue[c.config&tmpFaults>>11] {
		c.alert, c.faults = !c.alert, 0
	}
}

// TMP105 models TI's TMP105, which measures in steps of 0.5 to 1/16 °C and takes longer for smaller ones. It measures without a pause, or
// when told to in shutdown. Its alert output is not led out. Used through a Bus.
type TMP105 struct {
	now     func() time.Time
	celsius func(time.Time) float64
	conv    conversions
	pointer byte
	config  byte // without the one-shot bit, which reads as 0
	value   uint16
	limits  [2]uint16
}

// NewTMP105 returns a chip that has just been powered. It measures with 9 bits (SLLS648, table 6: all bits are 0).
func NewTMP105(now func() time.Time, celsius func(time.Time) float64) *TMP105 {
	c := &TMP105{now: now, celsius: celsius, limits: [2]uint16{lm75LowReset, lm75HighReset}}
	c.start(true)
	return c
}

// start begins one conversion or a series. The times are the longest that TI gives for this converter, 37.5 to 300 ms; they are
// known from the TMP75 (SBOS288, electrical characteristics), the typical ones, 27.5 to 220 ms, are the same in both data sheets.
func (c *TMP105) start(series bool) {
	c.conv = conversions{start: c.now(), length: 37500 * time.Microsecond << (c.config >> 5 & 3)}
	if series {
		c.conv.period = c.conv.length
	}
}

// Tx implements Device, as the TMP102's does.
func (c *TMP105) Tx(w, r []byte) error {
	c.conv.advance(c.now(), c.convert)
	if len(w) > 0 {
		c.pointer = w[0] & 3
		c.write(w[1:])
	}
	switch c.pointer {
	case lm75Temperature:
		answerWord(r, c.value)
	case lm75Config:
		answer(r, c.config)
	default:
		answerWord(r, c.limits[c.pointer-lm75Low])
	}
	return nil
}

func (c *TMP105) write(data []byte) {
	switch {
	case len(data) == 0 || c.pointer == lm75Temperature:
	case c.pointer == lm75Config:
		c.configure(data[0])
	default:
		i := c.pointer - lm75Low
		c.limits[i] = overwrite(c.limits[i], data) &^ 0xf
	}
}

func (c *TMP105) configure(config byte) {
	const oneShot, resolution = tmpOneShot >> 8, tmpResolution >> 8
	was, now := c.config, c.now()
	c.config = config &^ oneShot
	down, wasDown := config&lm75Shutdown != 0, was&lm75Shutdown != 0
	switch {
	case down && !wasDown:
		c.conv.finish(now)
	case down && config&oneShot != 0 && !c.conv.busy(now):
		c.start(false)
	case !down && (wasDown || (config^was)&resolution != 0):
		c.start(true)
	}
}

// convert leaves the bits zero that the resolution does not have.
func (c *TMP105) convert(end time.Time) {
	bits := 9 + int(c.config>>5&3)
	steps := quantise(c.celsius(end), 128/float64(int(1)<<(bits-1)), -1<<(bits-1), 1<<(bits-1)-1)
	c.value = uint16(steps << (16 - bits))
}
