// SPDX-License-Identifier: Apache-2.0

package outbox_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/transport"
)

// TestQuota: with no hub in reach the oldest readings go, each is counted once, and a reader learns of all of them.
func TestQuota(t *testing.T) {
	for _, restart := range []bool{false, true} {
		o := options(t.TempDir())
		o.Quota = 1 << 20
		k, rs := readerKey(t)
		b, _ := open(t, o)
		start(t, b, "main", rs)
		start(t, b, "slow", rs)
		const segments, each = 900, 300 // about 1.7 MB
		givenUp := uint64(0)
		for i := range segments {
			seal(t, b, "main", i*each, each)
			if i%100 == 0 {
				seal(t, b, "slow", 1_000_000+i, 1)
			}
			if size := b.Status().Bytes; size > o.Quota {
				t.Fatalf("%d bytes on disk", size)
			}
			if restart && i%250 == 249 {
				givenUp += b.Status().GivenUp
				check(t, b.Close())
				var rec outbox.Recovery
				b, rec = open(t, o)
				if !rec.Clean || len(rec.Gaps) != 0 {
					t.Fatalf("%+v", rec)
				}
				start(t, b, "main", rs)
				start(t, b, "slow", rs)
			}
		}
		st := b.Status()
		givenUp += st.GivenUp
		if givenUp < 100 || st.LostRead == 0 || st.Forgotten != 0 {
			t.Fatalf("%+v", st)
		}
		seal(t, b, "main", segments*each, 1)
		seal(t, b, "slow", 2_000_000, 1)
		h := newHistory(t)
		h.add(drain(t, b, receipt(3))...)
		values, gaps, _ := h.read(k)
		account(t, h, segments*each+1+9+1, values, gaps)
		if len(gaps) > 100 {
			t.Errorf("%d notes for %d segments", len(gaps), givenUp)
		}
		if slices.Index(values, segments*each-1) < 0 || slices.Index(values, 0) >= 0 {
			t.Error("the newest readings went before the oldest")
		}
		check(t, b.Close())
	}
}

// account checks that published and lost readings are all, that no seq is both, and that none is neither.
func account(t *testing.T, h *history, want int, values []float64, gaps []journal.GapNote) {
	t.Helper()
	lost := uint64(0)
	gone := map[journal.Incarnation]map[uint64]bool{}
	for _, g := range gaps {
		lost += g.Readings
		if g.Reason != journal.GapQuota || g.Segments != g.To-g.From+1 {
			t.Errorf("%+v", g)
		}
		for seq := g.From; seq <= g.To; seq++ {
			if gone[g.Incarnation] == nil {
				gone[g.Incarnation] = map[uint64]bool{}
			}
			if gone[g.Incarnation][seq] {
				t.Errorf("seq %d is told to be lost twice", seq)
			}
			gone[g.Incarnation][seq] = true
		}
	}
	if len(values)+int(lost) != want {
		t.Errorf("%d published and %d told to be lost of %d", len(values), lost, want)
	}
	for c, segs := range h.seen {
		last := uint64(0)
		for seq := range segs {
			last = max(last, seq)
		}
		for seq := range last + 1 {
			if (segs[seq] == nil) != gone[c.Incarnation][seq] {
				t.Errorf("%s seq %d: published %v, told to be lost %v", c.Stream, seq, segs[seq] != nil, gone[c.Incarnation][seq])
			}
		}
	}
}

// TestQuotaTakesPublishedFirst: with one hub nothing is ever forgettable; its copies make room before anything is lost.
func TestQuotaTakesPublishedFirst(t *testing.T) {
	o := options(t.TempDir())
	o.Quota = 1 << 20
	k, rs := readerKey(t)
	b, _ := open(t, o)
	start(t, b, "slow", rs) // unpublished for long, the oldest of all
	seal(t, b, "slow", 1_000_000, 1)
	h := newHistory(t)
	start(t, b, "main", rs)
	for i := range 800 {
		seal(t, b, "main", i*300, 300)
		for more := i%20 == 19; more; {
			c, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
			items, err := b.Take(c, 8)
			cancel()
			more = err == nil
			for _, it := range items {
				r := oneHub()
				if it.Segment.Chain.Stream == "slow" {
					r = transport.Receipt{}
				} else {
					h.add(it.Segment)
				}
				check(t, b.Ack(it, r))
			}
		}
	}
	st := b.Status()
	if st.Forgotten == 0 || st.GivenUp != 0 || st.Bytes > o.Quota {
		t.Fatalf("%+v", st)
	}
	h.add(drain(t, b, oneHub())...)
	if values, gaps, _ := h.read(k); len(values) != 240_001 || len(gaps) != 0 {
		t.Errorf("%d values, gaps %v", len(values), gaps)
	}
	held := b.Status().Held
	check(t, b.Close())
	b, rec := open(t, o)
	if !rec.Clean || rec.Pending != held || b.Status().Pending != 0 || len(rec.Gaps) != 0 {
		t.Errorf("%+v, held %d", rec, held)
	}
}

// disk is a disk that can be made to fail.
type disk struct {
	wal.File
	err  *atomic.Pointer[error]
	room *atomic.Int64
}

func (d disk) Sync() error {
	if e := d.err.Load(); e != nil {
		return *e
	}
	return d.File.Sync()
}

func (d disk) WriteAt(p []byte, off int64) (int, error) {
	if d.room.Load() < int64(len(p)) {
		n, _ := d.File.WriteAt(p[:len(p)/2], off)
		return n, syscall.ENOSPC
	}
	return d.File.WriteAt(p, off)
}

// TestDiskError: after a failed fsync nothing counts until the log was opened again; then a new incarnation goes on by
// itself and no place is used twice.
func TestDiskError(t *testing.T) {
	k, rs := readerKey(t)
	synctest.Test(t, func(t *testing.T) {
		var fault atomic.Pointer[error]
		var room atomic.Int64
		room.Store(1 << 40)
		o := options(t.TempDir())
		o.Wrap = func(f wal.File) wal.File { return disk{f, &fault, &room} }
		b, _, err := outbox.Open(ctx, o)
		check(t, err)
		defer b.Close()
		h := newHistory(t)
		first := start(t, b, "main", rs)
		h.add(first, seal(t, b, "main", 0, 1))
		eio := error(syscall.EIO)
		fault.Store(&eio)
		for range 2 {
			if _, err := b.Seal(ctx, "main", boot, readings(1, 1)); !errors.Is(err, wal.ErrFailed) {
				t.Fatalf("seal: %v", err)
			}
		}
		if b.Status().Failed == "" {
			t.Error("status says nothing")
		}
		fault.Store(nil)
		time.Sleep(2 * time.Second)
		s := seal(t, b, "main", 1, 1)
		if s.Chain == first.Chain || s.Seq != 1 {
			t.Errorf("goes on as %s seq %d", s.Chain, s.Seq)
		}
		h.add(drain(t, b, receipt(3))...)
		values, gaps, after := h.read(k)
		if values[0] != 0 || values[len(values)-1] != 1 || len(gaps) != 0 || len(after) != 1 {
			t.Errorf("values %v, gaps %v, continuations %v", values, gaps, after)
		}
		h.linked(after)
	})
}

// TestDiskFull: where the disk is full before the quota, the oldest copies go; where nothing can go, the caller learns it.
func TestDiskFull(t *testing.T) {
	k, rs := readerKey(t)
	var fault atomic.Pointer[error]
	var room atomic.Int64
	room.Store(1 << 40)
	o := options(t.TempDir())
	o.Wrap = func(f wal.File) wal.File { return disk{f, &fault, &room} }
	b, _ := open(t, o)
	first := start(t, b, "main", rs)
	seal(t, b, "main", 0, 1)
	room.Store(0)
	if _, err := b.Seal(ctx, "main", boot, readings(1, 1)); !errors.Is(err, wal.ErrFull) {
		t.Fatalf("seal: %v", err)
	}
	room.Store(1 << 40)
	s := seal(t, b, "main", 1, 1)
	if s.Chain == first.Chain {
		t.Error("the incarnation goes on after a segment was sealed in vain")
	}
	h := newHistory(t)
	h.add(drain(t, b, receipt(3))...)
	values, gaps, after := h.read(k)
	if !slices.Equal(values, []float64{0, 1}) || len(gaps) != 0 || len(after) != 1 {
		t.Errorf("values %v, gaps %v, continuations %v", values, gaps, after)
	}
	h.linked(after)
}

func TestSpool(t *testing.T) {
	o := options(t.TempDir())
	_, rs := readerKey(t)
	b, _ := open(t, o)
	check(t, b.Spool(ctx, "main", boot, readings(0, 3))) // balanced: not kept
	check(t, b.Close())
	o.Durability = outbox.Strict
	b, rec := open(t, o)
	if len(rec.Spooled) != 0 {
		t.Fatalf("%+v", rec)
	}
	start(t, b, "main", rs)
	for i := range 10 {
		check(t, b.Spool(ctx, "main", boot, readings(i*3, 3)))
		check(t, b.Spool(ctx, "slow", boot, readings(100+i, 1)))
	}
	seal(t, b, "main", 0, 10) // not at the edge of a Spool call
	b.Discard("main", 2)
	seal(t, b, "main", 12, 1)
	synced := readings(50, 2)
	for i := range synced {
		synced[i].At.Wall = synced[i].At.Mono + 1_700_000_000_000
	}
	synced[1].Sample = edge.Sample{Quantity: edge.Quantity{Name: "door", Kind: edge.Text}, Text: "open"}
	check(t, b.Spool(ctx, "main", journal.BootID{7}, synced))
	o.Durability = outbox.Balanced // what was strict is not forgotten
	for range 2 {
		check(t, b.Close())
		b, rec = open(t, o)
		if len(rec.Spooled) != 3 {
			t.Fatalf("%+v", rec.Spooled)
		}
		byName := map[string][]edge.Reading{}
		for _, s := range rec.Spooled {
			byName[s.Stream+string(s.Boot[:1])] = s.Readings
		}
		if !slices.Equal(byName["main\x09"], readings(13, 17)) || !slices.Equal(byName["slow\x09"], readings(100, 10)) || !slices.Equal(byName["main\x07"], synced) {
			t.Fatalf("%+v", byName)
		}
	}
	start(t, b, "main", rs)
	start(t, b, "slow", rs)
	for _, s := range rec.Spooled {
		_, err := b.Seal(ctx, s.Stream, s.Boot, s.Readings)
		check(t, err)
	}
	check(t, b.Close())
	if _, rec = open(t, o); len(rec.Spooled) != 0 {
		t.Errorf("sealed, and still there: %+v", rec.Spooled)
	}
}

// TestRetry: a chain that fails pauses, then tries one segment, then goes on; a published one is offered again.
func TestRetry(t *testing.T) {
	_, rs := readerKey(t)
	synctest.Test(t, func(t *testing.T) {
		b, _, err := outbox.Open(ctx, options(t.TempDir()))
		check(t, err)
		defer b.Close()
		start(t, b, "main", rs)
		for i := range 5 {
			seal(t, b, "main", i, 1)
		}
		take := func(limit int) []outbox.Item {
			t.Helper()
			items, err := b.Take(ctx, limit)
			check(t, err)
			return items
		}
		check(t, b.Ack(take(9)[0], receipt(3)))
		items := take(3)
		for _, it := range items {
			check(t, b.Ack(it, receipt(1)))
		}
		began := time.Now()
		probe := take(9)
		if d := time.Since(began); len(probe) != 1 || probe[0].Segment.Seq != 1 || len(probe[0].Acked) != 1 || d < time.Second || d > 2*time.Second {
			t.Fatalf("after %v: %d items", d, len(probe))
		}
		check(t, b.Ack(probe[0], oneHub()))
		if items = take(9); len(items) != 4 || items[0].Segment.Seq != 2 {
			t.Fatalf("%d items", len(items))
		}
		for _, it := range items {
			check(t, b.Ack(it, receipt(3)))
		}
		if again := take(9); len(again) != 1 || !again[0].Published || again[0].Segment.Seq != 1 {
			t.Fatalf("%+v", again)
		}
		c, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		if items, err := b.Take(c, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%d items, %v", len(items), err)
		}
	})
}
