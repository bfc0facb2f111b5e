// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/streembit/edge/transport"
)

// epochs makes a device with so many epochs of 64 segments each, all published.
func (w *world) epochs(n int) *device {
	d := w.device(0)
	for range n {
		d.epoch(nil)
		d.readings(63, 2)
	}
	w.publish(d.all...)
	return d
}

// from returns what was made from seq on.
func from(made map[string]bool, seq uint64) map[string]bool {
	out := maps.Clone(made)
	maps.DeleteFunc(out, func(k string, _ bool) bool {
		var chain string
		var at uint64
		must(fmt.Sscanf(k, "%s %d", &chain, &at))
		return at < seq
	})
	return out
}

// TestPullAfterFloor: hubs have let go the first two epochs: that is said, and all after it comes.
func TestPullAfterFloor(t *testing.T) {
	for name, c := range map[string]struct {
		past transport.Past
		want string
	}{
		"age":       {transport.PastAge, "let go by the hubs: held for the maximum age"},
		"collected": {transport.PastCollected, "let go by the hubs: all required collectors have it"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(3, 1)
			d := w.epochs(4)
			w.letGo(d.chain(), 128, c.past, w.hubs...)
			sink := newMemory()
			r := w.pull(t, sink)
			gaps := r.Chains[0].Missing
			if len(gaps) != 1 || gaps[0].First != 0 || gaps[0].Last != 127 || gaps[0].Reason != c.want || r.BadCount != 0 || r.Chains[0].To != 255 {
				t.Fatalf("gaps %v, report: %s", gaps, r)
			}
			if !strings.Contains(r.String(), "from 0 to 255, 128 missing") || !strings.Contains(r.String(), "seq 0-127 ("+c.want) {
				t.Errorf("the report does not say what is missing and why: %s", r)
			}
			same(t, sink.rows, from(w.made, 128))
			before := w.fetches
			if r := w.pull(t, sink); w.fetches != before || r.Missing != 128 || r.Segments != 0 {
				t.Errorf("what is gone was asked for again: %s", r)
			}
			w.publish(d.readings(5, 2)...)
			if r := w.pull(t, sink); r.Segments != 5 || r.Missing != 128 {
				t.Errorf("what came after: %s", r)
			}
		})
	}
}

// TestPullFalseFloor: one hub of three says that all is gone: what the others hold comes, and the chain is no longer than it was.
func TestPullFalseFloor(t *testing.T) {
	for _, floor := range []uint64{1, 64, 200, 256, 1000, 1 << 61, 1<<64 - 1} {
		w := newWorld(3, 1)
		d := w.epochs(4)
		w.boast(d.chain(), floor, transport.PastAge, w.hubs[0])
		sink := newMemory()
		r := w.pull(t, sink)
		if !r.Complete() || r.Segments != 256 || r.BadCount != 0 {
			t.Errorf("floor %d: report: %s", floor, r)
		}
		if floor > 256 != (r.Chains[0].Unproven != "") || floor > 256 && !strings.Contains(r.String(), "unproven: ") {
			t.Errorf("floor %d: a claim beyond the end must be told, and no other: %s", floor, r)
		}
		same(t, sink.rows, w.made)
	}
}

// TestPullHoldersBelowFloor: two hubs of three have let it go, the third has not yet: nothing is missing.
func TestPullHoldersBelowFloor(t *testing.T) {
	w := newWorld(3, 1)
	d := w.epochs(4)
	w.letGo(d.chain(), 128, transport.PastAge, w.hubs[0], w.hubs[2])
	sink := newMemory()
	if r := w.pull(t, sink); !r.Complete() || r.Segments != 256 {
		t.Errorf("report: %s", r)
	}
	same(t, sink.rows, w.made)
}

// TestPullGoneWholly: a collector comes back when the whole chain is gone, and is told what it has lost.
func TestPullGoneWholly(t *testing.T) {
	w := newWorld(3, 1)
	d := w.device(0)
	d.epoch(nil)
	w.publish(d.all...)
	w.publish(d.readings(50, 1)...)
	sink := newMemory()
	w.pull(t, sink)
	d.readings(70, 1)
	w.letGo(d.chain(), 121, transport.PastAge, w.hubs[:2]...)
	w.letGo(d.chain(), 51, transport.PastAge, w.hubs[2])
	for range 2 { // and it stays told
		r := w.pull(t, sink)
		gaps := r.Chains[0].Missing
		if len(gaps) != 1 || gaps[0].First != 51 || gaps[0].Last != 120 || !strings.HasPrefix(gaps[0].Reason, "let go by the hubs") {
			t.Fatalf("gaps %v, report: %s", gaps, r)
		}
	}
	if l := sink.marks[d.chain()].Link; l == nil || l.Seq != 50 {
		t.Errorf("the mark went to %v", l)
	}
	// The control: where one hub alone says so, it is told as its word and counted as nothing.
	alone := newWorld(3, 1)
	e := alone.epochs(1)
	alone.letGo(e.chain(), 300, transport.PastAge, alone.hubs[0])
	if r := alone.pull(t, newMemory()); !r.Complete() || r.Chains[0].Unproven == "" {
		t.Errorf("report: %s", r)
	}
}

// TestPullGapGetsItsReason: a gap that was recorded while a hub was away is explained when hubs have let go what it had.
func TestPullGapGetsItsReason(t *testing.T) {
	w := newWorld(3, 1)
	d := w.epochs(3)
	w.remove(d.chain(), 64, 127, w.hubs...)
	sink := newMemory()
	if r := w.pull(t, sink); r.Missing != 64 || r.Chains[0].Missing[0].Reason != "no hub holds it" {
		t.Fatalf("report: %s", r)
	}
	w.letGo(d.chain(), 128, transport.PastAge, w.hubs...)
	r := w.pull(t, sink)
	if g := r.Chains[0].Missing; len(g) != 1 || g[0].Reason != "let go by the hubs: held for the maximum age" {
		t.Errorf("gaps %v", g)
	}
}

// TestPullOldHubs: hubs that serve what they had long ago take nothing back.
func TestPullOldHubs(t *testing.T) {
	w := newWorld(3, 1)
	d := w.epochs(4)
	sink := newMemory()
	w.pull(t, sink)
	w.remove(d.chain(), 20, 255, w.hubs...)
	w.heads[d.chain()] = d.all[10].SignedHeader()
	r := w.pull(t, sink)
	if l := sink.marks[d.chain()].Link; l.Seq != 255 || !r.Complete() || r.Chains[0].To != 255 {
		t.Errorf("mark %v, report: %s", l, r)
	}
	d.epoch(nil)
	d.readings(2, 1)
	w.store(w.hubs[1], d.all[256])
	w.store(w.hubs[1], d.all[257])
	w.store(w.hubs[1], d.all[258])
	if r := w.pull(t, sink); r.Segments != 3 || !r.Complete() {
		t.Errorf("what is new: %s", r)
	}
	same(t, sink.rows, w.made)
}
