// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// forgotten is how long a collector stays on the list after it was seen last.
const forgotten = time.Hour

// Present implements collector.Roster. The table is not logged, so this costs no disk write.
func (s *Sink) Present(ctx context.Context, collector string, within time.Duration) (here []string, err error) {
	batch := &pgx.Batch{}
	batch.Queue(`INSERT INTO collector (id, seen) VALUES ($1, clock_timestamp()) ON CONFLICT (id) DO UPDATE SET seen = excluded.seen`, collector)
	batch.Queue(`DELETE FROM collector WHERE seen < clock_timestamp() - $1::interval`, forgotten)
	batch.Queue(`SELECT id FROM collector WHERE seen > clock_timestamp() - $1::interval`, within).Query(func(rows pgx.Rows) error {
		here, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("postgres: listing collectors: %w", plain(err))
	}
	return here, nil
}

// Absent implements collector.Roster.
func (s *Sink) Absent(ctx context.Context, collector string) error {
	if _, err := s.pool.Exec(ctx, `DELETE FROM collector WHERE id = $1`, collector); err != nil {
		return fmt.Errorf("postgres: leaving the list of collectors: %w", plain(err))
	}
	return nil
}
