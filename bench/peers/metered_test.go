// SPDX-License-Identifier: Apache-2.0

package peers_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/streembit/edge/bench/peers/load"
)

// bothWays is the TCP payload of a reading, to the network and from it.
func bothWays(r run) float64 { return float64(r.Out+r.In) / float64(r.Readings) }

func metered(segment, window int) string {
	return fmt.Sprintf("streembit metered, 20 copies, %s a segment, %d a proof", figure(float64(segment)), window)
}

// benchMetered counts the bytes of devices that pay for them, beside an MQTT client. Segments that share a proof are as many as gather; one a proof is a device
// that seals less often than that.
func benchMetered(b *testing.B, e extent, r *report) {
	broker := mosquitto(b, r)
	mqtt := startClient(b, load.Spec{Role: "mqtt", Addr: broker.addr, CA: broker.ca}, broker.pids)
	s := newSwarm(b, 20, "")
	s.Start(s.Hubs...)
	device := startClient(b, load.Spec{Role: "device", States: []string{s.Device.State}, Fleet: fleetFile(s), Dir: b.TempDir(), Gather: 30 * time.Millisecond}, pids(s))
	const one = "mosquitto QoS1 TLS, one in flight"
	sides := []side{{one, mqtt, load.Task{Do: "publish", Readings: e.of(4_000, 1), Window: 1}}}
	for _, n := range sizes() {
		for _, window := range []int{1, 16} {
			sides = append(sides, side{metered(n, window), device, load.Task{Do: "publish", Segment: n, Readings: 64 * n, Window: window}})
		}
	}
	rounds(e, r, sides)
	for _, n := range sizes() {
		for _, window := range []int{1, 16} {
			aim := 0.5
			if n == 10 && window == 1 {
				aim = 0 // reported: such a device gathers
			}
			r.judge(goal{what: "metered uplink, TCP payload per reading both ways", load: metered(n, window), ours: r.of(metered(n, window), bothWays),
				peer: one, theirs: r.of(one, bothWays), unit: "B", aim: aim})
		}
	}
}
