// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// following runs Follow in a bubble, hands it to do, and ends it.
func (w *world) following(t *testing.T, do func(c *collector.Collector, sink *memory)) {
	t.Helper()
	sink := newMemory()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	c := w.collector(t, sink, signing)
	go func() { done <- c.Follow(ctx, func(collector.Report) {}) }()
	synctest.Wait()
	do(c, sink)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// rowsOf returns what a sink has.
func rowsOf(m *memory) map[string]bool {
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.rows)
}

func (w *world) given() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.served {
		n += s
	}
	return n
}

// lose breaks what follows a hub.
func (w *world) lose(hub edge.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f := w.follows[hub]; f != nil {
		close(f)
		delete(w.follows, hub)
	}
}

func (w *world) followed(hub edge.ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.follows[hub] != nil
}

// TestFollowFetchesOnce: three hubs tell of each segment, one gives it.
func TestFollowFetchesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3, 1)
		d := w.epochs(1)
		w.following(t, func(_ *collector.Collector, sink *memory) {
			before := w.given()
			for range 50 {
				w.publish(d.readings(1, 2)...)
				same(t, rowsOf(sink), w.made)
			}
			if n := w.given() - before; n != 50 {
				t.Errorf("%d segments were given for 50", n)
			}
		})
	})
}

// TestFollowFlapping: a hub that comes and goes is followed again after ever longer pauses, nobody else is asked for it, and nothing is fetched again.
func TestFollowFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3, 1)
		w.epochs(2)
		w.following(t, func(*collector.Collector, *memory) {
			fetches, asked, ends := w.fetches, w.questions(), 0
			for end := time.Now().Add(time.Hour); time.Now().Before(end); ends++ {
				w.lose(w.hubs[1])
				for synctest.Wait(); !w.followed(w.hubs[1]); synctest.Wait() {
					time.Sleep(100 * time.Millisecond)
				}
			}
			if ends > 100 || ends < 40 {
				t.Errorf("followed again %d times in an hour", ends)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.fetches != fetches || w.asked-asked > ends+3 { // what it holds, once each time
				t.Errorf("%d fetches and %d questions for %d losses", w.fetches-fetches, w.asked-asked, ends)
			}
		})
	})
}

// TestFollowFillsHolesFirst: the newest segment is told first, or alone: the hubs are asked for what is before it, and no gap is recorded.
func TestFollowFillsHolesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3, 2)
		d := w.epochs(1)
		w.following(t, func(_ *collector.Collector, sink *memory) {
			segs := d.readings(5, 1)
			w.mu.Lock()
			for _, h := range w.hubs { // stored, and not told
				for _, s := range segs[:4] {
					w.stores[h][d.chain()][s.Seq] = s.Bytes()
				}
			}
			w.mu.Unlock()
			w.store(w.hubs[0], segs[4])
			same(t, rowsOf(sink), w.made)
			if g := sink.marks[d.chain()].Gaps; len(g) != 0 {
				t.Errorf("gaps: %v", g)
			}
			// A real hole becomes a gap, once, and is filled when a hub tells of it.
			w.published(d.readings(3, 1), 0, 2)
			rowsOf(sink)
			hole := d.all[len(d.all)-2].Seq
			if g := sink.marks[d.chain()].Gaps; len(g) != 1 || g[0].First != hole || g[0].Last != hole {
				t.Errorf("gaps %v, want seq %d", g, hole)
			}
			asked := w.questions()
			time.Sleep(time.Hour)
			synctest.Wait()
			if w.questions() > asked+3 { // watermarks
				t.Errorf("the hole cost %d questions in an hour", w.questions()-asked)
			}
			w.store(w.hubs[2], d.all[len(d.all)-2])
			same(t, rowsOf(sink), w.made)
		})
	})
}

// published puts some of the segments on all hubs.
func (w *world) published(segs []*journal.Segment, which ...int) {
	for i, s := range segs {
		if slices.Contains(which, i) {
			w.publish(s)
		}
	}
}

// TestFollowFleetChanges: a device of which hubs told before the fleet did, and a hub that is enrolled later.
func TestFollowFleetChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3, 1)
		w.epochs(1)
		w.following(t, func(c *collector.Collector, sink *memory) {
			before := maps.Clone(w.made)
			late := w.device(5)
			old, known := w.fleet, w.enrolled(5)
			w.change(known)
			late.epoch(nil)
			late.readings(5, 1)
			w.change(old)
			w.publish(late.all...)
			same(t, rowsOf(sink), before)
			w.change(known)
			c.FleetChanged()
			same(t, rowsOf(sink), w.made)

			hub := softKey(199).ID()
			w.mu.Lock()
			w.stores[hub] = map[journal.Chain]map[uint64][]byte{}
			w.mu.Unlock()
			w.change(must(w.fleet.Grant(w.author(), time.Now(), fleet.Grant{Member: hub, Name: "hub-late", Roles: fleet.Hub})))
			c.FleetChanged()
			synctest.Wait()
			for _, s := range late.readings(3, 1) {
				w.store(hub, s)
			}
			same(t, rowsOf(sink), w.made)
		})
	})
}

// TestFollowLiar: a hub that tells of what is not there over and over is asked ever less often; the others' news are not held up.
func TestFollowLiar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3, 1)
		d := w.epochs(1)
		w.following(t, func(_ *collector.Collector, sink *memory) {
			asked := w.questions()
			for i := range 1000 {
				w.mu.Lock()
				w.follows[w.hubs[0]] <- transport.Held{Chain: d.chain(), Spans: []transport.Span{{First: uint64(64 + i%10), Last: uint64(64 + i%10)}}}
				w.mu.Unlock()
				time.Sleep(time.Second)
			}
			synctest.Wait()
			if n := w.questions() - asked; n > 400 {
				t.Errorf("%d questions for 1000 lies", n)
			}
			w.publish(d.readings(12, 1)...)
			same(t, rowsOf(sink), w.made)
		})
	})
}
