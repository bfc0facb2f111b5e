// SPDX-License-Identifier: Apache-2.0

package sim

import "time"

// Commands and status of the AHT20 (ASAIR, AHT20 data sheet §5.3 and 5.4; the data sheet of the DHT20, the same circuit, has them in
// §7.3 and 7.4). That a chip that resets answers nothing is an assumption.
const (
	aht20Init      = 0xbe // with 0x08 0x00
	aht20InitAHT10 = 0xe1 // the predecessor's, with the same two bytes; Linux sends it
	aht20Measure   = 0xac // with 0x33 0x00
	aht20Reset     = 0xba
	aht20Status    = 0x71

	aht20Busy       = 1 << 7
	aht20Ready      = 1 << 4 // not described; §5.4 wants it set (status & 0x18 = 0x18)
	aht20Calibrated = 1 << 3

	aht20Conversion = 80 * time.Millisecond
	aht20ResetTime  = 20 * time.Millisecond // §5.5
	aht20InitTime   = 10 * time.Millisecond
)

// AHT20 models ASAIR's AHT20. A read gives the status byte, 20 bits of humidity and 20 of temperature, and a checksum of these six;
// it is acknowledged at any time, with the busy bit during a measurement. Used through a Bus.
type AHT20 struct {
	now    func() time.Time
	air    func(time.Time) Air
	conv   conversions
	rests  time.Time // answers nothing before
	busy   time.Time // initialises until
	status byte
	data   [5]byte
}

// NewAHT20 returns a chip that was powered some time ago and has loaded its calibration, as it does by itself.
func NewAHT20(now func() time.Time, air func(time.Time) Air) *AHT20 {
	return &AHT20{now: now, air: air, status: aht20Ready | aht20Calibrated}
}

// LoseCalibration makes the chip what §5.4 provides for: one that is not calibrated until it is initialised.
func (c *AHT20) LoseCalibration() { c.status &^= aht20Ready | aht20Calibrated }

// Tx implements Device.
func (c *AHT20) Tx(w, r []byte) error {
	now := c.now()
	c.conv.advance(now, c.measure)
	if now.Before(c.rests) {
		return ErrNAK
	}
	if len(w) > 0 {
		c.command(w)
	}
	status := c.status
	if c.conv.busy(now) || now.Before(c.busy) {
		status |= aht20Busy
	}
	frame := append([]byte{status}, c.data[:]...)
	answer(r, append(frame, crc8(frame...))...)
	return nil
}

// command ignores what it does not know and, while it measures, everything but a reset.
func (c *AHT20) command(w []byte) {
	now := c.now()
	switch {
	case w[0] == aht20Reset:
		*c = AHT20{now: c.now, air: c.air, status: aht20Ready | aht20Calibrated, rests: now.Add(aht20ResetTime)}
	case c.conv.busy(now) || now.Before(c.busy):
	case (w[0] == aht20Init || w[0] == aht20InitAHT10) && len(w) == 3:
		c.status |= aht20Ready | aht20Calibrated
		c.busy = now.Add(aht20InitTime)
	case w[0] == aht20Measure && len(w) == 3 && w[1] == 0x33:
		c.conv = conversions{start: now, length: aht20Conversion}
	}
}

// measure converts as §6 says: 0 to 100 % and −50 to 150 °C are 20 bits each; the chip is made for −40 to 85 °C.
func (c *AHT20) measure(end time.Time) {
	if c.status&aht20Calibrated == 0 {
		return
	}
	air := c.air(end)
	h := quantise(air.Percent/100*(1<<20), 1, 0, 1<<20-1)
	t := quantise((min(max(air.Celsius, -40), 85)+50)/200*(1<<20), 1, 0, 1<<20-1)
	c.data = [5]byte{byte(h >> 12), byte(h >> 4), byte(h<<4) | byte(t>>16), byte(t >> 8), byte(t)}
}
