// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/collector/sqlite"
)

// place is where a segment stands.
type place struct {
	chain string
	seq   uint64
}

// compare holds what a device noted as published against the readings in a collector's database: segment by segment, and where the collector's
// proof of a chain ends also by hash. A reading is received twice if it stands in two incarnations: one place of a chain has room for one only, and
// a sensor that is read late may well be read again within the millisecond.
func compare(t testing.TB, notes []agent.ReceiptNote, db string) outcome {
	t.Helper()
	l := openLedger(t, db)
	defer l.close(t)
	held := map[place]int{}
	l.each(t, func(scan func(...any) error) error {
		var p place
		var n int
		err := scan(&p.chain, &p.seq, &n)
		held[p] = n
		return err
	}, `SELECT c.device || '/' || c.stream || '/' || c.incarnation, r.seq, count(*) FROM reading r JOIN chain c ON c.id = r.chain GROUP BY 1, 2`)
	tips := map[place]string{}
	l.each(t, func(scan func(...any) error) error {
		var p place
		var hash string
		err := scan(&p.chain, &p.seq, &hash)
		tips[p] = hash
		return err
	}, `SELECT c.device || '/' || c.stream || '/' || c.incarnation, p.seq, lower(hex(p.hash)) FROM checkpoint p JOIN chain c ON c.id = p.chain`)

	o := outcome{twice: l.count(t, `SELECT coalesce(sum(n - 1), 0) FROM
		(SELECT count(DISTINCT chain) n FROM reading GROUP BY device, sensor, name, boot, mono_ms)`)}
	for p, n := range published(t, notes) {
		o.published += int(n.Readings)
		got := min(held[p], int(n.Readings))
		o.received += got
		if o.lost += int(n.Readings) - got; held[p] > int(n.Readings) {
			t.Errorf("%s seq %d was published with %d readings, %d are in the database", p.chain, p.seq, n.Readings, held[p])
		}
		if hash, ok := tips[p]; ok && hash != n.Hash {
			t.Errorf("%s seq %d was published as %s, the collector's chain ends there with %s", p.chain, p.seq, n.Hash, hash)
		}
	}
	if n := l.count(t, `SELECT count(*) FROM fork`); n > 0 {
		t.Errorf("the collector saw %d forks", n)
	}
	return o
}

// published returns the notes by place. A segment may be noted twice, but never two segments in one place.
func published(t testing.TB, notes []agent.ReceiptNote) map[place]agent.ReceiptNote {
	t.Helper()
	all := map[place]agent.ReceiptNote{}
	for _, n := range notes {
		p := place{n.Chain, n.Seq}
		if old, ok := all[p]; ok && old.Hash != n.Hash {
			t.Errorf("FORK: the device published %s seq %d as %s and as %s", n.Chain, n.Seq, old.Hash, n.Hash)
		}
		all[p] = n
	}
	return all
}

// readingsOf counts the readings of notes.
func readingsOf(t testing.TB, notes []agent.ReceiptNote) (n int) {
	t.Helper()
	for _, note := range published(t, notes) {
		n += int(note.Readings)
	}
	return n
}

// ledger is a collector's database.
type ledger struct{ db *sql.DB }

func openLedger(t testing.TB, path string) ledger {
	t.Helper()
	db, err := sqlite.OpenRead(path)
	check(t, err)
	return ledger{db}
}

func (l ledger) close(t testing.TB) { check(t, l.db.Close()) }

func (l ledger) count(t testing.TB, query string) (n int) {
	t.Helper()
	check(t, l.db.QueryRowContext(t.Context(), query).Scan(&n))
	return n
}

func (l ledger) each(t testing.TB, row func(scan func(...any) error) error, query string) {
	t.Helper()
	rows, err := l.db.QueryContext(t.Context(), query)
	check(t, err)
	for rows.Next() {
		check(t, row(rows.Scan))
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		t.Fatal(fmt.Errorf("reading the database: %w", err))
	}
}
