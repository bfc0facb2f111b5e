// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3/database"
	lib "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/streembit/edge/collector/migrate"
	"github.com/streembit/edge/internal/nap"
	"github.com/streembit/edge/journal"
)

// migrations: times are integer milliseconds since 1970 UTC; the views show them as text. A reading is stored in the order
// of its place (WITHOUT ROWID), so a chain's rows lie together and a replay finds them at once.
//
//go:embed migrations/*.sql
var migrations embed.FS

// columns are what Write needs of the tables. Somebody may have changed them by hand.
const columns = `SELECT 1 FROM (SELECT id, name FROM device), (SELECT id, fleet, device, stream, incarnation FROM chain),
	(SELECT chain, seq, hash, updated FROM checkpoint),
	(SELECT device, sensor, name, unit, ts, v, vs, vb, chain, seq, idx, boot, mono_ms, clock, recv FROM reading),
	(SELECT chain, first_seq, last_seq, reason, explained, found, closed, prev_hash, last_hash FROM gap),
	(SELECT chain, seq, a, b, found FROM fork),
	(SELECT chain, seq, kind, boot, mono_ms, wall, reason, incarnation, first_seq, last_seq, segments, readings, hash FROM note),
	(SELECT device, sensor, name, unit FROM series) LIMIT 0`

// tries is how often tables are brought up to date: of several programs that start together, all but one fail each time.
const tries = 6

// prepare brings the tables up to date.
func (s *Sink) prepare(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	steps := migrate.Steps{Dialect: database.DialectSQLite3, Files: files, Exists: `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?`}
	for n := 1; ; n++ {
		err = steps.Up(ctx, s.db)
		if err == nil || errors.Is(err, migrate.ErrNewer) || n == tries || !nap.For(ctx, time.Duration(n)*50*time.Millisecond) {
			break
		}
	}
	if err != nil {
		return err
	}
	return s.checkTables(ctx)
}

// checkTables finds out whether all columns are there.
func (s *Sink) checkTables(ctx context.Context) error {
	rows, err := s.db.QueryContext(ctx, columns)
	if err != nil {
		return err
	}
	return errors.Join(rows.Err(), rows.Close())
}

// Ping implements collector.Pinger: the file can be written and its tables are as they must be.
func (s *Sink) Ping(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.checkTables(ctx)
	if err == nil {
		_, err = s.db.ExecContext(ctx, `BEGIN IMMEDIATE; ROLLBACK`)
	}
	if err != nil {
		return fmt.Errorf("sqlite: trying %s: %w", s.path, plain(err))
	}
	return nil
}

// Reset implements collector.Resetter.
func (s *Sink) Reset(ctx context.Context, c journal.Chain) error {
	const chain = `(SELECT id FROM chain WHERE fleet = ? AND device = ? AND stream = ? AND incarnation = ?)`
	place := []any{c.Fleet.String(), c.Device.String(), c.Stream, c.Incarnation.String()}
	err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM gap WHERE closed IS NULL AND chain = `+chain, place...); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM checkpoint WHERE chain = `+chain, place...)
		return err
	})
	if err != nil {
		return fmt.Errorf("sqlite: resetting %s: %w", c, plain(err))
	}
	return nil
}

// plain adds to an error of SQLite what to do about it.
func plain(err error) error {
	e, ok := errors.AsType[*lib.Error](err)
	if !ok {
		return err
	}
	hint := ""
	switch e.Code() & 0xff {
	case codes.SQLITE_FULL:
		hint = "the disk or the quota is full: make room, nothing is lost, what is missing is pulled then"
	case codes.SQLITE_READONLY, codes.SQLITE_CANTOPEN, codes.SQLITE_PERM:
		hint = "the file or its folder cannot be written: check who owns them, and that the folder exists"
	case codes.SQLITE_IOERR:
		hint = "the disk failed, or is full: look at it (df, dmesg)"
	case codes.SQLITE_CORRUPT, codes.SQLITE_NOTADB:
		hint = "it is no SQLite database or is damaged: move it away, and a new one is filled from what the hubs hold"
	case codes.SQLITE_BUSY:
		hint = "another program keeps it locked: close it"
	case codes.SQLITE_ERROR, codes.SQLITE_CONSTRAINT, codes.SQLITE_MISMATCH:
		hint = "if the tables were changed by hand, put them back, or name another file"
	default:
		return err
	}
	return fmt.Errorf("%w (%s)", err, hint)
}
