// SPDX-License-Identifier: Apache-2.0

// Package mssql is the collector's sink for Microsoft SQL Server 2016 SP1 and later: bulk copy into a temporary table, then INSERT … WHERE NOT
// EXISTS, in one transaction with the checkpoint, so each reading is there exactly once. It was not run against a live server: its SQL is
// tested as text.
package mssql

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"

	driver "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/sqlsink"
	"github.com/streembit/edge/journal"
)

// width is how many connections a sink has at most: the collector writes as many chains at a time.
const width = 4

// DefaultSchema is where the tables are unless Open is told otherwise.
const DefaultSchema = "streembit"

// Sink writes to one schema of one database. It is a collector.Sink; several collectors may share the schema.
type Sink struct {
	db     *sql.DB
	schema string // quoted
	name   string // user@address/database, for errors
}

// Open connects to the database that dsn names (sqlserver://user@host:1433?database=readings, as github.com/microsoft/go-mssqldb reads it) and makes
// the schema and its tables if they are not there. A password that is not "" is used instead of the one in dsn; schema "" is DefaultSchema. Close it.
func Open(ctx context.Context, dsn, password, schema string) (*Sink, error) {
	cfg, err := msdsn.Parse(dsn)
	if err != nil || cfg.Host == "" || cfg.Database == "" {
		return nil, errors.New("mssql: reading the address of the database: want one like sqlserver://collector@db.example:1433?database=readings") // the DSN may hold a password
	}
	if password != "" {
		cfg.Password = password
	}
	return open(ctx, sql.OpenDB(driver.NewConnectorConfig(cfg)), cfg.User+"@"+cfg.Host+"/"+cfg.Database, schema)
}

func open(ctx context.Context, db *sql.DB, name, schema string) (*Sink, error) {
	if schema == "" {
		schema = DefaultSchema
	}
	s := &Sink{db: db, name: name, schema: quote(schema)}
	s.db.SetMaxOpenConns(width)
	s.db.SetMaxIdleConns(width)
	if err := s.tx(ctx, func(ctx context.Context, tx *sql.Tx) error { return s.prepare(ctx, tx, schema) }); err != nil {
		return nil, errors.Join(fmt.Errorf("mssql: preparing schema %s of %s: %w", schema, name, hint(err)), db.Close())
	}
	return s, nil
}

// Numbers of SQL Server's errors.
const (
	deadlock     = 1205
	noDatabase   = 4060
	loginFailed  = 18456
	denied       = 229
	createDenied = 262
	schemaDenied = 2760
	lockTimeout  = 1222
)

// smallestFloat is the number nearest to 0 that SQL Server has.
const smallestFloat = 2.2250738585072014e-308

// hint adds what to do about an error.
func hint(err error) error {
	var e driver.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("%w: check that the server runs and that the address is right", err)
	}
	switch e.Number {
	case loginFailed:
		return fmt.Errorf("%w: check user and password", err)
	case noDatabase:
		return fmt.Errorf("%w: create the database, or let the user open it", err)
	case denied, createDenied, schemaDenied:
		return fmt.Errorf("%w: give the user its rights: the role db_owner, or db_datareader, db_datawriter and db_ddladmin", err)
	}
	return err
}

// prepare makes the tables under a lock, so that collectors may start together, or checks their version.
func (s *Sink) prepare(ctx context.Context, tx *sql.Tx, schema string) error {
	if _, err := tx.ExecContext(ctx, `DECLARE @got int;
EXEC @got = sp_getapplock @Resource = N'streembit', @LockMode = N'Exclusive', @LockOwner = N'Transaction', @LockTimeout = 60000;
IF @got < 0 THROW 50001, N'another collector prepares the tables for more than a minute', 1;`); err != nil {
		return err
	}
	var there int
	err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = @p1 AND TABLE_NAME = N'schema_version'`, schema).Scan(&there)
	if err != nil {
		return err
	}
	if there == 0 {
		create := `CREATE SCHEMA ` + s.schema
		if _, err := tx.ExecContext(ctx, `IF SCHEMA_ID(@p1) IS NULL EXEC sp_executesql @p2`, schema, create); err != nil {
			return err
		}
		for _, q := range tables(schema) {
			if _, err := tx.ExecContext(ctx, q); err != nil {
				return err
			}
		}
	}
	var v int
	if err := tx.QueryRowContext(ctx, `SELECT MAX(version) FROM `+s.schema+`.schema_version`).Scan(&v); err != nil {
		return err
	}
	if v != version {
		return fmt.Errorf("the tables are of version %d, this program knows %d: update it or use another schema", v, version)
	}
	return nil
}

// Close closes the connections.
func (s *Sink) Close() error { return s.db.Close() }

// Ping asks whether the database is there and lets us write.
func (s *Sink) Ping(ctx context.Context) error {
	err := s.tx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM `+s.schema+`.checkpoint WHERE chain = -1`)
		return err
	})
	if err != nil {
		return fmt.Errorf("mssql: %s: %w", s.name, hint(err))
	}
	return nil
}

// tx runs one transaction, again if it was the victim of a deadlock. Its rows are read as they are committed: a chain's own row is the lock.
func (s *Sink) tx(ctx context.Context, do func(context.Context, *sql.Tx) error) error {
	return sqlsink.Runner{DB: s.db, Isolation: sql.LevelReadCommitted, Again: pushedOut, Lost: sqldriver.ErrBadConn}.Run(ctx, do)
}

func pushedOut(err error) bool {
	e, ok := errors.AsType[driver.Error](err)
	return ok && (e.Number == deadlock || e.Number == lockTimeout)
}

// Marks returns every chain's checkpoint and open gaps, all of one moment.
func (s *Sink) Marks(ctx context.Context) (map[journal.Chain]collector.Mark, error) {
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
	if err != nil {
		return nil, fmt.Errorf("mssql: reading checkpoints: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // it only reads
	marks, err := sqlsink.Marks(ctx, inSchema{sqlsink.Standard{Tx: tx}, s.schema}, `SELECT c.id, c.fleet, CONCAT(c.device, N'/', c.stream, N'/', c.incarnation), p.seq, p.hash
		FROM @.chain c LEFT JOIN @.checkpoint p ON p.chain = c.id`, sqlsink.OpenGaps(`@.gap`, `1 = 1`))
	if err != nil {
		return nil, fmt.Errorf("mssql: reading checkpoints: %w", err)
	}
	return marks, nil
}
