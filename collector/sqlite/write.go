// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/sqlsink"
)

// Write commits a batch; see collector.Sink.
func (s *Sink) Write(ctx context.Context, b collector.Batch) error {
	if err := b.Check(true); err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		w := writer{sqlsink.NewWriter(sqlsink.Standard{Tx: tx}, queries(), &b, sqlsink.Millis), tx}
		return w.Run(ctx, w.names, w.readings, w.series)
	})
	if err != nil {
		return fmt.Errorf("sqlite: writing %d-%d of %s to %s: %w", b.From, b.To, b.Chain, s.path, plain(err))
	}
	return nil
}

// writer writes one batch in one transaction.
type writer struct {
	*sqlsink.Writer
	tx *sql.Tx
}

func queries() *sqlsink.Queries {
	return &sqlsink.Queries{
		Checkpoint: `SELECT seq, hash FROM checkpoint WHERE chain = ?`,
		Move: `INSERT INTO checkpoint (chain, seq, hash, updated) VALUES (?, ?, ?, ?)
		ON CONFLICT (chain) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, updated = excluded.updated`,
		Gaps:    sqlsink.OpenGaps(`gap`, `chain = ?`),
		DropGap: `DELETE FROM gap WHERE chain = ? AND first_seq = ? AND closed IS NULL`,
		AddGap: `INSERT INTO gap (chain, first_seq, last_seq, reason, explained, found, closed, prev_hash, last_hash)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		ClockNote: `INSERT INTO note (chain, seq, kind, boot, mono_ms, wall) VALUES (?, ?, 'clock', ?, ?, ?) ON CONFLICT DO NOTHING`,
		GapNote: `INSERT INTO note (chain, seq, kind, reason, incarnation, first_seq, last_seq, segments, readings)
				VALUES (?, ?, 'gap', ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		AfterNote: `INSERT INTO note (chain, seq, kind, incarnation, last_seq, hash) VALUES (?, ?, 'continues', ?, ?, ?) ON CONFLICT DO NOTHING`,
		Fork:      `INSERT INTO fork (chain, seq, a, b, found) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		FirstClock: `SELECT n.mono_ms, n.wall FROM note n JOIN chain c ON c.id = n.chain
			WHERE n.kind = 'clock' AND n.boot = ? AND c.device = ? ORDER BY n.seq, n.chain LIMIT 1`,
		Restamp: `UPDATE reading SET ts = ? + mono_ms, clock = 'restamped' WHERE clock = 'unsynced' AND device = ? AND boot = ?`,
		Explain: `UPDATE gap SET explained = coalesce((
			SELECT n.reason FROM note n JOIN chain nc ON nc.id = n.chain JOIN chain gc ON gc.id = gap.chain
			WHERE n.kind = 'gap' AND n.segments > 0 AND nc.device = gc.device AND nc.stream = gc.stream AND n.incarnation = gc.incarnation
			AND n.first_seq <= gap.last_seq AND n.last_seq >= gap.first_seq ORDER BY n.chain, n.seq LIMIT 1), '')
		WHERE explained = '' AND closed IS NULL AND chain IN (SELECT id FROM chain WHERE device = ? AND stream = ?)`,
	}
}

// names finds or creates the rows of the device and the chain.
func (w *writer) names(ctx context.Context) error {
	c := w.Batch.Chain
	place := []any{c.Fleet.String(), w.Device, c.Stream, c.Incarnation.String()}
	err := w.Tx.Exec(ctx, `INSERT INTO device (id, name) VALUES (?, ?)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE excluded.name <> '' AND excluded.name <> name`, w.Device, w.Batch.Name)
	if err != nil {
		return err
	}
	err = w.Tx.Exec(ctx, `INSERT INTO chain (fleet, device, stream, incarnation) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`, place...)
	if err != nil {
		return err
	}
	return w.FindChain(ctx, `SELECT id FROM chain WHERE fleet = ? AND device = ? AND stream = ? AND incarnation = ?`, place...)
}

const perStmt = 100 // rows in one statement: one call into the driver costs as much as several rows

// insertReadings returns the statement for n rows.
func insertReadings(n int) string { return sqlsink.InsertReadings(n, `ON CONFLICT DO NOTHING`) }

func (w *writer) readings(ctx context.Context) error {
	rows := w.Batch.Readings
	if len(rows) >= perStmt {
		stmt, err := w.tx.PrepareContext(ctx, insertReadings(perStmt))
		if err != nil {
			return err
		}
		defer stmt.Close()
		args := make([]any, 0, perStmt*sqlsink.Width)
		for ; len(rows) >= perStmt; rows = rows[perStmt:] {
			if _, err := stmt.ExecContext(ctx, w.Rows(args[:0], rows[:perStmt])...); err != nil {
				return err
			}
		}
	}
	if len(rows) == 0 {
		return nil
	}
	return w.Tx.Exec(ctx, insertReadings(len(rows)), w.Rows(nil, rows)...)
}

// series notes what the device measures.
func (w *writer) series(ctx context.Context) error {
	for _, s := range w.Batch.Series() {
		err := w.Tx.Exec(ctx, `INSERT INTO series (device, sensor, name, unit) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`, w.Device, s.Sensor, s.Name, s.Unit)
		if err != nil {
			return err
		}
	}
	return nil
}
