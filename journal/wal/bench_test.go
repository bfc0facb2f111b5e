// SPDX-License-Identifier: Apache-2.0

package wal_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/streembit/edge/journal/wal"
)

// BenchmarkAppend reports, next to the time for each durable frame, how many frames shared a sync and the bytes written
// to files for each byte of data. (What the card writes is more: the file system's own blocks for each sync.)
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct{ size, writers int }{{200, 1}, {200, 64}, {32 << 10, 1}, {32 << 10, 64}} {
		b.Run(fmt.Sprintf("%dB/%dwriters", c.size, c.writers), func(b *testing.B) {
			l, _, _ := open(b, b.TempDir(), wal.Options{})
			data := frame(1, c.size)
			b.SetBytes(int64(c.size))
			b.ResetTimer()
			var wg sync.WaitGroup
			for w := range c.writers {
				wg.Go(func() {
					for i := w; i < b.N; i += c.writers {
						if _, err := l.Append(context.Background(), data); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			st := l.Stats()
			b.ReportMetric(float64(st.Appends)/float64(st.Syncs), "frames/sync")
			b.ReportMetric(float64(st.Bytes)/float64(b.N*c.size), "B-written/B")
		})
	}
}

func BenchmarkRead(b *testing.B) {
	l, _, _ := open(b, b.TempDir(), wal.Options{})
	k := add(b, l, frame(1, 32<<10))[0]
	b.SetBytes(int64(len(k.data)))
	for b.Loop() {
		if _, err := l.Read(k.at); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkScan(b *testing.B) {
	l, _, _ := open(b, b.TempDir(), wal.Options{})
	for i := range 300 {
		add(b, l, frame(i, 32<<10))
	}
	b.SetBytes(300 * 32 << 10)
	for b.Loop() {
		if err := l.Scan(wal.Pos{}, func(wal.Pos, []byte) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
