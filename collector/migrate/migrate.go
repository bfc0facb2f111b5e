// SPDX-License-Identifier: Apache-2.0

// Package migrate brings the tables of a sink's database from the version that they have to the newest, with
// pressly/goose. Each step is a file NNNNN_title.sql and one transaction; table migration says which were done.
package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// Table is where a database says which steps were done.
const Table = "migration"

// ErrNewer is wrapped when the tables are of a version that this program does not know.
var ErrNewer = errors.New("the tables were made by a newer program: update this one, or use another database")

// Steps are the migrations of one kind of database.
type Steps struct {
	Dialect database.Dialect
	Files   fs.FS  // NNNNN_title.sql in its root
	Exists  string // counts the tables whose name is the only argument
}

// Up does what is to be done. Programs that start together must not call it for one database at the same time; if they do, one of them gets an error
// and may try again.
func (s Steps) Up(ctx context.Context, db *sql.DB) error {
	if err := s.adopt(ctx, db); err != nil {
		return fmt.Errorf("migrate: adopting tables: %w", err)
	}
	p, err := goose.NewProvider(s.Dialect, db, s.Files, goose.WithTableName(Table), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	have, know, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("migrate: reading the version of the tables: %w", err)
	}
	if have > know {
		return fmt.Errorf("migrate: version %d, this program knows %d: %w", have, know, ErrNewer)
	}
	if have == know {
		return nil
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate: from version %d to %d: %w", have, know, err)
	}
	return nil
}

// adopt notes the version of tables that were made before there were migrations: table schema_version has it.
func (s Steps) adopt(ctx context.Context, db *sql.DB) (err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if e := tx.Rollback(); !errors.Is(e, sql.ErrTxDone) {
			err = errors.Join(err, e)
		}
	}()
	var known, old int
	if err := tx.QueryRowContext(ctx, s.Exists, Table).Scan(&known); err != nil || known > 0 {
		return err
	}
	if err := tx.QueryRowContext(ctx, s.Exists, "schema_version").Scan(&old); err != nil || old == 0 {
		return err
	}
	var version int64
	if err := tx.QueryRowContext(ctx, `SELECT max(version) FROM schema_version`).Scan(&version); err != nil {
		return err
	}
	store, err := database.NewStore(s.Dialect, Table)
	if err != nil {
		return err
	}
	if err := store.CreateVersionTable(ctx, tx); err != nil {
		return err
	}
	for v := int64(0); v <= version; v++ {
		if err := store.Insert(ctx, tx, database.InsertRequest{Version: v}); err != nil {
			return err
		}
	}
	return tx.Commit()
}
