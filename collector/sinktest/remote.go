// SPDX-License-Identifier: Apache-2.0

package sinktest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/journal"
)

// Delivered is a reading as a server has it.
type Delivered struct {
	ID    string // chain/seq/index
	Value string // as fmt.Sprint shows it
	Wall  int64  // ms since 1970 UTC, 0 without
}

// Remote is a server that a sink delivers to. Open opens a sink to the server at addr with its checkpoints in dir; it is called in
// other processes, too.
type Remote struct {
	Server *Daemon
	Addr   string // what Open gets; "" = Server.Addr
	Open   func(ctx context.Context, addr, dir string) (collector.Sink, error)
	Got    func(t testing.TB) []Delivered // all that the server has, in the order in which it came where the server knows that
	Once   bool                           // the server never has a reading twice
	Order  bool                           // Got is in the order of arrival
	Holds  bool                           // readings without a time get it as soon as it is proven
	Refuse func(r *edge.Reading)          // makes a reading that the server does not take; nil if there is none
	Down   func(t testing.TB)             // called before the server is killed; may be nil
	Back   func(t testing.TB)             // called after it was started again; may be nil
}

func (r *Remote) addr() string {
	if r.Addr != "" {
		return r.Addr
	}
	return r.Server.Addr
}

func (r *Remote) open(t testing.TB, dir string) collector.Sink {
	t.Helper()
	s, err := r.Open(t.Context(), r.addr(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // the test may have closed it
	return s
}

func (r *Remote) kill(t testing.TB) {
	t.Helper()
	if r.Down != nil {
		r.Down(t)
	}
	r.Server.Kill(t)
}

func (r *Remote) restart(t testing.TB) {
	t.Helper()
	r.Server.Start(t)
	if r.Back != nil {
		r.Back(t)
	}
}

// RunRemote holds a sink that delivers to a server to its contract: everything arrives, as it was and under ids that stay; in order;
// what a server refuses is named; where each chain stands outlives everything; nothing is lost when the server or the collector is
// killed. fresh gives each part a server, or a part of one, that has nothing.
func RunRemote(t *testing.T, fresh func(t testing.TB) Remote) {
	for _, part := range []struct {
		name string
		test func(*testing.T, *Remote)
	}{
		{"values arrive as they were", remoteValues}, {"ids stay", remoteReplay}, {"each chain is in order", remoteOrder},
		{"the mark never goes back", remoteMarks}, {"poison is named", remotePoison}, {"clock notes restamp", remoteClocks},
		{"server absent", remoteAbsent}, {"server killed", remoteServerKilled}, {"collector killed", remoteCollectorKilled},
	} {
		t.Run(part.name, func(t *testing.T) {
			r := fresh(t)
			part.test(t, &r)
		})
	}
}

// arrived waits until the server has n different readings and returns them; more is an error.
func (r *Remote) arrived(t testing.TB, n int) []Delivered {
	t.Helper()
	var all, once []Delivered
	WaitFor(t, fmt.Sprintf("%d readings", n), func() error {
		all, once = r.Got(t), nil
		seen := map[string]string{}
		for _, d := range all {
			before, twice := seen[d.ID]
			if twice && before != d.Value {
				t.Fatalf("%s came as %q and as %q", d.ID, before, d.Value)
			}
			if seen[d.ID] = d.Value; !twice {
				once = append(once, d)
			}
		}
		if len(once) < n {
			return fmt.Errorf("%d are there", len(once))
		}
		return nil
	})
	if len(once) > n {
		t.Errorf("%d readings are there, want %d", len(once), n)
	}
	if r.Once && len(all) != len(once) {
		t.Errorf("%d readings are there more than once", len(all)-len(once))
	}
	return once
}

func remoteValues(t *testing.T, r *Remote) {
	s := r.open(t, t.TempDir())
	b, want := odd()
	write(t, s, b)
	shown := map[string]string{}
	for i := range b.Readings {
		shown[b.Chain.String()+"/0/"+strconv.Itoa(i)] = want[i]
	}
	for _, d := range r.arrived(t, len(want)) {
		if d.Value != shown[d.ID] || d.Wall != 1_700_000_000_123 {
			t.Errorf("%s: %q at %d, want %q", d.ID, d.Value, d.Wall, shown[d.ID])
		}
	}
	if err := s.(collector.Pinger).Ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
}

// remoteReplay sends again what was sent, once with the checkpoints and once without.
func remoteReplay(t *testing.T, r *Remote) {
	c, dir := Chain(1, 1), t.TempDir()
	s := r.open(t, dir)
	write(t, s, batch(c, 0, 9, 30))
	first := r.arrived(t, 300)
	write(t, s, batch(c, 0, 9, 30))
	part := batch(c, 2, 4, 30)
	part.Mark = nil
	write(t, s, part)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	amnesiac := r.open(t, t.TempDir())
	write(t, amnesiac, batch(c, 0, 9, 30))
	if err := amnesiac.Close(); err != nil {
		t.Fatal(err)
	}
	again := r.open(t, dir)
	wantMark(t, again, c, 9)
	write(t, again, batch(c, 10, 10, 1))
	if got := r.arrived(t, 301); !slices.Equal(got[:300], first) && r.Order {
		t.Error("a replay changed something")
	}
}

func remoteOrder(t *testing.T, r *Remote) {
	s := r.open(t, t.TempDir())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for from := uint64(0); from < 50; from += 10 {
				if err := s.Write(t.Context(), batch(Chain(byte(i%4), byte(i)), from, from+9, 5)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	r.ordered(t, r.arrived(t, 8*50*5))
}

// ordered checks that what came first of each reading came in the order of its chain.
func (r *Remote) ordered(t testing.TB, once []Delivered) {
	t.Helper()
	if !r.Order {
		return
	}
	last := map[string][2]int{}
	for _, d := range once {
		part := strings.Split(d.ID, "/")
		seq, _ := strconv.Atoi(part[3])
		idx, err := strconv.Atoi(part[4])
		if err != nil {
			t.Fatalf("id %q: %v", d.ID, err)
		}
		chain := strings.Join(part[:3], "/")
		if l, there := last[chain]; there && (l[0] > seq || l[0] == seq && l[1] >= idx) {
			t.Fatalf("%s came after %v", d.ID, l)
		}
		last[chain] = [2]int{seq, idx}
	}
}

func remoteMarks(t *testing.T, r *Remote) {
	c, dir := Chain(1, 1), t.TempDir()
	s := r.open(t, dir)
	if err := s.Write(t.Context(), batch(c, 3, 5, 1)); !errors.Is(err, collector.ErrJump) {
		t.Errorf("a first batch at seq 3: %v, want %v", err, collector.ErrJump)
	}
	b := batch(c, 0, 9, 1)
	b.Gaps = []collector.Gap{{First: 5, Last: 6, Reason: "lost", Found: b.Received}}
	b.Readings = without(b.Readings, 5, 6)
	write(t, s, b)
	other := batch(c, 5, 9, 1)
	other.Mark = &journal.Link{Seq: 9, Hash: journal.Hash{66}}
	if err := s.Write(t.Context(), other); !errors.Is(err, journal.ErrFork) {
		t.Errorf("another hash at the mark: %v, want %v", err, journal.ErrFork)
	}
	r.arrived(t, 8)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = r.open(t, dir)
	wantMark(t, s, c, 9)
	if g := mark(t, s, c).Gaps; !slices.Equal(g, b.Gaps) {
		t.Errorf("open gaps %v, want %v", g, b.Gaps)
	}
	fill := batch(c, 5, 6, 1)
	fill.Mark = nil
	write(t, s, fill)
	r.arrived(t, 10)
	if g := mark(t, s, c).Gaps; len(g) != 0 {
		t.Errorf("open gaps %v after they were filled", g)
	}
}

func remotePoison(t *testing.T, r *Remote) {
	r.Once = r.Once && r.Refuse == nil // the parts of a message that is refused are messages of their own
	s, c := r.open(t, t.TempDir()), Chain(1, 1)
	write(t, s, batch(c, 0, 0, 3))
	spoil := []func(*edge.Reading){func(r *edge.Reading) { r.Sensor = "a b" }}
	if r.Refuse != nil {
		spoil = append(spoil, r.Refuse)
	}
	for i, f := range spoil {
		b := batch(c, 1, 5, 3)
		f(&b.Readings[7].Reading)
		err := s.Write(t.Context(), b)
		var p *collector.PoisonError
		if !errors.As(err, &p) || !errors.Is(err, collector.ErrPoison) || p.Seq != 3 || p.Index != 1 {
			t.Fatalf("%d: %v, want a PoisonError at seq 3, index 1", i, err)
		}
		wantMark(t, s, c, 0)
	}
	b := batch(c, 1, 5, 3)
	b.Readings = slices.Delete(b.Readings, 7, 8)
	write(t, s, b)
	r.arrived(t, 17)
	wantMark(t, s, c, 5)
}

// remoteClocks: what came before the device knew the time gets it as soon as it is proven, where it was held, and from then on elsewhere.
func remoteClocks(t *testing.T, r *Remote) {
	s, c, boot := r.open(t, t.TempDir()), Chain(1, 1), journal.BootID{1}
	unsynced := func(seq uint64) collector.Batch {
		b := batch(c, seq, seq, 3)
		for i := range b.Readings {
			b.Readings[i].Boot, b.Readings[i].At.Wall = boot, 0
		}
		return b
	}
	write(t, s, unsynced(0))
	note := batch(c, 1, 1, 0)
	note.Notes = []collector.Note{{Seq: 1, Clock: &journal.ClockNote{Boot: boot, Mono: 5000, Wall: 1_700_000_005_000}}}
	write(t, s, note)
	write(t, s, unsynced(2))
	for _, d := range r.arrived(t, 6) {
		part := strings.Split(d.ID, "/")
		seq, _ := strconv.Atoi(part[3])
		idx, _ := strconv.Atoi(part[4])
		want := 1_700_000_000_000 + int64(seq)*1000 + int64(idx)
		if seq == 0 && !r.Holds {
			want = 0
		}
		if d.Wall != want {
			t.Errorf("%s: at %d, want %d", d.ID, d.Wall, want)
		}
	}
}

// remoteAbsent: while the server is away a write fails, says so, and changes nothing.
func remoteAbsent(t *testing.T, r *Remote) {
	s, c := r.open(t, t.TempDir()), Chain(1, 1)
	write(t, s, batch(c, 0, 4, 5))
	r.kill(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Write(ctx, batch(c, 5, 9, 5)); err == nil {
		t.Fatal("a write to a dead server succeeded")
	} else if errors.Is(err, collector.ErrPoison) {
		t.Errorf("a reading is blamed: %v", err)
	} else {
		t.Logf("a write: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.(collector.Pinger).Ping(ctx); err == nil {
		t.Error("a ping to a dead server succeeded")
	} else {
		t.Logf("a ping: %v", err)
	}
	r.restart(t)
	WaitFor(t, "the sink to be back", func() error { return s.Write(t.Context(), batch(c, 5, 9, 5)) })
	r.arrived(t, 50)
	wantMark(t, s, c, 9)
}

// Rounds is how often a test kills: 5, or STREEMBIT_SOAK times.
func Rounds() int {
	if n, err := strconv.Atoi(os.Getenv("STREEMBIT_SOAK")); err == nil && n > 0 {
		return n
	}
	return 5
}
