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
	"github.com/streembit/edge/transport/store"
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

// BenchmarkRanges compares 1 000 chains of 10 000 segments, as one hub asks of another each round, and the buckets of one chain. The segments are held in
// memory only: what is measured is the index.
func BenchmarkRanges(b *testing.B) {
	for _, hubs := range []int{10, 40} {
		s, chain, hub := store.Filled(b, 1000, 10_000, hubs)
		whole := transport.RangeQuery{Target: hub}
		one := transport.RangeQuery{Target: hub, Chain: &chain, Span: transport.Span{Last: ^uint64(0)}, Width: journal.BucketSize}
		for name, q := range map[string]transport.RangeQuery{"chains": whole, "buckets": one} {
			b.Run(fmt.Sprintf("hubs=%d/%s", hubs, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					check(b, s.Ranges(context.Background(), q, func(transport.Range) error { return nil }))
				}
			})
		}
	}
}

// BenchmarkClean: of all that devices write a part stays and the rest is let go after a while, the two mixed in every file. Reported are the bytes that cleaning
// writes for each byte of the devices, and those on the disk for each that counts.
func BenchmarkClean(b *testing.B) {
	for _, percent := range []int{1, 10} {
		b.Run(fmt.Sprintf("stays=%d%%", percent), func(b *testing.B) {
			w := newKeeping(b)
			w.retainStream(b, "main", 7*day, w.one)
			o := w.options()
			o.Quota, o.Wrap = 4<<20, unsynced
			s := open(b, b.TempDir(), o)
			gone, stays := w.chain(b, w.device, "main"), w.chain(b, w.device, "slow")
			written, kept := int64(0), int64(0)
			putOne := func(seg *journal.Segment) int64 {
				put(b, s, seg)
				written += int64(len(seg.Bytes()))
				return int64(len(seg.Bytes()))
			}
			for b.Loop() {
				for written < 4*o.Quota {
					for i := range 100 {
						if i < percent && kept < o.Quota/4 {
							kept += putOne(stays.next(100))
						} else {
							begins := i%50 == 49
							gone.started = gone.started && !begins
							seg := gone.next(100)
							putOne(seg)
							if begins {
								check(b, s.Mark(context.Background(), marks(b, w, w.one, seg)))
							}
						}
					}
					sweep(b, s)
				}
			}
			st := s.Stats()
			b.ReportMetric(float64(st.Moved)/float64(written), "moved/written")
			b.ReportMetric(float64(st.Bytes)/float64(kept), "disk/kept")
		})
	}
}
