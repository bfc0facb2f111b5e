// SPDX-License-Identifier: Apache-2.0

package bench_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"testing"
	"time"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/sinktest"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/test/swarm"
	"github.com/streembit/edge/transport"
)

// BenchmarkPullShapes pulls a million readings from three hubs: of one device, and of a thousand. Memory is what the collector's process has from
// the system, beyond what it had before.
func BenchmarkPullShapes(b *testing.B) {
	for _, shape := range []struct{ devices, segments, readings int }{{1, 1000, 1000}, {1000, 1, 1000}, {1000, 10, 100}} {
		b.Run(fmt.Sprintf("devices=%d/segments=%d/readings=%d", shape.devices, shape.segments, shape.readings), func(b *testing.B) {
			s := wide(b, shape.devices, shape.segments, shape.readings)
			b.ResetTimer()
			b.StopTimer()
			for range b.N {
				sink := &counter{}
				pullShape(b, s, sink, shape.devices*shape.segments*shape.readings)
			}
		})
	}
}

// BenchmarkBacklog pulls a million readings, of one device and of a hundred, from three hubs into a database that has nothing yet.
func BenchmarkBacklog(b *testing.B) {
	for _, devices := range []int{1, 100} {
		for kind, open := range map[string]func(testing.TB) sinktest.Subject{"sqlite": sinktest.SQLite, "postgres": sinktest.Postgres} {
			b.Run(fmt.Sprintf("%s/devices=%d", kind, devices), func(b *testing.B) {
				s := wide(b, devices, 1000/devices, 1000)
				b.ResetTimer()
				b.StopTimer()
				for range b.N {
					subject := open(b)
					pullShape(b, s, subject.Sink, 1_000_000)
					if n := subject.Count(b, `SELECT count(*) FROM reading`); n != 1_000_000 {
						b.Errorf("%d readings in the database", n)
					}
				}
			})
		}
	}
}

// wide starts a swarm with so many devices beside its own, and publishes their segments.
func wide(b *testing.B, devices, segments, readings int) *swarm.Swarm {
	b.Helper()
	s := swarm.New(b, 3, "")
	var keys []journal.SoftKey
	var grants []fleet.Grant
	for i := range devices {
		_, priv, err := ed25519.GenerateKey(nil)
		must(b, err)
		keys = append(keys, journal.NewSoftKey(priv))
		grants = append(grants, fleet.Grant{Member: keys[i].ID(), Name: fmt.Sprintf("wide-%d", i), Roles: fleet.Device})
	}
	for part := range slices.Chunk(grants, 100) {
		var err error
		s.Fleet, err = s.Fleet.Grant(fleet.Author{Key: s.Owner}, time.Now(), part...)
		must(b, err)
	}
	for _, m := range append([]*swarm.Member{s.Device, s.Reader}, s.Hubs...) {
		must(b, s.Fleet.Save(filepath.Join(m.State, "fleet.cbor")))
	}
	for _, h := range s.Hubs {
		s.Configure(h, "[store]\nrate = \"1GiB\"\n") // no real device writes as fast as a benchmark
	}
	s.Start(s.Hubs...)
	node, _ := client(b, s, s.Device) // authority is each device's signature, whoever brings the segment
	p := transport.NewPublisher(node, func() *fleet.Fleet { return s.Fleet })
	b.Cleanup(p.Close)
	for _, key := range keys {
		src, epoch := newSource(b, s, key)
		publish(b, p, epoch)
		segs := make([]*journal.Segment, segments)
		for i := range segs {
			segs[i] = src.next(b, readings)
		}
		inParallel(64, segs, func(seg *journal.Segment) { publish(b, p, seg) })
	}
	return s
}

// pullShape is one pull by a collector that has nothing yet.
func pullShape(b *testing.B, s *swarm.Swarm, sink collector.Sink, want int) {
	b.Helper()
	reader, _ := client(b, s, s.Reader)
	defer func() { _ = reader.Close() }()
	must(b, reader.Bootstrap(context.Background()))
	rk, err := fleet.LoadReaderKey(filepath.Join(s.Reader.State, "reader.pem"))
	must(b, err)
	c, err := collector.New(collector.Config{Source: reader, Sink: sink, Fleet: func() *fleet.Fleet { return s.Fleet }, Key: rk})
	must(b, err)
	debug.FreeOSMemory()
	base, stop := fromSystem(), make(chan struct{})
	peak := make(chan uint64)
	go func() { peak <- watchMemory(stop) }()
	own, theirs := cpu(b), hubCPU(b, s)
	b.StartTimer()
	began := time.Now()
	report, err := c.Pull(context.Background())
	took := time.Since(began)
	b.StopTimer()
	close(stop)
	highest := <-peak
	must(b, err)
	if got := int(report.Readings); got != want || !report.Complete() {
		b.Fatalf("pulled %d readings of %d: %s", got, want, report)
	}
	b.ReportMetric(float64(cpu(b)-own)/float64(want)/1e3, "reader-µs/reading")
	b.ReportMetric(float64(hubCPU(b, s)-theirs)/float64(want)/1e3, "hubs-µs/reading")
	b.ReportMetric(float64(want)/took.Seconds(), "readings/s")
	b.ReportMetric(float64(highest-min(base, highest))/1e6, "peak-MB")
}

// watchMemory returns the most that the process had from the system until stop is closed.
func watchMemory(stop <-chan struct{}) (peak uint64) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return max(peak, fromSystem())
		case <-tick.C:
			peak = max(peak, fromSystem())
		}
	}
}

// fromSystem is what the Go runtime has mapped and not given back, in bytes.
func fromSystem() uint64 {
	m := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(m)
	return m[0].Value.Uint64() - m[1].Value.Uint64()
}
