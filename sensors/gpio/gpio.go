// SPDX-License-Identifier: Apache-2.0

// Package gpio drives what is a contact and not a chip: Input reads a door, motion or leak contact, switch or other
// digital line; Pulses counts the edges of a meter's pulse output or a rain gauge; Output switches a relay, lamp or valve.
//
// Edges come without their times, so nothing here measures how long a pulse is.
package gpio

import (
	"context"
	"fmt"
	"strconv"
	"time"

	pgpio "periph.io/x/conn/v3/gpio"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
)

var (
	states = []edge.Quantity{sensors.Contact, sensors.Motion, sensors.Leak, sensors.SwitchOn}
	counts = []edge.Quantity{sensors.Count, sensors.EnergyUsed, sensors.VolumeUsed, sensors.Rain}
	pull   = sensors.Option{Name: "pull", Default: "up", Allowed: []string{"up", "down", "none"}, Doc: "internal resistor"}
)

// Input describes a digital input: 1 while the line is at its active level.
var Input = sensors.Driver{
	Name:     "gpio",
	Doc:      "digital input: contact, motion, leak or switch on a GPIO line",
	Bus:      hal.GPIO,
	Measures: states,
	Options: []sensors.Option{
		{Name: "as", Default: "contact", Allowed: names(states), Doc: "what the line stands for"},
		{Name: "active", Default: "low", Allowed: []string{"low", "high"}, Doc: "level that means 1; low = a contact to ground is closed"},
		pull,
	},
	Fastest: 10 * time.Millisecond,
	Open:    openInput,
}

// Pulses describes a pulse counter. The sum begins at 0 when the sensor is opened.
var Pulses = sensors.Driver{
	Name:     "gpio-pulses",
	Doc:      "pulse counter on a GPIO line: energy or water meter, rain gauge, or plain count",
	Bus:      hal.GPIO,
	Measures: counts,
	Options: []sensors.Option{
		{Name: "as", Default: "count", Allowed: names(counts), Doc: "what a pulse stands for"},
		{Name: "per-pulse", Default: "1", Doc: "amount of one pulse in the quantity's unit; 3600 (J) for 1000 pulses per kWh"},
		{Name: "edge", Default: "falling", Allowed: []string{"falling", "rising"}, Doc: "edge that counts"},
		{Name: "debounce", Default: "0s", Doc: "edges that follow the one before within this time do not count; it is measured when the program gets the edge, so that one that was stopped for longer may merge real pulses"},
		pull,
	},
	Fastest: time.Second,
	Open:    openPulses,
}

func names(quantities []edge.Quantity) []string {
	out := make([]string, len(quantities))
	for i, q := range quantities {
		out[i] = q.Name
	}
	return out
}

func quantity(quantities []edge.Quantity, name string) edge.Quantity {
	for _, q := range quantities {
		if q.Name == name {
			return q
		}
	}
	return edge.Quantity{}
}

func pullOf(name string) pgpio.Pull {
	switch name {
	case "up":
		return pgpio.PullUp
	case "down":
		return pgpio.PullDown
	}
	return pgpio.PullNoChange
}

type input struct {
	line     hal.Line
	quantity edge.Quantity
	active   pgpio.Level
}

func openInput(ctx context.Context, p hal.Port, opts map[string]string) (sensors.Sensor, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("gpio: %w", err)
	}
	line, err := p.Pin.Input(pullOf(opts["pull"]), pgpio.NoEdge)
	if err != nil {
		return nil, fmt.Errorf("gpio: requesting %s: %w", p.Name, err)
	}
	return &input{line: line, quantity: quantity(states, opts["as"]), active: opts["active"] == "high"}, nil
}

// Read implements sensors.Sensor.
func (s *input) Read(ctx context.Context) ([]edge.Sample, error) {
	level, err := s.line.Read()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("gpio: reading: %w", err)
	}
	return []edge.Sample{sensors.On(s.quantity, level == s.active)}, nil
}

// Close implements sensors.Sensor.
func (s *input) Close() error { return s.line.Close() }

func parsePulseOptions(opts map[string]string) (perPulse float64, debounce time.Duration, err error) {
	if perPulse, err = strconv.ParseFloat(opts["per-pulse"], 64); err != nil || !(perPulse > 0 && perPulse < 1e12) {
		return 0, 0, fmt.Errorf("gpio-pulses: option per-pulse = %q: use a number above 0", opts["per-pulse"])
	}
	if debounce, err = time.ParseDuration(opts["debounce"]); err != nil || debounce < 0 || debounce > time.Minute {
		return 0, 0, fmt.Errorf("gpio-pulses: option debounce = %q: use a time from 0s to 1m, for example \"5ms\"", opts["debounce"])
	}
	return perPulse, debounce, nil
}
