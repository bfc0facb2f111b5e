// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"bytes"
	"compress/flate"
	"fmt"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

var batches = []int{1, 10, 100, 1000}

func perReading(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/reading")
}

// BenchmarkSeal is what a device does per segment: SenML, pack, seal, sign.
func BenchmarkSeal(b *testing.B) {
	for _, n := range batches {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			batch := weather(n, goldenWall)
			w, _ := newWriter(b)
			b.ReportAllocs()
			size := 0
			for b.Loop() {
				s := commit(b, w)(w.Readings(testBoot, batch))
				size = len(s.Bytes())
			}
			perReading(b, n)
			b.ReportMetric(float64(size)/float64(n), "B/reading")
		})
	}
}

// BenchmarkVerify is what a hub does per segment: Open.
func BenchmarkVerify(b *testing.B) {
	for _, n := range batches {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w, _ := newWriter(b)
			raw := commit(b, w)(w.Readings(testBoot, weather(n, goldenWall))).Bytes()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := journal.Open(raw, testFleet); err != nil {
					b.Fatal(err)
				}
			}
			perReading(b, n)
		})
	}
}

// BenchmarkRead is what a collector does per segment: verify, open, unpack, SenML.
func BenchmarkRead(b *testing.B) {
	for _, n := range batches {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w, epoch := newWriter(b)
			k := keyring(b, epoch)
			raw := commit(b, w)(w.Readings(testBoot, weather(n, goldenWall))).Bytes()
			b.ReportAllocs()
			for b.Loop() {
				s, err := journal.Open(raw, testFleet)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := k.Readings(s); err != nil {
					b.Fatal(err)
				}
			}
			perReading(b, n)
		})
	}
}

// BenchmarkSenML is the share of SenML in BenchmarkSeal and BenchmarkRead.
func BenchmarkSenML(b *testing.B) {
	for _, n := range batches {
		batch, device := weather(n, goldenWall), testKey(1).ID() // making a key costs more than a small pack
		newest := batch[n-1].At
		pack, err := edge.MarshalSenML(device, newest.Mono, batch)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint("encode/", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := edge.MarshalSenML(device, newest.Mono, batch); err != nil {
					b.Fatal(err)
				}
			}
			perReading(b, n)
		})
		b.Run(fmt.Sprint("decode/", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := edge.UnmarshalSenML(pack, device, newest); err != nil {
					b.Fatal(err)
				}
			}
			perReading(b, n)
		})
	}
}

// BenchmarkEpoch is one wrap per reader, and the unwrap of one reader.
func BenchmarkEpoch(b *testing.B) {
	w, err := journal.ResumeWriter(testChain(1), nil, testKey(1))
	if err != nil {
		b.Fatal(err)
	}
	list := readers(b, testReader(b, 1), testReader(b, 2), testReader(b, 3), testReader(b, 4), testReader(b, 9))
	var last *journal.Segment
	b.Run("wrap", func(b *testing.B) {
		for b.Loop() {
			last = commit(b, w)(w.Epoch(list, nil, stamp(1, 0)))
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(list)), "ns/reader")
		b.ReportMetric(float64(len(last.Bytes()))/float64(len(list)), "B/reader")
	})
	b.Run("unwrap", func(b *testing.B) {
		if last == nil {
			last = commit(b, w)(w.Epoch(list, nil, stamp(1, 0)))
		}
		k := journal.NewKeyring(testReader(b, 9))
		for b.Loop() {
			if _, err := k.Learn(last); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPack sets what a Writer does beside the deflate of the standard library, which was not chosen
// (docs/decisions/0003-compression.md).
func BenchmarkPack(b *testing.B) {
	for _, n := range batches {
		batch := weather(n, goldenWall)
		plain, err := edge.MarshalSenML(testKey(1).ID(), batch[n-1].At.Mono, batch)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint("chosen/", n), func(b *testing.B) {
			var p journal.Packer
			size := 0
			for b.Loop() {
				packed, err := p.Pack(plain)
				if err != nil {
					b.Fatal(err)
				}
				size = len(packed)
			}
			perReading(b, n)
			b.ReportMetric(float64(size)/float64(n), "B/reading")
		})
		for _, level := range []int{flate.HuffmanOnly, flate.BestSpeed, 6} {
			b.Run(fmt.Sprint("flate", level, "/", n), func(b *testing.B) {
				var buf bytes.Buffer
				z, err := flate.NewWriter(&buf, level)
				if err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					buf.Reset()
					z.Reset(&buf)
					if _, err := z.Write(plain); err != nil {
						b.Fatal(err)
					}
					if err := z.Close(); err != nil {
						b.Fatal(err)
					}
				}
				perReading(b, n)
				b.ReportMetric(float64(buf.Len())/float64(n), "B/reading")
			})
		}
	}
}
