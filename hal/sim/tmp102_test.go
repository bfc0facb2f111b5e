// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"testing"
	"time"

	"github.com/streembit/edge/hal/sim"
)

const ms = time.Millisecond

func TestTMP102(t *testing.T) {
	r := newRig(t)
	r.value = 25
	r.chip = sim.NewTMP102(r.now, r.at)
	r.reads("60a0", 1) // SBOS397 table 7
	r.reads("4b00", 2)
	r.reads("5000", 3)
	r.reads("0000", 0) // 0 °C until the first conversion is complete
	r.wait(35*ms - 1)
	r.reads("0000")
	r.wait(1)
	r.reads("1900")
	r.value = -0.25
	r.wait(249 * ms)
	r.reads("1900") // 4 Hz
	r.wait(ms)
	r.reads("ffc0")
	r.write(1, 0x60, 0x20) // 0.25 Hz; the alert bit is read only
	r.value = 1
	r.wait(35 * ms)
	r.reads("0100", 0)
	r.value = 2
	r.wait(4*time.Second - 1)
	r.reads("0100")
	r.wait(1)
	r.reads("0200")
	r.write(1, 0x9f, 0xff) // R1 and R0 are read only, as are the lowest bits; shutdown; polarity: the alert bit is inverted
	r.reads("ffd0", 1)     // no conversion runs just now: one-shot reads 1
}

func TestTMP102OneShot(t *testing.T) {
	r := newRig(t)
	r.value = 1
	r.chip = sim.NewTMP102(r.now, r.at)
	r.write(1, 0x61, 0xa0) // shutdown after the conversion that runs (§7.4.3)
	r.reads("61a0", 1)
	r.wait(35 * ms)
	r.reads("e1a0", 1)
	r.reads("0100", 0)
	r.value = 10
	r.wait(time.Hour)
	r.reads("0100", 0)
	r.write(1, 0xe1, 0xa0)
	r.reads("61a0", 1) // OS reads 0 during the conversion (§7.4.4)
	r.wait(35*ms - 1)
	r.reads("61a0", 1)
	r.reads("0100", 0)
	r.wait(1)
	r.reads("0a00", 0)
	r.reads("e1a0", 1)
	r.write(1, 0xe1) // byte by byte: the rate stays
	r.value = 20
	r.wait(35 * ms)
	r.reads("1400", 0)
	r.reads("e1a0", 1)
	r.value = 30
	r.write(1, 0x60)
	r.reads("60a0", 1)
	r.wait(35 * ms)
	r.reads("1e00", 0)
}

// Tables 5 and 6 of SBOS397, 12 bits and 13.
func TestTMP102Values(t *testing.T) {
	for _, c := range []struct {
		celsius      float64
		normal, wide string
	}{
		{150, "7ff0", "4b01"}, {128, "7ff0", "4001"}, {127.9375, "7ff0", "3ff9"}, {100, "6400", "3201"}, {80, "5000", "2801"},
		{75, "4b00", "2581"}, {50, "3200", "1901"}, {25, "1900", "0c81"}, {0.25, "0040", "0021"}, {0, "0000", "0001"},
		{-0.25, "ffc0", "ffe1"}, {-25, "e700", "f381"}, {-55, "c900", "e481"}, {24.9, "18e0", "0c71"},
	} {
		r := newRig(t)
		r.value = c.celsius
		r.chip = sim.NewTMP102(r.now, r.at)
		r.wait(time.Minute)
		r.reads(c.normal)
		r.write(1, 0x60, 0xb0)
		r.reads(c.normal, 0) // bit 0 says of which format the value is: of the old one until the next conversion
		r.wait(time.Minute)
		r.reads(c.wide)
	}
}

func TestTMP102Alert(t *testing.T) {
	r := newRig(t)
	r.value = 79.9375
	r.chip = sim.NewTMP102(r.now, r.at)
	r.write(1, 0x68, 0xa0) // 2 faults
	steps := func(celsius float64, want string, n int) {
		t.Helper()
		r.value = celsius
		for range n {
			r.wait(250 * ms)
			r.reads(want, 1)
		}
	}
	steps(79.9375, "68a0", 5)
	steps(80, "68a0", 1)
	steps(79, "68a0", 1) // the faults must be consecutive
	steps(80, "68a0", 1)
	steps(80, "6880", 1)
	steps(75, "6880", 5)
	steps(74.9375, "6880", 1)
	steps(74.9375, "68a0", 1)
	r.write(3, 0x20, 0x0f) // 32 °C; the lower 4 bits are not there
	r.reads("2000", 3)
	r.write(1, 0x6c, 0xa0) // polarity: 1 is the alert
	r.reads("6c80", 1)
	steps(40, "6c80", 1)
	steps(40, "6ca0", 1)
}

// Linux's tmp102 of kernel 3 writes 0x0290 (interrupt mode, 13 bits, 4 Hz) with SMBus word transactions and wants to read it back,
// the read-only bits aside.
func TestTMP102AsLinuxSetsItUp(t *testing.T) {
	r := newRig(t)
	r.chip = sim.NewTMP102(r.now, r.at)
	r.write(1, 0x02, 0x90)
	r.reads("62b0", 1)
}

func TestTMP105(t *testing.T) {
	r := newRig(t)
	r.value = 25.0625
	r.chip = sim.NewTMP105(r.now, r.at)
	r.reads("00", 1) // SLLS648 table 6
	r.reads("4b00", 2)
	r.reads("5000", 3)
	r.reads("0000", 0)
	r.wait(37500 * time.Microsecond)
	r.reads("1900") // 9 bits
	r.write(1, 0x60)
	r.wait(300*ms - 1)
	r.reads("1900", 0)
	r.wait(1)
	r.reads("1910")
	r.write(1, 0x61)
	r.wait(time.Minute)
	r.reads("1910", 0)
	r.value = -0.25
	r.write(1, 0xe1)
	r.reads("61", 1) // OS always reads 0
	r.wait(300*ms - 1)
	r.reads("1910", 0)
	r.wait(1)
	r.reads("ffc0")
	r.value = 9
	r.wait(time.Hour)
	r.reads("ffc0")
	r.write(1, 0x81) // one shot of 9 bits
	r.wait(37500 * time.Microsecond)
	r.reads("0900", 0)
	r.write(3, 0x12, 0x3f)
	r.reads("1230", 3)
	r.write(1, 0x1e)
	r.reads("1e", 1)
	r.wait(time.Second)
	r.reads("0900", 0)
	r.reads("09")
}

// Table 5 of SLLS648, in all resolutions.
func TestTMP105Values(t *testing.T) {
	for _, c := range []struct {
		celsius float64
		want    [4]string
	}{
		{128, [4]string{"7f80", "7fc0", "7fe0", "7ff0"}}, {100, [4]string{"6400", "6400", "6400", "6400"}},
		{0.25, [4]string{"", "0040", "0040", "0040"}}, {-0.25, [4]string{"", "ffc0", "ffc0", "ffc0"}},
		{-25, [4]string{"e700", "e700", "e700", "e700"}}, {-55, [4]string{"c900", "c900", "c900", "c900"}},
		{21.06, [4]string{"1500", "1500", "1500", "1510"}}, {-200, [4]string{"8000", "8000", "8000", "8000"}},
	} {
		r := newRig(t)
		r.value = c.celsius
		r.chip = sim.NewTMP105(r.now, r.at)
		for bits, want := range c.want {
			if want == "" {
				continue // half a step: either neighbour would be right
			}
			r.write(1, byte(bits<<5))
			r.wait(37500 * time.Microsecond << bits)
			r.reads(want, 0)
		}
	}
}
