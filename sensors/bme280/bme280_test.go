// SPDX-License-Identifier: Apache-2.0

package bme280_test

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
	"github.com/streembit/edge/sensors/bme280"
	"github.com/streembit/edge/sensors/sensorstest"
)

func TestContract(t *testing.T) {
	for _, addr := range []uint16{0, 0x76} {
		sensorstest.Run(t, sensorstest.Case{
			Driver: bme280.Driver,
			At:     hal.Request{Addr: addr},
			Board:  func() *hal.Board { return sim.New(sim.Config{Seed: 1}) },
			Want:   []edge.Quantity{sensors.Temperature, sensors.Humidity, sensors.Pressure},
		})
	}
}

// board has one chip model, or none, with air that a test decides.
func board(chip sim.Device) *hal.Board {
	bus := sim.NewBus(sim.I2CBus)
	bus.Attach(sim.BME280Address, chip)
	return hal.NewBoard(hal.Wiring{I2C: []hal.Bus[i2c.BusCloser]{{Name: sim.I2CBus, Open: func() (i2c.BusCloser, error) { return bus, nil }}}})
}

// The chip model computes with the data sheet's floating-point formulas, the driver with the integer ones.
func TestReadsWhatTheAirIs(t *testing.T) {
	for _, air := range []sim.Air{
		{Celsius: 25.08, Pascal: 100653.27, Percent: 41.5},
		{Celsius: -39.5, Pascal: 30500, Percent: 5},
		{Celsius: 84.5, Pascal: 109500, Percent: 95},
		{Celsius: 0, Pascal: 101325, Percent: 60},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := board(sim.NewBME280(time.Now, func(time.Time) sim.Air { return air }))
			defer b.Close()
			s, err := bme280.Driver.Connect(t.Context(), b, hal.Request{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			samples, err := s.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []struct{ value, tolerance float64 }{{air.Celsius, 0.011}, {air.Percent, 0.03}, {air.Pascal, 1}} {
				if math.Abs(samples[i].Value-want.value) > want.tolerance {
					t.Errorf("%s %v, want %v ± %v", samples[i].Name, samples[i].Value, want.value, want.tolerance)
				}
			}
		})
	}
}

func TestSleepsWhenClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := board(sim.NewBME280(time.Now, sim.Weather{}.At))
		defer b.Close()
		s, err := bme280.Driver.Connect(t.Context(), b, hal.Request{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		p, err := b.Port(hal.Request{Kind: hal.I2C, Addr: sim.BME280Address})
		if err != nil {
			t.Fatal(err)
		}
		var ctrl [1]byte
		if err := p.I2C.Tx(t.Context(), []byte{0xf4}, ctrl[:]); err != nil || ctrl[0]&3 != 0 {
			t.Errorf("ctrl_meas = %#x, %v; want sleep mode", ctrl[0], err)
		}
	})
}

// registers is a chip that has an id and reads one byte everywhere else.
type registers struct{ id, other byte }

func (c registers) Tx(w, r []byte) error {
	for i := range r {
		r[i] = c.other
		if w[0]+byte(i) == 0xd0 {
			r[i] = c.id
		}
	}
	return nil
}

func TestRefusesWrongChips(t *testing.T) {
	for name, tc := range map[string]struct {
		chip  sim.Device
		cause error
		says  string
	}{
		"nothing there":     {nil, sim.ErrNAK, "/dev/i2c-1 address 0x76"},
		"BMP280":            {registers{0x58, 0}, sensors.ErrWrongChip, "BMP280"},
		"other chip":        {registers{0x61, 0}, sensors.ErrWrongChip, "0x61"},
		"stuck high":        {registers{0xff, 0xff}, sensors.ErrNoData, "0xff"},
		"stuck low":         {registers{0, 0}, sensors.ErrNoData, "wiring"},
		"always busy":       {registers{0x60, 0x01}, sensors.ErrBusy, "busy"},
		"empty calibration": {registers{0x60, 0}, sensors.ErrNoData, "calibration"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := board(tc.chip)
				defer b.Close()
				_, err := bme280.Driver.Connect(t.Context(), b, hal.Request{}, nil)
				if !errors.Is(err, tc.cause) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), "bme280") {
					t.Errorf("%v; want %v and %q", err, tc.cause, tc.says)
				}
			})
		})
	}
}

// oracle is the calibration for the double-precision formulas of the data sheet (§8.1).
type oracle struct {
	t1, t2, t3     float64
	p              [10]float64
	h1, h2, h3, h4 float64
	h5, h6         float64
}

func (o oracle) air(rawT, rawP, rawH float64) (celsius, percent, pascal float64) {
	v1 := (rawT/16384 - o.t1/1024) * o.t2
	v2 := (rawT/131072 - o.t1/8192) * (rawT/131072 - o.t1/8192) * o.t3
	fine := v1 + v2
	celsius = fine / 5120

	v1 = fine/2 - 64000
	v2 = v1 * v1 * o.p[6] / 32768
	v2 += v1 * o.p[5] * 2
	v2 = v2/4 + o.p[4]*65536
	v1 = (o.p[3]*v1*v1/524288 + o.p[2]*v1) / 524288
	v1 = (1 + v1/32768) * o.p[1]
	if v1 == 0 {
		return celsius, 0, 0
	}
	pascal = (1048576 - rawP - v2/4096) * 6250 / v1
	v1 = o.p[9] * pascal * pascal / 2147483648
	v2 = pascal * o.p[8] / 32768
	pascal += (v1 + v2 + o.p[7]) / 16

	h := fine - 76800
	h = (rawH - (o.h4*64 + o.h5/16384*h)) * (o.h2 / 65536 * (1 + o.h6/67108864*h*(1+o.h3/67108864*h)))
	h *= 1 - o.h1*h/524288
	return celsius, min(max(h, 0), 100), pascal
}

// registers packs the calibration as the chip holds it (§4.2.2).
func (o oracle) registers() (first [26]byte, second [7]byte) {
	put := func(i int, v float64) { binary.LittleEndian.PutUint16(first[i:], uint16(int32(v))) }
	put(0, o.t1)
	put(2, o.t2)
	put(4, o.t3)
	for i := 1; i <= 9; i++ {
		put(4+2*i, o.p[i])
	}
	first[25] = byte(o.h1)
	h4, h5 := int(o.h4), int(o.h5)
	binary.LittleEndian.PutUint16(second[:], uint16(int32(o.h2)))
	second[2], second[3], second[4], second[5], second[6] = byte(o.h3), byte(h4>>4), byte(h4&0xf|h5&0xf<<4), byte(h5>>4), byte(int8(o.h6))
	return first, second
}

// example is the calibration of Bosch's worked example (BST-BMP280-DS001 §3.12, the same circuit) with typical humidity values.
var example = oracle{
	t1: 27504, t2: 26435, t3: -1000,
	p:  [10]float64{0, 36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000},
	h1: 75, h2: 362, h3: 0, h4: 315, h5: 50, h6: 30,
}

func pack(rawT, rawP uint32, rawH uint16) [8]byte {
	return [8]byte{byte(rawP >> 12), byte(rawP >> 4), byte(rawP << 4), byte(rawT >> 12), byte(rawT >> 4), byte(rawT << 4), byte(rawH >> 8), byte(rawH)}
}

// The worked example: raw temperature 519888 and pressure 415148 give 25.08 °C and 100653.27 Pa.
func TestWorkedExample(t *testing.T) {
	samples, err := bme280.NewDecoder(example.registers()).Samples(pack(519888, 415148, 30000))
	if err != nil {
		t.Fatal(err)
	}
	if samples[0].Value != 25.08 {
		t.Errorf("temperature %v, want 25.08", samples[0].Value)
	}
	if math.Abs(samples[2].Value-100653.27) > 0.05 {
		t.Errorf("pressure %v, want 100653.27", samples[2].Value)
	}
	if samples[0].Quantity != sensors.Temperature || samples[1].Quantity != sensors.Humidity || samples[2].Quantity != sensors.Pressure {
		t.Errorf("%+v", samples)
	}
}

func TestRefusesWhatIsNoMeasurement(t *testing.T) {
	d := bme280.NewDecoder(example.registers())
	for name, tc := range map[string]struct {
		data  [8]byte
		cause error
	}{
		"ones":              {[8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, sensors.ErrNoData},
		"zeros":             {[8]byte{}, sensors.ErrNoData},
		"nothing measured":  {pack(0x80000, 0x80000, 0x8000), sensors.ErrNoData},
		"no temperature":    {pack(0x80000, 0x80000, 30000), sensors.ErrNoData},
		"cold":              {pack(1, 415148, 30000), sensors.ErrRange},
		"hot":               {pack(0xffff0, 415148, 30000), sensors.ErrRange},
		"pressure too high": {pack(519888, 1, 30000), sensors.ErrRange},
		"vacuum":            {pack(519888, 0xfffff, 30000), sensors.ErrRange},
	} {
		if samples, err := d.Samples(tc.data); !errors.Is(err, tc.cause) || samples != nil {
			t.Errorf("%s: %v, %v; want %v", name, samples, err, tc.cause)
		}
	}
}

// FuzzBME280 compares the integer formulas with the floating-point ones over raw values and the spread of real chips' calibrations.
func FuzzBME280(f *testing.F) {
	f.Add(uint32(519888), uint32(415148), uint16(30000), int16(0), int16(0), int16(0), int8(0))
	f.Add(uint32(400000), uint32(300000), uint16(20000), int16(500), int16(-300), int16(20), int8(-5))
	f.Fuzz(func(t *testing.T, rawT, rawP uint32, rawH uint16, dT, dP, dH int16, dh int8) {
		rawT, rawP = rawT&0xfffff, rawP&0xfffff
		o := example
		o.t1 += float64(dT % 1000)
		o.t2 += float64(dP % 500)
		o.p[1] += float64(dP % 1500)
		o.p[2] += float64(dT % 200)
		o.p[4] += float64(dH % 3000)
		o.h1 += float64(dh / 8)
		o.h2 += float64(dH % 30)
		o.h4 += float64(dh / 4)
		o.h5 += float64(dh / 4) // may become small or negative
		celsius, percent, pascal := o.air(float64(rawT), float64(rawP), float64(rawH))
		samples, err := bme280.NewDecoder(o.registers()).Samples(pack(rawT, rawP, rawH))
		if err != nil {
			skipped := rawP == 0x80000 && (rawT == 0x80000 || rawH == 0x8000)
			inside := celsius > -39.98 && celsius < 84.98 && pascal > 30010 && pascal < 109990
			if inside && !skipped {
				t.Fatalf("refused %v °C, %v %%, %v Pa: %v", celsius, percent, pascal, err)
			}
			return
		}
		for i, want := range []struct{ value, tolerance float64 }{{celsius, 0.011}, {percent, 0.1}, {pascal, 2}} {
			if math.Abs(samples[i].Value-want.value) > want.tolerance {
				t.Errorf("raw %d %d %d: %s %v, the floating-point formula %v", rawT, rawP, rawH, samples[i].Name, samples[i].Value, want.value)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	d := bme280.NewDecoder(example.registers())
	data := pack(519888, 415148, 30000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Samples(data); err != nil {
			b.Fatal(err)
		}
	}
}
