// SPDX-License-Identifier: Apache-2.0

package lm75_test

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
	"github.com/streembit/edge/sensors/lm75"
	"github.com/streembit/edge/sensors/sensorstest"
)

func TestContract(t *testing.T) {
	for _, tc := range []struct {
		driver  sensors.Driver
		addr    uint16
		options map[string]any
	}{
		{lm75.LM75, 0x4a, nil}, {lm75.LM75, 0x4a, map[string]any{"bits": 11}}, {lm75.TMP102, 0x4b, nil}, {lm75.TMP105, 0x4c, nil},
	} {
		sensorstest.Run(t, sensorstest.Case{
			Driver: tc.driver, At: hal.Request{Addr: tc.addr}, Options: tc.options,
			Board: func() *hal.Board { return sim.New(sim.Config{Seed: 1}) },
			Want:  []edge.Quantity{sensors.Temperature},
		})
	}
}

// The chip models were written apart from this package. The drivers agree with them within a step, also at the ends of the range.
func TestReadsWhatTheChipMeasures(t *testing.T) {
	for _, celsius := range []float64{-54.97, -40, -0.3, -0.01, 0, 0.2, 21.63, 85.02, 124.9} {
		at := func(time.Time) float64 { return celsius }
		synctest.Test(t, func(t *testing.T) {
			for _, tc := range []struct {
				driver sensors.Driver
				chip   sim.Device
				step   float64
			}{
				{lm75.LM75, sim.NewLM75(time.Now, at), 0.5}, {lm75.TMP102, sim.NewTMP102(time.Now, at), 0.0625}, {lm75.TMP105, sim.NewTMP105(time.Now, at), 0.0625},
			} {
				samples, err := once(t, tc.driver, tc.chip, nil)
				if err != nil || math.Abs(samples[0].Value-celsius) > tc.step {
					t.Errorf("%s at %v °C: %v, %v", tc.driver.Name, celsius, samples, err)
				}
			}
		})
	}
}

// What Read returns was measured after it was called: nothing of the last measurement is left.
func TestReadsAfresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		jump := time.Now().Add(time.Minute)
		at := func(now time.Time) float64 {
			if now.Before(jump) {
				return 20
			}
			return 30
		}
		for d, c := range map[*sensors.Driver]sim.Device{
			&lm75.LM75: sim.NewLM75(time.Now, at), &lm75.TMP102: sim.NewTMP102(time.Now, at), &lm75.TMP105: sim.NewTMP105(time.Now, at),
		} {
			jump = time.Now().Add(time.Minute)
			b := board(c)
			s, err := d.Connect(t.Context(), b, hal.Request{Addr: 0x48}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if samples, err := s.Read(t.Context()); err != nil || samples[0].Value != 20 {
				t.Error(d.Name, samples, err)
			}
			time.Sleep(time.Until(jump))
			if samples, err := s.Read(t.Context()); err != nil || samples[0].Value != 30 {
				t.Error(d.Name, samples, err)
			}
			s.Close()
			b.Close()
		}
	})
}

// registers is a chip that keeps what is written. read, if it is there, may change what is read next.
type registers struct {
	bytes map[byte][]byte
	read  func(reg byte)
}

// chip has the limits of a chip after power-up.
func chip(config, temperature string) *registers {
	return &registers{bytes: map[byte][]byte{0: []byte(temperature), 1: []byte(config), 2: {0x4b, 0}, 3: {0x50, 0}}}
}

func (c *registers) Tx(w, r []byte) error {
	if len(w) > 1 {
		c.bytes[w[0]] = append([]byte(nil), w[1:]...)
	}
	if c.read != nil && len(r) > 0 {
		c.read(w[0])
	}
	copy(r, c.bytes[w[0]])
	return nil
}

func board(c sim.Device) *hal.Board {
	bus := sim.NewBus(sim.I2CBus)
	bus.Attach(0x48, c)
	return hal.NewBoard(hal.Wiring{I2C: []hal.Bus[i2c.BusCloser]{{Name: sim.I2CBus, Open: func() (i2c.BusCloser, error) { return bus, nil }}}})
}

// once opens the chip and reads it once.
func once(t *testing.T, d sensors.Driver, c sim.Device, opts map[string]any) ([]edge.Sample, error) {
	t.Helper()
	b := board(c)
	defer b.Close()
	s, err := d.Connect(t.Context(), b, hal.Request{Addr: 0x48}, opts)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	return s.Read(t.Context())
}

func powerUp(d sensors.Driver) string {
	if d.Name == "tmp102" {
		return "\x60\xa0"
	}
	return "\x00"
}

// The tables of the data sheets: LM75 (DS012658, temperature data format), LM75A (NXP, rev. 4, table 9), TMP102 and TMP105 (table 5); and the
// ends of the range.
func TestValues(t *testing.T) {
	for _, tc := range []struct {
		driver   sensors.Driver
		bits     any
		register string
		want     float64
		cause    error
	}{
		{lm75.LM75, 9, "\x7d\x00", 125, nil}, {lm75.LM75, 9, "\x19\x00", 25, nil}, {lm75.LM75, 9, "\x00\x80", 0.5, nil},
		{lm75.LM75, 9, "\x00\x00", 0, nil}, {lm75.LM75, 9, "\xff\x80", -0.5, nil}, {lm75.LM75, 9, "\xe7\x00", -25, nil},
		{lm75.LM75, 9, "\xc9\x00", -55, nil}, {lm75.LM75, 9, "\x19\x7f", 25, nil}, // the last seven bits are undefined
		{lm75.LM75, 9, "\x7d\x80", 0, sensors.ErrRange}, {lm75.LM75, 9, "\xc8\x80", 0, sensors.ErrRange},
		{lm75.LM75, "11", "\x7d\x00", 125, nil}, {lm75.LM75, "11", "\x00\x20", 0.125, nil}, {lm75.LM75, "11", "\xff\xe0", -0.125, nil},
		{lm75.LM75, "11", "\xc9\x20", -54.875, nil}, {lm75.LM75, "11", "\x19\x1f", 25, nil},
		{lm75.TMP102, nil, "\x64\x00", 100, nil}, {lm75.TMP102, nil, "\x00\x40", 0.25, nil}, {lm75.TMP102, nil, "\xff\xc0", -0.25, nil},
		{lm75.TMP102, nil, "\xe7\x00", -25, nil}, {lm75.TMP102, nil, "\xc9\x00", -55, nil}, {lm75.TMP102, nil, "\x00\x00", 0, nil},
		{lm75.TMP102, nil, "\x7f\xf0", 0, sensors.ErrRange}, {lm75.TMP102, nil, "\x19\x01", 0, sensors.ErrNoData},
		{lm75.TMP105, nil, "\x4b\x00", 75, nil}, {lm75.TMP105, nil, "\x32\x00", 50, nil}, {lm75.TMP105, nil, "\x19\x10", 25.0625, nil},
		{lm75.TMP105, nil, "\xff\xf0", -0.0625, nil}, {lm75.TMP105, nil, "\x7f\xf0", 0, sensors.ErrRange}, {lm75.TMP105, nil, "\xff\xff", 0, sensors.ErrNoData},
	} {
		synctest.Test(t, func(t *testing.T) {
			opts := map[string]any{}
			if tc.bits != nil {
				opts["bits"] = tc.bits
			}
			samples, err := once(t, tc.driver, chip(powerUp(tc.driver), tc.register), opts)
			if !errors.Is(err, tc.cause) || err == nil && samples[0].Value != tc.want {
				t.Errorf("%s %x: %v, %v; want %v, %v", tc.driver.Name, tc.register, samples, err, tc.want, tc.cause)
			}
		})
	}
}

func TestRefusesWrongChips(t *testing.T) {
	for name, tc := range map[string]struct {
		driver sensors.Driver
		chip   sim.Device
		cause  error
		says   string
	}{
		"nothing there":        {lm75.LM75, nil, sim.ErrNAK, "/dev/i2c-1"},
		"TMP102 as LM75":       {lm75.LM75, chip("\x60\xa0", "\x19\x00"), sensors.ErrWrongChip, "0x6000"},
		"LM75 as TMP102":       {lm75.TMP102, chip("\x00\x00", "\x19\x00"), sensors.ErrWrongChip, "0x0000"},
		"TMP105 as TMP102":     {lm75.TMP102, chip("\x61\x61", "\x19\x00"), sensors.ErrWrongChip, "0x6161"},
		"limits of an ADS1115": {lm75.TMP105, &registers{bytes: map[byte][]byte{0: {0, 0}, 1: {0x85}, 2: {0x80, 0}, 3: {0x7f, 0xff}}}, sensors.ErrWrongChip, "0x7fff"},
		"stuck low":            {lm75.LM75, &registers{bytes: map[byte][]byte{}}, sensors.ErrNoData, "limits 0x0000 and 0x0000"},
		"settings do not stay": {lm75.TMP105, plain{0, 0x10}, sensors.ErrWrongChip, "0x1000, want 0xe100"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, err := once(t, tc.driver, tc.chip, nil)
				if !errors.Is(err, tc.cause) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), tc.driver.Name) {
					t.Errorf("%v; want %v and %q", err, tc.cause, tc.says)
				}
			})
		})
	}
}

// plain is a chip whose registers cannot be written.
type plain struct{ high, config byte }

func (p plain) Tx(w, r []byte) error {
	copy(r, []byte{map[byte]byte{0: 0x19, 1: p.config, 2: 0x4b, 3: 0x50}[w[0]], p.high})
	return nil
}

// A chip that loses its supply in the middle of a measurement shows the configuration after power-up, and perhaps 0 °C.
func TestSupplyDips(t *testing.T) {
	for _, d := range []sensors.Driver{lm75.LM75, lm75.TMP102, lm75.TMP105} {
		synctest.Test(t, func(t *testing.T) {
			c := chip(powerUp(d), "\x19\x00")
			b := board(c)
			defer b.Close()
			s, err := d.Connect(t.Context(), b, hal.Request{Addr: 0x48}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			c.read = func(reg byte) { c.bytes[0], c.bytes[1] = []byte{0, 0}, []byte(powerUp(d)) }
			cause := sensors.ErrNoData
			if d.Name == "tmp102" { // its configuration after power-up is not all zeros
				cause = sensors.ErrWrongChip
			}
			if samples, err := s.Read(t.Context()); !errors.Is(err, cause) || samples != nil {
				t.Errorf("%s: %v, %v", d.Name, samples, err)
			}
			c.read = nil
			c.bytes[0] = []byte{0x19, 0}
			if samples, err := s.Read(t.Context()); err != nil || samples[0].Value != 25 {
				t.Errorf("%s afterwards: %v, %v", d.Name, samples, err)
			}
		})
	}
}

// A TMP102 clears its one-shot bit while it converts (§7.4.4).
func TestStillConverting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := chip(powerUp(lm75.TMP102), "\x19\x00")
		c.read = func(byte) { c.bytes[1][0] &= 0x7f }
		if samples, err := once(t, lm75.TMP102, c, nil); !errors.Is(err, sensors.ErrBusy) {
			t.Error(samples, err)
		}
	})
}

func TestSleepsWhenClosed(t *testing.T) {
	for d, want := range map[*sensors.Driver]string{&lm75.LM75: "\x01", &lm75.TMP102: "\x61\xa0", &lm75.TMP105: "\x61"} {
		synctest.Test(t, func(t *testing.T) {
			c := chip(powerUp(*d), "\x19\x00")
			if _, err := once(t, *d, c, nil); err != nil || string(c.bytes[1]) != want {
				t.Errorf("%s: configuration %x, %v; want %x", d.Name, c.bytes[1], err, want)
			}
		})
	}
}

// FuzzLM75 compares each driver with the formula: a two's complement whose first byte counts degrees.
func FuzzLM75(f *testing.F) {
	for _, raw := range []uint16{0, 0x1900, 0xff80, 0xffff, 0x7d00, 0x7d10, 0xc900, 0xc8f0} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw uint16) {
		for _, tc := range []struct {
			driver sensors.Driver
			bits   any
			step   float64
			spare  bool // undefined bits may be set
		}{{lm75.LM75, 9, 0.5, true}, {lm75.LM75, 11, 0.125, true}, {lm75.TMP102, nil, 0.0625, false}, {lm75.TMP105, nil, 0.0625, false}} {
			degrees := float64(raw) / 256
			if raw >= 0x8000 {
				degrees -= 256
			}
			steps := degrees / tc.step
			want := float64(int(steps+1e6)-1e6) * tc.step // rounded down
			legal := want >= -55 && want <= 125 && (tc.spare || want == degrees)
			synctest.Test(t, func(t *testing.T) {
				opts := map[string]any{}
				if tc.bits != nil {
					opts["bits"] = tc.bits
				}
				samples, err := once(t, tc.driver, chip(powerUp(tc.driver), string([]byte{byte(raw >> 8), byte(raw)})), opts)
				if (err == nil) != legal || err == nil && samples[0].Value != want {
					t.Errorf("%s %#04x: %v, %v; want %v, %v", tc.driver.Name, raw, samples, err, want, legal)
				}
			})
		}
	})
}
