// SPDX-License-Identifier: Apache-2.0

// Package postgres is the collector's sink for PostgreSQL 12 and later: COPY into a temporary table, then
// INSERT … ON CONFLICT DO NOTHING, in one transaction with the checkpoint.
package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/sqlsink"
	"github.com/streembit/edge/journal"
)

// DefaultSchema is where the tables are unless Open is told otherwise.
const DefaultSchema = "streembit"

// width is how many connections a sink has at most: the collector writes all but one as many chains at a time, and one says that it is there.
const width = 5

// Sink writes to one schema of one database. It is a collector.Sink; several collectors may share the schema.
type Sink struct {
	pool   *pgxpool.Pool
	schema string
	writes chan struct{} // a place for each write at a time
	timed  bool          // table reading is cut by time (hypertable or partitions), in column "at"
}

// Open connects to the database that dsn names (a URL or key=value form, as libpq reads it) and makes the schema and
// its tables if they are not there. schema "" is DefaultSchema. Close it.
func Open(ctx context.Context, dsn, schema string) (*Sink, error) {
	if schema == "" {
		schema = DefaultSchema
	}
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("postgres: reading the address of the database: %w", err)
	}
	params := cfg.ConnConfig.RuntimeParams
	params["search_path"] = pgx.Identifier{schema}.Sanitize()
	params["application_name"] = "streembit collector"
	params["client_min_messages"] = "warning"
	params["idle_in_transaction_session_timeout"] = "5s" // who is frozen in a transaction must not keep a chain from the others
	cfg.MaxConns = width
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, incoming)
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("postgres: reading the address of the database: %w", err)
	}
	s := &Sink{pool: pool, schema: schema, writes: make(chan struct{}, width-1)}
	if err := s.prepare(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("postgres: preparing schema %s: %w", schema, plain(err))
	}
	return s, nil
}

// incoming is where COPY puts rows; each connection has its own.
const incoming = `CREATE TEMPORARY TABLE incoming (
	sensor text, name text, unit text, ts timestamptz, v double precision, vs text, vb boolean,
	seq bigint, idx integer, boot text, mono_ms bigint, clock text) ON COMMIT DELETE ROWS`

func (s *Sink) tx(ctx context.Context, do func(context.Context, pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return do(ctx, tx) })
}

// Close closes the connections.
func (s *Sink) Close() error {
	s.pool.Close()
	return nil
}

// Query runs do on a connection that has the tables in its search path.
func (s *Sink) Query(ctx context.Context, do func(context.Context, *pgx.Conn) error) error {
	return s.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error { return do(ctx, conn.Conn()) })
}

// Marks returns every chain's checkpoint and open gaps, all of one moment.
func (s *Sink) Marks(ctx context.Context) (marks map[journal.Chain]collector.Mark, err error) {
	opt := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = pgx.BeginTxFunc(ctx, s.pool, opt, func(tx pgx.Tx) error {
		marks, err = sqlsink.Marks(ctx, transaction{tx}, `SELECT c.id, c.fleet, c.device || '/' || c.stream || '/' || c.incarnation, p.seq, p.hash
		FROM chain c LEFT JOIN checkpoint p ON p.chain = c.id`, sqlsink.OpenGaps(`gap`, `true`))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("postgres: reading checkpoints: %w", plain(err))
	}
	return marks, nil
}

// Drop removes the schema with everything in it; tests clean up with it.
func (s *Sink) Drop(ctx context.Context) error {
	if s.schema == "public" {
		return errors.New("postgres: dropping schema public: refused")
	}
	_, err := s.pool.Exec(ctx, `DROP SCHEMA IF EXISTS `+pgx.Identifier{s.schema}.Sanitize()+` CASCADE`)
	if err != nil {
		return fmt.Errorf("postgres: dropping schema %s: %w", s.schema, err)
	}
	return nil
}
