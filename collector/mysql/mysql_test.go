// SPDX-License-Identifier: Apache-2.0

package mysql_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/mysql"
	"github.com/streembit/edge/collector/sinktest"
)

func open(ctx context.Context, dsn, _ string) (collector.Sink, error) {
	return mysql.Open(ctx, dsn, "")
}

func TestChild(t *testing.T) { sinktest.Child(t, open) }

func TestContract(t *testing.T) { sinktest.Run(t, sinktest.MySQL(sinktest.MariaDB(t))) }

// TestRemote: the same as of servers without transactions, and more: nothing twice.
func TestRemote(t *testing.T) {
	server := sinktest.MariaDB(t)
	sinktest.RunRemote(t, func(t testing.TB) sinktest.Remote {
		dsn := sinktest.MySQLDatabase(t, server)
		return sinktest.Remote{Server: server, Addr: dsn, Open: open, Once: true, Holds: true, Got: func(t testing.TB) (out []sinktest.Delivered) {
			for _, r := range sinktest.MySQLQuery(t, dsn, `SELECT c.device || '/' || c.stream || '/' || c.incarnation || '/' || r.seq || '/' || r.idx,
				coalesce(r.vs, CASE WHEN r.vb IS NULL THEN CAST(r.v AS CHAR) WHEN r.vb THEN 'true' ELSE 'false' END),
				coalesce(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', r.ts) DIV 1000, 0), r.v FROM reading r JOIN chain c ON c.id = r.chain`) {
				d := sinktest.Delivered{ID: r[0].(string), Value: fmt.Sprint(r[1]), Wall: r[2].(int64)}
				if r[3] != nil {
					d.Value = fmt.Sprint(r[3])
				}
				out = append(out, d)
			}
			return out
		}}
	})
}

// TestOpenTogether: collectors that start at the same time make the tables once; views and names of people work.
func TestOpenTogether(t *testing.T) {
	dsn := sinktest.MySQLDatabase(t, sinktest.MariaDB(t))
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			s, err := mysql.Open(t.Context(), dsn, "")
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s, err := mysql.Open(t.Context(), dsn, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := collector.Batch{Chain: sinktest.Chain(1, 1), Name: `o'Brien \ "rö\of"`, Readings: sinktest.Rows(0, 0, 5), Received: time.Now()}
	if err := s.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	for view, want := range map[string]int{"readings": 5, "latest": 1, "hourly": 1} {
		rows := sinktest.MySQLQuery(t, dsn, "SELECT device_name FROM "+view)
		if len(rows) != want || rows[0][0] != b.Name {
			t.Errorf("%s: %v", view, rows)
		}
	}
}

// TestErrors: each says what to do, and none shows the password.
func TestErrors(t *testing.T) {
	server := sinktest.MariaDB(t)
	dsn := sinktest.MySQLDatabase(t, server)
	name := dsn[strings.LastIndex(dsn, "/")+1:]
	root := "root@tcp(" + server.Addr + ")/"
	for _, q := range []string{"CREATE USER reader@'127.0.0.1' IDENTIFIED BY 'right-one'", "GRANT SELECT ON *.* TO reader@'127.0.0.1'", "CREATE DATABASE older",
		"CREATE TABLE older.schema_version (version int)", "INSERT INTO older.schema_version VALUES (99)"} {
		sinktest.MySQLQuery(t, root, q)
	}
	at := "@tcp(" + server.Addr + ")/"
	for _, c := range []struct{ dsn, password, want string }{
		{"root@tcp(127.0.0.1:1)/x", "", "check that the server runs"},
		{"reader" + at + name, "wrong-one", "check user and password"},
		{"reader:wrong-one" + at + name, "right-one", "GRANT ALL"},
		{root + "nowhere", "", "CREATE DATABASE"},
		{root, "", "names no database"},
		{"root:wrong-one@tcp(", "", "want one like"},
		{root + "older", "", "version 99"},
	} {
		_, err := mysql.Open(t.Context(), c.dsn, c.password)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "-one") {
			t.Errorf("%s: %v, want %q", c.dsn, err, c.want)
		}
	}
	s, err := mysql.Open(t.Context(), dsn, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	sinktest.MySQLQuery(t, dsn, "ALTER TABLE reading DROP COLUMN unit")
	b := collector.Batch{Chain: sinktest.Chain(1, 1), Readings: sinktest.Rows(0, 0, 5), Received: time.Now()}
	if err := s.Write(t.Context(), b); err == nil || !strings.Contains(err.Error(), "unit") {
		t.Errorf("a schema changed by hand: %v", err)
	}
}

// BenchmarkWrite reports readings committed per second, 10 000 a batch.
func BenchmarkWrite(b *testing.B) {
	sinktest.Bench(b, sinktest.MySQL(sinktest.MariaDB(b))(b).Sink)
}
