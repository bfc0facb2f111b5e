// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"errors"
	"math"
	"sync"
	"time"

	"periph.io/x/conn/v3/gpio"

	"github.com/streembit/edge/hal"
)

// wave is what happens on a line: the level at any time, and when it changes next.
type wave interface {
	level(t time.Time) gpio.Level
	// next returns the first change after t.
	next(t time.Time) time.Time
}

// door is open for some of the slots of 5 s, more often by day. Its contact closes to ground, with a pull-up.
type door struct{ seed uint64 }

const doorSlot = 5 * time.Second

func (d door) level(t time.Time) gpio.Level {
	slot := t.UnixNano() / int64(doorSlot)
	return gpio.Level(unit(d.seed, 10, uint64(slot)) < 0.15+0.2*daylight(t.Truncate(doorSlot)))
}

func (d door) next(t time.Time) time.Time {
	for now := d.level(t); ; {
		t = time.Unix(0, (t.UnixNano()/int64(doorSlot)+1)*int64(doorSlot))
		if d.level(t) != now {
			return t
		}
	}
}

// meter is an energy meter with 1 000 pulses per kWh (IEC 62053-31, class A: at least 30 ms) behind which somebody lives: at most one
// pulse in each slot of a second, which would be 3.6 kW.
type meter struct{ seed uint64 }

const (
	meterSlot  = time.Second
	meterPulse = 40 * time.Millisecond
)

// pulse returns when the pulse of a slot begins, if the slot has one.
func (m meter) pulse(slot int64) (time.Time, bool) {
	begin := time.Unix(0, slot*int64(meterSlot))
	offset := time.Duration(unit(m.seed, 12, uint64(slot)) * float64(meterSlot-2*meterPulse))
	return begin.Add(offset), unit(m.seed, 11, uint64(slot)) < 0.2+0.5*daylight(begin)
}

func (m meter) level(t time.Time) gpio.Level {
	begin, ok := m.pulse(t.UnixNano() / int64(meterSlot))
	return gpio.Level(!ok || t.Before(begin) || !t.Before(begin.Add(meterPulse)))
}

func (m meter) next(t time.Time) time.Time {
	for slot := t.UnixNano() / int64(meterSlot); ; slot++ {
		begin, ok := m.pulse(slot)
		if ok && t.Before(begin) {
			return begin
		}
		if end := begin.Add(meterPulse); ok && t.Before(end) {
			return end
		}
	}
}

// daylight is 0 at midnight and 1 at noon UTC.
func daylight(t time.Time) float64 {
	return 0.5 - 0.5*math.Cos(2*math.Pi*float64(t.UnixNano()%int64(day))/float64(day))
}

// pin is a line, which a wave drives or nobody does. Like a kernel's line it has one user at a time.
type pin struct {
	now    func() time.Time
	wave   wave // nil = nothing is wired to the line
	mu     sync.Mutex
	busy   bool
	driven bool       // as an output
	drive  gpio.Level // what the output drives, or where the pull takes a line that nobody drives
}

// request gives the line to one user. It waits for no other, as the kernel does not.
func (p *pin) request(driven bool, l gpio.Level) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy {
		return errors.New("sim: the GPIO line is in use by another sensor")
	}
	p.busy, p.driven, p.drive = true, driven, l
	return nil
}

// release gives the line back. Nobody drives it then, and a pull-up on the board makes it high.
func (p *pin) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy, p.driven, p.drive = false, false, gpio.High
}

func (p *pin) level() gpio.Level {
	if p.wave != nil {
		return p.wave.level(p.now())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return gpio.Level(!p.busy) || p.drive
}

// Input implements hal.Pin. A line to which nothing is wired is high unless it is pulled down.
func (p *pin) Input(pull gpio.Pull, edge gpio.Edge) (hal.Line, error) {
	if err := p.request(false, gpio.Level(pull != gpio.PullDown)); err != nil {
		return nil, err
	}
	return &line{pin: p, edge: edge, seen: p.now()}, nil
}

// Output implements hal.Pin.
func (p *pin) Output(l gpio.Level) (hal.Output, error) {
	if p.wave != nil {
		return nil, errors.New("sim: this GPIO line is driven by what is wired to it: it cannot be an output")
	}
	if err := p.request(true, l); err != nil {
		return nil, err
	}
	return &output{p}, nil
}

// output is a line that drives.
type output struct{ pin *pin }

// Set implements hal.Output.
func (o *output) Set(l gpio.Level) error {
	o.pin.mu.Lock()
	defer o.pin.mu.Unlock()
	if !o.pin.driven {
		return errClosed
	}
	o.pin.drive = l
	return nil
}

// Read implements hal.Output.
func (o *output) Read() (gpio.Level, error) { return o.pin.level(), nil }

// Close implements hal.Output.
func (o *output) Close() error {
	o.pin.release()
	return nil
}

var errClosed = errors.New("sim: the GPIO line was closed")

// line remembers up to when its edges have been handed out, so that none is lost.
type line struct {
	pin  *pin
	edge gpio.Edge
	seen time.Time
}

// Read implements hal.Line.
func (l *line) Read() (gpio.Level, error) { return l.pin.level(), nil }

// WaitForEdge implements hal.Line.
func (l *line) WaitForEdge(timeout time.Duration) (bool, error) {
	if l.edge == gpio.NoEdge {
		return false, errors.New("sim: waiting for an edge on a line that was requested without")
	}
	limit := l.pin.now().Add(timeout)
	for l.pin.wave != nil {
		at := l.pin.wave.next(l.seen)
		if at.After(limit) {
			break
		}
		time.Sleep(at.Sub(l.pin.now()))
		l.seen = at
		rising := bool(l.pin.wave.level(at))
		if l.edge == gpio.BothEdges || rising == (l.edge == gpio.RisingEdge) {
			return true, nil
		}
	}
	time.Sleep(limit.Sub(l.pin.now()))
	return false, nil
}

// Close implements hal.Line.
func (l *line) Close() error {
	l.pin.release()
	return nil
}
