// SPDX-License-Identifier: Apache-2.0

package gpio

import (
	"context"
	"errors"
	"fmt"
	"time"

	pgpio "periph.io/x/conn/v3/gpio"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
)

// Output describes a digital output: 1 = the line is at its active level.
//
// The kernel drives the line as long as the sensor is open; what it does afterwards, or after a crash, is up to the board: most become inputs with
// the pull that they had at power-up. What must not move then needs a resistor.
var Output = sensors.Driver{
	Name:     "gpio-out",
	Doc:      "digital output on a GPIO line: relay, lamp, valve",
	Bus:      hal.GPIO,
	Measures: []edge.Quantity{sensors.SwitchOn},
	Actions:  []edge.Quantity{sensors.SwitchOn},
	Options: []sensors.Option{
		{Name: "active", Default: "high", Allowed: []string{"high", "low"}, Doc: "level that means 1"},
		{Name: "initial", Default: "off", Allowed: []string{"off", "on"}, Doc: "state at the start"},
		{Name: "at-exit", Default: "off", Allowed: []string{"off", "keep"}, Doc: "state at the end; off because nobody is left to switch it off; keep = the line is let go as it is"},
	},
	Fastest: 10 * time.Millisecond,
	Open:    openOutput,
}

type output struct {
	line   hal.Output
	active pgpio.Level
	keep   bool
}

func openOutput(ctx context.Context, p hal.Port, opts map[string]string) (sensors.Sensor, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("gpio-out: %w", err)
	}
	s := &output{active: opts["active"] == "high", keep: opts["at-exit"] == "keep"}
	line, err := p.Pin.Output(s.level(opts["initial"] == "on"))
	if err != nil {
		return nil, fmt.Errorf("gpio-out: requesting %s: %w", p.Name, err)
	}
	s.line = line
	return s, nil
}

// level is the electrical one of a state.
func (s *output) level(on bool) pgpio.Level { return pgpio.Level(on) == s.active }

// Set implements sensors.Actuator. It looks whether the line follows.
func (s *output) Set(ctx context.Context, to edge.Sample) error {
	if to.Quantity != sensors.SwitchOn || to.Value != 0 && to.Value != 1 {
		return fmt.Errorf("gpio-out: setting %q to %v: only switch can be set, to 0 or 1", to.Name, to.Value)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("gpio-out: setting switch: %w", err)
	}
	want := s.level(to.Value == 1)
	err := s.line.Set(want)
	if err == nil {
		var got pgpio.Level
		if got, err = s.line.Read(); err == nil && got != want {
			err = fmt.Errorf("the line stays %s: check for a short circuit", got)
		}
	}
	if err != nil {
		return fmt.Errorf("gpio-out: setting switch: %w", err)
	}
	return nil
}

// Read implements sensors.Sensor: the level is the one on the line.
func (s *output) Read(ctx context.Context) ([]edge.Sample, error) {
	level, err := s.line.Read()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("gpio-out: reading: %w", err)
	}
	return []edge.Sample{sensors.On(sensors.SwitchOn, level == s.active)}, nil
}

// Close implements sensors.Sensor.
func (s *output) Close() error {
	var err error
	if !s.keep {
		err = s.line.Set(s.level(false))
	}
	if err = errors.Join(err, s.line.Close()); err != nil {
		return fmt.Errorf("gpio-out: closing: %w", err)
	}
	return nil
}
