// SPDX-License-Identifier: Apache-2.0

package bmp280_test

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/bmp280"
	"github.com/streembit/edge/sensors/bmxx80"
	"github.com/streembit/edge/sensors/sensorstest"
)

func TestContract(t *testing.T) {
	sensorstest.Run(t, sensorstest.Case{
		Driver: bmp280.Driver,
		At:     hal.Request{Addr: 0x77},
		Board:  func() *hal.Board { return sim.New(sim.Config{Seed: 1}) },
		Want:   []edge.Quantity{sensors.Temperature, sensors.Pressure},
	})
}

// board has one chip at 0x76.
func board(chip sim.Device) *hal.Board {
	bus := sim.NewBus(sim.I2CBus)
	bus.Attach(0x76, chip)
	return hal.NewBoard(hal.Wiring{I2C: []hal.Bus[i2c.BusCloser]{{Name: sim.I2CBus, Open: func() (i2c.BusCloser, error) { return bus, nil }}}})
}

// The chip model computes with the data sheet's floating-point formulas, the driver with the integer ones. Closed, the chip sleeps.
func TestReadsWhatTheAirIs(t *testing.T) {
	for _, air := range []sim.Air{
		{Celsius: 25.08, Pascal: 100653.27}, {Celsius: -39.5, Pascal: 30500}, {Celsius: 84.5, Pascal: 109500}, {Celsius: 0, Pascal: 101325},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := board(sim.NewBMP280(time.Now, func(time.Time) sim.Air { return air }))
			defer b.Close()
			s, err := bmp280.Driver.Connect(t.Context(), b, hal.Request{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			samples, err := s.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []struct{ value, tolerance float64 }{{air.Celsius, 0.011}, {air.Pascal, 1.4}} {
				if math.Abs(samples[i].Value-want.value) > want.tolerance {
					t.Errorf("%s %v, want %v ± %v", samples[i].Name, samples[i].Value, want.value, want.tolerance)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			p, err := b.Port(hal.Request{Kind: hal.I2C, Addr: 0x76})
			if err != nil {
				t.Fatal(err)
			}
			var ctrl [1]byte
			if err := p.I2C.Tx(t.Context(), []byte{0xf4}, ctrl[:]); err != nil || ctrl[0]&3 != 0 {
				t.Errorf("ctrl_meas = %#x, %v; want sleep mode", ctrl[0], err)
			}
		})
	}
}

// registers is a chip with one id that is never busy and reads one byte everywhere else.
type registers struct{ id, other byte }

func (c registers) Tx(w, r []byte) error {
	for i := range r {
		switch w[0] + byte(i) {
		case 0xd0:
			r[i] = c.id
		case 0xf3:
			r[i] = 0
		default:
			r[i] = c.other
		}
	}
	return nil
}

func TestIdentifies(t *testing.T) {
	for id, want := range map[byte]error{
		0x56: nil, 0x57: nil, 0x58: nil, 0x60: sensors.ErrWrongChip, 0x61: sensors.ErrWrongChip, 0x42: sensors.ErrWrongChip,
		0: sensors.ErrNoData, 0xff: sensors.ErrNoData,
	} {
		synctest.Test(t, func(t *testing.T) {
			b := board(registers{id, 0x55})
			defer b.Close()
			p, err := b.Port(hal.Request{Kind: hal.I2C, Addr: 0x76})
			if err != nil {
				t.Fatal(err)
			}
			if err := bmp280.Driver.Identify(t.Context(), p); !errors.Is(err, want) {
				t.Errorf("id %#x: %v, want %v", id, err, want)
			}
			s, err := bmp280.Driver.Connect(t.Context(), b, hal.Request{}, nil)
			if !errors.Is(err, want) || err != nil && !strings.Contains(err.Error(), "bmp280") {
				t.Errorf("id %#x: %v, want %v", id, err, want)
			}
			if s != nil {
				s.Close()
			}
		})
	}
}

// trim packs a calibration as the chip holds it (§3.11.2): dig_T1…T3, dig_P1…P9.
func trim(k [12]float64) (b [26]byte) {
	for i, v := range k {
		binary.LittleEndian.PutUint16(b[2*i:], uint16(int32(v)))
	}
	return b
}

// example is that of the data sheet's worked example (§3.12): raw 519888 and 415148 give 25.08 °C and 100653.27 Pa.
var example = [12]float64{27504, 26435, -1000, 36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000}

func pack(rawT, rawP uint32) [6]byte {
	return [6]byte{byte(rawP >> 12), byte(rawP >> 4), byte(rawP << 4), byte(rawT >> 12), byte(rawT >> 4), byte(rawT << 4)}
}

func TestWorkedExample(t *testing.T) {
	k := bmxx80.Parse(trim(example))
	air, err := k.Air(pack(519888, 415148))
	if err != nil || air.Fine != 128422 || air.Temperature != physic.ZeroCelsius+25080*physic.MilliKelvin {
		t.Errorf("%+v, %v; want t_fine 128422 and 25.08 °C", air, err)
	}
	if pascal := float64(air.Pressure) / 1e9; math.Abs(pascal-100653.27) > 0.05 {
		t.Errorf("%v Pa, want 100653.27", pascal)
	}
}

// oracle is the double-precision formula of the data sheet (§8.1).
func oracle(k [12]float64, rawT, rawP float64) (celsius, pascal float64) {
	v1 := (rawT/16384 - k[0]/1024) * k[1]
	v2 := (rawT/131072 - k[0]/8192) * (rawT/131072 - k[0]/8192) * k[2]
	fine := v1 + v2
	p := func(i int) float64 { return k[2+i] }
	v1 = fine/2 - 64000
	v2 = v1*v1*p(6)/32768 + v1*p(5)*2
	v2 = v2/4 + p(4)*65536
	v1 = (p(3)*v1*v1/524288 + p(2)*v1) / 524288
	v1 = (1 + v1/32768) * p(1)
	if v1 == 0 {
		return fine / 5120, 0
	}
	pascal = (1048576 - rawP - v2/4096) * 6250 / v1
	return fine / 5120, pascal + (p(9)*pascal*pascal/2147483648+pascal*p(8)/32768+p(7))/16
}

func FuzzBMP280(f *testing.F) {
	f.Add(uint32(519888), uint32(415148), int16(0), int16(0))
	f.Add(uint32(400000), uint32(300000), int16(500), int16(-300))
	f.Fuzz(func(t *testing.T, rawT, rawP uint32, dT, dP int16) {
		rawT, rawP = rawT&0xfffff, rawP&0xfffff
		o := example
		o[0] += float64(dT % 1000)
		o[1] += float64(dP % 500)
		o[3] += float64(dP % 1500)
		o[4] += float64(dT % 200)
		o[6] += float64(dP % 3000)
		celsius, pascal := oracle(o, float64(rawT), float64(rawP))
		k := bmxx80.Parse(trim(o))
		air, err := k.Air(pack(rawT, rawP))
		if err != nil {
			inside := celsius > -39.98 && celsius < 84.98 && pascal > 30010 && pascal < 109990
			if inside && (rawT != 0x80000 || rawP != 0x80000) {
				t.Fatalf("refused %v °C, %v Pa: %v", celsius, pascal, err)
			}
			return
		}
		if got := sensors.Celsius(air.Temperature).Value; math.Abs(got-celsius) > 0.011 {
			t.Errorf("raw %d: %v °C, the floating-point formula %v", rawT, got, celsius)
		}
		if got := sensors.Pascals(air.Pressure).Value; math.Abs(got-pascal) > 2 {
			t.Errorf("raw %d %d: %v Pa, the floating-point formula %v", rawT, rawP, got, pascal)
		}
	})
}
