// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector/sinktest"
	"github.com/streembit/edge/collector/sqlite"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/test/swarm"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
)

// kills is how often a collector is killed before it may finish.
const kills = 8

// readingsSQL is the same in both databases.
const readingsSQL = `SELECT c.device || '/' || c.stream || '/' || c.incarnation, r.seq, r.idx, r.v, r.vs, r.vb FROM %[1]sreading r JOIN %[1]schain c ON c.id = r.chain`

// scanned is one row of readingsSQL.
type scanned struct {
	chain    string
	seq, idx int64
	v        *float64
	vs       *string
	vb       *bool
}

func (r *scanned) place() string { return fmt.Sprintf("%s/%d/%d", r.chain, r.seq, r.idx) }

// valueText shows the one value that is set, exactly.
func valueText(v *float64, vs *string, vb *bool) string {
	switch {
	case v != nil && vs == nil && vb == nil:
		return strconv.FormatFloat(*v, 'g', -1, 64)
	case vs != nil && v == nil && vb == nil:
		return strconv.Quote(*vs)
	case vb != nil && v == nil && vs == nil:
		return strconv.FormatBool(*vb)
	}
	return "not exactly one value"
}

// database is what a collector writes to: the sink of its config, and how to read it without our code.
type database struct {
	sink  string
	each  func(t *testing.T, visit func(*scanned))
	count func(t *testing.T) int // 0 while the tables are not there
}

// rows returns the values by place and fails when a place comes twice.
func (d database) rows(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	d.each(t, func(r *scanned) {
		if _, twice := out[r.place()]; twice {
			t.Errorf("%s stands twice in the database", r.place())
		}
		out[r.place()] = valueText(r.v, r.vs, r.vb)
	})
	return out
}

// postgresDatabase is a schema of its own, dropped at the end.
func postgresDatabase(t *testing.T) database {
	t.Helper()
	dsn := sinktest.PostgresDSN(t)
	schema := "streembit_e2e_" + strings.ToLower(rand.Text()[:12])
	conn, err := pgx.Connect(t.Context(), dsn)
	must(t, err)
	t.Cleanup(func() {
		if _, err := conn.Exec(context.Background(), "DROP SCHEMA IF EXISTS "+schema+" CASCADE"); err != nil {
			t.Error(err)
		}
		_ = conn.Close(context.Background()) // nothing hangs on it any more
	})
	return database{
		sink: fmt.Sprintf("kind = \"postgres\"\ndsn = %q\nschema = %q\n", dsn, schema),
		each: func(t *testing.T, visit func(*scanned)) {
			t.Helper()
			rows, err := conn.Query(t.Context(), fmt.Sprintf(readingsSQL, schema+"."))
			must(t, err)
			for rows.Next() {
				var r scanned
				must(t, rows.Scan(&r.chain, &r.seq, &r.idx, &r.v, &r.vs, &r.vb))
				visit(&r)
			}
			must(t, rows.Err())
		},
		count: func(t *testing.T) (n int) {
			t.Helper()
			var there bool
			must(t, conn.QueryRow(t.Context(), "SELECT to_regclass($1) IS NOT NULL", schema+".reading").Scan(&there))
			if there {
				must(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM "+schema+".reading").Scan(&n))
			}
			return n
		},
	}
}

func sqliteDatabase(t *testing.T) database {
	path := filepath.Join(t.TempDir(), "readings.db")
	return database{
		sink: fmt.Sprintf("kind = \"sqlite\"\npath = %q\n", path),
		each: func(t *testing.T, visit func(*scanned)) {
			t.Helper()
			db, err := sqlite.OpenRead(path)
			must(t, err)
			defer func() { must(t, db.Close()) }()
			rows, err := db.QueryContext(t.Context(), fmt.Sprintf(readingsSQL, ""))
			must(t, err)
			defer rows.Close()
			for rows.Next() {
				var r scanned
				must(t, rows.Scan(&r.chain, &r.seq, &r.idx, &r.v, &r.vs, &r.vb))
				visit(&r)
			}
			must(t, rows.Err())
		},
		count: func(t *testing.T) (n int) {
			t.Helper()
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				return 0
			}
			db, err := sqlite.OpenRead(path)
			must(t, err)
			defer func() { must(t, db.Close()) }()
			var tables int
			must(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM sqlite_master WHERE name = 'reading'").Scan(&tables))
			if tables > 0 {
				must(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM reading").Scan(&n))
			}
			return n
		},
	}
}

const bulkReadings = 12_000 // more than a collector commits at once

// bulk publishes one more chain of the device's: readings enough that writing them takes a while.
func bulk(t *testing.T, s *swarm.Swarm, readings int) {
	t.Helper()
	const each = 1000
	key, err := fleet.LoadKey(filepath.Join(s.Device.State, "key.pem"))
	must(t, err)
	now := func() *fleet.Fleet { return s.Fleet }
	node, err := p2p.New(t.Context(), p2p.Options{Signer: key, Fleet: now})
	must(t, err)
	defer func() { must(t, node.Close()) }()
	publisher := transport.NewPublisher(node, now)
	defer publisher.Close()
	w, err := journal.NewWriter(s.Fleet.ID(), "main", key)
	must(t, err)
	readers, err := s.Fleet.Readers(key.ID(), "main")
	must(t, err)
	start := time.Now().UnixMilli()
	seg, err := w.Epoch(readers, nil, journal.Stamp{Boot: journal.BootID{1}, At: edge.Instant{Mono: 1, Wall: start}})
	for i := 0; ; i++ {
		must(t, err)
		must(t, w.Commit(seg))
		_, err = publisher.Publish(t.Context(), seg, nil)
		must(t, err)
		if i == readings/each {
			return
		}
		seg, err = w.Readings(journal.BootID{1}, someReadings(each, int64(i*each), start))
	}
}

func someReadings(n int, from, wall int64) []edge.Reading {
	out := make([]edge.Reading, 0, n)
	for i := range int64(n) {
		at := edge.Instant{Mono: from + i + 1, Wall: wall + from + i}
		r := edge.Reading{Sensor: "many", At: at, Sample: edge.Sample{Quantity: edge.Quantity{Name: "temperature", Unit: "Cel"}, Value: mathrand.NormFloat64()}}
		switch i % 10 {
		case 0:
			r.Sample = edge.Sample{Quantity: edge.Quantity{Name: "contact", Kind: edge.State}, Value: float64(i / 10 % 2)}
		case 1:
			r.Sample = edge.Sample{Quantity: edge.Quantity{Name: "label", Kind: edge.Text}, Text: fmt.Sprintf("%d: it's \"ü\"\t\\N", i)}
		}
		out = append(out, r)
	}
	return out
}

// pulledValues returns what streembit pull gives, by place.
func pulledValues(t *testing.T, s *swarm.Swarm) map[string]string {
	t.Helper()
	out, stderr, code := s.Run("streembit", "pull", "all", "--state", s.Reader.State, "--format", "jsonl")
	if code != 0 {
		t.Fatalf("pull exited with %d: %s", code, stderr)
	}
	rows := map[string]string{}
	for line := range strings.Lines(out) {
		var r struct {
			ID string   `json:"id"`
			V  *float64 `json:"v"`
			VS *string  `json:"vs"`
			VB *bool    `json:"vb"`
		}
		must(t, json.Unmarshal([]byte(line), &r))
		rows[r.ID] = valueText(r.V, r.VS, r.VB)
	}
	return rows
}

// A collector that is killed at random moments, again and again, and then may finish has written exactly what a pull
// gives: no reading is missing, none is there twice, none differs.
func TestCollectorKilled(t *testing.T) {
	s := swarm.New(t, 3, swarm.FastSensors)
	s.Start(s.Hubs...)
	s.Start(s.Device)
	s.AwaitReceipts(5)
	s.Kill(s.Device)
	s.Kill(s.Hubs[0]) // the one on the other site is needed, a quorum spans both
	rows, stderr, code := pullAll(t, s)
	if code != 0 {
		t.Fatalf("pull exited with %d: %s", code, stderr)
	}
	requireAll(t, s.Receipts(), rows)
	bulk(t, s, 3*bulkReadings)
	total := len(rows) + 3*bulkReadings
	t.Run("SQLite", func(t *testing.T) { killCollector(t, s, sqliteDatabase(t), &total) })
	t.Run("PostgreSQL", func(t *testing.T) { killCollector(t, s, postgresDatabase(t), &total) })
}

// killCollector kills collectors and holds what they wrote against a pull. total is the number of published readings.
func killCollector(t *testing.T, s *swarm.Swarm, db database, total *int) {
	config := filepath.Join(t.TempDir(), "collect.toml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, "state = %q\n[sink]\n%s", s.Reader.State, db.sink), 0o600))
	before := 0
	whole := 600 * time.Millisecond // what a run takes; learnt from those that end before they are killed
	for round, killed, writing := 0, 0, 0; killed < kills || writing < 2; round++ {
		if round == 20*kills { // when a kill falls into the writing is chance
			t.Fatalf("%d kills in %d rounds, %d of them in the middle of the writing: too little is shown", killed, round, writing)
		}
		if before == *total { // something new to write
			bulk(t, s, bulkReadings)
			*total += bulkReadings
		}
		at := mathrand.N(whole)
		took, died := collectFor(t, config, at)
		n := db.count(t)
		switch {
		case !died:
			whole = took
		case n == before: // perhaps it always dies too early
			whole += whole / 4
			fallthrough
		default:
			killed++
		}
		if died && n > before && n < *total {
			writing++
		}
		t.Logf("killed %v after %s: %d of %d readings in the database", died, min(at, took).Round(time.Millisecond), n, *total)
		before = n
	}
	if _, died := collectFor(t, config, 2*time.Minute); died {
		t.Fatal("the last run did not end")
	}
	want, got := pulledValues(t, s), db.rows(t)
	if len(want) != *total {
		t.Errorf("pulled %d readings, want %d", len(want), *total)
	}
	requireEqualSets(t, want, got)
}

// collectFor runs a collector that is killed after a time unless it has ended by itself, which must be well.
func collectFor(t *testing.T, config string, d time.Duration) (took time.Duration, died bool) {
	t.Helper()
	cmd := exec.Command(swarm.Program(t, "streembit"), "collect", "run", "--once", "--config", config)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	must(t, cmd.Start())
	kill := time.AfterFunc(d, func() { _ = cmd.Process.Kill() }) // it may have ended just now
	err := cmd.Wait()
	kill.Stop()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == -1 {
		return time.Since(began), true
	}
	if err != nil {
		t.Fatalf("collect: %v: %s", err, out.String())
	}
	return time.Since(began), false
}

func requireEqualSets(t *testing.T, want, got map[string]string) {
	t.Helper()
	wrong := 0
	for place, w := range want {
		if g, ok := got[place]; !ok || g != w {
			if wrong++; wrong <= 10 {
				t.Errorf("%s: the database has %q, pulled was %q", place, g, w)
			}
		}
	}
	for place, g := range got {
		if _, ok := want[place]; !ok {
			if wrong++; wrong <= 10 {
				t.Errorf("%s: the database has %q, which was not pulled", place, g)
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d readings of %d differ", wrong, len(want))
	}
}
