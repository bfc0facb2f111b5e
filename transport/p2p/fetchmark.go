// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"errors"
	"fmt"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// Mark tells a hub how far this node, a collector, has taken chains for good: signed is what journal.SignWatermarks made with its own key.
// nil means that the hub has it on disk. The error is a *transport.Refusal, wraps transport.ErrUnreachable, or is that of ctx.
func (n *Node) Mark(ctx context.Context, hub edge.ID, signed []byte) error {
	if len(signed) == 0 || len(signed) > journal.MaxWatermarkRecord {
		return fmt.Errorf("p2p: marking with a record of %d bytes: %w", len(signed), journal.ErrOversize)
	}
	if hub == n.self && n.o.Store != nil {
		return n.named(n.markBy(ctx, n.self, signed))
	}
	raw, err := journal.Encode(request{Op: opMark})
	if err != nil {
		return err
	}
	return n.inquire(ctx, hub, fetchProtocol, [][]byte{raw, signed}, func(kind byte, _ []byte) error {
		return fmt.Errorf("p2p: kind %q in answer to marks: %w", kind, ErrFrame)
	})
}

// markBy takes the marks of a member from itself alone: those of others are for hubs to pass on, among themselves.
func (n *Node) markBy(ctx context.Context, who edge.ID, signed []byte) error {
	w, err := journal.OpenWatermarks(signed, n.o.Fleet().ID())
	switch {
	case err != nil:
		return refuse(transport.RefusedInvalid, "%v", err)
	case w.Collector != who:
		return refuse(transport.RefusedNoRight, "these are the watermarks of %s, not yours", w.Collector)
	case n.o.Books == nil:
		return refuse(transport.RefusedInvalid, "this hub keeps no watermarks")
	}
	return n.o.Books.Mark(ctx, signed)
}

// named says of a refusal by this hub's own disk which hub it is.
func (n *Node) named(err error) error {
	if r, ok := errors.AsType[*transport.Refusal](err); ok {
		return &transport.Refusal{Hub: n.self, Reason: r.Reason, Detail: r.Detail}
	}
	return err
}
