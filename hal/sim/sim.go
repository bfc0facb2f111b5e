// SPDX-License-Identifier: Apache-2.0

// Package sim is a whole simulated board: a hal.Board made of register-level chip models on an I²C bus and of GPIO lines,
// with values that move as weather does. Drivers cannot tell it from a real one, since they talk to registers.
//
// Everything is a function of a seed and the time, so two boards with one seed agree, and testing/synctest can drive days in
// a moment. The bus can be made to fail: Bus.Inject by hand, Config.Faults at random.
//
// What is on the board: on bus /dev/i2c-1 the chips of the constants below; a door contact on line GPIO17, closed = low; an
// energy meter's pulse output on line GPIO27, low during a pulse; the free lines GPIO22 and GPIO23.
package sim

import (
	"time"

	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/i2c"

	"github.com/streembit/edge/hal"
)

// What the board has, for configs and tests.
const (
	I2CBus        = "/dev/i2c-1"
	BME280Address = 0x76
	DoorPin       = "GPIO17"
	MeterPin      = "GPIO27"
	FreePin       = "GPIO22" // nothing is wired to it: an input with a pull-up, or an output
	SpareFreePin  = "GPIO23" // the same
)

// Config describes a simulated board.
type Config struct {
	Seed   uint64           // boards with different seeds have different weather
	Now    func() time.Time // nil = time.Now; it must run at the pace of package time's timers
	Root   string           // file-system root for the host sensor; "" = "/"
	Faults Faults           // random faults on the bus; the zero value has none
}

// World is a simulated board and what a test or a demonstration can do to it.
type World struct {
	Board   *hal.Board
	Bus     *Bus
	Weather Weather
	pins    map[string]*pin
}

// New returns a simulated board.
func New(c Config) *hal.Board { return NewWorld(c).Board }

// NewWorld returns a simulated board with access to what is behind it.
func NewWorld(c Config) *World {
	if c.Now == nil {
		c.Now = time.Now
	}
	w := &World{
		Bus:     NewBus(I2CBus),
		Weather: Weather{Seed: c.Seed},
		pins: map[string]*pin{
			DoorPin:      {now: c.Now, wave: door{c.Seed}},
			MeterPin:     {now: c.Now, wave: meter{c.Seed}},
			FreePin:      {now: c.Now},
			SpareFreePin: {now: c.Now},
		},
	}
	w.Bus.now, w.Bus.schedule = c.Now, c.Faults
	w.Bus.Attach(BME280Address, NewBME280(c.Now, w.Weather.At))
	wiring := hal.Wiring{
		Name: "simulated board",
		Root: c.Root,
		I2C: []hal.Bus[i2c.BusCloser]{{
			Name: I2CBus, Aliases: []string{"1", "I2C1", "i2c-1"}, Usual: true,
			Open: w.Bus.Open,
		}},
	}
	for _, name := range []string{DoorPin, MeterPin, FreePin, SpareFreePin} {
		wiring.Pins = append(wiring.Pins, hal.NamedPin{Name: name, Pin: w.pins[name]})
	}
	w.Board = hal.NewBoard(wiring)
	return w
}

// Level returns what a meter at the line would show now, whoever uses it; false means that the board has no such line.
func (w *World) Level(line string) (level gpio.Level, ok bool) {
	p, ok := w.pins[line]
	if !ok {
		return gpio.Low, false
	}
	return p.level(), true
}
