// SPDX-License-Identifier: Apache-2.0

// Package lm75 drives three temperature sensors on I²C that share their registers: the LM75 of many makers, and TI's TMP102 and TMP105.
//
// Data sheets: National Semiconductor DS012658 "LM75 Digital Temperature Sensor and Thermal Watchdog"; TI SBOS397 "TMP102"; TI SLLS648
// "TMP105". All three sleep between measurements: converting all the time, an LM75 takes 250 µA, asleep 4 µA, and it warms itself less. A
// thermostat on the alert pin is thus served only while the sensor is read. The fault queue, mode and polarity of that pin are left as after power-up.
package lm75

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"periph.io/x/conn/v3/physic"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/wire"
)

// Registers (TMP102 §7.5.1, TMP105 table 2; the LM75's are the same). The configuration has one byte, here the upper one of a word; the TMP102's has two.
const (
	regTemperature = 0x00
	regConfig      = 0x01
	regLow         = 0x02 // T_HYST of the LM75: 75 °C after power-up
	regHigh        = 0x03 // T_OS: 80 °C

	oneShot = 0x8000 // of the configuration; the TMP102 clears it while it converts, the TMP105 reads it as 0
)

// model is what the chips differ in.
type model struct {
	name        string
	width       int           // bytes of the configuration
	start, rest uint16        // configuration that starts a conversion and that stops all
	check, want uint16        // bits of the configuration that tell the chip, and their values
	mask        uint16        // bits of the configuration that read as they were written
	bits        uint16        // of the temperature; the others are 0
	spare       bool          // the others are undefined instead
	conversion  time.Duration // at most
}

// LM75 describes the LM75 of any maker: ±2 °C from -25 to 100 °C, ±3 °C from -55 to 125 °C, in steps of 0.5 °C. It has no one-shot mode: a
// Read wakes it, waits for a conversion (100 ms typically; copies take up to 300 ms) and puts it to sleep again. Option bits = 11 is for NXP's
// LM75A and LM75B, with steps of 0.125 °C.
var LM75 = model{
	name: "lm75", width: 1, start: 0x0000, rest: 0x0100,
	check: 0xe000, want: 0, mask: 0xff00, bits: 0xff80, spare: true, conversion: 300 * time.Millisecond,
}.driver("LM75: temperature ±2 °C, steps of 0.5 °C (DS012658)", 500*time.Millisecond, addrs,
	sensors.Option{Name: "bits", Default: "9", Allowed: []string{"9", "11"}, Doc: "bits of a temperature: 11 for NXP's LM75A and LM75B"})

// TMP102 describes TI's TMP102: ±2 °C from -25 to 85 °C, ±3 °C from -40 to 125 °C, in steps of 0.0625 °C. One-shot conversions (§7.4.4) take 26
// ms, at most 35 ms; the resolution bits, which always read 11 (§7.5.3.5), tell it from its relatives.
var TMP102 = model{
	name: "tmp102", width: 2, start: 0xe1a0, rest: 0x61a0,
	check: 0x600f, want: 0x6000, mask: 0xffdf, bits: 0xfff0, conversion: 35 * time.Millisecond,
}.driver("TI TMP102: temperature ±2 °C, steps of 0.0625 °C (SBOS397)", 100*time.Millisecond, addrs[:4])

// TMP105 describes TI's TMP105: ±2 °C from -25 to 85 °C, ±3 °C from -40 to 125 °C, in steps of 0.0625 °C. One-shot conversions take 220 ms, at
// most 300 ms. It has two addresses, 0x48 and 0x49; the others are of TMP75, TMP175 and TMP275, whose registers are the same.
var TMP105 = model{
	name: "tmp105", width: 1, start: 0xe100, rest: 0x6100,
	check: 0, want: 0, mask: 0x7f00, bits: 0xfff0, conversion: 300 * time.Millisecond,
}.driver("TI TMP105, TMP75, TMP175, TMP275: temperature ±2 °C, steps of 0.0625 °C (SLLS648)", 500*time.Millisecond, addrs)

var addrs = []uint16{0x48, 0x49, 0x4a, 0x4b, 0x4c, 0x4d, 0x4e, 0x4f}

// driver leaves Identify out: no chip of the family has an identity register.
func (m model) driver(doc string, fastest time.Duration, addrs []uint16, options ...sensors.Option) sensors.Driver {
	return sensors.Driver{
		Name: m.name, Doc: doc, Bus: hal.I2C, Addrs: addrs, Measures: []edge.Quantity{sensors.Temperature}, Options: options, Fastest: fastest,
		Open: func(ctx context.Context, p hal.Port, opts map[string]string) (sensors.Sensor, error) {
			c := &chip{model: m, conn: p.I2C}
			if opts["bits"] == "11" {
				c.bits = 0xffe0
			}
			if err := c.probe(ctx); err != nil {
				return nil, fmt.Errorf("%s: looking for the chip: %w", m.name, err)
			}
			if _, err := c.measure(ctx); err != nil { // shows that the settings stay, which a relative's would not
				return nil, fmt.Errorf("%s: starting: %w", m.name, err)
			}
			return c, nil
		},
	}
}

type chip struct {
	model
	conn *hal.Conn
}

// probe only reads. Limits that are both zero are taken for a stuck bus, as Linux's driver does: after power-up they are 75 and 80 °C.
func (c *chip) probe(ctx context.Context) error {
	config, err := c.config(ctx)
	if err != nil {
		return err
	}
	low, err := wire.ReadWord(ctx, c.conn, regLow)
	if err != nil {
		return err
	}
	high, err := wire.ReadWord(ctx, c.conn, regHigh)
	if err != nil {
		return err
	}
	limits := fmt.Sprintf("configuration %#04x, limits %#04x and %#04x", config, low, high)
	switch {
	case low == high && (low == 0 || low == 0xffff):
		return fmt.Errorf("%s: %w", limits, sensors.ErrNoData)
	case config&c.check != c.want, !c.spare && (low|high)&^c.bits != 0:
		return fmt.Errorf("%s are not a %s's: %w", limits, c.name, sensors.ErrWrongChip)
	}
	return nil
}

// Read implements sensors.Sensor. It takes as long as a conversion at most does.
func (c *chip) Read(ctx context.Context) ([]edge.Sample, error) {
	t, err := c.measure(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: reading: %w", c.name, err)
	}
	return []edge.Sample{sensors.Celsius(t)}, nil
}

// measure reads the configuration last: it is never all zeros then, unlike the temperature, so that a bus that is stuck or a chip that
// lost its supply never looks like 0 °C. An LM75 that is read while it converts begins again (DS012658 note 8), so nothing polls it.
func (c *chip) measure(ctx context.Context) (physic.Temperature, error) {
	if err := c.configure(ctx, c.start); err != nil {
		return 0, err
	}
	if err := hal.Sleep(ctx, c.conversion); err != nil {
		return 0, err
	}
	raw, err := wire.ReadWord(ctx, c.conn, regTemperature)
	if err != nil {
		return 0, err
	}
	asleep := c.start
	if c.start&oneShot == 0 {
		asleep = c.rest
		if err := c.configure(ctx, c.rest); err != nil {
			return 0, err
		}
	}
	config, err := c.config(ctx)
	switch {
	case err != nil:
		return 0, err
	case config>>8 == 0 || config>>8 == 0xff:
		return 0, fmt.Errorf("configuration %#04x: %w", config, sensors.ErrNoData)
	case (config^asleep)&c.mask == oneShot:
		return 0, sensors.ErrBusy
	case (config^asleep)&c.mask != 0:
		return 0, fmt.Errorf("configuration %#04x, want %#04x: the supply dipped, or %w", config, asleep, sensors.ErrWrongChip)
	}
	return c.decode(raw)
}

// decode takes a two's complement of 1/256 °C (TMP102 §7.3.1, TMP105 table 5).
func (m model) decode(raw uint16) (physic.Temperature, error) {
	if !m.spare && raw&^m.bits != 0 {
		return 0, fmt.Errorf("temperature %#04x has bits that are always 0: %w", raw, sensors.ErrNoData)
	}
	t := physic.Temperature(int64(int16(raw&m.bits))*3_906_250) + physic.ZeroCelsius
	if t < physic.ZeroCelsius-55*physic.Celsius || t > physic.ZeroCelsius+125*physic.Celsius {
		return 0, fmt.Errorf("%s: %w", t, sensors.ErrRange)
	}
	return t, nil
}

func (c *chip) config(ctx context.Context) (uint16, error) {
	var b [2]byte
	err := c.conn.Tx(ctx, []byte{regConfig}, b[:c.width])
	return binary.BigEndian.Uint16(b[:]), err
}

func (c *chip) configure(ctx context.Context, value uint16) error {
	return c.conn.Tx(ctx, []byte{regConfig, byte(value >> 8), byte(value)}[:1+c.width], nil)
}

// Close implements sensors.Sensor: the chip sleeps at 4 µA (LM75), 1 µA (TMP102) or 1.5 µA (TMP105).
func (c *chip) Close() error {
	if err := c.configure(context.Background(), c.rest); err != nil {
		return fmt.Errorf("%s: shutting down: %w", c.name, err)
	}
	return nil
}
