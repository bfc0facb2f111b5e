// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"testing"
	"time"

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
