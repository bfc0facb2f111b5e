// SPDX-License-Identifier: Apache-2.0

// Package sim is a whole simulated board: a hal.Board made of register-level chip models on an I²C bus and of GPIO lines,
// with values that move as weather does. Drivers cannot tell it from a real one, since they talk to registers.
//
// Everything is a function of a seed and the time, so two boards with one seed agree, and testing/synctest can drive days in
// a moment.
//
// What is on the board: a BME280 on bus /dev/i2c-1 at address 0x76; a door contact on line GPIO17, closed = low; an energy meter's
// pulse output on line GPIO27, low during a pulse.
package sim

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"

	"github.com/streembit/edge/hal"
)

// What the board has, for configs and tests.
const (
	I2CBus        = "/dev/i2c-1"
	BME280Address = 0x76
	DoorPin       = "GPIO17"
	MeterPin      = "GPIO27"
)

// Config describes a simulated board.
type Config struct {
	Seed uint64           // boards with different seeds have different weather
	Now  func() time.Time // nil = time.Now; it must run at the pace of package time's timers
	Root string           // file-system root for the host sensor; "" = "/"
}

// New returns a simulated board.
func New(c Config) *hal.Board {
	if c.Now == nil {
		c.Now = time.Now
	}
	weather := Weather{Seed: c.Seed}
	bus := NewBus(I2CBus)
	bus.Attach(BME280Address, NewBME280(c.Now, weather.At))
	return hal.NewBoard(hal.Wiring{
		Name: "simulated board",
		Root: c.Root,
		I2C: []hal.Bus[i2c.BusCloser]{{
			Name: I2CBus, Aliases: []string{"1", "I2C1", "i2c-1"}, Usual: true,
			Open: func() (i2c.BusCloser, error) { return bus, nil },
		}},
		Pins: []hal.NamedPin{
			{Name: DoorPin, Pin: &pin{now: c.Now, wave: door{c.Seed}}},
			{Name: MeterPin, Pin: &pin{now: c.Now, wave: meter{c.Seed}}},
		},
	})
}

// ErrNAK is returned by Bus.Tx when no chip acknowledges the address, as a real bus does (ENXIO or EREMOTEIO in Linux).
var ErrNAK = errors.New("no acknowledge")

// Device is a chip model.
type Device interface {
	// Tx takes the bytes that a master writes after the address and fills r with what it then reads.
	Tx(w, r []byte) error
}

// Bus is a simulated I²C bus. It is safe for concurrent use.
type Bus struct {
	name  string
	mu    sync.Mutex
	chips map[uint16]Device
}

// NewBus returns a bus without chips.
func NewBus(name string) *Bus { return &Bus{name: name, chips: make(map[uint16]Device)} }

// Attach puts a chip on the bus; nil unplugs it.
func (b *Bus) Attach(addr uint16, d Device) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d == nil {
		delete(b.chips, addr)
		return
	}
	b.chips[addr] = d
}

// String implements i2c.Bus.
func (b *Bus) String() string { return b.name }

// Tx implements i2c.Bus.
func (b *Bus) Tx(addr uint16, w, r []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	d, ok := b.chips[addr]
	if !ok {
		return fmt.Errorf("sim: address %#x: %w", addr, ErrNAK)
	}
	return d.Tx(w, r)
}

// SetSpeed implements i2c.Bus; a simulated bus has no clock.
func (b *Bus) SetSpeed(physic.Frequency) error { return nil }

// Close implements i2c.BusCloser.
func (b *Bus) Close() error { return nil }
