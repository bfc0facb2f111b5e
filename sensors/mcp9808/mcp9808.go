// SPDX-License-Identifier: Apache-2.0

// Package mcp9808 drives Microchip's MCP9808: a temperature sensor on I²C.
//
// Data sheet: Microchip DS20005095, "MCP9808 ±0.5 °C Maximum Accuracy Digital Temperature Sensor". The section numbers in this package are its.
// The chip sleeps between measurements, at 0.1 µA instead of 200 µA, which also keeps it from warming itself.
package mcp9808

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

// Registers (§5.1); all but the resolution have 16 bits, high byte first.
const (
	regConfig       = 0x01
	regTemperature  = 0x05
	regManufacturer = 0x06
	regDevice       = 0x07
	regResolution   = 0x08 // 8 bits

	manufacturer = 0x0054
	device       = 0x04 // the low byte is the revision
	run          = 0x0000
	shutdown     = 0x0100
	finest       = 0x03 // 0.0625 °C

	// conversionTime is 250 ms and a fifth: §5.2.4 gives a typical value only, and no register says when a conversion is done.
	conversionTime = 300 * time.Millisecond
)

var measures = []edge.Quantity{sensors.Temperature}

// Driver describes the chip. Accuracy (§1.0): ±0.5 °C from -20 to 100 °C, ±1 °C from -40 to 125 °C, in steps of 0.0625 °C.
var Driver = sensors.Driver{
	Name:     "mcp9808",
	Doc:      "Microchip MCP9808: temperature ±0.5 °C, steps of 0.0625 °C (DS20005095)",
	Bus:      hal.I2C,
	Addrs:    []uint16{0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f},
	Measures: measures,
	Fastest:  500 * time.Millisecond,
	Identify: func(ctx context.Context, p hal.Port) error { return (&chip{conn: p.I2C}).identify(ctx) },
	Open:     open,
}

type chip struct{ conn *hal.Conn }

// open reads before it writes, so that it does no harm to another chip.
func open(ctx context.Context, p hal.Port, _ map[string]string) (sensors.Sensor, error) {
	c := &chip{conn: p.I2C}
	if err := c.identify(ctx); err != nil {
		return nil, fmt.Errorf("mcp9808: identifying the chip: %w", err)
	}
	if err := c.conn.Tx(ctx, []byte{regResolution, finest}, nil); err != nil {
		return nil, fmt.Errorf("mcp9808: setting the resolution: %w", err)
	}
	if err := wire.WriteWord(ctx, c.conn, regConfig, shutdown); err != nil {
		return nil, fmt.Errorf("mcp9808: shutting down: %w", err)
	}
	return c, nil
}

func (c *chip) identify(ctx context.Context) error {
	maker, err := wire.ReadWord(ctx, c.conn, regManufacturer)
	if err != nil {
		return err
	}
	id, err := wire.ReadWord(ctx, c.conn, regDevice)
	switch {
	case err != nil:
		return err
	case maker == id && (id == 0 || id == 0xffff):
		return fmt.Errorf("manufacturer and device are %#x: %w", id, sensors.ErrNoData)
	case maker != manufacturer || id>>8 != device:
		return fmt.Errorf("manufacturer %#04x, device %#04x: %w", maker, id, sensors.ErrWrongChip)
	}
	return nil
}

// Read implements sensors.Sensor. It takes 300 ms.
func (c *chip) Read(ctx context.Context) ([]edge.Sample, error) {
	t, err := c.measure(ctx)
	if err != nil {
		return nil, fmt.Errorf("mcp9808: reading: %w", err)
	}
	return []edge.Sample{sensors.Celsius(t)}, nil
}

// measure reads the identity last: all zeros would be a valid 0 °C, and a bus that is stuck must never look like a temperature.
func (c *chip) measure(ctx context.Context) (physic.Temperature, error) {
	if err := wire.WriteWord(ctx, c.conn, regConfig, run); err != nil {
		return 0, err
	}
	if err := hal.Sleep(ctx, conversionTime); err != nil {
		return 0, err
	}
	raw, err := wire.ReadWord(ctx, c.conn, regTemperature)
	if err != nil {
		return 0, err
	}
	if err := wire.WriteWord(ctx, c.conn, regConfig, shutdown); err != nil {
		return 0, err
	}
	if err := c.identify(ctx); err != nil {
		return 0, err
	}
	return decode(raw)
}

// decode takes a two's complement of 13 bits in 1/16 °C (§5.1.3.1); the three bits above are alert flags.
func decode(raw uint16) (physic.Temperature, error) {
	t := physic.Temperature(int64(int16(raw<<3)>>3)*62_500)*physic.MicroKelvin + physic.ZeroCelsius
	if t < physic.ZeroCelsius-40*physic.Celsius || t > physic.ZeroCelsius+125*physic.Celsius {
		return 0, fmt.Errorf("%s: %w", t, sensors.ErrRange)
	}
	return t, nil
}

// Close implements sensors.Sensor: the chip sleeps at 0.1 µA.
func (c *chip) Close() error {
	if err := wire.WriteWord(context.Background(), c.conn, regConfig, shutdown); err != nil {
		return fmt.Errorf("mcp9808: shutting down: %w", err)
	}
	return nil
}
