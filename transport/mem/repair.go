// SPDX-License-Identifier: Apache-2.0

package mem

import (
	"context"
	"fmt"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// Mark is p2p.Node.Mark.
func (n *Node) Mark(ctx context.Context, hub edge.ID, signed []byte) error {
	w, err := journal.OpenWatermarks(signed, n.net.fleet().ID())
	switch {
	case err != nil:
		return &transport.Refusal{Hub: hub, Reason: transport.RefusedInvalid, Detail: err.Error()}
	case w.Collector != n.id:
		return &transport.Refusal{Hub: hub, Reason: transport.RefusedNoRight, Detail: fmt.Sprintf("these are the watermarks of %s, not yours", w.Collector)}
	}
	return n.call(ctx, hub, func(ctx context.Context, s transport.Store) error {
		if books, ok := s.(transport.Bookkeeper); ok {
			return books.Mark(ctx, signed)
		}
		return &transport.Refusal{Reason: transport.RefusedInvalid, Detail: "this hub keeps no watermarks"}
	})
}

// Ranges is p2p.Node.Ranges.
func (n *Node) Ranges(ctx context.Context, hub edge.ID, q transport.RangeQuery, visit func(transport.Range) error) error {
	return n.mirror(ctx, hub, func(ctx context.Context, m transport.Mirror) error {
		return m.Ranges(ctx, q, func(r transport.Range) error { return n.visited(ctx, hub, visit(r)) })
	})
}

// FetchDated is p2p.Node.FetchDated.
func (n *Node) FetchDated(ctx context.Context, hub edge.ID, chain journal.Chain, span transport.Span, visit func(segment []byte, received int64) error) error {
	return n.mirror(ctx, hub, func(ctx context.Context, m transport.Mirror) error {
		return m.FetchDated(ctx, chain, span, func(segment []byte, received int64) error { return n.visited(ctx, hub, visit(segment, received)) })
	})
}

// Marks is p2p.Node.Marks.
func (n *Node) Marks(ctx context.Context, hub edge.ID, visit func(signed []byte) error) error {
	return n.mirror(ctx, hub, func(ctx context.Context, m transport.Mirror) error {
		books, ok := m.(transport.Bookkeeper)
		if !ok {
			return nil
		}
		return books.Marks(ctx, func(signed []byte) error { return n.visited(ctx, hub, visit(signed)) })
	})
}

// mirror runs f with the hub's store; both sides must be hubs.
func (n *Node) mirror(ctx context.Context, hub edge.ID, f func(context.Context, transport.Mirror) error) error {
	return n.call(ctx, hub, func(ctx context.Context, s transport.Store) error {
		m, ok := s.(transport.Mirror)
		if !ok || !n.net.fleet().Is(n.id, fleet.Hub) {
			return &transport.Refusal{Reason: transport.RefusedNoRight, Detail: "only hubs repair from each other"}
		}
		return f(ctx, m)
	})
}

// visited ends an answer that cannot reach this node any more, and marks an error of its visit.
func (n *Node) visited(ctx context.Context, hub edge.ID, err error) error {
	if err != nil {
		return visitError{err}
	}
	_, err = n.net.reach(ctx, n.id, hub)
	return err
}
