// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/streembit/edge/transport"
)

const (
	markLimit = time.Minute // of a hub's own time, to tell its watermarks
	maxMarks  = 16 << 20    // bytes of one hub
)

// takeMarks takes in the watermarks that another hub keeps. The collectors' signatures count, not the hub's word.
func (r *Repairer) takeMarks(ctx context.Context, p *peer) error {
	size := 0
	t := wait(ctx, r.o.Stall, markLimit)
	return t.done(r.o.Peers.Marks(t.ctx, p.id, func(signed []byte) error {
		return t.during(func() error {
			if size += len(signed); size > maxMarks {
				return fmt.Errorf("repair: more than %d bytes of watermarks: %w", maxMarks, errLie)
			}
			if err := r.pace.WaitN(ctx, len(signed)); err != nil || r.marks.has(signed) {
				return err
			}
			return r.keepMarks(ctx, signed)
		})
	}))
}

func (r *Repairer) keepMarks(ctx context.Context, signed []byte) error {
	err := r.o.Local.Mark(ctx, signed)
	if err == nil {
		r.marks.add(signed)
		return nil
	}
	if refused, ok := errors.AsType[*transport.Refusal](err); ok {
		switch refused.Reason {
		case transport.RefusedInvalid:
			return fmt.Errorf("repair: it sends what are no watermarks: %w: %w", errLie, err)
		case transport.RefusedNotAllowed, transport.RefusedRate, transport.RefusedBusy: // it may be another time
			return nil
		}
	}
	return localError{fmt.Errorf("repair: keeping watermarks: %w", err)}
}
