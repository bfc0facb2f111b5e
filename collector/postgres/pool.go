// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// width is how many connections a sink has at most: the collector writes as many chains at a time.
const width = 4

// closeLimit is how long saying goodbye to the server may take.
const closeLimit = 5 * time.Second

// pool lends connections, opened when needed and kept; one that broke is thrown away.
type pool struct {
	cfg   *pgx.ConnConfig
	slots chan struct{}

	mu   sync.Mutex
	idle []*pgx.Conn
}

func newPool(cfg *pgx.ConnConfig) *pool { return &pool{cfg: cfg, slots: make(chan struct{}, width)} }

// with runs do with a connection of its own.
func (p *pool) with(ctx context.Context, do func(*pgx.Conn) error) error {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.slots }()
	conn, err := p.take(ctx)
	if err != nil {
		return err
	}
	defer p.keep(conn)
	return do(conn)
}

func (p *pool) take(ctx context.Context) (*pgx.Conn, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		conn := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return conn, nil
	}
	p.mu.Unlock()
	conn, err := pgx.ConnectConfig(ctx, p.cfg)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, incoming); err != nil {
		hangUp(conn)
		return nil, err
	}
	return conn, nil
}

func (p *pool) keep(conn *pgx.Conn) {
	if conn.IsClosed() || conn.PgConn().TxStatus() != 'I' {
		hangUp(conn)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, conn)
}

// close waits for borrowed connections and closes all.
func (p *pool) close() {
	for range width {
		p.slots <- struct{}{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.idle {
		hangUp(conn)
	}
	p.idle = nil
	for range width {
		<-p.slots
	}
}

// hangUp closes a connection; what can fail then no longer matters, because everything that counts is committed.
func hangUp(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	_ = conn.Close(ctx)
}
