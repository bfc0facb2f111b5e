// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// picky refuses every third seq and takes longer for the earlier ones, so that answers become ready in reverse.
type picky struct {
	*Store
	last uint64
}

func (p picky) Put(ctx context.Context, segment []byte) error {
	seg, err := journal.Open(segment, p.fleet().ID())
	if err != nil {
		return err
	}
	select {
	case <-time.After(time.Duration(p.last-seg.Seq) * time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	if seg.Seq%3 == 1 {
		return &transport.Refusal{Reason: transport.RefusedFull, Detail: fmt.Sprintf("seq %d", seg.Seq)}
	}
	return p.Store.Put(ctx, segment)
}

func testAnswers(t *testing.T, b *bench) {
	const n = 40
	s := picky{NewStore(b.Fleet, 0), n}
	b.start(t, b.Hubs[0], s)
	client := b.start(t, b.Devices[0], nil)
	hub := b.Hubs[0].ID()
	var puts sync.WaitGroup
	for _, seg := range b.Chain(t, b.Devices[0], "main").Many(n) {
		puts.Go(func() {
			err := client.Put(b.ctx, hub, seg.Bytes())
			var r *transport.Refusal
			switch {
			case seg.Seq%3 != 1 && err != nil:
				t.Errorf("seq %d: %v", seg.Seq, err)
			case seg.Seq%3 != 1 && !s.Has(seg.Chain, seg.Seq):
				t.Errorf("seq %d was acknowledged and is not held", seg.Seq)
			case seg.Seq%3 == 1 && (!errors.As(err, &r) || r.Detail != fmt.Sprintf("seq %d", seg.Seq)):
				t.Errorf("seq %d got the answer %v", seg.Seq, err)
			}
		})
	}
	puts.Wait()
}

// broken is a disk that fails without a reason of ours.
type broken struct{ *Store }

func (broken) Put(context.Context, []byte) error { return errors.New("input/output error") }

func testRefusals(t *testing.T, b *bench) {
	b.start(t, b.Hubs[0], NewStore(b.Fleet, 2))
	b.start(t, b.Hubs[1], broken{NewStore(b.Fleet, 0)})
	client := b.start(t, b.Devices[0], nil)
	hub := b.Hubs[0].ID()
	c := b.Chain(t, b.Devices[0], "main")
	segs := c.Many(3)

	refused(t, client.Put(b.ctx, b.Hubs[1].ID(), segs[0].Bytes()), b.Hubs[1].ID(), transport.RefusedFailed)
	tampered := bytes.Clone(segs[1].Bytes())
	tampered[len(tampered)-1] ^= 1
	refused(t, client.Put(b.ctx, hub, tampered), hub, transport.RefusedInvalid)
	refused(t, client.Put(b.ctx, hub, []byte("no segment")), hub, transport.RefusedInvalid)
	foreign := b.Chain(t, b.Reader, "main").Next(1)
	refused(t, client.Put(b.ctx, hub, foreign.Bytes()), hub, transport.RefusedNotAllowed)
	b.put(t, client, hub, segs[:2]...)
	refused(t, client.Put(b.ctx, hub, segs[2].Bytes()), hub, transport.RefusedFull)
	b.put(t, client, hub, segs[0]) // a refusal does not end the way to the hub
}

func testOversize(t *testing.T, b *bench) {
	hub, client, s := b.pair(t)
	err := client.Put(b.ctx, hub, make([]byte, journal.MaxSegment+1))
	if !errors.Is(err, journal.ErrOversize) {
		t.Errorf("a segment of %d bytes: %v", journal.MaxSegment+1, err)
	}
	b.put(t, client, hub, b.Chain(t, b.Devices[0], "main").Next(1))
	if s.Len() != 1 {
		t.Errorf("%d segments held", s.Len())
	}
}

func testUnreachable(t *testing.T, b *bench) {
	s := NewStore(b.Fleet, 0)
	gone := b.start(t, b.Hubs[1], s)
	hub, client, _ := b.pair(t)
	c := b.Chain(t, b.Devices[0], "main")
	segs := c.Many(2)
	b.put(t, client, b.Hubs[1].ID(), segs[0])
	if err := gone.Close(); err != nil {
		t.Errorf("closing hub: %v", err)
	}
	for name, to := range map[string]edge.ID{"closed": b.Hubs[1].ID(), "never started": b.Hubs[2].ID(), "not enrolled": NewKey(t).ID()} {
		if err := client.Put(b.ctx, to, segs[1].Bytes()); !errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("%s: put: %v", name, err)
		}
		if _, err := client.Held(b.ctx, to, edge.ID{}); !errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("%s: held: %v", name, err)
		}
		err := client.Fetch(b.ctx, to, c.Name(), transport.Span{Last: 9}, func([]byte) error { return nil })
		if !errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("%s: fetch: %v", name, err)
		}
		if err := client.Follow(b.ctx, to, func(transport.Held) error { return nil }); !errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("%s: follow: %v", name, err)
		}
	}
	b.put(t, client, hub, segs...) // the others are not affected
}

func testFrozen(t *testing.T, b *bench) {
	const queue = 64 // segments that may wait for one hub
	disk := NewStore(b.Fleet, 0)
	gate := NewGate(disk)
	b.start(t, b.Hubs[1], gate)
	hub, client, _ := b.pair(t)
	c := b.Chain(t, b.Devices[0], "main")
	segs := c.Many(queue + 8)
	frozen := b.Hubs[1].ID()
	b.put(t, client, frozen, segs[0]) // the way is open
	gate.Shut()
	answers := make(chan error, len(segs))
	for _, s := range segs[1:] {
		go func() { answers <- client.Put(b.ctx, frozen, s.Bytes()) }()
	}
	for i := range len(segs) - 1 - queue { // what is too much is told at once, the rest waits
		select {
		case err := <-answers:
			refused(t, err, frozen, transport.RefusedBusy)
		case <-time.After(Limit):
			t.Fatalf("only %d puts were refused while %d wait", i, queue)
		}
	}
	began := time.Now()
	b.put(t, client, hub, segs...)
	if took := time.Since(began); took > prompt {
		t.Errorf("puts on the other hub took %s", took)
	}
	gate.Open()
	for range queue {
		if err := <-answers; err != nil {
			t.Errorf("a put that waited: %v", err)
		}
	}
	if disk.Len() != 1+queue {
		t.Errorf("the hub holds %d segments, want %d", disk.Len(), 1+queue)
	}
}

func testConcurrent(t *testing.T, b *bench) {
	hub, client, s := b.pair(t)
	clients := []Node{client, b.start(t, b.Devices[1], nil)}
	const chains, each = 4, 30
	var puts sync.WaitGroup
	for i := range chains {
		from := clients[i%2]
		segs := b.Chain(t, b.Devices[i%2], "main").Many(each)
		for half := range 2 { // two senders to a chain
			puts.Go(func() {
				for j := half; j < each; j += 2 {
					if err := from.Put(b.ctx, hub, segs[j].Bytes()); err != nil {
						t.Errorf("chain %d seq %d: %v", i, j, err)
					}
				}
			})
		}
	}
	puts.Wait()
	if s.Len() != chains*each {
		t.Errorf("%d segments held, want %d", s.Len(), chains*each)
	}
}
