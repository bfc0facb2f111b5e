// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/transporttest"
)

// freezing is a fleet of two hubs and a third that accepts streams and never reads from them.
func freezing(t *testing.T) (w *transporttest.World, device *p2p.Node, frozen edge.ID, streams *atomic.Int64) {
	t.Helper()
	w = transporttest.NewWorld(t, 2, 1)
	for _, h := range w.Hubs {
		start(t, w, h, transporttest.NewStore(w.Fleet, 0), tcpAddr)
	}
	raw := newRawHost(t)
	streams = &atomic.Int64{}
	raw.SetStreamHandler("/streembit/store/1", func(network.Stream) { streams.Add(1) })
	var addrs []string
	for _, a := range raw.Addrs() {
		addrs = append(addrs, a.String())
	}
	w.Grant(t, fleet.Grant{Member: raw.key.ID(), Name: "frozen", Roles: fleet.Hub, Addrs: addrs})
	return w, start(t, w, w.Devices[0], nil), raw.key.ID(), streams
}

func TestFrozenHubCostsOthersNothing(t *testing.T) {
	w, device, frozen, streams := freezing(t)
	p := transport.NewPublisher(device, w.Fleet)
	defer p.Close()
	const segments = 150 // more than twice what may wait for one hub
	var slowest time.Duration
	for _, seg := range w.Chain(t, w.Devices[0], "main").Many(segments) {
		began := time.Now()
		r, err := p.Publish(deadline(t), seg, nil)
		slowest = max(slowest, time.Since(began))
		if err != nil || !r.Published() || len(r.Targets) != 3 {
			t.Fatalf("seq %d: %v, %d of %d", seg.Seq, err, len(r.Acked), len(r.Targets))
		}
	}
	t.Logf("slowest of %d publications with one of three hubs frozen: %s", segments, slowest)
	if streams.Load() == 0 {
		t.Error("the frozen hub was never spoken to, so nothing is shown")
	}
	err := device.Put(deadline(t), frozen, []byte("one more"))
	var r *transport.Refusal
	if !errors.As(err, &r) || r.Reason != transport.RefusedBusy {
		t.Errorf("a put on a hub whose queue is full: %v", err)
	}
}

func TestFrozenHubHoldsBoundedBytes(t *testing.T) {
	_, device, frozen, _ := freezing(t)
	const size, puts = 250 << 10, 48
	ctx, cancel := context.WithCancel(deadline(t))
	answers := make(chan error, puts)
	for range puts {
		go func() { answers <- device.Put(ctx, frozen, make([]byte, size)) }()
	}
	const fit = (8 << 20) / size
	for i := range puts - fit {
		select {
		case err := <-answers:
			if r := (*transport.Refusal)(nil); !errors.As(err, &r) || r.Reason != transport.RefusedBusy {
				t.Errorf("put: %v", err)
			}
		case <-time.After(transporttest.Limit):
			t.Fatalf("%d puts of %d bytes were refused, want %d", i, size, puts-fit)
		}
	}
	cancel()
	for range fit {
		if err := <-answers; !errors.Is(err, context.Canceled) {
			t.Errorf("a put that waited: %v", err)
		}
	}
}
