// SPDX-License-Identifier: Apache-2.0

package bh1750_test

import (
	"bytes"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/bh1750"
	"github.com/streembit/edge/sensors/sensorstest"
)

const dark = "0 lx is 0 counts (p. 2, S0), and the chip has no register but the result"

func TestContract(t *testing.T) {
	for _, sensitivity := range []string{"dark", "normal", "bright"} {
		t.Run(sensitivity, func(t *testing.T) {
			sensorstest.Run(t, sensorstest.Case{
				Driver:     bh1750.Driver,
				Options:    map[string]any{"sensitivity": sensitivity},
				Board:      func() *hal.Board { return sim.New(sim.Config{Seed: 1}) },
				Want:       []edge.Quantity{sensors.Illuminance},
				ZerosLegal: dark,
			})
		})
	}
}

// script answers measurements with counts in turn, and notes the opcodes. A measurement takes as long as the chip may.
type script struct {
	counts  []uint16
	opcodes []byte
	mtreg   time.Duration
	ready   time.Time
}

func (s *script) Tx(w, r []byte) error {
	switch {
	case len(w) == 1 && len(r) == 0: // one opcode a transaction (p. 10)
		s.opcodes = append(s.opcodes, w[0])
		switch {
		case w[0]&0xf8 == 0x40:
			s.mtreg = s.mtreg&0x1f | time.Duration(w[0]&7)<<5
		case w[0]&0xe0 == 0x60:
			s.mtreg = s.mtreg&0xe0 | time.Duration(w[0]&0x1f)
		case w[0] == 0x20 || w[0] == 0x21:
			s.ready = time.Now().Add(180 * time.Millisecond * s.mtreg / 69)
		}
		return nil
	case len(w) == 0 && len(r) == 2 && !time.Now().Before(s.ready):
		r[0], r[1] = byte(s.counts[0]>>8), byte(s.counts[0])
		s.counts = s.counts[1:]
		return nil
	}
	return errors.New("this is not how a BH1750 is used")
}

func connect(t *testing.T, chip *script, sensitivity string) sensors.Sensor {
	t.Helper()
	bus := sim.NewBus(sim.I2CBus)
	bus.Attach(0x23, chip)
	b := hal.NewBoard(hal.Wiring{I2C: []hal.Bus[i2c.BusCloser]{{Name: sim.I2CBus, Open: func() (i2c.BusCloser, error) { return bus, nil }}}})
	chip.counts = append([]uint16{1}, chip.counts...) // what open measures
	s, err := bh1750.Driver.Connect(t.Context(), b, hal.Request{}, map[string]any{"sensitivity": sensitivity})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The example of the data sheet is 0x8390 (p. 10): 28067 lx. The others are its formulas (p. 11) at the ends of the counter.
func TestValues(t *testing.T) {
	for _, tc := range []struct {
		sensitivity string
		counts      []uint16
		want        float64
	}{
		{"normal", []uint16{0x8390}, 28066.667},
		{"normal", []uint16{1}, 0.833},
		{"normal", []uint16{0}, 0},
		{"normal", []uint16{0xfffe}, 54611.667},
		{"normal", []uint16{0xffff, 31000}, 57500},   // 31000 / 1.2 × 69 / 31
		{"bright", []uint16{0xfffe}, 121555},         // 65534 / 1.2 × 69 / 31
		{"dark", []uint16{1}, 0.113},                 // 1 / 1.2 × 69 / 254 / 2
		{"dark", []uint16{0xffff, 0xffff, 31}, 57.5}, // 31 / 1.2 × 69 / 31
		{"dark", []uint16{0xffff, 0xc000}, 40960},    // 49152 / 1.2
		{"dark", []uint16{0xfffe}, 7417.726},         // 65534 / 1.2 × 69 / 254 / 2
	} {
		synctest.Test(t, func(t *testing.T) {
			s := connect(t, &script{counts: tc.counts}, tc.sensitivity)
			samples, err := s.Read(t.Context())
			if err != nil || samples[0].Value != tc.want {
				t.Errorf("%s, counts %d: %v, %v; want %v", tc.sensitivity, tc.counts, samples, err, tc.want)
			}
		})
	}
}

func TestTooBright(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := connect(t, &script{counts: []uint16{0xffff, 0xffff, 0xffff}}, "dark")
		if samples, err := s.Read(t.Context()); samples != nil || !errors.Is(err, sensors.ErrRange) {
			t.Errorf("%v, %v", samples, err)
		}
	})
}

// MTreg goes along with each measurement, and Close leaves the chip powered down, not reset.
func TestOpcodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chip := &script{counts: []uint16{5}}
		s := connect(t, chip, "dark")
		if _, err := s.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if want := []byte{0x47, 0x7e, 0x21, 0x47, 0x7e, 0x21, 0x00}; !bytes.Equal(chip.opcodes, want) {
			t.Errorf("% x, want % x", chip.opcodes, want)
		}
	})
}

// FuzzBH1750 compares with the data sheet's formula in floating point.
func FuzzBH1750(f *testing.F) {
	f.Add(uint16(0x8390), uint8(1))
	f.Add(uint16(1), uint8(0))
	f.Fuzz(func(t *testing.T, count uint16, which uint8) {
		if count == 0xffff {
			return
		}
		mode := []struct {
			name          string
			mtreg, counts float64
		}{{"dark", 254, 2}, {"normal", 69, 1}, {"bright", 31, 1}}[which%3]
		synctest.Test(t, func(t *testing.T) {
			samples, err := connect(t, &script{counts: []uint16{count}}, mode.name).Read(t.Context())
			if want := float64(count) / 1.2 * (69 / mode.mtreg) / mode.counts; err != nil || math.Abs(samples[0].Value-want) > 0.000501 {
				t.Errorf("%s, count %d: %v, %v; want %v", mode.name, count, samples, err, want)
			}
		})
	})
}
