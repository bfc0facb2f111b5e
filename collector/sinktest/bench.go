// SPDX-License-Identifier: Apache-2.0

package sinktest

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/streembit/edge/collector"
)

// Bench reports readings committed per second, 10 000 in ten segments a batch, and the CPU time that this process took for each; the
// server's is not in it.
func Bench(b *testing.B, s collector.Sink) {
	const per, segments = 10_000, 10
	rows := Rows(0, segments-1, per/segments)
	b.ResetTimer()
	before := cpu(b)
	for i := range b.N {
		from := uint64(i * segments)
		for k := range rows {
			rows[k].Seq = from + uint64(k/(per/segments))
			rows[k].At.Wall += segments * 1000
		}
		last := from + segments - 1
		w := collector.Batch{Chain: Chain(1, 1), Name: "device", From: from, To: last, Mark: link(last), Readings: rows, Received: time.Now()}
		if err := s.Write(context.Background(), w); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*per/b.Elapsed().Seconds(), "readings/s")
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/1e3/per/float64(b.N), "µs-CPU/reading")
}

// cpu is the CPU time that this process has taken.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
