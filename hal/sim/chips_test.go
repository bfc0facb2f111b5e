// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/streembit/edge/hal/sim"
)

func TestAHT20(t *testing.T) {
	r := newAirRig(t)
	r.chip = sim.NewAHT20(r.now, r.airAt)
	r.reads("18", 0x71)
	// What a real chip sent, with its own checksum (github.com/peff74/ESP_AHT20_BMP280): 604873 and 338629 of 2^20.
	r.air = sim.Air{Percent: 604873 * 100.0 / (1 << 20), Celsius: 338629*200.0/(1<<20) - 50}
	r.write(0xac, 0x33, 0x00)
	r.reads("98") // busy
	r.wait(80*ms - 1)
	r.reads("980000000000d9")
	r.wait(1)
	r.reads("1893ac952ac5b3ff")
	r.reads("1893ac952ac5b3")       // again: a read empties nothing
	r.reads("1893ac952ac5b3", 0x71) // and begins with the status in any case
	r.air = sim.Air{Percent: 120, Celsius: 90}
	r.write(0xac, 0x33, 0x00)
	r.write(0xac, 0x33, 0x00) // ignored while busy
	r.wait(80 * ms)
	r.reads("18fffffacccd") // 100 %, 85 °C
	r.write(0xba)
	r.refuses(1)
	r.wait(20 * ms)
	r.reads("180000000000")
}

func TestAHT20IsInitialised(t *testing.T) {
	for _, command := range []byte{0xbe, 0xe1} { // the second is what Linux sends
		r := newAirRig(t)
		chip := sim.NewAHT20(r.now, r.airAt)
		r.chip = chip
		chip.LoseCalibration()
		r.reads("00", 0x71)
		r.write(0xac, 0x33, 0x00)
		r.wait(80 * ms)
		r.reads("000000000000") // it measures nothing
		r.write(command, 0x08, 0x00)
		r.reads("98")
		r.wait(10 * ms)
		r.reads("18")
		r.write(0xac, 0x33, 0x00)
		r.wait(80 * ms)
		r.reads("188000060000") // 50 %, 25 °C
	}
}

func newBH1750(t *testing.T) *rig {
	r := newRig(t)
	r.value = 28067 // the example of "Read Format": 0x8390
	r.chip = sim.NewBH1750(r.now, r.at)
	return r
}

func TestBH1750Modes(t *testing.T) {
	for _, c := range []struct {
		code byte
		lux  float64
		time time.Duration
		want string
	}{
		{0x10, 28067, 120 * ms, "8390"}, {0x20, 28067, 120 * ms, "8390"}, {0x10, 60000, 120 * ms, "ffff"},
		{0x11, 100, 120 * ms, "00f0"}, {0x21, 100.5, 120 * ms, "00f1"}, {0x21, 0.5, 120 * ms, "0001"},
		{0x13, 101, 16 * ms, "0078"}, {0x23, 101, 16 * ms, "0078"},
	} {
		r := newBH1750(t)
		r.value = c.lux
		r.reads("0000")
		r.write(c.code)
		r.wait(c.time - 1)
		r.reads("0000") // the register as it was
		r.wait(1)
		r.reads(c.want)
		r.value = 0
		r.wait(time.Second)
		if once := c.code&0x20 != 0; once {
			r.reads(c.want) // powered down by itself
			r.write(0x07)   // not acceptable there
			r.reads(c.want)
			r.write(0x01)
			r.write(0x07)
		}
		r.reads("0000")
	}
}

func TestBH1750MeasurementTime(t *testing.T) {
	r := newBH1750(t)
	r.value = 100
	r.write(0x00) // as Linux changes it: power down, 01000 and 3 bits, 011 and 5 bits
	r.write(0x44) // 138 = 0b100_01010
	r.write(0x6a)
	r.write(0x20)
	r.wait(240*ms - 1)
	r.reads("0000")
	r.wait(1)
	r.reads("00f0")
	r.write(0x40) // 10, below the least, 31
	r.write(0x20)
	r.wait(120 * ms * 31 / 69)
	r.reads("0036")
	r.refuses(0, 0x01, 0x20) // one instruction at a time
	r.write(0x10)
	r.write(0x00)
	r.value = 0
	r.wait(time.Second)
	r.reads("0036") // powered down
}

// The worked example of the BMP280's data sheet (BST-BMP280-DS001 §3.12) goes from these raw values to this air.
func TestBMP280(t *testing.T) {
	r := newAirRig(t)
	r.air = sim.Air{Celsius: 128422.286 / 5120, Pascal: 100653.27, Percent: 50}
	r.chip = sim.NewBMP280(r.now, r.airAt)
	r.reads("58", 0xd0)
	r.reads("01", 0xf3) // copies its NVM
	r.wait(2 * ms)
	r.reads("00", 0xf3)
	r.reads("800000800000", 0xf7)
	r.reads("706b", 0x88) // dig_T1 = 27504
	r.write(0xf2, 0x05)   // no register here
	r.reads("00", 0xf2)
	r.write(0xf4, 0x25) // both once, forced
	r.reads("08", 0xf3)
	r.wait(6425*time.Microsecond - 1)
	r.reads("800000800000", 0xf7)
	r.wait(1)
	raw := make([]byte, 8)
	if err := r.chip.Tx([]byte{0xf7}, raw); err != nil {
		t.Fatal(err)
	}
	p, temp := int(raw[0])<<12|int(raw[1])<<4|int(raw[2])>>4, int(raw[3])<<12|int(raw[4])<<4|int(raw[5])>>4
	if p < 415147 || p > 415149 || temp < 519887 || temp > 519889 || raw[6] != 0 || raw[7] != 0 {
		t.Errorf("raw values %d and %d, want 415148 and 519888, and no humidity: %x", p, temp, raw)
	}
	r.reads("24", 0xf4) // asleep
	r.write(0xe0, 0xb6)
	r.reads("00", 0xf4)
}

// In normal mode a measurement is followed by a pause, and one in it does not see what comes after it.
func TestStandbyTimes(t *testing.T) {
	for id, times := range map[string][8]time.Duration{
		"60": {500 * time.Microsecond, 62500 * time.Microsecond, 125 * ms, 250 * ms, 500 * ms, time.Second, 10 * ms, 20 * ms},
		"58": {500 * time.Microsecond, 62500 * time.Microsecond, 125 * ms, 250 * ms, 500 * ms, time.Second, 2 * time.Second, 4 * time.Second},
	} {
		for setting, pause := range times {
			t.Run(fmt.Sprint(id, " ", pause), func(t *testing.T) {
				r := newAirRig(t)
				r.chip = sim.NewBMP280(r.now, r.airAt)
				if id == "60" {
					r.chip = sim.NewBME280(r.now, r.airAt)
				}
				r.reads(id, 0xd0)
				r.wait(2 * ms)
				r.write(0xf5, byte(setting<<5))
				r.write(0xf4, 0x27)
				const length = 6425 * time.Microsecond
				r.wait(length)
				first := make([]byte, 6)
				if err := r.chip.Tx([]byte{0xf7}, first); err != nil {
					t.Fatal(err)
				}
				r.reads("00", 0xf3)
				r.air.Celsius++
				r.wait(pause - 1)
				r.reads("00", 0xf3)
				r.wait(1)
				r.reads("08", 0xf3)
				r.wait(length - 1)
				r.reads(fmt.Sprintf("%x", first), 0xf7)
				r.wait(1)
				second := make([]byte, 6)
				if err := r.chip.Tx([]byte{0xf7}, second); err != nil || string(first) == string(second) {
					t.Errorf("%x then %x, %v", first, second, err)
				}
			})
		}
	}
}
