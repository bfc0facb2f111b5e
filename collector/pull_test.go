// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

func TestPullComplete(t *testing.T) {
	w := newWorld(5, 3)
	for i := range 3 {
		d := w.device(i)
		d.epoch(nil)
		d.readings(100, 7)
		d.epoch(nil)
		d.readings(50, 3)
		w.publish(d.all...)
	}
	w.down[w.hubs[0]] = transport.ErrUnreachable
	sink := newMemory()
	r := w.pull(t, sink)
	same(t, sink.rows, w.made)
	n := uint64(len(w.made))
	if r.Segments != 3*152 || r.Readings != n || r.Verified != n || !r.Complete() || r.BadCount != 0 {
		t.Errorf("report: %s", r)
	}
	if !errors.Is(r.Hubs[0].Err, transport.ErrUnreachable) || !strings.Contains(r.String(), "complete from 0 to 151") {
		t.Errorf("the report does not say that hub-0 is away, or what is complete:\n%s", r)
	}
	before := w.fetches
	if r = w.pull(t, sink); r.Segments != 0 || w.fetches != before || !r.Complete() || len(r.Chains) != 3 {
		t.Errorf("a second pull fetched %d times: %s", w.fetches-before, r)
	}
}

// TestPullResumesMidEpoch: the key of a running epoch is fetched again after a restart.
func TestPullResumesMidEpoch(t *testing.T) {
	w := newWorld(3, 1)
	d := w.device(0)
	sink := newMemory()
	w.publish(d.epoch(nil))
	for range 5 {
		w.publish(d.readings(30, 2)...)
		if r := w.pull(t, sink); !r.Complete() || r.Segments > 31 {
			t.Errorf("report: %s", r)
		}
	}
	same(t, sink.rows, w.made)
}

func TestPullTakesGoodCopies(t *testing.T) {
	const at = 9
	foreignFleet := newWorld(1, 1).device(0)
	foreignFleet.epoch(nil)
	tests := []struct {
		name string
		bad  func(w *world, d *device) []byte
		want error
	}{
		{"tampered payload", func(_ *world, d *device) []byte { raw := d.all[at].Bytes(); return spoil(raw, len(raw)-3) }, journal.ErrTampered},
		{"tampered signature", func(_ *world, d *device) []byte {
			raw := d.all[at].Bytes()
			return spoil(raw, len(raw)-int(d.all[at].Size)-8)
		}, journal.ErrForeignSigner},
		{"truncated", func(_ *world, d *device) []byte { raw := d.all[at].Bytes(); return raw[:len(raw)/2] }, journal.ErrMalformed},
		{"empty", func(*world, *device) []byte { return []byte{} }, journal.ErrMalformed},
		{"foreign signer", func(w *world, _ *device) []byte {
			other := w.device(1)
			other.epoch(nil)
			made := w.made
			w.made = map[string]bool{}
			seg := other.readings(at, 1)[at-1]
			w.made = made
			return seg.Bytes()
		}, journal.ErrForeignSigner},
		{"wrong fleet", func(*world, *device) []byte { return foreignFleet.all[0].Bytes() }, journal.ErrWrongFleet},
		{"wrong seq", func(_ *world, d *device) []byte { return d.all[at-3].Bytes() }, journal.ErrBadSeq},
		{"oversize", func(*world, *device) []byte { return make([]byte, journal.MaxSegment+1) }, journal.ErrOversize},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(3, 2)
			d := w.device(0)
			d.epoch(nil)
			d.readings(20, 3)
			w.publish(d.all...)
			first := transport.Place(d.chain().Bucket(at).Key(), w.hubs)[0] // whom a collector asks first
			w.put(first, d.chain(), at, tt.bad(w, d))
			sink := newMemory()
			r := w.pull(t, sink)
			same(t, sink.rows, w.made)
			if r.BadCount != 1 || len(r.Bad) != 1 || r.Missing != 0 {
				t.Fatalf("report: %s", r)
			}
			if b := r.Bad[0]; b.Hub != first || b.Chain != d.chain() || b.Seq != at || !errors.Is(b.Err, tt.want) {
				t.Errorf("named %s; want seq %d of hub %s: %v", b, at, first.Short(), tt.want)
			}
		})
	}
}

// TestPullNoGoodCopy: with every copy bad the segment is a gap that says so, and a good copy later closes it.
func TestPullNoGoodCopy(t *testing.T) {
	w := newWorld(2, 1)
	d := w.device(0)
	d.epoch(nil)
	d.readings(9, 3)
	w.publish(d.all...)
	for _, h := range w.hubs {
		w.put(h, d.chain(), 5, spoil(d.all[5].Bytes(), len(d.all[5].Bytes())-1))
	}
	sink := newMemory()
	r := w.pull(t, sink)
	g := sink.marks[d.chain()].Gaps
	if r.BadCount != 2 || r.Missing != 1 || len(g) != 1 || g[0].First != 5 || !strings.Contains(g[0].Reason, "bad") {
		t.Fatalf("gaps %v, report: %s", g, r)
	}
	w.store(w.hubs[1], d.all[5])
	if r := w.pull(t, sink); !r.Complete() {
		t.Errorf("report: %s", r)
	}
	same(t, sink.rows, w.made)
}

func TestPullGapsAndFills(t *testing.T) {
	w := newWorld(3, 1)
	d := w.device(0)
	d.epoch(nil)
	d.readings(299, 2)
	w.publish(d.all...)
	c := d.chain()
	w.remove(c, 60, 70, w.hubs...)
	w.remove(c, 130, 130, w.hubs...)
	w.remove(c, 290, 299, w.hubs...)
	w.heads[c] = d.all[299].SignedHeader()
	sink := newMemory()
	r := w.pull(t, sink)
	want := [][2]uint64{{60, 70}, {130, 130}, {290, 299}}
	gaps := r.Chains[0].Missing
	if r.Missing != 22 || len(gaps) != 3 {
		t.Fatalf("report: %s", r)
	}
	for i, g := range gaps {
		if g.First != want[i][0] || g.Last != want[i][1] || g.Reason != "no hub holds it" {
			t.Errorf("gap %d: %s, want %v", i, g, want[i])
		}
	}
	if r := w.pull(t, sink); r.Missing != 22 || r.Segments != 0 {
		t.Errorf("again: %s", r)
	}
	for _, s := range d.all[60:66] { // half of the first gap comes back, and the end
		w.store(w.hubs[2], s)
	}
	for _, s := range d.all[290:] {
		w.store(w.hubs[1], s)
	}
	if r := w.pull(t, sink); r.Missing != 6 || r.Segments != 16 {
		t.Errorf("partly filled: %s", r)
	}
	w.publish(d.all...)
	if r := w.pull(t, sink); !r.Complete() || r.Chains[0].To != 299 {
		t.Errorf("filled: %s", r)
	}
	same(t, sink.rows, w.made)
}

// TestPullFirstSegmentMissing: without the epoch's key what follows is proven and unreadable, not lost for good.
func TestPullFirstSegmentMissing(t *testing.T) {
	w := newWorld(2, 1)
	d := w.device(0)
	d.epoch(nil)
	d.readings(10, 2)
	w.publish(d.all...)
	w.remove(d.chain(), 0, 0, w.hubs...)
	sink := newMemory()
	r := w.pull(t, sink)
	if r.Missing != 11 || r.Segments != 10 || len(sink.rows) != 0 || r.BadCount != 0 {
		t.Errorf("report: %s", r)
	}
	w.store(w.hubs[0], d.all[0])
	for range 2 { // the key first, then what waited for it, in whatever order the gaps lie
		r = w.pull(t, sink)
	}
	if !r.Complete() {
		t.Errorf("report: %s", r)
	}
	same(t, sink.rows, w.made)
}

func TestPullLyingHub(t *testing.T) {
	w := newWorld(3, 1)
	d := w.device(0)
	d.epoch(nil)
	d.readings(20, 2)
	w.publish(d.all...)
	w.lies[w.hubs[0]] = 1 << 60
	w.lies[w.hubs[1]] = 25
	sink := newMemory()
	r := w.pull(t, sink)
	if r.Missing != 0 || r.BadCount < 2 || r.Segments != 21 {
		t.Errorf("report: %s", r)
	}
	same(t, sink.rows, w.made)
}

func TestPullOnlyWhatMayBeRead(t *testing.T) {
	w := newWorld(2, 2)
	d, stranger := w.device(0), w.device(7)
	d.epoch(nil)
	d.readings(5, 2)
	w.publish(d.all...)
	made := w.made
	w.made = map[string]bool{}
	stranger.epoch(nil)
	w.publish(stranger.readings(3, 1)...)
	w.made = made
	others := must(journal.GenerateReaderKey())
	sealed := w.device(1)
	sealed.epoch(nil, must(journal.NewReader(others.Public())))
	sealed.readings(6, 1)
	sealed.epoch(nil)
	sealed.readings(2, 1)
	w.publish(sealed.all...)
	sink := newMemory()
	r := w.pull(t, sink)
	if !r.Complete() || r.Sealed != 6 || len(r.Chains) != 2 {
		t.Errorf("report: %s", r)
	}
	same(t, sink.rows, w.made)
}
