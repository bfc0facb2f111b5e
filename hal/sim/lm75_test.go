// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/streembit/edge/hal/sim"
)

const lm75Conversion = 100 * time.Millisecond

func TestLM75(t *testing.T) {
	r := newRig(t)
	r.value = 21.3
	r.chip = sim.NewLM75(r.now, r.at)
	r.reads("00", 1) // power-up values (DS012658 §1.13, 1.14); the pointer is 0 then (§1.11)
	r.reads("4b00", 2)
	r.reads("5000", 3)
	r.reads("0000", 0)
	r.wait(lm75Conversion)
	r.reads("1580") // 21.5 °C, from the register of the last read
	r.reads("15")   // one byte is enough for whole degrees
	r.reads("1580ffff")

	r.write(1, 0xff) // bits 5 to 7 are zero; shutdown: the temperature stays
	r.reads("1f", 1)
	r.value = -3
	r.wait(time.Hour)
	r.reads("1580", 0)
	r.write(1, 0)
	r.wait(lm75Conversion - 1)
	r.reads("1580", 0)
	r.wait(1)
	r.reads("fd00")

	r.write(3, 0x55, 0xff) // the limits have 9 bits
	r.reads("5580", 3)
	r.write(2, 0x12)
	r.reads("1200", 2)
	r.write(0, 0x7f, 0xff) // read only
	r.reads("fd00", 0)
}

// The values of the table "temperature data format" (DS012658, section 1.3), and the ends of what 9 bits hold.
func TestLM75Values(t *testing.T) {
	for celsius, want := range map[float64]string{
		125: "7d00", 25: "1900", 0.5: "0080", 0: "0000", -0.5: "ff80", -25: "e700", -55: "c900",
		24.7: "1880", 24.8: "1900", 300: "7f80", -300: "8000",
	} {
		r := newRig(t)
		r.value = celsius
		r.chip = sim.NewLM75(r.now, r.at)
		r.wait(24 * time.Hour)
		r.reads(want)
	}
}

// Linux knows an LM75 by what it does with addresses that have no register (drivers/hwmon/lm75.c, lm75_detect).
func TestLM75IsDetectedByLinux(t *testing.T) {
	r := newRig(t)
	r.chip = sim.NewLM75(r.now, r.at)
	for _, reg := range []struct {
		addr byte
		want string
	}{{2, "4b"}, {3, "50"}} {
		r.reads(reg.want, reg.addr)
		for unused := byte(4); unused < 8; unused++ {
			r.reads(reg.want, unused)
		}
	}
	for i := 8; i <= 248; i += 40 {
		for reg, want := range []string{1: "00", 2: "4b", 3: "50"} {
			if want != "" {
				r.reads(want, byte(i+reg))
			}
		}
	}
}

// A read in the middle of nowhere: what a chip gives after days of conversions is the value of the last one.
func TestConversionsAreOfTheirTime(t *testing.T) {
	r := newRig(t)
	start := r.clock
	r.chip = sim.NewLM75(r.now, func(at time.Time) float64 { return float64(at.Sub(start) / time.Hour % 24) })
	for hours := range 100 {
		r.clock = start.Add(time.Duration(hours)*time.Hour + lm75Conversion)
		r.reads(fmt.Sprintf("%02x00", hours%24))
	}
}
