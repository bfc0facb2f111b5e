// SPDX-License-Identifier: Apache-2.0

package mysql

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
		return fmt.Errorf("mysql: %w", err)
	}
	err := s.tx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		w := writer{sqlsink.NewWriter(sqlsink.Standard{Tx: tx}, queries(), &b, sqlsink.Native)}
		return w.Run(ctx, w.names, w.readings)
	})
	if err != nil {
		return fmt.Errorf("mysql: writing %d-%d of %s: %w", b.From, b.To, b.Chain, hint(err))
	}
	return nil
}

// writer writes one batch in one transaction.
type writer struct{ *sqlsink.Writer }

func queries() *sqlsink.Queries {
	return &sqlsink.Queries{
		Checkpoint: `SELECT seq, hash FROM checkpoint WHERE chain = ?`,
		Move: `INSERT INTO checkpoint (chain, seq, hash, updated) VALUES (?, ?, ?, ?)
		ON DUPLICATE KEY UPDATE seq = VALUES(seq), hash = VALUES(hash), updated = VALUES(updated)`,
		Gaps:    sqlsink.OpenGaps(`gap`, `chain = ?`),
		DropGap: `DELETE FROM gap WHERE chain = ? AND first_seq = ? AND closed IS NULL`,
		AddGap: `INSERT INTO gap (chain, first_seq, last_seq, reason, explained, found, closed, prev_hash, last_hash)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		ClockNote: `INSERT INTO note (chain, seq, kind, boot, mono_ms, wall) VALUES (?, ?, 'clock', ?, ?, ?) ON DUPLICATE KEY UPDATE chain = chain`,
		GapNote: `INSERT INTO note (chain, seq, kind, reason, incarnation, first_seq, last_seq, segments, readings)
				VALUES (?, ?, 'gap', ?, ?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE chain = chain`,
		AfterNote: `INSERT INTO note (chain, seq, kind, incarnation, last_seq, hash) VALUES (?, ?, 'continues', ?, ?, ?) ON DUPLICATE KEY UPDATE chain = chain`,
		Fork:      `INSERT INTO fork (chain, seq, a, b, found) VALUES (?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE chain = chain`,
		FirstClock: `SELECT n.mono_ms, n.wall FROM note n JOIN chain c ON c.id = n.chain
			WHERE n.kind = 'clock' AND n.boot = ? AND c.device = ? ORDER BY n.seq, n.chain LIMIT 1`,
		Restamp: `UPDATE reading SET ts = TIMESTAMPADD(MICROSECOND, (? + mono_ms) * 1000, '1970-01-01'), clock = 'restamped'
			WHERE clock = 'unsynced' AND device = ? AND boot = ?`,
		Explain: `UPDATE gap g JOIN chain gc ON gc.id = g.chain
		JOIN chain nc ON nc.device = gc.device AND nc.stream = gc.stream JOIN note n ON n.chain = nc.id
		SET g.explained = n.reason WHERE g.explained = '' AND g.closed IS NULL AND gc.device = ? AND gc.stream = ? AND n.incarnation = gc.incarnation
		AND n.kind = 'gap' AND n.segments > 0 AND n.first_seq <= g.last_seq AND n.last_seq >= g.first_seq`,
	}
}

// names finds or creates the rows of the device and the chain, and locks the chain.
func (w *writer) names(ctx context.Context) error {
	err := w.LockChain(ctx,
		`SELECT id FROM chain WHERE device = ? AND stream = ? AND incarnation = ? AND fleet = ? FOR UPDATE`,
		`INSERT INTO device (id, name) VALUES (?, ?) ON DUPLICATE KEY UPDATE id = id`,
		`INSERT INTO chain (device, stream, incarnation, fleet) VALUES (?, ?, ?, ?) ON DUPLICATE KEY UPDATE id = id`)
	if err != nil || w.Batch.Name == "" {
		return err
	}
	return w.Tx.Exec(ctx, `UPDATE device SET name = ? WHERE id = ? AND name <> ?`, w.Batch.Name, w.Device, w.Batch.Name)
}

const perStmt = 500 // rows in one statement, 3 MB at most where all are texts: servers take 16 MB

// insertReadings returns the statement for n rows. What is there already stays; unlike INSERT IGNORE it lets no other error pass.
func insertReadings(n int) string {
	return sqlsink.InsertReadings(n, `ON DUPLICATE KEY UPDATE chain = reading.chain`)
}

func (w *writer) readings(ctx context.Context) error {
	full := insertReadings(perStmt)
	args := make([]any, 0, min(perStmt, len(w.Batch.Readings))*sqlsink.Width)
	for rows := w.Batch.Readings; len(rows) > 0; {
		n, query := min(perStmt, len(rows)), full
		if n < perStmt {
			query = insertReadings(n)
		}
		if err := w.Tx.Exec(ctx, query, w.Rows(args[:0], rows[:n])...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}
