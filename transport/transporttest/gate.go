// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"context"
	"sync"

	"github.com/streembit/edge/transport"
)

// Gate is a Store whose Put waits while the gate is shut: a hub with a disk that hangs.
type Gate struct {
	transport.Store
	mu   sync.Mutex
	open chan struct{} // closed = open
}

// NewGate returns an open gate before a store.
func NewGate(s transport.Store) *Gate {
	g := &Gate{Store: s, open: make(chan struct{})}
	close(g.open)
	return g
}

// Shut makes every later Put wait.
func (g *Gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

// Open lets all of them go on. Only after Shut.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
}

// Put waits for the gate, then stores.
func (g *Gate) Put(ctx context.Context, segment []byte) error {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
		return g.Store.Put(ctx, segment)
	case <-ctx.Done():
		return ctx.Err()
	}
}
