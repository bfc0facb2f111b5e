// SPDX-License-Identifier: Apache-2.0

// Package mem is a transport within one process, for tests of what stands on transports: the methods of p2p.Node over
// the same stores, with switches that kill, freeze and cut off members. Begin with NewNetwork and Join.
package mem

import (
	"context"
	"fmt"
	"sync"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// Network connects its nodes. Safe for concurrent use.
type Network struct {
	fleet func() *fleet.Fleet

	mu      sync.Mutex
	nodes   map[edge.ID]*Node
	frozen  map[edge.ID]bool
	apart   map[edge.ID]int // the part of the network that a member is in; 0 = the main one
	changed chan struct{}   // closed and replaced whenever one of the above changes
}

// NewNetwork returns an empty network of a fleet, which is asked anew at every decision.
func NewNetwork(f func() *fleet.Fleet) *Network {
	return &Network{fleet: f, nodes: map[edge.ID]*Node{}, frozen: map[edge.ID]bool{}, apart: map[edge.ID]int{},
		changed: make(chan struct{})}
}

// Join brings a member up, with a store as a hub and with nil as a client. A member that is up already is killed first.
func (n *Network) Join(id edge.ID, store transport.Store) *Node {
	n.Kill(id)
	node := &Node{net: n, id: id, store: store, lanes: map[edge.ID]*lane{}, heads: map[journal.Hash]transport.Head{}}
	node.life, node.stop = context.WithCancel(context.Background())
	n.change(func() { n.nodes[id] = node })
	return node
}

// Kill takes a member away at once, as SIGKILL does: what it had not answered is not answered. Its store stays as it is.
func (n *Network) Kill(id edge.ID) {
	var node *Node
	n.change(func() {
		node = n.nodes[id]
		delete(n.nodes, id)
		delete(n.frozen, id)
	})
	if node != nil {
		node.stop()
		node.tasks.Wait()
	}
}

// Freeze makes a member silent while its connections stay open, as SIGSTOP does.
func (n *Network) Freeze(id edge.ID) { n.change(func() { n.frozen[id] = true }) }

// Partition moves members into a part of their own: they reach each other and nobody else.
func (n *Network) Partition(ids ...edge.ID) {
	n.change(func() {
		part := 1
		for _, p := range n.apart {
			part = max(part, p+1)
		}
		for _, id := range ids {
			n.apart[id] = part
		}
	})
}

// Heal thaws a member and brings it back from its partition.
func (n *Network) Heal(id edge.ID) {
	n.change(func() {
		delete(n.frozen, id)
		delete(n.apart, id)
	})
}

func (n *Network) change(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
	close(n.changed)
	n.changed = make(chan struct{})
}

// reach returns the hub once it answers from's calls. It waits while the hub is frozen and wraps ErrUnreachable when
// it is not there.
func (n *Network) reach(ctx context.Context, from, hub edge.ID) (*Node, error) {
	for {
		node, changed, err := n.look(from, hub)
		if err != nil || node != nil {
			return node, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("mem: hub %s gives no answer: %w: %w", hub.Short(), transport.ErrUnreachable, ctx.Err())
		}
	}
}

// look returns the hub, or an error, or neither while it is frozen.
func (n *Network) look(from, hub edge.ID) (*Node, <-chan struct{}, error) {
	f := n.fleet()
	n.mu.Lock()
	defer n.mu.Unlock()
	node := n.nodes[hub]
	switch {
	case n.nodes[from] == nil:
		return nil, nil, fmt.Errorf("mem: %s is closed: %w", from.Short(), ErrClosed)
	case node == nil || node.store == nil || !f.Is(hub, fleet.Hub):
		return nil, nil, fmt.Errorf("mem: no hub %s: %w", hub.Short(), transport.ErrUnreachable)
	case !f.IsMember(from):
		return nil, nil, fmt.Errorf("mem: %s is a stranger: %w", from.Short(), transport.ErrUnreachable)
	case n.apart[from] != n.apart[hub]:
		return nil, nil, fmt.Errorf("mem: hub %s is in another partition: %w", hub.Short(), transport.ErrUnreachable)
	case n.frozen[hub] || n.frozen[from]:
		return nil, n.changed, nil
	}
	return node, nil, nil
}

// reachable returns the hubs that answer from now.
func (n *Network) reachable(from edge.ID) []*Node {
	var out []*Node
	for _, h := range n.fleet().Hubs() {
		if node, _, err := n.look(from, h.Member); err == nil && node != nil {
			out = append(out, node)
		}
	}
	return out
}
