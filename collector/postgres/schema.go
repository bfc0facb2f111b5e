// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3/database"

	"github.com/streembit/edge/collector/migrate"
	"github.com/streembit/edge/journal"
)

// migrations: reading_time is a BRIN index, a few kB for millions of rows, because readings arrive nearly in time order;
// reading_series is what questions about one sensor need.
//
//go:embed migrations/*.sql
var migrations embed.FS

//go:embed views.sql
var views string

// viewsAreOld: the newest column is not there, or the view is of another table than the one that is called reading now.
const viewsAreOld = `SELECT NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'readings'::regclass AND attname = 'number')
	OR NOT EXISTS (SELECT FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid WHERE w.ev_class = 'readings'::regclass AND d.refobjid = 'reading'::regclass)`

// createLock is the advisory lock under which tables are made, so that collectors may start together ("strmbit1").
const createLock = 0x7374726d62697431

// hypertable cuts an empty table reading by time: seven days a chunk. Its key cannot hold without the time, see writer.readingsByTime.
const hypertable = `
ALTER TABLE reading DROP CONSTRAINT reading_pkey;
ALTER TABLE reading ADD COLUMN at timestamptz NOT NULL;
COMMENT ON COLUMN reading.at IS 'when it was taken, or received if the device did not know the time: what chunks are cut by';
CREATE INDEX reading_place ON reading (chain, seq, idx);
SELECT %s.create_hypertable('reading', 'at', chunk_time_interval => interval '7 days', create_default_indexes => false);`

// columns are what Write needs of the tables. Somebody may have changed them by hand.
const columns = `SELECT 1 FROM (SELECT id, name FROM device) d, (SELECT id, fleet, device, stream, incarnation FROM chain) c,
	(SELECT chain, seq, hash, updated FROM checkpoint) p,
	(SELECT device, sensor, name, unit, ts, v, vs, vb, chain, seq, idx, boot, mono_ms, clock, recv FROM reading) r,
	(SELECT chain, first_seq, last_seq, reason, explained, found, closed, prev_hash, last_hash FROM gap) g,
	(SELECT chain, seq, a, b, found FROM fork) f,
	(SELECT chain, seq, kind, boot, mono_ms, wall, reason, incarnation, first_seq, last_seq, segments, readings, hash FROM note) n,
	(SELECT device, sensor, name, unit FROM series) s, (SELECT id, seen FROM collector) l LIMIT 0`

// errNoKey: exactly once would hold no more.
var errNoKey = errors.New("table reading has neither its primary key (chain, seq, idx) nor the column \"at\" of a partitioned one: it was changed by hand, put the key back")

// prepare brings the tables up to date, one collector at a time.
func (s *Sink) prepare(ctx context.Context) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(createLock)); err != nil {
		return err
	}
	err = s.update(ctx, conn.Conn())
	_, unlock := conn.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, int64(createLock))
	return errors.Join(err, unlock)
}

func (s *Sink) update(ctx context.Context, conn *pgx.Conn) error {
	var there bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)`, s.schema).Scan(&there); err != nil {
		return err
	}
	if !there {
		if _, err := conn.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+pgx.Identifier{s.schema}.Sanitize()); err != nil {
			return err
		}
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*s.pool.Config().ConnConfig)
	steps := migrate.Steps{Dialect: database.DialectPostgres, Files: files,
		Exists: `SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = $1`}
	if err := errors.Join(steps.Up(ctx, db), db.Close()); err != nil {
		return err
	}
	if err := errors.Join(makeHypertable(ctx, conn), renewViews(ctx, conn)); err != nil {
		return err
	}
	return s.checkTables(ctx, conn)
}

// renewViews makes the views of table reading anew if they are old.
func renewViews(ctx context.Context, conn *pgx.Conn) error {
	var old bool
	if err := conn.QueryRow(ctx, viewsAreOld).Scan(&old); err != nil || !old {
		return err
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, views)
		return err
	})
}

// makeHypertable does so where TimescaleDB is there and nothing was written yet. What holds readings already is its owner's to convert.
func makeHypertable(ctx context.Context, conn *pgx.Conn) error {
	var namespace string // the extension's functions are not in our search path
	err := conn.QueryRow(ctx, `SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
		WHERE e.extname = 'timescaledb' AND NOT EXISTS (SELECT FROM reading)
		AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'reading'::regclass AND attname = 'at' AND NOT attisdropped)`).Scan(&namespace)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, fmt.Sprintf(hypertable, pgx.Identifier{namespace}.Sanitize()))
		return err
	})
}

// checkTables finds out whether all columns are there, and how a reading is known to be unique.
func (s *Sink) checkTables(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, columns); err != nil {
		return err
	}
	var key bool
	err := conn.QueryRow(ctx, `SELECT
		EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'reading'::regclass AND attname = 'at' AND NOT attisdropped),
		EXISTS (SELECT FROM pg_index i WHERE i.indrelid = 'reading'::regclass AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND
			(SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey))
			= ARRAY['chain', 'idx', 'seq'])`).Scan(&s.timed, &key)
	if err == nil && !s.timed && !key {
		err = errNoKey
	}
	return err
}

// Ping implements collector.Pinger: the server answers, the tables are as they must be, and may be written.
func (s *Sink) Ping(ctx context.Context) error {
	err := s.Query(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		probe := Sink{}
		if err := probe.checkTables(ctx, conn); err != nil {
			return err
		}
		var mayWrite, readOnly bool
		err := conn.QueryRow(ctx, `SELECT has_table_privilege('reading', 'INSERT, UPDATE'), pg_is_in_recovery()`).Scan(&mayWrite, &readOnly)
		switch {
		case err != nil:
			return err
		case readOnly:
			return errors.New("the server is a standby: name the primary")
		case !mayWrite:
			return errors.New("the user may not write table reading: GRANT INSERT, UPDATE, SELECT ON ALL TABLES IN SCHEMA " + pgx.Identifier{s.schema}.Sanitize())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("postgres: trying schema %s: %w", s.schema, plain(err))
	}
	return nil
}

// Reset implements collector.Resetter.
func (s *Sink) Reset(ctx context.Context, c journal.Chain) error {
	err := s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var chain int64
		err := tx.QueryRow(ctx, `SELECT id FROM chain WHERE fleet = $1 AND device = $2 AND stream = $3 AND incarnation = $4 FOR UPDATE`,
			c.Fleet.String(), c.Device.String(), c.Stream, c.Incarnation.String()).Scan(&chain)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err == nil {
			_, err = tx.Exec(ctx, `DELETE FROM gap WHERE closed IS NULL AND chain = $1`, chain)
		}
		if err == nil {
			_, err = tx.Exec(ctx, `DELETE FROM checkpoint WHERE chain = $1`, chain)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("postgres: resetting %s: %w", c, plain(err))
	}
	return nil
}

// plain adds to an error of PostgreSQL what to do about it.
func plain(err error) error {
	hint := ""
	server, told := errors.AsType[*pgconn.PgError](err)
	switch {
	case told:
		hint = hintOf(server.Code)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	default:
		if _, net := errors.AsType[net.Error](err); net {
			hint = "no server answers there: check host, port and firewall"
		}
	}
	if hint == "" {
		return err
	}
	return &hintedError{err, hint}
}

// hintedError is an error of PostgreSQL on one line, with what to do about it.
type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Unwrap() error { return e.err }

// Error leaves out all attempts to connect but the last: each says the same of another address, or of the same one without TLS.
func (e *hintedError) Error() string {
	lines := strings.Split(e.err.Error(), "\n")
	text := lines[0]
	if last := len(lines) - 1; last > 0 {
		text += " " + strings.TrimSpace(lines[last])
	}
	return text + " (" + e.hint + ")"
}

// hintOf knows the SQLSTATEs that a person can do something about.
func hintOf(code string) string {
	switch code {
	case pgInvalidPassword, pgInvalidAuthorization:
		return "user and password are refused: check dsn, pg_hba.conf, or a ~/.pgpass file"
	case pgUnknownDatabase:
		return "there is no such database: createdb"
	case pgNoPrivilege:
		return "the user may not do that: GRANT USAGE, CREATE ON SCHEMA, and INSERT, UPDATE, DELETE, SELECT on its tables"
	case pgDiskFull, pgOutOfMemory, pgTooManyConnections:
		return "the server is full: make room, nothing is lost, what is missing is pulled then"
	case pgReadOnly:
		return "the server takes no writes: name the primary"
	case pgUndefinedColumn, pgUndefinedTable, pgNotNull, pgCheck, pgForeignKey, pgDatatype, pgNoConflictTarget:
		return "the tables were changed by hand: put them back, or name another schema"
	}
	return ""
}

// The SQLSTATEs of hintOf; PostgreSQL manual, appendix A.
const (
	pgInvalidPassword      = "28P01"
	pgInvalidAuthorization = "28000"
	pgUnknownDatabase      = "3D000"
	pgNoPrivilege          = "42501"
	pgDiskFull             = "53100"
	pgOutOfMemory          = "53200"
	pgTooManyConnections   = "53300"
	pgReadOnly             = "25006"
	pgUndefinedColumn      = "42703"
	pgUndefinedTable       = "42P01"
	pgNotNull              = "23502"
	pgCheck                = "23514"
	pgForeignKey           = "23503"
	pgDatatype             = "42804"
	pgNoConflictTarget     = "42P10"
)
