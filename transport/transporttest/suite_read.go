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

func testSpans(t *testing.T, b *bench) {
	hub, client, _ := b.pair(t)
	one, two := b.Chain(t, b.Devices[0], "main"), b.Chain(t, b.Devices[1], "other")
	segs := one.Many(10)
	b.put(t, client, hub, slices.Concat(segs[:5], segs[7:9], two.Many(2))...)
	want := []transport.Span{{First: 0, Last: 4}, {First: 7, Last: 8}}

	held, err := client.Held(b.ctx, hub, b.Devices[0].ID())
	if err != nil || len(held) != 1 || held[0].Chain != one.Name() || !slices.Equal(held[0].Spans, want) {
		t.Errorf("held of one device: %v, %v; want %v", held, err, want)
	}
	if all, err := b.start(t, b.Reader, nil).Held(b.ctx, hub, edge.ID{}); err != nil || len(all) != 2 {
		t.Errorf("held of all devices: %v, %v", all, err)
	}
	if none, err := client.Held(b.ctx, hub, b.Reader.ID()); err != nil || len(none) != 0 {
		t.Errorf("held of somebody without chains: %v, %v", none, err)
	}
	for _, c := range []struct {
		first, last uint64
		want        []*journal.Segment
	}{
		{0, 1<<64 - 1, slices.Concat(segs[:5], segs[7:9])},
		{3, 7, slices.Concat(segs[3:5], segs[7:8])},
		{8, 8, segs[8:9]},
		{5, 6, nil},
		{9, 99, nil},
	} {
		if got := b.fetch(t, client, hub, one.Name(), c.first, c.last); !same(got, raw(c.want)) {
			t.Errorf("fetch %d to %d: %d segments, want %d", c.first, c.last, len(got), len(c.want))
		}
	}
	if got := b.fetch(t, client, hub, b.Chain(t, b.Devices[0], "main").Name(), 0, 9); len(got) != 0 {
		t.Errorf("fetched %d segments of an unknown chain", len(got))
	}
}

func testVisitError(t *testing.T, b *bench) {
	hub, client, _ := b.pair(t)
	c := b.Chain(t, b.Devices[0], "main")
	b.put(t, client, hub, c.Many(5)...)
	enough := errors.New("enough")
	visits := 0
	err := client.Fetch(b.ctx, hub, c.Name(), transport.Span{Last: 9}, func([]byte) error {
		if visits++; visits == 3 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || errors.Is(err, transport.ErrUnreachable) || visits != 3 {
		t.Errorf("fetch ended after %d visits with %v", visits, err)
	}
	if err := client.Follow(b.ctx, hub, func(transport.Held) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("follow ended with %v", err)
	}
}

func testFollow(t *testing.T, b *bench) {
	hub, client, _ := b.pair(t)
	c := b.Chain(t, b.Devices[0], "main")
	segs := c.Many(6)
	b.put(t, client, hub, segs[:3]...)
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	news, ended := make(chan transport.Held, 64), make(chan error, 1)
	reader := b.start(t, b.Reader, nil)
	go func() {
		ended <- reader.Follow(ctx, hub, func(h transport.Held) error { news <- h; return nil })
	}()
	next := func(what string) transport.Held {
		t.Helper()
		select {
		case h := <-news:
			return h
		case err := <-ended:
			t.Fatalf("%s: follow ended: %v", what, err)
		case <-time.After(Limit):
			t.Fatalf("%s: nothing in %s", what, Limit)
		}
		return transport.Held{}
	}
	h := next("snapshot")
	if h.Chain != c.Name() || !slices.Equal(h.Spans, []transport.Span{{First: 0, Last: 2}}) {
		t.Errorf("snapshot says %v", h)
	}
	for seq := uint64(3); seq < 6; seq++ {
		b.put(t, client, hub, segs[seq])
		for {
			if last, ok := next("live").Last(); ok && last == seq {
				break
			}
		}
	}
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("follow ended with %v", err)
		}
	case <-time.After(Limit):
		t.Error("follow went on after its context")
	}
}

func testFollowDead(t *testing.T, b *bench) {
	node := b.start(t, b.Hubs[0], NewStore(b.Fleet, 0))
	client := b.start(t, b.Devices[0], nil)
	c := b.Chain(t, b.Devices[0], "main")
	b.put(t, client, b.Hubs[0].ID(), c.Next(1))
	began, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- client.Follow(b.ctx, b.Hubs[0].ID(), func(transport.Held) error { close(began); return nil })
	}()
	<-began
	if err := node.Close(); err != nil {
		t.Errorf("closing hub: %v", err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("follow ended with %v", err)
		}
	case <-time.After(Limit):
		t.Error("follow did not notice that its hub is gone")
	}
}

func testHeads(t *testing.T, b *bench) {
	for _, h := range b.Hubs {
		b.start(t, h, NewStore(b.Fleet, 0))
	}
	device, reader := b.start(t, b.Devices[0], nil), b.start(t, b.Reader, nil)
	c := b.Chain(t, b.Devices[0], "main")
	segs := c.Many(6)
	if _, err := reader.Head(b.ctx, c.Name()); !errors.Is(err, transport.ErrNoHead) {
		t.Errorf("head of an unknown chain: %v", err)
	}
	head := func(want *journal.Segment) {
		t.Helper()
		got, err := reader.Head(b.ctx, c.Name())
		if err != nil || !bytes.Equal(got, want.SignedHeader()) {
			h, _, _ := journal.OpenHeader(got, b.Fleet().ID())
			t.Errorf("head is seq %d, want %d: %v", h.Seq, want.Seq, err)
		}
	}
	for _, s := range []*journal.Segment{segs[2], segs[5]} {
		if err := device.PutHead(b.ctx, s.SignedHeader()); err != nil {
			t.Errorf("putting head %d: %v", s.Seq, err)
		}
		head(s)
	}
	// An older one is refused or ignored, whoever brings it.
	for _, n := range []Node{device, b.start(t, b.Devices[1], nil)} {
		_ = n.PutHead(b.ctx, segs[3].SignedHeader())
		head(segs[5])
	}
	if err := device.PutHead(b.ctx, b.Chain(t, b.Reader, "main").Next(1).SignedHeader()); !errors.Is(err, transport.ErrNotDevice) {
		t.Errorf("head of a member that is no device: %v", err)
	}
	if err := device.PutHead(b.ctx, segs[0].Bytes()); err == nil {
		t.Error("a whole segment was taken as a head")
	}
}

func testContext(t *testing.T, b *bench) {
	gate := NewGate(NewStore(b.Fleet, 0))
	b.start(t, b.Hubs[0], gate)
	client := b.start(t, b.Devices[0], nil)
	hub := b.Hubs[0].ID()
	c := b.Chain(t, b.Devices[0], "main")
	segs := c.Many(3)
	b.put(t, client, hub, segs[0])
	gate.Shut()
	defer gate.Open()
	ctx, cancel := context.WithCancel(b.ctx)
	ended := make(chan error, 1)
	go func() { ended <- client.Put(ctx, hub, segs[1].Bytes()) }()
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("put ended with %v", err)
		}
	case <-time.After(Limit):
		t.Fatal("put went on after its context")
	}
	short, stop := context.WithTimeout(b.ctx, 50*time.Millisecond)
	defer stop()
	if err := client.Put(short, hub, segs[2].Bytes()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("put with a deadline ended with %v", err)
	}
	ctx, cancel = context.WithCancel(b.ctx)
	defer cancel()
	err := client.Fetch(ctx, hub, c.Name(), transport.Span{Last: 9}, func([]byte) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("fetch ended with %v", err)
	}
	for name, call := range map[string]func() error{
		"held": func() error { _, err := client.Held(ctx, hub, edge.ID{}); return err },
		"put":  func() error { return client.Put(ctx, hub, segs[2].Bytes()) },
		"fetch": func() error {
			return client.Fetch(ctx, hub, c.Name(), transport.Span{Last: 9}, func([]byte) error { return nil })
		},
	} {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with an ended context: %v", name, err)
		}
	}
}

func testClosest(t *testing.T, b *bench) {
	var nodes []Node
	for _, h := range b.Hubs {
		nodes = append(nodes, b.start(t, h, NewStore(b.Fleet, 0)))
	}
	nodes = append(nodes, b.start(t, b.Devices[0], nil))
	for i := range uint64(4) {
		key := b.Chain(t, b.Devices[0], "main").Name().Bucket(i).Key()
		want := transport.Place(key, b.HubIDs())
		for j, n := range nodes {
			WaitFor(t, "every hub is found", func() (bool, string) {
				got, err := n.Closest(b.ctx, key)
				if err != nil {
					t.Fatalf("node %d: %v", j, err)
				}
				return slices.Equal(got, want), ""
			})
		}
	}
}

// WaitFor asks again and again, for at most Limit, until done. It is for states that a transport reaches by itself and
// tells nobody, such as what is in routing tables.
func WaitFor(t testing.TB, what string, done func() (ok bool, state string)) {
	t.Helper()
	end := time.Now().Add(Limit)
	for {
		ok, state := done()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s: %s", what, Limit, state)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
