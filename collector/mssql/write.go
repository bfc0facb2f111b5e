// SPDX-License-Identifier: Apache-2.0

package mssql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	driver "github.com/microsoft/go-mssqldb"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/journal"
)

// check finds what this database cannot hold.
func check(b *collector.Batch) error {
	if err := b.Check(false); err != nil {
		return err
	}
	for i := range b.Readings {
		r := &b.Readings[i]
		if v := math.Abs(r.Value); v != 0 && v < smallestFloat {
			return &collector.PoisonError{Chain: b.Chain, Seq: r.Seq, Index: r.Index, Err: fmt.Errorf("%s: value %g is smaller than this database can store", r.Name(), r.Value)}
		}
	}
	return nil
}

// Write commits a batch; see collector.Sink. Text that holds a NUL character and numbers below 2.2e-308 are refused with a
// *collector.PoisonError.
func (s *Sink) Write(ctx context.Context, b collector.Batch) error {
	if err := check(&b); err != nil {
		return fmt.Errorf("mssql: %w", err)
	}
	err := s.tx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		w := writer{s: s, tx: tx, b: &b, device: b.Chain.Device.String()}
		return w.run(ctx)
	})
	if err != nil {
		return fmt.Errorf("mssql: writing %d-%d of %s: %w", b.From, b.To, b.Chain, hint(err))
	}
	return nil
}

// writer writes one batch in one transaction.
type writer struct {
	s      *Sink
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

// exec runs a query in which "@." stands for the schema.
func (w *writer) exec(ctx context.Context, query string, args ...any) error {
	_, err := w.tx.ExecContext(ctx, w.in(query), args...)
	return err
}

func (w *writer) in(query string) string { return strings.ReplaceAll(query, "@.", w.s.schema+".") }

// names finds or creates the rows of the device and the chain, and locks the chain: batches of one chain wait for each
// other, so two collectors that write the same rows cannot lock each other out.
func (w *writer) names(ctx context.Context) error {
	c := w.b.Chain
	find := w.in(`SELECT id FROM @.chain WITH (UPDLOCK, ROWLOCK) WHERE device = @p1 AND stream = @p2 AND incarnation = @p3 AND fleet = @p4`)
	place := []any{w.device, c.Stream, c.Incarnation.String(), c.Fleet.String()}
	err := w.tx.QueryRowContext(ctx, find, place...).Scan(&w.chain)
	if errors.Is(err, sql.ErrNoRows) {
		if err := w.exec(ctx, `INSERT INTO @.device (id, name) SELECT @p1, @p2
			WHERE NOT EXISTS (SELECT 1 FROM @.device WITH (UPDLOCK, HOLDLOCK) WHERE id = @p1)`, w.device, w.b.Name); err != nil {
			return err
		}
		if err := w.exec(ctx, `INSERT INTO @.chain (device, stream, incarnation, fleet) SELECT @p1, @p2, @p3, @p4
			WHERE NOT EXISTS (SELECT 1 FROM @.chain WITH (UPDLOCK, HOLDLOCK) WHERE device = @p1 AND stream = @p2 AND incarnation = @p3 AND fleet = @p4)`, place...); err != nil {
			return err
		}
		err = w.tx.QueryRowContext(ctx, find, place...).Scan(&w.chain)
	}
	if err != nil || w.b.Name == "" {
		return err
	}
	return w.exec(ctx, `UPDATE @.device SET name = @p2 WHERE id = @p1 AND name <> @p2`, w.device, w.b.Name)
}

// place moves the checkpoint and the gaps.
func (w *writer) place(ctx context.Context) error {
	var stored *journal.Link
	var seq int64
	var hash []byte
	switch err := w.tx.QueryRowContext(ctx, w.in(`SELECT seq, hash FROM @.checkpoint WHERE chain = @p1`), w.chain).Scan(&seq, &hash); {
	case err == nil:
		stored = &journal.Link{Seq: uint64(seq)}
		copy(stored.Hash[:], hash)
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
	return w.exec(ctx, `UPDATE @.checkpoint SET seq = @p2, hash = @p3, updated = @p4 WHERE chain = @p1;
		IF @@ROWCOUNT = 0 INSERT INTO @.checkpoint (chain, seq, hash, updated) VALUES (@p1, @p2, @p3, @p4)`,
		w.chain, int64(w.b.Mark.Seq), w.b.Mark.Hash[:], w.b.Received)
}

func (w *writer) gaps(ctx context.Context, stored *journal.Link) error {
	open, err := w.s.openGaps(ctx, w.tx, `chain = @p1`, w.chain)
	if err != nil {
		return err
	}
	ch := w.b.Regap(open[w.chain], stored)
	for _, g := range ch.Drop {
		if err := w.exec(ctx, `DELETE FROM @.gap WHERE chain = @p1 AND first_seq = @p2 AND closed IS NULL`, w.chain, int64(g.First)); err != nil {
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
	return w.exec(ctx, `INSERT INTO @.gap (chain, first_seq, last_seq, reason, explained, found, closed, prev_hash, last_hash)
		VALUES (@p1, @p2, @p3, @p4, @p5, @p6, @p7, @p8, @p9)`,
		w.chain, int64(g.First), int64(g.Last), g.Reason, g.Explained, g.Found, closed, g.Before[:], g.After[:])
}

// incoming is where the bulk copy puts rows. It has no parameters and lives as long as the session.
const incoming = `CREATE TABLE #incoming (sensor nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL, name nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL,
	unit nvarchar(16) NOT NULL, ts datetime2(3) NULL, v float NULL, vs nvarchar(max) NULL, vb bit NULL, seq bigint NOT NULL, idx int NOT NULL,
	boot nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL, mono_ms bigint NOT NULL, clock nvarchar(16) NOT NULL)`

func (w *writer) readings(ctx context.Context) error {
	if len(w.b.Readings) == 0 {
		return nil
	}
	if err := w.exec(ctx, incoming); err != nil {
		return err
	}
	if err := w.copyIn(ctx); err != nil {
		return err
	}
	if err := w.exec(ctx, `INSERT INTO @.reading (device, sensor, name, unit, ts, v, vs, vb, chain, seq, idx, boot, mono_ms, clock, recv)
		SELECT @p1, i.sensor, i.name, i.unit, i.ts, i.v, i.vs, i.vb, @p2, i.seq, i.idx, i.boot, i.mono_ms, i.clock, @p3 FROM #incoming i
		WHERE NOT EXISTS (SELECT 1 FROM @.reading r WHERE r.chain = @p2 AND r.seq = i.seq AND r.idx = i.idx)`, w.device, w.chain, w.b.Received); err != nil {
		return err
	}
	return w.exec(ctx, `DROP TABLE #incoming`)
}

// copyIn sends the rows in bulk.
func (w *writer) copyIn(ctx context.Context) (err error) {
	stmt, err := w.tx.PrepareContext(ctx, driver.CopyIn("#incoming", driver.BulkOptions{},
		"sensor", "name", "unit", "ts", "v", "vs", "vb", "seq", "idx", "boot", "mono_ms", "clock"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stmt.Close()) }()
	for i := range w.b.Readings {
		if _, err := stmt.ExecContext(ctx, columns(&w.b.Readings[i])...); err != nil {
			return err
		}
	}
	_, err = stmt.ExecContext(ctx) // without values: the end
	return err
}

// columns is a row of #incoming.
func columns(r *collector.Row) []any {
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
	return []any{r.Sensor, r.Quantity.Name, r.Unit, ts, v, vs, vb, int64(r.Seq), int64(r.Index), r.Boot.String(), r.At.Mono, clock}
}

// insertNote is the query for a note of w.chain (@p1) and a seq (@p2), if there is none yet.
func insertNote(columns, values string) string {
	return `INSERT INTO @.note (chain, seq, ` + columns + `) SELECT @p1, @p2, ` + values + ` WHERE NOT EXISTS (SELECT 1 FROM @.note WHERE chain = @p1 AND seq = @p2)`
}

func (w *writer) notes(ctx context.Context) error {
	for _, n := range w.b.Notes {
		var err error
		switch {
		case n.Clock != nil:
			err = w.exec(ctx, insertNote(`kind, boot, mono_ms, wall`, `N'clock', @p3, @p4, @p5`),
				w.chain, int64(n.Seq), n.Clock.Boot.String(), n.Clock.Mono, time.UnixMilli(n.Clock.Wall).UTC())
		case n.Gap != nil:
			g := n.Gap
			err = w.exec(ctx, insertNote(`kind, reason, incarnation, first_seq, last_seq, segments, readings`, `N'gap', @p3, @p4, @p5, @p6, @p7, @p8`),
				w.chain, int64(n.Seq), g.Reason.String(), g.Incarnation.String(), int64(g.From), int64(g.To), int64(g.Segments), int64(g.Readings))
		case n.After != nil:
			err = w.exec(ctx, insertNote(`kind, incarnation, last_seq, hash`, `N'continues', @p3, @p4, @p5`),
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
		err := w.exec(ctx, `INSERT INTO @.fork (chain, seq, a, b, found) SELECT @p1, @p2, @p3, @p4, @p5
			WHERE NOT EXISTS (SELECT 1 FROM @.fork WHERE chain = @p1 AND seq = @p2)`, w.chain, int64(f.Seq), f.Proof.A, f.Proof.B, w.b.Received)
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
		err := w.tx.QueryRowContext(ctx, w.in(`SELECT TOP 1 n.mono_ms, n.wall FROM @.note n JOIN @.chain c ON c.id = n.chain
			WHERE n.kind = N'clock' AND n.boot = @p1 AND c.device = @p2 ORDER BY n.seq, n.chain`), boot.String(), w.device).Scan(&mono, &wall)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return err
		}
		// DATEADD takes an int: days and the milliseconds of the day one by one.
		err = w.exec(ctx, `UPDATE @.reading SET clock = N'restamped',
			ts = DATEADD(millisecond, CAST((@p1 + mono_ms) % 86400000 AS int), DATEADD(day, CAST((@p1 + mono_ms) / 86400000 AS int), CAST('19700101' AS datetime2(3))))
			WHERE clock = N'unsynced' AND device = @p2 AND boot = @p3`, wall.UnixMilli()-mono, w.device, boot.String())
		if err != nil {
			return err
		}
	}
	return nil
}

// explain writes the device's own reason beside open gaps of this stream.
func (w *writer) explain(ctx context.Context) error {
	return w.exec(ctx, `UPDATE g SET explained = n.reason FROM @.gap g JOIN @.chain gc ON gc.id = g.chain
		JOIN @.chain nc ON nc.device = gc.device AND nc.stream = gc.stream JOIN @.note n ON n.chain = nc.id
		WHERE g.explained = N'' AND g.closed IS NULL AND gc.device = @p1 AND gc.stream = @p2 AND n.incarnation = gc.incarnation
		AND n.kind = N'gap' AND n.segments > 0 AND n.first_seq <= g.last_seq AND n.last_seq >= g.first_seq`, w.device, w.b.Chain.Stream)
}
