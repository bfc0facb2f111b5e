// SPDX-License-Identifier: Apache-2.0

// Package ina219 drives TI's INA219: voltage of a supply, current through a shunt resistor, and power, on I²C.
//
// Data sheet: TI SBOS448G, "INA219 Zerø-Drift, Bidirectional Current/Power Monitor". The section numbers in this package are its. Each
// measurement is triggered, averages 32 samples, since a board's current has spikes, and leaves the chip powered down.
package ina219

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"periph.io/x/conn/v3/physic"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/wire"
)

// Registers (§8.6.1) and bits of the configuration (§8.6.2.1).
const (
	regConfig      = 0x00
	regBus         = 0x02
	regCurrent     = 0x04
	regCalibration = 0x05

	unused    = 0xc000                        // bits of the configuration that read 0; an INA226 has a 1 there
	sleep     = 1<<13 | 0b1101<<7 | 0b1101<<3 // bus range 32 V, 32 samples for both, powered down
	triggered = 0b011
	ready     = 1 << 1 // CNVR of the bus voltage (§8.6.3.2)
	overflow  = 1 << 0 // OVF

	conversionTime = 38 * time.Millisecond // 17.02 ms for each of the two, by 586/532, the slowest clock (§7.5), and 40 µs to wake up
	pollTime       = 2 * time.Millisecond
	polls          = 10

	slack = 1e-9 // for products that have no exact binary form, such as 3.2 × 0.1

	calibrationScale = 40_960_000_000_000 // 0.04096 V of equation 1, in nV·10⁶: over calibration and µΩ it gives nA
)

var measures = []edge.Quantity{sensors.Voltage, sensors.Current, sensors.Power}

// Driver describes the chip: 0…26 V in steps of 4 mV, ±1 %; current ±1 %, in steps of 10 µV over the shunt, both ways; power is their product.
// The voltage is that of the load's side of the shunt.
var Driver = sensors.Driver{
	Name:     "ina219",
	Doc:      "TI INA219: voltage 0…26 V, current both ways, power, ±1 % without the shunt's tolerance (SBOS448)",
	Bus:      hal.I2C,
	Addrs:    []uint16{0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x4b, 0x4c, 0x4d, 0x4e, 0x4f},
	Measures: measures,
	Options: []sensors.Option{
		{Name: "shunt-ohms", Default: "0.1", Doc: "resistance of the shunt in Ω, 0.0001 to 10"},
		{Name: "max-amps", Default: "3.2", Doc: "largest current to measure in A, either way; times shunt-ohms it may be 0.32 V at most"},
	},
	Fastest: 100 * time.Millisecond,
	Open:    open,
}

type chip struct {
	conn        *hal.Conn
	microOhms   int64
	calibration uint16
	config      uint16 // with the shunt's range; powered down
}

// open reads before it writes, so that it does no harm to another chip.
func open(ctx context.Context, p hal.Port, opts map[string]string) (sensors.Sensor, error) {
	c, err := newChip(opts)
	if err != nil {
		return nil, fmt.Errorf("ina219: %w", err)
	}
	c.conn = p.I2C
	if err := c.probe(ctx); err != nil {
		return nil, fmt.Errorf("ina219: looking for the chip: %w", err)
	}
	if _, err := c.measure(ctx); err != nil { // shows that the calibration stays
		return nil, fmt.Errorf("ina219: starting: %w", err)
	}
	return c, nil
}

// probe only reads.
func (c *chip) probe(ctx context.Context) error {
	config, err := wire.ReadWord(ctx, c.conn, regConfig)
	switch {
	case err != nil:
		return err
	case config == 0 || config == 0xffff:
		return fmt.Errorf("configuration %#04x: %w", config, sensors.ErrNoData)
	case config&unused != 0:
		return fmt.Errorf("configuration %#04x is not an INA219's (an INA226's is 0x4127 after power-up): %w", config, sensors.ErrWrongChip)
	}
	return nil
}

// newChip computes the shunt's range and the calibration (§8.5.1, equations 1 and 2), whose last bit is always 0 (§8.6.4.1).
func newChip(opts map[string]string) (*chip, error) {
	ohms, err := number(opts, "shunt-ohms", 0.0001, 10)
	if err != nil {
		return nil, err
	}
	amps, err := number(opts, "max-amps", 0.001, 0.32/ohms)
	if err != nil {
		return nil, err
	}
	c := &chip{microOhms: int64(ohms*1e6 + 0.5), config: sleep}
	for top := 0.04; amps*ohms > top*(1+slack); top *= 2 {
		c.config += 1 << 11 // ranges of 40, 80, 160, 320 mV
	}
	c.calibration = uint16(min(0.04096*32768/(amps*ohms)*(1+slack), 0xfffe)) &^ 1
	return c, nil
}

func number(opts map[string]string, name string, low, high float64) (float64, error) {
	v, err := strconv.ParseFloat(opts[name], 64)
	if err != nil || !(v >= low && v <= high*(1+slack)) {
		return 0, fmt.Errorf("option %s = %q: use a number from %.4g to %.4g", name, opts[name], low, high)
	}
	return v, nil
}

// Read implements sensors.Sensor. It takes about 40 ms.
func (c *chip) Read(ctx context.Context) ([]edge.Sample, error) {
	samples, err := c.measure(ctx)
	if err != nil {
		return nil, fmt.Errorf("ina219: reading: %w", err)
	}
	return samples, nil
}

// measure writes the calibration each time and reads it last: a dip of the supply sets it to 0, and with it the current. It is never 0, so that a
// bus that is stuck does not look like 0 A. The chip is powered down between, also because only a new mode is sure to clear CNVR (§8.6.3.2).
func (c *chip) measure(ctx context.Context) ([]edge.Sample, error) {
	if err := wire.WriteWord(ctx, c.conn, regCalibration, c.calibration); err != nil {
		return nil, err
	}
	if err := wire.WriteWord(ctx, c.conn, regConfig, c.config|triggered); err != nil {
		return nil, err
	}
	if err := hal.Sleep(ctx, conversionTime); err != nil {
		return nil, err
	}
	bus, err := c.wait(ctx)
	if err != nil {
		return nil, err
	}
	current, err := wire.ReadWord(ctx, c.conn, regCurrent)
	if err != nil {
		return nil, err
	}
	if err := wire.WriteWord(ctx, c.conn, regConfig, c.config); err != nil {
		return nil, err
	}
	calibration, err := wire.ReadWord(ctx, c.conn, regCalibration)
	switch {
	case err != nil:
		return nil, err
	case calibration == 0 || calibration == 0xffff:
		return nil, fmt.Errorf("calibration %#04x: %w", calibration, sensors.ErrNoData)
	case calibration != c.calibration:
		return nil, fmt.Errorf("calibration %#04x, want %#04x: %w", calibration, c.calibration, sensors.ErrWrongChip)
	}
	return c.samples(bus, current)
}

// wait polls the bus voltage until its conversion and that of the current are done.
func (c *chip) wait(ctx context.Context) (uint16, error) {
	for range polls {
		bus, err := wire.ReadWord(ctx, c.conn, regBus)
		if err != nil || bus&ready != 0 {
			return bus, err
		}
		if err := hal.Sleep(ctx, pollTime); err != nil {
			return 0, err
		}
	}
	return 0, sensors.ErrBusy
}

// samples scales the two registers (§8.6.3). The power is computed here from both: the data sheet does not say what sign the chip's own has
// when the current is negative.
func (c *chip) samples(bus, current uint16) ([]edge.Sample, error) {
	volts := int64(bus>>3) * 4 // mV
	calibration := int64(c.calibration)
	limit := int64(4000) << (c.config >> 11 & 3) * calibration / 4096 // the shunt's range has 4000 steps of 10 µV, or 2, 4, 8 times that
	raw := int64(int16(current))
	switch {
	case bus&overflow != 0, raw >= limit, -raw >= limit:
		return nil, fmt.Errorf("the current is too large for the shunt, or max-amps too small: %w", sensors.ErrRange)
	case volts > 32_000:
		return nil, fmt.Errorf("bus voltage %d mV: %w", volts, sensors.ErrRange)
	}
	amps := raw * calibrationScale / (calibration * c.microOhms) // nA
	return []edge.Sample{
		sensors.Volts(physic.ElectricPotential(volts) * physic.MilliVolt),
		sensors.Amperes(physic.ElectricCurrent(amps)),
		sensors.Watts(physic.Power(amps * volts / 1000)),
	}, nil
}

// Close implements sensors.Sensor: the chip is powered down, at 6 µA.
func (c *chip) Close() error {
	if err := wire.WriteWord(context.Background(), c.conn, regConfig, c.config); err != nil {
		return fmt.Errorf("ina219: powering down: %w", err)
	}
	return nil
}
