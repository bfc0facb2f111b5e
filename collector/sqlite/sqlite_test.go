// SPDX-License-Identifier: Apache-2.0

package sqlite_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
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

func TestLatest(t *testing.T) {
	s := open(t)
	c := sinktest.Chain(1, 1)
	b := collector.Batch{Chain: c, Name: "roof", To: 3, Received: time.UnixMilli(1_700_000_900_000), Readings: sinktest.Rows(0, 3, 5)}
	q := edge.Quantity{Name: "state", Kind: edge.Text}
	b.Readings = append(b.Readings, collector.Row{Seq: 3, Index: 5, Reading: edge.Reading{Sensor: "host", Sample: edge.Sample{Quantity: q, Text: "up"}}})
	if err := s.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	got, err := sqlite.Latest(t.Context(), s.DB(), 3)
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	if g := got[0]; g.Name != "roof" || g.Device != c.Device || g.Sensor != "bme280-0" || g.Label != "temperature" || g.Unit != "Cel" || g.Count != 20 ||
		fmt.Sprint(g.Points) != "[1000.67 1001 1001.33]" || !g.Points[2].Synced || g.Points[2].At.UnixMilli() != 1_700_000_003_004 {
		t.Errorf("%+v", g)
	}
	if g := got[1]; g.Count != 1 || g.Points[0].String() != "up" || g.Points[0].Synced || g.Points[0].At.UnixMilli() != 1_700_000_900_000 {
		t.Errorf("%+v", g)
	}
	for _, view := range []string{"readings", "latest", "hourly"} {
		if _, err := s.DB().ExecContext(t.Context(), "SELECT * FROM "+view); err != nil {
			t.Errorf("view %s: %v", view, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.db")
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.DB().ExecContext(t.Context(), `UPDATE schema_version SET version = 99`); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("newer tables: %v", err)
	}
	if _, err := sqlite.Open(t.Context(), filepath.Join(path, "none", "r.db")); err == nil {
		t.Error("a folder that does not exist was opened")
	}
}

// BenchmarkWrite reports readings committed per second, 10 000 a batch.
func BenchmarkWrite(b *testing.B) {
	s := open(b)
	const per = 10_000
	rows := sinktest.Rows(0, 9, per/10)
	b.ResetTimer()
	for i := range b.N {
		for k := range rows {
			rows[k].Seq = uint64(i*10 + k/(per/10))
		}
		w := collector.Batch{Chain: sinktest.Chain(1, 1), From: uint64(i * 10), To: uint64(i*10 + 9), Readings: rows, Received: time.Now()}
		if err := s.Write(context.Background(), w); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*per/b.Elapsed().Seconds(), "readings/s")
}
