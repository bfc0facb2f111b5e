// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/streembit/edge/hal/sim"
)

// values are what the chips measure: by name the fixed ones, and for the others what the weather gives. Safe for concurrent use.
type values struct {
	weather sim.Weather
	mu      sync.Mutex
	fixed   map[string]float64
}

// usual are the values with -fixed, and the names that "set" takes.
func usual() map[string]float64 {
	return map[string]float64{
		"celsius": 21.6, "pascal": 100653, "percent": 47.5, "lux": 412, "co2": 640,
		"volts0": 1.234, "volts1": 0.5, "volts2": 1.8, "volts3": 0.02,
		"volts": 12.6, "amperes": 0.75, "inputs": 0b10100101,
	}
}

// set fixes one value.
func (v *values) set(name string, to float64) error {
	if _, ok := usual()[name]; !ok {
		return fmt.Errorf("there is no value %q, there are %s", name, slices.Sorted(maps.Keys(usual())))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.fixed[name] = to
	return nil
}

// of returns a value as a function of time: the fixed one, else what live gives.
func (v *values) of(name string, live func(time.Time) float64) func(time.Time) float64 {
	return func(t time.Time) float64 {
		v.mu.Lock()
		x, ok := v.fixed[name]
		v.mu.Unlock()
		if ok || live == nil {
			return x
		}
		return live(t)
	}
}

func (v *values) celsius() func(time.Time) float64 {
	return v.of("celsius", func(t time.Time) float64 { return v.weather.At(t).Celsius })
}

func (v *values) air(t time.Time) sim.Air {
	live := v.weather.At(t)
	constant := func(x float64) func(time.Time) float64 { return func(time.Time) float64 { return x } }
	return sim.Air{
		Celsius: v.of("celsius", constant(live.Celsius))(t),
		Pascal:  v.of("pascal", constant(live.Pascal))(t),
		Percent: v.of("percent", constant(live.Percent))(t),
	}
}

// Addresses of what only this bus has; the others are where hal/sim has them.
const (
	ds2482Address = 0x1b
	thermometer   = 0x000005e2fdc3 // serial number of the DS18B20 behind it
	shunt         = 0.1            // ohms, of the INA219
)

// populate puts every chip model on the bus.
func populate(bus *sim.Bus, now func() time.Time, v *values) {
	inputs := v.of("inputs", func(time.Time) float64 { return 0xff })
	levels := func(t time.Time) byte { return byte(inputs(t)) }
	battery := func(t time.Time) (volts, amperes float64) {
		volts, amperes = v.weather.Battery(t)
		constant := func(x float64) func(time.Time) float64 { return func(time.Time) float64 { return x } }
		return v.of("volts", constant(volts))(t), v.of("amperes", constant(amperes))(t)
	}
	var channels [4]func(time.Time) float64
	for i := range channels {
		channels[i] = v.of(fmt.Sprintf("volts%d", i), func(t time.Time) float64 {
			volts, _ := v.weather.Battery(t)
			return volts / float64(4+i)
		})
	}
	for addr, chip := range map[uint16]sim.Device{
		0x18: sim.NewMCP9808(now, v.celsius()), 0x20: sim.NewPCF8574(now, levels), 0x21: sim.NewPCA9554(now, levels),
		0x23: sim.NewBH1750(now, v.of("lux", v.weather.Lux)), 0x38: sim.NewAHT20(now, v.air), 0x40: sim.NewINA219(now, battery, shunt),
		0x44: sim.NewSHT4x(now, v.air), 0x45: sim.NewSHT3x(now, v.air), 0x48: sim.NewADS1115(now, channels), 0x49: sim.NewADS1015(now, channels),
		0x4a: sim.NewLM75(now, v.celsius()), 0x4b: sim.NewTMP102(now, v.celsius()), 0x4c: sim.NewTMP105(now, v.celsius()),
		0x62: sim.NewSCD4x(now, v.air, v.of("co2", v.weather.CO2)), 0x76: sim.NewBME280(now, v.air), 0x77: sim.NewBMP280(now, v.air),
		ds2482Address: newDS2482(newDS18B20(thermometer, now, v.celsius())),
	} {
		bus.Attach(addr, chip)
	}
}
