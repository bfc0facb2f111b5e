// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/streembit/edge/transport"
)

var errStalled = errors.New("it is silent, or takes too long")

// patience bounds how long another hub may be silent, and how much time it may take in all; what this hub does meanwhile does not count.
type patience struct {
	ctx   context.Context //nolint:containedctx // the life of one question
	end   context.CancelCauseFunc
	stall time.Duration
	limit time.Duration
	spent time.Duration // by the hub
	since time.Time
	timer *time.Timer
}

// wait begins to wait for a hub.
func wait(ctx context.Context, stall, limit time.Duration) *patience {
	p := &patience{stall: stall, limit: limit}
	p.ctx, p.end = context.WithCancelCause(ctx)
	p.since = time.Now()
	p.timer = time.AfterFunc(min(stall, limit), p.lost)
	return p
}

func (p *patience) lost() {
	p.end(fmt.Errorf("repair: waiting for the hub: %w: %w", errStalled, transport.ErrUnreachable))
}

// during runs what this hub does with something that came.
func (p *patience) during(work func() error) error {
	p.timer.Stop()
	p.spent += time.Since(p.since)
	err := work()
	p.since = time.Now()
	if p.spent >= p.limit {
		p.lost()
		return context.Cause(p.ctx)
	}
	p.timer.Reset(min(p.stall, p.limit-p.spent))
	return err
}

// done ends the wait; err is what the question brought.
func (p *patience) done(err error) error {
	p.timer.Stop()
	p.spent += time.Since(p.since)
	defer p.end(nil)
	if cause := context.Cause(p.ctx); err != nil && errors.Is(cause, errStalled) {
		return cause
	}
	return err
}
