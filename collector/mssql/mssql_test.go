// SPDX-License-Identifier: Apache-2.0

package mssql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/sinktest"
	"github.com/streembit/edge/journal"
)

var update = flag.Bool("update", false, "write the golden file anew")

// script is a driver that writes down what it is asked and answers queries from a list: there is no server to run this on.
type script struct {
	mu      sync.Mutex
	said    []string
	answers map[string][][]driver.Value // by a part of the query; each answer once
}

func (s *script) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, fmt.Sprintf(format, args...))
}

func (s *script) answer(query string) [][]driver.Value {
	s.mu.Lock()
	defer s.mu.Unlock()
	for part, rows := range s.answers {
		if strings.Contains(query, part) && len(rows) > 0 {
			s.answers[part] = rows[1:]
			return rows[:1]
		}
	}
	return nil
}

func (s *script) Connect(context.Context) (driver.Conn, error) { return &conn{s}, nil }
func (s *script) Driver() driver.Driver                        { return nil }

type conn struct{ s *script }

func (c *conn) Prepare(q string) (driver.Stmt, error) {
	c.s.say("prepare %s", q)
	return &stmt{c.s, q}, nil
}
func (c *conn) Close() error              { return nil }
func (c *conn) Begin() (driver.Tx, error) { return nil, errors.New("not used") }
func (c *conn) BeginTx(_ context.Context, o driver.TxOptions) (driver.Tx, error) {
	c.s.say("BEGIN, isolation %d", o.Isolation)
	return tx{c.s}, nil
}

type tx struct{ s *script }

func (t tx) Commit() error   { t.s.say("COMMIT"); return nil }
func (t tx) Rollback() error { t.s.say("ROLLBACK"); return nil }

type stmt struct {
	s *script
	q string
}

func (s *stmt) Close() error  { return nil }
func (s *stmt) NumInput() int { return -1 }
func (s *stmt) Exec(args []driver.Value) (driver.Result, error) {
	s.s.say("exec %v", args)
	return driver.RowsAffected(1), nil
}
func (s *stmt) Query(args []driver.Value) (driver.Rows, error) {
	s.s.say("query %v", args)
	return &rows{s.s.answer(s.q)}, nil
}

type rows struct{ left [][]driver.Value }

func (r *rows) Columns() []string {
	if len(r.left) == 0 {
		return []string{"none"}
	}
	return make([]string, len(r.left[0]))
}
func (r *rows) Close() error { return nil }
func (r *rows) Next(out []driver.Value) error {
	if len(r.left) == 0 {
		return io.EOF
	}
	copy(out, r.left[0])
	r.left = r.left[1:]
	return nil
}

// batch is one of everything that a batch can hold.
func batch() collector.Batch {
	at := time.UnixMilli(1_700_000_500_000).UTC()
	b := collector.Batch{Chain: sinktest.Chain(1, 1), Name: "o'Brien", From: 5, To: 9, Mark: &journal.Link{Seq: 9}, Received: at, Readings: sinktest.Rows(5, 5, 2),
		Gaps: []collector.Gap{{First: 6, Last: 7, Reason: "lost", Found: at}}, Forks: []collector.Fork{{Seq: 3, Proof: journal.Fork{A: []byte{1}, B: []byte{2}}}},
		Notes: []collector.Note{{Seq: 8, Clock: &journal.ClockNote{Boot: journal.BootID{9}, Mono: 5, Wall: 1_700_000_000_005}},
			{Seq: 8, Gap: &journal.GapNote{Reason: journal.GapQuota, From: 1, To: 2, Segments: 2, Readings: 20}},
			{Seq: 9, After: &journal.Continuation{Last: journal.Link{Seq: 4}}}}}
	b.Readings[1].At.Wall = 0
	b.Readings = append(b.Readings, collector.Row{Seq: 9, Reading: edge.Reading{Sensor: "s", Sample: edge.Sample{Quantity: edge.Quantity{Name: "log", Kind: edge.Text}, Text: "x'y"}}},
		collector.Row{Seq: 9, Index: 1, Reading: edge.Reading{Sensor: "s", Sample: edge.Sample{Quantity: edge.Quantity{Name: "door", Kind: edge.State}, Value: 1}}})
	return b
}

// TestSQL: all that is said to a server, from the tables to a batch that holds one of everything, is testdata/session.sql.
func TestSQL(t *testing.T) {
	s := &script{answers: map[string][][]driver.Value{"COUNT(*)": {{int64(0)}}, "MAX(version)": {{int64(1)}}, "SELECT id FROM": {{int64(42)}},
		"SELECT seq, hash": {{int64(4), make([]byte, 32)}}, "SELECT TOP 1": {{int64(5), time.UnixMilli(1_700_000_000_005)}},
		"SELECT chain, first_seq": {{int64(42), int64(8), int64(20), "lost", "", time.UnixMilli(0), make([]byte, 32), make([]byte, 32)}}}}
	sink, err := open(t.Context(), sql.OpenDB(s), "me@db/readings", "our ]schema")
	if err != nil {
		t.Fatal(err)
	}
	if err := sink.Write(t.Context(), batch()); err != nil {
		t.Fatal(err)
	}
	if err := sink.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := sink.Marks(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(s.said, "\n") + "\n"
	const path = "testdata/session.sql"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant %s", got, path)
	}
	lint(t, s.said)
}

// lint finds what a server would refuse: brackets that do not match, other databases' words, parameters that are not given.
func lint(t *testing.T, said []string) {
	foreign := regexp.MustCompile(`(?i)ON CONFLICT|ON DUPLICATE|\bLIMIT\b|\|\||::|IF NOT EXISTS |\bboolean\b|\btext\b|timestamptz|\?|@\.`)
	param := regexp.MustCompile(`@p(\d+)`)
	for i, q := range said {
		q, ok := strings.CutPrefix(q, "prepare ")
		if !ok || strings.HasPrefix(q, "INSERTBULK") {
			continue
		}
		if word := foreign.FindString(q); word != "" {
			t.Errorf("%q in %s", word, q)
		}
		bare := regexp.MustCompile(`'[^']*'|\[([^\]]|\]\])*\]|--[^\n]*`).ReplaceAllString(q, "")
		if strings.Count(bare, "(") != strings.Count(bare, ")") || strings.ContainsAny(bare, "'[]\"") {
			t.Errorf("brackets or quotes do not match in %s", q)
		}
		most := 0
		for _, m := range param.FindAllStringSubmatch(q, -1) {
			var n int
			if _, err := fmt.Sscan(m[1], &n); err != nil {
				t.Fatal(err)
			}
			most = max(most, n)
		}
		if given := len(strings.Fields(strings.Trim(args(said[i+1]), "[]"))); most > 0 && given < most {
			t.Errorf("%d parameters, %d given: %s", most, given, q)
		}
		if strings.Contains(q, "#incoming") && strings.HasPrefix(q, "CREATE") && most > 0 {
			t.Errorf("a temporary table that is made with parameters ends with the statement: %s", q)
		}
	}
}

func args(said string) string { _, rest, _ := strings.Cut(said, " "); return rest }

// TestPoison: what SQL Server cannot hold is named.
func TestPoison(t *testing.T) {
	for _, r := range []edge.Sample{{Value: math.SmallestNonzeroFloat64}, {Value: math.NaN()}, {Quantity: edge.Quantity{Kind: edge.Text}, Text: "a\x00b"}} {
		b := batch()
		r.Name = "x"
		b.Readings[1].Sample = r
		var p *collector.PoisonError
		if err := check(&b); !errors.As(err, &p) || p.Seq != 5 || p.Index != 1 {
			t.Errorf("%v: %v", r, err)
		}
	}
	b := batch()
	if err := check(&b); err != nil {
		t.Error(err)
	}
}

// TestOpenRefuses: no error shows the password.
func TestOpenRefuses(t *testing.T) {
	for dsn, want := range map[string]string{"sqlserver://me:secret-x@127.0.0.1:1?database=d&dial+timeout=1": "check that the server runs", "sqlserver://me:secret-x@db": "want one like",
		"::secret-x": "want one like"} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		_, err := Open(ctx, dsn, "", "")
		cancel()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret-x") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
