// SPDX-License-Identifier: Apache-2.0

package gpio_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	pgpio "periph.io/x/conn/v3/gpio"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/gpio"
	"github.com/streembit/edge/sensors/sensorstest"
)

func TestOutputContract(t *testing.T) {
	for _, options := range []map[string]any{nil, {"active": "low", "initial": "on", "at-exit": "keep"}} {
		sensorstest.Run(t, sensorstest.Case{
			Driver: gpio.Output, At: hal.Request{Pin: sim.FreePin}, Options: options, Board: simBoard,
			Want: []edge.Quantity{sensors.SwitchOn}, Sets: []edge.Quantity{sensors.SwitchOn},
		})
	}
}

// wire is a line that a test watches, and can hold at a level.
type wire struct {
	levels []pgpio.Level // all that were driven
	held   *pgpio.Level
	broken error
	closed bool
}

func (w *wire) Input(pgpio.Pull, pgpio.Edge) (hal.Line, error) { return nil, errors.New("an output") }

func (w *wire) Output(l pgpio.Level) (hal.Output, error) {
	w.levels = append(w.levels, l)
	return w, w.broken
}

func (w *wire) Set(l pgpio.Level) error {
	w.levels = append(w.levels, l)
	return w.broken
}

func (w *wire) Read() (pgpio.Level, error) {
	if w.held != nil {
		return *w.held, nil
	}
	return w.levels[len(w.levels)-1], nil
}

func (w *wire) Close() error { w.closed = true; return nil }

// What is on the line from the first moment to the last, in each setting, with switch = 1 between.
func TestOutputLevels(t *testing.T) {
	const low, high = pgpio.Low, pgpio.High
	for _, tc := range []struct {
		opts map[string]any
		want []pgpio.Level
	}{
		{nil, []pgpio.Level{low, high, low}},
		{map[string]any{"active": "low"}, []pgpio.Level{high, low, high}},
		{map[string]any{"initial": "on"}, []pgpio.Level{high, high, low}},
		{map[string]any{"at-exit": "keep"}, []pgpio.Level{low, high}},
		{map[string]any{"active": "low", "initial": "on", "at-exit": "keep"}, []pgpio.Level{low, low}},
	} {
		w := &wire{}
		s := connect(t, gpio.Output, w, tc.opts)
		if err := s.(sensors.Actuator).Set(t.Context(), sensors.On(sensors.SwitchOn, true)); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil || !w.closed {
			t.Errorf("closed %v, %v", w.closed, err)
		}
		if !slices.Equal(w.levels, tc.want) {
			t.Errorf("%v: %v, want %v", tc.opts, w.levels, tc.want)
		}
	}
}

func TestOutputShortCircuit(t *testing.T) {
	ground := pgpio.Low
	w := &wire{held: &ground}
	s := connect(t, gpio.Output, w, nil).(sensors.Actuator)
	if err := s.Set(t.Context(), sensors.On(sensors.SwitchOn, true)); err == nil || !strings.Contains(err.Error(), "short circuit") {
		t.Errorf("Set: %v", err)
	}
	if got := value(t, s); got != 0 {
		t.Errorf("Read gives %v, the line is low", got)
	}
}

// A line that can no longer be driven is given back all the same, and Close says that it may not be off.
func TestOutputClosesBroken(t *testing.T) {
	w := &wire{}
	s := connect(t, gpio.Output, w, nil)
	w.broken = errors.New("the line is gone")
	if err := s.Close(); !errors.Is(err, w.broken) || !strings.Contains(err.Error(), "gpio-out") || !w.closed {
		t.Errorf("%v, closed %v", err, w.closed)
	}
}
