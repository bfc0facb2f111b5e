// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"testing"
	"time"

	"github.com/streembit/edge/hal/sim"
)

// inaRig is a rig with an INA219 on a shunt.
func inaRig(t *testing.T, ohms float64, volts, amperes *float64) *rig {
	r := newRig(t)
	r.chip = sim.NewINA219(r.now, func(time.Time) (float64, float64) { return *volts, *amperes }, ohms)
	return r
}

// The example of SBOS448G §8.5.2 and table 8: 10 A through 2 mΩ at 11.98 V.
func TestINA219Example(t *testing.T) {
	volts, amperes := 11.98, 10.0
	r := inaRig(t, 0.002, &volts, &amperes)
	for reg, want := range []string{"399f", "0000", "0000", "0000", "0000", "0000"} {
		r.reads(want, byte(reg))
	}
	r.write(0, 0x01, 0x9f) // 16 V, ±40 mV, 12 bits, continuous
	r.write(5, 0x50, 0x01) // bit 0 cannot be set
	r.reads("5000", 5)
	r.wait(2 * ms)
	r.reads("07d0", 1)
	r.reads("5d9a", 2) // 0x5d98 and CNVR
	r.reads("2710", 4)
	r.reads("1766", 3)
	r.reads("5d98", 2) // reading the power has cleared CNVR
	r.wait(2 * ms)
	r.reads("5d9a", 2)
	r.write(4, 0x12, 0x34) // read only
	r.reads("2710", 4)
	amperes = -10
	r.wait(2 * ms)
	r.reads("f830", 1)
	r.reads("d8f0", 4)
	r.reads("1766", 3)
}

// Tables 4 and 7: the ends of the ranges.
func TestINA219Ranges(t *testing.T) {
	volts, amperes := 40.0, 5.0
	for i, want := range []struct{ plus, minus string }{{"0fa0", "f060"}, {"1f40", "e0c0"}, {"3e80", "c180"}, {"7d00", "8300"}} {
		r := inaRig(t, 0.1, &volts, &amperes)
		amperes = 5
		r.write(0, 0x01|byte(i<<3), 0x9f)
		r.wait(2 * ms)
		r.reads(want.plus, 1)
		r.reads("7d02", 2) // 16 V
		r.write(0, 0x21|byte(i<<3), 0x9f)
		amperes = -5
		r.wait(2 * ms)
		r.reads(want.minus, 1)
		r.reads("fa02", 2) // 32 V
	}
}

func TestINA219Overflow(t *testing.T) {
	volts, amperes := 12.0, 3.0
	r := inaRig(t, 0.1, &volts, &amperes)
	r.write(5, 0x10, 0x00) // current = shunt voltage
	r.wait(2 * ms)
	r.reads("7530", 4)
	r.reads("5dc2", 2)
	r.write(5, 0x20, 0x00)
	r.wait(2 * ms)
	r.reads("5dc3", 2) // CNVR and OVF
	amperes = 0.1
	r.wait(2 * ms)
	r.reads("5dc2", 2)
}

// Conversion times of table 5, modes of table 6.
func TestINA219Modes(t *testing.T) {
	volts, amperes := 5.0, 0.01
	r := inaRig(t, 0.1, &volts, &amperes)
	r.wait(2 * ms)
	r.write(0, 0x39, 0x98) // power-down: the values stay
	volts, amperes = 6, 0.02
	r.wait(time.Hour)
	r.reads("0064", 1)
	r.reads("2712", 2)
	r.write(0, 0x39, 0x9b) // both, once
	r.reads("2710", 2)
	r.wait(2*532*time.Microsecond + 50*time.Microsecond)
	r.reads("2710", 2)
	r.wait(60 * time.Microsecond)
	r.reads("2ee2", 2)
	r.reads("00c8", 1)
	volts, amperes = 7, 0.03
	r.wait(time.Hour)
	r.reads("2ee2", 2)
	r.write(0, 0x39, 0x9b) // the same mode again triggers again
	r.wait(2 * ms)
	r.reads("36b2", 2)
	volts, amperes = 8, 0.04
	r.write(0, 0x39, 0x99) // shunt only
	r.wait(ms)
	r.reads("0190", 1)
	r.reads("36b2", 2)
	r.write(0, 0x39, 0x9a) // bus only
	r.wait(ms)
	r.reads("3e82", 2)
	for adc, micros := range map[int]time.Duration{0: 84, 1: 148, 2: 276, 3: 532, 8: 532, 9: 1060, 10: 2130, 11: 4260, 12: 8510, 13: 17020, 14: 34050, 15: 68100} {
		r.write(0, 0x38|byte(adc>>1), byte(adc<<7)|2)
		r.wait(micros * time.Microsecond)
		r.reads("3e80", 2)
		r.wait(micros * time.Microsecond / 9)
		r.reads("3e82", 2)
	}
	volts = 8.052
	r.write(0, 0x38, 0x02) // 9 bits: steps of 32 mV
	r.wait(ms)
	r.reads("3f02", 2)
	r.write(5, 0x12, 0x34)
	r.write(0, 0x80, 0x00) // reset
	for reg, want := range []string{"399f", "0000", "0000", "0000", "0000", "0000"} {
		r.reads(want, byte(reg))
	}
}

// What Linux's ina2xx does: defaults, calibration 4096 for a shunt of 10 mΩ, that is 1 mA a step; one register after the other.
func TestINA219AsLinuxReadsIt(t *testing.T) {
	volts, amperes := 3.3, 1.5
	r := inaRig(t, 0.01, &volts, &amperes)
	r.write(0, 0x39, 0x9f)
	r.write(5, 0x10, 0x00)
	r.wait(69 * ms)
	r.reads("05dc", 4) // 1500 mA
	r.reads("00f7", 3) // 4.95 W of 20 mW a step
	r.reads("19c8", 2) // 3300 mV
	r.reads("1000", 5)
}
