// SPDX-License-Identifier: Apache-2.0

// Package aht20 drives Aosong's AHT20 (also AHT21, and DHT20 on its four wires): temperature and relative humidity over I²C.
//
// Data sheet: Aosong "AHT20 product manuals", version 1.0 and 1.1, and "DHT20 Data Sheet" version 1.0 of May 2021 for the same circuit, which
// is clearer; the section numbers in this package are those of the DHT20's. The chip measures when told to and sleeps between.
package aht20

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

// Bits of the status byte (§7.3, table 9), and times.
const (
	busy       = 1 << 7
	mode       = 3 << 5 // zero, as Aosong's example program checks it; the data sheets say "reserved"
	calibrated = 1 << 3

	powerUpTime    = 100 * time.Millisecond // §7.4; the AHT20's manual has 40 ms
	initialiseTime = 10 * time.Millisecond  // AHT20 manual §5.4
	measureTime    = 80 * time.Millisecond  // §7.4
	pollTime       = 10 * time.Millisecond
	polls          = 5
)

// Driver describes the chip. Accuracy (AHT20 manual, tables 1 and 2): ±2 %RH, ±0.3 °C typical. Resolution 0.024 %RH and 0.01 °C; range
// 0…100 %RH, -40…85 °C. More than a measurement in 2 s warms the chip up.
var Driver = sensors.Driver{
	Name:     "aht20",
	Doc:      "Aosong AHT20, AHT21, DHT20: temperature ±0.3 °C, humidity ±2 %RH (AHT20 product manuals)",
	Bus:      hal.I2C,
	Addrs:    []uint16{0x38},
	Measures: []edge.Quantity{sensors.Temperature, sensors.Humidity},
	Fastest:  2 * time.Second,
	Identify: identify,
	Open:     open,
}

type chip struct{ wire.OneShot }

// identify is no proof, since the chip has no identity: it looks at the four bits that are known of a chip at rest.
func identify(ctx context.Context, p hal.Port) error {
	status, err := probe(ctx, p.I2C)
	if err == nil && status&(mode|calibrated) != calibrated {
		err = fmt.Errorf("status %#x: %w", status, sensors.ErrWrongChip)
	}
	return err
}

func open(ctx context.Context, p hal.Port, _ map[string]string) (sensors.Sensor, error) {
	status, err := probe(ctx, p.I2C)
	if err != nil {
		return nil, fmt.Errorf("aht20: identifying the chip: %w", err)
	}
	if status&calibrated == 0 { // AHT20 manual §5.4; chips from the factory are calibrated
		if err := wire.Send(ctx, p.I2C, initialiseTime, 0xbe, 0x08, 0x00); err != nil {
			return nil, fmt.Errorf("aht20: initialising: %w", err)
		}
	}
	c := &chip{wire.OneShot{Conn: p.I2C, Time: measureTime}}
	if _, err := c.read(ctx); err != nil { // the checksum is what tells the chip from others
		return nil, fmt.Errorf("aht20: measuring for the first time: %w", err)
	}
	return c, nil
}

// probe looks at the status and at the last result without writing anything: the command 0x71 of the manuals is the chip's address
// with the bit for reading. Unlike an expander, the chip does not give one byte over and over.
func probe(ctx context.Context, c *hal.Conn) (status byte, err error) {
	if err := hal.Sleep(ctx, powerUpTime); err != nil {
		return 0, err
	}
	var b [7]byte
	if err := c.Tx(ctx, nil, b[:]); err != nil {
		return 0, err
	}
	switch {
	case wire.Uniform(b[:]):
		return 0, fmt.Errorf("data % x: %w", b, sensors.ErrNoData)
	case b[0]&busy != 0:
		return 0, fmt.Errorf("status %#x: %w", b[0], sensors.ErrBusy)
	case b == [7]byte{b[0], b[0], b[0], b[0], b[0], b[0], b[0]}:
		return 0, fmt.Errorf("data % x: %w", b, sensors.ErrWrongChip)
	}
	return b[0], nil
}

// Read implements sensors.Sensor. It takes 80 ms. The chip sleeps at 250 nA before and after by itself.
func (c *chip) Read(ctx context.Context) ([]edge.Sample, error) {
	samples, err := c.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("aht20: reading: %w", err)
	}
	return samples, nil
}

func (c *chip) read(ctx context.Context) ([]edge.Sample, error) {
	if err := c.Measure(ctx, 0xac, 0x33, 0x00); err != nil { // §7.4
		return nil, err
	}
	var b [7]byte
	for range polls {
		if err := c.Conn.Tx(ctx, nil, b[:]); err != nil {
			return nil, err
		}
		if b[0]&busy == 0 || wire.Uniform(b[:]) {
			return decode(b)
		}
		if err := hal.Sleep(ctx, pollTime); err != nil {
			return nil, err
		}
	}
	return nil, sensors.ErrBusy
}

// decode takes a status byte, 20 bits of humidity, 20 bits of temperature and the checksum (§7.4, 8.1, 8.2).
func decode(b [7]byte) ([]edge.Sample, error) {
	switch {
	case wire.Uniform(b[:]):
		return nil, fmt.Errorf("data % x: %w", b, sensors.ErrNoData)
	case wire.CRC8(b[:6]) != b[6]:
		return nil, fmt.Errorf("data % x: %w", b, sensors.ErrCRC)
	case b[0]&calibrated == 0:
		return nil, fmt.Errorf("status %#x: not calibrated: %w", b[0], sensors.ErrNoData)
	}
	rawH := int64(b[1])<<12 | int64(b[2])<<4 | int64(b[3])>>4
	rawT := int64(b[3]&0xf)<<16 | int64(b[4])<<8 | int64(b[5])
	h := physic.RelativeHumidity(100 * int64(physic.PercentRH) * rawH >> 20)
	t := physic.Temperature(200*int64(physic.Kelvin)*rawT>>20) - 50*physic.Kelvin + physic.ZeroCelsius
	if t < physic.ZeroCelsius-40*physic.Kelvin || t > physic.ZeroCelsius+85*physic.Kelvin {
		return nil, fmt.Errorf("%s: %w", t, sensors.ErrRange)
	}
	return []edge.Sample{sensors.Celsius(t), sensors.RelativeHumidity(h)}, nil
}
