// SPDX-License-Identifier: Apache-2.0

package sim

import "time"

// Commands of the SHT4x (Sensirion, data sheet version 6 of February 2023, §4.5), as Linux has them too (drivers/hwmon/sht4x.c). Of the
// data sheet only parts were at hand: times and commands are also those of the drivers of Sensirion and Linux.
const (
	sht4xSerial   = 0x89
	sht4xReset    = 0x94
	sht4xSerialID = 0x1f07b62d

	sht4xResetTime = time.Millisecond // §3.2
	sht4xHigh      = 8200 * time.Microsecond
)

// sht4xMeasure has the commands that measure: how long one takes at most (§3.2, for the precise one the earlier versions' 8.2 ms, for which Linux
// waits) and by how many degrees it warms the chip before, which is an assumption: 0.3 °C for each milliwatt.
var sht4xMeasure = map[byte]struct {
	length time.Duration
	heats  float64
}{
	0xfd: {sht4xHigh, 0}, 0xf6: {4500 * time.Microsecond, 0}, 0xe0: {1600 * time.Microsecond, 0},
	0x39: {1100*time.Millisecond + sht4xHigh, 60}, 0x32: {110*time.Millisecond + sht4xHigh, 60},
	0x2f: {1100*time.Millisecond + sht4xHigh, 33}, 0x24: {110*time.Millisecond + sht4xHigh, 33},
	0x1e: {1100*time.Millisecond + sht4xHigh, 6}, 0x15: {110*time.Millisecond + sht4xHigh, 6},
}

// SHT4x models Sensirion's SHT40, SHT41 and SHT45: measurements with three precisions and with the heater, serial number, soft reset.
// While it measures it acknowledges nothing. Used through a Bus.
type SHT4x struct {
	now   func() time.Time
	air   func(time.Time) Air
	conv  conversions
	heats float64
	rests time.Time // answers nothing before
	reply []byte    // what the next read gives, once
}

// NewSHT4x returns a chip that was powered some time ago.
func NewSHT4x(now func() time.Time, air func(time.Time) Air) *SHT4x {
	return &SHT4x{now: now, air: air}
}

// Tx implements Device.
func (c *SHT4x) Tx(w, r []byte) error {
	now := c.now()
	c.conv.advance(now, c.measure)
	if now.Before(c.rests) || c.conv.busy(now) || len(w) > 1 {
		return ErrNAK
	}
	if len(w) == 1 && !c.command(w[0]) {
		return ErrNAK
	}
	if len(r) == 0 {
		return nil
	}
	if c.reply == nil {
		return ErrNAK
	}
	answer(r, c.reply...)
	c.reply = nil
	return nil
}

func (c *SHT4x) command(command byte) bool {
	c.reply = nil
	m, ok := sht4xMeasure[command]
	switch {
	case ok:
		c.heats, c.conv = m.heats, conversions{start: c.now(), length: m.length}
	case command == sht4xSerial:
		c.reply = words(sht4xSerialID>>16, sht4xSerialID&0xffff)
	case command == sht4xReset:
		c.rests = c.now().Add(sht4xResetTime)
	default:
		return false
	}
	return true
}

// measure converts as §4.6 says: −45 to 130 °C and −6 to 119 % are the 16 bits; the humidity is not cropped to 0 to 100 %.
func (c *SHT4x) measure(end time.Time) {
	air := heated(c.air(end), c.heats)
	c.reply = words(ratio(min(max(air.Celsius, -40), 125), -45, 175), ratio(air.Percent, -6, 125))
}
