// SPDX-License-Identifier: Apache-2.0

package mysql

import (
	"context"
	"fmt"
	"time"
)

// forgotten is how long a collector stays on the list after it was seen last.
const forgotten = time.Hour

// Present implements collector.Roster. It has a connection of its own, so that no batch that takes long makes this collector look as if it were gone.
func (s *Sink) Present(ctx context.Context, collector string, within time.Duration) (here []string, err error) {
	if here, err = s.present(ctx, collector, within); err != nil {
		return nil, fmt.Errorf("mysql: listing collectors: %w", hint(err))
	}
	return here, nil
}

func (s *Sink) present(ctx context.Context, collector string, within time.Duration) (here []string, err error) {
	_, err = s.roster.ExecContext(ctx, `INSERT INTO collector (id, seen) VALUES (?, now(6)) ON DUPLICATE KEY UPDATE seen = VALUES(seen)`, collector)
	if err != nil {
		return nil, err
	}
	if _, err := s.roster.ExecContext(ctx, `DELETE FROM collector WHERE seen < now(6) - INTERVAL ? MICROSECOND`, forgotten.Microseconds()); err != nil {
		return nil, err
	}
	rows, err := s.roster.QueryContext(ctx, `SELECT id FROM collector WHERE seen > now(6) - INTERVAL ? MICROSECOND`, within.Microseconds())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		here = append(here, id)
	}
	return here, rows.Err()
}

// Absent implements collector.Roster.
func (s *Sink) Absent(ctx context.Context, collector string) error {
	if _, err := s.roster.ExecContext(ctx, `DELETE FROM collector WHERE id = ?`, collector); err != nil {
		return fmt.Errorf("mysql: leaving the list of collectors: %w", hint(err))
	}
	return nil
}
