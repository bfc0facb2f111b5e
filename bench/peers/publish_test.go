// SPDX-License-Identifier: Apache-2.0

package peers_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/bench/peers/load"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/test/swarm"
)

// sizes are the readings of a segment.
func sizes() []int { return []int{10, 100, 1000} }

const (
	paho   = "mosquitto QoS1 TLS, 100 in flight"
	always = "JetStream R1 TLS sync always, 100 in flight"
	three  = "JetStream R3 TLS, 100 in flight"
)

func ours(copies, segment, window int) string {
	return fmt.Sprintf("streembit %d copies, %s a segment, %d in flight", copies, figure(float64(segment)), window)
}

// side is one of those that take turns.
type side struct {
	name string
	c    *client
	task load.Task
}

// rounds lets the sides take turns, after one small turn of each that does not count.
func rounds(e extent, r *report, sides []side) {
	for _, s := range sides {
		warm := s.task
		warm.Readings = max(warm.Readings/10, 20*max(warm.Segment, 1))
		s.c.do(warm)
	}
	for range e.rounds {
		for _, s := range sides {
			r.add(s.name, s.c.do(s.task))
		}
	}
}

func benchPublish(b *testing.B, e extent, r *report) {
	broker, one, cluster := mosquitto(b, r), jetStream(b, r, 1, "always"), jetStream(b, r, 3, "")
	mqtt := startClient(b, load.Spec{Role: "mqtt", Addr: broker.addr, CA: broker.ca}, broker.pids)
	r1 := startClient(b, load.Spec{Role: "jetstream", Addr: one.addr, CA: one.ca, Replicas: 1}, one.pids)
	r3 := startClient(b, load.Spec{Role: "jetstream", Addr: cluster.addr, CA: cluster.ca, Replicas: 3}, cluster.pids)
	few, many := publisher(b, 3), publisher(b, 20)
	send := func(readings, segment, window int) load.Task {
		return load.Task{Do: "publish", Segment: segment, Readings: e.of(readings, max(segment, 1)), Window: window, Settle: true}
	}
	rounds(e, r, []side{
		{paho, mqtt, send(60_000, 0, 100)},
		{ours(3, 10, 64), few, send(20_000, 10, 64)},
		{ours(20, 10, 64), many, send(6_000, 10, 64)},
		{three, r3, send(40_000, 0, 100)},
		{ours(3, 100, 64), few, send(150_000, 100, 64)},
		{ours(20, 100, 64), many, send(40_000, 100, 64)},
		{always, r1, send(4_000, 0, 100)},
		{ours(3, 1000, 64), few, send(1_000_000, 1000, 64)},
		{ours(20, 1000, 64), many, send(300_000, 1000, 64)},
		{ours(3, 100, 1), few, send(40_000, 100, 1)},
		{ours(20, 100, 1), many, send(10_000, 100, 1)},
		{ours(3, 1000, 1), few, send(300_000, 1000, 1)},
		{ours(20, 1000, 1), many, send(80_000, 1000, 1)},
	})
	judgePublish(r)
}

// judgePublish compares by the lines of the design; the aims that it states for 1 000 readings a segment are judged with 64
// segments in flight, the rest is reported beside them.
func judgePublish(r *report) {
	against := func(what, load string, f func(run) float64, peer, unit string, aim float64) {
		r.judge(goal{what: what, load: load, ours: r.of(load, f), peer: peer, theirs: r.of(peer, f), unit: unit, aim: aim, atLeast: unit == "/s"})
	}
	for _, copies := range []int{3, 20} {
		for _, n := range sizes() {
			against("device CPU per durable signed reading, outbox included", ours(copies, n, 64), ownCPU, paho, "µs", map[int]float64{1000: 0.5}[n])
		}
		against("the same, one at a time", ours(copies, 1000, 1), ownCPU, paho, "µs", 0)
	}
	for _, n := range sizes() {
		against("CPU over all nodes per reading", ours(20, n, 64), totalCPU, three, "µs", map[int]float64{1000: 0.25}[n])
	}
	against("the same, one at a time", ours(20, 1000, 1), totalCPU, three, "µs", 0)
	for _, copies := range []int{3, 20} {
		for _, n := range sizes() {
			against("durable readings/s to quorum", ours(copies, n, 64), perSecond, always, "/s", map[int]float64{1000: 40}[n])
		}
		against("the same, like for like", ours(copies, 100, 1), perSecond, always, "/s", 3)
	}
}

// newSwarm founds a fleet of hubs that take as much as a benchmark writes, which no real device does. Nothing runs yet.
func newSwarm(b *testing.B, hubs int, deviceConfig string) *swarm.Swarm {
	b.Helper()
	s := swarm.New(b, hubs, deviceConfig)
	for _, h := range s.Hubs {
		s.Configure(h, "[store]\nrate = \"1GiB\"\n")
	}
	return s
}

// publisher starts a fleet of hubs and its device, which has published to all of them.
func publisher(b *testing.B, hubs int) *client {
	b.Helper()
	s := newSwarm(b, hubs, "")
	s.Start(s.Hubs...)
	c := startClient(b, load.Spec{Role: "device", States: []string{s.Device.State}, Fleet: fleetFile(s), Dir: b.TempDir()}, pids(s))
	c.everywhere(hubs)
	return c
}

// everywhere waits until each segment gets to every hub: connections take a moment.
func (c *client) everywhere(hubs int) {
	c.b.Helper()
	swarm.WaitFor(c.b, "copies on all hubs", func() error {
		if r := c.do(load.Task{Do: "publish", Segment: 10, Readings: 100, Window: 1, Settle: true}); r.Copies < float64(hubs) {
			return fmt.Errorf("%v of %d", r.Copies, hubs)
		}
		return nil
	})
}

func fleetFile(s *swarm.Swarm) string { return filepath.Join(s.Hubs[0].State, "fleet.cbor") }

// enrolMore grants n more devices, before anything runs, and returns their folders and ids.
func enrolMore(b *testing.B, s *swarm.Swarm, n int) (states []string, ids []edge.ID) {
	b.Helper()
	var grants []fleet.Grant
	for i := range n {
		name := fmt.Sprintf("more%d", i)
		state := filepath.Join(s.Dir, name)
		must(b, os.Mkdir(state, 0o700))
		key, err := fleet.LoadOrCreateKey(filepath.Join(state, "key.pem"))
		must(b, err)
		states, ids = append(states, state), append(ids, key.ID())
		grants = append(grants, fleet.Grant{Member: key.ID(), Name: name, Roles: fleet.Device})
	}
	f, err := s.Fleet.Grant(fleet.Author{Key: s.Owner}, time.Now(), grants...)
	must(b, err)
	s.Fleet = f
	for _, m := range append([]*swarm.Member{s.Device, s.Reader}, s.Hubs...) {
		must(b, f.Save(filepath.Join(m.State, "fleet.cbor")))
	}
	return states, ids
}
