// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

const (
	fetchLimit = 2 * time.Minute // of a hub's own time, for a run of a bucket
	slowAfter  = 2 * time.Second // of its own time, after which a hub that gives …
	slowRate   = 32 << 10        // … less than these bytes a second is asked after the others
	putWidth   = 16              // segments on their way to the disk, so that they share an fsync: 4 MiB at most
)

// errOwn ends a fetch for a reason that is this hub's own.
var errOwn = errors.New("this hub takes no more")

// delivery is what one hub sends of one bucket.
type delivery struct {
	r     *Repairer
	fleet journal.FleetID
	spot
	next, last uint64 // seqs that may come now
	asked      uint64 // bits of what was asked for …
	came       uint64 // … and of what came
	width      chan struct{}
	puts       sync.WaitGroup
	spent      time.Duration // by the hub

	mu      sync.Mutex
	count   int    // that were stored
	bytes   uint64 // that came
	refused transport.Reason
	fork    uint64 // seq of a segment that was refused as one
	own     error
}

// expect notes what is asked for next: a part of the bucket.
func (d *delivery) expect(s transport.Span) {
	d.next, d.last = s.First, s.Last
	for at := s.First; at <= s.Last; at++ {
		d.asked |= 1 << (at % journal.BucketSize)
	}
}

// take proves a segment and has it stored. The error wraps errLie if it is not what was asked for.
func (d *delivery) take(ctx context.Context, segment []byte, received int64) error {
	if err := d.r.pace.WaitN(ctx, min(len(segment), journal.MaxSegment)); err != nil {
		return err
	}
	seg, err := journal.Open(segment, d.fleet)
	switch {
	case err != nil:
		return fmt.Errorf("repair: it sends what is no segment: %w: %w", errLie, err)
	case seg.Chain != d.chain || seg.Seq < d.next || seg.Seq > d.last:
		return fmt.Errorf("repair: it sends seq %d of %s in place of %d to %d: %w", seg.Seq, seg.Chain, d.next, d.last, errLie)
	case d.fault() != nil:
		return errOwn
	}
	d.next = seg.Seq + 1
	d.came |= 1 << (seg.Seq % journal.BucketSize)
	if d.width == nil {
		d.width = make(chan struct{}, putWidth)
	}
	select {
	case d.width <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	segment = bytes.Clone(segment)
	d.puts.Go(func() {
		defer func() { <-d.width }()
		d.note(seg.Seq, len(segment), d.r.o.Local.PutDated(ctx, segment, received))
	})
	return nil
}

// note sorts out what became of a segment.
func (d *delivery) note(seq uint64, size int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bytes += uint64(size)
	if err == nil {
		d.count++
		return
	}
	refused, ok := errors.AsType[*transport.Refusal](err)
	if !ok {
		d.own = errors.Join(d.own, err)
		return
	}
	switch refused.Reason {
	case transport.RefusedFull, transport.RefusedFailed:
		d.own = err
	case transport.RefusedBusy, transport.RefusedRate: // the next round tries again
	case transport.RefusedFork:
		d.refused, d.fork = transport.RefusedFork, seq
	default:
		if d.refused == 0 {
			d.refused = refused.Reason
		}
	}
}

// fault returns why this hub's own store takes nothing, nil if it does.
func (d *delivery) fault() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.own
}
