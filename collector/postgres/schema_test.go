// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/postgres"
	"github.com/streembit/edge/collector/sinktest"
	"github.com/streembit/edge/journal"
)

// connect opens a connection that the test closes.
func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // the test is over
	return conn
}

func exec(t testing.TB, conn *pgx.Conn, query string) {
	t.Helper()
	if _, err := conn.Exec(context.WithoutCancel(t.Context()), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func dump(t testing.TB, conn *pgx.Conn, query string) (out []string) {
	t.Helper()
	rows, err := conn.Query(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	for rows.Next() {
		vals, err := rows.Values()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, strings.TrimSuffix(fmt.Sprintln(vals...), "\n"))
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return out
}

// TestMigratesVersion1: tables that a program of version 1 made (a pg_dump of it) keep every row, get the new views, and are written on.
func TestMigratesVersion1(t *testing.T) {
	text, err := os.ReadFile("testdata/v1.sql")
	if err != nil {
		t.Fatal(err)
	}
	dsn := sinktest.NewDatabase(t)
	exec(t, connect(t, dsn), string(text))
	conn := connect(t, dsn)
	exec(t, conn, "SET search_path = streembit")
	tables := map[string]string{"device": "id", "chain": "id", "checkpoint": "chain", "reading": "chain, seq, idx", "gap": "chain, first_seq",
		"fork": "chain, seq", "note": "chain, seq"}
	before := map[string][]string{}
	for table, key := range tables {
		if before[table] = dump(t, conn, "SELECT * FROM "+table+" ORDER BY "+key); len(before[table]) == 0 {
			t.Errorf("the fixture's table %s is empty", table)
		}
	}
	s, err := postgres.Open(t.Context(), dsn, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for table, key := range tables {
		if got := dump(t, conn, "SELECT * FROM "+table+" ORDER BY "+key); !reflect.DeepEqual(got, before[table]) {
			t.Errorf("table %s changed:\n%v\n%v", table, before[table], got)
		}
	}
	checkViews(t, conn)
	b := collector.Batch{Chain: sinktest.Chain(1, 1), Name: "roof", From: 8, To: 11, Mark: &journal.Link{Seq: 11, Hash: journal.Hash{1, 11}},
		Readings: sinktest.Rows(8, 11, 4), Received: time.UnixMilli(1_700_000_600_000)}
	for range 2 {
		if err := s.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if got := dump(t, conn, `SELECT count(*) FROM reading`); got[0] != fmt.Sprint(len(before["reading"])+8) {
		t.Errorf("%s readings", got)
	}
	if v := dump(t, conn, `SELECT max(version) FROM schema_version`); v[0] != "2" {
		t.Errorf("a program of version 1 would write here: it sees version %s", v)
	}
}

func checkViews(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	views := sinktest.VersionOneViews()
	views[`SELECT format('%s %s %s %s %s', sensor, value, clock, number, time AT TIME ZONE 'UTC') FROM latest WHERE device_name = 'roof' ORDER BY 1`] = []string{
		"bme280-0 3001 synced 3001 2023-11-14 22:13:29.003", "host up unsynced  2023-11-14 22:21:40", "relay true restamped 1 2023-11-14 22:13:20.078"}
	for query, want := range views {
		if got := dump(t, conn, query); !reflect.DeepEqual(got, want) {
			t.Errorf("%s\ngives %q\nwant  %q", query, got, want)
		}
	}
}

// byTime is what docs/operations.md says for a table that is cut by month, and, but for the first line, what a hypertable is made by.
const byTime = `
ALTER TABLE reading RENAME TO reading_once;
CREATE TABLE reading (LIKE reading_once INCLUDING DEFAULTS INCLUDING COMMENTS INCLUDING CONSTRAINTS, at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE INDEX ON reading (chain, seq, idx);
CREATE INDEX ON reading (device, sensor, name, ts);
CREATE INDEX ON reading (device, boot) WHERE clock = 'unsynced';
CREATE TABLE reading_2023_11 PARTITION OF reading FOR VALUES FROM ('2023-11-01') TO ('2023-12-01');
CREATE TABLE reading_rest PARTITION OF reading DEFAULT;
INSERT INTO reading SELECT *, coalesce(ts, recv) FROM reading_once;`

// TestPartitions: the recipe keeps what was written, the next start makes the views of the new table, with what people have built on them, and the old
// one can be dropped.
func TestPartitions(t *testing.T) {
	text, err := os.ReadFile("testdata/v1.sql")
	if err != nil {
		t.Fatal(err)
	}
	dsn := sinktest.NewDatabase(t)
	exec(t, connect(t, dsn), string(text)+"; CREATE VIEW streembit.mine AS SELECT device_name, value FROM streembit.readings")
	conn := connect(t, dsn)
	exec(t, conn, "SET search_path = streembit")
	for round := range 2 {
		s, err := postgres.Open(t.Context(), dsn, "")
		if err != nil {
			t.Fatal(err)
		}
		checkViews(t, conn)
		if n := dump(t, conn, `SELECT count(*) FROM mine`); n[0] != "68" {
			t.Errorf("somebody's own view has %s rows", n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			exec(t, conn, byTime)
		}
	}
	exec(t, conn, `DROP TABLE reading_once`)
	checkViews(t, conn)
}

// TestContractByTime: the contract also holds where the table is cut by time and has no unique key, as a hypertable or partitions.
func TestContractByTime(t *testing.T) {
	sinktest.Run(t, func(t testing.TB) sinktest.Subject {
		s := sinktest.Postgres(t)
		sink := s.Sink.(*postgres.Sink)
		err := sink.Query(t.Context(), func(ctx context.Context, c *pgx.Conn) error {
			_, err := c.Exec(ctx, byTime)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := sink.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Sink = s.Reopen(t)
		return s
	})
}

// TestHypertable: where TimescaleDB is, a new table is a hypertable. The extension is in no Debian package, so where it is missing a function of its
// name notes how it is called.
func TestHypertable(t *testing.T) {
	dsn := sinktest.NewDatabase(t)
	conn := connect(t, dsn)
	real := dump(t, conn, `SELECT name FROM pg_available_extensions WHERE name = 'timescaledb'`)
	if len(real) > 0 {
		exec(t, conn, `CREATE EXTENSION timescaledb`)
	} else {
		t.Log("TimescaleDB is not installed: only the call is checked, not what it does")
		exec(t, conn, `CREATE TABLE public.called (what text, by text);
			CREATE FUNCTION public.create_hypertable(t regclass, col name, chunk_time_interval interval, create_default_indexes boolean) RETURNS void
			LANGUAGE sql AS $$ INSERT INTO public.called VALUES (t::text, col || ' ' || chunk_time_interval) $$;
			INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion) VALUES (999999, 'timescaledb', 10, 2200, false, '2.0')`)
	}
	for range 2 { // the second finds it made
		s, err := postgres.Open(t.Context(), dsn, "")
		if err != nil {
			t.Fatal(err)
		}
		b := collector.Batch{Chain: sinktest.Chain(1, 1), Name: "roof", To: 9, Mark: &journal.Link{Seq: 9, Hash: journal.Hash{1}},
			Readings: sinktest.Rows(0, 9, 5), Received: time.Now()}
		if err := s.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n := dump(t, conn, `SELECT count(*), count(DISTINCT at) FROM streembit.reading`); n[0] != "50 50" {
		t.Errorf("readings and times: %s", n)
	}
	if len(real) > 0 {
		if n := dump(t, conn, `SELECT hypertable_name FROM timescaledb_information.hypertables`); !reflect.DeepEqual(n, []string{"reading"}) {
			t.Errorf("hypertables: %s", n)
		}
		return
	}
	if got := dump(t, conn, `SELECT what, by FROM public.called`); !reflect.DeepEqual(got, []string{"reading at 7 days"}) {
		t.Errorf("create_hypertable was called with %q", got)
	}
}

// TestBadServers: what is wrong with the server, the account or the tables is said so that a person can mend it, and nothing is lost by it.
func TestBadServers(t *testing.T) {
	dsn := sinktest.NewDatabase(t)
	s, err := postgres.Open(t.Context(), dsn, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	conn := connect(t, dsn)
	exec(t, conn, "SET search_path = streembit")
	b := collector.Batch{Chain: sinktest.Chain(1, 1), Name: "roof", To: 9, Mark: &journal.Link{Seq: 9, Hash: journal.Hash{1}},
		Readings: sinktest.Rows(0, 9, 5), Received: time.Now()}
	for _, c := range []struct{ name, spoil, mend, want string }{
		{"a column is gone", "ALTER TABLE reading RENAME mono_ms TO mono", "ALTER TABLE reading RENAME mono TO mono_ms", "changed by hand"},
		{"a table is gone", "ALTER TABLE note RENAME TO notes", "ALTER TABLE notes RENAME TO note", "changed by hand"},
		{"the key is gone", "ALTER TABLE reading DROP CONSTRAINT reading_pkey", "ALTER TABLE reading ADD PRIMARY KEY (chain, seq, idx)", "primary key"},
	} {
		exec(t, conn, c.spoil)
		if err := s.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Ping says %v", c.name, err)
		}
		if _, err := postgres.Open(t.Context(), dsn, ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Open says %v", c.name, err)
		}
		exec(t, conn, c.mend)
		if err := s.Ping(t.Context()); err != nil {
			t.Errorf("%s, mended: %v", c.name, err)
		}
	}
	exec(t, conn, "ALTER TABLE reading RENAME mono_ms TO mono")
	if err := s.Write(t.Context(), b); err == nil || !strings.Contains(err.Error(), "changed by hand") {
		t.Errorf("Write says %v", err)
	}
	exec(t, conn, "ALTER TABLE reading RENAME mono TO mono_ms")
	exec(t, conn, "ALTER DATABASE "+conn.Config().Database+" SET default_transaction_read_only = on")
	ro, err := postgres.Open(t.Context(), dsn, "")
	if err == nil {
		err = ro.Write(t.Context(), b)
		_ = ro.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "takes no writes") {
		t.Errorf("read only: %v", err)
	}
	if err := s.Write(t.Context(), b); err != nil {
		t.Error(err)
	}
	if n := dump(t, conn, `SELECT count(*) FROM reading`); n[0] != "50" {
		t.Errorf("%s readings", n)
	}
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/none_of_that_name"
	if _, err := postgres.Open(t.Context(), u.String(), ""); err == nil || !strings.Contains(err.Error(), "createdb") {
		t.Errorf("no such database: %v", err)
	}
	u.Host = "127.0.0.1:1"
	if _, err := postgres.Open(t.Context(), u.String(), ""); err == nil || !strings.Contains(err.Error(), "no server answers") {
		t.Errorf("no server: %v", err)
	}
}

// TestWrongPassword: the account is refused in words that say where to look, and the password is not among them.
func TestWrongPassword(t *testing.T) {
	server := sinktest.NewServer(t)
	conn := connect(t, server.DSN)
	exec(t, conn, `CREATE ROLE locked LOGIN PASSWORD 'right-one'; CREATE ROLE poor LOGIN`)
	var hba string
	if err := conn.QueryRow(t.Context(), `SHOW hba_file`).Scan(&hba); err != nil {
		t.Fatal(err)
	}
	rules, err := os.ReadFile(hba)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(hba, append([]byte("host all locked 127.0.0.1/32 scram-sha-256\n"), rules...), 0o600); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `SELECT pg_reload_conf()`)
	u, err := url.Parse(server.DSN)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		who  *url.Userinfo
		want string
	}{
		{url.UserPassword("locked", "wrong-one"), "user and password are refused"},
		{url.User("poor"), "GRANT"},
	} {
		u.User = c.who
		_, err := postgres.Open(t.Context(), u.String(), "")
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "wrong-one") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", c.who.Username(), err)
		}
	}
}

// TestReset: after it a chain is pulled from the beginning, and what is there stays as it is.
func TestReset(t *testing.T) {
	s := sinktest.Postgres(t)
	b := collector.Batch{Chain: sinktest.Chain(1, 1), To: 9, Mark: &journal.Link{Seq: 9, Hash: journal.Hash{1}}, Readings: sinktest.Rows(0, 9, 2), Received: time.Now()}
	other := b
	other.Chain = sinktest.Chain(2, 1)
	for _, b := range []collector.Batch{b, other} {
		if err := s.Sink.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Sink.(*postgres.Sink).Reset(t.Context(), b.Chain); err != nil {
		t.Fatal(err)
	}
	marks, err := s.Sink.Marks(t.Context())
	if err != nil || marks[b.Chain].Link != nil || marks[other.Chain].Link == nil {
		t.Errorf("%v, marks %v", err, marks)
	}
	if err := s.Sink.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Readings(t)); n != 40 {
		t.Errorf("%d readings", n)
	}
}

// TestLatestUsesTheIndex: the newest of each series is looked up, the table is not read.
func TestLatestUsesTheIndex(t *testing.T) {
	s := sinktest.Postgres(t)
	b := collector.Batch{Chain: sinktest.Chain(1, 1), Name: "roof", To: 99, Readings: sinktest.Rows(0, 99, 200), Received: time.Now()}
	if err := s.Sink.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	err := s.Sink.(*postgres.Sink).Query(t.Context(), func(ctx context.Context, c *pgx.Conn) error {
		if _, err := c.Exec(ctx, `ANALYZE`); err != nil {
			return err
		}
		rows, err := c.Query(ctx, `EXPLAIN SELECT * FROM latest`)
		if err != nil {
			return err
		}
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if text := strings.Join(plan, "\n"); strings.Contains(text, "Seq Scan on reading") || strings.Count(text, "reading_series") != 2 {
			t.Error(text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRoster: who says that it is there is on the list until it leaves or is silent.
func TestRoster(t *testing.T) {
	s := sinktest.Postgres(t)
	var roster collector.Roster = s.Sink.(*postgres.Sink)
	present := func(who string, within time.Duration) map[string]bool {
		t.Helper()
		here, err := roster.Present(t.Context(), who, within)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]bool{}
		for _, h := range here {
			out[h] = true
		}
		return out
	}
	present("a", time.Hour)
	if got := present("b", time.Hour); len(got) != 2 || !got["a"] || !got["b"] {
		t.Errorf("here are %v", got)
	}
	if got := present("b", time.Nanosecond); got["a"] {
		t.Errorf("a said nothing for longer than a nanosecond and is here: %v", got)
	}
	if err := roster.Absent(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if got := present("b", time.Hour); len(got) != 1 {
		t.Errorf("here are %v", got)
	}
}
