// SPDX-License-Identifier: Apache-2.0

package ads1x15_test

import (
	"encoding/binary"
	"errors"
	"fmt"
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
	"github.com/streembit/edge/sensors/ads1x15"
	"github.com/streembit/edge/sensors/sensorstest"
)

func voltages(names ...string) (qs []edge.Quantity) {
	for _, n := range names {
		q := sensors.Voltage
		q.Name += "." + n
		qs = append(qs, q)
	}
	return qs
}

func TestContract(t *testing.T) {
	for _, tc := range []struct {
		driver  sensors.Driver
		addr    uint16
		options map[string]any
		want    []edge.Quantity
	}{
		{ads1x15.ADS1115, 0x48, map[string]any{"gain": 6.144}, voltages("0", "1", "2", "3")},
		{ads1x15.ADS1015, 0x49, map[string]any{"channels": "3, 0-1", "gain": 6.144}, voltages("3", "0-1")},
	} {
		sensorstest.Run(t, sensorstest.Case{
			Driver: tc.driver, At: hal.Request{Addr: tc.addr}, Options: tc.options, Want: tc.want,
			Board: func() *hal.Board { return sim.New(sim.Config{Seed: 1}) },
		})
	}
}

// The chip models were written apart from this package. The drivers agree with them within a step, and a clipped input is an error.
func TestReadsWhatTheChipMeasures(t *testing.T) {
	volts := [4]func(time.Time) float64{}
	for i, v := range []float64{0, 3.1416, 0.7071, 2.0001} {
		volts[i] = func(time.Time) float64 { return v }
	}
	want := map[string]float64{
		"voltage.0": 0, "voltage.1": 3.1416, "voltage.2": 0.7071, "voltage.3": 2.0001, "voltage.0-1": -3.1416, "voltage.0-3": -2.0001, "voltage.1-3": 1.1415, "voltage.2-3": -1.293,
	}
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct {
			driver sensors.Driver
			chip   sim.Device
			step   float64
		}{{ads1x15.ADS1115, sim.NewADS1115(time.Now, volts), 0.000125}, {ads1x15.ADS1015, sim.NewADS1015(time.Now, volts), 0.002}} {
			samples, err := once(t, tc.driver, tc.chip, map[string]any{"channels": "0,1,2,3,0-1,0-3,1-3,2-3"})
			if err != nil || len(samples) != len(want) {
				t.Errorf("%s: %v, %v", tc.driver.Name, samples, err)
			}
			for _, s := range samples {
				if math.Abs(s.Value-want[s.Name]) > tc.step {
					t.Errorf("%s: %+v, want %v", tc.driver.Name, s, want[s.Name])
				}
			}
			if samples, err := once(t, tc.driver, tc.chip, map[string]any{"gain": 2.048}); !errors.Is(err, sensors.ErrRange) || !strings.Contains(err.Error(), "input 1") {
				t.Errorf("%s with 3.1 V in a range of 2 V: %v, %v", tc.driver.Name, samples, err)
			}
		}
	})
}

// registers is a chip with one code for each state of the multiplexer. A conversion is done at once, unless busy says for how many reads of the
// configuration it is not.
type registers struct {
	words [4]uint16
	codes [8]uint16
	busy  int
	read  func(reg byte) // may change what is read next
}

func chip() *registers { return &registers{words: [4]uint16{0, 0x8583, 0x8000, 0x7fff}} }

func (c *registers) Tx(w, r []byte) error {
	reg := w[0] & 3
	if len(w) == 3 {
		c.words[reg] = binary.BigEndian.Uint16(w[1:])
		if reg == 1 && c.words[1]&0x8100 == 0x8100 {
			c.words[0] = c.codes[c.words[1]>>12&7]
		}
	}
	if len(r) == 0 {
		return nil
	}
	if c.read != nil {
		c.read(reg)
	}
	value := c.words[reg]
	if reg == 1 && c.busy > 0 {
		c.busy--
		value &= 0x7fff
	}
	binary.BigEndian.PutUint16(r, value)
	return nil
}

func connect(t *testing.T, d sensors.Driver, c sim.Device, opts map[string]any) (sensors.Sensor, error) {
	t.Helper()
	bus := sim.NewBus(sim.I2CBus)
	bus.Attach(0x48, c)
	b := hal.NewBoard(hal.Wiring{I2C: []hal.Bus[i2c.BusCloser]{{Name: sim.I2CBus, Open: func() (i2c.BusCloser, error) { return bus, nil }}}})
	t.Cleanup(func() { b.Close() })
	return d.Connect(t.Context(), b, hal.Request{}, opts)
}

func once(t *testing.T, d sensors.Driver, c sim.Device, opts map[string]any) ([]edge.Sample, error) {
	t.Helper()
	s, err := connect(t, d, c, opts)
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

// Steps from the data sheets' tables of ranges: 187.5, 125, 62.5, 31.25, 15.625, 7.8125 µV (SBAS444) and 3, 2, 1, 0.5, 0.25, 0.125 mV
// (SBAS473), and the codes next to the ends.
func TestValues(t *testing.T) {
	for _, tc := range []struct {
		driver sensors.Driver
		gain   string
		code   uint16
		want   float64
		cause  error
	}{
		{ads1x15.ADS1115, "6.144", 1, 187.5e-6, nil}, {ads1x15.ADS1115, "4.096", 1, 125e-6, nil}, {ads1x15.ADS1115, "2.048", 0xffff, -62.5e-6, nil},
		{ads1x15.ADS1115, "1.024", 1, 31.25e-6, nil}, {ads1x15.ADS1115, "0.512", 1, 15.625e-6, nil}, {ads1x15.ADS1115, "0.256", 1024, 0.008, nil},
		{ads1x15.ADS1115, "4.096", 0, 0, nil}, {ads1x15.ADS1115, "4.096", 0x4000, 2.048, nil}, {ads1x15.ADS1115, "4.096", 0xc000, -2.048, nil},
		{ads1x15.ADS1115, "2.048", 0x7fff, 0, sensors.ErrRange}, {ads1x15.ADS1115, "2.048", 0x8000, 0, sensors.ErrRange},
		{ads1x15.ADS1115, "2.048", 0x7ffe, 2.048 * 32766 / 32768, nil},
		{ads1x15.ADS1015, "6.144", 0x0010, 0.003, nil}, {ads1x15.ADS1015, "4.096", 0x0010, 0.002, nil}, {ads1x15.ADS1015, "2.048", 0xfff0, -0.001, nil},
		{ads1x15.ADS1015, "1.024", 0x0010, 0.0005, nil}, {ads1x15.ADS1015, "0.512", 0x0010, 0.00025, nil}, {ads1x15.ADS1015, "0.256", 0x0010, 0.000125, nil},
		{ads1x15.ADS1015, "4.096", 0x7ff0, 0, sensors.ErrRange}, {ads1x15.ADS1015, "4.096", 0x8000, 0, sensors.ErrRange},
		{ads1x15.ADS1015, "4.096", 0x7fe0, 4.096 * 2046 / 2048, nil}, {ads1x15.ADS1015, "4.096", 0x1234, 0, sensors.ErrWrongChip},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := chip()
			c.codes[4] = tc.code // AIN0
			samples, err := once(t, tc.driver, c, map[string]any{"channels": 0, "gain": tc.gain})
			if !errors.Is(err, tc.cause) || err == nil && math.Abs(samples[0].Value-tc.want) > 1e-9 {
				t.Errorf("%s %s %#04x: %v, %v; want %v, %v", tc.driver.Name, tc.gain, tc.code, samples, err, tc.want, tc.cause)
			}
		})
	}
}

// Each input is taken from its own state of the multiplexer (§8.6.3, MUX), in the order of the option.
func TestChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := chip()
		for i := range c.codes {
			c.codes[i] = uint16(i+1) * 8000 >> 1 // 0.5 V each at 4.096 V
		}
		samples, err := once(t, ads1x15.ADS1115, c, map[string]any{"channels": "3,0,2-3,1-3,0-3,0-1"})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]float64{"voltage.3": 4, "voltage.0": 2.5, "voltage.2-3": 2, "voltage.1-3": 1.5, "voltage.0-3": 1, "voltage.0-1": 0.5}
		for i, s := range samples {
			if s.Value != want[s.Name] || s.Unit != "V" || i == 0 && s.Name != "voltage.3" {
				t.Errorf("%+v, want %v", s, want[s.Name])
			}
		}
		if len(samples) != len(want) {
			t.Error(samples)
		}
		if c.words[1] != 0x0583 {
			t.Errorf("after Close the configuration is %#04x, want single shot, nothing begun", c.words[1])
		}
	})
	for _, channels := range []any{"", "4", "0,0", "1-0", "0,", "a"} {
		if _, err := connect(t, ads1x15.ADS1115, chip(), map[string]any{"channels": channels}); err == nil || !strings.Contains(err.Error(), "channels") {
			t.Errorf("channels %q: %v", channels, err)
		}
	}
}

func TestRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(c *registers)
		cause  error
		says   string
	}{
		"stuck low":                {func(c *registers) { c.words = [4]uint16{} }, sensors.ErrNoData, "wiring"},
		"an LM75":                  {func(c *registers) { c.words = [4]uint16{0x1900, 0, 0x4b00, 0x5000} }, sensors.ErrWrongChip, "0x4b00 and 0x5000"},
		"always busy":              {func(c *registers) { c.busy = math.MaxInt }, sensors.ErrBusy, "input 0"},
		"supply dips":              {func(c *registers) { c.read = dip(1, func() { c.words = chip().words }) }, sensors.ErrWrongChip, "0x8583"},
		"supply dips, later":       {func(c *registers) { c.read = dip(0, func() { c.words = chip().words }) }, sensors.ErrWrongChip, "0x8583"},
		"stuck during conversion":  {func(c *registers) { c.read = dip(1, func() { c.words = [4]uint16{} }) }, sensors.ErrNoData, "0x0000"},
		"stuck at the conversion":  {func(c *registers) { c.read = dip(0, func() { c.words = [4]uint16{} }) }, sensors.ErrNoData, "0x0000"},
		"another master's setting": {func(c *registers) { c.read = dip(1, func() { c.words[1] = 0xf583 }) }, sensors.ErrWrongChip, "0xf583"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := chip()
				tc.change(c)
				samples, err := once(t, ads1x15.ADS1115, c, nil)
				if !errors.Is(err, tc.cause) || samples != nil || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), "ads1115") {
					t.Errorf("%v, %v; want %v and %q", samples, err, tc.cause, tc.says)
				}
			})
		})
	}
}

// dip does something when a register is read.
func dip(reg byte, do func()) func(byte) {
	return func(r byte) {
		if r == reg {
			do()
		}
	}
}

// A slow clock is waited for.
func TestWaitsForTheConversion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := chip()
		c.codes[4], c.busy = 8000, 3
		if samples, err := once(t, ads1x15.ADS1115, c, map[string]any{"channels": "0"}); err != nil || samples[0].Value != 1 || c.busy != 0 {
			t.Error(samples, err, c.busy)
		}
	})
}

// FuzzADS1x15 compares the drivers with the formula in floating point: code by 2¹⁵, as a two's complement, times the range.
func FuzzADS1x15(f *testing.F) {
	for _, code := range []uint16{0, 1, 0x7fff, 0x7ff0, 0x8000, 0x8010, 0xffff, 0xfff0} {
		f.Add(code, uint8(code))
	}
	f.Fuzz(func(t *testing.T, code uint16, pick uint8) {
		gain := []float64{6.144, 4.096, 2.048, 1.024, 0.512, 0.256}[pick%6]
		fraction := float64(code) / 32768
		if fraction >= 1 {
			fraction -= 2
		}
		for d, top := range map[*sensors.Driver]float64{&ads1x15.ADS1115: 32767. / 32768, &ads1x15.ADS1015: 2047. / 2048} {
			synctest.Test(t, func(t *testing.T) {
				c := chip()
				c.codes[4] = code
				samples, err := once(t, *d, c, map[string]any{"channels": "0", "gain": fmt.Sprint(gain)})
				legal := fraction > -1 && fraction < top && (d == &ads1x15.ADS1115 || code%16 == 0)
				if (err == nil) != legal || err == nil && math.Abs(samples[0].Value-fraction*gain) > 1e-9 {
					t.Errorf("%s %v %#04x: %v, %v; want %v, %v", d.Name, gain, code, samples, err, fraction*gain, legal)
				}
			})
		}
	})
}
