// SPDX-License-Identifier: Apache-2.0

package peers_test

import (
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/bench/peers/load"
)

const fetch = "JetStream R1 TLS, fetch 5 000, ack all"

func pulled(segment int) string {
	return "streembit pull from 3 hubs, " + figure(float64(segment)) + " a segment"
}

// benchPull lets a collector without a database and a JetStream consumer take a backlog in turns.
func benchPull(b *testing.B, e extent, r *report) {
	backlog := jetStream(b, r, 1, "") // the default sync: filling it is not what is measured
	s := newSwarm(b, 3, "")
	states, devices := enrolMore(b, s, len(sizes()))
	s.Start(s.Hubs...)
	consumer := startClient(b, load.Spec{Role: "jetstream", Addr: backlog.addr, CA: backlog.ca, Replicas: 1}, backlog.pids)
	collector := startClient(b, load.Spec{Role: "collector", States: []string{s.Reader.State}, Fleet: fleetFile(s)}, pids(s))
	messages := e.of(100_000, 1)
	consumer.do(load.Task{Do: "fill", Readings: messages, Window: 1000})
	sides := []side{{fetch, consumer, load.Task{Do: "pull", Readings: messages}}}
	for i, n := range sizes() {
		readings := e.of([]int{20_000, 200_000, 1_000_000}[i], n)
		device := startClient(b, load.Spec{Role: "device", States: states[i : i+1], Fleet: fleetFile(s), Dir: b.TempDir()}, pids(s))
		device.do(load.Task{Do: "publish", Segment: n, Readings: readings, Window: 64, Settle: true})
		sides = append(sides, side{pulled(n), collector, load.Task{Do: "pull", Readings: readings, Devices: []edge.ID{devices[i]}}})
	}
	for range e.rounds {
		for _, s := range sides {
			r.add(s.name, s.c.do(s.task))
		}
	}
	for _, n := range sizes() {
		r.judge(goal{what: "verified pull, CPU per reading, both ends", load: pulled(n), ours: r.of(pulled(n), totalCPU),
			peer: fetch, theirs: r.of(fetch, totalCPU), unit: "µs", aim: map[int]float64{1000: 0.1}[n]})
	}
}
