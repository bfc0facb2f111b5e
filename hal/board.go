// SPDX-License-Identifier: Apache-2.0

package hal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/spi"
)

// Wiring is everything that a board consists of. It is plain data: Open fills it from the kernel, hal/sim from chip models.
type Wiring struct {
	Name    string // for messages and lists, for example "Raspberry Pi 4 Model B Rev 1.4"
	Root    string // file-system root above /proc and /sys; "" = "/"
	Files   fs.FS  // nil = the files below Root
	I2C     []Bus[i2c.BusCloser]
	SPI     []Bus[spi.PortCloser]
	OneWire []string // masters of the kernel's 1-wire subsystem, for example "w1_bus_master1"
	Pins    []NamedPin
	// Enable says what switches a kind of bus on that is missing, for messages.
	Enable map[BusKind]string
	// ScanI2C and ScanOneWire, if set, find the buses that come and go; they are called at each Port, and ScanI2C
	// also before a bus that is gone is opened again. What they find comes after I2C and OneWire. Safe for concurrent use.
	ScanI2C     func() []Bus[i2c.BusCloser]
	ScanOneWire func() []string
	// Problems are what went wrong while the buses were looked for. They do not stop the sensors on other buses.
	Problems []error
}

// NamedPin is a GPIO line and its names.
type NamedPin struct {
	Name    string
	Aliases []string // for example "gpiochip0:17", "pinctrl-bcm2711:17", "P1-11"
	Pin     Pin
}

// Board is an opened board. Each bus is opened once, at its first use, and shared. An I²C bus carries one transaction at a time,
// each with a deadline (TxTimeout); it is closed when its adapter goes and opened again when that returns. All methods are safe for concurrent use.
type Board struct {
	w   Wiring
	i2c guarded
	spi shared[spi.PortCloser]

	mu   sync.Mutex
	seen []string // 1-wire masters that were there once
}

// NewBoard returns a board that consists of w.
func NewBoard(w Wiring) *Board {
	if w.Root == "" {
		w.Root = "/"
	}
	if w.Files == nil {
		w.Files = os.DirFS(w.Root)
	}
	b := &Board{w: w, spi: shared[spi.PortCloser]{kind: SPI, known: w.SPI, enable: w.Enable}}
	b.i2c.enable = w.Enable
	b.i2c.known = func() []Bus[i2c.BusCloser] {
		if w.ScanI2C == nil {
			return w.I2C
		}
		return slices.Concat(w.I2C, w.ScanI2C())
	}
	return b
}

// Name returns what the board is.
func (b *Board) Name() string { return b.w.Name }

// Health returns what happened on the I²C buses that have been used, in the order of their keys.
func (b *Board) Health() []BusHealth { return b.i2c.health() }

// Problems returns what went wrong while the buses were looked for, for a log or a self-test.
func (b *Board) Problems() []error { return b.w.Problems }

// Buses returns the names of the board's buses or lines of one kind.
func (b *Board) Buses(kind BusKind) []string {
	switch kind {
	case I2C:
		return b.i2c.names()
	case SPI:
		return namesOf(b.w.SPI)
	case OneWire:
		return b.masters()
	case GPIO:
		names := make([]string, len(b.w.Pins))
		for i, p := range b.w.Pins {
			names[i] = p.Name
		}
		return names
	}
	return nil
}

// Port connects one sensor. It opens the bus if nobody has yet; it does not talk to the chip. An error names the bus, what
// the board has instead and what to do, and wraps ErrNoBus if there is no such bus and never was, or ErrClaimed if the address is another's.
// An I²C bus or 1-wire master that was there once is not ErrNoBus: a Port of an I²C bus that was in use works again when it returns, and is ErrGone
// at each transaction until then; otherwise Port itself returns ErrGone.
//
// A bus that was found by a changing name, such as "/dev/i2c-11" of a USB adapter, is followed by its Key from then on.
func (b *Board) Port(r Request) (Port, error) {
	p := Port{Root: b.w.Root, Files: b.w.Files}
	var err error
	switch r.Kind {
	case Host:
		p.Name = b.w.Root
	case I2C:
		p.I2C, p.Name, err = b.conn(r.Bus, r.Addr)
	case SPI:
		p.SPI, p.Name, err = b.spi.open(r.Bus)
	case OneWire:
		p.W1, err = b.master(r.Bus)
		p.Name = path.Base(p.W1)
	case GPIO:
		p.Name, p.Pin, err = b.pin(r.Pin)
	default:
		err = fmt.Errorf("%s is not a kind of bus", r.Kind)
	}
	if err != nil {
		return Port{}, fmt.Errorf("hal: opening port: %w", err)
	}
	return p, nil
}

func (b *Board) conn(name string, addr uint16) (*Conn, string, error) {
	g, at, err := b.i2c.get(name)
	if err != nil {
		return nil, "", err
	}
	full := fmt.Sprintf("%s address %#x", at.Name, addr)
	if addr == 0 || addr > 0x7f {
		return nil, "", fmt.Errorf("I2C address %#x: an address has 7 bits and is not 0: set addr", addr)
	}
	if at.Claimed != nil {
		if who, claimed := at.Claimed()[addr]; claimed {
			return nil, "", fmt.Errorf("%s: %w: %s", full, ErrClaimed, who)
		}
	}
	return &Conn{Bus: g, Addr: addr}, full, nil
}

// Claimed returns which addresses of an I²C bus are not ours, and whose: those of chips that a driver of the kernel holds
// now, and those that the board's own parts have and nobody must touch. A scan skips them and Port refuses them. The kernel itself checks
// nothing of this for the ioctl that periph uses (I2C_RDWR). The bus is named as in a Request.
func (b *Board) Claimed(bus string) (map[uint16]string, error) {
	claims, err := b.i2c.claimed(bus)
	if err != nil {
		return nil, fmt.Errorf("hal: looking for claimed addresses: %w", err)
	}
	return claims, nil
}

// master finds the folder of a 1-wire master; without a name it is the one in which the kernel lists the slaves of all.
func (b *Board) master(name string) (string, error) {
	const all = "sys/bus/w1/devices"
	have := b.masters()
	switch {
	case name == "" && len(have) > 0:
		return all, nil
	case slices.Contains(have, name):
		return path.Join(all, name), nil
	case b.once(name):
		return "", fmt.Errorf("1-wire bus %s: %w", name, ErrGone)
	}
	return "", missing(OneWire, name, have, b.w.Enable)
}

// masters returns the 1-wire masters that are there now, and remembers them.
func (b *Board) masters() []string {
	have := slices.Clone(b.w.OneWire)
	if b.w.ScanOneWire != nil {
		have = append(have, b.w.ScanOneWire()...)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range have {
		if !slices.Contains(b.seen, m) {
			b.seen = append(b.seen, m)
		}
	}
	return have
}

// once tells whether a 1-wire master, or any if name is "", was there before.
func (b *Board) once(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return name == "" && len(b.seen) > 0 || slices.Contains(b.seen, name)
}

// pin finds a line; the names of all go before the aliases of any.
// pin also returns the line's own name, whatever alias was given.
func (b *Board) pin(name string) (string, Pin, error) {
	i := slices.IndexFunc(b.w.Pins, func(p NamedPin) bool { return p.Name == name })
	if i < 0 {
		i = slices.IndexFunc(b.w.Pins, func(p NamedPin) bool { return slices.Contains(p.Aliases, name) })
	}
	if i < 0 {
		return "", nil, missing(GPIO, name, b.Buses(GPIO), b.w.Enable)
	}
	return b.w.Pins[i].Name, b.w.Pins[i].Pin, nil
}

// Close closes the buses. Sensors are closed before.
func (b *Board) Close() error {
	if err := errors.Join(b.i2c.close(), b.spi.close()); err != nil {
		return fmt.Errorf("hal: closing board: %w", err)
	}
	return nil
}
