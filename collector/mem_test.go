// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"testing"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/sinktest"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/mem"
	"github.com/streembit/edge/transport/store"
)

// What the transports offer is what a Collector asks for.
var (
	_ collector.Source       = (*mem.Node)(nil)
	_ collector.HeadSource   = (*mem.Node)(nil)
	_ collector.FollowSource = (*mem.Node)(nil)
	_ collector.MarkSource   = (*mem.Node)(nil)
)

// TestPullFromHubs: a device publishes to five real hub stores, dies with two of the hubs, and only then a collector
// comes for the first time.
func TestPullFromHubs(t *testing.T) {
	w := newWorld(5, 1)
	current := func() *fleet.Fleet { return w.fleet }
	net := mem.NewNetwork(current)
	for _, hub := range w.hubs {
		disk, err := store.Open(t.Context(), t.TempDir(), store.Options{Fleet: current, Self: hub})
		if err != nil {
			t.Fatal(err)
		}
		net.Join(hub, disk)
		t.Cleanup(func() {
			net.Kill(hub)
			if err := disk.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	d := w.device(0)
	d.epoch(nil)
	d.readings(150, 20)
	node := net.Join(d.key.ID(), nil)
	pub := transport.NewPublisher(node, current)
	for _, s := range d.all {
		if _, err := pub.Publish(t.Context(), s, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := node.PutHead(t.Context(), d.all[150].SignedHeader()); err != nil {
		t.Fatal(err)
	}
	pub.Close()
	net.Kill(d.key.ID())
	net.Kill(w.hubs[1])
	net.Kill(w.hubs[3])
	s := sinktest.SQLite(t)
	c := w.collector(t, s.Sink, func(c *collector.Config) { c.Source = net.Join(w.readerID, nil) })
	r, err := c.Pull(t.Context())
	if err != nil || !r.Complete() || r.BadCount != 0 || r.Verified != uint64(len(w.made)) {
		t.Fatalf("%v, report: %s", err, r)
	}
	same(t, stored(t, s), w.made)
}
