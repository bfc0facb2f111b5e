// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"encoding/binary"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
)

// airRig is a rig for a chip that measures air, and lux or CO2 by the rig's value.
type airRig struct {
	*rig
	air sim.Air
}

func newAirRig(t *testing.T) *airRig {
	return &airRig{rig: newRig(t), air: sim.Air{Celsius: 25, Pascal: 101325, Percent: 50}}
}

func (r *airRig) airAt(time.Time) sim.Air { return r.air }

// refuses wants the chip not to acknowledge w, or the read that follows.
func (r *rig) refuses(read int, w ...byte) {
	r.t.Helper()
	if err := r.chip.Tx(w, make([]byte, read)); !errors.Is(err, sim.ErrNAK) || !errors.Is(err, hal.ErrAbsent) {
		r.t.Errorf("% x and a read of %d: %v, want no acknowledge", w, read, err)
	}
}

// The words and checksums are those of the data sheets' examples: 0xbeef is 0x92 (SHT3x §4.12). 25 °C is 0x6666, 50 % is 0x8000.
const (
	at25and50      = "666693" + "8000a2"
	at25and50SHT4x = "666693" + "72b0dc" // −6 to 119 % are the 16 bits
)

func newSHT3x(t *testing.T) *airRig {
	r := newAirRig(t)
	r.chip = sim.NewSHT3x(r.now, r.airAt)
	return r
}

func TestSHT3xSingleShot(t *testing.T) {
	r := newSHT3x(t)
	r.refuses(6) // nothing measured
	for _, c := range []struct {
		low  byte
		time time.Duration
	}{{0x00, 15 * ms}, {0x0b, 6 * ms}, {0x16, 4 * ms}} { // tables 4 and 9
		r.write(0x24, c.low)
		r.wait(c.time - 1)
		r.refuses(6)
		r.refuses(0, 0xf3, 0x2d) // busy with the measurement
		r.wait(1)
		r.reads(at25and50)
		r.refuses(6) // it is read once
	}
	r.refuses(6, 0x24, 0x00) // in one transaction there is no time to measure
	r.wait(15 * ms)
	r.reads("6666") // a master may stop after any byte (§4.4)
}

// Clock stretching holds the read until the measurement is ready.
func TestSHT3xClockStretching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chip := sim.NewSHT3x(time.Now, func(time.Time) sim.Air { return sim.Air{Celsius: 25, Percent: 50} })
		for low, want := range map[byte]time.Duration{0x06: 15 * ms, 0x0d: 6 * ms, 0x10: 4 * ms} {
			for _, split := range []bool{true, false} { // Linux writes and reads in two messages
				begin, w, got := time.Now(), []byte{0x2c, low}, make([]byte, 6)
				if split {
					if err := chip.Tx(w, nil); err != nil {
						t.Fatal(err)
					}
					w = nil
				}
				if err := chip.Tx(w, got); err != nil || time.Since(begin) != want || got[0] != 0x66 || got[2] != 0x93 {
					t.Errorf("%#x, split %v: %x, %v after %v, want %v", low, split, got, err, time.Since(begin), want)
				}
			}
		}
	})
}

func TestSHT3xPeriodic(t *testing.T) {
	for command, period := range map[[2]byte]time.Duration{
		{0x20, 0x32}: 2 * time.Second, {0x20, 0x24}: 2 * time.Second, {0x20, 0x2f}: 2 * time.Second,
		{0x21, 0x30}: time.Second, {0x21, 0x26}: time.Second, {0x21, 0x2d}: time.Second,
		{0x22, 0x36}: 500 * ms, {0x22, 0x20}: 500 * ms, {0x22, 0x2b}: 500 * ms,
		{0x23, 0x34}: 250 * ms, {0x23, 0x22}: 250 * ms, {0x23, 0x29}: 250 * ms,
		{0x27, 0x37}: 100 * ms, {0x27, 0x21}: 100 * ms, {0x27, 0x2a}: 100 * ms, {0x2b, 0x32}: 250 * ms,
	} {
		r := newSHT3x(t)
		r.write(command[:]...)
		r.refuses(6, 0xe0, 0x00) // nothing measured yet (§4.6)
		r.wait(15 * ms)
		r.refuses(6) // only by the command fetch data
		r.reads(at25and50, 0xe0, 0x00)
		r.refuses(6, 0xe0, 0x00)
		r.air.Celsius = -45 // below the range, which ends at −40 °C
		r.wait(period - 15*ms)
		r.refuses(6, 0xe0, 0x00)
		r.wait(15 * ms)
		r.write(0xe0, 0x00)
		r.reads("075051")
		r.refuses(0, 0x24, 0x00) // break first
		r.write(0x30, 0x93)
		r.refuses(0, 0x24, 0x00)
		r.wait(time.Millisecond)
		r.write(0x24, 0x00)
	}
}

func TestSHT3xStatus(t *testing.T) {
	r := newSHT3x(t)
	r.reads("8010e1", 0xf3, 0x2d) // table 18
	r.write(0x30, 0x41)
	r.write(0xf3, 0x2d) // as Linux reads it
	r.reads("000081")
	r.write(0x30, 0x6d)
	r.reads("2000", 0xf3, 0x2d)
	r.write(0x24, 0x00)
	r.wait(15 * ms)
	r.reads("6ac9") // the heater warms
	r.write(0x30, 0x66)
	r.reads("0000", 0xf3, 0x2d)
	r.refuses(0, 0x12, 0x34)
	r.reads("0002", 0xf3, 0x2d) // unknown command
	r.write(0x30, 0xa2)
	r.refuses(0, 0xf3, 0x2d)
	r.wait(1500 * time.Microsecond)
	r.reads("8010", 0xf3, 0x2d)
	r.reads("0e5a4931c717", 0x37, 0x80)
	r.reads("0e5a4931c717", 0x36, 0x82)
}

// Linux reads all four limits, six bytes each, before it accepts the chip.
func TestSHT3xLimits(t *testing.T) {
	r := newSHT3x(t)
	r.write(0xe1, 0x1f)
	r.reads("cd33fdffffff")
	r.write(0x61, 0x1d, 0xbe, 0xef, 0x92)
	r.reads("beef92", 0xe1, 0x1f)
	r.write(0x61, 0x1d, 0x12, 0x34, 0x92)
	r.reads("8011", 0xf3, 0x2d)   // wrong checksum
	r.reads("beef92", 0xe1, 0x1f) // and not taken
	r.write(0x61, 0x00, 0xbe, 0xef, 0x92)
	r.reads("8010", 0xf3, 0x2d)
	for _, read := range []byte{0x14, 0x09} {
		r.write(0xe1, read)
		r.reads(map[byte]string{0x14: "c92d", 0x09: "3869"}[read])
	}
	r.refuses(0, 0x61, 0x1d, 0xbe) // half a word
}

func newSHT4x(t *testing.T) *airRig {
	r := newAirRig(t)
	r.chip = sim.NewSHT4x(r.now, r.airAt)
	return r
}

func TestSHT4x(t *testing.T) {
	r := newSHT4x(t)
	r.refuses(6)
	for command, length := range map[byte]time.Duration{0xfd: 8200 * time.Microsecond, 0xf6: 4500 * time.Microsecond, 0xe0: 1600 * time.Microsecond} {
		r.write(command)
		r.wait(length - 1)
		r.refuses(6)
		r.refuses(0, command)
		r.refuses(0) // not even its address
		r.wait(1)
		r.reads(at25and50SHT4x)
		r.refuses(6)
	}
	r.write(0x89)
	r.reads("1f07e1b62d80")
	r.reads("1f07e1b62d80", 0x89)
	r.write(0x94)
	r.refuses(0)
	r.wait(time.Millisecond)
	r.refuses(0, 0x00)
	r.refuses(0, 0xfd, 0x00) // commands have one byte
}

func TestSHT4xHeater(t *testing.T) {
	for command, length := range map[byte]time.Duration{
		0x39: 1108200 * time.Microsecond, 0x32: 118200 * time.Microsecond, 0x2f: 1108200 * time.Microsecond,
		0x24: 118200 * time.Microsecond, 0x1e: 1108200 * time.Microsecond, 0x15: 118200 * time.Microsecond,
	} {
		r := newSHT4x(t)
		r.write(command)
		r.wait(length - 1)
		r.refuses(6)
		r.wait(1)
		got := make([]byte, 6)
		if err := r.chip.Tx(nil, got); err != nil {
			t.Fatal(err)
		}
		celsius, percent := float64(binary.BigEndian.Uint16(got))*175/65535-45, float64(binary.BigEndian.Uint16(got[3:]))*125/65535-6
		if celsius < 30 || celsius > 90 || percent < 1 || percent > 40 {
			t.Errorf("%#x: %.1f °C and %.1f %%", command, celsius, percent)
		}
	}
}

func newSCD4x(t *testing.T) *airRig {
	r := newAirRig(t)
	r.value, r.air = 500, sim.Air{Celsius: 25.0028, Percent: 37.0015}
	r.chip = sim.NewSCD4x(r.now, r.airAt, r.at)
	return r
}

// The example of §3.5.2: 500 ppm, 25 °C, 37 %.
const scd4xExample = "01f433" + "6667a2" + "5eb93c"

func TestSCD4xPeriodic(t *testing.T) {
	for _, mode := range []struct {
		low    byte
		period time.Duration
	}{{0xb1, 5 * time.Second}, {0xac, 30 * time.Second}} {
		r := newSCD4x(t)
		r.write(0x21, mode.low)
		r.wait(mode.period - 1)
		r.write(0xe4, 0xb8)
		r.reads("8000a2") // the example of §3.8.2
		r.write(0xec, 0x05)
		r.refuses(9)
		r.refuses(0, 0x36, 0x82) // not while it measures
		r.refuses(0, 0x21, 0xb1)
		r.wait(1)
		r.refuses(3, 0xe4, 0xb8) // the answer needs its 1 ms
		r.write(0xe4, 0xb8)
		r.reads("800604")
		r.write(0xec, 0x05)
		r.reads(scd4xExample)
		r.write(0xec, 0x05)
		r.refuses(9) // emptied by the read
		r.write(0xe4, 0xb8)
		r.reads("8000a2")
		r.value = 50000
		r.wait(mode.period)
		r.write(0xec, 0x05)
		r.reads("9c40") // 40 000 ppm is the most
		r.write(0x3f, 0x86)
		r.wait(500*ms - 1)
		r.refuses(0, 0x36, 0x82)
		r.wait(1)
		r.write(0x36, 0x82)
		r.reads("f896319f07c23bbe89") // the example of §3.9.2
		r.wait(time.Minute)
		r.write(0xe4, 0xb8)
		r.reads("8000a2")
	}
}

func TestSCD4xSettings(t *testing.T) {
	r := newSCD4x(t)
	set := func(w ...byte) { t.Helper(); r.write(w...); r.wait(ms) }
	get := func(want string, w ...byte) { t.Helper(); r.write(w...); r.wait(ms); r.reads(want) }
	get("05da29", 0x23, 0x18) // 4 °C
	set(0x24, 0x1d, 0x07, 0xe6, 0x48)
	get("07e648", 0x23, 0x18)         // 5.4 °C, the example of §3.6.1
	set(0x24, 0x27, 0x07, 0x9e, 0x09) // 1950 m
	get("079e09", 0x23, 0x22)
	set(0xe0, 0x00, 0x03, 0xdb, 0x42) // 987 hPa
	get("03db42", 0xe0, 0x00)
	get("0001b0", 0x23, 0x13)
	set(0x24, 0x16, 0x00, 0x00, 0x81)
	get("000081", 0x23, 0x13)
	get("144051", 0x20, 0x2f)
	r.refuses(0, 0x24, 0x27, 0x07, 0x9e, 0x0a) // wrong checksum
	r.refuses(0, 0x12, 0x34)
	r.refuses(0, 0x24)

	set(0x36, 0x46) // reinit: back to what was kept, which is what came from the factory
	r.refuses(0, 0x23, 0x18)
	r.wait(30 * ms)
	get("05da29", 0x23, 0x18)
	set(0x24, 0x1d, 0x07, 0xe6, 0x48)
	set(0x36, 0x15)
	r.wait(800 * ms)
	set(0x36, 0x46)
	r.wait(30 * ms)
	get("07e648", 0x23, 0x18)
	set(0x36, 0x32)
	r.refuses(0, 0x23, 0x18)
	r.wait(1200 * ms)
	get("05da29", 0x23, 0x18)
}

func TestSCD4xSingleShot(t *testing.T) {
	r := newSCD4x(t)
	r.write(0x21, 0x9d)
	r.wait(5*time.Second - 1)
	r.refuses(0, 0xe4, 0xb8)
	r.wait(1)
	r.write(0xec, 0x05)
	r.reads(scd4xExample)
	r.write(0x21, 0x96) // without CO2
	r.wait(50 * ms)
	r.write(0xec, 0x05)
	r.reads("000081" + scd4xExample[6:])
	r.write(0x21, 0x9d)
	r.wait(5 * time.Second)
	r.write(0xec, 0x05)
	r.reads(scd4xExample)

	r.write(0x36, 0xe0)
	r.refuses(0, 0x36, 0x82)
	r.refuses(0, 0x36, 0xf6) // wakes up, but does not acknowledge (§3.10.4)
	r.refuses(0, 0x36, 0x82)
	r.wait(30 * ms)
	r.write(0x36, 0x82)
	r.reads("f896319f07c23bbe89")
}

func TestSCD4xTestsAndRecalibratesItself(t *testing.T) {
	r := newSCD4x(t)
	r.write(0x36, 0x2f, 0x01, 0xe0, 0xb4)
	r.wait(400 * ms)
	r.reads("ffff") // it has not measured before
	r.value = 530
	r.write(0x21, 0xb1)
	r.wait(3 * time.Minute)
	r.write(0x3f, 0x86)
	r.wait(500 * ms)
	r.write(0x36, 0x2f, 0x01, 0xe0, 0xb4) // 480 ppm, the example of §3.7.1
	r.wait(400*ms - 1)
	r.refuses(3)
	r.wait(1)
	r.reads("7fce7b") // −50 ppm
	r.write(0x21, 0xb1)
	r.wait(5 * time.Second)
	r.write(0xec, 0x05)
	r.reads("01e0b4")
	r.write(0x3f, 0x86)
	r.wait(500 * ms)
	r.write(0x36, 0x39)
	r.wait(10*time.Second - 1)
	r.refuses(3)
	r.wait(1)
	r.reads("000081")
}

// Less temperature offset makes a warmer reading, and the drier air that goes with it.
func TestSCD4xTemperatureOffset(t *testing.T) {
	r := newSCD4x(t)
	r.write(0x24, 0x1d, 0x00, 0x00, 0x81)
	r.write(0x21, 0x9d)
	r.wait(5 * time.Second)
	r.write(0xec, 0x05)
	got := make([]byte, 9)
	if err := r.chip.Tx(nil, got); err != nil {
		t.Fatal(err)
	}
	celsius, percent := float64(binary.BigEndian.Uint16(got[3:]))*175/65535-45, float64(binary.BigEndian.Uint16(got[6:]))*100/65535
	if math.Abs(celsius-29) > 0.01 || percent > 30 || percent < 28 { // 37 % at 25 °C are 11.7 hPa, of 40.1 hPa at 29 °C
		t.Errorf("%.2f °C and %.1f %%", celsius, percent)
	}
}
