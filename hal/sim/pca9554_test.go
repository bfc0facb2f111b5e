// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"testing"
	"time"

	"github.com/streembit/edge/hal/sim"
)

func TestPCA9554(t *testing.T) {
	r := newRig(t)
	outside := byte(0xff)
	c := sim.NewPCA9554(r.now, func(time.Time) byte { return outside })
	r.chip = c
	r.reads("ff") // power-up: the input register, all lines are pulled-up inputs
	r.reads("ff", 1)
	r.reads("00", 2)
	r.reads("ff", 3)
	outside = 0x3c
	r.reads("3c", 0)
	r.reads("3c3c") // the command byte stays
	r.write(0, 0x12)
	r.reads("3c", 0)
	r.write(2, 0xf0)
	r.reads("cc", 0)
	r.write(1, 0x05) // the level is there before the direction
	if c.Outputs() != 0xff {
		t.Errorf("outputs %#x while all lines are inputs", c.Outputs())
	}
	r.write(3, 0xf0) // lines 0 to 3 are outputs
	if c.Outputs() != 0xf5 {
		t.Errorf("outputs %#x", c.Outputs())
	}
	r.reads("05", 1) // the flip-flop
	outside = 0xff
	r.reads("05", 0) // the pins; the upper four are inverted
	outside = 0xfe
	r.reads("04", 0) // line 0 is shorted to ground
	r.write(1, 0x0a, 0x0c)
	r.reads("0c", 1)
	r.reads("0c", 0)
	r.reads("f0", 3)
	r.reads("f0", 2)
}
