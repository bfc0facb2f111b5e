// SPDX-License-Identifier: Apache-2.0

// Package bme280 drives Bosch's BME280: temperature, relative humidity and pressure over I²C.
//
// Data sheet: Bosch Sensortec BST-BME280-DS002, "BME280 Combined humidity and pressure sensor". The section numbers in this package
// are its. The chip measures in forced mode with the settings for weather monitoring (§3.5.1): one sample of each, no filter, asleep between.
package bme280

import (
	"context"
	"fmt"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/bmxx80"
	"github.com/streembit/edge/sensors/wire"
)

// Registers and values (§5.3, §5.4); what the BMP280 has too is in package bmxx80.
const (
	regTrimHumidity = 0xe1
	regCtrlHum      = 0xf2
	humidityX1      = 1

	conversionTime = 9300 * time.Microsecond // §9.1, maximum with ×1 each
)

// Driver describes the chip. Accuracy (§1.1 to 1.3): ±1 °C, ±3 %RH, ±100 Pa; range -40…85 °C, 0…100 %RH, 300…1100 hPa.
var Driver = sensors.Driver{
	Name:     "bme280",
	Doc:      "Bosch BME280: temperature ±1 °C, humidity ±3 %RH, pressure ±1 hPa (BST-BME280-DS002)",
	Bus:      hal.I2C,
	Addrs:    []uint16{0x76, 0x77},
	Measures: []edge.Quantity{sensors.Temperature, sensors.Humidity, sensors.Pressure},
	Fastest:  time.Second,
	Identify: func(ctx context.Context, p hal.Port) error { return bmxx80.Identify(ctx, p.I2C, bmxx80.BME280) },
	Open:     open,
}

type chip struct {
	*bmxx80.Chip
	humidity humidity
}

func open(ctx context.Context, p hal.Port, _ map[string]string) (sensors.Sensor, error) {
	c, err := bmxx80.Open(ctx, p.I2C, "bme280", bmxx80.BME280)
	if err != nil {
		return nil, err
	}
	var second [7]byte // 0xe1 … 0xe7
	if err = p.I2C.Tx(ctx, []byte{regTrimHumidity}, second[:]); err == nil && wire.Uniform(second[:]) {
		err = sensors.ErrNoData
	}
	if err != nil {
		return nil, fmt.Errorf("bme280: reading the calibration of humidity: %w", err)
	}
	return &chip{c, parseHumidity(c.Trim[25], second)}, nil
}

// Read implements sensors.Sensor. It takes about 10 ms.
func (c *chip) Read(ctx context.Context) ([]edge.Sample, error) {
	samples, err := c.measure(ctx)
	if err != nil {
		return nil, fmt.Errorf("bme280: reading: %w", err)
	}
	return samples, nil
}

func (c *chip) measure(ctx context.Context) ([]edge.Sample, error) {
	// ctrl_hum counts from the next write of ctrl_meas on (§5.4.3). Both are written each time: the chip may have lost its supply between.
	var data [8]byte
	start := []byte{regCtrlHum, humidityX1, bmxx80.RegCtrlMeas, bmxx80.ForcedX1}
	if err := c.Measure(ctx, start, conversionTime, data[:]); err != nil {
		return nil, err
	}
	return samples(&c.Calibration, &c.humidity, data)
}

// samples turns the data registers into samples, or says why they cannot be a measurement.
func samples(k *bmxx80.Calibration, h *humidity, data [8]byte) ([]edge.Sample, error) {
	rawH := int64(data[6])<<8 | int64(data[7])
	const skipped = 0x8000 // what a measurement that was not made leaves (§5.4.7)
	if rawH == skipped && data[0] == 0x80 && data[1] == 0 && data[2]>>4 == 0 {
		return nil, fmt.Errorf("data %x: %w", data, sensors.ErrNoData)
	}
	air, err := k.Air([6]byte(data[:6]))
	if err != nil {
		return nil, err
	}
	return []edge.Sample{sensors.Celsius(air.Temperature), sensors.RelativeHumidity(h.percent(rawH, air.Fine)), sensors.Pascals(air.Pressure)}, nil
}

// Close implements sensors.Sensor: the chip sleeps at 0.1 µA.
func (c *chip) Close() error {
	if err := c.Sleep(); err != nil {
		return fmt.Errorf("bme280: putting to sleep: %w", err)
	}
	return nil
}
