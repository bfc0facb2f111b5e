// SPDX-License-Identifier: Apache-2.0

package hal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/spi"
)

// Wiring is everything that a board consists of. It is plain data: Open fills it from periph, hal/sim from chip models.
type Wiring struct {
	Name    string // for messages and lists, for example "Raspberry Pi 4 Model B Rev 1.4"
	Root    string // file-system root above /proc and /sys; "" = "/"
	Files   fs.FS  // nil = the files below Root
	I2C     []Bus[i2c.BusCloser]
	SPI     []Bus[spi.PortCloser]
	OneWire []string // masters of the kernel's 1-wire subsystem, for example "w1_bus_master1"
	Pins    []NamedPin
	// Problems are what went wrong while the buses were looked for. They do not stop the sensors on other buses.
	Problems []error
}

// Bus is a bus that can be opened.
type Bus[T any] struct {
	Name    string   // for example "/dev/i2c-1"
	Aliases []string // other names, for example "I2C1", "1"
	Usual   bool     // the one meant when a config names none
	Open    func() (T, error)
}

// NamedPin is a GPIO line and its name.
type NamedPin struct {
	Name string
	Pin  Pin
}

// Board is an opened board. Each bus is opened once, at its first use, and shared. All methods are safe for concurrent use.
type Board struct {
	w   Wiring
	i2c shared[i2c.BusCloser]
	spi shared[spi.PortCloser]
}

// NewBoard returns a board that consists of w.
func NewBoard(w Wiring) *Board {
	if w.Root == "" {
		w.Root = "/"
	}
	if w.Files == nil {
		w.Files = os.DirFS(w.Root)
	}
	return &Board{
		w:   w,
		i2c: shared[i2c.BusCloser]{kind: I2C, known: w.I2C},
		spi: shared[spi.PortCloser]{kind: SPI, known: w.SPI},
	}
}

// Name returns what the board is.
func (b *Board) Name() string { return b.w.Name }

// Problems returns what went wrong while the buses were looked for, for a log or a self-test.
func (b *Board) Problems() []error { return b.w.Problems }

// Buses returns the names of the board's buses or lines of one kind.
func (b *Board) Buses(kind BusKind) []string {
	switch kind {
	case I2C:
		return b.i2c.names()
	case SPI:
		return b.spi.names()
	case OneWire:
		return slices.Clone(b.w.OneWire)
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
// the board has instead and what to do, and wraps ErrNoBus if there is no such bus.
func (b *Board) Port(r Request) (Port, error) {
	p := Port{Root: b.w.Root, Files: b.w.Files}
	var err error
	switch r.Kind {
	case Host:
		p.Name = b.w.Root
	case I2C:
		var bus i2c.BusCloser
		if bus, p.Name, err = b.i2c.open(r.Bus); err == nil && (r.Addr == 0 || r.Addr > 0x7f) {
			err = fmt.Errorf("I2C address %#x: an address has 7 bits and is not 0: set addr", r.Addr)
		}
		p.Name = fmt.Sprintf("%s address %#x", p.Name, r.Addr)
		p.I2C = &Conn{Bus: bus, Addr: r.Addr}
	case SPI:
		p.SPI, p.Name, err = b.spi.open(r.Bus)
	case OneWire:
		p.W1, err = b.master(r.Bus)
		p.Name = path.Base(p.W1)
	case GPIO:
		p.Name = r.Pin
		p.Pin, err = b.pin(r.Pin)
	default:
		err = fmt.Errorf("%s is not a kind of bus", r.Kind)
	}
	if err != nil {
		return Port{}, fmt.Errorf("hal: opening port: %w", err)
	}
	return p, nil
}

// master finds the folder of a 1-wire master; without a name it is the one in which the kernel lists the slaves of all.
func (b *Board) master(name string) (string, error) {
	const all = "sys/bus/w1/devices"
	switch {
	case name == "" && len(b.w.OneWire) > 0:
		return all, nil
	case slices.Contains(b.w.OneWire, name):
		return path.Join(all, name), nil
	}
	return "", missing(OneWire, name, b.w.OneWire)
}

func (b *Board) pin(name string) (Pin, error) {
	i := slices.IndexFunc(b.w.Pins, func(p NamedPin) bool { return p.Name == name })
	if i < 0 {
		return nil, missing(GPIO, name, b.Buses(GPIO))
	}
	return b.w.Pins[i].Pin, nil
}

// Close closes the buses. Sensors are closed before.
func (b *Board) Close() error {
	if err := errors.Join(b.i2c.close(), b.spi.close()); err != nil {
		return fmt.Errorf("hal: closing board: %w", err)
	}
	return nil
}

// shared opens each bus once.
type shared[T io.Closer] struct {
	kind   BusKind
	known  []Bus[T]
	mu     sync.Mutex
	opened map[string]T
}

func (s *shared[T]) names() []string {
	names := make([]string, len(s.known))
	for i, k := range s.known {
		names[i] = k.Name
	}
	return names
}

func (s *shared[T]) open(name string) (bus T, full string, err error) {
	known, err := s.find(name)
	if err != nil {
		return bus, "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if bus, ok := s.opened[known.Name]; ok {
		return bus, known.Name, nil
	}
	if bus, err = known.Open(); err != nil {
		return bus, "", fmt.Errorf("%s bus %s: %w: check that the user who runs this may open it (groups i2c, spi, gpio)", s.kind, known.Name, err)
	}
	if s.opened == nil {
		s.opened = make(map[string]T)
	}
	s.opened[known.Name] = bus
	return bus, known.Name, nil
}

// find looks for a name or alias. Without a name it takes the only bus or the usual one.
func (s *shared[T]) find(name string) (Bus[T], error) {
	for _, k := range s.known {
		if name == "" && (k.Usual || len(s.known) == 1) || name != "" && (k.Name == name || slices.Contains(k.Aliases, name)) {
			return k, nil
		}
	}
	if name == "" && len(s.known) > 0 {
		return Bus[T]{}, fmt.Errorf("%s: the board has %s: say which one is meant with bus", s.kind, strings.Join(s.names(), ", "))
	}
	return Bus[T]{}, missing(s.kind, name, s.names())
}

func (s *shared[T]) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, bus := range s.opened {
		errs = append(errs, bus.Close())
	}
	s.opened = nil
	return errors.Join(errs...)
}

// missing says what is not there, what is, and what to do next.
func missing(kind BusKind, name string, have []string) error {
	what := fmt.Sprintf("%s bus %q", kind, name)
	if kind == GPIO {
		what = fmt.Sprintf("GPIO line %q", name)
	} else if name == "" {
		what = kind.String() + " bus"
	}
	if len(have) == 0 {
		return fmt.Errorf("%s: %w, which has none: enable the interface (raspi-config or a device-tree overlay), then restart the board", what, ErrNoBus)
	}
	const most = 12
	list := strings.Join(have[:min(len(have), most)], ", ")
	if len(have) > most {
		list += fmt.Sprintf(" and %d more", len(have)-most)
	}
	return fmt.Errorf("%s: %w, which has %s: name one of these, or enable the missing one and restart the board", what, ErrNoBus, list)
}
