// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/sqlsink"
	"github.com/streembit/edge/journal"
)

// Write commits a batch; see collector.Sink. Text that holds a NUL character is refused with a
// *collector.PoisonError: PostgreSQL cannot store it.
func (s *Sink) Write(ctx context.Context, b collector.Batch) error {
	if err := b.Check(false); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	select {
	case s.writes <- struct{}{}:
		defer func() { <-s.writes }()
	case <-ctx.Done():
		return fmt.Errorf("postgres: writing: %w", ctx.Err())
	}
	err := s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		w := writer{sqlsink.NewWriter(transaction{tx}, queries(), &b, sqlsink.Native), tx, s.timed}
		return w.Run(ctx, w.names, w.readings, w.series)
	})
	if err != nil {
		return fmt.Errorf("postgres: writing %d-%d of %s: %w", b.From, b.To, b.Chain, plain(err))
	}
	return nil
}

// transaction is one of pgx as a sqlsink.Tx.
type transaction struct{ pgx.Tx }

// Exec implements sqlsink.Tx.
func (t transaction) Exec(ctx context.Context, query string, args ...any) error {
	_, err := t.Tx.Exec(ctx, query, args...)
	return err
}

// Each implements sqlsink.Tx.
func (t transaction) Each(ctx context.Context, row func(scan func(...any) error) error, query string, args ...any) error {
	return each(ctx, t.Tx, row, query, args...)
}

// writer writes one batch in one transaction.
type writer struct {
	*sqlsink.Writer
	tx    pgx.Tx
	timed bool
}

func queries() *sqlsink.Queries {
	return &sqlsink.Queries{
		Checkpoint: `SELECT seq, hash FROM checkpoint WHERE chain = $1`,
		Move: `INSERT INTO checkpoint (chain, seq, hash, updated) VALUES ($1, $2, $3, $4)
		ON CONFLICT (chain) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, updated = excluded.updated`,
		Gaps:    sqlsink.OpenGaps(`gap`, `chain = $1`),
		DropGap: `DELETE FROM gap WHERE chain = $1 AND first_seq = $2 AND closed IS NULL`,
		AddGap: `INSERT INTO gap (chain, first_seq, last_seq, reason, explained, found, closed, prev_hash, last_hash)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		ClockNote: `INSERT INTO note (chain, seq, kind, boot, mono_ms, wall) VALUES ($1, $2, 'clock', $3, $4, $5) ON CONFLICT DO NOTHING`,
		GapNote: `INSERT INTO note (chain, seq, kind, reason, incarnation, first_seq, last_seq, segments, readings)
				VALUES ($1, $2, 'gap', $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
		AfterNote: `INSERT INTO note (chain, seq, kind, incarnation, last_seq, hash) VALUES ($1, $2, 'continues', $3, $4, $5) ON CONFLICT DO NOTHING`,
		Fork:      `INSERT INTO fork (chain, seq, a, b, found) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
		FirstClock: `SELECT n.mono_ms, n.wall FROM note n JOIN chain c ON c.id = n.chain
			WHERE n.kind = 'clock' AND n.boot = $1 AND c.device = $2 ORDER BY n.seq, n.chain LIMIT 1`,
		Restamp: `UPDATE reading SET ts = to_timestamp(0) + ($1::bigint + mono_ms) * interval '1 millisecond', clock = 'restamped'
			WHERE clock = 'unsynced' AND device = $2 AND boot = $3`,
		Explain: `UPDATE gap g SET explained = n.reason FROM note n, chain nc, chain gc
		WHERE g.explained = '' AND g.closed IS NULL AND gc.id = g.chain AND gc.device = $1 AND gc.stream = $2
		AND nc.id = n.chain AND nc.device = gc.device AND nc.stream = gc.stream AND n.incarnation = gc.incarnation
		AND n.kind = 'gap' AND n.segments > 0 AND n.first_seq <= g.last_seq AND n.last_seq >= g.first_seq`,
	}
}

// names finds or creates the rows of the device and the chain, and locks the chain.
func (w *writer) names(ctx context.Context) error {
	err := w.LockChain(ctx,
		`SELECT id FROM chain WHERE device = $1 AND stream = $2 AND incarnation = $3 AND fleet = $4 FOR UPDATE`,
		`INSERT INTO device (id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
		`INSERT INTO chain (device, stream, incarnation, fleet) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`)
	if err != nil || w.Batch.Name == "" {
		return err
	}
	return w.Tx.Exec(ctx, `UPDATE device SET name = $2 WHERE id = $1 AND name <> $2`, w.Device, w.Batch.Name)
}

func (w *writer) readings(ctx context.Context) error {
	if len(w.Batch.Readings) == 0 {
		return nil
	}
	columns := []string{"sensor", "name", "unit", "ts", "v", "vs", "vb", "seq", "idx", "boot", "mono_ms", "clock"}
	_, err := w.tx.CopyFrom(ctx, pgx.Identifier{"pg_temp", "incoming"}, columns, &source{w: w.Writer})
	if err != nil {
		return err
	}
	if w.timed {
		return w.readingsByTime(ctx)
	}
	return w.Tx.Exec(ctx, `INSERT INTO reading (device, sensor, name, unit, ts, v, vs, vb, chain, seq, idx, boot, mono_ms, clock, recv)
		SELECT $1, sensor, name, unit, ts, v, vs, vb, $2::bigint, seq, idx, boot, mono_ms, clock, $3::timestamptz FROM pg_temp.incoming
		ON CONFLICT DO NOTHING`, w.Device, w.Chain, w.Batch.Received)
}

// readingsByTime is for a table that is cut by time: it cannot have a unique key without the time. The lock on the chain keeps other writers away, so
// it is enough to look whether the reading is there; and not even that for segments after the checkpoint.
func (w *writer) readingsByTime(ctx context.Context) error {
	const insert = `INSERT INTO reading (device, sensor, name, unit, ts, v, vs, vb, chain, seq, idx, boot, mono_ms, clock, recv, at)
		SELECT $1, sensor, name, unit, ts, v, vs, vb, $2::bigint, seq, idx, boot, mono_ms, clock, $3::timestamptz, coalesce(ts, $3::timestamptz)
		FROM pg_temp.incoming i`
	const absent = ` WHERE NOT EXISTS (SELECT FROM reading r WHERE r.chain = $2::bigint AND r.seq = i.seq AND r.idx = i.idx)`
	if w.Fresh {
		return w.Tx.Exec(ctx, insert, w.Device, w.Chain, w.Batch.Received)
	}
	return w.Tx.Exec(ctx, insert+absent, w.Device, w.Chain, w.Batch.Received)
}

// series notes what the device measures.
func (w *writer) series(ctx context.Context) error {
	all := w.Batch.Series()
	if len(all) == 0 {
		return nil
	}
	var sensors, names, units []string
	for _, s := range all {
		sensors, names, units = append(sensors, s.Sensor), append(names, s.Name), append(units, s.Unit)
	}
	return w.Tx.Exec(ctx, `INSERT INTO series (device, sensor, name, unit) SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[])
		ON CONFLICT DO NOTHING`, w.Device, sensors, names, units)
}

// source hands the batch's readings to COPY; it is a pgx.CopyFromSource.
type source struct {
	w    *sqlsink.Writer
	next int
	out  [12]any
	boot journal.BootID
	text string
}

func (s *source) Next() bool { s.next++; return s.next <= len(s.w.Batch.Readings) }
func (s *source) Err() error { return nil }

func (s *source) Values() ([]any, error) {
	r := &s.w.Batch.Readings[s.next-1]
	if s.text == "" || r.Boot != s.boot {
		s.boot, s.text = r.Boot, r.Boot.String()
	}
	ts, v, vs, vb, clock := s.w.Columns(r)
	s.out = [12]any{r.Sensor, r.Quantity.Name, r.Unit, ts, v, vs, vb, int64(r.Seq), int32(r.Index), s.text, r.At.Mono, clock}
	return s.out[:], nil
}
