// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"testing"
	"time"

	"github.com/streembit/edge/hal/sim"
)

func TestPCF8574(t *testing.T) {
	r := newRig(t)
	outside := byte(0xff)
	c := sim.NewPCF8574(r.now, func(time.Time) byte { return outside })
	r.chip = c
	r.reads("ff") // power-up: weakly high
	outside = 0xfe
	r.reads("fe")
	r.write(0x0f) // four lines low
	r.reads("0e")
	if c.Outputs() != 0x0f {
		t.Errorf("outputs %#x", c.Outputs())
	}
	outside = 0x55
	r.reads("0505")
	r.write(0x01, 0x02, 0xf0) // the last byte stays
	r.reads("50")
	r.reads("44", 0xee) // a write and a read in one transaction
	r.write()
	r.reads("44")
}
