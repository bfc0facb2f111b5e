// SPDX-License-Identifier: Apache-2.0

package sim

import "time"

// Faults is a schedule of random faults, for demonstrations and soak tests. It is a function of its fields, the address and the
// time, so a test can compare what was reported with what happened. The zero value has none. No two faults of one chip overlap.
type Faults struct {
	Seed    uint64
	PerHour float64       // faults of each chip, on average; at most half of 1 h / Longest is possible
	Unplugs float64       // how often in an hour, on average, the whole bus goes away
	Longest time.Duration // no fault lasts longer; 0 = 30 s
}

// Event is one fault of a schedule.
type Event struct {
	Fault
	Addr       uint16 // 0 = the whole bus
	Start, End time.Time
}

// adapterTimeout is when the adapter gives up a bus that is held: what package hal sets in Linux, whose own default is a second.
const adapterTimeout = 300 * time.Millisecond

// slot is the time in which a chip has at most one fault.
func (f Faults) slot() time.Duration {
	if f.Longest > 0 {
		return 2 * f.Longest
	}
	return time.Minute
}

// At returns what is wrong with the chip at addr at t, if anything is. Address 0 stands for the whole bus.
func (f Faults) At(addr uint16, t time.Time) (Event, bool) {
	e, ok := f.in(addr, t.UnixNano()/int64(f.slot()))
	if !ok || t.Before(e.Start) || !t.Before(e.End) {
		return Event{}, false
	}
	return e, true
}

// List returns the faults of a chip that begin in [from, to), in order. Address 0 stands for the whole bus.
func (f Faults) List(addr uint16, from, to time.Time) (all []Event) {
	for n := from.UnixNano() / int64(f.slot()); n <= to.UnixNano()/int64(f.slot()); n++ {
		if e, ok := f.in(addr, n); ok && !e.Start.Before(from) && e.Start.Before(to) {
			all = append(all, e)
		}
	}
	return all
}

// in returns the fault of one slot, if it has one. It fills at most half of the slot and ends in it.
func (f Faults) in(addr uint16, n int64) (Event, bool) {
	slot, rate := f.slot(), f.PerHour
	if addr == 0 {
		rate = f.Unplugs
	}
	random := func(what uint64) float64 { return unit(f.Seed, 20+what, uint64(addr), uint64(n)) }
	if random(0) >= rate*slot.Hours() {
		return Event{}, false
	}
	length := time.Duration((0.02 + 0.48*random(1)) * float64(slot))
	start := time.Unix(0, n*int64(slot)).Add(time.Duration(random(2) * float64(slot-length)))
	e := Event{Addr: addr, Start: start, End: start.Add(length), Fault: Fault{Kind: Unplug, For: length}}
	if addr == 0 {
		return e, true
	}
	e.Kind = NAK + FaultKind(random(3)*float64(Unplug-NAK))
	switch e.Kind {
	case Stuck:
		e.Delay = adapterTimeout
	case Slow:
		e.Delay = time.Duration((0.05 + 0.45*random(4)) * float64(time.Second))
	}
	return e, true
}
