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
			err := r.o.Local.Mark(ctx, signed)
			refused := (*transport.Refusal)(nil)
			switch {
			case err == nil:
				r.marks.add(signed)
				return nil
			case errors.As(err, &refused) && refused.Reason == transport.RefusedNotAllowed: // its collector is none any more
				return nil
			case refused != nil && refused.Reason == transport.RefusedInvalid:
				return fmt.Errorf("repair: it sends what are no watermarks: %w: %w", errLie, err)
			}
			return localError{fmt.Errorf("repair: keeping watermarks: %w", err)}
		})
	}))
}
