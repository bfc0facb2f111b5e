// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/collector/sqlite"
)

// ledger asks the demo's database what is in it, in SQL.
type ledger struct {
	place   string // for people: where the database is
	example string // a command to look into it
	close   func() error
	// query calls row for each row of a SELECT.
	query func(ctx context.Context, row func(scan func(...any) error) error, query string, args ...any) error
	// noted makes the relation noted(chain, seq, readings, hash) out of a JSON array that is the first argument.
	noted string
	// hash shows checkpoint.hash as hexadecimal digits.
	hash string
}

func (d *demo) openLedger(ctx context.Context) (*ledger, error) {
	if d.sink == sinkPostgres {
		return openPostgres(ctx, d.dsn, d.schema)
	}
	return openSQLite(d.database())
}

func openSQLite(path string) (*ledger, error) {
	db, err := sqlite.OpenRead(path)
	if err != nil {
		return nil, err
	}
	return &ledger{
		place:   path,
		example: fmt.Sprintf(`sqlite3 -header -column %s "SELECT * FROM latest"`, cli.Quote(path)),
		close:   db.Close,
		query: func(ctx context.Context, row func(func(...any) error) error, query string, args ...any) error {
			return each(ctx, db, row, query, args...)
		},
		noted: `SELECT value->>'chain' AS chain, value->>'seq' AS seq, value->>'readings' AS readings, value->>'hash' AS hash FROM json_each($1)`,
		hash:  `lower(hex(hash))`,
	}, nil
}

func each(ctx context.Context, db *sql.DB, row func(func(...any) error) error, query string, args ...any) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

// count is how the database and the receipts agree.
type count struct {
	pulled int       // readings in the database of the noted segments
	beyond int       // readings in the database of other segments
	absent []receipt // noted segments of which the database has not exactly the readings noted
	forged []receipt // noted segments that end a pulled chain with another hash
}

// count joins the readings with the receipts, segment by segment.
func (l *ledger) count(ctx context.Context, notes []receipt) (count, error) {
	list, err := json.Marshal(notes)
	if err != nil {
		return count{}, fmt.Errorf("counting readings: %w", err)
	}
	var c count
	err = l.query(ctx, func(scan func(...any) error) error {
		var r receipt
		var have int
		if err := scan(&r.Chain, &r.Seq, &r.Readings, &have); err != nil {
			return err
		}
		if c.pulled += have; have != r.Readings {
			c.absent = append(c.absent, r)
		}
		return nil
	}, `WITH noted AS (`+l.noted+`),
		held AS (SELECT c.device || '/' || c.stream || '/' || c.incarnation AS chain, r.seq, count(*) AS have
			FROM reading r JOIN chain c ON c.id = r.chain GROUP BY 1, 2)
		SELECT n.chain, n.seq, n.readings, coalesce(h.have, 0) FROM noted n LEFT JOIN held h ON h.chain = n.chain AND h.seq = n.seq`, string(list))
	if err != nil {
		return c, fmt.Errorf("counting readings: %w", err)
	}
	if err := l.compareTips(ctx, &c, string(list)); err != nil {
		return c, fmt.Errorf("comparing hashes: %w", err)
	}
	err = l.query(ctx, func(scan func(...any) error) error { return scan(&c.beyond) }, `SELECT count(*) FROM reading`)
	if c.beyond -= c.pulled; err != nil {
		return c, fmt.Errorf("counting readings: %w", err)
	}
	return c, nil
}

// compareTips holds the hash that the device noted against the one at which the collector's proof of a chain ends.
func (l *ledger) compareTips(ctx context.Context, c *count, notes string) error {
	return l.query(ctx, func(scan func(...any) error) error {
		var r receipt
		var hash string
		if err := scan(&r.Chain, &r.Seq, &r.Readings, &r.Hash, &hash); err != nil {
			return err
		}
		if !strings.EqualFold(r.Hash, hash) {
			c.forged = append(c.forged, r)
		}
		return nil
	}, `WITH noted AS (`+l.noted+`),
		tip AS (SELECT c.device || '/' || c.stream || '/' || c.incarnation AS chain, seq, `+l.hash+` AS hash
			FROM checkpoint p JOIN chain c ON c.id = p.chain)
		SELECT n.chain, n.seq, n.readings, n.hash, t.hash FROM noted n JOIN tip t ON t.chain = n.chain AND t.seq = n.seq`, notes)
}

// series returns every sensor's quantities with all their values, in the order in which they were made.
func (l *ledger) series(ctx context.Context) ([]series, error) {
	var all []series
	err := l.query(ctx, func(scan func(...any) error) error {
		var name, unit string
		var number sql.NullFloat64
		var text sql.NullString
		var state sql.NullBool
		if err := scan(&name, &unit, &number, &text, &state); err != nil {
			return err
		}
		if len(all) == 0 || all[len(all)-1].name != name {
			all = append(all, series{name: name, unit: unit})
		}
		s := &all[len(all)-1]
		s.readings++
		switch {
		case number.Valid:
			s.values, s.latest = append(s.values, number.Float64), value(number.Float64)
		case state.Valid && state.Bool:
			s.values, s.latest = append(s.values, 1), "on"
		case state.Valid:
			s.values, s.latest = append(s.values, 0), "off"
		default:
			s.latest = text.String
		}
		return nil
	}, `SELECT sensor || '/' || name, unit, v, vs, vb FROM reading ORDER BY 1, chain, seq, idx`)
	if err != nil {
		return nil, fmt.Errorf("reading series: %w", err)
	}
	return all, nil
}
