// SPDX-License-Identifier: Apache-2.0

package aht20_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/aht20"
	"github.com/streembit/edge/sensors/sensorstest"
	"github.com/streembit/edge/sensors/wire"
)

func TestContract(t *testing.T) {
	sensorstest.Run(t, sensorstest.Case{
		Driver: aht20.Driver,
		At:     hal.Request{Addr: sim.AHT20Address},
		Board:  func() *hal.Board { return sim.New(sim.Config{Seed: 1}) },
		Want:   []edge.Quantity{sensors.Temperature, sensors.Humidity},
	})
}

// board has one chip.
func board(chip sim.Device) *hal.Board {
	bus := sim.NewBus(sim.I2CBus)
	bus.Attach(sim.AHT20Address, chip)
	return hal.NewBoard(hal.Wiring{I2C: []hal.Bus[i2c.BusCloser]{{Name: sim.I2CBus, Open: func() (i2c.BusCloser, error) { return bus, nil }}}})
}

// strict is a chip that must not be spoken to when it cannot answer: package hal would try again and so hide a wait that is too short.
type strict struct {
	t    *testing.T
	chip sim.Device
	from time.Time // when it has powered up
}

func newStrict(t *testing.T, chip sim.Device) *strict {
	return &strict{t, chip, time.Now().Add(100 * time.Millisecond)}
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

// The chip model and the driver were written from the data sheets by different people.
func TestReadsWhatTheAirIs(t *testing.T) {
	for _, air := range []sim.Air{{Celsius: 25, Percent: 40}, {Celsius: -39.9, Percent: 0.1}, {Celsius: 84.9, Percent: 99.9}, {Celsius: 0, Percent: 60}} {
		synctest.Test(t, func(t *testing.T) {
			b := board(newStrict(t, sim.NewAHT20(time.Now, func(time.Time) sim.Air { return air })))
			defer b.Close()
			s, err := aht20.Driver.Connect(t.Context(), b, hal.Request{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			samples, err := s.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []float64{air.Celsius, air.Percent} {
				if math.Abs(samples[i].Value-want) > 0.0002 { // a step is 0.00019 °C, 0.0001 %RH
					t.Errorf("%s %v, want %v", samples[i].Name, samples[i].Value, want)
				}
			}
		})
	}
}

// pack makes what the chip sends (DHT20 data sheet §7.4, 8.1).
func pack(status byte, rawH, rawT uint32) [7]byte {
	b := [7]byte{status, byte(rawH >> 12), byte(rawH >> 4), byte(rawH<<4) | byte(rawT>>16&0xf), byte(rawT >> 8), byte(rawT)}
	b[6] = wire.CRC8(b[:6])
	return b
}

// What two real chips sent, as their users published it with the values (the wiki of elixir-sensors/aht20; the README of
// peff74/Arduino-code-for-AHT20_BMP280), and the ends of the range.
func TestValues(t *testing.T) {
	for _, tc := range []struct {
		data             [7]byte
		celsius, percent float64
		cause            error
	}{
		{[7]byte{0x1c, 0x26, 0x9a, 0x76, 0x42, 0xe7, 0x76}, 28.26671, 15.0794, nil},
		{[7]byte{0x18, 0x93, 0xac, 0x95, 0x2a, 0xc5, 0xb3}, 14.58835, 57.68518, nil},
		{[7]byte{0x18, 0x93, 0xac, 0x95, 0x2a, 0xc5, 0xb2}, 0, 0, sensors.ErrCRC},
		{[7]byte{0x18, 0x93, 0xac, 0x95, 0x2a, 0xc4, 0xb3}, 0, 0, sensors.ErrCRC},
		{pack(0x18, 1<<19, 1<<18), 0, 50, nil},
		{pack(0x18, 0, 52429), -40, 0, nil},
		{pack(0x18, 0, 52428), 0, 0, sensors.ErrRange},
		{pack(0x18, 1<<20-1, 707788), 85, 100, nil},
		{pack(0x18, 1<<20-1, 707789), 0, 0, sensors.ErrRange},
		{pack(0x10, 1<<19, 1<<18), 0, 0, sensors.ErrNoData},
		{[7]byte{}, 0, 0, sensors.ErrNoData},
		{[7]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 0, 0, sensors.ErrNoData},
	} {
		samples, err := aht20.Decode(tc.data)
		if !errors.Is(err, tc.cause) {
			t.Errorf("%x: %v, want %v", tc.data, err, tc.cause)
		}
		if err == nil && (math.Abs(samples[0].Value-tc.celsius) > 0.0002 || math.Abs(samples[1].Value-tc.percent) > 0.0002) {
			t.Errorf("%x: %v, want %v and %v", tc.data, samples, tc.celsius, tc.percent)
		}
	}
}

// script is a chip that answers reads in turn, the last one forever, and notes what is written.
type script struct {
	reads []string // hexadecimal
	wrote []string
}

func (c *script) Tx(w, r []byte) error {
	if len(w) > 0 {
		c.wrote = append(c.wrote, hex.EncodeToString(w))
	}
	if len(r) > 0 {
		data, err := hex.DecodeString(c.reads[0])
		if copy(r, data); len(c.reads) > 1 {
			c.reads = c.reads[1:]
		}
		return err
	}
	return nil
}

const (
	idle     = "18000000000000"
	measured = "1893ac952ac5b3"
	busy     = "9893ac952ac5b3"
)

func TestOpens(t *testing.T) {
	const initialise, measure = "be0800", "ac3300"
	for name, tc := range map[string]struct {
		reads []string
		wrote []string
		cause error
	}{
		"calibrated":      {[]string{idle, measured}, []string{measure}, nil},
		"not calibrated":  {[]string{"10000000000000", measured}, []string{initialise, measure}, nil},
		"cannot be":       {[]string{"10000000000000", fmt.Sprintf("%x", pack(0x10, 1<<19, 1<<18))}, []string{initialise, measure}, sensors.ErrNoData},
		"slow":            {[]string{idle, busy, busy, measured}, []string{measure}, nil},
		"never ends":      {[]string{idle, busy}, []string{measure}, sensors.ErrBusy},
		"busy before":     {[]string{busy}, nil, sensors.ErrBusy},
		"expander":        {[]string{"18181818181818"}, nil, sensors.ErrWrongChip},
		"high":            {[]string{"ffffffffffffff"}, nil, sensors.ErrNoData},
		"low":             {[]string{"00000000000000"}, nil, sensors.ErrNoData},
		"low later":       {[]string{idle, "00000000000000"}, []string{measure}, sensors.ErrNoData},
		"high later":      {[]string{idle, "ffffffffffffff"}, []string{measure}, sensors.ErrNoData},
		"no measurements": {[]string{idle}, []string{measure}, sensors.ErrCRC},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &script{reads: tc.reads}
				s, err := aht20.Driver.Connect(t.Context(), board(c), hal.Request{}, nil)
				if !errors.Is(err, tc.cause) || (s == nil) != (tc.cause != nil) || err != nil && !strings.Contains(err.Error(), "aht20") {
					t.Errorf("%v, want %v", err, tc.cause)
				}
				if !slices.Equal(c.wrote, tc.wrote) {
					t.Errorf("it wrote %v, want %v", c.wrote, tc.wrote)
				}
			})
		})
	}
}

func TestIdentify(t *testing.T) {
	for data, cause := range map[string]error{
		idle: nil, measured: nil, "1c000000000000": nil, busy: sensors.ErrBusy, "10000000000000": sensors.ErrWrongChip,
		"38000000000000": sensors.ErrWrongChip, "58000000000000": sensors.ErrWrongChip, "18181818181818": sensors.ErrWrongChip,
		"ffffffffffffff": sensors.ErrNoData, "00000000000000": sensors.ErrNoData,
	} {
		synctest.Test(t, func(t *testing.T) {
			c := &script{reads: []string{data}}
			p, err := board(c).Port(hal.Request{Kind: hal.I2C, Addr: sim.AHT20Address})
			if err != nil {
				t.Fatal(err)
			}
			if err := aht20.Driver.Identify(t.Context(), p); !errors.Is(err, cause) || len(c.wrote) > 0 {
				t.Errorf("%s: %v, want %v; wrote %v, want nothing", data, err, cause, c.wrote)
			}
		})
	}
}

// The formulas of §8.1 and 8.2 with floating point.
func FuzzAHT20(f *testing.F) {
	f.Add(uint32(1<<19), uint32(1<<18))
	f.Add(uint32(0), uint32(52429))
	f.Add(uint32(1<<20-1), uint32(707788))
	f.Fuzz(func(t *testing.T, rawH, rawT uint32) {
		rawH, rawT = rawH&0xfffff, rawT&0xfffff
		celsius, percent := float64(rawT)/1048576*200-50, float64(rawH)/1048576*100
		samples, err := aht20.Decode(pack(0x18, rawH, rawT))
		if inside := celsius >= -40 && celsius <= 85; inside != (err == nil) {
			t.Fatalf("%v °C: %v", celsius, err)
		}
		if err == nil && (math.Abs(samples[0].Value-celsius) > 1e-8 || math.Abs(samples[1].Value-percent) > 1e-5) {
			t.Errorf("%v, want %v and %v", samples, celsius, percent)
		}
	})
}
