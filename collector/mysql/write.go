// SPDX-License-Identifier: Apache-2.0

package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/journal"
)

// Write commits a batch; see collector.Sink.
func (s *Sink) Write(ctx context.Context, b collector.Batch) error {
	if err := b.Check(true); err != nil {
		return fmt.Errorf("mysql: %w", err)
	}
	err := s.tx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		w := writer{tx: tx, b: &b, device: b.Chain.Device.String()}
		return w.run(ctx)
	})
	if err != nil {
		return fmt.Errorf("mysql: writing %d-%d of %s: %w", b.From, b.To, b.Chain, hint(err))
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
	for _, step := range []func(context.Context) error{w.names, w.place, w.readings, w.notes, w.forks, w.restamp, w.explain} {
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

// names finds or creates the rows of the device and the chain, and locks the chain: batches of one chain wait for each
// other, so two collectors that write the same rows cannot lock each other out.
func (w *writer) names(ctx context.Context) error {
	c := w.b.Chain
	const find = `SELECT id FROM chain WHERE device = ? AND stream = ? AND incarnation = ? AND fleet = ? FOR UPDATE`
	place := []any{w.device, c.Stream, c.Incarnation.String(), c.Fleet.String()}
	err := w.tx.QueryRowContext(ctx, find, place...).Scan(&w.chain)
	if errors.Is(err, sql.ErrNoRows) {
		if err := w.exec(ctx, `INSERT INTO device (id, name) VALUES (?, ?) ON DUPLICATE KEY UPDATE id = id`, w.device, w.b.Name); err != nil {
			return err
		}
		if err := w.exec(ctx, `INSERT INTO chain (device, stream, incarnation, fleet) VALUES (?, ?, ?, ?) ON DUPLICATE KEY UPDATE id = id`, place...); err != nil {
			return err
		}
		err = w.tx.QueryRowContext(ctx, find, place...).Scan(&w.chain)
	}
	if err != nil || w.b.Name == "" {
		return err
	}
	return w.exec(ctx, `UPDATE device SET name = ? WHERE id = ? AND name <> ?`, w.b.Name, w.device, w.b.Name)
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
		ON DUPLICATE KEY UPDATE seq = VALUES(seq), hash = VALUES(hash), updated = VALUES(updated)`,
		w.chain, w.b.Mark.Seq, w.b.Mark.Hash[:], w.b.Received)
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
		if err := w.gap(ctx, g, w.b.Received); err != nil {
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
		w.chain, g.First, g.Last, g.Reason, g.Explained, g.Found, closed, g.Before[:], g.After[:])
}

const (
	columns = 15
	perStmt = 500 // rows in one statement, 3 MB at most where all are texts: servers take 16 MB
)

// insertReadings returns the statement for n rows. What is there already stays; unlike INSERT IGNORE it lets no other error pass.
func insertReadings(n int) string {
	row := "(?" + strings.Repeat(",?", columns-1) + ")"
	return `INSERT INTO reading (device, sensor, name, unit, ts, v, vs, vb, chain, seq, idx, boot, mono_ms, clock, recv) VALUES ` +
		row + strings.Repeat(","+row, n-1) + ` ON DUPLICATE KEY UPDATE chain = reading.chain`
}

func (w *writer) readings(ctx context.Context) error {
	full := insertReadings(perStmt)
	args := make([]any, 0, min(perStmt, len(w.b.Readings))*columns)
	for rows := w.b.Readings; len(rows) > 0; {
		n, query := min(perStmt, len(rows)), full
		if n < perStmt {
			query = insertReadings(n)
		}
		if err := w.exec(ctx, query, w.args(args[:0], rows[:n])...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

func (w *writer) args(args []any, rows []collector.Row) []any {
	recv := w.b.Received
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
		args = append(args, w.device, r.Sensor, r.Quantity.Name, r.Unit, ts, v, vs, vb, w.chain, r.Seq, r.Index, bootText, r.At.Mono, clock, recv)
	}
	return args
}

func (w *writer) notes(ctx context.Context) error {
	for _, n := range w.b.Notes {
		var err error
		switch {
		case n.Clock != nil:
			err = w.exec(ctx, `INSERT INTO note (chain, seq, kind, boot, mono_ms, wall) VALUES (?, ?, 'clock', ?, ?, ?) ON DUPLICATE KEY UPDATE chain = chain`,
				w.chain, n.Seq, n.Clock.Boot.String(), n.Clock.Mono, time.UnixMilli(n.Clock.Wall))
		case n.Gap != nil:
			g := n.Gap
			err = w.exec(ctx, `INSERT INTO note (chain, seq, kind, reason, incarnation, first_seq, last_seq, segments, readings)
				VALUES (?, ?, 'gap', ?, ?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE chain = chain`,
				w.chain, n.Seq, g.Reason.String(), g.Incarnation.String(), g.From, g.To, g.Segments, g.Readings)
		case n.After != nil:
			err = w.exec(ctx, `INSERT INTO note (chain, seq, kind, incarnation, last_seq, hash) VALUES (?, ?, 'continues', ?, ?, ?) ON DUPLICATE KEY UPDATE chain = chain`,
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
		err := w.exec(ctx, `INSERT INTO fork (chain, seq, a, b, found) VALUES (?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE chain = chain`,
			w.chain, f.Seq, f.Proof.A, f.Proof.B, w.b.Received)
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
		err := w.tx.QueryRowContext(ctx, `SELECT n.mono_ms, n.wall FROM note n JOIN chain c ON c.id = n.chain
			WHERE n.kind = 'clock' AND n.boot = ? AND c.device = ? ORDER BY n.seq, n.chain LIMIT 1`, boot.String(), w.device).Scan(&mono, &wall)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return err
		}
		err = w.exec(ctx, `UPDATE reading SET ts = TIMESTAMPADD(MICROSECOND, (? + mono_ms) * 1000, '1970-01-01'), clock = 'restamped'
			WHERE clock = 'unsynced' AND device = ? AND boot = ?`, wall.UnixMilli()-mono, w.device, boot.String())
		if err != nil {
			return err
		}
	}
	return nil
}

// explain writes the device's own reason beside open gaps of this stream.
func (w *writer) explain(ctx context.Context) error {
	return w.exec(ctx, `UPDATE gap g JOIN chain gc ON gc.id = g.chain
		JOIN chain nc ON nc.device = gc.device AND nc.stream = gc.stream JOIN note n ON n.chain = nc.id
		SET g.explained = n.reason WHERE g.explained = '' AND g.closed IS NULL AND gc.device = ? AND gc.stream = ? AND n.incarnation = gc.incarnation
		AND n.kind = 'gap' AND n.segments > 0 AND n.first_seq <= g.last_seq AND n.last_seq >= g.first_seq`, w.device, w.b.Chain.Stream)
}
