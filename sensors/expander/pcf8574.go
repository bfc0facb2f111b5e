// SPDX-License-Identifier: Apache-2.0

package expander

import (
	"context"

	"github.com/streembit/edge/hal"
)

// pcf8574 has no registers: what is written goes to the lines, what is read comes from them (NXP PCF8574; PCF8574A, rev. 5, §8.1). A line that is
// written 1 is an input or a high output, both by a weak current; a line that is written 0 is pulled low hard.
type pcf8574 struct {
	conn    *hal.Conn
	outputs byte
}

func (c *pcf8574) drive(ctx context.Context, levels byte) error {
	return c.conn.Tx(ctx, []byte{levels | ^c.outputs}, nil)
}

// levels can tell no chip from another: every byte is a legal state of the lines.
func (c *pcf8574) levels(ctx context.Context) (byte, error) {
	var b [1]byte
	err := c.conn.Tx(ctx, nil, b[:])
	return b[0], err
}
