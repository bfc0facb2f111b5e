// SPDX-License-Identifier: Apache-2.0

package hal

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
)

// TxTimeout is how long a transaction on a Board's I²C bus may take, retries included. Who waits for the bus gives up when one
// transaction has kept him waiting for so long, not when many short ones are in front: they have their turns in the order in which they
// came. It is above what the kernel's adapters need to give up by themselves (see kernelTimeout).
const TxTimeout = time.Second

const (
	retries    = 2 // of a transaction that nobody acknowledged or that lost the arbitration
	retryPause = 2 * time.Millisecond
	strikes    = 3 // time-outs in a row after which the bus is closed and opened anew
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second // between two attempts to open a bus that is closed
	watchEvery = time.Second     // how often an open bus is looked for in sysfs

	// settle is how long the kernel may take to see that an adapter was unplugged: a hub is asked for changes every 256 ms at the
	// latest (USB 2.0 §11.12.1, §9.6.6). Until then transactions fail with whatever the adapter's driver makes of it.
	settle     = 300 * time.Millisecond
	settleStep = 10 * time.Millisecond
)

// guard is what a Board puts around an opened I²C bus: one transaction at a time, each with a deadline, few retries, errors that
// wrap ErrAbsent, ErrTimeout or ErrGone, and a new handle when the old one is of no use. It implements i2c.Bus.
//
// A hung ioctl cannot be interrupted. Therefore each transaction runs in a goroutine of its own with its own buffers. The
// goroutine keeps the turn until it ends, so that nobody else uses the bus before, and Close waits for the turn.
type guard struct {
	key  string
	find func(key string) (Bus[i2c.BusCloser], bool)
	turn turn          // who takes it owns bus until he gives it back
	bus  i2c.BusCloser // nil while closed

	mu       sync.Mutex
	at       Bus[i2c.BusCloser] // where the bus was seen last
	watch    *time.Timer
	finished bool  // by close
	inRow    int   // time-outs since the last transaction that ended in time
	why      error // of being closed
	pause    time.Duration
	again    time.Time // when it may be opened again
	health   BusHealth
}

func newGuard(at Bus[i2c.BusCloser], bus i2c.BusCloser, find func(string) (Bus[i2c.BusCloser], bool)) *guard {
	g := &guard{key: at.key(), find: find, pause: firstPause}
	g.opened(at, bus)
	return g
}

// String implements i2c.Bus: the name under which the bus was seen last.
func (g *guard) String() string { return g.seen().Name }

func (g *guard) seen() Bus[i2c.BusCloser] {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.at
}

// SetSpeed implements i2c.Bus.
func (g *guard) SetSpeed(f physic.Frequency) error {
	if err := g.take(context.Background()); err != nil {
		return err
	}
	defer g.turn.give()
	if err := g.ensureOpen(); err != nil {
		return err
	}
	return g.bus.SetSpeed(f)
}

// Tx implements i2c.Bus.
func (g *guard) Tx(addr uint16, w, r []byte) error {
	return g.TxContext(context.Background(), addr, w, r)
}

// TxContext is Tx that stops waiting when the context ends; the transaction itself then goes on until it ends.
func (g *guard) TxContext(ctx context.Context, addr uint16, w, r []byte) error {
	if err := g.take(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, TxTimeout, ErrTimeout)
	defer cancel()
	c := call{addr: addr, w: slices.Clone(w), r: make([]byte, len(r)), done: make(chan error, 1)}
	g.begin()
	go g.run(ctx, &c)
	select {
	case err := <-c.done:
		return c.result(r, g.settled(ctx, err))
	case <-ctx.Done():
	}
	switch over, ended := g.overdue(ctx, &c); {
	case ended:
		return c.result(r, g.settled(ctx, <-c.done))
	case over:
		return goneIf(g.seen(), fmt.Errorf("the transaction has not ended after %s: %w", TxTimeout, ErrTimeout))
	}
	return ctx.Err()
}

// call is one transaction on its way.
type call struct {
	addr    uint16
	w, r    []byte
	done    chan error
	counted bool // under guard.mu: either its end or its being overdue is counted, not both
}

func (c *call) result(r []byte, err error) error {
	if err == nil {
		copy(r, c.r)
	}
	return err
}

// take waits for the turn.
func (g *guard) take(ctx context.Context) error {
	if err := g.turn.take(ctx, TxTimeout); errors.Is(err, ErrTimeout) {
		return g.stillBusy(goneIf(g.seen(), err)) // one that is unplugged in a transaction may hang until its driver's own time-out
	} else if err != nil {
		return err
	}
	g.mu.Lock()
	finished := g.finished
	g.mu.Unlock()
	if finished {
		g.turn.give()
		return errors.New("the board is closed")
	}
	return nil
}

// run makes the transaction and gives the turn back.
func (g *guard) run(ctx context.Context, c *call) {
	growStack()
	err := g.attempt(c)
	for n := 0; n < retries && transient(err) && Sleep(ctx, retryPause<<n) == nil; n++ {
		g.count(func(h *BusHealth) { h.Retries++ })
		err = g.attempt(c)
	}
	g.ended(c, err)
	g.turn.give()
	c.done <- err
}

func (g *guard) attempt(c *call) error {
	if err := g.ensureOpen(); err != nil {
		return err
	}
	err := classify(g.bus.Tx(c.addr, c.w, c.r))
	runtime.KeepAlive(c) // periph hands the buffers to the kernel as numbers, which keep nothing alive
	return goneIf(g.seen(), err)
}

// goneIf adds ErrGone to an error of an adapter that is not there any more: i2c-tiny-usb says EIO or EOPNOTSUPP once it is unplugged.
func goneIf(at Bus[i2c.BusCloser], err error) error {
	if err != nil && !errors.Is(err, ErrAbsent) && !errors.Is(err, ErrGone) && !at.present() {
		return fmt.Errorf("%w: %w", err, ErrGone)
	}
	return err
}

// settled tells whether an error that says nothing was the first sign of an unplugged adapter. It waits for the kernel to see that, if
// the adapter is one that can be unplugged. The others may use the bus meanwhile.
func (g *guard) settled(ctx context.Context, err error) error {
	at := g.seen()
	if err == nil || at.Key == "" || at.Present == nil {
		return err
	}
	for _, known := range []error{ErrAbsent, ErrTimeout, ErrGone, errClosed} {
		if errors.Is(err, known) {
			return err
		}
	}
	for end := time.Now().Add(settle); ; {
		gone := goneIf(at, err)
		if errors.Is(gone, ErrGone) || time.Now().After(end) || Sleep(ctx, settleStep) != nil {
			return gone
		}
	}
}

// growStack makes room for what follows. periph's sysfs keeps the ioctl's argument on the stack and passes its address as a
// number, which is wrong after the stack has moved because it had to grow in between; a new goroutine has but 2 KiB.
//
//go:noinline
func growStack() {
	var room [2048]byte
	runtime.KeepAlive(&room)
}

// transient errors may be gone at the next attempt: a chip that is busy does not acknowledge its address. A write that failed in its midst may be repeated
// by this; drivers must not depend on a command being given only once.
func transient(err error) bool {
	return errors.Is(err, ErrAbsent) || isTransient(err) && !errors.Is(err, ErrGone)
}
