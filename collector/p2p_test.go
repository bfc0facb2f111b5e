// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/store"
)

// What the real transport offers is what a Collector asks for.
var (
	_ collector.Source       = (*p2p.Node)(nil)
	_ collector.HeadSource   = (*p2p.Node)(nil)
	_ collector.FollowSource = (*p2p.Node)(nil)
	_ collector.MarkSource   = (*p2p.Node)(nil)
)

// hubsOnLoopback starts the world's hubs as real ones and enrols their addresses.
func hubsOnLoopback(t *testing.T, w *world, wrap func(*store.Store) transport.Store) {
	t.Helper()
	var grants []fleet.Grant
	for i, id := range w.hubs {
		disk := must(store.Open(t.Context(), t.TempDir(), store.Options{Fleet: w.current, Self: id}))
		node, err := p2p.New(t.Context(), p2p.Options{Signer: softKey(100 + uint64(i)), Fleet: w.current, Store: wrap(disk), Books: disk, Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := node.Close(); err != nil {
				t.Error(err)
			}
			if err := disk.Close(); err != nil {
				t.Error(err)
			}
		})
		g, _ := w.fleet.Member(id)
		g.Addrs, g.Serial = node.Addrs(), 0
		grants = append(grants, g)
	}
	w.change(must(w.fleet.Grant(w.author(), time.Now(), grants...)))
}

// member starts a client.
func (w *world) member(t *testing.T, key journal.SoftKey) *p2p.Node {
	t.Helper()
	n, err := p2p.New(t.Context(), p2p.Options{Signer: key, Fleet: w.current})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := n.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

// counting counts what a collector asks of its node.
type counting struct {
	*p2p.Node
	held, fetched, heads, marked, segments atomic.Int64
}

func (c *counting) Held(ctx context.Context, hub, device edge.ID) ([]transport.Held, error) {
	c.held.Add(1)
	return c.Node.Held(ctx, hub, device)
}

func (c *counting) Fetch(ctx context.Context, hub edge.ID, chain journal.Chain, span transport.Span, visit func([]byte) error) error {
	c.fetched.Add(1)
	return c.Node.Fetch(ctx, hub, chain, span, func(raw []byte) error {
		c.segments.Add(1)
		return visit(raw)
	})
}

func (c *counting) Head(ctx context.Context, chain journal.Chain) ([]byte, error) {
	c.heads.Add(1)
	return c.Node.Head(ctx, chain)
}

func (c *counting) Mark(ctx context.Context, hub edge.ID, signed []byte) error {
	c.marked.Add(1)
	return c.Node.Mark(ctx, hub, signed)
}

func (c *counting) all() int64 {
	return c.held.Load() + c.fetched.Load() + c.heads.Load() + c.marked.Load()
}

// arrivals is a sink that tells when it has committed which seq.
type arrivals struct {
	*memory
	seqs chan uint64
}

func (a *arrivals) Write(ctx context.Context, b collector.Batch) error {
	err := a.memory.Write(ctx, b)
	if err == nil && b.Mark != nil {
		a.seqs <- b.Mark.Seq
	}
	return err
}

// TestFollowOverP2P: with three real hubs, what is published lies in the sink of an idle collector within a second, having been fetched once; and
// while nothing is published, nothing is asked.
func TestFollowOverP2P(t *testing.T) {
	w := newWorld(3, 1)
	hubsOnLoopback(t, w, func(s *store.Store) transport.Store { return s })
	d := w.device(0)
	pub := transport.NewPublisher(w.member(t, d.key), w.current)
	defer pub.Close()
	publish := func(s *journal.Segment) {
		if _, err := pub.Publish(t.Context(), s, nil); err != nil {
			t.Fatal(err)
		}
	}
	publish(d.epoch(nil))
	source := &counting{Node: w.member(t, softKey(3))}
	sink := &arrivals{memory: newMemory(), seqs: make(chan uint64, 100)}
	c := w.collector(t, sink, signing, func(c *collector.Config) { c.Source = source })
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wg.Go(func() {
		if err := c.Follow(ctx, func(collector.Report) {}); err != nil {
			t.Error(err)
		}
	})
	awaitSeq(t, sink, 0)
	if !waitUntil(t, func() bool { return source.marked.Load() == 3 }) {
		t.Errorf("%d watermarks were sent, want one to each hub", source.marked.Load())
	}
	var slowest time.Duration
	for range 20 {
		before, s := source.segments.Load(), d.readings(1, 10)[0]
		publish(s)
		acked := time.Now()
		awaitSeq(t, sink, s.Seq)
		slowest = max(slowest, time.Since(acked))
		asked := source.all()
		time.Sleep(100 * time.Millisecond) // the other hubs tell of it too: a pause to see that nothing happens, not one to wait for something
		if n := source.segments.Load() - before; n != 1 {
			t.Errorf("seq %d was fetched %d times", s.Seq, n)
		}
		if n := source.all() - asked; n != 0 {
			t.Errorf("%d questions by an idle collector", n)
		}
	}
	t.Logf("from the quorum's acknowledgement to the sink: %v at most", slowest)
	if slowest > time.Second {
		t.Errorf("a segment took %v", slowest)
	}
	same(t, sink.rows, w.made)
}

// boaster claims more chains of a device than its disk could hold.
type boaster struct {
	*store.Store
	fleet journal.FleetID
}

func (b boaster) Held(ctx context.Context, _ edge.ID) ([]transport.Held, error) {
	out, who := make([]transport.Held, 300_000), softKey(1000).ID()
	for i := range out {
		out[i] = transport.Held{Chain: journal.Chain{Fleet: b.fleet, Device: who, Stream: "main"}, Spans: []transport.Span{{First: 0, Last: 9}}}
		out[i].Chain.Incarnation = journal.Incarnation{byte(i), byte(i >> 8), byte(i >> 16)}
	}
	return out, ctx.Err()
}

// TestPullBoasterOverP2P: a hub that claims without end is left, named, when it is too much for any hub; the others are read.
func TestPullBoasterOverP2P(t *testing.T) {
	w := newWorld(3, 1)
	n := 0
	hubsOnLoopback(t, w, func(s *store.Store) transport.Store {
		if n++; n == 1 {
			return boaster{s, w.fleet.ID()}
		}
		return s
	})
	d := w.device(0)
	d.epoch(nil)
	d.readings(5, 2)
	pub := transport.NewPublisher(w.member(t, d.key), w.current)
	defer pub.Close()
	for _, s := range d.all {
		if r, err := pub.Publish(t.Context(), s, nil); err != nil {
			t.Fatal(r, err)
		}
	}
	sink := newMemory()
	r, err := w.collector(t, sink, func(c *collector.Config) { c.Source = w.member(t, softKey(3)) }).Pull(t.Context())
	if err != nil || !r.Complete() || r.BadCount != 0 || r.Hubs[0].Err == nil {
		t.Errorf("%v: %s", err, r)
	}
	same(t, sink.rows, w.made)
}

// limit is how long a test waits for what usually takes milliseconds.
const limit = 30 * time.Second

func awaitSeq(t *testing.T, sink *arrivals, want uint64) {
	t.Helper()
	for end := time.After(limit); ; {
		select {
		case seq := <-sink.seqs:
			if seq >= want {
				return
			}
		case <-end:
			t.Fatalf("seq %d did not arrive", want)
		}
	}
}

func waitUntil(t *testing.T, ok func() bool) bool {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return true
		}
	}
	return false
}
