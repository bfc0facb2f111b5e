// SPDX-License-Identifier: Apache-2.0

package gpio_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pgpio "periph.io/x/conn/v3/gpio"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/gpio"
	"github.com/streembit/edge/sensors/sensorstest"
)

func simBoard() *hal.Board { return sim.New(sim.Config{Seed: 1}) }

func TestContract(t *testing.T) {
	for _, c := range []sensorstest.Case{
		{Driver: gpio.Input, At: hal.Request{Pin: sim.DoorPin}, Want: []edge.Quantity{sensors.Contact}},
		{Driver: gpio.Input, At: hal.Request{Pin: sim.DoorPin}, Options: map[string]any{"as": "leak", "active": "high"}, Want: []edge.Quantity{sensors.Leak}},
		{Driver: gpio.Pulses, At: hal.Request{Pin: sim.MeterPin}, Want: []edge.Quantity{sensors.Count}},
		{Driver: gpio.Pulses, At: hal.Request{Pin: sim.MeterPin}, Options: map[string]any{"as": "energy", "per-pulse": 3600}, Want: []edge.Quantity{sensors.EnergyUsed}},
	} {
		c.Board = simBoard
		t.Run(c.Driver.Name+" "+c.Want[0].Name, func(t *testing.T) { sensorstest.Run(t, c) })
	}
}

// script is a line that a test moves.
type script struct {
	level pgpio.Level
	err   error
	edges chan time.Duration // each entry: an edge after this time
	asked struct {
		pull pgpio.Pull
		edge pgpio.Edge
	}
	closed bool
}

func (s *script) Input(pull pgpio.Pull, edge pgpio.Edge) (hal.Line, error) {
	s.asked.pull, s.asked.edge = pull, edge
	return s, s.err
}
func (s *script) Output(pgpio.Level) (hal.Output, error) { return nil, errors.New("an input") }
func (s *script) Read() (pgpio.Level, error)             { return s.level, s.err }
func (s *script) Close() error                           { s.closed = true; return nil }
func (s *script) WaitForEdge(timeout time.Duration) (bool, error) {
	select {
	case d := <-s.edges:
		time.Sleep(d)
		return true, nil
	case <-time.After(timeout):
		return false, nil
	}
}

func connect(t *testing.T, d sensors.Driver, pin hal.Pin, opts map[string]any) sensors.Sensor {
	t.Helper()
	s, err := d.Connect(t.Context(), hal.NewBoard(hal.Wiring{Pins: []hal.NamedPin{{Name: "P", Pin: pin}}}), hal.Request{Pin: "P"}, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func value(t *testing.T, s sensors.Sensor) float64 {
	t.Helper()
	samples, err := s.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return samples[0].Value
}

func TestInputLevels(t *testing.T) {
	for _, tc := range []struct {
		active string
		level  pgpio.Level
		want   float64
	}{{"low", pgpio.Low, 1}, {"low", pgpio.High, 0}, {"high", pgpio.High, 1}, {"high", pgpio.Low, 0}} {
		pin := &script{level: tc.level}
		s := connect(t, gpio.Input, pin, map[string]any{"active": tc.active, "pull": "down"})
		if got := value(t, s); got != tc.want {
			t.Errorf("active %s, level %s: %v", tc.active, tc.level, got)
		}
		if pin.asked.pull != pgpio.PullDown || pin.asked.edge != pgpio.NoEdge {
			t.Errorf("requested with %+v", pin.asked)
		}
		if err := s.Close(); err != nil || !pin.closed {
			t.Errorf("closed %v, %v", pin.closed, err)
		}
	}
}

func TestPulsesCountsAndDebounces(t *testing.T) {
	for name, tc := range map[string]struct {
		opts map[string]any
		want float64
		edge pgpio.Edge
	}{
		"all":       {nil, 5, pgpio.FallingEdge},
		"scaled":    {map[string]any{"as": "rain", "per-pulse": 0.0002794, "edge": "rising"}, 5 * 0.0002794, pgpio.RisingEdge},
		"debounced": {map[string]any{"debounce": "5ms"}, 2, pgpio.FallingEdge},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pin := &script{edges: make(chan time.Duration, 8)}
				s := connect(t, gpio.Pulses, pin, tc.opts)
				for _, gap := range []time.Duration{time.Second, time.Millisecond, time.Millisecond, time.Second, 4 * time.Millisecond} {
					pin.edges <- gap
				}
				time.Sleep(5 * time.Second)
				if got := value(t, s); got != tc.want {
					t.Errorf("%v, want %v", got, tc.want)
				}
				if pin.asked.edge != tc.edge {
					t.Errorf("requested with %+v", pin.asked)
				}
				if err := s.Close(); err != nil || !pin.closed {
					t.Errorf("closed %v, %v", pin.closed, err)
				}
			})
		})
	}
}

// The counter agrees with what the simulated meter did, edge by edge, for an hour.
func TestPulsesMissNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := simBoard()
		defer board.Close()
		s, err := gpio.Pulses.Connect(t.Context(), board, hal.Request{Pin: sim.MeterPin}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		watch, err := sim.New(sim.Config{Seed: 1}).Port(hal.Request{Kind: hal.GPIO, Pin: sim.MeterPin})
		if err != nil {
			t.Fatal(err)
		}
		line, err := watch.Pin.Input(pgpio.PullUp, pgpio.NoEdge)
		if err != nil {
			t.Fatal(err)
		}
		count, last := 0.0, pgpio.High
		for range time.Hour / (10 * time.Millisecond) {
			time.Sleep(10 * time.Millisecond)
			level, err := line.Read()
			if err != nil {
				t.Fatal(err)
			}
			if last && !level {
				count++
			}
			last = level
		}
		if got := value(t, s); got != count || count < 360 {
			t.Errorf("counted %v, the line had %v", got, count)
		}
	})
}

func TestRefusesBadSettings(t *testing.T) {
	board := simBoard()
	defer board.Close()
	for name, tc := range map[string]struct {
		driver sensors.Driver
		at     hal.Request
		opts   map[string]any
		says   string
	}{
		"no such line": {gpio.Input, hal.Request{Pin: "GPIO99"}, nil, "GPIO17, GPIO27"},
		"as":           {gpio.Input, hal.Request{Pin: sim.DoorPin}, map[string]any{"as": "dor"}, "contact, motion"},
		"per-pulse":    {gpio.Pulses, hal.Request{Pin: sim.MeterPin}, map[string]any{"per-pulse": "-1"}, "per-pulse"},
		"NaN":          {gpio.Pulses, hal.Request{Pin: sim.MeterPin}, map[string]any{"per-pulse": "nan"}, "per-pulse"},
		"debounce":     {gpio.Pulses, hal.Request{Pin: sim.MeterPin}, map[string]any{"debounce": 5}, `"5ms"`},
	} {
		if _, err := tc.driver.Connect(t.Context(), board, tc.at, tc.opts); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v; want it to say %q", name, err, tc.says)
		}
	}
	if _, err := gpio.Input.Connect(t.Context(), board, hal.Request{Pin: "GPIO99"}, nil); !errors.Is(err, hal.ErrNoBus) {
		t.Errorf("a missing line: %v", err)
	}
}
