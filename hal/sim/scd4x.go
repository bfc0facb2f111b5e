// SPDX-License-Identifier: Apache-2.0

package sim

import "time"

// Commands of the SCD4x (Sensirion, data sheet version 1.3 §3.4, and later versions where it says so).
const (
	scd4xStart         = 0x21b1
	scd4xStartLow      = 0x21ac
	scd4xRead          = 0xec05
	scd4xReady         = 0xe4b8
	scd4xStop          = 0x3f86
	scd4xPressure      = 0xe000 // with a word it sets, without it reads (later versions)
	scd4xRecalibrate   = 0x362f
	scd4xPersist       = 0x3615
	scd4xSerial        = 0x3682
	scd4xVariant       = 0x202f // later versions
	scd4xSelfTest      = 0x3639
	scd4xFactoryReset  = 0x3632
	scd4xReinit        = 0x3646
	scd4xSingleShot    = 0x219d
	scd4xSingleShotRHT = 0x2196
	scd4xPowerDown     = 0x36e0
	scd4xWakeUp        = 0x36f6
)

const (
	scd4xSerialID = 0xf896_9f07_3bbe // 48 bits
	scd4xIsSCD41  = 0x1440           // bits 15 to 12 are 1; the others are as on chips that were seen
	scd4xIsReady  = 0x8006           // of this only "the lower 11 bits are not 0" is in the data sheet
	scd4xNotReady = 0x8000

	scd4xPeriod    = 5 * time.Second
	scd4xLowPeriod = 30 * time.Second
	scd4xHeats     = 4.0 // the chip is as much warmer than the air as its default offset takes off (§3.6.1)
)

// scd4xTakes is how long a command takes. The reads and writes of 1 ms are left out: the chip takes no read header in the same
// transaction, but Linux reads in the next one at once, and so does it take the next command (drivers/iio/chemical/scd4x.c).
// Reinit and wake-up take 20 ms in version 1.3 and 30 ms in later ones.
var scd4xTakes = map[uint16]time.Duration{
	scd4xStop: 500 * time.Millisecond, scd4xRecalibrate: 400 * time.Millisecond, scd4xPersist: 800 * time.Millisecond,
	scd4xSelfTest: 10 * time.Second, scd4xFactoryReset: 1200 * time.Millisecond, scd4xReinit: 30 * time.Millisecond,
	scd4xSingleShot: 5 * time.Second, scd4xSingleShotRHT: 50 * time.Millisecond, scd4xWakeUp: 30 * time.Millisecond,
}

// scd4xSettings are the words that can be set and read, with their values after a factory reset: temperature offset (4 °C), altitude,
// self-calibration on, and its target and periods (these three in later versions).
var scd4xSettings = [6]struct{ set, get, factory uint16 }{
	{0x241d, 0x2318, 1498}, {0x2427, 0x2322, 0}, {0x2416, 0x2313, 1}, {0x243a, 0x233f, 400}, {0x2445, 0x2340, 44}, {0x244e, 0x234b, 156},
}

// SCD4x models Sensirion's SCD41: periodic measurements, single shots, settings that can be kept over a reset, recalibration, self
// test and power-down. While a command runs, and while it measures periodically for all but a few commands, it acknowledges nothing.
// It compensates for pressure without a fault, whatever it was told of it. Used through a Bus.
type SCD4x struct {
	now      func() time.Time
	air      func(time.Time) Air
	co2      func(time.Time) float64
	conv     conversions
	periodic bool
	rht      bool      // the single shot that runs is without CO2
	asleep   bool      // powered down
	rests    time.Time // answers nothing before
	settings [len(scd4xSettings)]uint16
	kept     [len(scd4xSettings)]uint16 // in the EEPROM
	pressure uint16                     // hPa
	measured bool                       // since power-up
	shift    float64                    // ppm, by recalibration
	data     []byte                     // last measurement that nobody has read
	fetch    bool                       // the next read is of data
	reply    []byte                     // otherwise of this
}

// NewSCD4x returns a chip that was powered some time ago and is idle. co2 is in ppm.
func NewSCD4x(now func() time.Time, air func(time.Time) Air, co2 func(time.Time) float64) *SCD4x {
	c := &SCD4x{now: now, air: air, co2: co2, pressure: 1013}
	for i, s := range scd4xSettings {
		c.settings[i], c.kept[i] = s.factory, s.factory
	}
	return c
}

// Tx implements Device.
func (c *SCD4x) Tx(w, r []byte) error {
	now := c.now()
	c.conv.advance(now, c.measure)
	if c.asleep {
		if len(w) == 2 && word(w) == scd4xWakeUp { // it does not acknowledge this one (§3.10.4)
			c.asleep, c.rests = false, now.Add(scd4xTakes[scd4xWakeUp])
		}
		return ErrNAK
	}
	if now.Before(c.rests) {
		return ErrNAK
	}
	if len(w) > 0 {
		if !c.command(w) || len(r) > 0 {
			return ErrNAK
		}
		return nil
	}
	if len(r) == 0 {
		return nil
	}
	reply := &c.reply
	if c.fetch {
		reply = &c.data
	}
	if *reply == nil {
		return ErrNAK
	}
	answer(r, *reply...)
	*reply, c.fetch = nil, false
	return nil
}

// measure makes the words of §3.5.2.
func (c *SCD4x) measure(end time.Time) {
	offset := float64(c.settings[0]) * 175 / 65535
	air := heated(c.air(end), scd4xHeats-offset)
	var co2 int
	if !c.rht {
		co2 = quantise(c.co2(end)+c.shift, 1, 0, 40000)
		c.measured = true
	}
	c.data = words(uint16(co2), ratio(air.Celsius, -45, 175), ratio(air.Percent, 0, 100))
}

// command takes what was written and reports whether the chip acknowledges it.
func (c *SCD4x) command(w []byte) bool {
	if len(w) != 2 && len(w) != 5 {
		return false
	}
	command := word(w)
	if c.periodic && command != scd4xRead && command != scd4xReady && command != scd4xStop && command != scd4xPressure {
		return false // table 9, "during measurement"
	}
	c.reply, c.fetch = nil, false
	if len(w) == 5 {
		value, ok := argument(w)
		return ok && c.set(command, value)
	}
	if !c.read(command) && !c.act(command) {
		return false
	}
	c.rests = c.now().Add(scd4xTakes[command])
	return true
}

// read takes the commands of which the answer is at hand.
func (c *SCD4x) read(command uint16) bool {
	switch command {
	case scd4xRead:
		c.fetch = true
	case scd4xReady:
		ready := uint16(scd4xNotReady)
		if c.data != nil {
			ready = scd4xIsReady
		}
		c.reply = words(ready)
	case scd4xPressure:
		c.reply = words(c.pressure)
	case scd4xSerial:
		c.reply = words(scd4xSerialID>>32, scd4xSerialID>>16&0xffff, scd4xSerialID&0xffff)
	case scd4xVariant:
		c.reply = words(scd4xIsSCD41)
	case scd4xSelfTest:
		c.reply = words(0) // no malfunction
	default:
		for i, s := range scd4xSettings {
			if s.get == command {
				c.reply = words(c.settings[i])
				return true
			}
		}
		return false
	}
	return true
}

// act takes the commands that do something.
func (c *SCD4x) act(command uint16) bool {
	now := c.now()
	switch command {
	case scd4xStart:
		c.periodic, c.data, c.conv = true, nil, conversions{start: now, length: scd4xPeriod, period: scd4xPeriod}
	case scd4xStartLow:
		c.periodic, c.data, c.conv = true, nil, conversions{start: now, length: scd4xLowPeriod, period: scd4xLowPeriod}
	case scd4xStop:
		c.periodic, c.conv = false, conversions{}
	case scd4xSingleShot, scd4xSingleShotRHT:
		c.data, c.conv = nil, conversions{start: now, length: scd4xTakes[command]}
	case scd4xPersist:
		c.kept = c.settings
	case scd4xReinit:
		c.settings, c.data = c.kept, nil
	case scd4xFactoryReset:
		fresh := NewSCD4x(c.now, c.air, c.co2)
		*c = *fresh
	case scd4xPowerDown:
		c.asleep, c.data = true, nil
	default:
		return false
	}
	c.rht = command == scd4xSingleShotRHT
	return true
}

// set takes the commands with a word.
func (c *SCD4x) set(command, value uint16) bool {
	switch command {
	case scd4xPressure:
		c.pressure = value
		return true
	case scd4xRecalibrate: // §3.7.1: the correction + 0x8000, or 0xffff without a measurement before
		correction := uint16(0xffff)
		if c.measured {
			by := float64(value) - c.co2(c.now()) - c.shift
			c.shift += by
			correction = uint16(quantise(by+0x8000, 1, 0, 0xfffe))
		}
		c.reply, c.rests = words(correction), c.now().Add(scd4xTakes[command])
		return true
	}
	for i, s := range scd4xSettings {
		if s.set == command {
			c.settings[i] = value
			return true
		}
	}
	return false
}
