// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/transporttest"
)

// TestSmallFleets is what one, two and three hubs are worth: what is published and what the device may forget while hubs are off, and what can be read once
// hubs are lost for good, disk and all.
func TestSmallFleets(t *testing.T) {
	for _, c := range []struct {
		name                   string
		sites                  []string // of the hubs
		off                    []int    // hubs that are off when it is published
		published, forgettable bool
		lost                   []int // hubs that are lost afterwards
		readable               bool
	}{
		{name: "one hub", sites: []string{"a"}, published: true, readable: true},
		{name: "one hub, off", sites: []string{"a"}, off: []int{0}},
		{name: "one hub, lost: the device has it still", sites: []string{"a"}, published: true, lost: []int{0}},
		{name: "two hubs", sites: []string{"a", "b"}, published: true, forgettable: true, readable: true},
		{name: "two hubs, one lost", sites: []string{"a", "b"}, published: true, forgettable: true, lost: []int{0}, readable: true},
		{name: "two hubs, one off", sites: []string{"a", "b"}, off: []int{1}, published: true, readable: true},
		{name: "two hubs, one off and the other one lost: the device has it still", sites: []string{"a", "b"}, off: []int{1}, published: true, lost: []int{0}},
		{name: "two hubs, both off", sites: []string{"a", "b"}, off: []int{0, 1}},
		{name: "three hubs", sites: []string{"a", "b", "c"}, published: true, forgettable: true, readable: true},
		{name: "three hubs, two lost", sites: []string{"a", "b", "c"}, published: true, forgettable: true, lost: []int{0, 1}, readable: true},
		{name: "three hubs, one off", sites: []string{"a", "b", "c"}, off: []int{2}, published: true, forgettable: true, readable: true},
		{name: "three hubs, one off, one lost", sites: []string{"a", "b", "c"}, off: []int{2}, published: true, forgettable: true, lost: []int{0}, readable: true},
		{name: "three hubs, one off, the two others lost: gone", sites: []string{"a", "b", "c"}, off: []int{2}, published: true, forgettable: true, lost: []int{0, 1}},
		{name: "three hubs, two off: the device has it", sites: []string{"a", "b", "c"}, off: []int{1, 2}, readable: true},
		{name: "three hubs on two sites, the lone one off", sites: []string{"a", "a", "b"}, off: []int{2}, readable: true},
		{name: "three hubs on two sites, one of the two off", sites: []string{"a", "a", "b"}, off: []int{0}, published: true, forgettable: true, readable: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := transporttest.NewWorld(t, len(c.sites), 1)
			for i, site := range c.sites {
				g, _ := w.Fleet().Member(w.Hubs[i].ID())
				g.Site = site
				w.Grant(t, g)
			}
			hubs := crew(t, w)
			for _, i := range c.off {
				ok(t, hubs[i].Close())
			}
			seg := w.Chain(t, w.Devices[0], "main").Next(10)
			device := sail(t, w.Devices[0], w.Fleet(), nil)
			r, err := publishEverywhere(deadline(t), device, device.now, seg, len(c.sites)-len(c.off))
			ok(t, err)
			if r.Published() != c.published || r.Forgettable() != c.forgettable {
				t.Errorf("on %d of %d hubs: published %t, forgettable %t", len(r.Acked), len(r.Targets), r.Published(), r.Forgettable())
			}
			for _, i := range c.lost {
				ok(t, hubs[i].Close())
			}
			reader := sail(t, w.Reader, w.Fleet(), nil)
			readable := false
			for i, h := range hubs {
				err := reader.Fetch(deadline(t), h.ID(), seg.Chain, transport.Span{Last: 9}, func(got []byte) error {
					readable = readable || bytes.Equal(got, seg.Bytes())
					return nil
				})
				if dead := slices.Contains(c.off, i) || slices.Contains(c.lost, i); dead != (err != nil) {
					t.Errorf("hub %d, dead: %t: %v", i, dead, err)
				}
			}
			if readable != c.readable {
				t.Errorf("readable: %t", readable)
			}
		})
	}
}

// publishEverywhere publishes a segment until so many hubs, all that live, have it, and returns what that is worth.
func publishEverywhere(ctx context.Context, from transport.Putter, f func() *fleet.Fleet, seg *journal.Segment, living int) (transport.Receipt, error) {
	p := transport.NewPublisher(from, f)
	defer p.Close()
	var mu sync.Mutex
	var have []edge.ID
	news := make(chan struct{}, 1)
	p.Observe(func(hub edge.ID, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err == nil && !slices.Contains(have, hub) {
			have = append(have, hub)
		}
		select {
		case news <- struct{}{}:
		default:
		}
	})
	acked := func() []edge.ID {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(have)
	}
	for {
		_, _ = p.Publish(ctx, seg, acked()) // what is missing afterwards is asked for again
		again := time.After(3 * time.Second)
		for waiting := true; waiting; {
			r := p.Count(seg.Chain, seg.Seq, acked())
			if len(r.Acked) >= living {
				return r, nil
			}
			select {
			case <-news:
			case <-again:
				waiting = false
			case <-ctx.Done():
				return r, fmt.Errorf("%d of %d copies: %w", len(r.Acked), living, ctx.Err())
			}
		}
	}
}
