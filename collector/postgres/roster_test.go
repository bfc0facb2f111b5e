// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/postgres"
	"github.com/streembit/edge/collector/sinktest"
)

// BenchmarkPresent is what a collector does each second so that others know that it is there.
func BenchmarkPresent(b *testing.B) {
	s := sinktest.Postgres(b).Sink.(*postgres.Sink)
	b.ResetTimer()
	for range b.N {
		if _, err := s.Present(b.Context(), "me", time.Second); err != nil {
			b.Fatal(err)
		}
	}
}

// TestFrozenInTransaction: a collector that is frozen within a transaction holds the lock of its chain, and another writes the chain all the same.
func TestFrozenInTransaction(t *testing.T) {
	s := sinktest.Postgres(t)
	b := collector.Batch{Chain: sinktest.Chain(1, 1), Readings: sinktest.Rows(0, 0, 5), Received: time.Now()}
	if err := s.Sink.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	frozen := s.Reopen(t).(*postgres.Sink)
	_ = frozen.Query(ctx, func(ctx context.Context, conn *pgx.Conn) error { // its connection is gone in the end
		if _, err := conn.Exec(ctx, `BEGIN; SELECT id FROM chain FOR UPDATE`); err != nil {
			t.Error(err)
		}
		b.Readings = sinktest.Rows(0, 0, 6)
		if err := s.Sink.Write(ctx, b); err != nil {
			t.Error(err)
		}
		return nil
	})
	if took := time.Since(began); took < time.Second {
		t.Errorf("it took %v: nothing was locked", took)
	}
	if got := len(s.Readings(t)); got != 6 {
		t.Errorf("%d readings", got)
	}
}
