// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"testing"
	"time"

	"github.com/streembit/edge/hal/sim"
)

func TestMCP9808(t *testing.T) {
	r := newRig(t)
	r.value = 25.25
	r.chip = sim.NewMCP9808(r.now, r.at)
	for reg, want := range []string{"001f", "0000", "0000", "0000", "0000", "0000", "0054", "0400", "03"} { // register 5-1, §5.3
		r.reads(want, byte(reg))
	}
	r.wait(250*ms - 1)
	r.reads("0000", 5)
	r.wait(1)
	r.reads("c194") // example 5-1: 25.25 °C; above the critical and the upper limit, both 0 °C
	r.reads("c1")
	r.write(1, 0x01, 0x00)
	r.value = -0.0625
	r.wait(time.Hour)
	r.reads("c194", 5) // shutdown holds the value (§5.2.1)
	r.write(1, 0x00, 0x00)
	r.wait(250 * ms)
	r.reads("3fff", 5) // below the lower limit
	before := "3fff"
	for i, c := range []struct {
		time    time.Duration
		celsius float64
		want    string
	}{{30 * ms, 25.2, "c190"}, {65 * ms, 25.2, "c194"}, {130 * ms, 25.3, "c194"}, {250 * ms, 25.2, "c193"}} { // table 5-2
		r.write(1, 0x01, 0x00)
		r.write(8, byte(i))
		r.reads([]string{"00", "01", "02", "03"}[i], 8)
		r.value = c.celsius
		r.write(1, 0x00, 0x00)
		r.wait(c.time - 1)
		r.reads(before, 5)
		r.wait(1)
		r.reads(c.want, 5)
		before = c.want
	}
	r.write(6, 0x12, 0x34) // read only
	r.reads("0054", 6)
	r.write(5, 0x12, 0x34)
	r.reads("c193", 5)
}

func TestMCP9808Range(t *testing.T) {
	for celsius, want := range map[float64]string{-40: "1d80", 125: "07d0", -0.5: "1ff8", 100.1: "0642"} {
		r := newRig(t)
		r.value = celsius
		r.chip = sim.NewMCP9808(r.now, r.at)
		r.write(2, 0x0f, 0xfc) // limits that no temperature reaches
		r.write(3, 0x10, 0x00)
		r.write(4, 0x0f, 0xfc)
		r.wait(time.Second)
		r.reads(want, 5)
	}
}

// Figure 5-10, with limits of 20, 30 and 40 °C and a hysteresis of 3 °C.
func TestMCP9808Flags(t *testing.T) {
	r := newRig(t)
	r.value = 25
	r.chip = sim.NewMCP9808(r.now, r.at)
	r.write(3, 0x01, 0x43) // the lowest two bits and the highest three are not there (register 5-3)
	r.reads("0140", 3)
	r.write(2, 0xe1, 0xe0)
	r.reads("01e0", 2)
	r.write(4, 0x02, 0x80)
	r.write(1, 0x04, 0x08)
	for _, step := range []struct {
		celsius      float64
		flags, alert string
	}{
		{25, "0190", "0408"}, {20, "0140", "0408"}, {17.5, "0118", "0408"}, {16.9375, "210f", "0418"}, {19.9375, "213f", "0418"}, {20, "0140", "0408"},
		{30, "01e0", "0408"}, {30.0625, "41e1", "0418"}, {28, "41c0", "0418"}, {27, "01b0", "0408"},
		{40, "c280", "0418"}, {38, "c260", "0418"}, {37, "c250", "0418"}, {36.9375, "424f", "0418"}, {25, "0190", "0408"},
	} {
		r.value = step.celsius
		r.wait(250 * ms)
		r.reads(step.flags, 5)
		r.reads(step.alert, 1)
	}
	r.write(1, 0x00, 0x09) // interrupt mode: what was crossed is kept until it is cleared with bit 5
	r.value = 31
	r.wait(250 * ms)
	r.reads("0019", 1)
	r.wait(250 * ms)
	r.write(1, 0x00, 0x29)
	r.reads("0009", 1)
	r.wait(time.Second)
	r.reads("0009", 1)
	r.value = 25
	r.wait(250 * ms)
	r.reads("0019", 1)
	r.write(1, 0x00, 0x2d) // the critical limit only
	r.value = 10
	r.wait(250 * ms)
	r.reads("000d", 1)
	r.value = 50
	r.wait(250 * ms)
	r.reads("001d", 1)
}

// Register 5-2: locks cannot be taken back, and hold hysteresis, alert and limits. Shutdown can be left but not entered.
func TestMCP9808Locks(t *testing.T) {
	r := newRig(t)
	r.chip = sim.NewMCP9808(r.now, r.at)
	r.write(1, 0xff, 0xff)
	r.reads("07cf", 1)
	r.write(1, 0x00, 0x00)
	r.reads("06cf", 1)
	r.write(1, 0x01, 0x00)
	r.reads("06cf", 1)
	for reg := byte(2); reg < 5; reg++ {
		r.write(reg, 0x01, 0x00)
		r.reads("0000", reg)
	}
}
