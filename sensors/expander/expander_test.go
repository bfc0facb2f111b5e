// SPDX-License-Identifier: Apache-2.0

package expander_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/expander"
	"github.com/streembit/edge/sensors/sensorstest"
)

func numbered(q edge.Quantity, n int) edge.Quantity {
	q.Name = fmt.Sprintf("%s.%d", q.Name, n)
	return q
}

// want lists what Read returns and Set takes for a string of outputs.
func want(outputs string) (read, set []edge.Quantity) {
	for n := range 8 {
		if strings.Contains(outputs, fmt.Sprint(n)) {
			read, set = append(read, numbered(sensors.SwitchOn, n)), append(set, numbered(sensors.SwitchOn, n))
		} else {
			read = append(read, numbered(sensors.Contact, n))
		}
	}
	return read, set
}

func TestContract(t *testing.T) {
	const (
		pcf = "a PCF8574 has no register but the lines, and those of the case are all at this level"
		all = "0, 1, 2, 3, 4, 5, 6, 7"
	)
	for _, c := range []sensorstest.Case{
		{Driver: expander.PCF8574, At: hal.Request{Addr: 0x20}, Options: map[string]any{"outputs": "0 5"}, OnesLegal: pcf},
		{Driver: expander.PCF8574, At: hal.Request{Addr: 0x20}, Options: map[string]any{"outputs": all, "active": "high"}, ZerosLegal: pcf},
		{Driver: expander.PCA9554, At: hal.Request{Addr: 0x21}, Options: map[string]any{"outputs": "0 5"}},
		{Driver: expander.PCA9554, At: hal.Request{Addr: 0x21}, Options: map[string]any{"outputs": all, "active": "high", "initial": "keep"}},
	} {
		c.Board = func() *hal.Board { return sim.New(sim.Config{Seed: 1}) }
		c.Want, c.Sets = want(c.Options["outputs"].(string))
		t.Run(fmt.Sprint(c.Driver.Name, c.Options), func(t *testing.T) { sensorstest.Run(t, c) })
	}
}

// rig is a board with one expander at 0x20, and its lines seen over the bus by another master.
type rig struct {
	board   *hal.Board
	conn    *hal.Conn
	driver  sensors.Driver
	outside byte // what pulls lines low: a 0
}

func newRig(t *testing.T, d sensors.Driver) *rig {
	t.Helper()
	r := &rig{driver: d, outside: 0xff}
	inputs := func(time.Time) byte { return r.outside }
	bus := sim.NewBus(sim.I2CBus)
	var chip sim.Device = sim.NewPCF8574(time.Now, inputs)
	if d.Name == "pca9554" {
		chip = sim.NewPCA9554(time.Now, inputs)
	}
	bus.Attach(0x20, chip)
	r.board = hal.NewBoard(hal.Wiring{I2C: []hal.Bus[i2c.BusCloser]{{Name: sim.I2CBus, Open: func() (i2c.BusCloser, error) { return bus, nil }}}})
	p, err := r.board.Port(hal.Request{Kind: hal.I2C, Addr: 0x20})
	if err != nil {
		t.Fatal(err)
	}
	r.conn = p.I2C
	return r
}

func (r *rig) lines(t *testing.T) byte {
	t.Helper()
	var w []byte
	if r.driver.Name == "pca9554" {
		w = []byte{0}
	}
	var b [1]byte
	if err := r.conn.Tx(t.Context(), w, b[:]); err != nil {
		t.Fatal(err)
	}
	return b[0]
}

func (r *rig) open(t *testing.T, opts map[string]any) sensors.Actuator {
	t.Helper()
	s, err := r.driver.Connect(t.Context(), r.board, hal.Request{}, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s.(sensors.Actuator)
}

func set(t *testing.T, a sensors.Actuator, n int, value float64) {
	t.Helper()
	if err := a.Set(t.Context(), sensors.Of(numbered(sensors.SwitchOn, n), value)); err != nil {
		t.Fatal(err)
	}
}

// both runs a test for each chip.
func both(t *testing.T, run func(t *testing.T, r *rig)) {
	for _, d := range []sensors.Driver{expander.PCF8574, expander.PCA9554} {
		t.Run(d.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { run(t, newRig(t, d)) })
		})
	}
}

func TestLevels(t *testing.T) {
	both(t, func(t *testing.T, r *rig) {
		a := r.open(t, map[string]any{"outputs": "1 3"})
		if got := r.lines(t); got != 0xff {
			t.Errorf("at first %#08b, want all high = off", got)
		}
		set(t, a, 3, 1)
		if got := r.lines(t); got != 0xf7 {
			t.Errorf("switch.3 on: %#08b", got)
		}
		set(t, a, 1, 1)
		set(t, a, 3, 0)
		r.outside = 0x7f // a contact pulls line 7 low
		samples, err := a.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for n, s := range samples {
			if on := n == 1 || n == 7; (s.Value == 1) != on {
				t.Errorf("%s is %v", s.Name, s.Value)
			}
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if got := r.lines(t); got != 0x7f {
			t.Errorf("after Close %#08b, want the outputs off", got)
		}
	})
}

// With initial and at-exit = keep a restart of the program does not move the outputs; otherwise they are off between.
func TestKeep(t *testing.T) {
	both(t, func(t *testing.T, r *rig) {
		keep := map[string]any{"outputs": "[0 1 2]", "active": "high", "initial": "keep", "at-exit": "keep"}
		a := r.open(t, keep)
		set(t, a, 0, 0)
		set(t, a, 2, 0)
		before := r.lines(t)
		if before != 0b11111010 {
			t.Fatalf("%#08b", before)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if got := r.lines(t); got != before {
			t.Errorf("after Close %#08b, want %#08b", got, before)
		}
		r.open(t, keep)
		if got := r.lines(t); got != before {
			t.Errorf("after the restart %#08b, want %#08b", got, before)
		}
		delete(keep, "initial")
		a = r.open(t, keep)
		if got := r.lines(t); got != 0b11111000 {
			t.Errorf("initial = off: %#08b", got)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A line that something holds low does not go high: Set says so, Read gives what is.
func TestShortCircuit(t *testing.T) {
	both(t, func(t *testing.T, r *rig) {
		a := r.open(t, map[string]any{"outputs": "4", "active": "high"})
		r.outside = 0xef
		err := a.Set(t.Context(), sensors.Of(numbered(sensors.SwitchOn, 4), 1))
		if err == nil || !strings.Contains(err.Error(), "0x10") {
			t.Errorf("a short circuit: %v", err)
		}
		samples, err := a.Read(t.Context())
		if err != nil || samples[4].Value != 0 {
			t.Errorf("%v, %v; want switch.4 = 0", samples, err)
		}
	})
}

func TestNoOutputs(t *testing.T) {
	both(t, func(t *testing.T, r *rig) {
		a := r.open(t, nil)
		r.outside = 0b01111110
		samples, err := a.Read(t.Context())
		if err != nil || samples[0].Value != 1 || samples[7].Value != 1 || samples[3].Value != 0 || samples[0].Name != "contact.0" {
			t.Errorf("%v, %v", samples, err)
		}
		if err := a.Set(t.Context(), sensors.Of(numbered(sensors.SwitchOn, 0), 1)); err == nil || !strings.Contains(err.Error(), "outputs") {
			t.Errorf("an input was set: %v", err)
		}
	})
}

// A PCA9554 that lost its supply has inputs only: Read does not report them as outputs; Set makes it whole.
func TestLostSupply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, expander.PCA9554)
		a := r.open(t, map[string]any{"outputs": "0"})
		for _, w := range [][]byte{{1, 0xff}, {3, 0xff}} { // the state after power-up
			if err := r.conn.Tx(t.Context(), w, nil); err != nil {
				t.Fatal(err)
			}
		}
		if samples, err := a.Read(t.Context()); samples != nil || err == nil || !strings.Contains(err.Error(), "supply") {
			t.Errorf("%v, %v", samples, err)
		}
		set(t, a, 0, 1)
		if samples, err := a.Read(t.Context()); err != nil || samples[0].Value != 1 {
			t.Errorf("%v, %v", samples, err)
		}
	})
}

// other is a chip whose register 2 is read-only.
type other struct{}

func (other) Tx(_, r []byte) error {
	for i := range r {
		r[i] = 0x13
	}
	return nil
}

func TestRefuses(t *testing.T) {
	bus := sim.NewBus(sim.I2CBus)
	bus.Attach(0x20, other{})
	b := hal.NewBoard(hal.Wiring{I2C: []hal.Bus[i2c.BusCloser]{{Name: sim.I2CBus, Open: func() (i2c.BusCloser, error) { return bus, nil }}}})
	if _, err := expander.PCA9554.Connect(context.Background(), b, hal.Request{}, nil); !errors.Is(err, sensors.ErrWrongChip) {
		t.Errorf("another chip: %v", err)
	}
	for _, outputs := range []any{"8", -1, "x", "0-3", 0.5} {
		_, err := expander.PCF8574.Connect(context.Background(), b, hal.Request{}, map[string]any{"outputs": outputs})
		if err == nil || !strings.Contains(err.Error(), "0 to 7") {
			t.Errorf("outputs = %v: %v", outputs, err)
		}
	}
}
