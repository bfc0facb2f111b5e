// SPDX-License-Identifier: Apache-2.0

// Package sqlsink is what the collector's sinks for SQL databases have in common: which rows a batch makes, in which order they are written, and how
// checkpoints and gaps are read. A database brings its own SQL, its own way to write many readings, and what its errors mean.
package sqlsink

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/streembit/edge/internal/nap"
)

// Tx is a transaction of any driver.
type Tx interface {
	Exec(ctx context.Context, query string, args ...any) error
	// Each calls row for every row of the answer; scan reads it, as sql.Rows.Scan does.
	Each(ctx context.Context, row func(scan func(...any) error) error, query string, args ...any) error
}

// Standard is a transaction of database/sql as a Tx.
type Standard struct{ *sql.Tx }

// Exec implements Tx.
func (t Standard) Exec(ctx context.Context, query string, args ...any) error {
	_, err := t.ExecContext(ctx, query, args...)
	return err
}

// Each implements Tx.
func (t Standard) Each(ctx context.Context, row func(scan func(...any) error) error, query string, args ...any) error {
	rows, err := t.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// one reads the only row of an answer; false without one.
func one(ctx context.Context, tx Tx, into []any, query string, args ...any) (found bool, err error) {
	err = tx.Each(ctx, func(scan func(...any) error) error {
		found = true
		return scan(into...)
	}, query, args...)
	return found, err
}

// attempts is how often a transaction is tried that another one has pushed out.
const attempts = 10

// Runner runs transactions of database/sql. It is safe for concurrent use.
type Runner struct {
	DB        *sql.DB
	Isolation sql.IsolationLevel
	Again     func(error) bool // the transaction was the victim of another one and has changed nothing; nil: there is no such error
	Lost      error            // what the driver says to a rollback on a connection that is gone; nil: it has none
}

// Run runs one transaction, again if it gave way to another one.
func (r Runner) Run(ctx context.Context, do func(context.Context, *sql.Tx) error) error {
	for n := 1; ; n++ {
		err := r.once(ctx, do)
		if err == nil || r.Again == nil || n == attempts || !r.Again(err) || !nap.For(ctx, time.Duration(n)*5*time.Millisecond) {
			return err
		}
	}
}

func (r Runner) once(ctx context.Context, do func(context.Context, *sql.Tx) error) error {
	tx, err := r.DB.BeginTx(ctx, &sql.TxOptions{Isolation: r.Isolation})
	if err != nil {
		return err
	}
	if err := do(ctx, tx); err != nil {
		// A cancelled context has rolled the transaction back already, and so has the server if the connection is gone.
		if undone := tx.Rollback(); undone != nil && !errors.Is(undone, sql.ErrTxDone) && (r.Lost == nil || !errors.Is(undone, r.Lost)) {
			return errors.Join(err, undone)
		}
		return err
	}
	return tx.Commit()
}

// moment reads a time, from a column of times or from one of milliseconds since 1970 UTC.
type moment struct{ time.Time }

// Scan implements sql.Scanner.
func (m *moment) Scan(v any) error {
	switch v := v.(type) {
	case time.Time:
		m.Time = v.UTC()
	case int64:
		m.Time = time.UnixMilli(v).UTC()
	default:
		return fmt.Errorf("want a time, got a %T", v)
	}
	return nil
}
