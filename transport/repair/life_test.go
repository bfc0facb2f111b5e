// SPDX-License-Identifier: Apache-2.0

package repair_test

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/repair"
	"github.com/streembit/edge/transport/transporttest"
)

// TestRejoiningHubFetchesWhatItMissed: it keeps its disk, and what is on it is not fetched again.
func TestRejoiningHubFetchesWhatItMissed(t *testing.T) {
	w := transporttest.NewWorld(t, 5, 2)
	before, after := chains(t, w, 4, 100), chains(t, w, 2, 30)
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, w)
		r.publish(t, before...)
		away := r.hubs[w.Hubs[0].ID()]
		r.net.Kill(away.key.ID())
		var missed uint64
		for _, s := range after {
			for _, id := range r.place(s) {
				if id != away.key.ID() {
					put(t, r.hubs[id].disk, s)
				}
			}
			missed += uint64(len(s.Bytes()))
		}
		r.segs = append(r.segs, after...)
		back := r.join(t, away.key, away.disk)
		r.repair(t, back)
		r.whole(t, time.Minute)
		if s := back.Stats(); s.Fetched != uint64(len(after)) || s.Bytes != missed {
			t.Errorf("fetched %d segments of %d bytes, missed %d of %d", s.Fetched, s.Bytes, len(after), missed)
		}
	})
}

func put(t testing.TB, d disk, segs ...*journal.Segment) {
	t.Helper()
	for _, s := range segs {
		if err := d.Put(t.Context(), s.Bytes()); err != nil {
			t.Fatalf("putting seq %d: %v", s.Seq, err)
		}
	}
}

// TestRateIsKept: over any stretch of time no more comes than the rate and what may come at once.
func TestRateIsKept(t *testing.T) {
	const each = 64 << 10
	w := transporttest.NewWorld(t, 2, 1)
	c := w.Chain(t, w.Devices[0], "main")
	segs, total := []*journal.Segment{c.Next(1)}, 0
	for range 60 {
		segs = append(segs, c.Next(8000))
		total += len(segs[len(segs)-1].Bytes())
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, w)
		put(t, r.hubs[w.Hubs[0].ID()].disk, segs...)
		r.segs = segs
		h := r.hubs[w.Hubs[1].ID()]
		began := time.Now()
		r.repair(t, h, func(o *repair.Options) { o.Rate = each })
		var last, most int64
		for range 3600 {
			time.Sleep(time.Second)
			synctest.Wait()
			now := h.counted.bytes.Load()
			most, last = max(most, now-last), now
			if allowed := int64(time.Since(began).Seconds()*each) + journal.MaxSegment; now > allowed {
				t.Fatalf("%d bytes after %s, allowed are %d", now, time.Since(began), allowed)
			}
			if now >= int64(total) {
				break
			}
			if s := h.Stats(); s.Fetched > 20 && (s.Lacking == 0 || s.Left <= 0 || s.Left > time.Hour) {
				t.Fatalf("after %d bytes: %+v", now, s)
			}
		}
		took := time.Since(began)
		if least := time.Duration(float64(int64(total)-journal.MaxSegment) / each * float64(time.Second)); took < least || took > 2*least+time.Minute {
			t.Errorf("%d bytes took %s, at the rate at least %s", total, took, least)
		}
	})
}

// TestPublishingIsNotDoubled: while devices publish, some copies late and some never, repair fetches only the ones that never come.
func TestPublishingIsNotDoubled(t *testing.T) {
	w := transporttest.NewWorld(t, 24, 4)
	all := chains(t, w, 4, 100)
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, w)
		r.repairAll(t)
		var dropped, droppedBytes, late atomic.Int64
		for i := range 100 { // a segment a second from each of four devices
			for c := range 4 {
				s := all[c*100+i]
				for _, id := range r.place(s) {
					delay := time.Duration(rand.ExpFloat64() * float64(200*time.Millisecond))
					switch n := rand.N(1000); {
					case n < 10:
						dropped.Add(1)
						droppedBytes.Add(int64(len(s.Bytes())))
						continue
					case n < 30:
						late.Add(1)
						delay = rand.N(8 * time.Second)
					}
					h := r.hubs[id]
					time.AfterFunc(delay, func() { put(t, h.disk, s) })
				}
			}
			time.Sleep(time.Second)
		}
		r.segs = all
		r.whole(t, 10*time.Minute)
		var fetched int64
		for _, h := range r.hubs {
			fetched += h.counted.bytes.Load()
		}
		ratio := float64(fetched) / float64(droppedBytes.Load())
		t.Logf("of %d copies %d never came and %d were up to 8 s late; bytes fetched / never come: %.3f", 20*len(all), dropped.Load(), late.Load(), ratio)
		if ratio < 1 || ratio > 1.05 {
			t.Errorf("bytes fetched / never come: %.3f", ratio)
		}
	})
}

// TestPartitionHeals: each half takes in something while they are apart; afterwards both have all.
func TestPartitionHeals(t *testing.T) {
	w := transporttest.NewWorld(t, 6, 2)
	left, right := chains(t, w, 3, 20), chains(t, w, 3, 20)
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, w)
		r.repairAll(t)
		var apart []edge.ID
		for _, k := range w.Hubs[:3] {
			apart = append(apart, k.ID())
		}
		r.net.Partition(apart...)
		for i, k := range w.Hubs {
			put(t, r.hubs[k.ID()].disk, [][]*journal.Segment{left, right}[i/3]...)
		}
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		r.segs = slices.Concat(left, right)
		copies, _, _ := r.missing(t)
		if want := 3*len(left) + 3*len(right); copies != want {
			t.Fatalf("apart %d copies are missing, want %d", copies, want)
		}
		for _, id := range apart {
			r.net.Heal(id)
		}
		r.whole(t, 7*time.Minute) // the halves have given each other up for four rounds
		for _, h := range r.hubs {
			for _, p := range h.Stats().Peers {
				if p.Suspect != "" {
					t.Errorf("after the cut: %+v", p)
				}
			}
		}
	})
}

// TestRevokedHubRepairsNoMore, neither from others nor for them.
func TestRevokedHubRepairsNoMore(t *testing.T) {
	w := transporttest.NewWorld(t, 3, 1)
	early, late := chains(t, w, 2, 10), chains(t, w, 2, 10)
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, w)
		r.repairAll(t)
		put(t, r.hubs[w.Hubs[0].ID()].disk, early...)
		r.segs = early
		r.whole(t, 3*time.Minute)
		out := r.hubs[w.Hubs[2].ID()]
		r.Revoke(t, out.key.ID())
		put(t, out.disk, chains(t, w, 1, 5)...)
		put(t, r.hubs[w.Hubs[0].ID()].disk, late...)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if s := out.Stats(); s.Fetched != uint64(len(early)) || len(s.Peers) != 0 {
			t.Errorf("a hub that was put out: %+v", s)
		}
		if s := r.hubs[w.Hubs[1].ID()].Stats(); s.Fetched != uint64(len(early)+len(late)) || len(s.Peers) != 1 {
			t.Errorf("a hub that stays: %+v", s)
		}
	})
}

// TestMarksSpread: what a collector told one hub reaches all.
func TestMarksSpread(t *testing.T) {
	w := transporttest.NewWorld(t, 8, 1)
	seg := w.Chain(t, w.Devices[0], "main").Next(1)
	signed, err := journal.SignWatermarks(w.Reader, w.Fleet().ID(), []journal.Watermark{{Chain: seg.Chain, Link: journal.Link{Seq: seg.Seq, Hash: seg.Hash}}})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, w)
		r.repairAll(t)
		if err := r.hubs[w.Hubs[0].ID()].disk.Mark(t.Context(), signed); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		for id, h := range r.hubs {
			n := 0
			if err := h.disk.Marks(t.Context(), func(got []byte) error { n++; return nil }); err != nil || n != 1 {
				t.Errorf("hub %s has %d records: %v", id.Short(), n, err)
			}
		}
	})
}

// TestForksMetAreKept: two hubs with two segments of one place both get the proof, and then leave it at that.
func TestForksMetAreKept(t *testing.T) {
	w := transporttest.NewWorld(t, 2, 1)
	c := w.Chain(t, w.Devices[0], "main")
	common := c.Many(10)
	twin := c.Twin()
	one, two := c.Many(20), twin.Many(12)
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, w)
		a, b := r.hubs[w.Hubs[0].ID()], r.hubs[w.Hubs[1].ID()]
		put(t, a.disk, slices.Concat(common, one)...)
		put(t, b.disk, slices.Concat(common, two)...)
		r.repairAll(t)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		forks := func(h *hub) int { return h.disk.(*transporttest.Store).Forks() }
		if forks(b) == 0 {
			t.Error("no proof on the hub that lacks something")
		}
		before, bytes := forks(a)+forks(b), a.counted.bytes.Load()+b.counted.bytes.Load()
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if now := forks(a) + forks(b); now != before || a.counted.bytes.Load()+b.counted.bytes.Load() != bytes {
			t.Errorf("fetched again: %d forks, then %d", before, now)
		}
	})
}

// TestPastIsNotBroughtBack: what this hub let go is not fetched again, and what the other one let go meanwhile is no lie.
func TestPastIsNotBroughtBack(t *testing.T) {
	w := transporttest.NewWorld(t, 2, 1)
	segs := chains(t, w, 1, 200)
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, w)
		r.publish(t, segs...)
		a, b := r.hubs[w.Hubs[0].ID()], r.hubs[w.Hubs[1].ID()]
		a.disk.(*transporttest.Store).LetGo(segs[0].Chain, 200, transport.PastAge) // all
		b.disk.(*transporttest.Store).LetGo(segs[0].Chain, 70, transport.PastAge)
		r.repairAll(t)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		first := a.counted.bytes.Load()
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if n := a.disk.(*transporttest.Store).Len(); n != 0 || a.counted.bytes.Load() != first {
			t.Errorf("%d segments came back, %d bytes at first, %d later", n, first, a.counted.bytes.Load())
		}
		if p := a.Stats().Peers[0]; p.Suspect != "" {
			t.Errorf("%+v", p)
		}
	})
}
