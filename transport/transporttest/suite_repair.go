// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

func testPast(t *testing.T, b *bench) {
	hub, client, s := b.pair(t)
	whole, part := b.Chain(t, b.Devices[0], "main"), b.Chain(t, b.Devices[0], "other")
	b.put(t, client, hub, slices.Concat(whole.Many(3), part.Many(5))...)
	s.LetGo(whole.Name(), 3, transport.PastCollected)
	s.LetGo(part.Name(), 2, transport.PastAge)
	want := []transport.Held{
		{Chain: whole.Name(), Floor: 3, Past: transport.PastCollected},
		{Chain: part.Name(), Spans: []transport.Span{{First: 2, Last: 4}}, Floor: 2, Past: transport.PastAge},
	}
	got, err := client.Held(b.ctx, hub, edge.ID{})
	if err != nil || !slices.EqualFunc(got, want, equalHeld) {
		t.Errorf("held: %+v, %v\nwant  %+v", got, err, want)
	}
}

func equalHeld(a, b transport.Held) bool {
	return a.Chain == b.Chain && a.Floor == b.Floor && a.Past == b.Past && slices.Equal(a.Spans, b.Spans)
}

// watermarks signs that a chain was taken up to a segment.
func (b *bench) watermarks(t *testing.T, who journal.Signer, seg *journal.Segment) []byte {
	t.Helper()
	signed, err := journal.SignWatermarks(who, b.Fleet().ID(), []journal.Watermark{{Chain: seg.Chain, Link: journal.Link{Seq: seg.Seq, Hash: seg.Hash}}})
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func testMark(t *testing.T, b *bench) {
	stores := map[edge.ID]*Store{}
	var hubs []Node
	for _, h := range b.Hubs[:2] {
		stores[h.ID()] = NewStore(b.Fleet, 0)
		hubs = append(hubs, b.start(t, h, stores[h.ID()]))
	}
	other := NewKey(t)
	b.Grant(t, fleet.Grant{Member: other.ID(), Name: "other", Roles: fleet.Collector, Reader: b.Recovery.Public()})
	reader := b.start(t, b.Reader, nil)
	first := b.Hubs[0].ID()
	seg := b.Chain(t, b.Devices[0], "main").Next(1)
	own, foreign := b.watermarks(t, b.Reader, seg), b.watermarks(t, other, seg)

	refused(t, reader.Mark(b.ctx, first, foreign), first, transport.RefusedNoRight)
	forged := bytes.Clone(own)
	forged[len(forged)-1] ^= 1
	refused(t, reader.Mark(b.ctx, first, forged), first, transport.RefusedInvalid)
	refused(t, hubs[0].Mark(b.ctx, first, own), first, transport.RefusedNoRight)
	device := b.start(t, b.Devices[0], nil)
	refused(t, device.Mark(b.ctx, first, b.watermarks(t, b.Devices[0], seg)), first, transport.RefusedNotAllowed)
	if err := reader.Mark(b.ctx, first, own); err != nil {
		t.Fatalf("marking: %v", err)
	}
	if err := b.start(t, other, nil).Mark(b.ctx, first, foreign); err != nil {
		t.Fatalf("marking: %v", err)
	}
	var got [][]byte
	err := hubs[1].Marks(b.ctx, first, func(signed []byte) error {
		got = append(got, bytes.Clone(signed))
		return nil
	})
	want := [][]byte{own, foreign}
	slices.SortFunc(got, bytes.Compare)
	slices.SortFunc(want, bytes.Compare)
	if err != nil || !same(got, want) {
		t.Errorf("another hub got %d records, want the two: %v", len(got), err)
	}
}

// twoHubs starts hub 0 with a store and hub 1 that asks it.
func (b *bench) twoHubs(t *testing.T) (to edge.ID, asker Node, s *Store) {
	t.Helper()
	s = NewStore(b.Fleet, 0)
	b.start(t, b.Hubs[0], s)
	return b.Hubs[0].ID(), b.start(t, b.Hubs[1], NewStore(b.Fleet, 0)), s
}

func testRanges(t *testing.T, b *bench) {
	hub, asker, s := b.twoHubs(t)
	var chains []*Chain
	for range 3 {
		c := b.Chain(t, b.Devices[0], "main")
		for _, seg := range c.Many(3 * journal.BucketSize) {
			if seg.Seq%5 == 2 {
				continue
			}
			if err := s.Put(b.ctx, seg.Bytes()); err != nil {
				t.Fatal(err)
			}
		}
		chains = append(chains, c)
	}
	s.LetGo(chains[0].Name(), journal.BucketSize, transport.PastAge)
	name := chains[0].Name()
	all := transport.Span{Last: 8*journal.BucketSize - 1}
	for what, q := range map[string]transport.RangeQuery{
		"all chains":     {Target: b.Hubs[1].ID()},
		"for anybody":    {},
		"for a stranger": {Target: edge.ID{7}},
		"one chain":      {Chain: &name, Span: all},
		"wide":           {Chain: &name, Span: all, Width: 2 * journal.BucketSize},
		"buckets":        {Target: b.Hubs[1].ID(), Chain: &name, Span: all, Width: journal.BucketSize},
		"an end":         {Chain: &name, Span: transport.Span{First: 2 * journal.BucketSize, Last: 3*journal.BucketSize - 1}, Width: journal.BucketSize},
	} {
		want, got := b.ranges(t, s.Ranges, q), b.ranges(t, func(ctx context.Context, q transport.RangeQuery, visit func(transport.Range) error) error {
			return asker.Ranges(ctx, hub, q, visit)
		}, q)
		if !slices.Equal(got, want) || (len(want) == 0) != (what == "for a stranger") {
			t.Errorf("%s: got %d ranges %+v\nwant %d %+v", what, len(got), got, len(want), want)
		}
	}
	enough, visits := errors.New("enough"), 0
	err := asker.Ranges(b.ctx, hub, transport.RangeQuery{}, func(transport.Range) error { visits++; return enough })
	if !errors.Is(err, enough) || errors.Is(err, transport.ErrUnreachable) || visits != 1 {
		t.Errorf("comparing ended after %d visits with %v", visits, err)
	}
}

func (b *bench) ranges(t *testing.T, ask func(context.Context, transport.RangeQuery, func(transport.Range) error) error, q transport.RangeQuery) (out []transport.Range) {
	t.Helper()
	if err := ask(b.ctx, q, func(r transport.Range) error { out = append(out, r); return nil }); err != nil {
		t.Fatalf("comparing: %v", err)
	}
	return out
}

func testFetchDated(t *testing.T, b *bench) {
	hub, asker, s := b.twoHubs(t)
	c := b.Chain(t, b.Devices[0], "main")
	segs := c.Many(6)
	for i, seg := range segs {
		if err := s.PutDated(b.ctx, seg.Bytes(), int64(i)*1000); err != nil { // of the first it is not known
			t.Fatal(err)
		}
	}
	var got [][]byte
	err := asker.FetchDated(b.ctx, hub, c.Name(), transport.Span{First: 0, Last: 4}, func(segment []byte, received int64) error {
		if want := int64(len(got)) * 1000; received != want {
			t.Errorf("seq %d: received at %d, want %d", len(got), received, want)
		}
		got = append(got, bytes.Clone(segment))
		return nil
	})
	if err != nil || !same(got, raw(segs[:5])) {
		t.Errorf("fetched %d of 5: %v", len(got), err)
	}
}

func testRepairRight(t *testing.T, b *bench) {
	hub, asker, _ := b.twoHubs(t)
	for who, n := range map[string]Node{"device": b.start(t, b.Devices[0], nil), "collector": b.start(t, b.Reader, nil)} {
		for what, err := range map[string]error{
			"ranges": n.Ranges(b.ctx, hub, transport.RangeQuery{}, func(transport.Range) error { return nil }),
			"marks":  n.Marks(b.ctx, hub, func([]byte) error { return nil }),
			"fetch": n.FetchDated(b.ctx, hub, b.Chain(t, b.Devices[0], "main").Name(), transport.Span{},
				func([]byte, int64) error { return nil }),
		} {
			var r *transport.Refusal
			if !errors.As(err, &r) || r.Reason != transport.RefusedNoRight || r.Hub != hub {
				t.Errorf("%s of a %s: %v", what, who, err)
			}
		}
	}
	err := asker.Ranges(b.ctx, b.Hubs[2].ID(), transport.RangeQuery{}, func(transport.Range) error { return nil })
	if !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("comparing with a hub that is not there: %v", err)
	}
}
