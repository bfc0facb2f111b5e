// SPDX-License-Identifier: Apache-2.0

package repair_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/mem"
	"github.com/streembit/edge/transport/repair"
	"github.com/streembit/edge/transport/transporttest"
)

// liar claims all of each bucket that it has anything of, and gives nothing.
type liar struct{ *transporttest.Store }

func (l liar) FetchDated(context.Context, journal.Chain, transport.Span, func([]byte, int64) error) error {
	return nil
}

// forger gives bytes that no device signed.
type forger struct{ *transporttest.Store }

func (f forger) FetchDated(ctx context.Context, c journal.Chain, s transport.Span, visit func([]byte, int64) error) error {
	return f.Store.FetchDated(ctx, c, s, func(segment []byte, at int64) error {
		forged := append([]byte(nil), segment...)
		forged[len(forged)-1] ^= 1
		return visit(forged, at)
	})
}

// flood answers every question without an end.
type flood struct {
	*transporttest.Store
	world *transporttest.World
	said  *atomic.Int64
}

func (f flood) Ranges(ctx context.Context, q transport.RangeQuery, visit func(transport.Range) error) error {
	if q.Chain != nil {
		return f.Store.Ranges(ctx, q, visit)
	}
	for i := uint32(0); ctx.Err() == nil; i++ {
		f.said.Add(1)
		c := journal.Chain{Fleet: f.world.Fleet().ID(), Device: f.world.Devices[0].ID(), Stream: "main",
			Incarnation: journal.Incarnation{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}}
		if err := visit(transport.Range{Chain: c, Span: transport.Span{Last: 9}, Count: 10, Sum: journal.Hash{1}}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// drip gives a segment every quarter of a minute, which is never silence.
type drip struct{ *transporttest.Store }

func (d drip) FetchDated(ctx context.Context, c journal.Chain, s transport.Span, visit func([]byte, int64) error) error {
	return d.Store.FetchDated(ctx, c, s, func(segment []byte, at int64) error {
		select {
		case <-time.After(15 * time.Second):
			return visit(segment, at)
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// TestOneBadHubAmongFive: an empty hub gets all its copies although one of the holders is bad, and says which one.
func TestOneBadHubAmongFive(t *testing.T) {
	said := &atomic.Int64{}
	for name, c := range map[string]struct {
		bad     func(*transporttest.World, *transporttest.Store) disk
		freeze  bool
		suspect bool
		failed  bool
		deaf    bool // it cannot be compared with
		within  time.Duration
	}{
		"claims and does not give": {bad: func(_ *transporttest.World, s *transporttest.Store) disk { return liar{s} }, suspect: true, failed: true, within: time.Minute},
		"gives what nobody signed": {bad: func(_ *transporttest.World, s *transporttest.Store) disk { return forger{s} }, suspect: true, failed: true, within: time.Minute},
		"floods":                   {bad: func(w *transporttest.World, s *transporttest.Store) disk { return flood{s, w, said} }, suspect: true, failed: true, deaf: true, within: time.Minute},
		"drips":                    {bad: func(_ *transporttest.World, s *transporttest.Store) disk { return drip{s} }, failed: true, within: 5 * time.Minute},
		"is frozen":                {bad: func(_ *transporttest.World, s *transporttest.Store) disk { return s }, freeze: true, failed: true, deaf: true, within: 2 * time.Minute},
		"is empty": {bad: func(w *transporttest.World, _ *transporttest.Store) disk { return transporttest.NewStore(w.Fleet, 0) },
			within: time.Minute},
		"is good": {bad: func(_ *transporttest.World, s *transporttest.Store) disk { return s }, within: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			w := transporttest.NewWorld(t, 6, 1)
			segs := chains(t, w, 12, 16)
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, w)
				r.publish(t, segs...)
				closest := slices.DeleteFunc(r.place(segs[0]), func(id edge.ID) bool { return id == w.Hubs[5].ID() })
				bad := r.hubs[closest[0]] // so that it is asked for something
				r.join(t, bad.key, c.bad(w, bad.disk.(*transporttest.Store)))
				if c.freeze {
					r.net.Freeze(bad.key.ID())
				}
				empty := r.join(t, w.Hubs[5], transporttest.NewStore(w.Fleet, 0))
				r.repair(t, empty)
				r.wholeBut(t, c.within, bad.key.ID())
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				s := empty.Stats()
				for _, p := range s.Peers {
					isBad := p.Hub == bad.key.ID()
					if (p.Suspect != "") != (isBad && c.suspect) || (p.Failed > 0) != (isBad && c.failed) || p.Compared.IsZero() != (isBad && c.deaf) {
						t.Errorf("of hub %s (bad %t): %+v", p.Hub.Short(), isBad, p)
					}
				}
				if s.Lacking != 0 || s.Left != 0 || s.Error != "" || s.Fetched < uint64(len(segs)) {
					t.Errorf("%+v", s)
				}
			})
		})
	}
	if n := said.Load(); n == 0 || n > 8<<17 {
		t.Errorf("a hub that floods was listened to for %d ranges", n)
	}
}

// TestLiarIsNotAskedForTheSameAgain: what a hub claims alone and does not give is asked for once, until it claims something else.
func TestLiarIsNotAskedForTheSameAgain(t *testing.T) {
	w := transporttest.NewWorld(t, 3, 1)
	segs := chains(t, w, 8, 16)
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, w)
		store := transporttest.NewStore(w.Fleet, 0)
		for _, s := range segs {
			if err := store.Put(t.Context(), s.Bytes()); err != nil {
				t.Fatal(err)
			}
		}
		r.join(t, w.Hubs[0], liar{store})
		asked := &asking{Node: r.hubs[w.Hubs[1].ID()].node}
		h := r.hubs[w.Hubs[1].ID()]
		r.repair(t, h, func(o *repair.Options) { o.Peers = asked })
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		first := asked.fetches.Load()
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if again := asked.fetches.Load() - first; first == 0 || again > 0 {
			t.Errorf("asked for segments %d times at first and %d times later", first, again)
		}
	})
}

// asking counts the questions of a node.
type asking struct {
	*mem.Node
	ranges, fetches, deep atomic.Int64
}

func (a *asking) Ranges(ctx context.Context, hub edge.ID, q transport.RangeQuery, visit func(transport.Range) error) error {
	a.ranges.Add(1)
	if q.Chain != nil {
		a.deep.Add(1)
	}
	return a.Node.Ranges(ctx, hub, q, visit)
}

func (a *asking) FetchDated(ctx context.Context, hub edge.ID, c journal.Chain, s transport.Span, visit func([]byte, int64) error) error {
	a.fetches.Add(1)
	return a.Node.FetchDated(ctx, hub, c, s, visit)
}

// TestUnchangedIsNotLookedIntoAgain: hubs that share only some of their buckets have digests that differ for ever; a question a round is enough to see
// that nothing is new.
func TestUnchangedIsNotLookedIntoAgain(t *testing.T) {
	w, segs := partialWorld(t)
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, w)
		r.publish(t, segs...)
		h := r.hubs[w.Hubs[0].ID()]
		asked := &asking{Node: h.node}
		r.repair(t, h, func(o *repair.Options) { o.Peers = asked })
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		first, deep := asked.ranges.Load(), asked.deep.Load()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		ranges := asked.ranges.Load() - first
		if again := asked.deep.Load() - deep; deep == 0 || again != 0 || ranges < 8*8 || ranges > 14*8 {
			t.Errorf("%d looks into chains at first, %d in the next ten minutes, and %d questions", deep, again, ranges)
		}
		// A segment that the hub missed is one look and one fetch.
		s := w.Chain(t, w.Devices[0], "late").Next(1)
		for !slices.Contains(r.place(s), h.key.ID()) {
			s = w.Chain(t, w.Devices[0], "late").Next(1)
		}
		for _, id := range r.place(s) {
			if id != h.key.ID() {
				if err := r.hubs[id].disk.Put(t.Context(), s.Bytes()); err != nil {
					t.Fatal(err)
				}
			}
		}
		r.segs = append(r.segs, s)
		r.whole(t, 7*time.Minute)
		if n := asked.fetches.Load(); n != 1 {
			t.Errorf("%d fetches for one segment", n)
		}
	})
}

// wholeBut is whole for all hubs but one.
func (r *rig) wholeBut(t *testing.T, within time.Duration, but edge.ID) {
	t.Helper()
	began := time.Now()
	for {
		missing := 0
		for _, s := range r.segs {
			for _, id := range r.place(s) {
				if id != but && !r.hubs[id].has(t, s) {
					missing++
				}
			}
		}
		if missing == 0 {
			return
		}
		if time.Since(began) > within {
			t.Fatalf("%d copies are missing after %s", missing, within)
		}
		time.Sleep(time.Second)
		synctest.Wait()
	}
}

// partialWorld is a fleet whose first hub shares only some buckets of a chain with others.
func partialWorld(t *testing.T) (*transporttest.World, []*journal.Segment) {
	t.Helper()
	for {
		w := transporttest.NewWorld(t, 30, 1)
		segs := slices.DeleteFunc(chains(t, w, 2, 6*journal.BucketSize), func(s *journal.Segment) bool { return s.Seq%16 != 0 }) // four of a bucket will do
		mine, shared := map[journal.Chain]int{}, map[journal.Chain]map[edge.ID]int{}
		for _, s := range segs {
			place := transport.Place(s.Chain.Bucket(s.Seq).Key(), w.HubIDs())
			if s.Seq%journal.BucketSize != 0 || !slices.Contains(place, w.Hubs[0].ID()) {
				continue
			}
			if mine[s.Chain]++; shared[s.Chain] == nil {
				shared[s.Chain] = map[edge.ID]int{}
			}
			for _, id := range place {
				shared[s.Chain][id]++
			}
		}
		for c, hubs := range shared {
			for _, n := range hubs {
				if n < mine[c] {
					return w, segs
				}
			}
		}
	}
}
