// SPDX-License-Identifier: Apache-2.0

package mcp9808_test

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
	"github.com/streembit/edge/sensors/mcp9808"
	"github.com/streembit/edge/sensors/sensorstest"
)

func TestContract(t *testing.T) {
	sensorstest.Run(t, sensorstest.Case{
		Driver: mcp9808.Driver,
		Board:  func() *hal.Board { return sim.New(sim.Config{Seed: 1}) },
		Want:   []edge.Quantity{sensors.Temperature},
	})
}

// The chip model was written apart from this package. Both agree within a step, also at the ends of the range.
func TestReadsWhatTheChipMeasures(t *testing.T) {
	for _, celsius := range []float64{-40, -20.04, -0.3, -0.01, 0, 0.2, 21.63, 124.97} {
		synctest.Test(t, func(t *testing.T) {
			samples, err := once(t, sim.NewMCP9808(time.Now, func(time.Time) float64 { return celsius }))
			if err != nil || math.Abs(samples[0].Value-celsius) > 0.0625 {
				t.Errorf("at %v °C: %v, %v", celsius, samples, err)
			}
		})
	}
}

// What Read returns was measured after it was called: nothing of the last measurement is left.
func TestReadsAfresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		jump := time.Now().Add(time.Minute)
		s, err := connect(t, sim.NewMCP9808(time.Now, func(now time.Time) float64 {
			if now.Before(jump) {
				return 20
			}
			return 30
		}))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, want := range []float64{20, 30} {
			if samples, err := s.Read(t.Context()); err != nil || samples[0].Value != want {
				t.Error(samples, err, want)
			}
			time.Sleep(time.Until(jump))
		}
	})
}

// registers is a chip that keeps what is written. read, if it is there, may change what is read next.
type registers struct {
	bytes map[byte]string
	read  func(reg byte)
}

func chip(maker, device, temperature string) *registers {
	return &registers{bytes: map[byte]string{5: temperature, 6: maker, 7: device, 8: "\x02"}}
}

func (c *registers) Tx(w, r []byte) error {
	if len(w) > 1 {
		c.bytes[w[0]] = string(w[1:])
	}
	if c.read != nil && len(r) > 0 {
		c.read(w[0])
	}
	copy(r, c.bytes[w[0]])
	return nil
}

func connect(t *testing.T, c sim.Device) (sensors.Sensor, error) {
	t.Helper()
	bus := sim.NewBus(sim.I2CBus)
	bus.Attach(0x18, c)
	b := hal.NewBoard(hal.Wiring{I2C: []hal.Bus[i2c.BusCloser]{{Name: sim.I2CBus, Open: func() (i2c.BusCloser, error) { return bus, nil }}}})
	t.Cleanup(func() { b.Close() })
	return mcp9808.Driver.Connect(t.Context(), b, hal.Request{}, nil)
}

func once(t *testing.T, c sim.Device) ([]edge.Sample, error) {
	t.Helper()
	s, err := connect(t, c)
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

// The data sheet's worked formula (§5.1.3.1, 0xc194 is 25.25 °C with two alert flags), negative values, and the ends of the range.
func TestValues(t *testing.T) {
	for _, tc := range []struct {
		register string
		want     float64
		cause    error
	}{
		{"\xc1\x94", 25.25, nil}, {"\x01\x94", 25.25, nil}, {"\x00\x00", 0, nil}, {"\x1f\xff", -0.0625, nil}, {"\xff\xff", -0.0625, nil},
		{"\x07\xd0", 125, nil}, {"\x3d\x80", -40, nil}, {"\x1e\x6c", -25.25, nil},
		{"\x07\xd1", 0, sensors.ErrRange}, {"\x1d\x7f", 0, sensors.ErrRange},
	} {
		synctest.Test(t, func(t *testing.T) {
			samples, err := once(t, chip("\x00\x54", "\x04\x00", tc.register))
			if !errors.Is(err, tc.cause) || err == nil && samples[0].Value != tc.want {
				t.Errorf("%x: %v, %v; want %v, %v", tc.register, samples, err, tc.want, tc.cause)
			}
		})
	}
}

func TestRefusesWrongChips(t *testing.T) {
	for name, tc := range map[string]struct {
		chip  sim.Device
		cause error
		says  string
	}{
		"nothing there": {nil, sim.ErrNAK, "address 0x18"},
		"MCP9804":       {chip("\x00\x54", "\x02\x00", ""), sensors.ErrWrongChip, "0x0200"},
		"other maker":   {chip("\x11\xd4", "\x04\x00", ""), sensors.ErrWrongChip, "0x11d4"},
		"stuck low":     {chip("\x00\x00", "\x00\x00", "\x00\x00"), sensors.ErrNoData, "wiring"},
		"stuck high":    {chip("\xff\xff", "\xff\xff", "\xff\xff"), sensors.ErrNoData, "0xffff"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				samples, err := once(t, tc.chip)
				if !errors.Is(err, tc.cause) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), "mcp9808") {
					t.Errorf("%v, %v; want %v and %q", samples, err, tc.cause, tc.says)
				}
			})
		})
	}
}

// Open sets the finest resolution; the chip sleeps between reads and converts during one only.
func TestSleepsBetweenReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := chip("\x00\x54", "\x04\x00", "\x01\x94")
		s, err := connect(t, c)
		if err != nil {
			t.Fatal(err)
		}
		if c.bytes[8] != "\x03" || c.bytes[1] != "\x01\x00" {
			t.Errorf("after Open: resolution %x, configuration %x", c.bytes[8], c.bytes[1])
		}
		running := false
		c.read = func(reg byte) { running = running || reg == 5 && c.bytes[1] == "\x00\x00" }
		if _, err := s.Read(t.Context()); err != nil || !running || c.bytes[1] != "\x01\x00" {
			t.Errorf("after Read: configuration %x, had run: %v, %v", c.bytes[1], running, err)
		}
		c.bytes[1] = "\x00\x00"
		if err := s.Close(); err != nil || c.bytes[1] != "\x01\x00" {
			t.Errorf("after Close: configuration %x, %v", c.bytes[1], err)
		}
	})
}

// FuzzMCP9808 compares the driver with the formula of §5.1.3.1: the upper byte without flags times 16 plus the lower one by 16, minus 256 if negative.
func FuzzMCP9808(f *testing.F) {
	for _, raw := range []uint16{0, 0xc194, 0x1fff, 0x1d80, 0x1d7f, 0x07d0, 0x07d1, 0xffff} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw uint16) {
		high, low := float64(raw>>8&0x0f), float64(raw&0xff)
		want := high*16 + low/16
		if raw&0x1000 != 0 {
			want -= 256
		}
		synctest.Test(t, func(t *testing.T) {
			samples, err := once(t, chip("\x00\x54", "\x04\x00", string([]byte{byte(raw >> 8), byte(raw)})))
			if legal := want >= -40 && want <= 125; (err == nil) != legal || err == nil && samples[0].Value != want {
				t.Errorf("%#04x: %v, %v; want %v, %v", raw, samples, err, want, legal)
			}
		})
	})
}
