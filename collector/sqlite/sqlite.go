// SPDX-License-Identifier: Apache-2.0

// Package sqlite is the collector's default sink: one SQLite file that any tool can query while it grows.
//
// A batch and the checkpoint that it moves are one transaction. The journal mode is WAL, so readers do not wait, and
// synchronous is FULL: once the checkpoint is committed, hubs may be told to forget, so it must outlive a power cut;
// one fsync per batch of thousands of readings costs next to nothing.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"sync"

	_ "modernc.org/sqlite" // the database/sql driver

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/sqlsink"
	"github.com/streembit/edge/journal"
)

// Sink writes to one file. It is a collector.Sink; several processes may have the file open.
type Sink struct {
	db *sql.DB
	mu sync.Mutex // one writer: SQLite has one anyway, and waiting here is fair

	path string
}

// Open opens or creates the file and its tables. Close it.
func Open(ctx context.Context, path string) (*Sink, error) {
	db, err := openDB(path, "_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	s := &Sink{db: db, path: path}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("sqlite: opening %s: %w", path, plain(err)), db.Close())
	}
	return s, nil
}

// OpenRead opens an existing file for queries only, for example for Latest.
func OpenRead(path string) (*sql.DB, error) { return openDB(path, "mode=ro") }

func openDB(path, options string) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("sqlite: opening %s: %w", path, err)
	}
	u := url.URL{Scheme: "file", Path: abs, RawQuery: options + "&_pragma=busy_timeout(60000)"}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, fmt.Errorf("sqlite: opening %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// Close closes the file.
func (s *Sink) Close() error { return s.db.Close() }

// DB gives access for queries. It has one connection, which Write shares.
func (s *Sink) DB() *sql.DB { return s.db }

// write runs one transaction.
func (s *Sink) write(ctx context.Context, do func(context.Context, *sql.Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sqlsink.Runner{DB: s.db}.Run(ctx, do)
}

// Marks returns every chain's checkpoint and open gaps.
func (s *Sink) Marks(ctx context.Context) (marks map[journal.Chain]collector.Mark, err error) {
	err = s.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		marks, err = sqlsink.Marks(ctx, sqlsink.Standard{Tx: tx}, `SELECT c.id, c.fleet, c.device || '/' || c.stream || '/' || c.incarnation, p.seq, p.hash
		FROM chain c LEFT JOIN checkpoint p ON p.chain = c.id`, sqlsink.OpenGaps(`gap`, `1`))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sqlite: reading checkpoints: %w", err)
	}
	return marks, nil
}
