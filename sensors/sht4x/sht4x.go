// SPDX-License-Identifier: Apache-2.0

// Package sht4x drives Sensirion's SHT40, SHT41, SHT43 and SHT45: temperature and relative humidity over I²C.
//
// Data sheet: Sensirion "SHT4x", version 6 of February 2023. The section numbers in this package are its. The chip measures when told to,
// with high precision, and sleeps between. The heater is not used.
package sht4x

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

// Commands (§4.5) and times.
const (
	readSerial  = 0x89
	softReset   = 0x94
	measureOnce = 0xfd // high precision

	powerUpTime = time.Millisecond        // §3.2: at most 1 ms, after a soft reset too
	serialTime  = 10 * time.Millisecond   // the data sheet has no time: this is what Sensirion's own driver waits
	measureTime = 8300 * time.Microsecond // §3.2: at most
)

// Driver describes the chip. Accuracy of the SHT40 (§2.1, 2.2): ±1.8 %RH, ±0.2 °C typical; of the SHT45 ±1 %RH, ±0.1 °C. Resolution
// 0.01 %RH and 0.01 °C; range 0…100 %RH, -40…125 °C. It follows the air within 4 s and 2 s.
var Driver = sensors.Driver{
	Name:     "sht4x",
	Doc:      "Sensirion SHT40, SHT41, SHT43, SHT45: temperature ±0.2 °C, humidity ±1.8 %RH (SHT4x, version 6)",
	Bus:      hal.I2C,
	Addrs:    []uint16{0x44, 0x45, 0x46},
	Measures: []edge.Quantity{sensors.Temperature, sensors.Humidity},
	Fastest:  time.Second,
	Identify: identify,
	Open:     open,
}

type chip struct{ wire.OneShot }

func identify(ctx context.Context, p hal.Port) error { return wire.Foreign(probe(ctx, p.I2C)) }

func open(ctx context.Context, p hal.Port, _ map[string]string) (sensors.Sensor, error) {
	if err := probe(ctx, p.I2C); err != nil {
		return nil, fmt.Errorf("sht4x: identifying the chip: %w", err)
	}
	if err := wire.Send(ctx, p.I2C, powerUpTime, softReset); err != nil {
		return nil, fmt.Errorf("sht4x: resetting: %w", err)
	}
	return &chip{wire.OneShot{Conn: p.I2C, Time: measureTime}}, nil
}

// probe reads the serial number for its two checksums: the chip has nothing else that tells it from others.
func probe(ctx context.Context, c *hal.Conn) error {
	if err := hal.Sleep(ctx, powerUpTime); err != nil {
		return err
	}
	if err := wire.Send(ctx, c, serialTime, readSerial); err != nil {
		return err
	}
	var serial [2]uint16
	return wire.ReadWords(ctx, c, serial[:])
}

// Read implements sensors.Sensor. It takes 9 ms. The chip sleeps at 80 nA before and after by itself (§3.1).
func (c *chip) Read(ctx context.Context) ([]edge.Sample, error) {
	var words [2]uint16
	err := c.Measure(ctx, measureOnce)
	if err == nil {
		err = wire.ReadWords(ctx, c.Conn, words[:])
	}
	if err != nil {
		return nil, fmt.Errorf("sht4x: reading: %w", err)
	}
	return decode(words)
}

// decode follows §4.6, which also says to crop the humidity: close to the ends the formula gives values outside of 0…100 %RH.
func decode(words [2]uint16) ([]edge.Sample, error) {
	t := physic.Temperature(175*int64(physic.Kelvin)*int64(words[0])/0xffff) - 45*physic.Kelvin + physic.ZeroCelsius
	h := 125*int64(physic.PercentRH)*int64(words[1])/0xffff - 6*int64(physic.PercentRH)
	if t < physic.ZeroCelsius-40*physic.Kelvin || t > physic.ZeroCelsius+125*physic.Kelvin {
		return nil, fmt.Errorf("sht4x: reading: %s: %w", t, sensors.ErrRange)
	}
	cropped := physic.RelativeHumidity(min(max(h, 0), 100*int64(physic.PercentRH)))
	return []edge.Sample{sensors.Celsius(t), sensors.RelativeHumidity(cropped)}, nil
}
