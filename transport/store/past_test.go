// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/store"
)

// TestForkOfWhatIsPast: a second segment for the last place that was let go is proven a fork, after a restart too, and one that does not continue
// what was let go is refused.
func TestForkOfWhatIsPast(t *testing.T) {
	w, dir := newKeeping(t), t.TempDir()
	w.retain(t, 7*day, w.one)
	s := open(t, dir, w.options())
	c := w.chain(t, w.device, "main")
	segs := c.epoch(5)
	twin := c.twin(w.device)
	segs = append(segs, c.epoch(5)...)
	rival := twin.epoch(1)[0] // another seq 5
	next := c.epoch(2)
	put(t, s, append(segs, next...)...)
	check(t, s.Mark(t.Context(), marks(t, w, w.one, next[0])))
	sweep(t, s)
	c.wants(s, 10, transport.PastCollected, transport.Span{First: 10, Last: 11})
	for range 2 {
		refused(t, s.Put(t.Context(), segs[9].Bytes()), transport.RefusedPast, w.hub.ID(), "required")
		refused(t, s.Put(t.Context(), rival.Bytes()), transport.RefusedPast, w.hub.ID(), "below 10") // not the last: nobody knows what stood there
		check(t, s.Close())
		s = open(t, dir, w.options())
	}
	if n := len(s.Forks(t.Context())); n != 0 {
		t.Fatalf("%d forks", n)
	}
	jw, err := journal.ResumeWriter(c.w.Chain(), &journal.Link{Seq: 8, Hash: segs[8].Hash}, w.device)
	check(t, err)
	last := (&chain{t: t, w: jw, readers: w.readers}).epoch(1)[0] // another seq 9
	refused(t, s.Put(t.Context(), last.Bytes()), transport.RefusedFork, w.hub.ID(), "seq 9")
	forks := s.Forks(t.Context())
	if len(forks) != 1 {
		t.Fatalf("%d forks", len(forks))
	}
	if name, seq, err := forks[0].Prove(w.fleet.ID()); err != nil || seq != 9 || name != c.w.Chain() {
		t.Errorf("it proves seq %d of %s: %v", seq, name, err)
	}
}

// TestEpochIsNeverSplit: whatever of some epochs a hub holds, whatever it has been told, what it gives always begins with the key that opens it, and
// what any required collector lacks is there.
func TestEpochIsNeverSplit(t *testing.T) {
	w := newKeeping(t)
	w.retain(t, 300*day, w.one, w.two)
	rng := rand.New(rand.NewPCG(3, 4))
	o := w.options()
	o.Wrap = unsynced
	for round := range 30 {
		s := open(t, t.TempDir(), o)
		c := w.chain(t, w.device, "main")
		var segs []*journal.Segment
		for range 6 {
			segs = append(segs, c.epoch(1+rng.IntN(8))...)
		}
		held := map[uint64]bool{}
		for _, seg := range segs {
			if held[seg.Seq] = rng.IntN(4) > 0; held[seg.Seq] {
				put(t, s, seg)
			}
		}
		var least uint64 // what both have is below
		for range 5 {
			one, two := rng.IntN(len(segs)), rng.IntN(len(segs))
			check(t, s.Mark(t.Context(), marks(t, w, w.one, segs[one])))
			check(t, s.Mark(t.Context(), marks(t, w, w.two, segs[two])))
			sweep(t, s)
		}
		h := heldOf(t, s, c)
		for _, seg := range segs {
			if seg.Seq < h.Floor {
				held[seg.Seq] = false
				least = seg.Seq
			}
			if held[seg.Seq] && seg.Epoch < h.Floor {
				t.Fatalf("round %d: floor %d, and seq %d is of epoch %d", round, h.Floor, seg.Seq, seg.Epoch)
			}
		}
		for _, wait := range s.Waits() {
			if wait.Segments > 0 && wait.Oldest == 0 {
				t.Errorf("round %d: %+v", round, wait)
			}
		}
		n := 0
		for _, has := range held {
			if has {
				n++
			}
		}
		if got := fetch(t, s, c.w.Chain(), 0, end); len(got) != n {
			t.Fatalf("round %d: floor %d behind %d: %d segments of %d", round, h.Floor, least, len(got), n)
		}
	}
}

// TestFullHubTakesAgain: a full hub refuses; when something may go, and was swept away, it takes again, as much as before, over and over.
func TestFullHubTakesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := newKeeping(t), t.TempDir()
		w.retainStream(t, "main", 7*day)
		w.retainStream(t, "slow", 300*day)
		o := w.options()
		o.Quota, o.Wrap = 512<<10, unsynced
		s := open(t, dir, o)
		fast, slow := w.chain(t, w.device, "main"), w.chain(t, w.device, "slow")
		kept := slow.epoch(2)
		put(t, s, kept...)
		var counts []int
		for range 4 {
			n := 0
			fill := func(c *chain) {
				for {
					c.started = n%10 != 0
					seg := c.next(50)
					err := s.Put(t.Context(), seg.Bytes())
					if err != nil { // it may lack room for a minute only
						sweep(t, s)
						err = s.Put(t.Context(), seg.Bytes())
					}
					if err != nil {
						refused(t, err, transport.RefusedFull, w.hub.ID(), "")
						*c = *w.chain(t, w.device, c.w.Chain().Stream) // what was refused is lost with this chain
						return
					}
					n++
					if n%40 == 0 && n <= 160 { // something that stays, in between
						seg := slow.next(1)
						put(t, s, seg)
						kept = append(kept, seg)
					}
				}
			}
			fill(fast)
			counts = append(counts, n)
			time.Sleep(day)
			fast.started = false
			_ = s.Put(t.Context(), fast.next(1).Bytes()) // says that the epochs before are over; there may be no room for it
			time.Sleep(10 * day)
			for range 3 {
				sweep(t, s)
			}
		}
		if counts[0] < 200 || counts[3] < counts[0]*3/4 {
			t.Errorf("it took %v: %+v", counts, s.Stats())
		}
		if size := s.Stats().Bytes; size > o.Quota {
			t.Errorf("%d bytes of %d", size, o.Quota)
		}
		if got := fetch(t, s, slow.w.Chain(), 0, end); !equal(got, bytesOf(kept)) {
			t.Errorf("%d of %d that are to stay", len(got), len(kept))
		}
	})
}

// TestRate: a device that writes without end is told to wait, alone, and what repair brings is taken all the same.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newKeeping(t)
		other := key(61)
		f, err := w.now.Load().Grant(fleet.Author{Key: key(1)}, time.Now(), fleet.Grant{Member: other.ID(), Name: "other", Roles: fleet.Device})
		check(t, err)
		w.now.Store(f)
		o := w.options()
		o.Rate, o.Wrap = 8<<10, unsynced
		s := open(t, t.TempDir(), o)
		c, d := w.chain(t, w.device, "main"), w.chain(t, other, "main")
		put(t, s, c.epoch(512)...) // of 4 KiB each at least: 256 s worth
		seg := c.next(1)
		refused(t, s.Put(t.Context(), seg.Bytes()), transport.RefusedRate, w.hub.ID(), "8192 bytes a second")
		put(t, s, d.epoch(10)...)
		check(t, s.PutDated(t.Context(), seg.Bytes(), time.Now().UnixMilli()))
		put(t, s, seg) // it is there: that costs nothing
		seg = c.next(1)
		refusedBecause(t, s.Put(t.Context(), seg.Bytes()), transport.RefusedRate)
		time.Sleep(time.Second)
		put(t, s, seg)
		time.Sleep(time.Hour)
		sweep(t, s)
		put(t, s, c.epoch(512)...)
		refusedBecause(t, s.Put(t.Context(), c.next(1).Bytes()), transport.RefusedRate)
	})
}

// TestChainsThatEnded: the last epoch of a chain goes two days after the device began another chain; of what is gone wholly so many are remembered.
func TestChainsThatEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := newKeeping(t), t.TempDir()
		s := open(t, dir, w.options())
		var chains []*chain
		var firsts []*journal.Segment
		for range 70 { // a device that never stops cleanly
			c := w.chain(t, w.device, "main")
			segs := c.epoch(2)
			put(t, s, segs...)
			chains, firsts = append(chains, c), append(firsts, segs[0])
			time.Sleep(time.Hour)
		}
		time.Sleep(9*day - time.Hour)
		sweep(t, s)
		for range 2 {
			for i, c := range chains[:69] {
				if i < 5 {
					c.wants(s, 0, transport.PastNone) // forgotten
				} else {
					c.wants(s, 2, transport.PastAge)
				}
			}
			chains[69].wants(s, 0, transport.PastNone, transport.Span{First: 0, Last: 1})
			check(t, s.Close())
			s = open(t, dir, w.options())
			sweep(t, s)
		}
		refusedBecause(t, s.Put(t.Context(), firsts[5].Bytes()), transport.RefusedPast)
		put(t, s, firsts[0])
	})
}

// TestRewrapsOutliveWhatTheyOpen: rewraps are held as long as the longest that anything is held.
func TestRewrapsOutliveWhatTheyOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newKeeping(t)
		w.retainStream(t, "slow", 60*day)
		s := open(t, t.TempDir(), w.options())
		jw, err := journal.NewWriter(w.fleet.ID(), journal.RewrapStream, w.one)
		check(t, err)
		c := &chain{t: t, w: jw}
		for range 3 {
			seg, err := jw.Rewraps([]journal.Rewrap{{Chain: w.chain(t, w.device, "slow").w.Chain(), Sealed: make([]byte, 64)}}, journal.Stamp{})
			check(t, err)
			check(t, jw.Commit(seg))
			put(t, s, seg)
			time.Sleep(time.Hour)
		}
		time.Sleep(59 * day)
		sweep(t, s)
		c.wants(s, 0, transport.PastNone, transport.Span{First: 0, Last: 2})
		time.Sleep(day)
		sweep(t, s)
		c.wants(s, 2, transport.PastAge, transport.Span{First: 2, Last: 2})
	})
}

// FuzzFrames: whatever a frame of the log says, the store opens, sweeps and gives out nothing that is not there.
func FuzzFrames(f *testing.F) {
	w := newKeeping(f)
	w.retain(f, 7*day, w.one)
	c := w.chain(f, w.device, "main")
	segs := append(c.epoch(2), c.epoch(2)...)
	dir := f.TempDir()
	s := open(f, dir, w.options())
	put(f, s, segs...)
	check(f, s.Mark(f.Context(), marks(f, w, w.one, segs[3])))
	sweep(f, s)
	check(f, s.Close())
	log, _, err := wal.Open(dir, wal.Options{}, func(_ wal.Pos, frame []byte) error {
		f.Add(bytes.Clone(frame), uint16(0), byte(0))
		f.Add(bytes.Clone(frame), uint16(9), byte(1))
		return nil
	})
	check(f, err)
	check(f, log.Close())
	for _, seed := range []string{"T12345678", "C12345678", "F", "P", "M", "D", "S", "?"} {
		f.Add([]byte(seed), uint16(1), byte(0xff))
	}
	f.Fuzz(func(t *testing.T, frame []byte, at uint16, flip byte) {
		if len(frame) == 0 || len(frame) > 64<<10 {
			return
		}
		frame = bytes.Clone(frame)
		frame[int(at)%len(frame)] ^= flip
		dir, o := t.TempDir(), w.options()
		o.Wrap = unsynced
		log, _, err := wal.Open(dir, wal.Options{Wrap: unsynced}, nil)
		check(t, err)
		for _, data := range [][]byte{append([]byte("S"), segs[0].Bytes()...), frame, append([]byte("S"), segs[1].Bytes()...)} {
			_, err := log.Append(t.Context(), data)
			check(t, err)
		}
		check(t, log.Close())
		s, err := store.Open(t.Context(), dir, o)
		check(t, err)
		defer s.Close()
		sweep(t, s)
		held, err := s.Held(t.Context(), w.device.ID())
		check(t, err)
		given := ""
		for _, h := range held {
			given += fmt.Sprint(len(fetch(t, s, h.Chain, 0, end)), h.Spans)
			if len(h.Spans) > 0 && h.Spans[0].First < h.Floor {
				t.Fatalf("%+v", h)
			}
		}
		check(t, s.Close())
		if s, err = store.Open(t.Context(), dir, o); err != nil {
			t.Fatal(err)
		}
		again := ""
		for _, h := range held {
			again += fmt.Sprint(len(fetch(t, s, h.Chain, 0, end)), h.Spans)
		}
		if again != given {
			t.Fatalf("it gave %s, and after a restart %s", given, again)
		}
		var r *transport.Refusal
		if err := s.Put(t.Context(), segs[1].Bytes()); err != nil && !errors.As(err, &r) {
			t.Fatal(err)
		}
		check(t, s.Close())
	})
}
