// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"os"
	"sync"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"

	"github.com/streembit/edge/hal"
)

// ErrNAK is wrapped by Bus.Tx when no chip acknowledges its address, and by a Device that does not acknowledge because it is busy. On
// the wire the two look the same (ENXIO or EREMOTEIO in Linux), so it wraps hal.ErrAbsent.
var ErrNAK = fmt.Errorf("no acknowledge: %w", hal.ErrAbsent)

// Device is a chip model.
type Device interface {
	// Tx takes the bytes that a master writes after the address and fills r with what it then reads. A master may also write in one
	// transaction and read in the next, as Linux's own drivers do; both empty is a probe of the address. It may wait, as a chip does
	// that stretches the clock. The bus calls it for one transaction at a time.
	Tx(w, r []byte) error
}

// Bus is a simulated I²C bus, which can fail on demand. It is safe for concurrent use.
type Bus struct {
	name string
	now  func() time.Time
	// turn is held for a transaction. It is a channel because one may wait in there: a goroutine that waits for a mutex stops the
	// clock of testing/synctest, one that waits for a channel does not.
	turn chan struct{}

	mu       sync.Mutex // of what follows; never held while waiting
	chips    map[uint16]Device
	faults   map[uint16]injected
	schedule Faults
	absent   bool   // unplugged by hand
	unplugs  uint64 // how often the bus went away
	flips    uint64 // how many bits a fault has flipped
}

// NewBus returns a bus without chips.
func NewBus(name string) *Bus {
	return &Bus{
		name: name, now: time.Now, turn: make(chan struct{}, 1),
		chips: make(map[uint16]Device), faults: make(map[uint16]injected),
	}
}

// Attach puts a chip on the bus; nil takes it off.
func (b *Bus) Attach(addr uint16, d Device) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d == nil {
		delete(b.chips, addr)
		return
	}
	b.chips[addr] = d
}

// Open returns a handle on the bus, as opening /dev/i2c-N does. Like a file descriptor it is dead for good once the bus was unplugged:
// its transactions return hal.ErrGone, and the bus has to be opened again. While the bus is unplugged Open returns hal.ErrGone.
func (b *Bus) Open() (i2c.BusCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.unplugged() {
		return nil, fmt.Errorf("sim: opening %s: %w", b.name, hal.ErrGone)
	}
	return &handle{Bus: b, unplugs: b.unplugs}, nil
}

// String implements i2c.Bus.
func (b *Bus) String() string { return b.name }

// Tx implements i2c.Bus.
func (b *Bus) Tx(addr uint16, w, r []byte) error {
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	d, f, err := b.at(addr)
	if err != nil {
		return fmt.Errorf("sim: address %#x: %w", addr, err)
	}
	if f.Delay > 0 {
		time.Sleep(f.Delay)
	}
	if err := f.refuse(); err != nil {
		return fmt.Errorf("sim: address %#x: %w", addr, err)
	}
	if err := d.Tx(w, r); err != nil {
		return fmt.Errorf("sim: address %#x: %w", addr, err)
	}
	b.spoil(f.Kind, r)
	return nil
}

// at finds the chip at addr and what is wrong with it now.
func (b *Bus) at(addr uint16) (Device, Fault, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.unplugged() {
		return nil, Fault{}, hal.ErrGone
	}
	d, ok := b.chips[addr]
	if !ok {
		return nil, Fault{}, ErrNAK
	}
	return d, b.fault(addr), nil
}

// SetSpeed implements i2c.Bus; a simulated bus has no clock.
func (b *Bus) SetSpeed(physic.Frequency) error { return nil }

// Close implements i2c.BusCloser.
func (b *Bus) Close() error { return nil }

// handle is one opening of a bus.
type handle struct {
	*Bus
	unplugs uint64     // of the bus when it was opened
	mu      sync.Mutex // of what follows
	closed  bool
	dead    bool
}

// Tx implements i2c.Bus.
func (h *handle) Tx(addr uint16, w, r []byte) error {
	if err := h.usable(); err != nil {
		return fmt.Errorf("sim: %s: %w", h.name, err)
	}
	return h.Bus.Tx(addr, w, r)
}

// usable notes that the bus went away. A gap in the schedule in which nobody used the handle leaves it as it was.
func (h *handle) usable() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return os.ErrClosed
	}
	h.Bus.mu.Lock()
	defer h.Bus.mu.Unlock()
	if h.dead = h.dead || h.unplugged() || h.Bus.unplugs != h.unplugs; h.dead {
		return hal.ErrGone
	}
	return nil
}

// Close implements i2c.BusCloser.
func (h *handle) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("sim: closing %s: %w", h.name, os.ErrClosed)
	}
	h.closed = true
	return nil
}
