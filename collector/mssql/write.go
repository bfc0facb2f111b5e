// SPDX-License-Identifier: Apache-2.0

package mssql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"

	driver "github.com/microsoft/go-mssqldb"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/sqlsink"
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
		w := writer{sqlsink.NewWriter(inSchema{sqlsink.Standard{Tx: tx}, s.schema}, queries(), &b, sqlsink.Native), tx}
		return w.Run(ctx, w.names, w.readings)
	})
	if err != nil {
		return fmt.Errorf("mssql: writing %d-%d of %s: %w", b.From, b.To, b.Chain, hint(err))
	}
	return nil
}

// inSchema is a transaction in whose queries "@." stands for the schema.
type inSchema struct {
	tx     sqlsink.Tx
	schema string
}

// Exec implements sqlsink.Tx.
func (t inSchema) Exec(ctx context.Context, query string, args ...any) error {
	return t.tx.Exec(ctx, strings.ReplaceAll(query, "@.", t.schema+"."), args...)
}

// Each implements sqlsink.Tx.
func (t inSchema) Each(ctx context.Context, row func(scan func(...any) error) error, query string, args ...any) error {
	return t.tx.Each(ctx, row, strings.ReplaceAll(query, "@.", t.schema+"."), args...)
}

// writer writes one batch in one transaction.
type writer struct {
	*sqlsink.Writer
	tx *sql.Tx
}

func queries() *sqlsink.Queries {
	return &sqlsink.Queries{
		Checkpoint: `SELECT seq, hash FROM @.checkpoint WHERE chain = @p1`,
		Move: `UPDATE @.checkpoint SET seq = @p2, hash = @p3, updated = @p4 WHERE chain = @p1;
		IF @@ROWCOUNT = 0 INSERT INTO @.checkpoint (chain, seq, hash, updated) VALUES (@p1, @p2, @p3, @p4)`,
		Gaps:    sqlsink.OpenGaps(`@.gap`, `chain = @p1`),
		DropGap: `DELETE FROM @.gap WHERE chain = @p1 AND first_seq = @p2 AND closed IS NULL`,
		AddGap: `INSERT INTO @.gap (chain, first_seq, last_seq, reason, explained, found, closed, prev_hash, last_hash)
		VALUES (@p1, @p2, @p3, @p4, @p5, @p6, @p7, @p8, @p9)`,
		ClockNote: insertNote(`kind, boot, mono_ms, wall`, `N'clock', @p3, @p4, @p5`),
		GapNote:   insertNote(`kind, reason, incarnation, first_seq, last_seq, segments, readings`, `N'gap', @p3, @p4, @p5, @p6, @p7, @p8`),
		AfterNote: insertNote(`kind, incarnation, last_seq, hash`, `N'continues', @p3, @p4, @p5`),
		Fork: `INSERT INTO @.fork (chain, seq, a, b, found) SELECT @p1, @p2, @p3, @p4, @p5
			WHERE NOT EXISTS (SELECT 1 FROM @.fork WHERE chain = @p1 AND seq = @p2)`,
		FirstClock: `SELECT TOP 1 n.mono_ms, n.wall FROM @.note n JOIN @.chain c ON c.id = n.chain
			WHERE n.kind = N'clock' AND n.boot = @p1 AND c.device = @p2 ORDER BY n.seq, n.chain`,
		Restamp: `UPDATE @.reading SET clock = N'restamped',
			ts = DATEADD(millisecond, CAST((@p1 + mono_ms) % 86400000 AS int), DATEADD(day, CAST((@p1 + mono_ms) / 86400000 AS int), CAST('19700101' AS datetime2(3))))
			WHERE clock = N'unsynced' AND device = @p2 AND boot = @p3`,
		Explain: `UPDATE g SET explained = n.reason FROM @.gap g JOIN @.chain gc ON gc.id = g.chain
		JOIN @.chain nc ON nc.device = gc.device AND nc.stream = gc.stream JOIN @.note n ON n.chain = nc.id
		WHERE g.explained = N'' AND g.closed IS NULL AND gc.device = @p1 AND gc.stream = @p2 AND n.incarnation = gc.incarnation
		AND n.kind = N'gap' AND n.segments > 0 AND n.first_seq <= g.last_seq AND n.last_seq >= g.first_seq`,
	}
}

// insertNote is the query for a note of w.Chain (@p1) and a seq (@p2), if there is none yet.
func insertNote(columns, values string) string {
	return `INSERT INTO @.note (chain, seq, ` + columns + `) SELECT @p1, @p2, ` + values + ` WHERE NOT EXISTS (SELECT 1 FROM @.note WHERE chain = @p1 AND seq = @p2)`
}

// names finds or creates the rows of the device and the chain, and locks the chain.
func (w *writer) names(ctx context.Context) error {
	err := w.LockChain(ctx,
		`SELECT id FROM @.chain WITH (UPDLOCK, ROWLOCK) WHERE device = @p1 AND stream = @p2 AND incarnation = @p3 AND fleet = @p4`,
		`INSERT INTO @.device (id, name) SELECT @p1, @p2
			WHERE NOT EXISTS (SELECT 1 FROM @.device WITH (UPDLOCK, HOLDLOCK) WHERE id = @p1)`,
		`INSERT INTO @.chain (device, stream, incarnation, fleet) SELECT @p1, @p2, @p3, @p4
			WHERE NOT EXISTS (SELECT 1 FROM @.chain WITH (UPDLOCK, HOLDLOCK) WHERE device = @p1 AND stream = @p2 AND incarnation = @p3 AND fleet = @p4)`)
	if err != nil || w.Batch.Name == "" {
		return err
	}
	return w.Tx.Exec(ctx, `UPDATE @.device SET name = @p2 WHERE id = @p1 AND name <> @p2`, w.Device, w.Batch.Name)
}

// incoming is where the bulk copy puts rows. It has no parameters and lives as long as the session.
const incoming = `CREATE TABLE #incoming (sensor nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL, name nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL,
	unit nvarchar(16) NOT NULL, ts datetime2(3) NULL, v float NULL, vs nvarchar(max) NULL, vb bit NULL, seq bigint NOT NULL, idx int NOT NULL,
	boot nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL, mono_ms bigint NOT NULL, clock nvarchar(16) NOT NULL)`

func (w *writer) readings(ctx context.Context) error {
	if len(w.Batch.Readings) == 0 {
		return nil
	}
	if err := w.Tx.Exec(ctx, incoming); err != nil {
		return err
	}
	if err := w.copyIn(ctx); err != nil {
		return err
	}
	if err := w.Tx.Exec(ctx, `INSERT INTO @.reading (device, sensor, name, unit, ts, v, vs, vb, chain, seq, idx, boot, mono_ms, clock, recv)
		SELECT @p1, i.sensor, i.name, i.unit, i.ts, i.v, i.vs, i.vb, @p2, i.seq, i.idx, i.boot, i.mono_ms, i.clock, @p3 FROM #incoming i
		WHERE NOT EXISTS (SELECT 1 FROM @.reading r WHERE r.chain = @p2 AND r.seq = i.seq AND r.idx = i.idx)`, w.Device, w.Chain, w.Batch.Received); err != nil {
		return err
	}
	return w.Tx.Exec(ctx, `DROP TABLE #incoming`)
}

// copyIn sends the rows in bulk.
func (w *writer) copyIn(ctx context.Context) (err error) {
	stmt, err := w.tx.PrepareContext(ctx, driver.CopyIn("#incoming", driver.BulkOptions{},
		"sensor", "name", "unit", "ts", "v", "vs", "vb", "seq", "idx", "boot", "mono_ms", "clock"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stmt.Close()) }()
	for i := range w.Batch.Readings {
		if _, err := stmt.ExecContext(ctx, w.row(&w.Batch.Readings[i])...); err != nil {
			return err
		}
	}
	_, err = stmt.ExecContext(ctx) // without values: the end
	return err
}

// row is a row of #incoming.
func (w *writer) row(r *collector.Row) []any {
	ts, v, vs, vb, clock := w.Columns(r)
	return []any{r.Sensor, r.Quantity.Name, r.Unit, ts, v, vs, vb, int64(r.Seq), int64(r.Index), r.Boot.String(), r.At.Mono, clock}
}
