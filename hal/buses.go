// SPDX-License-Identifier: Apache-2.0

package hal

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"periph.io/x/conn/v3/i2c"
)

// Bus is a bus that can be opened.
type Bus[T any] struct {
	Name    string   // for example "/dev/i2c-1"
	Aliases []string // other names, for example "I2C1", "1"
	Usual   bool     // the one meant when a config names none
	Open    func() (T, error)

	// The rest is for I²C; each may be left out.

	Key     string                   // what stays when the bus goes and returns under another name, for example "usb-1-1.2"; "" = Name
	Present func() bool              // whether the bus is still there; nil = it always is
	Claimed func() map[uint16]string // who has claimed which address, see Board.Claimed; nil = nobody
}

func (b Bus[T]) key() string {
	if b.Key != "" {
		return b.Key
	}
	return b.Name
}

func (b Bus[T]) present() bool { return b.Present == nil || b.Present() }

func (b Bus[T]) called(name string) bool {
	return b.Name == name || b.Key == name || slices.Contains(b.Aliases, name)
}

func namesOf[T any](known []Bus[T]) []string {
	names := make([]string, len(known))
	for i, k := range known {
		names[i] = k.Name
	}
	return names
}

// find looks for a name or alias. Without a name it takes the only bus or the usual one.
func find[T any](kind BusKind, known []Bus[T], name string, enable map[BusKind]string) (Bus[T], error) {
	for _, k := range known {
		if name == "" && (k.Usual || len(known) == 1) || name != "" && k.called(name) {
			return k, nil
		}
	}
	if name == "" && len(known) > 0 {
		return Bus[T]{}, fmt.Errorf("%s: the board has %s: say which one is meant with bus", kind, strings.Join(namesOf(known), ", "))
	}
	return Bus[T]{}, missing(kind, name, namesOf(known), enable)
}

// open opens a bus for the first time.
func open[T any](kind BusKind, known Bus[T]) (T, error) {
	bus, err := known.Open()
	if err != nil {
		return bus, fmt.Errorf("%s bus %s: %w: check that the user who runs this may open it (groups i2c, spi, gpio)", kind, known.Name, err)
	}
	return bus, nil
}

// shared opens each bus once.
type shared[T io.Closer] struct {
	kind   BusKind
	known  []Bus[T]
	enable map[BusKind]string
	mu     sync.Mutex
	opened map[string]T
}

func (s *shared[T]) open(name string) (bus T, full string, err error) {
	known, err := find(s.kind, s.known, name, s.enable)
	if err != nil {
		return bus, "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if bus, ok := s.opened[known.Name]; ok {
		return bus, known.Name, nil
	}
	if bus, err = open(s.kind, known); err != nil {
		return bus, "", err
	}
	if s.opened == nil {
		s.opened = make(map[string]T)
	}
	s.opened[known.Name] = bus
	return bus, known.Name, nil
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

// guarded opens each I²C bus once, behind a guard. Which buses there are is asked anew each time; those that were there once are
// remembered.
type guarded struct {
	known  func() []Bus[i2c.BusCloser]
	enable map[BusKind]string
	mu     sync.Mutex
	open   map[string]*guard    // by key
	seen   []Bus[i2c.BusCloser] // each once, by key, as it was last; the latest at the end
	meant  map[string]string    // key of the bus that a name, or none, meant last
}

// scan returns the buses that are there now. The caller has mu.
func (s *guarded) scan() []Bus[i2c.BusCloser] {
	known := s.known()
	for _, k := range known {
		s.seen = slices.DeleteFunc(s.seen, func(old Bus[i2c.BusCloser]) bool { return old.key() == k.key() })
	}
	s.seen = append(s.seen, known...)
	return known
}

func (s *guarded) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return namesOf(s.scan())
}

// find looks for a bus. If it was there once and is not now, it is returned with an error that wraps ErrGone. The caller has mu.
func (s *guarded) find(name string) (Bus[i2c.BusCloser], error) {
	known := s.scan()
	at, err := find(I2C, known, name, s.enable)
	usual := slices.IndexFunc(s.seen, func(b Bus[i2c.BusCloser]) bool { return b.Usual })
	if err == nil && (name != "" || at.Usual || usual < 0) { // without a name no other is a substitute for the usual one
		if s.meant == nil {
			s.meant = make(map[string]string)
		}
		s.meant[name] = at.key()
		return at, nil
	}
	old, before := s.before(name)
	if !before {
		return at, err
	}
	if i := slices.IndexFunc(known, func(b Bus[i2c.BusCloser]) bool { return b.key() == old.key() }); i >= 0 {
		return known[i], nil // under another name now
	}
	return old, fmt.Errorf("%s: %w", old.Name, ErrGone)
}

// before finds a bus among those that were there once.
func (s *guarded) before(name string) (Bus[i2c.BusCloser], bool) {
	key, meant := s.meant[name]
	fits := []func(Bus[i2c.BusCloser]) bool{ // the first of these that any fits
		func(b Bus[i2c.BusCloser]) bool { return name == "" && b.Usual },
		func(b Bus[i2c.BusCloser]) bool { return meant && b.key() == key },
		func(b Bus[i2c.BusCloser]) bool { return name == "" && len(s.seen) == 1 || name != "" && b.called(name) },
	}
	for _, fit := range fits {
		for _, at := range slices.Backward(s.seen) {
			if fit(at) {
				return at, true
			}
		}
	}
	return Bus[i2c.BusCloser]{}, false
}

// get returns the guard of a bus, and where the bus is or was seen last. A bus that was opened once keeps its guard while it is gone.
func (s *guarded) get(name string) (*guard, Bus[i2c.BusCloser], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, err := s.find(name)
	if err != nil && !errors.Is(err, ErrGone) {
		return nil, at, err
	}
	switch g, ok := s.open[at.key()]; {
	case ok && err != nil:
		return g, g.seen(), nil
	case ok:
		return g, at, nil
	case err != nil:
		return nil, at, err
	}
	bus, err := open(I2C, at)
	if err != nil {
		return nil, at, err
	}
	if s.open == nil {
		s.open = make(map[string]*guard)
	}
	g := newGuard(at, bus, s.byKey)
	s.open[at.key()] = g
	return g, at, nil
}

// claimed returns who has claimed which address of a bus.
func (s *guarded) claimed(name string) (map[uint16]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, err := s.find(name)
	if err != nil || at.Claimed == nil {
		return map[uint16]string{}, err
	}
	return at.Claimed(), nil
}

// byKey finds where a bus is now.
func (s *guarded) byKey(key string) (Bus[i2c.BusCloser], bool) {
	known := s.known()
	i := slices.IndexFunc(known, func(b Bus[i2c.BusCloser]) bool { return b.key() == key })
	if i < 0 {
		return Bus[i2c.BusCloser]{}, false
	}
	return known[i], true
}

func (s *guarded) health() []BusHealth {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []BusHealth
	for _, key := range slices.Sorted(maps.Keys(s.open)) {
		all = append(all, s.open[key].read())
	}
	return all
}

// close closes all buses at once, since each may wait for a transaction.
func (s *guarded) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := make([]error, len(s.open))
	var closing sync.WaitGroup
	for i, key := range slices.Sorted(maps.Keys(s.open)) {
		closing.Go(func() { errs[i] = s.open[key].close() })
	}
	closing.Wait()
	s.open = nil
	return errors.Join(errs...)
}

// missing says what is not there, what is, and what to do next.
func missing(kind BusKind, name string, have []string, enable map[BusKind]string) error {
	what := fmt.Sprintf("%s bus %q", kind, name)
	if kind == GPIO {
		what = fmt.Sprintf("GPIO line %q", name)
	} else if name == "" {
		what = kind.String() + " bus"
	}
	if len(have) == 0 {
		how := enable[kind]
		if how == "" {
			how = "enable the interface (raspi-config or a device-tree overlay), then restart the board"
		}
		return fmt.Errorf("%s: %w, which has none: %s", what, ErrNoBus, how)
	}
	const most = 12
	list := strings.Join(have[:min(len(have), most)], ", ")
	if len(have) > most {
		list += fmt.Sprintf(" and %d more", len(have)-most)
	}
	return fmt.Errorf("%s: %w, which has %s: name one of these, or enable the missing one and restart the board", what, ErrNoBus, list)
}
