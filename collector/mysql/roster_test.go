// SPDX-License-Identifier: Apache-2.0

package mysql_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/mysql"
	"github.com/streembit/edge/collector/sinktest"
)

// TestRoster: who says that it is there is on the list until it leaves or is silent. The table is in memory, or InnoDB's where the server has no other
// and in databases that are as the first version made them.
func TestRoster(t *testing.T) {
	server := sinktest.MariaDB(t)
	root := "root@tcp(" + server.Addr + ")/"
	for _, c := range []struct {
		name   string
		before func(t *testing.T, dsn string)
		engine string
	}{
		{"memory", func(*testing.T, string) {}, "MEMORY"},
		{"of version 1", func(t *testing.T, dsn string) {
			s, err := mysql.Open(t.Context(), dsn, "")
			if err != nil {
				t.Fatal(err)
			}
			for _, q := range []string{"DROP TABLE collector", "DELETE FROM schema_version WHERE version = 2"} {
				sinktest.MySQLQuery(t, dsn, q)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}, "MEMORY"},
		{"InnoDB only", func(t *testing.T, _ string) {
			sinktest.MySQLQuery(t, root, "SET GLOBAL enforce_storage_engine = 'InnoDB'") // the last case: the server ends with the test
		}, "InnoDB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dsn := sinktest.MySQLDatabase(t, server)
			c.before(t, dsn)
			s, err := mysql.Open(t.Context(), dsn, "")
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			roster(t, s)
			rows := sinktest.MySQLQuery(t, dsn, "SELECT engine FROM information_schema.tables WHERE table_schema = database() AND table_name = 'collector'")
			if len(rows) != 1 || rows[0][0] != c.engine {
				t.Errorf("the list is in %v, want %s", rows, c.engine)
			}
		})
	}
}

func roster(t *testing.T, roster collector.Roster) {
	t.Helper()
	present := func(who string, within time.Duration) []string {
		t.Helper()
		here, err := roster.Present(t.Context(), who, within)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Sorted(slices.Values(here))
	}
	present("a", time.Hour)
	if got := present("b", time.Hour); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("here are %v", got)
	}
	if got := present("b", time.Nanosecond); slices.Contains(got, "a") {
		t.Errorf("a said nothing for longer than a nanosecond and is here: %v", got)
	}
	if err := roster.Absent(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if got := present("b", time.Hour); !slices.Equal(got, []string{"b"}) {
		t.Errorf("here are %v", got)
	}
}

// BenchmarkPresent is what a collector does each second so that others know that it is there.
func BenchmarkPresent(b *testing.B) {
	s := sinktest.MySQL(sinktest.MariaDB(b))(b).Sink.(*mysql.Sink)
	b.ResetTimer()
	for range b.N {
		if _, err := s.Present(b.Context(), "me", time.Second); err != nil {
			b.Fatal(err)
		}
	}
}

// TestRosterAfterCrash: the list is lost with the server, and who is there is on it again at the next attempts.
func TestRosterAfterCrash(t *testing.T) {
	server := sinktest.MariaDB(t)
	s := sinktest.MySQL(server)(t).Sink.(*mysql.Sink)
	for _, who := range []string{"a", "b"} {
		if _, err := s.Present(t.Context(), who, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	server.Kill(t)
	if _, err := s.Present(t.Context(), "b", time.Hour); err == nil || !strings.Contains(err.Error(), "listing collectors") {
		t.Errorf("without a server: %v", err)
	}
	server.Start(t)
	var here []string
	sinktest.WaitFor(t, "the list", func() (err error) {
		here, err = s.Present(t.Context(), "b", time.Hour)
		return err
	})
	if !slices.Equal(here, []string{"b"}) {
		t.Errorf("here are %v", here)
	}
}

// TestFrozenInTransaction: a collector that is frozen within a transaction holds the lock of its chain, and another writes the chain all the same.
func TestFrozenInTransaction(t *testing.T) {
	s := sinktest.MySQL(sinktest.MariaDB(t))(t)
	b := collector.Batch{Chain: sinktest.Chain(1, 1), Readings: sinktest.Rows(0, 0, 5), Received: time.Now()}
	if err := s.Sink.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	tx, err := s.Reopen(t).(*mysql.Sink).DB().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }() // its connection is gone
	if _, err := tx.ExecContext(t.Context(), `SELECT id FROM chain FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	b.Readings = sinktest.Rows(0, 0, 6)
	if err := s.Sink.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < time.Second || took > 40*time.Second { // one wait for a lock is 50 s
		t.Errorf("it took %v", took)
	}
	if got := len(s.Readings(t)); got != 6 {
		t.Errorf("%d readings", got)
	}
}
