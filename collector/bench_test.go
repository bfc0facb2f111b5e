// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/journal"
)

// discard is a sink that keeps nothing but a look at the memory.
type discard struct {
	mu      sync.Mutex
	measure bool
	peak    uint64 // bytes alive
	rows    int
}

func (d *discard) Marks(context.Context) (map[journal.Chain]collector.Mark, error) { return nil, nil }
func (d *discard) Close() error                                                    { return nil }

func (d *discard) Write(_ context.Context, b collector.Batch) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rows += len(b.Readings)
	if d.measure {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		d.peak = max(d.peak, m.HeapAlloc)
	}
	return nil
}

// TestMemoryBounded: what a pull keeps alive does not grow with the length of the chain.
func TestMemoryBounded(t *testing.T) {
	const limit = 64 << 20
	var used []uint64
	for _, n := range []int{200, 2000} {
		w := newWorld(1, 1)
		d := w.device(0)
		d.epoch(nil)
		d.mute = true // nobody compares values here
		d.readings(n, 250)
		w.publish(d.all...)
		d.all = nil
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		sink := &discard{measure: true}
		if r := w.pull(t, sink); r.Readings != uint64(n*250) || sink.rows != n*250 {
			t.Fatalf("report: %s", r)
		}
		used = append(used, sink.peak-min(m.HeapAlloc, sink.peak))
	}
	t.Logf("alive during the pull: %.1f MB at 50 000 readings, %.1f MB at 500 000", float64(used[0])/1e6, float64(used[1])/1e6)
	if used[1] > limit || used[1] > 3*used[0]+(8<<20) {
		t.Errorf("%d bytes alive at ten times the length, %d at one", used[1], used[0])
	}
}

// BenchmarkOpen verifies, decrypts and decodes segments of so many readings; ns/reading is the figure.
func BenchmarkOpen(b *testing.B) {
	for _, per := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("%d", per), func(b *testing.B) {
			w := newWorld(1, 1)
			d := w.device(0)
			d.epoch(nil)
			segs := d.readings(16, per)
			ring := journal.NewKeyring(w.reader)
			must(ring.Learn(d.all[0]))
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				s := segs[i%len(segs)]
				if _, err := ring.Readings(must(journal.OpenFrom(s.Bytes(), d.chain(), s.Seq))); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*per), "ns/reading")
		})
	}
}

// BenchmarkPull pulls 4 chains from hubs in memory into a sink that drops everything.
func BenchmarkPull(b *testing.B) {
	for _, per := range []int{10, 1000} {
		b.Run(fmt.Sprintf("%d", per), func(b *testing.B) {
			w := newWorld(3, 4)
			for i := range 4 {
				d := w.device(i)
				d.epoch(nil)
				d.mute = true
				d.readings(200, per)
				w.publish(d.all...)
			}
			b.ResetTimer()
			for range b.N {
				w.pull(b, &discard{})
			}
			b.ReportMetric(float64(b.N*4*200*per)/b.Elapsed().Seconds(), "readings/s")
		})
	}
}
