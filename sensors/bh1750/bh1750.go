// SPDX-License-Identifier: Apache-2.0

// Package bh1750 drives ROHM's BH1750FVI: illuminance over I²C.
//
// Data sheet: ROHM BH1750FVI technical note, 2009.04 rev. B, or 11046EDT01 rev. D; pages are of the first. The chip has neither an id nor a
// checksum, and darkness reads as zeros: that no chip answers is seen, that another one does is not.
package bh1750

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
)

// Opcodes (p. 5), one byte each and one a transaction (p. 10).
const (
	powerDown   = 0x00
	onceH       = 0x20                   // one-time H-resolution mode: then the chip powers itself down
	onceH2      = 0x21                   // the same in half steps
	timeHigh    = 0x40                   // the upper 3 bits of MTreg follow
	timeLow     = 0x60                   // the lower 5
	usualTime   = 69                     // MTreg at power-up, for which 1.2 counts are a lux (p. 11)
	longest     = 180 * time.Millisecond // measurement with that MTreg, maximum (p. 2)
	fullCounter = 0xffff
)

// sensitivity is one way to measure. The time goes with MTreg, 31 … 254 (p. 11).
type sensitivity struct {
	name   string
	opcode byte
	mtreg  int64
	halves int64 // counts for one of H-resolution mode
}

func sensitivities() [3]sensitivity {
	return [...]sensitivity{{"dark", onceH2, 254, 2}, {"normal", onceH, usualTime, 1}, {"bright", onceH, 31, 1}}
}

// Driver describes the chip. Accuracy (p. 2): a factor 0.8 to 1.2 at 1 000 lx of a white LED. Resolution and range by sensitivity: dark 0.11 lx
// to 7 417 lx, normal 0.83 lx to 54 612 lx, bright 1.9 lx to 121 557 lx.
var Driver = sensors.Driver{
	Name:     "bh1750",
	Doc:      "ROHM BH1750FVI: illuminance ±20 %, 0.83 lx steps (2009.04 rev. B)",
	Bus:      hal.I2C,
	Addrs:    []uint16{0x23, 0x5c},
	Measures: []edge.Quantity{sensors.Illuminance},
	Options: []sensors.Option{{
		Name: "sensitivity", Default: "normal", Allowed: []string{"dark", "normal", "bright"},
		Doc: "what is tried first; where it is too bright for that, the next one follows: dark steps of 0.11 lx (takes 0.7 s), normal 0.83 lx, bright 1.9 lx to 121 klx",
	}},
	Fastest: time.Second,
	Open:    open,
}

type chip struct {
	conn *hal.Conn
	try  []sensitivity
}

// open measures once, since there is no id to look at. It writes only what a BH1750 takes for a measurement.
func open(ctx context.Context, p hal.Port, opts map[string]string) (sensors.Sensor, error) {
	c := &chip{conn: p.I2C}
	for _, s := range sensitivities() {
		if s.name == opts["sensitivity"] || len(c.try) > 0 {
			c.try = append(c.try, s)
		}
	}
	if _, err := c.Read(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Read implements sensors.Sensor. It takes 0.2 s, from dark to bright 0.9 s.
func (c *chip) Read(ctx context.Context) ([]edge.Sample, error) {
	for _, s := range c.try {
		count, err := c.measure(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("bh1750: reading: %w", err)
		}
		if count < fullCounter {
			return []edge.Sample{sensors.Lux(s.lux(count))}, nil
		}
	}
	// That is more light than the sun gives, or nothing but pull-ups. That the counter stops there and does not wrap the data sheet does not say.
	return nil, fmt.Errorf("bh1750: reading: the counter is full, brighter than 121 klx or a stuck bus: %w", sensors.ErrRange)
}

// measure sets MTreg each time: a chip that lost its supply since would count with another one.
func (c *chip) measure(ctx context.Context, s sensitivity) (uint16, error) {
	for _, opcode := range []byte{timeHigh | byte(s.mtreg>>5), timeLow | byte(s.mtreg&0x1f), s.opcode} {
		if err := c.conn.Tx(ctx, []byte{opcode}, nil); err != nil {
			return 0, err
		}
	}
	if err := hal.Sleep(ctx, longest*time.Duration(s.mtreg)/usualTime); err != nil {
		return 0, err
	}
	var data [2]byte
	err := c.conn.Tx(ctx, nil, data[:])
	return binary.BigEndian.Uint16(data[:]), err
}

// lux is count / 1.2 × 69 / MTreg (p. 11), half of it in H-resolution mode 2, rounded to 10⁻³ lx.
func (s sensitivity) lux(count uint16) sensors.MilliLux {
	divisor := 12 * s.mtreg * s.halves
	return sensors.MilliLux((int64(count)*10_000*usualTime + divisor/2) / divisor)
}

// Close implements sensors.Sensor: the chip needs 0.01 µA then (p. 2).
func (c *chip) Close() error {
	if err := c.conn.Tx(context.Background(), []byte{powerDown}, nil); err != nil {
		return fmt.Errorf("bh1750: powering down: %w", err)
	}
	return nil
}
