// SPDX-License-Identifier: Apache-2.0

package sht3x_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/sensorstest"
	"github.com/streembit/edge/sensors/sht3x"
)

var at = hal.Request{Addr: sim.SHT3xAddress}

func TestContract(t *testing.T) {
	sensorstest.Run(t, sensorstest.Case{
		Driver: sht3x.Driver,
		At:     at,
		Board:  func() *hal.Board { return sim.New(sim.Config{Seed: 1}) },
		Want:   []edge.Quantity{sensors.Temperature, sensors.Humidity},
	})
}

// board has one chip.
func board(chip sim.Device) *hal.Board {
	bus := sim.NewBus(sim.I2CBus)
	bus.Attach(at.Addr, chip)
	return hal.NewBoard(hal.Wiring{I2C: []hal.Bus[i2c.BusCloser]{{Name: sim.I2CBus, Open: func() (i2c.BusCloser, error) { return bus, nil }}}})
}

// strict is a chip that must not be spoken to when it cannot answer: package hal would try again and so hide a wait that is too short.
type strict struct {
	t    *testing.T
	chip sim.Device
	from time.Time // when it has powered up
}

func newStrict(t *testing.T, chip sim.Device) *strict {
	return &strict{t, chip, time.Now().Add(time.Millisecond)}
}

func (c *strict) Tx(w, r []byte) error {
	if time.Now().Before(c.from) {
		c.t.Errorf("% x was written %v before the chip has powered up", w, time.Until(c.from))
	}
	err := c.chip.Tx(w, r)
	if err != nil {
		c.t.Errorf("writing % x and reading %d bytes: %v", w, len(r), err)
	}
	return err
}

// The chip model and the driver were written from the data sheet by different people.
func TestReadsWhatTheAirIs(t *testing.T) {
	for _, air := range []sim.Air{{Celsius: 25, Percent: 40}, {Celsius: -39.9, Percent: 0.1}, {Celsius: 124.9, Percent: 99.9}, {Celsius: 0, Percent: 60}} {
		synctest.Test(t, func(t *testing.T) {
			b := board(newStrict(t, sim.NewSHT3x(time.Now, func(time.Time) sim.Air { return air })))
			defer b.Close()
			s, err := sht3x.Driver.Connect(t.Context(), b, at, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			samples, err := s.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []float64{air.Celsius, air.Percent} {
				if math.Abs(samples[i].Value-want) > 0.002 { // a step is 0.0027 °C, 0.0015 %RH
					t.Errorf("%s %v, want %v", samples[i].Name, samples[i].Value, want)
				}
			}
		})
	}
}

// Somebody has left the chip measuring ten times a second (§4.5) with its heater on (§4.10).
func TestTakesOverABusyChip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chip := sim.NewSHT3x(time.Now, func(time.Time) sim.Air { return sim.Air{Celsius: 20, Percent: 50} })
		for _, command := range [][]byte{{0x30, 0x6d}, {0x27, 0x37}} {
			if err := chip.Tx(command, nil); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(42 * time.Millisecond)
		b := board(newStrict(t, chip))
		defer b.Close()
		s, err := sht3x.Driver.Connect(t.Context(), b, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		samples, err := s.Read(t.Context())
		if err != nil || math.Abs(samples[0].Value-20) > 0.002 {
			t.Errorf("%v, %v; want 20 °C", samples, err)
		}
	})
}

// playback answers the commands of Open and Read. The chip's two bytes and their checksum (data sheet §4.12) are the text's.
func playback(t *testing.T, status, data string) *hal.Board {
	t.Helper()
	ops, err := sensorstest.ParseOps([]byte("45 f32d -\n45 - " + status + "\n45 3093 -\n45 30a2 -\n45 2400 -\n45 - " + data + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return sensorstest.Playback(ops)
}

// The formulas of §4.13, by hand: 0x6666 is two fifths of 0xffff. The checksum of 0xbeef is the data sheet's example.
func TestValues(t *testing.T) {
	for _, tc := range []struct {
		data             string
		celsius, percent float64
		cause            error
	}{
		{"666693666693", 25, 40, nil},
		{"8000a2ffffac", -45 + 175*32768./65535, 100, nil},
		{"beef92000081", -45 + 175*48879./65535, 0, nil},
		{"beef93000081", 0, 0, sensors.ErrCRC},
		{"beef92000082", 0, 0, sensors.ErrCRC},
		{"000081000081", 0, 0, sensors.ErrRange},
		{"ffffac666693", 0, 0, sensors.ErrRange},
		{"ffffffffffff", 0, 0, sensors.ErrCRC},
		{"000000000000", 0, 0, sensors.ErrCRC},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, err := sht3x.Driver.Connect(t.Context(), playback(t, "8010e1", tc.data), at, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			samples, err := s.Read(t.Context())
			if !errors.Is(err, tc.cause) || err != nil && !strings.Contains(err.Error(), "sht3x: reading") {
				t.Fatalf("%s: %v, want %v", tc.data, err, tc.cause)
			}
			if err == nil && (math.Abs(samples[0].Value-tc.celsius) > 1e-8 || math.Abs(samples[1].Value-tc.percent) > 1e-5) {
				t.Errorf("%s: %v, want %v and %v", tc.data, samples, tc.celsius, tc.percent)
			}
		})
	}
}

// The status register tells the chip: its checksum, and reserved bits (§4.11).
func TestRefusesWrongChips(t *testing.T) {
	for status, want := range map[string]struct{ open, identify error }{
		"8010e1": {nil, nil}, "8010e2": {sensors.ErrCRC, sensors.ErrWrongChip}, "beef92": {sensors.ErrWrongChip, sensors.ErrWrongChip},
		"ffffff": {sensors.ErrCRC, sensors.ErrWrongChip}, "000000": {sensors.ErrCRC, sensors.ErrWrongChip},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := playback(t, status, "666693666693")
			if _, err := sht3x.Driver.Connect(t.Context(), b, at, nil); !errors.Is(err, want.open) {
				t.Errorf("status %s: Open says %v, want %v", status, err, want.open)
			}
			p, err := b.Port(hal.Request{Kind: hal.I2C, Addr: at.Addr})
			if err != nil {
				t.Fatal(err)
			}
			if err := sht3x.Driver.Identify(t.Context(), p); !errors.Is(err, want.identify) {
				t.Errorf("status %s: Identify says %v, want %v", status, err, want.identify)
			}
		})
	}
}

// The formulas of §4.13 with floating point.
func FuzzSHT3x(f *testing.F) {
	f.Add(uint16(0x6666), uint16(0x6666))
	f.Add(uint16(1872), uint16(0xffff))
	f.Add(uint16(63663), uint16(0))
	f.Fuzz(func(t *testing.T, rawT, rawH uint16) {
		celsius, percent := -45+175*float64(rawT)/65535, 100*float64(rawH)/65535
		samples, err := sht3x.Decode([2]uint16{rawT, rawH})
		if inside := celsius >= -40 && celsius <= 125; inside != (err == nil) {
			t.Fatalf("%v °C: %v", celsius, err)
		}
		if err == nil && (math.Abs(samples[0].Value-celsius) > 1e-8 || math.Abs(samples[1].Value-percent) > 1e-5) {
			t.Errorf("%v, want %v and %v", samples, celsius, percent)
		}
	})
}
