// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"math/bits"
	"time"

	"github.com/streembit/edge/hal"
)

// FaultKind is a way in which a chip or its wires fail.
type FaultKind uint8

// The ways to fail.
const (
	NAK    FaultKind = iota + 1 // the chip does not answer: hal.ErrAbsent and ErrNAK
	Stuck                       // it holds the bus until the adapter gives up after Delay: hal.ErrTimeout
	Flip                        // in each answer one bit is wrong, so that a checksum does not fit
	Ones                        // each answer is all ones, as on a broken SDA wire
	Zeros                       // each answer is all zeros, as on a wire that touches ground
	Slow                        // each transaction takes Delay longer
	Unplug                      // the whole bus is gone: hal.ErrGone (in a list of Faults; by hand it is Bus.Unplug)
)

// String returns the word that tests and logs use.
func (k FaultKind) String() string {
	if names := [...]string{"none", "NAK", "stuck", "flip", "ones", "zeros", "slow", "unplug"}; int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("FaultKind(%d)", uint8(k))
}

// Fault is something wrong with one chip.
type Fault struct {
	Kind  FaultKind
	For   time.Duration // ends by itself after this; 0 = lasts until Heal
	Delay time.Duration // of each transaction, for Stuck and Slow
}

// refuse returns the error of a fault that lets no transaction through.
func (f Fault) refuse() error {
	switch f.Kind {
	case NAK:
		return ErrNAK
	case Stuck:
		return hal.ErrTimeout
	}
	return nil
}

type injected struct {
	Fault
	end time.Time // zero = none
}

// Inject makes the chip at addr fail from now on, in the place of an earlier fault of its own and of the scheduled ones.
func (b *Bus) Inject(addr uint16, f Fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	in := injected{Fault: f}
	if f.For > 0 {
		in.end = b.now().Add(f.For)
	}
	b.faults[addr] = in
}

// Heal ends what Inject began.
func (b *Bus) Heal(addr uint16) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.faults, addr)
}

// Unplug takes the whole adapter away: every transaction returns hal.ErrGone. The chips keep their supply.
func (b *Bus) Unplug() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.absent {
		b.absent = true
		b.unplugs++
	}
}

// Plug brings the adapter back. What was opened before Unplug stays dead.
func (b *Bus) Plug() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.absent = false
}

// unplugged reports whether the adapter is away. b.mu is held.
func (b *Bus) unplugged() bool {
	if b.absent {
		return true
	}
	_, away := b.schedule.At(0, b.now())
	return away
}

// fault returns what is wrong with a chip now. b.mu is held.
func (b *Bus) fault(addr uint16) Fault {
	if in, ok := b.faults[addr]; ok {
		if in.end.IsZero() || b.now().Before(in.end) {
			return in.Fault
		}
		delete(b.faults, addr)
	}
	e, _ := b.schedule.At(addr, b.now())
	return e.Fault
}

// spoil changes what was read as a fault does.
func (b *Bus) spoil(k FaultKind, r []byte) {
	switch k {
	case Flip:
		if len(r) == 0 {
			return
		}
		b.mu.Lock()
		b.flips++
		bit := int(unit(b.flips) * float64(8*len(r)))
		b.mu.Unlock()
		r[bit/8] ^= bits.Reverse8(1 << (bit % 8))
	case Ones:
		for i := range r {
			r[i] = 0xff
		}
	case Zeros:
		clear(r)
	}
}
