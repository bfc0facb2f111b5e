// SPDX-License-Identifier: Apache-2.0

// Package bmxx80 has what the drivers of Bosch's BMP280 and BME280 share: the BME280 is the same circuit with humidity added.
//
// Data sheet: Bosch Sensortec BST-BMP280-DS001, "BMP280 Digital pressure sensor". The section numbers are its, unless BME280 stands beside
// them: that is BST-BME280-DS002.
package bmxx80

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/wire"
)

// Registers and values (§4.2, §4.3).
const (
	regTrim   = 0x88
	regID     = 0xd0
	regReset  = 0xe0
	regStatus = 0xf3
	regConfig = 0xf5
	regData   = 0xf7 // pressure 3 bytes, temperature 3; in the BME280 humidity 2

	resetWord     = 0xb6
	statusBusy    = 1 << 3 // a conversion runs
	statusCopying = 1 << 0 // the calibration is copied from the NVM
	sleep         = 0

	startupTime = 2 * time.Millisecond // §1, t_startup
	pollTime    = 2 * time.Millisecond
	polls       = 10
)

// What starts a measurement: RegCtrlMeas takes ForcedX1, one sample each of temperature and pressure in forced mode (§3.6.2, §4.3.4).
const (
	RegCtrlMeas = 0xf4
	ForcedX1    = 1<<5 | 1<<2 | 1
)

// Ids (§4.3.1; BME280 §5.4.1). 0x56 and 0x57 are samples of the BMP280, which the present data sheet no longer names; Linux knows them too.
const (
	BMP280Sample1 = 0x56
	BMP280Sample2 = 0x57
	BMP280        = 0x58
	BME280        = 0x60
	BME680        = 0x61
)

// Chip is an opened chip. Trim is its calibration as it is in registers 0x88…0xa1.
type Chip struct {
	Trim [26]byte
	Calibration
	conn *hal.Conn
}

// Identify reads the id, which does no harm to another chip, and says which chip it is if it is none of ids.
func Identify(ctx context.Context, conn *hal.Conn, ids ...byte) error {
	id, err := register(ctx, conn, regID)
	switch {
	case err != nil:
		return err
	case id == 0 || id == 0xff:
		return fmt.Errorf("id %#x: %w", id, sensors.ErrNoData)
	case slices.Contains(ids, id):
		return nil
	}
	what := ""
	switch id {
	case BMP280, BMP280Sample1, BMP280Sample2:
		what = " is a BMP280, which has no humidity"
	case BME280:
		what = " is a BME280"
	case BME680:
		what = " is a BME680"
	}
	return fmt.Errorf("id %#x%s: %w", id, what, sensors.ErrWrongChip)
}

// Open identifies the chip, resets it and reads its calibration. Errors begin with the driver's name.
func Open(ctx context.Context, conn *hal.Conn, driver string, ids ...byte) (*Chip, error) {
	c := &Chip{conn: conn}
	if err := Identify(ctx, conn, ids...); err != nil {
		return nil, fmt.Errorf("%s: identifying the chip: %w", driver, err)
	}
	if err := c.reset(ctx); err != nil {
		return nil, fmt.Errorf("%s: resetting: %w", driver, err)
	}
	if err := c.calibrate(ctx); err != nil {
		return nil, fmt.Errorf("%s: reading the calibration: %w", driver, err)
	}
	return c, nil
}

func (c *Chip) reset(ctx context.Context) error {
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

func (c *Chip) calibrate(ctx context.Context) error {
	if err := c.conn.Tx(ctx, []byte{regTrim}, c.Trim[:]); err != nil {
		return err
	}
	c.Calibration = Parse(c.Trim)
	if wire.Uniform(c.Trim[:]) || c.t1 == 0 || c.p1 == 0 {
		return fmt.Errorf("dig_T1 = %d, dig_P1 = %d: %w", c.t1, c.p1, sensors.ErrNoData)
	}
	return nil
}

// Measure writes start, which puts the chip into forced mode, waits for the conversion and reads its results into data. They come in one
// transaction, so that they are of one conversion (§3.9).
func (c *Chip) Measure(ctx context.Context, start []byte, conversion time.Duration, data []byte) error {
	if err := c.conn.Tx(ctx, start, nil); err != nil {
		return err
	}
	if err := hal.Sleep(ctx, conversion); err != nil {
		return err
	}
	if err := c.wait(ctx, statusBusy); err != nil {
		return err
	}
	return c.conn.Tx(ctx, []byte{regData}, data)
}

// wait polls the status register until the bits are clear.
func (c *Chip) wait(ctx context.Context, bits byte) error {
	for range polls {
		status, err := register(ctx, c.conn, regStatus)
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

// Sleep puts the chip to sleep, at 0.1 µA (§1).
func (c *Chip) Sleep() error { return c.conn.Tx(context.Background(), []byte{RegCtrlMeas, sleep}, nil) }

func register(ctx context.Context, conn *hal.Conn, reg byte) (byte, error) {
	var b [1]byte
	err := conn.Tx(ctx, []byte{reg}, b[:])
	return b[0], err
}
