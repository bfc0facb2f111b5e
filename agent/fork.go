// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// rivalLimit is how long a hub may take to show with what it contradicts a segment.
const rivalLimit = 20 * time.Second

// resolve gives up an incarnation that a hub shows to be somebody else's too. A hub's word alone is no reason: one that lies could make a device
// begin anew without end.
func (d *drain) resolve(ctx context.Context, seg *journal.Segment, r transport.Receipt) {
	for _, err := range r.Errors {
		refused, ok := errors.AsType[*transport.Refusal](err)
		if !ok || refused.Reason != transport.RefusedFork {
			continue
		}
		rival, err := d.rival(ctx, refused.Hub, seg)
		if err == nil {
			err = d.cfg.Outbox.Renew(ctx, seg, rival)
		}
		switch {
		case err == nil:
			return
		case ctx.Err() != nil:
			return
		case errors.Is(err, outbox.ErrNoEpoch): // the stream has not begun yet; the segment is refused once more then
			return
		}
		d.cfg.Logger.Error("a hub refuses a segment as a fork and does not prove it", "hub", refused.Hub, "chain", seg.Chain, "seq", seg.Seq, "err", err)
	}
}

var errNoRival = errors.New("the hub shows nothing that contradicts the segment")

// rival gets from a hub what it has in the place of a segment, or next to it, that contradicts it.
func (d *drain) rival(ctx context.Context, hub edge.ID, seg *journal.Segment) (*journal.Segment, error) {
	if d.cfg.Rivals == nil {
		return nil, errNoRival
	}
	ctx, cancel := context.WithTimeout(ctx, rivalLimit)
	defer cancel()
	span := transport.Span{First: seg.Seq - min(1, seg.Seq), Last: seg.Seq + 1}
	var found *journal.Segment
	err := d.cfg.Rivals.Fetch(ctx, hub, seg.Chain, span, func(raw []byte) error {
		s, err := journal.Open(bytes.Clone(raw), seg.Chain.Fleet)
		if err != nil {
			return fmt.Errorf("agent: asking for what contradicts seq %d: %w", seg.Seq, err)
		}
		if outbox.Contradicts(seg, s) && (found == nil || s.Seq == seg.Seq) {
			found = s
		}
		return nil
	})
	switch {
	case found != nil:
		return found, nil
	case err != nil:
		return nil, err
	}
	return nil, errNoRival
}
