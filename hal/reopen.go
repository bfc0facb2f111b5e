// SPDX-License-Identifier: Apache-2.0

package hal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"periph.io/x/conn/v3/i2c"
)

// BusState says in which state a bus is.
type BusState string

// The states of a bus.
const (
	BusOpen   BusState = "open"
	BusHung   BusState = "hung"   // a transaction has not ended in time and still runs
	BusClosed BusState = "closed" // after repeated time-outs; it is opened again at a later transaction
	BusGone   BusState = "gone"   // its adapter is not there; it is opened again when it returns
)

// BusHealth is what happened on an I²C bus since it was first opened.
type BusHealth struct {
	Name  string   // under which it was seen last, for example "/dev/i2c-1"
	Key   string   // what stays when it returns under another name, for example "usb-1-1.2"; otherwise Name
	State BusState // now

	Transactions uint64 // all, those that failed included; a transaction and its retries are one
	Errors       uint64 // transactions that failed in the end, for whatever reason
	Absent       uint64 // of these: nobody acknowledged
	Timeouts     uint64 // of these: not ended within TxTimeout, or ended by the adapter's own time-out
	Retries      uint64
	Reopens      uint64 // how often the bus was opened anew

	LastError   error // nil = there was none
	LastErrorAt time.Time
}

var errClosed = errors.New("the bus is closed")

// count changes the counters.
func (g *guard) count(change func(*BusHealth)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change(&g.health)
}

// read returns the health as of now.
func (g *guard) read() BusHealth {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := g.health
	h.Name, h.Key = g.at.Name, g.key
	if h.State == BusOpen && g.turn.held() > TxTimeout {
		h.State = BusHung
	}
	return h
}

func (g *guard) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.health.Transactions++
}

func (g *guard) failed(err error) {
	g.health.Errors++
	g.health.LastError, g.health.LastErrorAt = err, time.Now()
	switch {
	case errors.Is(err, errClosed): // no transaction was made
	case errors.Is(err, ErrAbsent):
		g.health.Absent++
	case errors.Is(err, ErrTimeout):
		g.health.Timeouts++
	}
}

// overdue counts a transaction that has not ended in time: over. It does not if its caller gave up earlier, or if it has ended
// after all and its result is on the way.
func (g *guard) overdue(ctx context.Context, c *call) (over, ended bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.counted || !errors.Is(context.Cause(ctx), ErrTimeout) {
		return false, c.counted
	}
	c.counted = true
	g.inRow++
	g.failed(ErrTimeout)
	return true, false
}

// stillBusy counts a transaction that never got its turn.
func (g *guard) stillBusy(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.health.Transactions++
	g.failed(err)
	return err
}

// ended counts a transaction and closes the bus if it has become useless. The caller has the turn.
func (g *guard) ended(c *call, err error) {
	g.mu.Lock()
	switch late := c.counted; {
	case late: // its end says nothing that its lateness has not said
	case err == nil || errors.Is(err, ErrAbsent):
		g.inRow, g.pause = 0, firstPause
	case errors.Is(err, ErrTimeout) && g.bus != nil:
		g.inRow++
	}
	if err != nil && !c.counted {
		g.failed(err)
	}
	c.counted = true
	useless := errors.Is(err, ErrGone) || g.inRow >= strikes || g.finished
	if g.inRow >= strikes && !errors.Is(err, ErrGone) {
		err = fmt.Errorf("%d time-outs in a row: %w", g.inRow, ErrTimeout)
	}
	g.mu.Unlock()
	if useless {
		g.shut(err)
	}
}

// shut closes the handle, which the kernel waits for when an adapter is unplugged: i2c_del_adapter blocks the hub's worker until all of
// them are closed. The caller has the turn.
func (g *guard) shut(why error) {
	if g.bus == nil {
		return
	}
	err := g.bus.Close()
	g.bus = nil
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inRow = 0
	if err != nil {
		why = fmt.Errorf("%w (closing it: %w)", why, err)
	}
	g.closedFor(why)
}

// closedFor says why the bus is closed and until when it stays so, under mu.
func (g *guard) closedFor(why error) {
	g.why, g.again = why, time.Now().Add(g.pause)
	g.pause = min(2*g.pause, lastPause)
	g.health.State = BusClosed
	if errors.Is(why, ErrGone) {
		g.health.State = BusGone
	}
}

// ensureOpen opens the bus if it is closed and the pause is over. The caller has the turn.
func (g *guard) ensureOpen() error {
	if g.bus != nil {
		return nil
	}
	g.mu.Lock()
	why, wait := g.why, time.Until(g.again)
	g.mu.Unlock()
	if wait > 0 {
		return fmt.Errorf("%w for the next %s: %w", errClosed, wait.Round(time.Millisecond), why)
	}
	at, there := g.find(g.key)
	err := ErrGone
	if there {
		var bus i2c.BusCloser
		if bus, err = at.Open(); err == nil {
			g.count(func(h *BusHealth) { h.Reopens++ })
			g.opened(at, bus)
			return nil
		}
		err = goneIf(at, fmt.Errorf("opening %s again: %w", at.Name, classify(err)))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closedFor(err)
	return err
}

func (g *guard) opened(at Bus[i2c.BusCloser], bus i2c.BusCloser) {
	g.bus = bus
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at, g.health.State = at, BusOpen
	g.rearm()
}

// rearm lets look run again, under mu.
func (g *guard) rearm() {
	if g.watch != nil {
		g.watch.Stop() // of a handle that was closed meanwhile
	}
	if g.at.Present != nil && !g.finished {
		g.watch = time.AfterFunc(watchEvery, g.look)
	}
}

// look closes the bus when its adapter is gone, although no sensor uses it just now.
func (g *guard) look() {
	if !g.turn.try() { // in use: who uses it sees by himself
		g.mu.Lock()
		defer g.mu.Unlock()
		g.rearm()
		return
	}
	defer g.turn.give()
	switch {
	case g.bus == nil:
	case !g.seen().present():
		g.shut(ErrGone)
	default:
		g.mu.Lock()
		defer g.mu.Unlock()
		g.rearm()
	}
}

// close waits for the transaction that runs, at most TxTimeout, and closes the bus. If it still runs then, the handle is closed
// when it ends, if ever.
func (g *guard) close() error {
	g.mu.Lock()
	g.finished = true
	if g.watch != nil {
		g.watch.Stop()
	}
	g.mu.Unlock()
	if err := g.turn.take(context.Background(), TxTimeout); err != nil {
		return fmt.Errorf("%s: a transaction still runs, the bus is closed when it ends: %w", g, ErrTimeout)
	}
	defer g.turn.give()
	if g.bus == nil {
		return nil
	}
	bus := g.bus
	g.bus = nil
	if err := bus.Close(); err != nil {
		return fmt.Errorf("%s: %w", g, err)
	}
	return nil
}
