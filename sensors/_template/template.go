// SPDX-License-Identifier: Apache-2.0

// Package template is a driver to copy: Microchip's MCP9808, a temperature sensor on I²C. docs/adding-a-sensor.md says
// what to change. The go command ignores this folder, because its name begins with an underscore.
//
// Data sheet: Microchip DS20005095, "MCP9808 ±0.5 °C Maximum Accuracy Digital Temperature Sensor". Name the sections that you used.
package template

import (
	"context"
	"fmt"
	"time"

	"periph.io/x/conn/v3/physic"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/wire"
)

// Registers, 16 bits each, high byte first (§5.1, register pointer).
const (
	regConfig       = 0x01
	regTemperature  = 0x05
	regManufacturer = 0x06
	regDevice       = 0x07

	manufacturer   = 0x0054
	deviceHigh     = 0x04 // the low byte is the revision
	configRun      = 0x0000
	configShutdown = 0x0100

	conversionTime = 250 * time.Millisecond // §5.2.4 at the resolution after power-up, 0.0625 °C
)

// If open named Driver directly, Go would report an initialisation cycle: shared tables are variables of their own.
var measures = []edge.Quantity{sensors.Temperature}

// Driver describes the chip: ±0.5 °C from -20 to 100 °C, range -40…125 °C.
var Driver = sensors.Driver{
	Name:     "template",
	Doc:      "Microchip MCP9808: temperature ±0.5 °C (DS20005095)",
	Bus:      hal.I2C,
	Addrs:    []uint16{0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f},
	Measures: measures,
	Fastest:  conversionTime,
	Identify: func(ctx context.Context, p hal.Port) error { return (&chip{p.I2C}).identify(ctx) },
	Open:     open,
}

type chip struct{ conn *hal.Conn }

// open reads before it writes, so that it does no harm to another chip.
func open(ctx context.Context, p hal.Port, _ map[string]string) (sensors.Sensor, error) {
	c := &chip{conn: p.I2C}
	if err := c.identify(ctx); err != nil {
		return nil, fmt.Errorf("template: identifying the chip: %w", err)
	}
	if err := wire.WriteWord(ctx, c.conn, regConfig, configRun); err != nil {
		return nil, fmt.Errorf("template: starting: %w", err)
	}
	if err := hal.Sleep(ctx, conversionTime); err != nil {
		return nil, fmt.Errorf("template: waiting for the first conversion: %w", err)
	}
	return c, nil
}

func (c *chip) identify(ctx context.Context) error {
	maker, err := wire.ReadWord(ctx, c.conn, regManufacturer)
	if err != nil {
		return err
	}
	device, err := wire.ReadWord(ctx, c.conn, regDevice)
	if err != nil {
		return err
	}
	switch {
	case wire.Uniform([]byte{byte(maker >> 8), byte(maker), byte(device >> 8), byte(device)}):
		return fmt.Errorf("manufacturer %#x, device %#x: %w", maker, device, sensors.ErrNoData)
	case maker != manufacturer || device>>8 != deviceHigh:
		return fmt.Errorf("manufacturer %#x, device %#x: %w", maker, device, sensors.ErrWrongChip)
	}
	return nil
}

// Read implements sensors.Sensor. All zeros would be a valid 0 °C, so the identity is read each time: a bus that is stuck or a chip that is
// gone must never look like a temperature.
func (c *chip) Read(ctx context.Context) ([]edge.Sample, error) {
	if err := c.identify(ctx); err != nil {
		return nil, fmt.Errorf("template: reading: %w", err)
	}
	raw, err := wire.ReadWord(ctx, c.conn, regTemperature)
	if err != nil {
		return nil, fmt.Errorf("template: reading: %w", err)
	}
	t := decode(raw)
	if t < physic.ZeroCelsius-40*physic.Kelvin || t > physic.ZeroCelsius+125*physic.Kelvin {
		return nil, fmt.Errorf("template: reading: %s: %w", t, sensors.ErrRange)
	}
	return []edge.Sample{sensors.Celsius(t)}, nil
}

// decode takes a two's complement of 13 bits in 1/16 °C (§5.1.3.1); the three bits above are alert flags.
func decode(raw uint16) physic.Temperature {
	sixteenths := int64(int16(raw<<3) >> 3)
	return physic.Temperature(sixteenths)*62_500*physic.MicroKelvin + physic.ZeroCelsius
}

// Close implements sensors.Sensor: the chip needs 0.1 µA then.
func (c *chip) Close() error {
	if err := wire.WriteWord(context.Background(), c.conn, regConfig, configShutdown); err != nil {
		return fmt.Errorf("template: shutting down: %w", err)
	}
	return nil
}
