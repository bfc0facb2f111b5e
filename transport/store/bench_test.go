// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

func BenchmarkPut(b *testing.B) {
	for _, readings := range []int{10, 1000} {
		for _, flights := range []int{1, 64} {
			b.Run(fmt.Sprintf("readings=%d/flights=%d", readings, flights), func(b *testing.B) {
				w := newWorld(b, 1)
				s := open(b, b.TempDir(), w.options())
				c := w.chain(b, w.device, "main")
				segs := []*journal.Segment{c.next(1)}
				for range b.N {
					segs = append(segs, c.next(readings))
				}
				b.SetBytes(int64(len(segs[len(segs)-1].Bytes())))
				b.ResetTimer()
				var next atomic.Int64
				var wg sync.WaitGroup
				for range flights {
					wg.Go(func() {
						for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
							if err := s.Put(context.Background(), segs[i].Bytes()); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N*readings)/b.Elapsed().Seconds(), "readings/s")
			})
		}
	}
}

func BenchmarkFetch(b *testing.B) {
	for _, readings := range []int{10, 1000} {
		b.Run(fmt.Sprintf("readings=%d", readings), func(b *testing.B) {
			w := newWorld(b, 1)
			s := open(b, b.TempDir(), w.options())
			c := w.chain(b, w.device, "main")
			var wg sync.WaitGroup
			const held = 256
			for range held {
				seg := c.next(readings)
				b.SetBytes(int64(len(seg.Bytes())))
				wg.Go(func() { put(b, s, seg) })
			}
			wg.Wait()
			b.ResetTimer()
			for n := 0; n < b.N; n += held {
				err := s.Fetch(context.Background(), c.w.Chain(), transport.Span{Last: uint64(min(held, b.N-n) - 1)}, func([]byte) error { return nil })
				check(b, err)
			}
			b.ReportMetric(float64(b.N*readings)/b.Elapsed().Seconds(), "readings/s")
		})
	}
}

// BenchmarkOpen rebuilds the index; what it takes per segment is memory of the index and time of the scan.
func BenchmarkOpen(b *testing.B) {
	w, dir := newWorld(b, 1), b.TempDir()
	s := open(b, dir, w.options())
	const held = 20_000
	c := w.chain(b, w.device, "main")
	var wg sync.WaitGroup
	slots := make(chan struct{}, 256)
	for range held {
		seg := c.next(1)
		slots <- struct{}{}
		wg.Go(func() { put(b, s, seg); <-slots })
	}
	wg.Wait()
	check(b, s.Close())
	for b.Loop() {
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		s := open(b, dir, w.options())
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/held, "heapB/segment")
		check(b, s.Close())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/held, "ns/segment")
}
