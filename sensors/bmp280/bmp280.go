// SPDX-License-Identifier: Apache-2.0

// Package bmp280 drives Bosch's BMP280: temperature and pressure over I²C.
//
// Data sheet: Bosch Sensortec BST-BMP280-DS001, "BMP280 Digital pressure sensor". The chip measures in forced mode with the settings for
// weather monitoring (§3.4, table 7): one sample of each, no filter, asleep between.
package bmp280

import (
	"context"
	"fmt"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/bmxx80"
)

const conversionTime = 6400 * time.Microsecond // §3.8.1, table 13: ultra low power, maximum

// Driver describes the chip. Accuracy (§1, table 2): ±1 °C from 0 to 65 °C, ±1 hPa from 0 to 40 °C; resolution 0.01 °C, 2.6 Pa (table 4);
// range -40…85 °C, 300…1100 hPa.
var Driver = sensors.Driver{
	Name:     "bmp280",
	Doc:      "Bosch BMP280: temperature ±1 °C, pressure ±1 hPa (BST-BMP280-DS001)",
	Bus:      hal.I2C,
	Addrs:    []uint16{0x76, 0x77},
	Measures: []edge.Quantity{sensors.Temperature, sensors.Pressure},
	Fastest:  time.Second,
	Identify: func(ctx context.Context, p hal.Port) error {
		return bmxx80.Identify(ctx, p.I2C, bmxx80.BMP280, bmxx80.BMP280Sample1, bmxx80.BMP280Sample2)
	},
	Open: open,
}

type chip struct{ *bmxx80.Chip }

func open(ctx context.Context, p hal.Port, _ map[string]string) (sensors.Sensor, error) {
	c, err := bmxx80.Open(ctx, p.I2C, "bmp280", bmxx80.BMP280, bmxx80.BMP280Sample1, bmxx80.BMP280Sample2)
	if err != nil {
		return nil, err
	}
	return &chip{c}, nil
}

// Read implements sensors.Sensor. It takes about 7 ms.
func (c *chip) Read(ctx context.Context) ([]edge.Sample, error) {
	var data [6]byte
	err := c.Measure(ctx, []byte{bmxx80.RegCtrlMeas, bmxx80.ForcedX1}, conversionTime, data[:])
	if err != nil {
		return nil, fmt.Errorf("bmp280: reading: %w", err)
	}
	air, err := c.Air(data)
	if err != nil {
		return nil, fmt.Errorf("bmp280: reading: %w", err)
	}
	return []edge.Sample{sensors.Celsius(air.Temperature), sensors.Pascals(air.Pressure)}, nil
}

// Close implements sensors.Sensor: the chip sleeps at 0.1 µA.
func (c *chip) Close() error {
	if err := c.Sleep(); err != nil {
		return fmt.Errorf("bmp280: putting to sleep: %w", err)
	}
	return nil
}
