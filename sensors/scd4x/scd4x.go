// SPDX-License-Identifier: Apache-2.0

// Package scd4x drives Sensirion's SCD40, SCD41 and SCD43: CO₂ concentration, temperature and relative humidity over I²C.
//
// Data sheet: Sensirion "SCD4x", version 1.3, September 2022; the section numbers are its. Later versions add the SCD43.
//
// The chip measures every 5 s by itself (periodic mode) as long as the sensor is open. A single shot would need less power, but an SCD40 has
// none, the first one after each power-up is useless (§3.10), and the automatic self-calibration is made for one every 5 minutes.
package scd4x

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"periph.io/x/conn/v3/physic"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/wire"
)

// Commands (§3.4, table 9). Serial number and altitude are refused, by no acknowledge, while the chip measures.
const (
	startPeriodic = 0x21b1
	stopPeriodic  = 0x3f86
	readData      = 0xec05
	dataReady     = 0xe4b8
	serialNumber  = 0x3682
	setAltitude   = 0x2427

	executionTime = time.Millisecond       // of all but stopPeriodic
	stopTime      = 500 * time.Millisecond // §3.5.3
	interval      = 5 * time.Second        // §3.5.1
	pollTime      = 250 * time.Millisecond
	patience      = interval + 2*time.Second
)

// Driver describes the chip. CO₂ (§1.1): 0 to 40 000 ppm, specified from 400 to 2 000 ppm at ±(50 ppm + 5 %) for the SCD40, to 5 000 ppm at ±(40 ppm
// + 5 %) for the SCD41; temperature ±0.8 °C from 15 to 35 °C, range -10…60 °C (§1.3); humidity ±6 %RH there (§1.2). Resolution 1 ppm,
// 0.003 °C, 0.002 %RH.
var Driver = sensors.Driver{
	Name:     "scd4x",
	Doc:      "Sensirion SCD40/41: CO2 ±(50 ppm + 5 %), temperature ±0.8 °C, humidity ±6 %RH (SCD4x 1.3)",
	Bus:      hal.I2C,
	Addrs:    []uint16{0x62},
	Measures: []edge.Quantity{sensors.CO2, sensors.Temperature, sensors.Humidity},
	Options: []sensors.Option{{
		Name: "altitude", Doc: "metres above sea level, 0 to 3000, since CO2 is measured by pressure; left out = as the chip has it stored",
	}},
	Fastest:  interval,
	Identify: func(ctx context.Context, p hal.Port) error { return (&chip{conn: p.I2C}).identify(ctx) },
	Open:     open,
}

type chip struct{ conn *hal.Conn }

func open(ctx context.Context, p hal.Port, opts map[string]string) (sensors.Sensor, error) {
	c := &chip{conn: p.I2C}
	metres := 0
	if text := opts["altitude"]; text != "" {
		var err error
		if metres, err = strconv.Atoi(text); err != nil || metres < 0 || metres > 3000 {
			return nil, fmt.Errorf("scd4x: option altitude = %q: use whole metres from 0 to 3000", text)
		}
	}
	if err := c.identify(ctx); err != nil {
		return nil, fmt.Errorf("scd4x: identifying the chip: %w", err)
	}
	if err := c.stop(ctx); err != nil { // a program that ended without Close left it measuring
		return nil, fmt.Errorf("scd4x: stopping: %w", err)
	}
	if err := c.ask(ctx, serialNumber, make([]uint16, 3)); err != nil {
		return nil, fmt.Errorf("scd4x: reading the serial number: %w", err)
	}
	if opts["altitude"] != "" {
		if err := c.set(ctx, setAltitude, uint16(metres)); err != nil {
			return nil, fmt.Errorf("scd4x: setting the altitude: %w", err)
		}
	}
	if err := wire.Command(ctx, c.conn, startPeriodic); err != nil {
		return nil, fmt.Errorf("scd4x: starting: %w", err)
	}
	return c, nil
}

// identify asks for the status, which a chip gives at all times, and then for the serial number, which one that measures refuses. Both are
// answered with checksums.
func (c *chip) identify(ctx context.Context) error {
	var status [1]uint16
	if err := c.ask(ctx, dataReady, status[:]); err != nil {
		return err
	}
	var serial [3]uint16
	switch err := c.ask(ctx, serialNumber, serial[:]); {
	case errors.Is(err, hal.ErrAbsent):
		return nil // it answered a moment ago
	case err != nil:
		return err
	case serial == [3]uint16{}:
		return fmt.Errorf("serial number 0: %w", sensors.ErrNoData)
	}
	return nil
}

// Read implements sensors.Sensor. It waits for the next measurement, at most 5 s; the chip gives each one only once (§3.5.2).
func (c *chip) Read(ctx context.Context) ([]edge.Sample, error) {
	if err := c.wait(ctx); err != nil {
		return nil, fmt.Errorf("scd4x: waiting for a measurement: %w", err)
	}
	var words [3]uint16
	if err := c.ask(ctx, readData, words[:]); err != nil {
		return nil, fmt.Errorf("scd4x: reading: %w", err)
	}
	samples, err := decode(words)
	if err != nil {
		return nil, fmt.Errorf("scd4x: reading: %w", err)
	}
	return samples, nil
}

// wait polls until there is a measurement that was not read: any of the lowest 11 bits of the status (§3.8.2).
func (c *chip) wait(ctx context.Context) error {
	for range patience / pollTime {
		var status [1]uint16
		if err := c.ask(ctx, dataReady, status[:]); err != nil {
			return err
		}
		if status[0]&0x7ff != 0 {
			return nil
		}
		if err := hal.Sleep(ctx, pollTime); err != nil {
			return err
		}
	}
	return fmt.Errorf("none in %s, as after a loss of supply: %w", patience, sensors.ErrNoData)
}

// decode converts CO₂, temperature and humidity (§3.5.2). It divides by 2¹⁶-1 as Sensirion's own code and the later data sheets do; version 1.3
// has 2¹⁶, at most 0.003 °C less.
func decode(words [3]uint16) ([]edge.Sample, error) {
	const full = 1<<16 - 1
	t := -45*int64(physic.Kelvin) + 175*int64(physic.Kelvin)*int64(words[1])/full
	h := 100 * int64(physic.PercentRH) * int64(words[2]) / full
	switch {
	case words[0] == 0: // what a chip gives that measured no CO₂ (§3.10.2)
		return nil, fmt.Errorf("0 ppm: %w", sensors.ErrNoData)
	case words[0] > 40_000 || t < -10*int64(physic.Kelvin) || t > 60*int64(physic.Kelvin):
		return nil, fmt.Errorf("%d ppm, %s: %w", words[0], physic.Temperature(t)+physic.ZeroCelsius, sensors.ErrRange)
	}
	return []edge.Sample{
		sensors.CarbonDioxide(sensors.PPM(words[0])),
		sensors.Celsius(physic.Temperature(t) + physic.ZeroCelsius),
		sensors.RelativeHumidity(physic.RelativeHumidity(h)),
	}, nil
}

// ask sends a command and reads what it answers.
func (c *chip) ask(ctx context.Context, command uint16, words []uint16) error {
	if err := wire.Command(ctx, c.conn, command); err != nil {
		return err
	}
	if err := hal.Sleep(ctx, executionTime); err != nil {
		return err
	}
	return wire.ReadWords(ctx, c.conn, words)
}

// set sends a command with a word, which needs a checksum (§3.2).
func (c *chip) set(ctx context.Context, command, word uint16) error {
	b := []byte{byte(command >> 8), byte(command), byte(word >> 8), byte(word), 0}
	b[4] = wire.CRC8(b[2:4])
	if err := c.conn.Tx(ctx, b, nil); err != nil {
		return err
	}
	return hal.Sleep(ctx, executionTime)
}

// stop ends periodic mode; the chip answers nothing before stopTime is over.
func (c *chip) stop(ctx context.Context) error {
	if err := wire.Command(ctx, c.conn, stopPeriodic); err != nil {
		return err
	}
	return hal.Sleep(ctx, stopTime)
}

// Close implements sensors.Sensor and takes 0.5 s. The chip is idle then, at 0.15 mA (§3.10): to sleep deeper is for the SCD41 only, and one that
// sleeps does not answer a scan.
func (c *chip) Close() error {
	if err := c.stop(context.Background()); err != nil {
		return fmt.Errorf("scd4x: stopping: %w", err)
	}
	return nil
}
