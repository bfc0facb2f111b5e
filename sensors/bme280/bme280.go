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

	"periph.io/x/conn/v3/physic"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/wire"
)

// Registers and values (§5.3, §5.4).
const (
	regID       = 0xd0
	regReset    = 0xe0
	regCtrlHum  = 0xf2
	regStatus   = 0xf3
	regCtrlMeas = 0xf4
	regConfig   = 0xf5
	regData     = 0xf7 // pressure 3 bytes, temperature 3, humidity 2

	chipID        = 0x60
	bmp280ID      = 0x58
	resetWord     = 0xb6
	statusBusy    = 1 << 3 // a conversion runs
	statusCopying = 1 << 0 // the calibration is copied from the NVM
	humidityX1    = 1
	forcedX1      = 1<<5 | 1<<2 | 1 // temperature ×1, pressure ×1, forced mode
	sleep         = 0

	startupTime    = 2 * time.Millisecond    // §1.1
	conversionTime = 9300 * time.Microsecond // §9.1, maximum with ×1 each
	pollTime       = 2 * time.Millisecond
	polls          = 10
)

var measures = []edge.Quantity{sensors.Temperature, sensors.Humidity, sensors.Pressure}

// Driver describes the chip. Accuracy (§1.1 to 1.3): ±1 °C, ±3 %RH, ±100 Pa; range -40…85 °C, 0…100 %RH, 300…1100 hPa.
var Driver = sensors.Driver{
	Name:     "bme280",
	Doc:      "Bosch BME280: temperature ±1 °C, humidity ±3 %RH, pressure ±1 hPa (BST-BME280-DS002)",
	Bus:      hal.I2C,
	Addrs:    []uint16{0x76, 0x77},
	Measures: measures,
	Fastest:  time.Second,
	Identify: func(ctx context.Context, p hal.Port) error { return (&chip{conn: p.I2C}).probe(ctx) },
	Open:     open,
}

type chip struct {
	conn *hal.Conn
	cal  calibration
}

func open(ctx context.Context, p hal.Port, _ map[string]string) (sensors.Sensor, error) {
	c := &chip{conn: p.I2C}
	if err := c.probe(ctx); err != nil {
		return nil, fmt.Errorf("bme280: identifying the chip: %w", err)
	}
	if err := c.reset(ctx); err != nil {
		return nil, fmt.Errorf("bme280: resetting: %w", err)
	}
	if err := c.calibrate(ctx); err != nil {
		return nil, fmt.Errorf("bme280: reading the calibration: %w", err)
	}
	return c, nil
}

// probe only reads, so that it does no harm to another chip.
func (c *chip) probe(ctx context.Context) error {
	id, err := c.register(ctx, regID)
	switch {
	case err != nil:
		return err
	case id == 0 || id == 0xff:
		return fmt.Errorf("id %#x: %w", id, sensors.ErrNoData)
	case id == bmp280ID:
		return fmt.Errorf("id %#x is a BMP280, which has no humidity: %w", id, sensors.ErrWrongChip)
	case id != chipID:
		return fmt.Errorf("id %#x, want %#x: %w", id, chipID, sensors.ErrWrongChip)
	}
	return nil
}

func (c *chip) reset(ctx context.Context) error {
	if err := c.conn.Tx(ctx, []byte{regReset, resetWord}, nil); err != nil {
		return err
	}
	if err := hal.Sleep(ctx, startupTime); err != nil {
		return err
	}
	if err := c.wait(ctx, statusCopying); err != nil {
		return err
	}
	return c.conn.Tx(ctx, []byte{regConfig, 0}, nil) // filter off
}

func (c *chip) calibrate(ctx context.Context) error {
	var first [26]byte // 0x88 … 0xa1
	var second [7]byte // 0xe1 … 0xe7
	if err := c.conn.Tx(ctx, []byte{0x88}, first[:]); err != nil {
		return err
	}
	if err := c.conn.Tx(ctx, []byte{0xe1}, second[:]); err != nil {
		return err
	}
	if wire.Uniform(first[:]) || wire.Uniform(second[:]) {
		return sensors.ErrNoData
	}
	c.cal = parseCalibration(first, second)
	if c.cal.t1 == 0 || c.cal.p1 == 0 {
		return fmt.Errorf("dig_T1 = %d, dig_P1 = %d: %w", c.cal.t1, c.cal.p1, sensors.ErrNoData)
	}
	return nil
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
	if err := c.conn.Tx(ctx, []byte{regCtrlHum, humidityX1, regCtrlMeas, forcedX1}, nil); err != nil {
		return nil, err
	}
	if err := hal.Sleep(ctx, conversionTime); err != nil {
		return nil, err
	}
	if err := c.wait(ctx, statusBusy); err != nil {
		return nil, err
	}
	var data [8]byte // all in one transaction, so that they are of one conversion (§4)
	if err := c.conn.Tx(ctx, []byte{regData}, data[:]); err != nil {
		return nil, err
	}
	return c.cal.samples(data)
}

// wait polls the status register until the bits are clear.
func (c *chip) wait(ctx context.Context, bits byte) error {
	for range polls {
		status, err := c.register(ctx, regStatus)
		if err != nil {
			return err
		}
		if status&bits == 0 {
			return nil
		}
		if err := hal.Sleep(ctx, pollTime); err != nil {
			return err
		}
	}
	return sensors.ErrBusy
}

func (c *chip) register(ctx context.Context, reg byte) (byte, error) {
	var b [1]byte
	err := c.conn.Tx(ctx, []byte{reg}, b[:])
	return b[0], err
}

// Close implements sensors.Sensor: the chip sleeps at 0.1 µA.
func (c *chip) Close() error {
	if err := c.conn.Tx(context.Background(), []byte{regCtrlMeas, sleep}, nil); err != nil {
		return fmt.Errorf("bme280: putting to sleep: %w", err)
	}
	return nil
}

// samples turns the data registers into samples, or says why they cannot be a measurement.
func (k *calibration) samples(data [8]byte) ([]edge.Sample, error) {
	rawP := int64(data[0])<<12 | int64(data[1])<<4 | int64(data[2])>>4
	rawT := int64(data[3])<<12 | int64(data[4])<<4 | int64(data[5])>>4
	rawH := int64(data[6])<<8 | int64(data[7])
	const skipped, skippedH = 0x80000, 0x8000 // what a measurement that was not made leaves (§5.4.7)
	if wire.Uniform(data[:]) || rawT == skipped && rawP == skipped || rawH == skippedH && rawP == skipped {
		return nil, fmt.Errorf("data %x: %w", data, sensors.ErrNoData)
	}
	fine := k.fine(rawT)
	t := k.temperature(fine)
	p, h := k.pressure(rawP, fine), k.humidity(rawH, fine)
	if t < -40*physic.Celsius+physic.ZeroCelsius || t > 85*physic.Celsius+physic.ZeroCelsius || p < 30*physic.KiloPascal || p > 110*physic.KiloPascal {
		return nil, fmt.Errorf("%s, %s: %w", t, p, sensors.ErrRange)
	}
	return []edge.Sample{sensors.Celsius(t), sensors.RelativeHumidity(h), sensors.Pascals(p)}, nil
}
