// SPDX-License-Identifier: Apache-2.0

package outbox_test

import (
	"slices"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/journal"
)

// TestFormer_ChainsArePublishedAndEnded: with a new key the device publishes what the old one sealed, in the old chains, and begins chains of its own, which name
// none of the old ones. Cleanly closed or not, no reading is lost and none is there twice.
func TestFormer_ChainsArePublishedAndEnded(t *testing.T) {
	for name, clean := range map[string]bool{"closed": true, "power cut": false} {
		t.Run(name, func(t *testing.T) {
			k, rs := readerKey(t)
			dir := t.TempDir()
			b, _ := open(t, options(dir))
			start(t, b, "main", rs)
			seal(t, b, "main", 0, 5)
			start(t, b, "slow", rs)
			last := seal(t, b, "slow", 100, 3)
			if clean {
				check(t, b.Close())
			} else {
				crashed := t.TempDir()
				copyLog(t, dir, crashed, func(_ string, data []byte) []byte { return data })
				dir = crashed
			}
			o := options(dir)
			o.Signer, o.Former = key(2), []edge.ID{key(7).ID(), key(1).ID()}
			b, rec := open(t, o)
			if rec.Skipped != 0 || len(rec.Gaps) != 0 || rec.Pending != 4 {
				t.Fatalf("after the change of keys: %+v", rec)
			}
			ends := b.Ends(key(1).ID())
			if len(ends) != 2 || ends[0].Chain != last.Chain || ends[0].Link != last.Link() || !ends[0].Pending || len(b.Ends(key(2).ID())) != 0 {
				t.Fatalf("ends %+v, want those of main and slow", ends)
			}
			start(t, b, "main", rs)
			seal(t, b, "main", 5, 5)
			start(t, b, "slow", rs)
			seal(t, b, "slow", 103, 1)
			hub := newPlace(t)
			hub.publish(b)
			values, gaps, after := hub.values(k)
			slices.Sort(values)
			if want := []float64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 100, 101, 102, 103}; !slices.Equal(values, want) || len(gaps) != 0 {
				t.Errorf("read %v, gaps %v, want %v", values, gaps, want)
			}
			for c, a := range after {
				if a != nil {
					t.Errorf("%s goes on from %v, which another key signed", c, a)
				}
			}
			byKey := map[edge.ID]int{}
			for c := range hub.segs {
				byKey[c.Device]++
			}
			if byKey[key(1).ID()] != 2 || byKey[key(2).ID()] != 2 {
				t.Errorf("chains by key: %v", byKey)
			}
			check(t, b.Close())
			again, rec := open(t, o) // what it is now goes on as always
			if !rec.Clean || rec.Pending != 0 {
				t.Errorf("opened again: %+v", rec)
			}
			next := start(t, again, "main", rs)
			if next.Chain.Device != key(2).ID() || next.Seq == 0 {
				t.Errorf("%s begins at %d, want the new key's chain to go on", next.Chain, next.Seq)
			}
		})
	}
}

// TestFormer_UnknownKeyIsNoReasonToForget: without the former key named, its segments are skipped and stay in the log: once it is named they are published.
func TestFormer_UnknownKeyIsNoReasonToForget(t *testing.T) {
	k, rs := readerKey(t)
	dir := t.TempDir()
	b, _ := open(t, options(dir))
	start(t, b, "main", rs)
	seal(t, b, "main", 0, 5)
	check(t, b.Close())
	o := options(dir)
	o.Signer = key(2)
	b, rec := open(t, o)
	if rec.Skipped != 2 || rec.Pending != 0 {
		t.Fatalf("without the former key: %+v", rec)
	}
	check(t, b.Close())
	o.Former = []edge.ID{key(1).ID()}
	b, _ = open(t, o)
	hub := newPlace(t)
	hub.publish(b)
	if values, _, _ := hub.values(k); len(values) != 5 {
		t.Errorf("read %v, want 5 values", values)
	}
}

// TestFormer_StrictSpool: what was spooled under the old key and sealed by nobody is sealed by the new one, once.
func TestFormer_StrictSpool(t *testing.T) {
	k, rs := readerKey(t)
	o := options(t.TempDir())
	o.Durability = outbox.Strict
	b, _ := open(t, o)
	start(t, b, "main", rs)
	check(t, b.Spool(ctx, "main", boot, readings(0, 4)))
	seal(t, b, "main", 0, 2)
	check(t, b.Close())
	o.Signer, o.Former = key(2), []edge.ID{key(1).ID()}
	b, rec := open(t, o)
	if len(rec.Spooled) != 1 || len(rec.Spooled[0].Readings) != 2 {
		t.Fatalf("spooled %+v, want the two readings that were not sealed", rec.Spooled)
	}
	start(t, b, "main", rs)
	_, err := b.Seal(ctx, "main", boot, rec.Spooled[0].Readings)
	check(t, err)
	hub := newPlace(t)
	hub.publish(b)
	values, _, _ := hub.values(k)
	slices.Sort(values)
	if !slices.Equal(values, []float64{0, 1, 2, 3}) {
		t.Errorf("read %v", values)
	}
	check(t, b.Close())
	if _, rec := open(t, o); len(rec.Spooled) != 0 {
		t.Errorf("spooled still: %+v", rec.Spooled)
	}
}

// TestFormer_ThiefOfTheOldKey: somebody writes the old chain, too. What cannot be published there any more, since its keys are gone, is told as a gap in the new one.
func TestFormer_ThiefOfTheOldKey(t *testing.T) {
	k, rs := readerKey(t)
	o := options(t.TempDir())
	b, _ := open(t, o)
	first := start(t, b, "main", rs)
	mine := seal(t, b, "main", 0, 5)
	check(t, b.Close())
	w, err := journal.ResumeWriter(first.Chain, new(first.Link()), key(1))
	check(t, err)
	readers := rs
	rival, err := w.Epoch(readers, nil, journal.Stamp{Boot: boot, At: edge.Instant{Mono: 1}})
	check(t, err)
	o.Signer, o.Former = key(2), []edge.ID{key(1).ID()}
	b, _ = open(t, o)
	start(t, b, "main", rs)
	hub := newPlace(t)
	hub.put(first)
	hub.put(rival)
	if forks := hub.publish(b); forks != 1 {
		t.Errorf("%d forks, want one", forks)
	}
	seal(t, b, "main", 5, 1) // tells what was lost
	hub.publish(b)
	values, gaps, _ := hub.values(k)
	if !slices.Equal(values, []float64{5}) || len(gaps) != 1 || gaps[0].Reason != journal.GapFork || gaps[0].Incarnation != mine.Chain.Incarnation || gaps[0].Readings != 5 {
		t.Errorf("read %v, gaps %+v", values, gaps)
	}
	if n := len(b.Forks()); n != 1 {
		t.Errorf("%d forks kept", n)
	}
}
