// SPDX-License-Identifier: Apache-2.0

package scd4x_test

import (
	"context"
	"encoding/hex"
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
	"github.com/streembit/edge/sensors/scd4x"
	"github.com/streembit/edge/sensors/sensorstest"
	"github.com/streembit/edge/sensors/wire"
)

func TestContract(t *testing.T) {
	for _, options := range []map[string]any{nil, {"altitude": 1950}} {
		sensorstest.Run(t, sensorstest.Case{
			Driver:  scd4x.Driver,
			Options: options,
			Board:   func() *hal.Board { return sim.New(sim.Config{Seed: 1}) },
			Want:    []edge.Quantity{sensors.CO2, sensors.Temperature, sensors.Humidity},
		})
	}
}

func board(chip sim.Device) *hal.Board {
	bus := sim.NewBus(sim.I2CBus)
	bus.Attach(0x62, chip)
	return hal.NewBoard(hal.Wiring{I2C: []hal.Bus[i2c.BusCloser]{{Name: sim.I2CBus, Open: func() (i2c.BusCloser, error) { return bus, nil }}}})
}

// Each Read of the model is of a later time than the one before: nothing is given twice, and nothing is old.
func TestReadsEachMeasurementOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		co2 := func(now time.Time) float64 { return 400 + now.Sub(start).Seconds() }
		b := board(sim.NewSCD4x(time.Now, func(time.Time) sim.Air { return sim.Air{Celsius: 21.5, Percent: 44} }, co2))
		defer b.Close()
		s, err := scd4x.Driver.Connect(t.Context(), b, hal.Request{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		last := 0.0
		for i := range 6 {
			time.Sleep(time.Duration(i) * 7 * time.Second / 2) // without a pause, and with long ones
			samples, err := s.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			age := co2(time.Now()) - samples[0].Value*1e6
			if samples[0].Value <= last || age < -0.5 || age > 6.5 {
				t.Errorf("read %d: %v after %v, %v s old", i, samples[0].Value, last, age)
			}
			if math.Abs(samples[1].Value-21.5) > 0.005 || math.Abs(samples[2].Value-44) > 0.005 {
				t.Errorf("read %d: %v", i, samples[1:])
			}
			last = samples[0].Value
		}
	})
}

// A program that was killed left the chip measuring: Identify and Open find it all the same.
func TestOpensAChipThatMeasures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New(sim.Config{Seed: 1})
		defer b.Close()
		if _, err := scd4x.Driver.Connect(t.Context(), b, hal.Request{}, nil); err != nil {
			t.Fatal(err)
		}
		p, err := b.Port(hal.Request{Kind: hal.I2C, Addr: 0x62})
		if err != nil {
			t.Fatal(err)
		}
		if err := scd4x.Driver.Identify(t.Context(), p); err != nil {
			t.Error(err)
		}
		s, err := scd4x.Driver.Connect(t.Context(), b, hal.Request{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if samples, err := s.Read(t.Context()); err != nil || len(samples) != 3 {
			t.Error(samples, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := scd4x.Driver.Identify(t.Context(), p); err != nil { // idle: the serial number is read too
			t.Error(err)
		}
	})
}

// script answers commands with bytes; written holds all of them.
type script struct {
	answers map[string]string
	last    string
	written []string
}

func (s *script) Tx(w, r []byte) error {
	if len(w) > 0 {
		s.last = hex.EncodeToString(w)
		s.written = append(s.written, s.last)
	}
	b, err := hex.DecodeString(s.answers[s.last])
	if len(r) > 0 && (err != nil || len(b) != len(r)) {
		return sim.ErrNAK
	}
	copy(r, b)
	return nil
}

// sheet holds the examples of the data sheet: the serial number of §3.9.2 and the measurement of §3.5.2: 500 ppm, 25 °C, 37 %RH.
func sheet() map[string]string {
	return map[string]string{"3682": "f896319f07c23bbe89", "e4b8": "800681", "ec05": "01f4336667a25eb93c"}
}

func ready(words ...uint16) string {
	var b []byte
	for _, w := range words {
		b = append(b, byte(w>>8), byte(w))
		b = append(b, wire.CRC8(b[len(b)-2:]))
	}
	return hex.EncodeToString(b)
}

func TestDataSheet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chip := &script{answers: sheet()}
		chip.answers["e4b8"] = ready(0x8006)
		s, err := scd4x.Driver.Connect(t.Context(), board(chip), hal.Request{}, map[string]any{"altitude": 1950})
		if err != nil {
			t.Fatal(err)
		}
		samples, err := s.Read(t.Context())
		if err != nil || samples[0].Value != 0.0005 || math.Abs(samples[1].Value-25) > 0.005 || math.Abs(samples[2].Value-37) > 0.005 {
			t.Errorf("%v, %v; want 500 ppm, 25 °C, 37 %%RH", samples, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		// The altitude of §3.6.3: 1950 m are 0x079e with CRC 0x09.
		want := "e4b8 3682 3f86 3682 2427079e09 21b1 e4b8 ec05 3f86"
		if got := strings.Join(chip.written, " "); got != want {
			t.Errorf("wrote %s, want %s", got, want)
		}
	})
}

func TestRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		command, answer string
		cause           error
	}{
		"no CO2":               {"ec05", ready(0, 0x6667, 0x5eb9), sensors.ErrNoData},
		"too much CO2":         {"ec05", ready(40001, 0x6667, 0x5eb9), sensors.ErrRange},
		"too cold":             {"ec05", ready(500, 0x3300, 0x5eb9), sensors.ErrRange}, // -10.1 °C
		"too hot":              {"ec05", ready(500, 0x99ff, 0x5eb9), sensors.ErrRange}, // 60.3 °C
		"checksum of humidity": {"ec05", "01f4336667a25eb93d", sensors.ErrCRC},
		"never ready":          {"e4b8", ready(0x8000), sensors.ErrNoData},
		"status":               {"e4b8", "800600", sensors.ErrCRC},
	} {
		synctest.Test(t, func(t *testing.T) {
			chip := &script{answers: sheet()}
			chip.answers["e4b8"] = ready(0x8006)
			s, err := scd4x.Driver.Connect(t.Context(), board(chip), hal.Request{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			chip.answers[tc.command] = tc.answer
			if samples, err := s.Read(t.Context()); samples != nil || !errors.Is(err, tc.cause) {
				t.Errorf("%s: %v, %v; want %v", name, samples, err, tc.cause)
			}
		})
	}
}

func TestIdentifyRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		serial string
		cause  error
	}{"zeros with checksums": {ready(0, 0, 0), sensors.ErrNoData}, "checksum": {"f896319f07c23bbe88", sensors.ErrCRC}} {
		synctest.Test(t, func(t *testing.T) {
			chip := &script{answers: map[string]string{"e4b8": ready(0x8000), "3682": tc.serial}}
			p, err := board(chip).Port(hal.Request{Kind: hal.I2C, Addr: 0x62})
			if err != nil {
				t.Fatal(err)
			}
			if err := scd4x.Driver.Identify(t.Context(), p); !errors.Is(err, tc.cause) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

func TestAltitudeOption(t *testing.T) {
	for _, metres := range []any{-1, 3001, "1.5", "high"} {
		b := sim.New(sim.Config{Seed: 1})
		_, err := scd4x.Driver.Connect(context.Background(), b, hal.Request{}, map[string]any{"altitude": metres})
		if err == nil || !strings.Contains(err.Error(), "0 to 3000") {
			t.Errorf("%v: %v", metres, err)
		}
		b.Close()
	}
}

// FuzzSCD4x compares with the formulas of the data sheet in floating point.
func FuzzSCD4x(f *testing.F) {
	f.Add(uint16(500), uint16(0x6667), uint16(0x5eb9))
	f.Add(uint16(40000), uint16(0x3334), uint16(0xffff))
	f.Fuzz(func(t *testing.T, co2, rawT, rawH uint16) {
		synctest.Test(t, func(t *testing.T) {
			chip := &script{answers: sheet()}
			chip.answers["e4b8"], chip.answers["ec05"] = ready(0x8001), ready(co2, rawT, rawH)
			s, err := scd4x.Driver.Connect(t.Context(), board(chip), hal.Request{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			celsius, percent := -45+175*float64(rawT)/65535, 100*float64(rawH)/65535
			samples, err := s.Read(t.Context())
			legal := co2 > 0 && co2 <= 40000 && celsius >= -10 && celsius <= 60
			if legal != (err == nil) {
				t.Fatalf("%d ppm, %v °C: %v", co2, celsius, err)
			}
			if err == nil && (samples[0].Value != float64(co2)/1e6 || math.Abs(samples[1].Value-celsius) > 1e-8 || math.Abs(samples[2].Value-percent) > 1.1e-5) {
				t.Errorf("%d %d %d: %v, want %v °C, %v %%", co2, rawT, rawH, samples, celsius, percent)
			}
		})
	})
}
