// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// signing is the collector with its key.
func signing(c *collector.Config) { c.Signer = softKey(3) }

// marking pulls once and tells the hubs.
func (w *world) marking(t testing.TB, sink collector.Sink) collector.Report {
	t.Helper()
	r, err := w.collector(t, sink, signing).Pull(t.Context())
	if err != nil {
		t.Fatalf("%v: %s", err, r)
	}
	return r
}

// wantMark compares the watermark that hubs have of a chain; -1: none.
func (w *world) wantMark(t testing.TB, d *device, seq int, hubs ...edge.ID) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range hubs {
		l, ok := w.marks[h][d.chain()]
		switch {
		case seq < 0 && ok:
			t.Errorf("hub %s was told %d, want nothing", h.Short(), l.Seq)
		case seq >= 0 && (!ok || l.Seq != uint64(seq) || l.Hash != d.all[seq].Hash):
			t.Errorf("hub %s was told %+v (%v), want seq %d and its hash", h.Short(), l, ok, seq)
		}
	}
}

// TestWatermarks: hubs are told what the sink has committed, before the first gap that somebody may still close, and no more.
func TestWatermarks(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(w *world, d *device, sink *memory)
		want    int
	}{
		"complete":          {func(*world, *device, *memory) {}, 255},
		"a gap":             {func(w *world, d *device, _ *memory) { w.remove(d.chain(), 100, 101, w.hubs...) }, 99},
		"a bad copy":        {func(w *world, d *device, _ *memory) { w.spoilAll(d, 70) }, 69},
		"the first is gone": {func(w *world, d *device, _ *memory) { w.remove(d.chain(), 0, 0, w.hubs...) }, -1},
		"let go by age":     {func(w *world, d *device, _ *memory) { w.letGo(d.chain(), 128, transport.PastAge, w.hubs...) }, 255},
		"let go, and a gap after it": {func(w *world, d *device, _ *memory) {
			w.letGo(d.chain(), 128, transport.PastAge, w.hubs...)
			w.remove(d.chain(), 150, 150, w.hubs...)
		}, 149},
		"let go, as one hub says": {func(w *world, d *device, _ *memory) {
			w.remove(d.chain(), 64, 127, w.hubs...)
			w.boast(d.chain(), 128, transport.PastAge, w.hubs[0])
		}, 63},
		"the sink fails": {func(_ *world, _ *device, sink *memory) { sink.fail = errRefused }, -1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(3, 1)
			d := w.epochs(4)
			sink := newMemory()
			c.prepare(w, d, sink)
			_, _ = w.collector(t, sink, signing).Pull(t.Context()) // the sink may fail
			w.wantMark(t, d, c.want, w.hubs...)
		})
	}
}

// spoilAll turns a bit in every copy of a segment.
func (w *world) spoilAll(d *device, seq uint64) {
	raw := d.all[seq].Bytes()
	for _, h := range w.hubs {
		w.put(h, d.chain(), seq, spoil(raw, len(raw)-1))
	}
}

// TestWatermarksNotAsked: without a key nobody is told.
func TestWatermarksNotAsked(t *testing.T) {
	w := newWorld(2, 1)
	d := w.epochs(1)
	w.pull(t, newMemory())
	w.wantMark(t, d, -1, w.hubs...)
}

// TestWatermarksPassOldGaps: a gap that is older than what hubs hold anything for is given up; before that it is waited for.
func TestWatermarksPassOldGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3, 1)
		d := w.epochs(2)
		w.remove(d.chain(), 70, 70, w.hubs...)
		sink := newMemory()
		w.marking(t, sink)
		time.Sleep(7*24*time.Hour - time.Minute)
		w.marking(t, sink)
		w.wantMark(t, d, 69, w.hubs...)
		time.Sleep(2 * time.Minute)
		w.marking(t, sink)
		w.wantMark(t, d, 127, w.hubs...)
	})
}

// TestWatermarksPassExplainedGaps: what the device says it does not have any more is not waited for; a part of a gap that it does not speak of is.
func TestWatermarksPassExplainedGaps(t *testing.T) {
	for _, c := range []struct {
		from, to uint64
		want     int
	}{{10, 12, 20}, {9, 13, 20}, {10, 11, 9}, {11, 12, 9}} {
		w := newWorld(3, 1)
		d := w.device(0)
		d.epoch(nil)
		d.readings(19, 1)
		d.note(journal.Note{Gap: &journal.GapNote{Reason: journal.GapQuota, Incarnation: d.chain().Incarnation, From: c.from, To: c.to, Segments: c.to - c.from + 1, Readings: 3}})
		w.publish(d.all...)
		w.remove(d.chain(), 10, 12, w.hubs...)
		w.marking(t, newMemory())
		w.wantMark(t, d, c.want, w.hubs...)
	}
}

// TestWatermarksRetried: a hub that did not take a watermark gets it with the next ones, and after a restart all are told again.
func TestWatermarksRetried(t *testing.T) {
	w := newWorld(3, 1)
	d := w.epochs(1)
	sink := newMemory()
	c := w.collector(t, sink, signing)
	pull := func() {
		t.Helper()
		if r, err := c.Pull(t.Context()); err != nil {
			t.Fatalf("%v: %s", err, r)
		}
	}
	w.refuse[w.hubs[1]] = true
	pull()
	w.wantMark(t, d, 63, w.hubs[0], w.hubs[2])
	w.wantMark(t, d, -1, w.hubs[1])
	w.refuse[w.hubs[1]] = false
	told := w.records
	pull()
	if w.wantMark(t, d, 63, w.hubs[1]); w.records != told+1 {
		t.Errorf("%d records were sent, one hub lacked one", w.records-told)
	}
	told = w.records
	if pull(); w.records != told {
		t.Errorf("nothing is new and %d records were sent", w.records-told)
	}
	if w.marking(t, sink); w.records != told+3 {
		t.Errorf("after a restart %d records were sent, want one to each hub", w.records-told)
	}
}

// TestWatermarksOfManyChains: more chains than a record takes.
func TestWatermarksOfManyChains(t *testing.T) {
	w := newWorld(1, 1)
	d := w.device(0)
	for range journal.MaxWatermarks + 1 {
		d.life("main")
		w.publish(d.epoch(nil))
	}
	w.marking(t, newMemory())
	if n := len(w.marks[w.hubs[0]]); n != journal.MaxWatermarks+1 || w.records != 2 {
		t.Errorf("%d chains in %d records", n, w.records)
	}
}

// TestFollowWatermarks: who follows tells at most once a minute, and nothing when nothing came.
func TestFollowWatermarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3, 1)
		d := w.epochs(1)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		c := w.collector(t, newMemory(), signing)
		go func() { done <- c.Follow(ctx, func(collector.Report) {}) }()
		synctest.Wait()
		w.wantMark(t, d, 63, w.hubs...)
		told := w.told()
		for range 600 { // ten minutes of a segment each second
			time.Sleep(time.Second)
			w.publish(d.readings(1, 1)...)
		}
		synctest.Wait()
		if n := (w.told() - told) / 3; n < 9 || n > 11 {
			t.Errorf("%d watermarks in ten minutes", n)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		w.wantMark(t, d, 663, w.hubs...)
		asked := w.questions()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if w.questions() != asked {
			t.Errorf("%d requests in a quiet day", w.questions()-asked)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
