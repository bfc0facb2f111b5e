// SPDX-License-Identifier: Apache-2.0

// Package sinktest holds the contract suites that every collector sink passes (Run for databases, RunRemote for all servers, with kills), the
// databases to run them on (SQLite, Postgres, MySQL), and what starts servers for tests.
package sinktest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/mysql"
	"github.com/streembit/edge/collector/postgres"
	"github.com/streembit/edge/collector/sqlite"
)

// Reading is a row of table reading as a database holds it.
type Reading struct {
	Chain        string // journal.Chain.String
	Seq, Idx     int64
	Sensor, Name string
	Unit, Clock  string
	TS           int64 // ms since 1970 UTC; -1 where the column is NULL
	Mono         int64
	Value        string // of v, vs or vb, as fmt.Sprint shows it
}

// Gap is a row of table gap.
type Gap struct {
	Chain             string
	First, Last       int64
	Reason, Explained string
	Closed            bool
}

// Subject is a sink on a fresh database, and a way to look into it.
type Subject struct {
	Sink    collector.Sink
	Reopen  func(t testing.TB) collector.Sink // a second sink on the same database, as another process has
	NULText bool                              // can hold a NUL character
	Where   string                            // path or DSN
	query   func(t testing.TB, sql string) [][]any
	millis  string // SQL that turns column ts into ms
}

// SQLite opens a sink on a file in a temporary folder.
func SQLite(t testing.TB) Subject {
	t.Helper()
	return SQLiteAt(t, filepath.Join(t.TempDir(), "readings ü?%.db")) // a name that must not be taken for a URL
}

// SQLiteAt opens a sink on a file.
func SQLiteAt(t testing.TB, path string) Subject {
	t.Helper()
	reopen := func(t testing.TB) collector.Sink {
		t.Helper()
		s, err := sqlite.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() }) // the test may have closed it
		return s
	}
	sink := reopen(t)
	query := func(t testing.TB, q string) [][]any {
		t.Helper()
		db, err := sqlite.OpenRead(path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		rows, err := db.QueryContext(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		return scanAll(t, rows)
	}
	return Subject{Sink: sink, Reopen: reopen, NULText: true, Where: path, query: query, millis: "r.ts"}
}

// PostgresDSN returns the database to test on: STREEMBIT_TEST_POSTGRES, or a local server. Without one the test is
// skipped, or fails where CI is true.
func PostgresDSN(t testing.TB) string {
	t.Helper()
	dsn := os.Getenv("STREEMBIT_TEST_POSTGRES")
	if dsn == "" {
		dsn = "postgres://postgres@127.0.0.1:5432/test?sslmode=disable"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err == nil {
		_ = conn.Close(ctx) // it answered, that is all we want to know
		return dsn
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("no PostgreSQL to test on (set STREEMBIT_TEST_POSTGRES): %v", err)
	}
	t.Skipf("SKIPPED, NOT TESTED: no PostgreSQL answers (set STREEMBIT_TEST_POSTGRES to a DSN): %v", err)
	return ""
}

// NewDatabase makes a database on the server of PostgresDSN, which is dropped when the test ends, and returns its address.
func NewDatabase(t testing.TB) string {
	t.Helper()
	dsn := PostgresDSN(t)
	name := "streembit_test_" + strings.ToLower(rand.Text()[:10])
	admin := func(query string) {
		t.Helper()
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, dsn)
		if err == nil {
			_, err = conn.Exec(ctx, query)
			err = errors.Join(err, conn.Close(ctx))
		}
		if err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
	admin("CREATE DATABASE " + name)
	t.Cleanup(func() { admin("DROP DATABASE " + name + " WITH (FORCE)") })
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

// Postgres opens a sink on a schema of its own, which is dropped when the test ends. Where is the schema's name.
func Postgres(t testing.TB) Subject {
	t.Helper()
	return postgresAt(t, PostgresDSN(t), "Streembit test "+rand.Text()[:12], true)
}

// PostgresAt opens a sink on a schema of a server, which stays when the test ends.
func PostgresAt(t testing.TB, dsn, schema string) Subject {
	t.Helper()
	return postgresAt(t, dsn, schema, false)
}

func postgresAt(t testing.TB, dsn, schema string, drop bool) Subject {
	t.Helper()
	open := func(t testing.TB) *postgres.Sink {
		t.Helper()
		s, err := postgres.Open(t.Context(), dsn, schema)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	sink := open(t)
	t.Cleanup(func() {
		if drop {
			if err := sink.Drop(context.Background()); err != nil {
				t.Error(err)
			}
		}
		_ = sink.Close() // never fails
	})
	reopen := func(t testing.TB) collector.Sink {
		s := open(t)
		t.Cleanup(func() { _ = s.Close() }) // never fails
		return s
	}
	query := func(t testing.TB, q string) (out [][]any) {
		t.Helper()
		err := sink.Query(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
			rows, err := conn.Query(ctx, q)
			if err != nil {
				return err
			}
			out, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	return Subject{Sink: sink, Reopen: reopen, Where: schema, query: query, millis: "(extract(epoch FROM r.ts) * 1000)::bigint"}
}

// MySQL returns a way to open sinks, each on a database of its own of a server.
func MySQL(server *Daemon) func(t testing.TB) Subject {
	return func(t testing.TB) Subject {
		t.Helper()
		dsn := MySQLDatabase(t, server)
		reopen := func(t testing.TB) collector.Sink {
			t.Helper()
			s, err := mysql.Open(t.Context(), dsn, "")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() }) // the test may have closed it
			return s
		}
		sink := reopen(t)
		query := func(t testing.TB, q string) [][]any { return MySQLQuery(t, dsn, q) }
		return Subject{Sink: sink, Reopen: reopen, NULText: true, Where: dsn, query: query,
			millis: "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', r.ts) DIV 1000)"}
	}
}

// MySQLDatabase makes a database and returns its DSN.
func MySQLDatabase(t testing.TB, server *Daemon) string {
	t.Helper()
	name := "t" + rand.Text()[:12]
	MySQLQuery(t, "root@tcp("+server.Addr+")/", "CREATE DATABASE "+name)
	return "root@tcp(" + server.Addr + ")/" + name
}

// MySQLQuery runs a query in which || joins texts, and returns its rows.
func MySQLQuery(t testing.TB, dsn, q string) (out [][]any) {
	t.Helper()
	cfg, err := driver.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Params, cfg.InterpolateParams = map[string]string{"sql_mode": "'ANSI'"}, false
	connector, err := driver.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	stmt, err := db.PrepareContext(t.Context(), q) // the answer to a prepared statement is typed
	if err != nil {
		t.Fatal(err)
	}
	defer stmt.Close()
	rows, err := stmt.QueryContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	return scanAll(t, rows)
}

// scanAll reads rows; texts are strings.
func scanAll(t testing.TB, rows *sql.Rows) (out [][]any) {
	t.Helper()
	cols, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		vals := make([]any, len(cols))
		ptrs := make([]any, len(cols))
		for i := range vals {
			ptrs[i] = &vals[i]
		}
		if err := rows.Scan(ptrs...); err != nil {
			t.Fatal(err)
		}
		for i, v := range vals {
			if b, ok := v.([]byte); ok {
				vals[i] = string(b)
			}
		}
		out = append(out, vals)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// Readings returns table reading in the order of chains and places.
func (s Subject) Readings(t testing.TB) []Reading {
	t.Helper()
	rows := s.query(t, `SELECT c.device || '/' || c.stream || '/' || c.incarnation AS chain_name, r.seq, r.idx, r.sensor, r.name, r.unit, r.clock,
		coalesce(`+s.millis+`, -1), r.mono_ms, r.v, r.vs, r.vb
		FROM reading r JOIN chain c ON c.id = r.chain ORDER BY chain_name, r.seq, r.idx`)
	out := make([]Reading, 0, len(rows))
	for _, r := range rows {
		out = append(out, Reading{Chain: r[0].(string), Seq: whole(r[1]), Idx: whole(r[2]), Sensor: r[3].(string), Name: r[4].(string),
			Unit: r[5].(string), Clock: r[6].(string), TS: whole(r[7]), Mono: whole(r[8]), Value: value(t, r[9:])})
	}
	return out
}

// value shows the one of v, vs, vb that is set.
func value(t testing.TB, cols []any) string {
	t.Helper()
	out, set := "", 0
	for i, c := range cols {
		if c == nil {
			continue
		}
		set++
		if n, ok := c.(int64); ok && i == 2 {
			c = n != 0
		}
		out = fmt.Sprint(c)
	}
	if set != 1 {
		t.Errorf("a reading has %d values: %v", set, cols)
	}
	return out
}

func whole(v any) int64 {
	switch n := v.(type) {
	case int64:
		return n
	case int32:
		return int64(n)
	}
	return -2
}

// Gaps returns table gap in the order of chains and seqs.
func (s Subject) Gaps(t testing.TB) []Gap {
	t.Helper()
	var out []Gap
	for _, r := range s.query(t, `SELECT c.device || '/' || c.stream || '/' || c.incarnation AS chain_name, g.first_seq, g.last_seq, g.reason, g.explained,
		CASE WHEN g.closed IS NULL THEN 'open' ELSE 'closed' END FROM gap g JOIN chain c ON c.id = g.chain ORDER BY chain_name, g.first_seq`) {
		out = append(out, Gap{r[0].(string), whole(r[1]), whole(r[2]), r[3].(string), r[4].(string), r[5].(string) == "closed"})
	}
	return out
}

// Count returns the result of a SELECT count(*).
func (s Subject) Count(t testing.TB, query string) int64 {
	t.Helper()
	return whole(s.query(t, query)[0][0])
}
