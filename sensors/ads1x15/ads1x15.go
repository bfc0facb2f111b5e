// SPDX-License-Identifier: Apache-2.0

// Package ads1x15 drives TI's ADS1115 and ADS1015: analogue-to-digital converters on I²C with four inputs.
//
// Data sheets: TI SBAS444 "ADS111x" and SBAS473 "ADS101x"; section numbers are those of SBAS444D and SBAS473E, which agree. Each input is
// converted in single-shot mode (§8.4.2.1), after which the chip powers itself down. A wider gain does not widen the inputs: each must
// stay between 0 V and the chip's supply, whatever is set (§7.3).
package ads1x15

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"periph.io/x/conn/v3/physic"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/wire"
)

// Registers (§8.6.1) and bits of the configuration (§8.6.3).
const (
	regConversion = 0x00
	regConfig     = 0x01
	regLow        = 0x02 // thresholds of the comparator, which is not used: as after power-up
	regHigh       = 0x03

	ready = 0x8000 // written: begin; read: no conversion runs
	// base: single shot, data rate code 4 (128/s or 1600/s), comparator off. Close writes it with multiplexer and gain as after power-up.
	base  = 0x0183
	reset = base | 2<<9

	pollTime = time.Millisecond
	polls    = 10
)

// The places in these lists are the codes of the multiplexer and of the gain (§8.6.3).
var (
	inputs  = []string{"0-1", "0-3", "1-3", "2-3", "0", "1", "2", "3"}
	ranges  = []string{"6.144", "4.096", "2.048", "1.024", "0.512", "0.256"} // V
	rangeMV = []int64{6144, 4096, 2048, 1024, 512, 256}
)

// ADS1115 describes the 16-bit converter: gain error at most 0.15 %, offset ±3 steps, a step being gain/32768 (125 µV at 4.096 V).
var ADS1115 = model{name: "ads1115", low: 0, conversion: 8700 * time.Microsecond}.
	driver("TI ADS1115: four inputs for voltages, 16 bits, ±0.15 % (SBAS444)")

// ADS1015 describes the 12-bit converter: gain error at most 0.25 %, offset ±0.5 steps, a step being gain/2048 (2 mV at 4.096 V).
var ADS1015 = model{name: "ads1015", low: 0xf, conversion: 750 * time.Microsecond}.
	driver("TI ADS1015: four inputs for voltages, 12 bits, ±0.25 % (SBAS473)")

// model is what the two differ in. The clock of both may be 10 % slow (§7.5), and they wake up in 25 µs.
type model struct {
	name       string
	low        uint16        // bits of a conversion that are always 0
	conversion time.Duration // at most
}

// driver leaves Identify out: nothing tells the two chips apart.
func (m model) driver(doc string) sensors.Driver {
	return sensors.Driver{
		Name: m.name, Doc: doc, Bus: hal.I2C, Addrs: []uint16{0x48, 0x49, 0x4a, 0x4b}, Measures: []edge.Quantity{sensors.Voltage},
		Fastest: 100 * time.Millisecond, Open: m.open,
		Options: []sensors.Option{
			{Name: "channels", Default: "0,1,2,3", Doc: "inputs to read, with commas: 0, 1, 2, 3, or the differences 0-1, 0-3, 1-3, 2-3; 0-1 becomes voltage.0-1"},
			{Name: "gain", Default: "4.096", Allowed: ranges, Doc: "± range in V; an input must stay below the chip's supply all the same"},
		},
	}
}

type chip struct {
	model
	conn     *hal.Conn
	channels []string
	gain     int // place in ranges
}

// open reads before it writes, so that it does no harm to another chip.
func (m model) open(ctx context.Context, p hal.Port, opts map[string]string) (sensors.Sensor, error) {
	c := &chip{model: m, conn: p.I2C, gain: slices.Index(ranges, opts["gain"])}
	for name := range strings.SplitSeq(opts["channels"], ",") {
		name = strings.TrimSpace(name)
		if !slices.Contains(inputs, name) || slices.Contains(c.channels, name) {
			return nil, fmt.Errorf("%s: option channels = %q: name each of 0, 1, 2, 3, 0-1, 0-3, 1-3, 2-3 once at most, with commas", m.name, opts["channels"])
		}
		c.channels = append(c.channels, name)
	}
	if err := c.probe(ctx); err != nil {
		return nil, fmt.Errorf("%s: looking for the chip: %w", m.name, err)
	}
	return c, nil
}

// probe only reads. Both chips have these thresholds after power-up (§8.6.4) and nothing of ours changes them.
func (c *chip) probe(ctx context.Context) error {
	low, err := wire.ReadWord(ctx, c.conn, regLow)
	if err != nil {
		return err
	}
	high, err := wire.ReadWord(ctx, c.conn, regHigh)
	switch {
	case err != nil:
		return err
	case low == high && (low == 0 || low == 0xffff):
		return fmt.Errorf("both thresholds are %#x: %w", low, sensors.ErrNoData)
	case low != 0x8000 || high != 0x7fff:
		return fmt.Errorf("thresholds %#04x and %#04x are not those after power-up (power-cycle the chip if it is the right one): %w", low, high, sensors.ErrWrongChip)
	}
	return nil
}

// Read implements sensors.Sensor. It takes about 10 ms an input (ADS1115) or 2 ms (ADS1015).
func (c *chip) Read(ctx context.Context) ([]edge.Sample, error) {
	samples := make([]edge.Sample, len(c.channels))
	for i, name := range c.channels {
		v, err := c.measure(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("%s: reading input %s: %w", c.name, name, err)
		}
		samples[i] = sensors.Volts(v)
		samples[i].Name += "." + name
	}
	return samples, nil
}

// measure reads the configuration before and after the conversion: all zeros would be a valid 0 V, and neither a bus that gets stuck nor a chip that
// loses its supply must look like one.
func (c *chip) measure(ctx context.Context, input string) (physic.ElectricPotential, error) {
	config := uint16(ready | base | slices.Index(inputs, input)<<12 | c.gain<<9)
	if err := wire.WriteWord(ctx, c.conn, regConfig, config); err != nil {
		return 0, err
	}
	if err := hal.Sleep(ctx, c.conversion); err != nil {
		return 0, err
	}
	if err := c.wait(ctx, config); err != nil {
		return 0, err
	}
	code, err := wire.ReadWord(ctx, c.conn, regConversion)
	if err != nil {
		return 0, err
	}
	if err := c.wait(ctx, config); err != nil {
		return 0, err
	}
	return c.decode(code, c.gain)
}

// wait polls the configuration until the conversion is done. It reads as it was written then.
func (c *chip) wait(ctx context.Context, config uint16) error {
	for range polls {
		got, err := wire.ReadWord(ctx, c.conn, regConfig)
		switch {
		case err != nil:
			return err
		case got == config:
			return nil
		case got == 0 || got == 0xffff:
			return fmt.Errorf("configuration %#04x: %w", got, sensors.ErrNoData)
		case got|ready != config:
			return fmt.Errorf("configuration %#04x, want %#04x: the supply dipped, or %w", got, config, sensors.ErrWrongChip)
		}
		if err := hal.Sleep(ctx, pollTime); err != nil {
			return err
		}
	}
	return sensors.ErrBusy
}

// decode takes a two's complement of 1/32768 of the range (Data Format, §8.5); the ADS1015 leaves the last four bits 0. At the ends the converter clips.
func (m model) decode(code uint16, gain int) (physic.ElectricPotential, error) {
	switch {
	case code&m.low != 0:
		return 0, fmt.Errorf("conversion %#04x has more bits than an ADS1015's: %w", code, sensors.ErrWrongChip)
	case code == 0x8000 || code == 0x7fff&^m.low:
		return 0, fmt.Errorf("the input is beyond ±%s V: set a wider gain, or check it: %w", ranges[gain], sensors.ErrRange)
	}
	return physic.ElectricPotential(int64(int16(code)) * rangeMV[gain] * int64(physic.MilliVolt) / 32768), nil
}

// Close implements sensors.Sensor: the chip is powered down, at 0.5 µA, and so it is after each conversion.
func (c *chip) Close() error {
	if err := wire.WriteWord(context.Background(), c.conn, regConfig, reset); err != nil {
		return fmt.Errorf("%s: powering down: %w", c.name, err)
	}
	return nil
}
