// SPDX-License-Identifier: Apache-2.0

package ina219_test

import (
	"encoding/binary"
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
	"github.com/streembit/edge/sensors/ina219"
	"github.com/streembit/edge/sensors/sensorstest"
)

func TestContract(t *testing.T) {
	sensorstest.Run(t, sensorstest.Case{
		Driver: ina219.Driver,
		Board:  func() *hal.Board { return sim.New(sim.Config{Seed: 1}) },
		Want:   []edge.Quantity{sensors.Voltage, sensors.Current, sensors.Power},
	})
}

// The chip model was written apart from this package. Both agree within a step; currents flow both ways, and too large ones are errors.
func TestReadsWhatTheChipMeasures(t *testing.T) {
	for _, tc := range []struct{ volts, amps float64 }{{12.6, 1.2345}, {3.3, -0.5678}, {0, 0}, {25.9, 3.19}, {5, -3.19}, {5, 3.5}, {5, -9}} {
		synctest.Test(t, func(t *testing.T) {
			samples, err := once(t, sim.NewINA219(time.Now, func(time.Time) (float64, float64) { return tc.volts, tc.amps }, 0.1), nil)
			if math.Abs(tc.amps) > 3.2 {
				if !errors.Is(err, sensors.ErrRange) {
					t.Errorf("%+v: %v, %v", tc, samples, err)
				}
				return
			}
			if err != nil {
				t.Fatalf("%+v: %v", tc, err)
			}
			for i, want := range []struct{ value, tolerance float64 }{{tc.volts, 0.004}, {tc.amps, 0.0003}, {tc.volts * tc.amps, 0.0003*tc.volts + 0.004*math.Abs(tc.amps)}} {
				if math.Abs(samples[i].Value-want.value) > want.tolerance {
					t.Errorf("%+v: %+v", tc, samples[i])
				}
			}
		})
	}
}

// registers is a chip with a bus voltage in steps of 4 mV and a shunt voltage in steps of 10 µV. It computes the current as the data sheet
// says (equation 4) when a conversion is triggered, and clips the shunt voltage at its range.
type registers struct {
	words  [6]uint16
	bus    uint16
	shunt  int
	busy   int                             // reads of the bus voltage until it is ready
	before func(reg byte, write bool) bool // true: the transaction has no effect
}

func chip(bus uint16, shunt int) *registers {
	return &registers{words: [6]uint16{0x399f}, bus: bus, shunt: shunt}
}

func (c *registers) Tx(w, r []byte) error {
	reg := w[0]
	if c.before != nil && c.before(reg, len(w) > 1) {
		return nil
	}
	if len(w) == 3 {
		c.words[reg] = binary.BigEndian.Uint16(w[1:])
		c.words[5] &^= 1
		if reg == 0 && c.words[0]&7 == 3 {
			c.convert()
		}
	}
	if len(r) == 2 {
		value := c.words[reg]
		if reg == 2 && c.busy > 0 {
			c.busy--
			value &^= 2
		}
		binary.BigEndian.PutUint16(r, value)
	}
	return nil
}

func (c *registers) convert() {
	limit := 4000 << (c.words[0] >> 11 & 3)
	current := min(max(c.shunt, -limit), limit) * int(c.words[5]) / 4096
	c.words[2] = c.bus<<3 | 2
	if current > 32767 || current < -32768 {
		c.words[2] |= 1
	}
	c.words[4] = uint16(current)
}

func connect(t *testing.T, c sim.Device, opts map[string]any) (sensors.Sensor, error) {
	t.Helper()
	bus := sim.NewBus(sim.I2CBus)
	bus.Attach(0x40, c)
	b := hal.NewBoard(hal.Wiring{I2C: []hal.Bus[i2c.BusCloser]{{Name: sim.I2CBus, Open: func() (i2c.BusCloser, error) { return bus, nil }}}})
	t.Cleanup(func() { b.Close() })
	return ina219.Driver.Connect(t.Context(), b, hal.Request{}, opts)
}

func once(t *testing.T, c sim.Device, opts map[string]any) ([]edge.Sample, error) {
	t.Helper()
	s, err := connect(t, c, opts)
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

// The data sheet's example (§9.2.2.3, register results): 2 mΩ, calibration 0x5000, 20 mV over the shunt and 11.98 V give a current register of 0x2710,
// 10 A, and 119.8 W. A current step of 1 mA is 32.768 A / 2¹⁵.
func TestWorkedExample(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := chip(0x5d98>>3, 2000)
		samples, err := once(t, c, map[string]any{"shunt-ohms": 0.002, "max-amps": 32.768})
		if err != nil {
			t.Fatal(err)
		}
		if c.words[5] != 0x5000 || c.words[4] != 0x2710 {
			t.Errorf("calibration %#04x, current register %#04x", c.words[5], c.words[4])
		}
		for i, want := range []float64{11.98, 10, 119.8} {
			if samples[i].Value != want {
				t.Errorf("%s %v, want %v", samples[i].Name, samples[i].Value, want)
			}
		}
		if c.words[0]&7 != 0 {
			t.Errorf("after Close the configuration is %#04x, want powered down", c.words[0])
		}
	})
}

func TestValues(t *testing.T) {
	for name, tc := range map[string]struct {
		opts           map[string]any
		bus            uint16
		shunt          int
		config         uint16 // range bits
		volts, current float64
		cause          error
	}{
		"nothing":           {nil, 0, 0, 3, 0, 0, nil},
		"1 A":               {nil, 3000, 10000, 3, 12, 1, nil},
		"charging":          {nil, 3000, -10000, 3, 12, -1, nil},
		"smallest":          {nil, 1, 1, 3, 0.004, 0.0001, nil},
		"40 mV":             {map[string]any{"max-amps": 0.4}, 825, 3999, 0, 3.3, 0.3999, nil},
		"80 mV":             {map[string]any{"max-amps": "0.8"}, 825, -7999, 1, 3.3, -0.7999, nil},
		"160 mV":            {map[string]any{"max-amps": 1}, 825, 9999, 2, 3.3, 0.9999, nil},
		"10 mΩ":             {map[string]any{"shunt-ohms": 0.01, "max-amps": 1}, 825, 100, 0, 3.3, 0.1, nil},
		"range's end":       {nil, 825, 32000, 3, 0, 0, sensors.ErrRange},
		"range's other end": {nil, 825, -40000, 3, 0, 0, sensors.ErrRange},
		"beyond max-amps":   {map[string]any{"max-amps": 1}, 825, 11000, 2, 0, 0, sensors.ErrRange},
		"no such voltage":   {nil, 8001, 100, 3, 0, 0, sensors.ErrRange},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := chip(3000, 100)
				s, err := connect(t, c, tc.opts)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				c.bus, c.shunt = tc.bus, tc.shunt
				samples, err := s.Read(t.Context())
				if c.words[0]>>11&7 != 4|tc.config {
					t.Errorf("configuration %#04x", c.words[0])
				}
				if !errors.Is(err, tc.cause) || err != nil != (samples == nil) {
					t.Fatalf("%v, %v; want %v", samples, err, tc.cause)
				}
				for i, want := range []float64{tc.volts, tc.current, tc.volts * tc.current} {
					if err == nil && math.Abs(samples[i].Value-want) > 0.0001*max(1, tc.volts) {
						t.Errorf("%s %v, want %v", samples[i].Name, samples[i].Value, want)
					}
				}
			})
		})
	}
}

func TestOptions(t *testing.T) {
	for _, opts := range []map[string]any{
		{"shunt-ohms": 0}, {"shunt-ohms": "x"}, {"shunt-ohms": "NaN"}, {"shunt-ohms": 11}, {"shunt-ohms": -0.1},
		{"max-amps": 0}, {"max-amps": -1}, {"max-amps": "NaN"}, {"max-amps": "Inf"}, {"max-amps": 3.3}, {"shunt-ohms": 1},
	} {
		if _, err := connect(t, chip(0, 0), opts); err == nil || !strings.Contains(err.Error(), "option ") || !strings.Contains(err.Error(), "ina219") {
			t.Errorf("%v: %v", opts, err)
		}
	}
}

func TestRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		chip   func() *registers
		before func(c *registers) func(reg byte, write bool) bool
		cause  error
		says   string
	}{
		"stuck low":      {func() *registers { return &registers{} }, nil, sensors.ErrNoData, "wiring"},
		"an INA226":      {func() *registers { return &registers{words: [6]uint16{0x4127}} }, nil, sensors.ErrWrongChip, "0x4127"},
		"always busy":    {func() *registers { c := chip(0, 0); c.busy = math.MaxInt; return c }, nil, sensors.ErrBusy, "busy"},
		"no calibration": {func() *registers { return chip(0, 0) }, func(*registers) func(byte, bool) bool { return func(r byte, w bool) bool { return w && r == 5 } }, sensors.ErrNoData, "calibration"},
		"supply dips": {func() *registers { return chip(3000, 100) }, func(c *registers) func(byte, bool) bool {
			return func(r byte, w bool) bool {
				if !w && r == 4 {
					c.words = [6]uint16{0x399f}
				}
				return false
			}
		}, sensors.ErrNoData, "calibration 0x0000"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := tc.chip()
				if tc.before != nil {
					c.before = tc.before(c)
				}
				samples, err := once(t, c, nil)
				if !errors.Is(err, tc.cause) || samples != nil || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), "ina219") {
					t.Errorf("%v, %v; want %v and %q", samples, err, tc.cause, tc.says)
				}
			})
		})
	}
}

// After a dip of the supply the calibration is 0 (§8.6.4.1); the next Read writes it again.
func TestRecalibrates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := chip(3000, 10000)
		s, err := connect(t, c, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		c.words = [6]uint16{0x399f}
		c.busy = 3
		if samples, err := s.Read(t.Context()); err != nil || math.Abs(samples[1].Value-1) > 0.0001 || c.busy != 0 {
			t.Error(samples, err, c.busy)
		}
	})
}

// FuzzINA219 compares the driver with Ohm's law: shunt voltage by resistance, within a step of the current register.
func FuzzINA219(f *testing.F) {
	f.Add(uint16(3000), int16(1000), uint32(100_000), uint32(3_200_000))
	f.Add(uint16(2995), int16(2000), uint32(2000), uint32(32_768_000))
	f.Add(uint16(8000), int16(-32000), uint32(10_000_000), uint32(1000))
	f.Add(uint16(8001), int16(3), uint32(100), uint32(100_000_000))
	f.Fuzz(func(t *testing.T, bus uint16, shunt int16, microOhms, microAmps uint32) {
		bus &= 0x1fff
		microOhms = 100 + microOhms%9_999_901
		ohms, amps := float64(microOhms)/1e6, max(0.001, float64(1+microAmps)/1e6) // the least that the option takes
		if ohms*amps > 0.32 {
			amps = 0.32 / ohms
		}
		volts, current := float64(bus)*0.004, float64(shunt)*1e-5/ohms
		top := 0.04
		for top < ohms*amps*(1-1e-9) {
			top *= 2
		}
		scale := max(amps, 0.02048/ohms) // the calibration has 16 bits
		synctest.Test(t, func(t *testing.T) {
			c := chip(0, 0)
			s, err := connect(t, c, map[string]any{"shunt-ohms": ohms, "max-amps": amps})
			if err != nil {
				t.Fatal(ohms, amps, err)
			}
			defer s.Close()
			c.bus, c.shunt = bus, int(shunt)
			samples, err := s.Read(t.Context())
			if err != nil {
				inside := volts <= 32 && math.Abs(current) < 0.998*min(scale, top/ohms)
				if !errors.Is(err, sensors.ErrRange) || inside {
					t.Fatalf("%v V, %v A of %v, %v Ω: %v", volts, current, amps, ohms, err)
				}
				return
			}
			if volts > 32 || math.Abs(current) > 1.002*min(scale, top/ohms) {
				t.Fatalf("%v V, %v A of %v, %v Ω was taken: %v", volts, current, amps, ohms, samples)
			}
			step := scale / 16384
			for i, want := range []struct{ value, tolerance float64 }{{volts, 1e-9}, {current, step}, {volts * current, step*volts + 1e-8}} {
				if math.Abs(samples[i].Value-want.value) > want.tolerance {
					t.Errorf("%v V, %v A of %v, %v Ω: %+v", volts, current, amps, ohms, samples[i])
				}
			}
		})
	})
}
