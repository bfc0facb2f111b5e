// SPDX-License-Identifier: Apache-2.0

package outbox_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/streembit/edge/agent/outbox"
)

// cpu is what this process used until now.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSeal is seal, sign, append and fsync; all that is made is taken and acknowledged, so that the quota is no
// part of it.
func BenchmarkSeal(b *testing.B) {
	for _, durability := range []outbox.Durability{outbox.Balanced, outbox.Strict} {
		for _, n := range []int{1, 10, 100, 1000} {
			b.Run(fmt.Sprintf("%s/readings=%d", durability, n), func(b *testing.B) {
				_, rs := readerKey(b)
				o := options(b.TempDir())
				o.Durability, o.Quota = durability, 4<<30
				box, _ := open(b, o)
				start(b, box, "main", rs)
				batch := readings(0, n)
				began := cpu(b)
				b.ResetTimer()
				for range b.N {
					check(b, box.Spool(ctx, "main", boot, batch))
					if _, err := box.Seal(ctx, "main", boot, batch); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				readings := float64(b.N * n)
				b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/readings, "cpu-ns/reading")
				b.ReportMetric(float64(box.Status().Bytes)/readings, "disk-B/reading")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/readings, "ns/reading")
			})
		}
	}
}

// BenchmarkPublish is Take with its proof and Ack, without any network.
func BenchmarkPublish(b *testing.B) {
	_, rs := readerKey(b)
	o := options(b.TempDir())
	o.Quota = 4 << 30
	box, _ := open(b, o)
	start(b, box, "main", rs)
	for i := range b.N {
		seal(b, box, "main", i, 10)
	}
	began := cpu(b)
	b.ResetTimer()
	drain(b, box, receipt(3))
	b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/float64(b.N), "cpu-ns/segment")
}

// BenchmarkOpen scans a log of small segments that nobody took.
func BenchmarkOpen(b *testing.B) {
	_, rs := readerKey(b)
	o := options(b.TempDir())
	box, _ := open(b, o)
	start(b, box, "main", rs)
	const held = 5000
	for i := range held {
		seal(b, box, "main", i, 1)
	}
	check(b, box.Close())
	for b.Loop() {
		box, rec := open(b, o)
		if rec.Pending != held+1 {
			b.Fatalf("%+v", rec)
		}
		check(b, box.Close())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/held, "ns/segment")
}
