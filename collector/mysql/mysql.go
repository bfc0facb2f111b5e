// SPDX-License-Identifier: Apache-2.0

// Package mysql is the collector's sink for MariaDB 10.3 and MySQL 8.0 and later: readings, checkpoint and gaps are one transaction, so
// each reading is there exactly once.
package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/sqlsink"
	"github.com/streembit/edge/journal"
)

// width is how many connections a sink has at most: the collector writes as many chains at a time.
const width = 4

// Sink writes to one database. It is a collector.Sink; several collectors may share the database.
type Sink struct {
	db     *sql.DB
	roster *sql.DB // one connection, for saying that this collector is there
	name   string  // user@address/database, for errors
}

// Open connects to the database that dsn names (user@tcp(host:3306)/database, as github.com/go-sql-driver/mysql reads it) and makes its
// tables if they are not there. A password that is not "" is used instead of the one in dsn. Close it.
func Open(ctx context.Context, dsn, password string) (*Sink, error) {
	cfg, err := driver.ParseDSN(dsn)
	if err != nil {
		return nil, errors.New(`mysql: reading the address of the database: want one like collector@tcp(db.example:3306)/readings`) // the DSN may hold a password
	}
	if cfg.DBName == "" {
		return nil, errors.New("mysql: the address names no database: want one like collector@tcp(db.example:3306)/readings")
	}
	if password != "" {
		cfg.Passwd = password
	}
	cfg.ParseTime, cfg.Loc, cfg.InterpolateParams, cfg.MultiStatements = true, time.UTC, true, false
	cfg.Timeout, cfg.Logger = 10*time.Second, &driver.NopLogger{}
	if cfg.Params == nil {
		cfg.Params = map[string]string{}
	}
	cfg.Params["time_zone"], cfg.Params["sql_mode"] = "'+00:00'", "'TRADITIONAL,NO_BACKSLASH_ESCAPES'"+silence
	connector, err := driver.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("mysql: reading the address of the database: %w", err)
	}
	s := &Sink{db: sql.OpenDB(connector), roster: sql.OpenDB(connector), name: cfg.User + "@" + cfg.Addr + "/" + cfg.DBName}
	s.db.SetMaxOpenConns(width)
	s.db.SetMaxIdleConns(width)
	s.roster.SetMaxOpenConns(1)
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("mysql: preparing the tables of %s: %w", s.name, hint(err)), s.Close())
	}
	return s, nil
}

// silence ends a transaction of MariaDB in which nothing was asked for 5 s: who is frozen in it must not keep a chain from the others. MySQL has no such
// setting and reads a comment.
const silence = ` /*M!100300 , idle_transaction_timeout = 5 */`

// Numbers of errors that MariaDB and MySQL share.
const (
	accessDenied  = 1045
	noDatabase    = 1049
	dbDenied      = 1044
	tableDenied   = 1142
	lockTimeout   = 1205
	deadlock      = 1213
	recordChanged = 1020 // MariaDB: the snapshot of the transaction is too old
	noEngine      = 1286 // unknown
	barredEngine  = 1290 // MariaDB: enforce_storage_engine, and other settings that forbid a statement
	offEngine     = 3161 // MySQL: disabled_storage_engines
)

// hint adds what to do about an error.
func hint(err error) error {
	var e *driver.MySQLError
	if !errors.As(err, &e) {
		return fmt.Errorf("%w: check that the server runs and that the address is right", err)
	}
	switch e.Number {
	case accessDenied:
		return fmt.Errorf("%w: check user and password", err)
	case noDatabase:
		return fmt.Errorf("%w: create it: CREATE DATABASE … CHARACTER SET utf8mb4", err)
	case dbDenied, tableDenied:
		return fmt.Errorf("%w: give the user its rights: GRANT ALL ON database.* TO user", err)
	}
	return err
}

// prepare makes the tables under a lock, so that collectors may start together, or brings them up to date.
func (s *Sink) prepare(ctx context.Context) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var got sql.NullInt64
	if err := conn.QueryRowContext(ctx, `SELECT GET_LOCK(concat('streembit.', left(database(), 40)), 60)`).Scan(&got); err != nil {
		return err
	}
	if got.Int64 != 1 {
		return errors.New("another collector prepares the tables for more than a minute")
	}
	defer func() {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), `SELECT RELEASE_LOCK(concat('streembit.', left(database(), 40)))`) // the connection's end frees it, too
	}()
	var there int
	err = conn.QueryRowContext(ctx, `SELECT count(*) FROM information_schema.tables WHERE table_schema = database() AND table_name = 'schema_version'`).Scan(&there)
	if err != nil {
		return err
	}
	var v sql.NullInt64
	if there > 0 {
		if err := conn.QueryRowContext(ctx, `SELECT max(version) FROM schema_version`).Scan(&v); err != nil {
			return err
		}
	}
	all := steps()
	if v.Int64 < 0 || v.Int64 > int64(len(all)) {
		return fmt.Errorf("the tables are of version %d, this program knows %d: update it or use another database", v.Int64, len(all))
	}
	for n, step := range all[v.Int64:] {
		for _, q := range append(step, fmt.Sprintf(`INSERT IGNORE INTO schema_version VALUES (%d)`, int(v.Int64)+n+1)) {
			if err := create(ctx, conn, q); err != nil {
				return err
			}
		}
	}
	return nil
}

// create runs a statement, with InnoDB where the server does not have the engine that it names.
func create(ctx context.Context, conn *sql.Conn, q string) error {
	_, err := conn.ExecContext(ctx, q)
	if e, ok := errors.AsType[*driver.MySQLError](err); ok && (e.Number == noEngine || e.Number == barredEngine || e.Number == offEngine) {
		_, err = conn.ExecContext(ctx, strings.Replace(q, inMemory, inInnoDB, 1))
	}
	return err
}

// Close closes the connections.
func (s *Sink) Close() error { return errors.Join(s.roster.Close(), s.db.Close()) }

// DB gives access for queries; times are UTC.
func (s *Sink) DB() *sql.DB { return s.db }

// Ping asks whether the database is there and lets us write.
func (s *Sink) Ping(ctx context.Context) error {
	err := s.tx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM checkpoint WHERE chain = -1`)
		return err
	})
	if err != nil {
		return fmt.Errorf("mysql: %s: %w", s.name, hint(err))
	}
	return nil
}

// tx runs one transaction, again if it was the victim of a deadlock. Its rows are read as they are committed: a chain's own row is the lock.
func (s *Sink) tx(ctx context.Context, do func(context.Context, *sql.Tx) error) error {
	return sqlsink.Runner{DB: s.db, Isolation: sql.LevelReadCommitted, Again: pushedOut, Lost: driver.ErrInvalidConn}.Run(ctx, do)
}

func pushedOut(err error) bool {
	e, ok := errors.AsType[*driver.MySQLError](err)
	return ok && (e.Number == deadlock || e.Number == lockTimeout || e.Number == recordChanged)
}

// Marks returns every chain's checkpoint and open gaps, all of one moment.
func (s *Sink) Marks(ctx context.Context) (map[journal.Chain]collector.Mark, error) {
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("mysql: reading checkpoints: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // it only reads
	marks, err := sqlsink.Marks(ctx, sqlsink.Standard{Tx: tx}, `SELECT c.id, c.fleet, concat(c.device, '/', c.stream, '/', c.incarnation), p.seq, p.hash
		FROM chain c LEFT JOIN checkpoint p ON p.chain = c.id`, sqlsink.OpenGaps(`gap`, `true`))
	if err != nil {
		return nil, fmt.Errorf("mysql: reading checkpoints: %w", err)
	}
	return marks, nil
}
