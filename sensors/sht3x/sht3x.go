// SPDX-License-Identifier: Apache-2.0

// Package sht3x drives Sensirion's SHT30, SHT31 and SHT35: temperature and relative humidity over I²C.
//
// Data sheet: Sensirion "Datasheet SHT3x-DIS", version 5 of May 2018. The section numbers in this package are its. The chip measures when
// told to, with high repeatability, and sleeps between.
package sht3x

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

// Commands and times.
const (
	readStatus  = 0xf32d // §4.11
	stopSeries  = 0x3093 // §4.8, "break": ends periodic measuring that somebody else began
	softReset   = 0x30a2 // §4.9; the heater is off after it
	measureOnce = 0x2400 // §4.3: high repeatability, no clock stretching

	reservedStatus = 1<<14 | 1<<12 | 3<<2 // §4.11, table 18: zero

	powerUpTime = 2 * time.Millisecond  // §2.2, table 4: at most 1 ms, and 1.5 ms after a soft reset
	measureTime = 16 * time.Millisecond // §2.2, table 4: at most 15 ms, and 15.5 ms below 2.4 V
)

// Driver describes the chip. Accuracy of the SHT30 and SHT31 (§1, tables 1 and 2): ±2 %RH, ±0.2 °C typical; of the SHT35 ±1.5 %RH, ±0.1 °C.
// Resolution 0.01 %RH and 0.01 °C; range 0…100 %RH, -40…125 °C. It follows the air within 8 s and 2 s.
var Driver = sensors.Driver{
	Name:     "sht3x",
	Doc:      "Sensirion SHT30, SHT31, SHT35: temperature ±0.2 °C, humidity ±2 %RH (Datasheet SHT3x-DIS)",
	Bus:      hal.I2C,
	Addrs:    []uint16{0x44, 0x45},
	Measures: []edge.Quantity{sensors.Temperature, sensors.Humidity},
	Fastest:  time.Second,
	Identify: identify,
	Open:     open,
}

type chip struct{ wire.OneShot }

func identify(ctx context.Context, p hal.Port) error { return wire.Foreign(probe(ctx, p.I2C)) }

func open(ctx context.Context, p hal.Port, _ map[string]string) (sensors.Sensor, error) {
	if err := probe(ctx, p.I2C); err != nil {
		return nil, fmt.Errorf("sht3x: identifying the chip: %w", err)
	}
	for _, command := range []uint16{stopSeries, softReset} { // a reset needs an idle chip (§4.9)
		if err := wire.Send(ctx, p.I2C, powerUpTime, byte(command>>8), byte(command)); err != nil {
			return nil, fmt.Errorf("sht3x: resetting: %w", err)
		}
	}
	return &chip{wire.OneShot{Conn: p.I2C, Time: measureTime}}, nil
}

// probe reads the status register, which has a checksum and bits that are zero.
func probe(ctx context.Context, c *hal.Conn) error {
	if err := hal.Sleep(ctx, powerUpTime); err != nil {
		return err
	}
	if err := wire.Command(ctx, c, readStatus); err != nil {
		return err
	}
	var status [1]uint16
	if err := wire.ReadWords(ctx, c, status[:]); err != nil {
		return err
	}
	if status[0]&reservedStatus != 0 {
		return fmt.Errorf("status %#04x: %w", status[0], sensors.ErrWrongChip)
	}
	return nil
}

// Read implements sensors.Sensor. It takes 16 ms. The chip sleeps at 0.2 µA before and after by itself (§4.1).
func (c *chip) Read(ctx context.Context) ([]edge.Sample, error) {
	var words [2]uint16
	err := c.Measure(ctx, measureOnce>>8, measureOnce&0xff)
	if err == nil {
		err = wire.ReadWords(ctx, c.Conn, words[:])
	}
	if err != nil {
		return nil, fmt.Errorf("sht3x: reading: %w", err)
	}
	return decode(words)
}

// decode follows §4.13. Only temperatures can be outside of what the chip is specified for.
func decode(words [2]uint16) ([]edge.Sample, error) {
	t := physic.Temperature(175*int64(physic.Kelvin)*int64(words[0])/0xffff) - 45*physic.Kelvin + physic.ZeroCelsius
	h := physic.RelativeHumidity(100 * int64(physic.PercentRH) * int64(words[1]) / 0xffff)
	if t < physic.ZeroCelsius-40*physic.Kelvin || t > physic.ZeroCelsius+125*physic.Kelvin {
		return nil, fmt.Errorf("sht3x: reading: %s: %w", t, sensors.ErrRange)
	}
	return []edge.Sample{sensors.Celsius(t), sensors.RelativeHumidity(h)}, nil
}
