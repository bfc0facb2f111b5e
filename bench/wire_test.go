// SPDX-License-Identifier: Apache-2.0

// Package bench measures what crosses packages and processes. Hubs are processes of their own; CPU per reading and bytes are
// the figures that transfer to other machines, rates are not. make gobench prints them; bench/RESULTS.md keeps them. The
// comparison with our peers is bench/peers.
package bench_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/test/swarm"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
)

func TestMain(m *testing.M) { swarm.Main(m) }

// source makes the segments of one device of a swarm.
type source struct {
	w    *journal.Writer
	boot journal.BootID
	n    int64
}

func newSource(b *testing.B, s *swarm.Swarm, key journal.SoftKey) (*source, *journal.Segment) {
	b.Helper()
	w, err := journal.NewWriter(s.Fleet.ID(), "main", key)
	must(b, err)
	readers, err := s.Fleet.Readers(key.ID(), "main")
	must(b, err)
	epoch, err := w.Epoch(readers, nil, journal.Stamp{})
	must(b, err)
	must(b, w.Commit(epoch))
	return &source{w: w}, epoch
}

// next seals n readings of six quantities that move as weather does.
func (s *source) next(b *testing.B, n int) *journal.Segment {
	b.Helper()
	seg, err := s.w.Readings(s.boot, s.readings(n))
	must(b, err)
	must(b, s.w.Commit(seg))
	return seg
}

func (s *source) readings(n int) []edge.Reading {
	names := []edge.Quantity{{Name: "temperature", Unit: "Cel"}, {Name: "humidity", Unit: "%RH"}, {Name: "pressure", Unit: "Pa"}}
	out := make([]edge.Reading, n)
	for i := range out {
		s.n++
		q := names[s.n%3]
		v := []float64{21.37, 48.125, 100653.25}[s.n%3] + float64((s.n*7919)%997)/100
		at := edge.Instant{Mono: s.n * 100, Wall: 1_790_000_000_000 + s.n*100}
		out[i] = edge.Reading{Sensor: "bme280-0", Sample: edge.Sample{Quantity: q, Value: v}, At: at}
	}
	return out
}

// client joins a swarm's network as the member of that state folder.
func client(b *testing.B, s *swarm.Swarm, m *swarm.Member) (*p2p.Node, journal.SoftKey) {
	b.Helper()
	key, err := fleet.LoadKey(filepath.Join(m.State, "key.pem"))
	must(b, err)
	n, err := p2p.New(context.Background(), p2p.Options{Signer: key, Fleet: func() *fleet.Fleet { return s.Fleet }})
	must(b, err)
	b.Cleanup(func() { _ = n.Close() })
	return n, key
}

// BenchmarkPublish brings sealed segments to a majority of hubs; sealing and the device's own disk are measured
// elsewhere (BenchmarkSeal, BenchmarkOutbox).
func BenchmarkPublish(b *testing.B) {
	for _, hubs := range []int{3, 20} {
		for _, readings := range []int{10, 100, 1000} {
			for _, window := range []int{1, 64} {
				b.Run(fmt.Sprintf("hubs=%d/readings=%d/window=%d", hubs, readings, window), func(b *testing.B) {
					benchPublish(b, hubs, readings, window)
				})
			}
		}
	}
}

// prepare starts a swarm of hubs, publishes a device's epoch, and seals b.N segments that are to follow.
func prepare(b *testing.B, hubs, readings int) (*swarm.Swarm, *transport.Publisher, []*journal.Segment) {
	b.Helper()
	s := swarm.New(b, hubs, "")
	for _, h := range s.Hubs {
		s.Configure(h, "[store]\nrate = \"1GiB\"\n") // no real device writes as fast as a benchmark
	}
	s.Start(s.Hubs...)
	node, key := client(b, s, s.Device)
	p := transport.NewPublisher(node, func() *fleet.Fleet { return s.Fleet })
	b.Cleanup(p.Close)
	src, epoch := newSource(b, s, key)
	publish(b, p, epoch)
	segs := make([]*journal.Segment, b.N)
	for i := range segs {
		segs[i] = src.next(b, readings)
	}
	return s, p, segs
}

func benchPublish(b *testing.B, hubs, readings, window int) {
	s, p, segs := prepare(b, hubs, readings)
	own, theirs := cpu(b), hubCPU(b, s)
	b.ResetTimer()
	inParallel(window, segs, func(seg *journal.Segment) { publish(b, p, seg) })
	b.StopTimer()
	n := float64(b.N * readings)
	b.ReportMetric(float64(cpu(b)-own)/n/1e3, "device-µs/reading")
	b.ReportMetric(float64(hubCPU(b, s)-theirs)/n/1e3, "hubs-µs/reading")
	b.ReportMetric(n/b.Elapsed().Seconds(), "readings/s")
	b.ReportMetric(float64(len(segs[len(segs)-1].Bytes()))/float64(readings), "B/reading")
}

func publish(b *testing.B, p *transport.Publisher, seg *journal.Segment) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := p.Publish(ctx, seg, nil); err != nil {
		b.Error(err)
	}
}

// BenchmarkPull is the collector's whole way but the database: survey, fetch from three hubs, prove, open.
func BenchmarkPull(b *testing.B) {
	for _, readings := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("readings=%d", readings), func(b *testing.B) { benchPull(b, readings) })
	}
}

func benchPull(b *testing.B, readings int) {
	s, p, segs := prepare(b, 3, readings)
	inParallel(64, segs, func(seg *journal.Segment) { publish(b, p, seg) })
	reader, _ := client(b, s, s.Reader)
	rk, err := fleet.LoadReaderKey(filepath.Join(s.Reader.State, "reader.pem"))
	must(b, err)
	sink := &counter{}
	c, err := collector.New(collector.Config{Source: reader, Sink: sink, Fleet: func() *fleet.Fleet { return s.Fleet }, Key: rk})
	must(b, err)
	own, theirs := cpu(b), hubCPU(b, s)
	b.ResetTimer()
	report, err := c.Pull(context.Background())
	b.StopTimer()
	must(b, err)
	got := int(sink.readings.Load())
	if want := b.N * readings; got != want || !report.Complete() {
		b.Fatalf("pulled %d readings of %d: %s", got, want, report)
	}
	b.ReportMetric(float64(cpu(b)-own)/float64(got)/1e3, "reader-µs/reading")
	b.ReportMetric(float64(hubCPU(b, s)-theirs)/float64(got)/1e3, "hubs-µs/reading")
	b.ReportMetric(float64(got)/b.Elapsed().Seconds(), "readings/s")
}

// counter is a sink that counts what it is given and keeps nothing.
type counter struct{ readings atomic.Int64 }

func (c *counter) Marks(context.Context) (map[journal.Chain]collector.Mark, error) { return nil, nil }

func (c *counter) Write(_ context.Context, batch collector.Batch) error {
	c.readings.Add(int64(len(batch.Readings)))
	return nil
}

func (c *counter) Close() error { return nil }

func inParallel(window int, segs []*journal.Segment, do func(*journal.Segment)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, window)
	for _, seg := range segs {
		slots <- struct{}{}
		wg.Go(func() {
			do(seg)
			<-slots
		})
	}
	wg.Wait()
}

// cpu returns what this process has used, in ns.
func cpu(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return u.Utime.Nano() + u.Stime.Nano()
}

// hubCPU returns what the hubs' processes have used, in ns; the kernel counts it in ticks of 10 ms.
func hubCPU(b *testing.B, s *swarm.Swarm) (sum int64) {
	b.Helper()
	for _, h := range s.Hubs {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.PID()))
		must(b, err)
		fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+2:]))
		for _, f := range fields[11:13] {
			ticks, err := strconv.ParseInt(f, 10, 64)
			must(b, err)
			sum += ticks * int64(10*time.Millisecond)
		}
	}
	return sum
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
