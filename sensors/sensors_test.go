// SPDX-License-Identifier: Apache-2.0

package sensors_test

import (
	"context"
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"

	"periph.io/x/conn/v3/physic"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
	"github.com/streembit/edge/sensors"
)

func TestUnitsAreExact(t *testing.T) {
	for _, tc := range []struct {
		got  edge.Sample
		q    edge.Quantity
		want float64
	}{
		{sensors.Celsius(physic.ZeroCelsius), sensors.Temperature, 0},
		{sensors.Celsius(physic.ZeroCelsius + 25_080*physic.MilliKelvin), sensors.Temperature, 25.08},
		{sensors.Celsius(physic.ZeroCelsius - 40*physic.Kelvin), sensors.Temperature, -40},
		{sensors.Celsius(0), sensors.Temperature, -273.15},
		{sensors.Celsius(physic.ZeroCelsius + physic.NanoKelvin), sensors.Temperature, 1e-9},
		{sensors.RelativeHumidity(38*physic.PercentRH + 2*physic.MilliRH), sensors.Humidity, 38.2},
		{sensors.RelativeHumidity(100 * physic.PercentRH), sensors.Humidity, 100},
		{sensors.RelativeHumidity(1), sensors.Humidity, 0.00001},
		{sensors.Pascals(100_653_250 * physic.MilliPascal), sensors.Pressure, 100653.25},
		{sensors.Volts(-3_300 * physic.MilliVolt), sensors.Voltage, -3.3},
		{sensors.Amperes(physic.NanoAmpere), sensors.Current, 1e-9},
		{sensors.Watts(1500 * physic.Watt), sensors.Power, 1500},
		{sensors.Lux(830), sensors.Illuminance, 0.83},
		{sensors.CarbonDioxide(412), sensors.CO2, 412e-6},
		{sensors.On(sensors.Contact, true), sensors.Contact, 1},
		{sensors.On(sensors.Contact, false), sensors.Contact, 0},
		{sensors.Of(sensors.Uptime, 1.5), sensors.Uptime, 1.5},
	} {
		if tc.got.Quantity != tc.q || tc.got.Value != tc.want {
			t.Errorf("%+v, want %v of %+v", tc.got, tc.want, tc.q)
		}
		if err := (edge.Reading{Sensor: "a", Sample: tc.got}).Validate(); err != nil {
			t.Error(err)
		}
	}
}

// FuzzCelsius compares with rational arithmetic: below 2⁵³ nK the result is the float64 that is nearest to the true value.
func FuzzCelsius(f *testing.F) {
	f.Add(int64(physic.ZeroCelsius))
	f.Add(int64(298_230_000_001))
	f.Fuzz(func(t *testing.T, nanoKelvin int64) {
		if nanoKelvin < 0 || nanoKelvin > 1<<53 {
			return
		}
		want, _ := new(big.Rat).Sub(big.NewRat(nanoKelvin, 1e9), big.NewRat(27315, 100)).Float64()
		if got := sensors.Celsius(physic.Temperature(nanoKelvin)).Value; got != want {
			t.Errorf("%d nK: %v, want %v", nanoKelvin, got, want)
		}
	})
}

// FuzzRelativeHumidity guards against the overflow of an int32 on the way (15.6 % instead of 38.2 %).
func FuzzRelativeHumidity(f *testing.F) {
	f.Add(int32(3_820_000))
	f.Fuzz(func(t *testing.T, raw int32) {
		got := sensors.RelativeHumidity(physic.RelativeHumidity(raw)).Value
		if want := float64(raw) / 1e5; math.Abs(got-want) > 1e-9 {
			t.Errorf("%d: %v, want %v", raw, got, want)
		}
	})
}

type nothing struct{}

func (nothing) Read(context.Context) ([]edge.Sample, error) { return nil, nil }
func (nothing) Close() error                                { return nil }

func TestConnect(t *testing.T) {
	var port hal.Port
	var settings map[string]string
	d := sensors.Driver{
		Name: "probe", Bus: hal.I2C, Addrs: []uint16{0x76, 0x77},
		Options: []sensors.Option{{Name: "mode", Default: "fast", Allowed: []string{"fast", "true", "5"}}, {Name: "gain", Default: "1"}},
		Open: func(_ context.Context, p hal.Port, opts map[string]string) (sensors.Sensor, error) {
			port, settings = p, opts
			return nothing{}, nil
		},
	}
	board := sim.New(sim.Config{})
	defer board.Close()
	for name, tc := range map[string]struct {
		at   hal.Request
		opts map[string]any
		says string // "" = it connects
		mode string
	}{
		"defaults":     {hal.Request{}, nil, "", "fast"},
		"address":      {hal.Request{Addr: 0x77, Bus: "1"}, map[string]any{"gain": 2.5}, "", "fast"},
		"boolean":      {hal.Request{}, map[string]any{"mode": true}, "", "true"},
		"number":       {hal.Request{}, map[string]any{"mode": int64(5)}, "", "5"},
		"bad address":  {hal.Request{Addr: 0x40}, nil, "address 0x40", ""},
		"bad bus":      {hal.Request{Bus: "i2c-7"}, nil, "which has /dev/i2c-1", ""},
		"pin on I2C":   {hal.Request{Pin: "GPIO4"}, nil, "leave pin out", ""},
		"unknown":      {hal.Request{}, map[string]any{"speed": 1}, `option "speed" is unknown: it has mode, gain`, ""},
		"not a choice": {hal.Request{}, map[string]any{"mode": "slow"}, "use one of fast, true, 5", ""},
	} {
		_, err := d.Connect(t.Context(), board, tc.at, tc.opts)
		if tc.says != "" {
			if err == nil || !strings.Contains(err.Error(), "probe") || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%s: %v; want it to say %q", name, err, tc.says)
			}
			continue
		}
		if err != nil || settings["mode"] != tc.mode || port.I2C == nil || port.Root == "" || port.Files == nil {
			t.Errorf("%s: %v, %v, %+v", name, err, settings, port)
		}
	}
	if err := d.Check(hal.Request{Addr: 0x40}, nil); err == nil || !strings.Contains(err.Error(), "probe") {
		t.Errorf("Check: %v", err)
	}
	if err := d.Check(hal.Request{Bus: "i2c-7"}, nil); err != nil { // only the board knows its buses
		t.Errorf("Check: %v", err)
	}
	line := sensors.Driver{Name: "line", Bus: hal.GPIO}
	for _, at := range []hal.Request{{}, {Pin: "GPIO4", Addr: 0x40}} {
		if err := line.Check(at, nil); err == nil {
			t.Errorf("Check took %+v for a GPIO line", at)
		}
	}
	if _, err := d.Connect(t.Context(), board, hal.Request{Bus: "i2c-7"}, nil); !errors.Is(err, hal.ErrNoBus) {
		t.Errorf("a missing bus: %v", err)
	}
}

func TestCanMeasure(t *testing.T) {
	d := sensors.Driver{Measures: []edge.Quantity{sensors.Temperature}}
	family, other, unit := sensors.Temperature, sensors.Temperature, sensors.Temperature
	family.Name, other.Name, unit.Unit = "temperature.cpu", "temperatures", "K"
	if !d.CanMeasure(sensors.Temperature) || !d.CanMeasure(family) || d.CanMeasure(other) || d.CanMeasure(unit) {
		t.Error("CanMeasure takes the wrong quantities")
	}
}
