// SPDX-License-Identifier: Apache-2.0

package peers_test

import (
	"syscall"
	"testing"

	"github.com/streembit/edge/bench/peers/load"
)

// benchQuorum takes two of ten hubs away, by turns frozen with their connections open and killed, with turns of all ten alive between.
func benchQuorum(b *testing.B, e extent, r *report) {
	const hubs = 10
	s := newSwarm(b, hubs, "")
	s.Start(s.Hubs...)
	spec := load.Spec{Role: "device", States: []string{s.Device.State}, Fleet: fleetFile(s), Dir: b.TempDir()}
	device := startClient(b, spec, nil)
	device.everywhere(hubs)
	var alive, frozen, dead []float64
	measure := func(to *[]float64) {
		got := device.do(load.Task{Do: "publish", Segment: 100, Readings: e.of(20_000, 100), Window: 1})
		*to = append(*to, millis(got))
	}
	victims := s.Hubs[hubs-2:]
	for range e.rounds {
		measure(&alive)
		for _, h := range victims {
			s.Signal(h, syscall.SIGSTOP)
		}
		measure(&frozen)
		for _, h := range victims {
			s.Signal(h, syscall.SIGCONT)
		}
		device.everywhere(hubs)
		measure(&alive)
		for _, h := range victims {
			s.Kill(h)
		}
		measure(&dead)
		s.Start(victims...)
		device.everywhere(hubs)
	}
	for _, g := range []struct {
		name string
		p50  []float64
	}{{"2 of 10 frozen", frozen}, {"2 of 10 killed", dead}} {
		r.judge(goal{what: "quorum p50, " + g.name, load: "streembit 10 copies, 100 a segment, 1 in flight", ours: spreadOf(g.p50...),
			peer: "all alive", theirs: spreadOf(alive...), unit: "ms", aim: 1.1})
	}
}
