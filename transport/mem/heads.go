// SPDX-License-Identifier: Apache-2.0

package mem

import (
	"context"
	"errors"
	"fmt"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// PutHead is p2p.Node.PutHead.
func (n *Node) PutHead(ctx context.Context, signedHeader []byte) error {
	h, err := transport.CheckHead(signedHeader, n.net.fleet())
	if err != nil {
		return err
	}
	hubs, err := n.hubs(ctx)
	if err != nil {
		return err
	}
	key := h.Header.Chain.Key()
	for _, hub := range hubs {
		hub.mu.Lock()
		if old, ok := hub.heads[key]; !ok || h.Supersedes(old) {
			hub.heads[key] = h
		}
		hub.mu.Unlock()
	}
	return nil
}

// Head is p2p.Node.Head.
func (n *Node) Head(ctx context.Context, chain journal.Chain) ([]byte, error) {
	hubs, err := n.hubs(ctx)
	if err != nil {
		return nil, err
	}
	var best transport.Head
	for _, hub := range hubs {
		hub.mu.Lock()
		h, ok := hub.heads[chain.Key()]
		hub.mu.Unlock()
		if ok && (best.Signed == nil || h.Supersedes(best)) {
			best = h
		}
	}
	if best.Signed == nil {
		return nil, fmt.Errorf("mem: head of %s: %w", chain, transport.ErrNoHead)
	}
	return best.Signed, nil
}

// Closest is p2p.Node.Closest.
func (n *Node) Closest(ctx context.Context, key journal.Hash) ([]edge.ID, error) {
	hubs, err := n.hubs(ctx)
	if err != nil {
		return nil, err
	}
	var ids []edge.ID
	for _, h := range hubs {
		ids = append(ids, h.id)
	}
	return transport.Place(key, ids), nil
}

func (n *Node) hubs(ctx context.Context) ([]*Node, error) {
	if err := errors.Join(ctx.Err(), n.life.Err()); err != nil {
		return nil, fmt.Errorf("mem: looking up: %w", err)
	}
	hubs := n.net.reachable(n.id)
	if len(hubs) == 0 {
		return nil, fmt.Errorf("mem: looking up: %w", transport.ErrUnreachable)
	}
	return hubs, nil
}
