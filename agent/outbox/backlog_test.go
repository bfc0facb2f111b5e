// SPDX-License-Identifier: Apache-2.0

package outbox_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// takeOne takes one item that must be there.
func takeOne(t testing.TB, b *outbox.Outbox) outbox.Item {
	t.Helper()
	c, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	items, err := b.Take(c, 1)
	check(t, err)
	return items[0]
}

// A long backlog drains in its order while what is sealed meanwhile passes it: whenever the device has one segment on its way at a time, a new one is
// given out third at the latest. The new epoch's own segment goes before what it seals.
func TestBacklog_NewSegmentsPassIt(t *testing.T) {
	k, rs := readerKey(t)
	synctest.Test(t, func(t *testing.T) {
		b, _, err := outbox.Open(ctx, options(t.TempDir()))
		check(t, err)
		defer b.Close()
		n := 0
		sealed := func() *journal.Segment { n++; return seal(t, b, "main", n, 1) }
		for range 3 { // epochs, as the days of an outage
			start(t, b, "main", rs)
			for range 100 {
				sealed()
			}
		}
		tip := b.Status().Tips["main"].Seq
		h := newHistory(t)
		var old, fresh []uint64
		waits, worst := map[uint64]int{}, 0
		for i := 0; b.Status().Pending > 0; i++ {
			if i%8 == 7 && len(waits) < 30 {
				waits[sealed().Seq] = i
			}
			it := takeOne(t, b)
			h.add(it.Segment)
			if since, is := waits[it.Segment.Seq]; is {
				worst, fresh = max(worst, i-since), append(fresh, it.Segment.Seq)
			} else if it.Segment.Seq < tip-1 && it.Segment.Seq != it.Segment.Epoch {
				old = append(old, it.Segment.Seq)
			}
			check(t, b.Ack(it, receipt(3)))
		}
		if worst > 3 || len(fresh) != 30 {
			t.Errorf("of %d new segments one waited for %d others", len(fresh), worst)
		}
		if !slices.IsSorted(old) || !slices.IsSorted(fresh) || len(old) < 290 {
			t.Errorf("%d old ones come as %v, the new ones as %v", len(old), old, fresh)
		}
		if values, gaps, _ := h.read(k); len(values) != n || len(gaps) != 0 {
			t.Errorf("%d of %d readings, gaps %v", len(values), n, gaps)
		}
	})
}

// One segment that no hub takes stops neither the others nor the new ones.
func TestBacklog_PassesARefusedSegment(t *testing.T) {
	_, rs := readerKey(t)
	synctest.Test(t, func(t *testing.T) {
		b, _, err := outbox.Open(ctx, options(t.TempDir()))
		check(t, err)
		defer b.Close()
		start(t, b, "main", rs)
		check(t, b.Ack(takeOne(t, b), receipt(3)))
		for i := range 200 {
			seal(t, b, "main", i, 1)
		}
		began := time.Now()
		for b.Status().Pending > 1 && time.Since(began) < time.Hour {
			it := takeOne(t, b)
			r := receipt(3)
			if it.Segment.Seq == 1 {
				r = receipt(0)
			}
			check(t, b.Ack(it, r))
		}
		if st := b.Status(); st.Pending != 1 || time.Since(began) > 25*time.Minute {
			t.Errorf("%d pending after %s", st.Pending, time.Since(began))
		}
	})
}

// What hubs say is past is done with, once and for all, and counted; other segments are not touched by it.
func TestPast(t *testing.T) {
	_, rs := readerKey(t)
	o := options(t.TempDir())
	b, _ := open(t, o)
	start(t, b, "main", rs)
	check(t, b.Ack(takeOne(t, b), receipt(3)))
	for i := range 4 {
		seal(t, b, "main", 10*i, 10)
	}
	past := func(acked, gone int) transport.Receipt {
		r := receipt(acked)
		for _, h := range r.Targets[3-gone:] {
			r.Past = append(r.Past, h.Member)
		}
		return r
	}
	for i, r := range []transport.Receipt{past(0, 2), past(1, 1), past(0, 1), past(2, 1)} {
		it := takeOne(t, b)
		if it.Segment.Seq != uint64(min(i+1, 3)) { // one hub alone is not believed: that one comes again
			t.Fatalf("seq %d comes as number %d", it.Segment.Seq, i)
		}
		check(t, b.Ack(it, r))
		if i == 2 && b.Status().Pending != 2 {
			t.Errorf("%+v", b.Status())
		}
	}
	if st := b.Status(); st.Past != 2 || st.PastRead != 20 || st.Pending != 1 || st.GivenUp != 0 || st.LostRead != 0 {
		t.Errorf("%+v", st)
	}
	check(t, b.Close())
	b, rec := open(t, o)
	if rec.Pending != 1 || len(rec.Gaps) != 0 || !rec.Clean {
		t.Errorf("after a restart: %+v", rec)
	}
	check(t, b.Close())
}

// A segment on one hub of two, of which the other says that it is past, need not be kept either.
func TestPast_OfAPublishedSegment(t *testing.T) {
	_, rs := readerKey(t)
	b, _ := open(t, options(t.TempDir()))
	start(t, b, "main", rs)
	one, two := key(100).ID(), key(101).ID()
	check(t, b.Ack(takeOne(t, b), transport.Receipt{Targets: []fleet.Grant{{Member: one}, {Member: two}}, Acked: []edge.ID{one}, Past: []edge.ID{two}}))
	if st := b.Status(); st.Published != 1 || st.Held != 0 || st.Pending != 0 || st.Past != 0 {
		t.Errorf("%+v", st)
	}
}

// Backlogs tells the states of each stream's segments, before and after a restart, and what waits longest.
func TestBacklogs(t *testing.T) {
	_, rs := readerKey(t)
	o := options(t.TempDir())
	b, _ := open(t, o)
	start(t, b, "quiet", rs)
	start(t, b, "main", rs)
	for i := range 6 {
		seal(t, b, "main", 10*i, 10)
	}
	for range 4 { // two first segments, and two of readings
		it := takeOne(t, b)
		r := receipt(3)
		if it.Segment.Chain.Stream == "main" && it.Segment.Seq == 1 {
			r = oneHub()
		}
		check(t, b.Ack(it, r))
	}
	var size int64
	for round := range 2 {
		l := b.Backlogs()
		main, quiet := l["main"], l["quiet"]
		if main.Pending.Segments != 4 || main.Pending.Readings != 40 || main.Published.Segments != 1 || main.Published.Readings != 10 || main.Forgettable.Segments != 2 ||
			quiet.Pending.Segments != 0 || quiet.Forgettable.Segments != 1 || quiet.Oldest != nil || quiet.OldestPending != nil {
			t.Fatalf("round %d: %+v, %+v", round, main, quiet)
		}
		if w := main.OldestPending; w.Seq != 3 || w.Published || w.Boot != boot || w.At.Mono != 290 || w.Chain != b.Status().Streams["main"] {
			t.Errorf("round %d: oldest pending %+v", round, w)
		}
		if w := main.Oldest; w.Seq != 1 || !w.Published || w.At.Mono != 90 {
			t.Errorf("round %d: oldest %+v", round, w)
		}
		sum := main.Pending.Bytes + main.Published.Bytes + main.Forgettable.Bytes + quiet.Forgettable.Bytes
		if on := b.Status().Bytes; sum > on || sum < on*9/10 || round == 1 && sum != size {
			t.Errorf("round %d: %d bytes of %d on disk, %d before", round, sum, on, size)
		}
		size = sum
		check(t, b.Close())
		b, _ = open(t, o)
	}
	drain(t, b, receipt(3))
	check(t, b.Close())
}

// The hubs of a hundred devices were away for a while: when they are back, the devices do not come all at once.
func TestRetries_OfManyDevicesSpread(t *testing.T) {
	_, rs := readerKey(t)
	const devices = 100
	for _, away := range []time.Duration{5 * time.Second, 10 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var came []time.Duration
			var all sync.WaitGroup
			dir := t.TempDir()
			var boxes []*outbox.Outbox
			for i := range devices {
				b, _, err := outbox.Open(ctx, options(fmt.Sprintf("%s/%d", dir, i)))
				check(t, err)
				start(t, b, "main", rs)
				boxes = append(boxes, b)
			}
			back := time.Now().Add(away) // they all begin to fail at once
			for _, b := range boxes {
				all.Go(func() {
					for b.Status().Pending > 0 {
						it := takeOne(t, b)
						if time.Now().Before(back) {
							check(t, b.Ack(it, receipt(0)))
							continue
						}
						mu.Lock()
						came = append(came, time.Since(back))
						mu.Unlock()
						check(t, b.Ack(it, receipt(3)))
					}
					check(t, b.Close())
				})
			}
			all.Wait()
			slices.Sort(came)
			if len(came) != devices || came[devices-1] > time.Minute {
				t.Fatalf("%d came, the last after %s", len(came), came[len(came)-1])
			}
			most := 0
			for i, at := range came { // in any second
				n := 0
				for i+n < devices && came[i+n] < at+time.Second {
					n++
				}
				most = max(most, n)
			}
			if limit := map[bool]int{true: 20, false: 60}[away > time.Minute]; most > limit {
				t.Errorf("away for %s: %d of %d devices come within one second, the last after %s", away, most, devices, came[devices-1])
			}
			t.Logf("away for %s: at most %d of %d within a second, the last after %s", away, most, devices, came[devices-1])
		})
	}
}
