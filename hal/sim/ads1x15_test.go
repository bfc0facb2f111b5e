// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/streembit/edge/hal/sim"
)

// four returns inputs with fixed voltages, the first of which is the rig's value.
func (r *rig) four(b, c, d float64) [4]func(time.Time) float64 {
	fixed := func(v float64) func(time.Time) float64 { return func(time.Time) float64 { return v } }
	return [4]func(time.Time) float64{r.at, fixed(b), fixed(c), fixed(d)}
}

func TestADS1115SingleShot(t *testing.T) {
	r := newRig(t)
	r.value = 1
	r.chip = sim.NewADS1115(r.now, r.four(0, 0, 0))
	r.reads("0000")
	r.reads("8583", 1) // reset values (SBAS444D §9.6)
	r.reads("8000", 2)
	r.reads("7fff", 3)
	r.wait(time.Hour)
	r.reads("0000", 0)              // powered down
	r.write(1, 0xc3, 0x83)          // AIN0 against ground, ±4.096 V, 128 a second
	r.reads("4383", 1)              // OS reads 0 during the conversion
	r.wait(8593 * time.Microsecond) // 1/128 s, 10 % slow, is 8.59375 ms
	r.reads("4383", 1)
	r.reads("0000", 0)
	r.write(1, 0xd3, 0x83) // has no effect on the conversion that runs, and starts none
	r.wait(time.Microsecond)
	r.reads("1f40", 0) // 8000 × 125 µV
	r.reads("d383", 1)
	r.value = 2
	r.wait(time.Hour)
	r.reads("1f40", 0)
	r.write(1, 0x53, 0x83) // without OS nothing starts
	r.reads("d383", 1)
	r.write(2, 0x12, 0x34)
	r.reads("1234", 2)
	r.write(3, 0x43, 0x21)
	r.reads("4321", 3)
	r.write(0, 0x12, 0x34) // read only
	r.reads("1f40", 0)
}

// Every input pair, every range, and both ends of it.
func TestADS1115Ranges(t *testing.T) {
	for _, c := range []struct {
		mux   byte
		volts float64
	}{{0, 0.15}, {1, 0.1}, {2, -0.05}, {3, -0.09}, {4, 0.2}, {5, 0.05}, {6, 0.01}, {7, 0.1}} {
		for pga, full := range []float64{6.144, 4.096, 2.048, 1.024, 0.512, 0.256, 0.256, 0.256} {
			r := newRig(t)
			r.value = 0.2
			r.chip = sim.NewADS1115(r.now, r.four(0.05, 0.01, 0.1))
			r.write(1, 0x81|c.mux<<4|byte(pga)<<1, 0xe3)
			r.wait(2 * ms)
			r.reads(fmt.Sprintf("%04x", uint16(int16(math.Round(c.volts/full*32768)))), 0)
		}
	}
	for volts, want := range map[float64]string{2.047938: "7fff", 2.5: "7fff", -2.048: "8000", -3: "8000", -0.0000625: "ffff"} { // table 3
		r := newRig(t)
		r.value = volts
		r.chip = sim.NewADS1115(r.now, r.four(0, 0, 0))
		r.write(1, 0x85, 0x83)
		r.wait(10 * ms)
		r.reads(want, 0)
	}
}

func TestADS1115Continuous(t *testing.T) {
	r := newRig(t)
	r.value = 1
	r.chip = sim.NewADS1115(r.now, r.four(0.5, 0, 0))
	start := r.clock
	r.write(1, 0x42, 0x83)
	r.reads("4283", 1) // OS reads 0 all the time
	r.wait(10 * ms)
	r.reads("1f40", 0)
	r.value = 2
	r.wait(10 * ms)
	r.reads("3e80", 0)
	// New settings count after the conversion that runs (§9.4.2.2): Linux's ti-ads1015 waits for both and 10 % more.
	const conversion = 8593750 * time.Nanosecond
	r.clock = start.Add(400_000*conversion + ms)
	r.reads("4283", 1)
	r.write(1, 0x52, 0x83)
	r.value = 1.5
	r.wait(conversion - ms)
	r.reads("2ee0", 0)
	r.wait(conversion - 1)
	r.reads("2ee0")
	r.wait(1)
	r.reads("0fa0") // 0.5 V
	r.write(1, 0x53, 0x83)
	r.value = 3
	r.wait(9 * ms)
	r.reads("d383", 1) // the last conversion has ended
	r.reads("0fa0", 0)
	r.wait(time.Hour)
	r.reads("0fa0", 0)
}

func TestADS1015(t *testing.T) {
	r := newRig(t)
	r.value = 1.0005
	r.chip = sim.NewADS1015(r.now, r.four(0, 0, 0))
	r.reads("8583", 1)
	r.reads("8000", 2)
	r.reads("7fff", 3)
	r.write(1, 0xc3, 0x83) // 1600 a second, ±4.096 V
	r.wait(687 * time.Microsecond)
	r.reads("4383", 1)
	r.wait(time.Microsecond)
	r.reads("c383", 1)
	r.reads("1f40", 0) // 12 bits, at the left: 500 × 2 mV
	r.write(2, 0x12, 0x34)
	r.reads("1230", 2)
	r.write(3, 0x12, 0x34)
	r.reads("123f", 3)
	for volts, want := range map[float64]string{5: "7ff0", -5: "8000", -0.002: "fff0"} {
		r.value = volts
		r.write(1, 0x83, 0x83)
		r.wait(ms)
		r.reads(want, 0)
	}
	for dr, rate := range []float64{128, 250, 490, 920, 1600, 2400, 3300, 3300} {
		r.write(1, 0xc3, byte(dr<<5|3))
		r.wait(time.Duration(float64(time.Second) / rate))
		r.reads("43", 1)
		r.wait(time.Duration(float64(time.Second)/rate/10) + 1)
		r.reads("c3", 1)
	}
}
