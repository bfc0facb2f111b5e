// SPDX-License-Identifier: Apache-2.0

package sht4x_test

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
	"github.com/streembit/edge/sensors/sht4x"
)

var at = hal.Request{Addr: sim.SHT4xAddress}

func TestContract(t *testing.T) {
	sensorstest.Run(t, sensorstest.Case{
		Driver: sht4x.Driver,
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
			b := board(newStrict(t, sim.NewSHT4x(time.Now, func(time.Time) sim.Air { return air })))
			defer b.Close()
			s, err := sht4x.Driver.Connect(t.Context(), b, at, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			samples, err := s.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []float64{air.Celsius, air.Percent} {
				if math.Abs(samples[i].Value-want) > 0.002 { // a step is 0.0027 °C, 0.0019 %RH
					t.Errorf("%s %v, want %v", samples[i].Name, samples[i].Value, want)
				}
			}
		})
	}
}

// playback answers the commands of Open and Read: a serial number, and then a measurement.
func playback(t *testing.T, serial, data string) *hal.Board {
	t.Helper()
	ops, err := sensorstest.ParseOps([]byte("44 89 -\n44 - " + serial + "\n44 94 -\n44 fd -\n44 - " + data + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return sensorstest.Playback(ops)
}

// The formulas of §4.6, by hand: 0x6666 is two fifths of 0xffff. The checksum of 0xbeef is the data sheet's example (§4.4).
func TestValues(t *testing.T) {
	for _, tc := range []struct {
		data             string
		celsius, percent float64
		cause            error
	}{
		{"666693666693", 25, 44, nil},
		{"8000a2ffffac", -45 + 175*32768./65535, 100, nil}, // 119 %RH is cropped
		{"beef92000081", -45 + 175*48879./65535, 0, nil},   // -6 %RH is cropped
		{"beef93000081", 0, 0, sensors.ErrCRC},
		{"beef92000082", 0, 0, sensors.ErrCRC},
		{"000081000081", 0, 0, sensors.ErrRange},
		{"ffffac666693", 0, 0, sensors.ErrRange},
		{"ffffffffffff", 0, 0, sensors.ErrCRC},
		{"000000000000", 0, 0, sensors.ErrCRC},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, err := sht4x.Driver.Connect(t.Context(), playback(t, "0fba7cd06b14", tc.data), at, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			samples, err := s.Read(t.Context())
			if !errors.Is(err, tc.cause) || err != nil && !strings.Contains(err.Error(), "sht4x: reading") {
				t.Fatalf("%s: %v, want %v", tc.data, err, tc.cause)
			}
			if err == nil && (math.Abs(samples[0].Value-tc.celsius) > 1e-8 || math.Abs(samples[1].Value-tc.percent) > 2e-5) {
				t.Errorf("%s: %v, want %v and %v", tc.data, samples, tc.celsius, tc.percent)
			}
		})
	}
}

// The serial number tells the chip, by its checksums.
func TestRefusesWrongChips(t *testing.T) {
	for serial, want := range map[string]struct{ open, identify error }{
		"0fba7cd06b14": {nil, nil}, "0fba7cd06b15": {sensors.ErrCRC, sensors.ErrWrongChip}, "0fba7dd06b14": {sensors.ErrCRC, sensors.ErrWrongChip},
		"ffffffffffff": {sensors.ErrCRC, sensors.ErrWrongChip}, "000000000000": {sensors.ErrCRC, sensors.ErrWrongChip},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := playback(t, serial, "666693666693")
			p, err := b.Port(hal.Request{Kind: hal.I2C, Addr: at.Addr})
			if err != nil {
				t.Fatal(err)
			}
			if err := sht4x.Driver.Identify(t.Context(), p); !errors.Is(err, want.identify) {
				t.Errorf("serial %s: Identify says %v, want %v", serial, err, want.identify)
			}
			b = playback(t, serial, "666693666693")
			if _, err := sht4x.Driver.Connect(t.Context(), b, at, nil); !errors.Is(err, want.open) {
				t.Errorf("serial %s: Open says %v, want %v", serial, err, want.open)
			}
		})
	}
}

// The formulas of §4.6 with floating point.
func FuzzSHT4x(f *testing.F) {
	f.Add(uint16(0x6666), uint16(0x6666))
	f.Add(uint16(1872), uint16(3145))
	f.Add(uint16(63663), uint16(55575))
	f.Fuzz(func(t *testing.T, rawT, rawH uint16) {
		celsius, percent := -45+175*float64(rawT)/65535, min(max(-6+125*float64(rawH)/65535, 0), 100)
		samples, err := sht4x.Decode([2]uint16{rawT, rawH})
		if inside := celsius >= -40 && celsius <= 125; inside != (err == nil) {
			t.Fatalf("%v °C: %v", celsius, err)
		}
		if err == nil && (math.Abs(samples[0].Value-celsius) > 1e-8 || math.Abs(samples[1].Value-percent) > 2e-5) {
			t.Errorf("%v, want %v and %v", samples, celsius, percent)
		}
	})
}
