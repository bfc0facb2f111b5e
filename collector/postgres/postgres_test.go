// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/postgres"
	"github.com/streembit/edge/collector/sinktest"
)

func TestContract(t *testing.T) { sinktest.Run(t, sinktest.Postgres) }

// TestOpenTogether: collectors that start at the same time make the tables once.
func TestOpenTogether(t *testing.T) {
	dsn := sinktest.PostgresDSN(t)
	schema := "streembit_" + strings.ToLower(rand.Text())
	sinks := make([]*postgres.Sink, 6)
	var wg sync.WaitGroup
	for i := range sinks {
		wg.Go(func() {
			var err error
			if sinks[i], err = postgres.Open(t.Context(), dsn, schema); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for _, view := range []string{"readings", "latest", "hourly"} {
		err := sinks[0].Query(t.Context(), func(ctx context.Context, c *pgx.Conn) error {
			_, err := c.Exec(ctx, "SELECT * FROM "+view)
			return err
		})
		if err != nil {
			t.Errorf("view %s: %v", view, err)
		}
	}
	if err := sinks[0].Drop(context.Background()); err != nil {
		t.Error(err)
	}
	for _, s := range sinks {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestReconnects: a connection that the server cut fails one write and is replaced.
func TestReconnects(t *testing.T) {
	s := sinktest.Postgres(t)
	b := collector.Batch{Chain: sinktest.Chain(1, 1), Readings: sinktest.Rows(0, 0, 5), Received: time.Now()}
	if err := s.Sink.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	_ = s.Sink.(*postgres.Sink).Query(t.Context(), func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, "SELECT pg_terminate_backend(pg_backend_pid())") // its answer is the cut
		return err
	})
	if err := s.Sink.Write(t.Context(), b); err != nil {
		t.Errorf("after the cut: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	if _, err := postgres.Open(t.Context(), "postgres://nobody@127.0.0.1:1/none?connect_timeout=2", ""); err == nil {
		t.Error("a server that is not there was opened")
	}
	if _, err := postgres.Open(t.Context(), "postgres://[", ""); err == nil {
		t.Error("a DSN that is none was taken")
	}
}

func BenchmarkWrite(b *testing.B) { sinktest.Bench(b, sinktest.Postgres(b).Sink) }
