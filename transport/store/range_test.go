// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/store"
)

var (
	_ transport.Mirror     = (*store.Store)(nil)
	_ transport.Bookkeeper = (*store.Store)(nil)
)

// manyHubs is a fleet in which a bucket does not live everywhere.
func (w *changing) manyHubs(t testing.TB, n int) (ids []edge.ID) {
	t.Helper()
	var grants []fleet.Grant
	for i := range n {
		id := key(byte(100 + i)).ID()
		ids = append(ids, id)
		grants = append(grants, fleet.Grant{Member: id, Name: fmt.Sprintf("hub-%d", i), Roles: fleet.Hub})
	}
	f, err := w.now.Load().Grant(fleet.Author{Key: key(1)}, time.Now(), grants...)
	check(t, err)
	w.now.Store(f)
	return append(ids, w.hub.ID())
}

// wanted is what Ranges must say, from its definition and what Fetch gives.
func wanted(t testing.TB, s *store.Store, q transport.RangeQuery, hubs []edge.ID) (out []transport.Range) {
	t.Helper()
	all, err := s.Held(context.Background(), edge.ID{})
	check(t, err)
	for _, h := range all {
		if q.Chain != nil && *q.Chain != h.Chain {
			continue
		}
		byRange := map[uint64]*transport.Range{}
		for _, raw := range fetch(t, s, h.Chain, 0, end) {
			seg, err := journal.Open(raw, h.Chain.Fleet)
			check(t, err)
			if q.Target != (edge.ID{}) && !slices.Contains(transport.Place(h.Chain.Bucket(seg.Seq).Key(), hubs), q.Target) {
				continue
			}
			span := transport.Span{Last: seg.Seq}
			if q.Chain != nil {
				if span = q.Span; seg.Seq < span.First || seg.Seq > span.Last {
					continue
				}
				if q.Width > 0 {
					span.First += (seg.Seq - span.First) / q.Width * q.Width
					span.Last = min(span.First+q.Width-1, q.Span.Last)
				}
			}
			r := byRange[span.First]
			if r == nil {
				r = &transport.Range{Chain: h.Chain, Floor: h.Floor}
				byRange[span.First] = r
			}
			r.Span = span
			r.Count++
			if q.Chain != nil && span.Last-span.First == 63 {
				r.Mask |= 1 << (seg.Seq - span.First)
			}
			for i, x := range transport.Digest(seg.Seq, seg.Hash) {
				r.Sum[i] ^= x
			}
		}
		of := make([]transport.Range, 0, len(byRange))
		for _, r := range byRange {
			of = append(of, *r)
		}
		slices.SortFunc(of, func(a, b transport.Range) int { return int(a.Span.First) - int(b.Span.First) })
		out = append(out, of...)
	}
	return out
}

func ranges(t testing.TB, s *store.Store, q transport.RangeQuery) (out []transport.Range) {
	t.Helper()
	check(t, s.Ranges(context.Background(), q, func(r transport.Range) error { out = append(out, r); return nil }))
	return out
}

// FuzzRanges: whatever is held, let go, damaged or revoked, the digests are those of what Fetch gives.
func FuzzRanges(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 200, 201, 7, 77}, uint8(0), uint8(1), uint8(0), uint8(0))
	f.Add([]byte{1, 2, 3, 40, 41, 42, 43, 90}, uint8(5), uint8(2), uint8(60), uint8(0))
	f.Add([]byte{1, 64, 128, 192, 255, 0}, uint8(25), uint8(0), uint8(0), uint8(130))
	w := newKeeping(f)
	w.retain(f, 7*day, w.one)
	hubs := w.manyHubs(f, 25)
	base := w.now.Load()
	var segs [2][]*journal.Segment
	chains := []*chain{w.chain(f, w.device, "main"), w.chain(f, w.device, "slow")}
	for i, c := range chains {
		for range 8 {
			segs[i] = append(segs[i], c.epoch(32)...)
		}
	}
	f.Fuzz(func(t *testing.T, have []byte, target, width, taken, cut uint8) {
		w.now.Store(base)
		dir := t.TempDir()
		o := w.options()
		o.Wrap = unsynced
		s := open(t, dir, o)
		for i, n := range have[:min(len(have), 64)] {
			put(t, s, segs[i%2][n])
		}
		if taken > 0 {
			check(t, s.Mark(t.Context(), marks(t, w, w.one, segs[0][taken])))
			sweep(t, s)
		}
		if cut > 0 {
			w.revoke(t, segs[0][cut])
		}
		if len(have) > 3 && uint64(have[0]) >= heldOf(t, s, chains[0]).Floor {
			flip(t, dir, segs[0][have[0]].Bytes())
			fetch(t, s, chains[0].w.Chain(), 0, end) // it finds out
		}
		name := chains[target%2].w.Chain()
		q := transport.RangeQuery{}
		if width > 0 {
			q.Chain, q.Width = &name, uint64(width%5)*journal.BucketSize
			q.Span = transport.Span{First: uint64(width%3) * journal.BucketSize, Last: 4*journal.BucketSize - 1}
		}
		if target > 0 {
			q.Target = hubs[int(target)%len(hubs)]
		}
		if got, want := ranges(t, s, q), wanted(t, s, q, hubs); !slices.Equal(got, want) {
			t.Fatalf("%+v:\ngot  %+v\nwant %+v", q, got, want)
		}
		check(t, s.Close())
	})
}

func TestRangesRefused(t *testing.T) {
	w := newWorld(t, 1)
	s := open(t, t.TempDir(), w.options())
	c := w.chain(t, w.device, "main")
	put(t, s, c.next(1))
	name := c.w.Chain()
	for _, q := range []transport.RangeQuery{
		{Width: 64},
		{Span: transport.Span{Last: 63}},
		{Chain: &name, Span: transport.Span{First: 1, Last: 63}},
		{Chain: &name, Span: transport.Span{Last: 64}},
		{Chain: &name, Span: transport.Span{Last: 63}, Width: 10},
		{Chain: &name, Span: transport.Span{First: 128, Last: 63}},
	} {
		refused(t, s.Ranges(t.Context(), q, func(transport.Range) error { return nil }), transport.RefusedInvalid, w.hub.ID(), "bucket")
	}
	whole := transport.RangeQuery{Chain: &name, Span: transport.Span{Last: end}, Width: 64}
	if got := ranges(t, s, whole); len(got) != 1 || got[0].Mask != 1 || got[0].Span != (transport.Span{Last: 63}) {
		t.Errorf("of the whole: %+v", got)
	}
	enough := errors.New("enough")
	if err := s.Ranges(t.Context(), whole, func(transport.Range) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("the error of visit: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Ranges(ctx, whole, func(transport.Range) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
