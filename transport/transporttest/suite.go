// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// Node is one member on a transport, as the suite uses it. p2p.Node and mem.Node have all of it.
type Node interface {
	Putter
	Reader
	Heads
	Marker
	Repairer
	Close() error
}

// Putter is the publishing side of a Node.
type Putter interface {
	Put(ctx context.Context, hub edge.ID, segment []byte) error
}

// Reader is the fetching side of a Node.
type Reader interface {
	Held(ctx context.Context, hub edge.ID, device edge.ID) ([]transport.Held, error)
	Fetch(ctx context.Context, hub edge.ID, chain journal.Chain, span transport.Span, visit func(segment []byte) error) error
	Follow(ctx context.Context, hub edge.ID, visit func(transport.Held) error) error
}

// Heads is the DHT side of a Node.
type Heads interface {
	PutHead(ctx context.Context, signedHeader []byte) error
	Head(ctx context.Context, chain journal.Chain) (signedHeader []byte, err error)
	Closest(ctx context.Context, key journal.Hash) ([]edge.ID, error)
}

// Marker is what a collector tells hubs with.
type Marker interface {
	Mark(ctx context.Context, hub edge.ID, signed []byte) error
}

// Repairer is the side of a Node that a hub repairs with.
type Repairer interface {
	Ranges(ctx context.Context, hub edge.ID, q transport.RangeQuery, visit func(transport.Range) error) error
	FetchDated(ctx context.Context, hub edge.ID, chain journal.Chain, span transport.Span, visit func(segment []byte, received int64) error) error
	Marks(ctx context.Context, hub edge.ID, visit func(signed []byte) error) error
}

// Start brings a member up, with a store as a hub and with nil as a client, and closes it when the test ends. Members
// started later find those started before.
type Start func(t *testing.T, signer journal.Signer, store transport.Store) Node

// Limit is how long anything may take that is expected to happen; it is far above what a busy machine needs.
const Limit = 30 * time.Second

// prompt is how long something may take that must not wait for anybody.
const prompt = 5 * time.Second

// Run holds a transport against the contract. newNetwork is called for each part with a new world.
func Run(t *testing.T, newNetwork func(t *testing.T, w *World) Start) {
	parts := []struct {
		name string
		run  func(*testing.T, *bench)
	}{
		{"PutThenFetchIdentical", testRoundTrip},
		{"HubServesItself", testItself},
		{"EachPutGetsItsOwnAnswer", testAnswers},
		{"RefusalsCarryReasonAndDetail", testRefusals},
		{"Oversize", testOversize},
		{"Unreachable", testUnreachable},
		{"FrozenHubIsBounded", testFrozen},
		{"Spans", testSpans},
		{"VisitErrorComesBack", testVisitError},
		{"FollowSnapshotThenLive", testFollow},
		{"FollowNoticesDeadHub", testFollowDead},
		{"HeadsNeverGoBack", testHeads},
		{"ContextEndsCalls", testContext},
		{"ConcurrentPuts", testConcurrent},
		{"ClosestIsPlace", testClosest},
		{"PublisherReachesQuorum", testPublisher},
		{"HeldTellsWhatIsPast", testPast},
		{"MarksOfOneselfAlone", testMark},
		{"HubsCompare", testRanges},
		{"HubsFetchDated", testFetchDated},
		{"RepairIsForHubs", testRepairRight},
	}
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) {
			w := NewWorld(t, 3, 2)
			ctx, cancel := context.WithTimeout(t.Context(), 2*Limit)
			t.Cleanup(cancel)
			p.run(t, &bench{World: w, start: newNetwork(t, w), ctx: ctx})
		})
	}
}

// bench is what one part of the suite works on.
type bench struct {
	*World
	start Start
	ctx   context.Context //nolint:containedctx // the deadline of one test
}

// pair starts hub 0 with a store and a device as its client.
func (b *bench) pair(t *testing.T) (hub edge.ID, client Node, s *Store) {
	t.Helper()
	s = NewStore(b.Fleet, 0)
	b.start(t, b.Hubs[0], s)
	return b.Hubs[0].ID(), b.start(t, b.Devices[0], nil), s
}

func (b *bench) put(t *testing.T, n Node, hub edge.ID, segs ...*journal.Segment) {
	t.Helper()
	for _, s := range segs {
		if err := n.Put(b.ctx, hub, s.Bytes()); err != nil {
			t.Fatalf("putting seq %d: %v", s.Seq, err)
		}
	}
}

func (b *bench) fetch(t *testing.T, n Node, hub edge.ID, c journal.Chain, first, last uint64) [][]byte {
	t.Helper()
	var got [][]byte
	err := n.Fetch(b.ctx, hub, c, transport.Span{First: first, Last: last}, func(s []byte) error {
		got = append(got, bytes.Clone(s))
		return nil
	})
	if err != nil {
		t.Fatalf("fetching %d to %d: %v", first, last, err)
	}
	return got
}

func raw(segs []*journal.Segment) [][]byte {
	var out [][]byte
	for _, s := range segs {
		out = append(out, s.Bytes())
	}
	return out
}

func same(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }

// refused checks that err is a refusal of hub for this reason, with a detail.
func refused(t *testing.T, err error, hub edge.ID, want transport.Reason) {
	t.Helper()
	var r *transport.Refusal
	switch {
	case !errors.As(err, &r):
		t.Errorf("want a refusal (%s), got %v", want, err)
	case r.Reason != want || r.Hub != hub || r.Detail == "":
		t.Errorf("want refusal %s by %s with a detail, got %s by %s: %q", want, hub.Short(), r.Reason, r.Hub.Short(), r.Detail)
	}
}

func testRoundTrip(t *testing.T, b *bench) {
	hub, client, _ := b.pair(t)
	c := b.Chain(t, b.Devices[0], "main")
	segs := append(c.Many(4), c.Next(5000)) // the last is some ten kilobytes
	b.put(t, client, hub, segs...)
	reader := b.start(t, b.Reader, nil)
	if got := b.fetch(t, reader, hub, c.Name(), 0, 1<<40); !same(got, raw(segs)) {
		t.Errorf("fetched %d segments that differ from the %d put", len(got), len(segs))
	}
	b.put(t, client, hub, segs[0]) // again: no error, no second copy
	if got := b.fetch(t, reader, hub, c.Name(), 0, 0); len(got) != 1 {
		t.Errorf("fetched %d copies of seq 0", len(got))
	}
}

func testItself(t *testing.T, b *bench) {
	s := NewStore(b.Fleet, 0)
	hub := b.start(t, b.Hubs[0], s)
	id := b.Hubs[0].ID()
	c := b.Chain(t, b.Devices[0], "main")
	segs := c.Many(2)
	b.put(t, hub, id, segs...)
	if got := b.fetch(t, hub, id, c.Name(), 0, 9); !same(got, raw(segs)) {
		t.Errorf("a hub fetched %d segments from itself", len(got))
	}
	held, err := hub.Held(b.ctx, id, edge.ID{})
	if err != nil || len(held) != 1 {
		t.Errorf("a hub holds %v by its own word: %v", held, err)
	}
	foreign := b.Chain(t, b.Reader, "main").Next(1)
	refused(t, hub.Put(b.ctx, id, foreign.Bytes()), id, transport.RefusedNotAllowed)
}

func testPublisher(t *testing.T, b *bench) {
	stores := map[edge.ID]*Store{}
	for _, h := range b.Hubs {
		stores[h.ID()] = NewStore(b.Fleet, 0)
		b.start(t, h, stores[h.ID()])
	}
	p := transport.NewPublisher(b.start(t, b.Devices[0], nil), b.Fleet)
	defer p.Close()
	for _, seg := range b.Chain(t, b.Devices[0], "main").Many(3) {
		r, err := p.Publish(b.ctx, seg, nil)
		if err != nil || !r.Forgettable() {
			t.Fatalf("publishing seq %d: %v, %d acks", seg.Seq, err, len(r.Acked))
		}
		for _, id := range r.Acked {
			if !stores[id].Has(seg.Chain, seg.Seq) {
				t.Errorf("hub %s acknowledged seq %d and has it not", id.Short(), seg.Seq)
			}
		}
	}
}
