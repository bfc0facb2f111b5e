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
	"time"

	_ "modernc.org/sqlite" // the database/sql driver

	"github.com/streembit/edge/collector"
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
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(ctx, tx); err != nil {
		return errors.Join(err, ignoreDone(tx.Rollback()))
	}
	return tx.Commit()
}

// ignoreDone: a cancelled context has rolled the transaction back already.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// Marks returns every chain's checkpoint and open gaps.
func (s *Sink) Marks(ctx context.Context) (map[journal.Chain]collector.Mark, error) {
	marks := map[journal.Chain]collector.Mark{}
	err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		names, err := readMarks(ctx, tx, marks)
		if err != nil {
			return err
		}
		gaps, err := openGaps(ctx, tx, `1`)
		if err != nil {
			return err
		}
		for id, list := range gaps {
			m := marks[names[id]]
			m.Gaps = list
			marks[names[id]] = m
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("sqlite: reading checkpoints: %w", err)
	}
	return marks, nil
}

func readMarks(ctx context.Context, tx *sql.Tx, marks map[journal.Chain]collector.Mark) (map[int64]journal.Chain, error) {
	rows, err := tx.QueryContext(ctx, `SELECT c.id, c.fleet, c.device || '/' || c.stream || '/' || c.incarnation, p.seq, p.hash
		FROM chain c LEFT JOIN checkpoint p ON p.chain = c.id`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	names := map[int64]journal.Chain{}
	for rows.Next() {
		var id int64
		var fleet, name string
		var seq sql.NullInt64
		var hash []byte
		if err := rows.Scan(&id, &fleet, &name, &seq, &hash); err != nil {
			return nil, err
		}
		chain, err := parseChain(fleet, name)
		if err != nil {
			return nil, err
		}
		var m collector.Mark
		if seq.Valid {
			m.Link = &journal.Link{Seq: uint64(seq.Int64)}
			copy(m.Link.Hash[:], hash)
		}
		names[id], marks[chain] = chain, m
	}
	return names, rows.Err()
}

func parseChain(fleet, name string) (journal.Chain, error) {
	f, err := journal.ParseFleetID(fleet)
	if err != nil {
		return journal.Chain{}, err
	}
	return journal.ParseChain(f, name)
}

// openGaps returns the open gaps by chain; where limits them to some chains.
func openGaps(ctx context.Context, tx *sql.Tx, where string, args ...any) (map[int64][]collector.Gap, error) {
	rows, err := tx.QueryContext(ctx, `SELECT chain, first_seq, last_seq, reason, explained, found, prev_hash, last_hash
		FROM gap WHERE closed IS NULL AND `+where+` ORDER BY chain, first_seq`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[int64][]collector.Gap{}
	for rows.Next() {
		var chain, found int64
		var g collector.Gap
		var before, after []byte
		if err := rows.Scan(&chain, &g.First, &g.Last, &g.Reason, &g.Explained, &found, &before, &after); err != nil {
			return nil, err
		}
		g.Found = time.UnixMilli(found).UTC()
		copy(g.Before[:], before)
		copy(g.After[:], after)
		out[chain] = append(out[chain], g)
	}
	return out, rows.Err()
}
