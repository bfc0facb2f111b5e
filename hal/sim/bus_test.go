// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"bytes"
	"errors"
	"math/bits"
	"os"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
)

// steady is a chip whose every byte is the same, and which counts what is written to it.
type steady struct {
	value byte
	wrote int
	busy  bool
}

func (s *steady) Tx(w, r []byte) error {
	s.wrote += len(w)
	for i := range r {
		r[i] = s.value
	}
	if s.busy {
		return sim.ErrNAK
	}
	return nil
}

func steadyBus() (*sim.Bus, *steady) {
	b, chip := sim.NewBus("test"), &steady{value: 0x5a}
	b.Attach(0x10, chip)
	b.Attach(0x11, &steady{value: 0x11})
	return b, chip
}

func TestFaultsChangeWhatTheBusReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, chip := steadyBus()
		for _, tc := range []struct {
			fault  sim.Fault
			causes []error
			reads  func(r []byte) bool
			takes  time.Duration
		}{
			{fault: sim.Fault{Kind: sim.NAK}, causes: []error{sim.ErrNAK, hal.ErrAbsent}},
			{fault: sim.Fault{Kind: sim.Stuck, Delay: time.Second}, causes: []error{hal.ErrTimeout}, takes: time.Second},
			{fault: sim.Fault{Kind: sim.Ones}, reads: func(r []byte) bool { return bytes.Equal(r, []byte{0xff, 0xff, 0xff}) }},
			{fault: sim.Fault{Kind: sim.Zeros}, reads: func(r []byte) bool { return bytes.Equal(r, []byte{0, 0, 0}) }},
			{fault: sim.Fault{Kind: sim.Slow, Delay: time.Minute}, reads: func(r []byte) bool { return bytes.Equal(r, []byte{0x5a, 0x5a, 0x5a}) }, takes: time.Minute},
			{fault: sim.Fault{Kind: sim.Flip}, reads: func(r []byte) bool {
				return bits.OnesCount8(r[0]^0x5a)+bits.OnesCount8(r[1]^0x5a)+bits.OnesCount8(r[2]^0x5a) == 1
			}},
		} {
			b.Inject(0x10, tc.fault)
			wrote, r, begin := chip.wrote, make([]byte, 3), time.Now()
			err := b.Tx(0x10, []byte{1}, r)
			if took := time.Since(begin); took != tc.takes {
				t.Errorf("%s took %v, want %v", tc.fault.Kind, took, tc.takes)
			}
			for _, cause := range tc.causes {
				if !errors.Is(err, cause) || chip.wrote != wrote {
					t.Errorf("%s: %v, want %v and nothing written", tc.fault.Kind, err, cause)
				}
			}
			if tc.reads != nil && (err != nil || !tc.reads(r) || chip.wrote != wrote+1) {
				t.Errorf("%s: read %x, %v", tc.fault.Kind, r, err)
			}
			if err := b.Tx(0x11, nil, r); err != nil || r[0] != 0x11 {
				t.Errorf("%s at one chip hit another: %x, %v", tc.fault.Kind, r, err)
			}
			b.Heal(0x10)
			if err := b.Tx(0x10, []byte{1}, r); err != nil || !bytes.Equal(r, []byte{0x5a, 0x5a, 0x5a}) {
				t.Errorf("%s, healed: %x, %v", tc.fault.Kind, r, err)
			}
		}
	})
}

func TestFlipsHitAllBits(t *testing.T) {
	b, _ := steadyBus()
	b.Inject(0x10, sim.Fault{Kind: sim.Flip})
	var seen [3]byte
	for range 200 {
		r := make([]byte, 3)
		if err := b.Tx(0x10, nil, r); err != nil {
			t.Fatal(err)
		}
		for i := range r {
			seen[i] |= r[i] ^ 0x5a
		}
	}
	if seen != [3]byte{0xff, 0xff, 0xff} {
		t.Errorf("bits that were ever flipped: %x", seen)
	}
	if err := b.Tx(0x10, []byte{1}, nil); err != nil {
		t.Errorf("a transaction that reads nothing: %v", err)
	}
}

func TestFaultEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := steadyBus()
		b.Inject(0x10, sim.Fault{Kind: sim.NAK, For: time.Minute})
		time.Sleep(time.Minute - 1)
		if err := b.Tx(0x10, nil, nil); !errors.Is(err, sim.ErrNAK) {
			t.Errorf("before the end: %v", err)
		}
		time.Sleep(time.Nanosecond)
		if err := b.Tx(0x10, nil, nil); err != nil {
			t.Errorf("at the end: %v", err)
		}
	})
}

// A slow chip holds up its own bus, not another, and the clock goes on while others wait for their turn.
func TestSlowChipHoldsUpItsBusOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, _ := steadyBus()
		other, _ := steadyBus()
		slow.Inject(0x10, sim.Fault{Kind: sim.Slow, Delay: time.Second})
		begin := time.Now()
		first, second := make(chan time.Duration), make(chan time.Duration)
		go func() {
			if err := slow.Tx(0x10, nil, nil); err != nil {
				t.Error(err)
			}
			first <- time.Since(begin)
		}()
		synctest.Wait()
		go func() {
			if err := slow.Tx(0x11, nil, nil); err != nil {
				t.Error(err)
			}
			second <- time.Since(begin)
		}()
		if err := other.Tx(0x10, nil, nil); err != nil || time.Since(begin) != 0 {
			t.Errorf("another bus: %v after %v", err, time.Since(begin))
		}
		if took := <-first; took != time.Second {
			t.Errorf("the slow chip took %v", took)
		}
		if took := <-second; took != time.Second {
			t.Errorf("its neighbour took %v", took)
		}
	})
}

func TestBusyChipLooksAbsent(t *testing.T) {
	b, chip := steadyBus()
	chip.busy = true
	if err := b.Tx(0x10, nil, nil); !errors.Is(err, sim.ErrNAK) || !errors.Is(err, hal.ErrAbsent) {
		t.Errorf("busy: %v", err)
	}
	b.Attach(0x10, nil)
	if err := b.Tx(0x10, nil, nil); !errors.Is(err, sim.ErrNAK) || !errors.Is(err, hal.ErrAbsent) {
		t.Errorf("taken off: %v", err)
	}
}

func TestUnplug(t *testing.T) {
	b, _ := steadyBus()
	old, err := b.Open()
	if err != nil {
		t.Fatal(err)
	}
	b.Unplug()
	if err := old.Tx(0x10, nil, nil); !errors.Is(err, hal.ErrGone) {
		t.Errorf("unplugged: %v", err)
	}
	if err := b.Tx(0x12, nil, nil); !errors.Is(err, hal.ErrGone) {
		t.Errorf("unplugged, no chip: %v", err)
	}
	if _, err := b.Open(); !errors.Is(err, hal.ErrGone) {
		t.Errorf("opened while unplugged: %v", err)
	}
	b.Plug()
	if err := old.Tx(0x10, nil, nil); !errors.Is(err, hal.ErrGone) {
		t.Errorf("the old handle after the return: %v", err)
	}
	fresh, err := b.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := fresh.Tx(0x10, nil, nil); err != nil {
		t.Errorf("opened again: %v", err)
	}
	if err := fresh.Close(); err != nil {
		t.Error(err)
	}
	if err := fresh.Tx(0x10, nil, nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := fresh.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
}

func TestScheduleOfFaults(t *testing.T) {
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	f := sim.Faults{Seed: 9, PerHour: 4, Unplugs: 0.5, Longest: 20 * time.Second}
	list := f.List(0x76, start, start.Add(1000*time.Hour))
	if n := len(list); n < 3700 || n > 4300 {
		t.Errorf("%d faults in 1 000 h, want about 4 000", n)
	}
	kinds := map[sim.FaultKind]int{}
	last := start
	for _, e := range list {
		kinds[e.Kind]++
		if e.Start.Before(last) || !e.End.After(e.Start) || e.End.Sub(e.Start) > f.Longest || e.Addr != 0x76 {
			t.Fatalf("%+v after one that ended at %v", e, last)
		}
		last = e.End
		for at, want := range map[time.Time]bool{e.Start.Add(-1): false, e.Start: true, e.End.Add(-1): true, e.End: false} {
			if got, on := f.At(0x76, at); on != want || on && got != e {
				t.Fatalf("at %v of %+v: %+v, %v", at, e, got, on)
			}
		}
	}
	if len(kinds) != 6 || kinds[sim.Unplug] != 0 {
		t.Errorf("kinds of fault: %v", kinds)
	}
	if reflect.DeepEqual(list, f.List(0x77, start, start.Add(1000*time.Hour))) {
		t.Error("two chips fail together")
	}
	if n := len(f.List(0, start, start.Add(1000*time.Hour))); n < 400 || n > 600 {
		t.Errorf("the bus went away %d times in 1 000 h, want about 500", n)
	}
	if all := (sim.Faults{}).List(0x76, start, start.Add(1000*time.Hour)); len(all) != 0 {
		t.Errorf("the zero schedule has %v", all)
	}
}

// What the board's bus returns is what the schedule says.
func TestBoardFailsOnSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := sim.Faults{Seed: 2, PerHour: 30, Unplugs: 5}
		w := sim.NewWorld(sim.Config{Seed: 1, Faults: f})
		defer w.Board.Close()
		begin, failed, seen := time.Now(), map[time.Time]bool{}, 0
		for time.Since(begin) < 6*time.Hour {
			now, id := time.Now(), make([]byte, 1)
			err := w.Bus.Tx(sim.BME280Address, []byte{0xd0}, id)
			e, bad := f.At(sim.BME280Address, now)
			away, gone := f.At(0, now)
			switch {
			case gone:
				e, bad = away, errors.Is(err, hal.ErrGone)
			case !bad:
				bad = err == nil && id[0] == 0x60
			case e.Kind == sim.NAK:
				bad = errors.Is(err, hal.ErrAbsent)
			case e.Kind == sim.Stuck:
				bad = errors.Is(err, hal.ErrTimeout) && time.Since(now) == 300*time.Millisecond
			case e.Kind == sim.Slow:
				bad = err == nil && id[0] == 0x60 && time.Since(now) == e.Delay
			default:
				bad = err == nil && id[0] != 0x60
			}
			if !bad {
				t.Fatalf("%v: %v, id %x during %+v", now, err, id, e)
			}
			if !e.Start.IsZero() && !failed[e.Start] {
				failed[e.Start] = true
				seen++
			}
			time.Sleep(500 * time.Millisecond)
		}
		all := len(f.List(sim.BME280Address, begin, time.Now())) + len(f.List(0, begin, time.Now()))
		if seen < all*9/10 {
			t.Errorf("%d of %d faults were seen", seen, all)
		}
	})
}

// A board whose bus was away works again without anybody asking for the port anew.
func TestBoardComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.NewWorld(sim.Config{})
		defer w.Board.Close()
		c := port(t, w.Board, hal.Request{Kind: hal.I2C, Addr: sim.BME280Address}).I2C
		id := make([]byte, 1)
		if err := c.Tx(t.Context(), []byte{0xd0}, id); err != nil || id[0] != 0x60 {
			t.Fatalf("%x, %v", id, err)
		}
		w.Bus.Unplug()
		if err := c.Tx(t.Context(), []byte{0xd0}, id); !errors.Is(err, hal.ErrGone) {
			t.Errorf("unplugged: %v", err)
		}
		w.Bus.Plug()
		begin := time.Now()
		for err := errors.New("not tried"); err != nil; time.Sleep(100 * time.Millisecond) {
			if err = c.Tx(t.Context(), []byte{0xd0}, id); err != nil && time.Since(begin) > 10*time.Second {
				t.Fatalf("10 s after its return: %v", err)
			}
		}
	})
}
