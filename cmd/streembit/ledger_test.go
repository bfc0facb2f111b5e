// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/sqlite"
	"github.com/streembit/edge/journal"
)

// TestLedgerCounts holds a database against receipts that agree, and against some that do not: the demo must see it.
func TestLedgerCounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "readings.db")
	chain := writeSegments(t, path, 3, 2, 4) // segment 0 has 3 readings, 1 has 2, 2 has 4
	tip := journal.Hash{7}.String()
	note := func(seq uint64, readings int, hash string) receipt {
		return receipt{Chain: chain.String(), Seq: seq, Readings: readings, Hash: hash}
	}
	for name, c := range map[string]struct {
		notes                          []receipt
		pulled, beyond, absent, forged int
	}{
		"all":            {[]receipt{note(0, 3, "a"), note(1, 2, "b"), note(2, 4, tip)}, 9, 0, 0, 0},
		"last not noted": {[]receipt{note(0, 3, "a"), note(1, 2, "b")}, 5, 4, 0, 0},
		"one lost":       {[]receipt{note(0, 3, "a"), note(1, 2, "b"), note(2, 4, tip), note(3, 5, "d")}, 9, 0, 1, 0},
		"readings lost":  {[]receipt{note(0, 4, "a"), note(1, 2, "b"), note(2, 4, tip)}, 9, 0, 1, 0},
		"other content":  {[]receipt{note(0, 3, "a"), note(1, 2, "b"), note(2, 4, "c")}, 9, 0, 0, 1},
		"other chain":    {[]receipt{{Chain: chain.String()[1:], Seq: 0, Readings: 3}}, 0, 9, 1, 0},
	} {
		db, err := openSQLite(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := db.count(t.Context(), c.notes)
		if err != nil {
			t.Fatal(err)
		}
		if got.pulled != c.pulled || got.beyond != c.beyond || len(got.absent) != c.absent || len(got.forged) != c.forged {
			t.Errorf("%s: got %+v, want %+v", name, got, c)
		}
		if err := db.close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLedgerSeries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "readings.db")
	writeSegments(t, path, 2, 1)
	db, err := openSQLite(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.close() }()
	all, err := db.series(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || all[0].name != "s/temperature" || all[0].unit != "Cel" || all[0].latest != "100" || all[0].readings != 3 ||
		len(all[0].values) != 3 || all[0].values[1] != 1 {
		t.Errorf("got %+v", all)
	}
}

// writeSegments writes a chain whose segments have so many readings each, and a tip whose hash begins with 7.
func writeSegments(t *testing.T, path string, readings ...int) journal.Chain {
	t.Helper()
	sink, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	chain := journal.Chain{Device: newTestID(t, 0), Stream: "main"}
	last := uint64(len(readings) - 1)
	b := collector.Batch{Chain: chain, Name: "pi-1", To: last, Mark: &journal.Link{Seq: last, Hash: journal.Hash{7}}, Received: time.Now()}
	for seq, n := range readings {
		for i := range n {
			b.Readings = append(b.Readings, collector.Row{Seq: uint64(seq), Index: i, Reading: edge.Reading{Sensor: "s",
				Sample: edge.Sample{Quantity: edge.Quantity{Name: "temperature", Unit: "Cel"}, Value: float64(100*seq + i)},
				At:     edge.Instant{Mono: int64(i), Wall: time.Now().UnixMilli()}}})
		}
	}
	if err := sink.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	return chain
}
