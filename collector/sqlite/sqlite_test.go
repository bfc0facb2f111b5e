// SPDX-License-Identifier: Apache-2.0

package sqlite_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/migrate"
	"github.com/streembit/edge/collector/sinktest"
	"github.com/streembit/edge/collector/sqlite"
)

func TestContract(t *testing.T) { sinktest.Run(t, sinktest.SQLite) }

func open(t testing.TB) *sqlite.Sink {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "r.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// The views are what people query: each shows what was written.
func TestViews(t *testing.T) {
	s := open(t)
	b := collector.Batch{Chain: sinktest.Chain(1, 1), Name: "roof", To: 3, Received: time.UnixMilli(1_700_000_900_000), Readings: sinktest.Rows(0, 3, 5)}
	q := edge.Quantity{Name: "state", Kind: edge.Text}
	b.Readings = append(b.Readings, collector.Row{Seq: 3, Index: 5, Reading: edge.Reading{Sensor: "host", Sample: edge.Sample{Quantity: q, Text: "up"}}})
	if err := s.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		`SELECT count(*) FROM readings`: "21",
		`SELECT printf('%s %.2f %s %s', device_name, value, unit, time) FROM latest WHERE sensor = 'bme280-0'`: "roof 1001.33 Cel 2023-11-14 22:13:23.004",
		`SELECT value || ' ' || time || ' ' || clock FROM latest WHERE sensor = 'host'`:                        "up 2023-11-14 22:28:20.000 unsynced",
		`SELECT printf('%d %.2f %s', n, high, hour) FROM hourly`:                                               "20 1001.33 2023-11-14 22:00",
	} {
		var got string
		if err := s.DB().QueryRowContext(t.Context(), query).Scan(&got); err != nil || got != want {
			t.Errorf("%s gives %q, %v, want %q", query, got, err, want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.db")
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.DB().ExecContext(t.Context(), `INSERT INTO migration (version_id, is_applied) VALUES (99, 1)`); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(t.Context(), path); err == nil || !errors.Is(err, migrate.ErrNewer) || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("newer tables: %v", err)
	}
	if _, err := sqlite.Open(t.Context(), filepath.Join(path, "none", "r.db")); err == nil {
		t.Error("a folder that does not exist was opened")
	}
}

func BenchmarkWrite(b *testing.B) { sinktest.Bench(b, open(b)) }
