// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// publishLimit is how long one segment's hubs may take before it is tried again later.
const publishLimit = 2 * time.Minute

// drain brings the outbox to the hubs. One goroutine, run, and one for each segment on its way.
type drain struct {
	cfg   Config
	heads *heads

	mu   sync.Mutex
	last map[string]LastStatus // published, by stream
	err  string                // why the last one was not, "" if it was
	// What was logged and is not over: that nothing is published; that hubs let segments go before they were.
	logged, past bool
}

func newDrain(c Config) *drain {
	return &drain{cfg: c, heads: newHeads(c.Heads, c.Logger), last: map[string]LastStatus{}}
}

// run publishes until ctx ends and waits for what is on its way. The error is that of an outbox that gives nothing out
// any more.
func (d *drain) run(ctx context.Context) error {
	d.recount() // the fleet may have changed since the last run
	ctx, stop := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer stop() // the heads must not outlive an outbox that failed
	tasks.Go(func() { d.heads.run(ctx) })
	places := newThrottle()
	for {
		if !places.enter(ctx) {
			return nil
		}
		items, err := d.cfg.Outbox.Take(ctx, 1)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("agent: taking from the outbox: %w", err)
		}
		since := time.Now()
		tasks.Go(func() { places.leave(since, d.publish(ctx, items[0])) })
	}
}

// publish brings one segment to its hubs and tells the outbox what came of it.
func (d *drain) publish(ctx context.Context, it outbox.Item) outcome {
	limited, cancel := context.WithTimeout(ctx, publishLimit)
	defer cancel()
	r, err := d.cfg.Publisher.Publish(limited, it.Segment, it.Acked)
	fresh := r.Published() && !it.Published
	if fresh && d.cfg.Receipts != nil {
		if nerr := d.cfg.Receipts.Note(it.Segment, r); nerr != nil {
			d.cfg.Logger.Error("receipt not noted", "chain", it.Segment.Chain, "seq", it.Segment.Seq, "err", nerr)
		}
	}
	d.resolve(ctx, it.Segment, r)
	if aerr := d.cfg.Outbox.Ack(it, r); aerr != nil {
		d.cfg.Logger.Error("acknowledgement not kept, the segment is published once more", "chain", it.Segment.Chain, "seq", it.Segment.Seq, "err", aerr)
	}
	if fresh {
		d.heads.published(it.Segment)
	}
	if ctx.Err() == nil || r.Published() { // at the stop it says nothing about the hubs
		d.learn(it.Segment, r, err)
	}
	switch {
	case !r.Published() && !r.Gone():
		return failed
	case r.Waited:
		return waited
	}
	return done
}

// passing reports whether hubs did not take a segment for the moment only.
func passing(err error) bool {
	refused, _ := errors.AsType[*transport.Refusal](err)
	return refused != nil && (refused.Reason == transport.RefusedBusy || refused.Reason == transport.RefusedRate)
}

// recount has the outbox judge what is published by the fleet as it is now.
func (d *drain) recount() {
	if n := d.cfg.Outbox.Recount(d.cfg.Publisher.Count); n > 0 {
		d.cfg.Logger.Warn("hubs that had the only copies are no hubs any more, segments are published again", "segments", n)
	}
}

// learn keeps what status shows, and logs when publishing begins or ceases to fail.
func (d *drain) learn(seg *journal.Segment, r transport.Receipt, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = ""
	if err != nil {
		d.err = err.Error()
		if !d.logged && !passing(err) {
			d.logged = true
			d.cfg.Logger.Warn("nothing is published, segments wait in the outbox", "err", err)
		}
		return
	}
	if d.logged {
		d.logged = false
		d.cfg.Logger.Info("published again")
	}
	if !r.Published() {
		if !d.past {
			d.cfg.Logger.Warn("hubs have let go what this device had not published as far as it knows: it comes too late, or its receipt was lost with the power",
				"chain", seg.Chain, "seq", seg.Seq)
		}
		d.past = true
		return
	}
	d.last[seg.Chain.Stream] = lastOf(seg, r)
}
