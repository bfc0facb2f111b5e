// SPDX-License-Identifier: Apache-2.0

package sim

import "time"

// Commands of the SHT3x-DIS (Sensirion, data sheet version 5, §4.3 to 4.11).
const (
	sht3xFetch       = 0xe000
	sht3xART         = 0x2b32
	sht3xBreak       = 0x3093
	sht3xReset       = 0x30a2
	sht3xHeaterOn    = 0x306d
	sht3xHeaterOff   = 0x3066
	sht3xStatus      = 0xf32d
	sht3xClearStatus = 0x3041
	// Sensirion's note "Electronic Identification Code for SHT3x" has the serial number, with and without clock stretching. The note
	// itself was not at hand; these are the commands of Sensirion's own driver.
	sht3xSerialStretched = 0x3780
	sht3xSerial          = 0x3682
)

// Status register (table 18).
const (
	sht3xAlertPending = 1 << 15
	sht3xHeater       = 1 << 13
	sht3xWasReset     = 1 << 4
	sht3xBadCommand   = 1 << 1
	sht3xBadChecksum  = 1 << 0
	sht3xClearable    = 1<<15 | 1<<11 | 1<<10 | 1<<4
)

const (
	sht3xHigh      = 15 * time.Millisecond // longest measurements (table 4)
	sht3xMedium    = 6 * time.Millisecond
	sht3xLow       = 4 * time.Millisecond
	sht3xResetTime = 1500 * time.Microsecond
	sht3xBreakTime = time.Millisecond // §4.8
	sht3xHeats     = 3.0              // §4.10: the heater warms by a few degrees
	sht3xSerialID  = 0x0e5a31c7
)

// sht3xSingle has the single-shot commands (table 9): how long one takes and whether it stretches the clock.
var sht3xSingle = map[uint16]struct {
	length  time.Duration
	stretch bool
}{
	0x2c06: {sht3xHigh, true}, 0x2c0d: {sht3xMedium, true}, 0x2c10: {sht3xLow, true},
	0x2400: {sht3xHigh, false}, 0x240b: {sht3xMedium, false}, 0x2416: {sht3xLow, false},
}

// sht3xPeriodic has the periodic ones (table 10, and ART with 4 Hz).
var sht3xPeriodic = map[uint16]struct{ length, period time.Duration }{
	0x2032: {sht3xHigh, 2 * time.Second}, 0x2024: {sht3xMedium, 2 * time.Second}, 0x202f: {sht3xLow, 2 * time.Second},
	0x2130: {sht3xHigh, time.Second}, 0x2126: {sht3xMedium, time.Second}, 0x212d: {sht3xLow, time.Second},
	0x2236: {sht3xHigh, time.Second / 2}, 0x2220: {sht3xMedium, time.Second / 2}, 0x222b: {sht3xLow, time.Second / 2},
	0x2334: {sht3xHigh, time.Second / 4}, 0x2322: {sht3xMedium, time.Second / 4}, 0x2329: {sht3xLow, time.Second / 4},
	0x2737: {sht3xHigh, time.Second / 10}, 0x2721: {sht3xMedium, time.Second / 10}, 0x272a: {sht3xLow, time.Second / 10},
	sht3xART: {sht3xHigh, time.Second / 4},
}

// sht3xLimits are the commands that read and write the alert limits (Sensirion's note "Alert Mode for SHT3x"), as Linux uses them
// (drivers/hwmon/sht3x.c), with the limits after a reset: high set, high clear, low clear, low set. The
// note was not at hand; the four limits are from memory and fit its 80/79/22/20 % and 60/58/−9/−10 °C.
var sht3xLimits = [4]struct{ read, write, reset uint16 }{
	{0xe11f, 0x611d, 0xcd33}, {0xe114, 0x6116, 0xc92d}, {0xe109, 0x610b, 0x3869}, {0xe102, 0x6100, 0x3466},
}

// SHT3x models Sensirion's SHT30, SHT31 and SHT35: single shots with and without clock stretching, periodic measurements, heater,
// status register, resets, serial number, and the registers of the alert limits, which raise no alert here. Used through a Bus.
type SHT3x struct {
	now      func() time.Time
	air      func(time.Time) Air
	conv     conversions
	periodic bool
	stretch  bool      // the single shot that runs holds the clock
	rests    time.Time // answers nothing before
	status   uint16
	limits   [len(sht3xLimits)]uint16
	data     []byte // last measurement that nobody has read
	fetch    bool   // the next read is of data
	reply    []byte // otherwise of this
}

// NewSHT3x returns a chip that was powered some time ago.
func NewSHT3x(now func() time.Time, air func(time.Time) Air) *SHT3x {
	c := &SHT3x{now: now, air: air}
	c.powerOn()
	return c
}

func (c *SHT3x) powerOn() {
	*c = SHT3x{now: c.now, air: c.air, status: sht3xAlertPending | sht3xWasReset}
	for i, l := range sht3xLimits {
		c.limits[i] = l.reset
	}
}

// Tx implements Device.
func (c *SHT3x) Tx(w, r []byte) error {
	now := c.now()
	c.conv.advance(now, c.measure)
	if now.Before(c.rests) {
		return ErrNAK
	}
	if len(w) > 0 {
		if !c.periodic && c.conv.busy(now) || !c.command(w) {
			return ErrNAK
		}
	}
	if len(r) == 0 {
		return nil
	}
	return c.read(r)
}

func (c *SHT3x) read(r []byte) error {
	if !c.fetch {
		if c.reply == nil {
			return ErrNAK
		}
		answer(r, c.reply...)
		c.reply = nil
		return nil
	}
	if c.stretch {
		time.Sleep(c.conv.start.Add(c.conv.length).Sub(c.now()))
		c.conv.advance(c.now(), c.measure)
	}
	if c.data == nil {
		c.fetch = !c.periodic // another fetch command is needed there
		return ErrNAK
	}
	answer(r, c.data...)
	c.data, c.fetch = nil, false
	return nil
}

func (c *SHT3x) measure(end time.Time) {
	air := c.air(end)
	if c.status&sht3xHeater != 0 {
		air = heated(air, sht3xHeats)
	}
	celsius := min(max(air.Celsius, -40), 125) // table 2
	c.data = words(ratio(celsius, -45, 175), ratio(air.Percent, 0, 100))
}

// command takes what was written and reports whether the chip acknowledges it.
func (c *SHT3x) command(w []byte) bool {
	if len(w) != 2 && len(w) != 5 {
		c.status |= sht3xBadCommand
		return false
	}
	command := word(w)
	ok := len(w) == 2 && (c.measuring(command) || c.control(command)) || len(w) == 5 && c.set(command, w)
	if !ok {
		c.status |= sht3xBadCommand
	} else if command != sht3xStatus { // or nobody would ever see the bit
		c.status &^= sht3xBadCommand
	}
	return ok
}

// measuring takes the commands that start measurements. A chip that measures periodically takes no other before Break (§4.5).
func (c *SHT3x) measuring(command uint16) bool {
	single, isSingle := sht3xSingle[command]
	periodic, isPeriodic := sht3xPeriodic[command]
	if c.periodic || !isSingle && !isPeriodic {
		return false
	}
	c.data, c.reply, c.fetch, c.stretch, c.periodic = nil, nil, isSingle, single.stretch, isPeriodic
	c.conv = conversions{start: c.now(), length: max(single.length, periodic.length), period: periodic.period}
	return true
}

// control takes the other commands of two bytes.
func (c *SHT3x) control(command uint16) bool {
	c.reply, c.fetch = nil, false
	switch command {
	case sht3xFetch:
		c.fetch = true
	case sht3xBreak:
		c.conv, c.periodic, c.rests = conversions{}, false, c.now().Add(sht3xBreakTime)
	case sht3xReset:
		c.powerOn()
		c.rests = c.now().Add(sht3xResetTime)
	case sht3xHeaterOn:
		c.status |= sht3xHeater
	case sht3xHeaterOff:
		c.status &^= sht3xHeater
	case sht3xStatus:
		c.reply = words(c.status)
	case sht3xClearStatus:
		c.status &^= sht3xClearable
	case sht3xSerial, sht3xSerialStretched:
		c.reply = words(sht3xSerialID>>16, sht3xSerialID&0xffff)
	default:
		for i, l := range sht3xLimits {
			if l.read == command {
				c.reply = words(c.limits[i])
				return true
			}
		}
		return false
	}
	return true
}

// set writes an alert limit. The chip takes no word without its checksum (§4).
func (c *SHT3x) set(command uint16, w []byte) bool {
	for i, l := range sht3xLimits {
		if l.write != command {
			continue
		}
		value, ok := argument(w)
		if !ok {
			c.status |= sht3xBadChecksum
			return true
		}
		c.status &^= sht3xBadChecksum
		c.limits[i] = value
		return true
	}
	return false
}
