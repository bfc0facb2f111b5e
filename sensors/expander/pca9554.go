// SPDX-License-Identifier: Apache-2.0

package expander

import (
	"context"
	"fmt"

	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/wire"
)

// Registers (NXP PCA9554; PCA9554A, rev. 9, §6.1; TI TCA9554, SCPS233, §8.6.3).
const (
	regInput    = 0
	regOutput   = 1
	regPolarity = 2 // 1 = the input register shows the line inverted
	regConfig   = 3 // 1 = input, as all lines are after power-up

	mark = 0x5a // neither all ones nor all zeros
)

type pca9554 struct {
	conn    *hal.Conn
	outputs byte
	driven  bool // the directions were written
}

// drive writes the levels first, so that a line that becomes an output has the right one at once.
func (c *pca9554) drive(ctx context.Context, levels byte) error {
	if err := c.write(ctx, regOutput, levels); err != nil {
		return err
	}
	if err := c.write(ctx, regConfig, ^c.outputs); err != nil {
		return err
	}
	c.driven = true
	return nil
}

// levels makes sure of the chip each time, since every byte is a legal state of the lines, and of its directions, which it forgets without supply.
func (c *pca9554) levels(ctx context.Context) (byte, error) {
	if err := c.probe(ctx); err != nil {
		return 0, err
	}
	directions, err := c.read(ctx, regConfig)
	if err != nil {
		return 0, err
	}
	if c.driven && directions != ^c.outputs {
		return 0, fmt.Errorf("the directions are %#02x, %#02x was written: the chip was without supply since", directions, ^c.outputs)
	}
	return c.read(ctx, regInput)
}

// probe writes the polarity register, which acts on no line, and reads it back: there is no id, but a stuck bus cannot do that.
func (c *pca9554) probe(ctx context.Context) error {
	if err := c.write(ctx, regPolarity, mark); err != nil {
		return err
	}
	got, err := c.read(ctx, regPolarity)
	switch {
	case err != nil:
		return err
	case wire.Uniform([]byte{got}):
		return fmt.Errorf("polarity register %#02x: %w", got, sensors.ErrNoData)
	case got != mark:
		return fmt.Errorf("polarity register %#02x, %#02x was written: %w", got, mark, sensors.ErrWrongChip)
	}
	return c.write(ctx, regPolarity, 0)
}

func (c *pca9554) write(ctx context.Context, reg, value byte) error {
	return c.conn.Tx(ctx, []byte{reg, value}, nil)
}

func (c *pca9554) read(ctx context.Context, reg byte) (byte, error) {
	var b [1]byte
	err := c.conn.Tx(ctx, []byte{reg}, b[:])
	return b[0], err
}
