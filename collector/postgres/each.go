// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Each runs a query with the tables in its search path and calls row for every row; scan reads it, as pgx.Rows.Scan
// does. It is Query for callers that have no driver of their own.
func (s *Sink) Each(ctx context.Context, row func(scan func(...any) error) error, query string, args ...any) error {
	err := s.Query(ctx, func(ctx context.Context, conn *pgx.Conn) error { return each(ctx, conn, row, query, args...) })
	if err != nil {
		return fmt.Errorf("postgres: querying: %w", err)
	}
	return nil
}

type querier interface {
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
}

func each(ctx context.Context, on querier, row func(scan func(...any) error) error, query string, args ...any) error {
	rows, err := on.Query(ctx, query, args...)
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
