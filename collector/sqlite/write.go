// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/journal"
)

// Write commits a batch; see collector.Sink.
func (s *Sink) Write(ctx context.Context, b collector.Batch) error {
	if err := b.Check(true); err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		w := writer{tx: tx, b: &b, device: b.Chain.Device.String()}
		return w.run(ctx)
	})
	if err != nil {
		return fmt.Errorf("sqlite: writing %d-%d of %s to %s: %w", b.From, b.To, b.Chain, s.path, plain(err))
	}
	return nil
}

// writer writes one batch in one transaction.
type writer struct {
	tx     *sql.Tx
	b      *collector.Batch
	device string
	chain  int64
}

func (w *writer) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{w.names, w.place, w.readings, w.series, w.notes, w.forks, w.restamp, w.explain} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) exec(ctx context.Context, query string, args ...any) error {
	_, err := w.tx.ExecContext(ctx, query, args...)
	return err
}

// names finds or creates the rows of the device and the chain.
func (w *writer) names(ctx context.Context) error {
	c := w.b.Chain
	err := w.exec(ctx, `INSERT INTO device (id, name) VALUES (?, ?)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE excluded.name <> '' AND excluded.name <> name`, w.device, w.b.Name)
	if err != nil {
		return err
	}
	err = w.exec(ctx, `INSERT INTO chain (fleet, device, stream, incarnation) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		c.Fleet.String(), w.device, c.Stream, c.Incarnation.String())
	if err != nil {
		return err
	}
	return w.tx.QueryRowContext(ctx, `SELECT id FROM chain WHERE fleet = ? AND device = ? AND stream = ? AND incarnation = ?`,
		c.Fleet.String(), w.device, c.Stream, c.Incarnation.String()).Scan(&w.chain)
}

// place moves the checkpoint and the gaps.
func (w *writer) place(ctx context.Context) error {
	var stored *journal.Link
	var l journal.Link
	var hash []byte
	switch err := w.tx.QueryRowContext(ctx, `SELECT seq, hash FROM checkpoint WHERE chain = ?`, w.chain).Scan(&l.Seq, &hash); {
	case err == nil:
		copy(l.Hash[:], hash)
		stored = &l
	case !errors.Is(err, sql.ErrNoRows):
		return err
	}
	move, err := w.b.Advance(stored)
	if err != nil {
		return err
	}
	if err := w.gaps(ctx, stored); err != nil || !move {
		return err
	}
	return w.exec(ctx, `INSERT INTO checkpoint (chain, seq, hash, updated) VALUES (?, ?, ?, ?)
		ON CONFLICT (chain) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, updated = excluded.updated`,
		w.chain, w.b.Mark.Seq, w.b.Mark.Hash[:], w.b.Received.UnixMilli())
}

func (w *writer) gaps(ctx context.Context, stored *journal.Link) error {
	open, err := openGaps(ctx, w.tx, `chain = ?`, w.chain)
	if err != nil {
		return err
	}
	ch := w.b.Regap(open[w.chain], stored)
	for _, g := range ch.Drop {
		if err := w.exec(ctx, `DELETE FROM gap WHERE chain = ? AND first_seq = ? AND closed IS NULL`, w.chain, g.First); err != nil {
			return err
		}
	}
	for _, g := range ch.Close {
		if err := w.gap(ctx, g, w.b.Received.UnixMilli()); err != nil {
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

func (w *writer) gap(ctx context.Context, g collector.Gap, closed any) error {
	return w.exec(ctx, `INSERT INTO gap (chain, first_seq, last_seq, reason, explained, found, closed, prev_hash, last_hash)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		w.chain, g.First, g.Last, g.Reason, g.Explained, g.Found.UnixMilli(), closed, g.Before[:], g.After[:])
}

const (
	width   = 15
	perStmt = 100 // rows in one statement: one call into the driver costs as much as several rows
)

// insertReadings returns the statement for n rows.
func insertReadings(n int) string {
	row := "(?" + strings.Repeat(",?", width-1) + ")"
	return `INSERT INTO reading (device, sensor, name, unit, ts, v, vs, vb, chain, seq, idx, boot, mono_ms, clock, recv) VALUES ` +
		row + strings.Repeat(","+row, n-1) + ` ON CONFLICT DO NOTHING`
}

func (w *writer) readings(ctx context.Context) error {
	rows := w.b.Readings
	if len(rows) >= perStmt {
		stmt, err := w.tx.PrepareContext(ctx, insertReadings(perStmt))
		if err != nil {
			return err
		}
		defer stmt.Close()
		args := make([]any, 0, perStmt*width)
		for ; len(rows) >= perStmt; rows = rows[perStmt:] {
			if _, err := stmt.ExecContext(ctx, w.args(args[:0], rows[:perStmt])...); err != nil {
				return err
			}
		}
	}
	if len(rows) == 0 {
		return nil
	}
	return w.exec(ctx, insertReadings(len(rows)), w.args(nil, rows)...)
}

func (w *writer) args(args []any, rows []collector.Row) []any {
	recv := w.b.Received.UnixMilli()
	var boot journal.BootID
	bootText := boot.String()
	for i := range rows {
		r := &rows[i]
		if r.Boot != boot {
			boot, bootText = r.Boot, r.Boot.String()
		}
		var ts, v, vs, vb any
		clock := "unsynced"
		if r.At.Synced() {
			ts, clock = r.At.Wall, "synced"
		}
		switch r.Kind {
		case edge.Text:
			vs = r.Text
		case edge.State:
			vb = int64(r.Value)
		default:
			v = r.Value
		}
		args = append(args, w.device, r.Sensor, r.Quantity.Name, r.Unit, ts, v, vs, vb, w.chain, r.Seq, r.Index, bootText, r.At.Mono, clock, recv)
	}
	return args
}

// series notes what the device measures.
func (w *writer) series(ctx context.Context) error {
	for _, s := range w.b.Series() {
		err := w.exec(ctx, `INSERT INTO series (device, sensor, name, unit) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`, w.device, s.Sensor, s.Name, s.Unit)
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) notes(ctx context.Context) error {
	for _, n := range w.b.Notes {
		var err error
		switch {
		case n.Clock != nil:
			err = w.exec(ctx, `INSERT INTO note (chain, seq, kind, boot, mono_ms, wall) VALUES (?, ?, 'clock', ?, ?, ?) ON CONFLICT DO NOTHING`,
				w.chain, n.Seq, n.Clock.Boot.String(), n.Clock.Mono, n.Clock.Wall)
		case n.Gap != nil:
			g := n.Gap
			err = w.exec(ctx, `INSERT INTO note (chain, seq, kind, reason, incarnation, first_seq, last_seq, segments, readings)
				VALUES (?, ?, 'gap', ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
				w.chain, n.Seq, g.Reason.String(), g.Incarnation.String(), g.From, g.To, g.Segments, g.Readings)
		case n.After != nil:
			err = w.exec(ctx, `INSERT INTO note (chain, seq, kind, incarnation, last_seq, hash) VALUES (?, ?, 'continues', ?, ?, ?) ON CONFLICT DO NOTHING`,
				w.chain, n.Seq, n.After.Incarnation.String(), n.After.Last.Seq, n.After.Last.Hash[:])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) forks(ctx context.Context) error {
	for _, f := range w.b.Forks {
		err := w.exec(ctx, `INSERT INTO fork (chain, seq, a, b, found) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			w.chain, f.Seq, f.Proof.A, f.Proof.B, w.b.Received.UnixMilli())
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
		var mono, wall int64
		err := w.tx.QueryRowContext(ctx, `SELECT n.mono_ms, n.wall FROM note n JOIN chain c ON c.id = n.chain
			WHERE n.kind = 'clock' AND n.boot = ? AND c.device = ? ORDER BY n.seq, n.chain LIMIT 1`, boot.String(), w.device).Scan(&mono, &wall)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return err
		}
		err = w.exec(ctx, `UPDATE reading SET ts = ? + mono_ms, clock = 'restamped' WHERE clock = 'unsynced' AND device = ? AND boot = ?`,
			wall-mono, w.device, boot.String())
		if err != nil {
			return err
		}
	}
	return nil
}

// explain writes the device's own reason beside open gaps of this stream.
func (w *writer) explain(ctx context.Context) error {
	return w.exec(ctx, `UPDATE gap SET explained = coalesce((
			SELECT n.reason FROM note n JOIN chain nc ON nc.id = n.chain JOIN chain gc ON gc.id = gap.chain
			WHERE n.kind = 'gap' AND n.segments > 0 AND nc.device = gc.device AND nc.stream = gc.stream AND n.incarnation = gc.incarnation
			AND n.first_seq <= gap.last_seq AND n.last_seq >= gap.first_seq ORDER BY n.chain, n.seq LIMIT 1), '')
		WHERE explained = '' AND closed IS NULL AND chain IN (SELECT id FROM chain WHERE device = ? AND stream = ?)`,
		w.device, w.b.Chain.Stream)
}
