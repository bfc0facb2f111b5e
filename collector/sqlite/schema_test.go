// SPDX-License-Identifier: Apache-2.0

package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/sinktest"
	"github.com/streembit/edge/collector/sqlite"
	"github.com/streembit/edge/journal"
)

// tables of version 1, in the order of their keys.
func tables() map[string]string {
	return map[string]string{"device": "id", "chain": "id", "checkpoint": "chain", "reading": "chain, seq, idx", "gap": "chain, first_seq",
		"fork": "chain, seq", "note": "chain, seq"}
}

func dump(t *testing.T, db *sql.DB, query string) (out []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	cols, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		vals, ptrs := make([]any, len(cols)), make([]any, len(cols))
		for i := range vals {
			ptrs[i] = &vals[i]
		}
		if err := rows.Scan(ptrs...); err != nil {
			t.Fatal(err)
		}
		out = append(out, strings.TrimSuffix(fmt.Sprintln(vals...), "\n"))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestMigratesVersion1: a file that a program of version 1 made keeps every row, gets the new views, and is written on; several programs that open it
// together do so once.
func TestMigratesVersion1(t *testing.T) {
	text, err := os.ReadFile("testdata/v1.db")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "v1.db")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	old, err := sqlite.OpenRead(path)
	if err != nil {
		t.Fatal(err)
	}
	before := map[string][]string{}
	for table, key := range tables() {
		before[table] = dump(t, old, "SELECT * FROM "+table+" ORDER BY "+key)
		if len(before[table]) == 0 {
			t.Errorf("the fixture's table %s is empty", table)
		}
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	sinks := make([]*sqlite.Sink, 4)
	var wg sync.WaitGroup
	for i := range sinks {
		wg.Go(func() {
			var err error
			if sinks[i], err = sqlite.Open(t.Context(), path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	s := sinks[0]
	for table, key := range tables() {
		if got := dump(t, s.DB(), "SELECT * FROM "+table+" ORDER BY "+key); !reflect.DeepEqual(got, before[table]) {
			t.Errorf("table %s changed:\n%v\n%v", table, before[table], got)
		}
	}
	checkViews(t, s.DB())
	b := collector.Batch{Chain: sinktest.Chain(1, 1), Name: "roof", From: 10, To: 11, Mark: &journal.Link{Seq: 11, Hash: journal.Hash{1, 11}},
		Readings: sinktest.Rows(10, 11, 4), Received: time.UnixMilli(1_700_000_600_000)}
	for _, s := range sinks {
		if err := s.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if got := dump(t, s.DB(), `SELECT count(*) FROM reading`); got[0] != fmt.Sprint(len(before["reading"])+8) {
		t.Errorf("%s readings", got)
	}
	for _, s := range sinks {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// checkViews reads what people query of the fixture's content.
func checkViews(t *testing.T, db *sql.DB) {
	t.Helper()
	views := sinktest.VersionOneViews()
	views[`SELECT printf('%s %s %s %.2f %s', sensor, value, clock, number, time) FROM latest WHERE device_name = 'roof' ORDER BY 1`] = []string{
		"bme280-0 3001.0 synced 3001.00 2023-11-14 22:13:29.003", "host up unsynced 0.00 2023-11-14 22:21:40.000", "relay 1 restamped 1.00 2023-11-14 22:13:20.078"}
	for query, want := range views {
		if got := dump(t, db, query); !reflect.DeepEqual(got, want) {
			t.Errorf("%s\ngives %q\nwant  %q", query, got, want)
		}
	}
}

// TestLatestUsesTheIndex: the newest of each series is looked up, the table is not read.
func TestLatestUsesTheIndex(t *testing.T) {
	plan := strings.Join(dump(t, open(t).DB(), `EXPLAIN QUERY PLAN SELECT * FROM latest`), "\n")
	if strings.Contains(plan, "SCAN x") || strings.Contains(plan, "SCAN reading") || !strings.Contains(plan, "reading_series") {
		t.Error(plan)
	}
}

// TestBadFiles: a full disk, a damaged file, tables that were changed by hand and a folder that cannot be written are named, and nothing is lost.
func TestBadFiles(t *testing.T) {
	s := open(t)
	b := collector.Batch{Chain: sinktest.Chain(1, 1), Name: "roof", To: 99, Mark: &journal.Link{Seq: 99, Hash: journal.Hash{1}},
		Readings: sinktest.Rows(0, 99, 200), Received: time.Now()}
	for _, c := range []struct{ name, spoil, mend, want string }{
		{"disk full", "PRAGMA max_page_count = 60", "PRAGMA max_page_count = 1000000", "make room, nothing is lost"},
		{"a column is gone", "ALTER TABLE reading RENAME mono_ms TO mono", "ALTER TABLE reading RENAME mono TO mono_ms", "changed by hand"},
		{"a table is gone", "ALTER TABLE note RENAME TO notes", "ALTER TABLE notes RENAME TO note", "changed by hand"},
		{"a rule was added", "CREATE TRIGGER no BEFORE INSERT ON reading BEGIN SELECT raise(ABORT, 'no'); END", "DROP TRIGGER no", "changed by hand"},
	} {
		for _, q := range []string{c.spoil, c.mend} {
			if _, err := s.DB().ExecContext(t.Context(), q); err != nil {
				t.Fatal(err)
			}
			if q == c.mend {
				continue
			}
			note := b
			note.Notes = []collector.Note{{Seq: 1, Clock: &journal.ClockNote{Boot: journal.BootID{3}, Mono: 1, Wall: 2}}}
			if err := s.Write(t.Context(), note); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: Write says %v", c.name, err)
			}
		}
		if n := dump(t, s.DB(), `SELECT (SELECT count(*) FROM reading) + (SELECT count(*) FROM checkpoint)`); n[0] != "0" {
			t.Errorf("%s: %s rows of a batch that failed", c.name, n)
		}
	}
	if err := s.Write(t.Context(), b); err != nil {
		t.Error(err)
	}
	if n := dump(t, s.DB(), `SELECT count(*) FROM reading`); n[0] != "20000" {
		t.Errorf("%s readings after all was mended", n)
	}
	path := filepath.Join(t.TempDir(), "text.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("this is no database. ", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("a text file: %v", err)
	}
	if _, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "none", "r.db")); err == nil || !strings.Contains(err.Error(), "the folder exists") {
		t.Errorf("no folder: %v", err)
	}
}

// TestReset: after it a chain is pulled from the beginning, and what is there stays as it is.
func TestReset(t *testing.T) {
	s := open(t)
	b := collector.Batch{Chain: sinktest.Chain(1, 1), To: 9, Mark: &journal.Link{Seq: 9, Hash: journal.Hash{1}}, Readings: sinktest.Rows(0, 9, 2), Received: time.Now()}
	other := b
	other.Chain = sinktest.Chain(2, 1)
	for _, b := range []collector.Batch{b, other} {
		if err := s.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Reset(t.Context(), b.Chain); err != nil {
		t.Fatal(err)
	}
	marks, err := s.Marks(t.Context())
	if err != nil || marks[b.Chain].Link != nil || marks[other.Chain].Link == nil {
		t.Errorf("%v, marks %v", err, marks)
	}
	if err := s.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if n := dump(t, s.DB(), `SELECT count(*) FROM reading`); n[0] != "40" {
		t.Errorf("%s readings", n)
	}
}

// TestOpenTogether: programs that start at the same time make the tables once.
func TestOpenTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.db")
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			s, err := sqlite.Open(context.Background(), path)
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Ping(context.Background()); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
