// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
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
		w := writer{tx: tx, b: &b, timed: s.timed, device: b.Chain.Device.String()}
		for _, step := range []func(context.Context) error{w.names, w.place, w.readings, w.series, w.notes, w.forks, w.restamp, w.explain} {
			if err := step(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("postgres: writing %d-%d of %s: %w", b.From, b.To, b.Chain, plain(err))
	}
	return nil
}

// writer writes one batch in one transaction.
type writer struct {
	tx     pgx.Tx
	b      *collector.Batch
	device string
	timed  bool
	chain  int64
	fresh  bool // no segment of the batch was written before
}

func (w *writer) exec(ctx context.Context, query string, args ...any) error {
	_, err := w.tx.Exec(ctx, query, args...)
	return err
}

// names finds or creates the rows of the device and the chain, and locks the chain: batches of one chain wait for each
// other, so two collectors that write the same rows cannot lock each other out.
func (w *writer) names(ctx context.Context) error {
	c := w.b.Chain
	const find = `SELECT id FROM chain WHERE device = $1 AND stream = $2 AND incarnation = $3 AND fleet = $4 FOR UPDATE`
	place := []any{w.device, c.Stream, c.Incarnation.String(), c.Fleet.String()}
	err := w.tx.QueryRow(ctx, find, place...).Scan(&w.chain)
	if errors.Is(err, pgx.ErrNoRows) {
		if err := w.exec(ctx, `INSERT INTO device (id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING`, w.device, w.b.Name); err != nil {
			return err
		}
		if err := w.exec(ctx, `INSERT INTO chain (device, stream, incarnation, fleet) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`, place...); err != nil {
			return err
		}
		err = w.tx.QueryRow(ctx, find, place...).Scan(&w.chain)
	}
	if err != nil || w.b.Name == "" {
		return err
	}
	return w.exec(ctx, `UPDATE device SET name = $2 WHERE id = $1 AND name <> $2`, w.device, w.b.Name)
}

// place moves the checkpoint and the gaps.
func (w *writer) place(ctx context.Context) error {
	var stored *journal.Link
	var seq int64
	var hash []byte
	switch err := w.tx.QueryRow(ctx, `SELECT seq, hash FROM checkpoint WHERE chain = $1`, w.chain).Scan(&seq, &hash); {
	case err == nil:
		stored = &journal.Link{Seq: uint64(seq)}
		copy(stored.Hash[:], hash)
	case !errors.Is(err, pgx.ErrNoRows):
		return err
	}
	w.fresh = stored == nil || w.b.From > stored.Seq
	move, err := w.b.Advance(stored)
	if err != nil {
		return err
	}
	if err := w.gaps(ctx, stored); err != nil || !move {
		return err
	}
	return w.exec(ctx, `INSERT INTO checkpoint (chain, seq, hash, updated) VALUES ($1, $2, $3, $4)
		ON CONFLICT (chain) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, updated = excluded.updated`,
		w.chain, int64(w.b.Mark.Seq), w.b.Mark.Hash[:], w.b.Received)
}

func (w *writer) gaps(ctx context.Context, stored *journal.Link) error {
	open, err := openGaps(ctx, w.tx, `chain = $1`, w.chain)
	if err != nil {
		return err
	}
	ch := w.b.Regap(open[w.chain], stored)
	for _, g := range ch.Drop {
		if err := w.exec(ctx, `DELETE FROM gap WHERE chain = $1 AND first_seq = $2 AND closed IS NULL`, w.chain, int64(g.First)); err != nil {
			return err
		}
	}
	for _, g := range ch.Close {
		if err := w.gap(ctx, g, &w.b.Received); err != nil {
			return err
		}
	}
	for _, g := range ch.Open {
		if err := w.gap(ctx, g, nil); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) gap(ctx context.Context, g collector.Gap, closed *time.Time) error {
	return w.exec(ctx, `INSERT INTO gap (chain, first_seq, last_seq, reason, explained, found, closed, prev_hash, last_hash)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		w.chain, int64(g.First), int64(g.Last), g.Reason, g.Explained, g.Found, closed, g.Before[:], g.After[:])
}

func (w *writer) readings(ctx context.Context) error {
	if len(w.b.Readings) == 0 {
		return nil
	}
	columns := []string{"sensor", "name", "unit", "ts", "v", "vs", "vb", "seq", "idx", "boot", "mono_ms", "clock"}
	_, err := w.tx.CopyFrom(ctx, pgx.Identifier{"pg_temp", "incoming"}, columns, &source{rows: w.b.Readings})
	if err != nil {
		return err
	}
	if w.timed {
		return w.readingsByTime(ctx)
	}
	return w.exec(ctx, `INSERT INTO reading (device, sensor, name, unit, ts, v, vs, vb, chain, seq, idx, boot, mono_ms, clock, recv)
		SELECT $1, sensor, name, unit, ts, v, vs, vb, $2::bigint, seq, idx, boot, mono_ms, clock, $3::timestamptz FROM pg_temp.incoming
		ON CONFLICT DO NOTHING`, w.device, w.chain, w.b.Received)
}

// readingsByTime is for a table that is cut by time: it cannot have a unique key without the time. The lock on the chain keeps other writers away, so
// it is enough to look whether the reading is there; and not even that for segments after the checkpoint.
func (w *writer) readingsByTime(ctx context.Context) error {
	const insert = `INSERT INTO reading (device, sensor, name, unit, ts, v, vs, vb, chain, seq, idx, boot, mono_ms, clock, recv, at)
		SELECT $1, sensor, name, unit, ts, v, vs, vb, $2::bigint, seq, idx, boot, mono_ms, clock, $3::timestamptz, coalesce(ts, $3::timestamptz)
		FROM pg_temp.incoming i`
	const absent = ` WHERE NOT EXISTS (SELECT FROM reading r WHERE r.chain = $2::bigint AND r.seq = i.seq AND r.idx = i.idx)`
	if w.fresh {
		return w.exec(ctx, insert, w.device, w.chain, w.b.Received)
	}
	return w.exec(ctx, insert+absent, w.device, w.chain, w.b.Received)
}

// series notes what the device measures.
func (w *writer) series(ctx context.Context) error {
	all := w.b.Series()
	if len(all) == 0 {
		return nil
	}
	var sensors, names, units []string
	for _, s := range all {
		sensors, names, units = append(sensors, s.Sensor), append(names, s.Name), append(units, s.Unit)
	}
	return w.exec(ctx, `INSERT INTO series (device, sensor, name, unit) SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[])
		ON CONFLICT DO NOTHING`, w.device, sensors, names, units)
}

// source hands rows to COPY; it is a pgx.CopyFromSource.
type source struct {
	rows []collector.Row
	next int
	out  [12]any
	boot journal.BootID
	text string
}

func (s *source) Next() bool { s.next++; return s.next <= len(s.rows) }
func (s *source) Err() error { return nil }

func (s *source) Values() ([]any, error) {
	r := &s.rows[s.next-1]
	if s.text == "" || r.Boot != s.boot {
		s.boot, s.text = r.Boot, r.Boot.String()
	}
	var ts, v, vs, vb any
	clock := "unsynced"
	if r.At.Synced() {
		ts, clock = r.At.Time(), "synced"
	}
	switch r.Kind {
	case edge.Text:
		vs = r.Text
	case edge.State:
		vb = r.Value == 1
	default:
		v = r.Value
	}
	s.out = [12]any{r.Sensor, r.Quantity.Name, r.Unit, ts, v, vs, vb, int64(r.Seq), int32(r.Index), s.text, r.At.Mono, clock}
	return s.out[:], nil
}

func (w *writer) notes(ctx context.Context) error {
	for _, n := range w.b.Notes {
		var err error
		switch {
		case n.Clock != nil:
			err = w.exec(ctx, `INSERT INTO note (chain, seq, kind, boot, mono_ms, wall) VALUES ($1, $2, 'clock', $3, $4, $5) ON CONFLICT DO NOTHING`,
				w.chain, int64(n.Seq), n.Clock.Boot.String(), n.Clock.Mono, time.UnixMilli(n.Clock.Wall))
		case n.Gap != nil:
			g := n.Gap
			err = w.exec(ctx, `INSERT INTO note (chain, seq, kind, reason, incarnation, first_seq, last_seq, segments, readings)
				VALUES ($1, $2, 'gap', $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
				w.chain, int64(n.Seq), g.Reason.String(), g.Incarnation.String(), int64(g.From), int64(g.To), int64(g.Segments), int64(g.Readings))
		case n.After != nil:
			err = w.exec(ctx, `INSERT INTO note (chain, seq, kind, incarnation, last_seq, hash) VALUES ($1, $2, 'continues', $3, $4, $5) ON CONFLICT DO NOTHING`,
				w.chain, int64(n.Seq), n.After.Incarnation.String(), int64(n.After.Last.Seq), n.After.Last.Hash[:])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) forks(ctx context.Context) error {
	for _, f := range w.b.Forks {
		err := w.exec(ctx, `INSERT INTO fork (chain, seq, a, b, found) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
			w.chain, int64(f.Seq), f.Proof.A, f.Proof.B, w.b.Received)
		if err != nil {
			return err
		}
	}
	return nil
}

// restamp gives readings of an unsynchronised clock the time that the device's first clock note of that boot proves,
// also when the note came before them or through another chain. mono_ms keeps the time as it was signed.
func (w *writer) restamp(ctx context.Context) error {
	for _, boot := range w.b.Boots() {
		var mono int64
		var wall time.Time
		err := w.tx.QueryRow(ctx, `SELECT n.mono_ms, n.wall FROM note n JOIN chain c ON c.id = n.chain
			WHERE n.kind = 'clock' AND n.boot = $1 AND c.device = $2 ORDER BY n.seq, n.chain LIMIT 1`, boot.String(), w.device).Scan(&mono, &wall)
		if errors.Is(err, pgx.ErrNoRows) {
			continue
		}
		if err != nil {
			return err
		}
		err = w.exec(ctx, `UPDATE reading SET ts = to_timestamp(0) + ($1::bigint + mono_ms) * interval '1 millisecond', clock = 'restamped'
			WHERE clock = 'unsynced' AND device = $2 AND boot = $3`, wall.UnixMilli()-mono, w.device, boot.String())
		if err != nil {
			return err
		}
	}
	return nil
}

// explain writes the device's own reason beside open gaps of this stream.
func (w *writer) explain(ctx context.Context) error {
	return w.exec(ctx, `UPDATE gap g SET explained = n.reason FROM note n, chain nc, chain gc
		WHERE g.explained = '' AND g.closed IS NULL AND gc.id = g.chain AND gc.device = $1 AND gc.stream = $2
		AND nc.id = n.chain AND nc.device = gc.device AND nc.stream = gc.stream AND n.incarnation = gc.incarnation
		AND n.kind = 'gap' AND n.segments > 0 AND n.first_seq <= g.last_seq AND n.last_seq >= g.first_seq`, w.device, w.b.Chain.Stream)
}
