// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/internal/nap"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// mend fetches what is still missing when it had the time to come by itself. again means that there is more to be found now.
func (r *Repairer) mend(ctx context.Context, g *pass, w *work) (again bool, err error) {
	r.start(g, w.segments())
	if w.empty() {
		return false, nil
	}
	if !nap.For(ctx, time.Until(w.last.Add(r.o.Settle))) {
		return false, ctx.Err()
	}
	r.start(g, w.segments())
	gained := false
	for _, l := range w.list() {
		left, changed, err := r.bucketOf(ctx, g, l)
		if err != nil {
			return false, err
		}
		gained = gained || changed
		again = again || changed && l.cut // what the segments displaced shows only now
		r.tried(g, l.segments(), left)
	}
	return again || w.more && gained, nil
}

// held returns what this hub holds of a bucket.
func (r *Repairer) held(ctx context.Context, at spot) (transport.Range, error) {
	q := transport.RangeQuery{Chain: &at.chain, Span: at.span(), Width: journal.BucketSize}
	all, err := r.ours(ctx, q)
	if err != nil || len(all) == 0 {
		return transport.Range{Chain: at.chain, Span: at.span()}, err
	}
	return all[0], nil
}

// bucketOf mends one bucket. left is what could not be had of it; changed reports whether this hub holds other segments of it than before.
func (r *Repairer) bucketOf(ctx context.Context, g *pass, l *lack) (left int, changed bool, err error) {
	if g.fleet != r.o.Fleet() {
		g.fleet, g.hubs = r.o.Fleet(), nil
		for _, h := range g.fleet.Hubs() {
			g.hubs = append(g.hubs, h.Member)
		}
	}
	if !slices.Contains(g.hubs, r.o.Self) {
		return 0, false, nil
	}
	now, err := r.held(ctx, l.spot)
	if err != nil {
		return 0, false, err
	}
	for _, c := range l.holders(g.hubs) {
		if c.peer.down || !slices.Contains(g.hubs, c.peer.id) {
			continue
		}
		if !c.fork {
			c.mask &^= now.Mask | below(now.Span.First, now.Floor)
		}
		if c.mask == 0 || c.fork && now.Sum != l.ours {
			continue
		}
		was := now.Sum
		if now, err = r.from(ctx, g.fleet, l, c); err != nil {
			return 0, changed, err
		}
		changed = changed || now.Sum != was
	}
	return bits.OnesCount64(l.mask() &^ (now.Mask | below(now.Span.First, now.Floor))), changed, nil
}

// from fetches segments of a bucket from one hub, and returns what is held then. An error is of this hub's own.
func (r *Repairer) from(ctx context.Context, f *fleet.Fleet, l *lack, c claim) (now transport.Range, err error) {
	d := &delivery{r: r, fleet: f.ID(), spot: l.spot}
	var asked error
	if l.cut && !c.fork {
		asked = r.fetchDown(ctx, d, c)
	} else {
		asked = r.fetch(ctx, d, c.peer, c.mask)
	}
	r.count(c.peer, d)
	if ctx.Err() != nil {
		return now, ctx.Err()
	}
	if own := d.fault(); own != nil {
		return now, localError{fmt.Errorf("repair: storing: %w", own)}
	}
	if d.refused == transport.RefusedFork && !c.fork {
		r.prove(ctx, f, l.spot, c.peer, d.fork)
	}
	if now, err = r.held(ctx, l.spot); err != nil {
		return now, err
	}
	if d.refused != 0 { // for the same reason next time
		r.memo.settle(bucketTag(edge.ID{}, l.chain, l.bucket, c.theirs, now.Sum))
	}
	switch missed := d.asked &^ d.came; {
	case asked != nil:
		r.failed(c.peer, asked)
	case missed != 0:
		r.broken(ctx, f, l.spot, c.peer, missed, now.Sum)
	case !c.fork:
		r.trust(c.peer)
	}
	return now, nil
}

// fetch asks for each run.
func (r *Repairer) fetch(ctx context.Context, d *delivery, p *peer, mask uint64) error {
	defer d.puts.Wait()
	for _, s := range runs(d.span().First, mask) {
		if err := r.run(ctx, d, p, s); err != nil {
			return err
		}
	}
	return nil
}

// fetchDown asks for one segment after the other, the newest first, and looks each time what is missing then: a segment that is linked to the end that
// a revocation names makes the store drop one of another branch before it.
func (r *Repairer) fetchDown(ctx context.Context, d *delivery, c claim) error {
	first := d.span().First
	for at := first + journal.BucketSize; at > first; at-- {
		bit := uint64(1) << (at - 1 - first)
		if c.all&bit == 0 {
			continue
		}
		now, err := r.held(ctx, d.spot)
		if err != nil {
			d.note(at-1, 0, err)
			return nil
		}
		if (now.Mask|below(first, now.Floor))&bit != 0 {
			continue
		}
		err = r.run(ctx, d, c.peer, transport.Span{First: at - 1, Last: at - 1})
		d.puts.Wait()
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Repairer) run(ctx context.Context, d *delivery, p *peer, s transport.Span) error {
	d.expect(s)
	t := wait(ctx, r.o.Stall, fetchLimit)
	err := t.done(r.o.Peers.FetchDated(t.ctx, p.id, d.chain, s, func(segment []byte, received int64) error {
		return t.during(func() error { return d.take(ctx, segment, received) })
	}))
	d.spent += t.spent
	if errors.Is(err, errOwn) {
		return nil
	}
	return err
}

// prove fetches the neighbours of a segment that does not continue what is held, so that the store sees two segments for one place and keeps the proof.
func (r *Repairer) prove(ctx context.Context, f *fleet.Fleet, at spot, p *peer, seq uint64) {
	for _, s := range []uint64{seq - 1, seq + 1} {
		if s > journal.MaxSeq {
			continue
		}
		d := &delivery{r: r, fleet: f.ID(), spot: spot{at.chain, s / journal.BucketSize}}
		if err := r.fetch(ctx, d, p, 1<<(s%journal.BucketSize)); err != nil {
			r.log.Debug("repair: no proof of a fork", "hub", p.id, "chain", at.chain.String(), "seq", s, "err", err)
		}
		r.count(p, d)
	}
}

// broken judges a hub that did not deliver what it had claimed: if it claims it still, that is a lie; if not, it has let it go meanwhile.
func (r *Repairer) broken(ctx context.Context, f *fleet.Fleet, at spot, p *peer, missed uint64, ours journal.Hash) {
	q := transport.RangeQuery{Target: r.o.Self, Chain: &at.chain, Span: at.span(), Width: journal.BucketSize}
	p.time = r.o.Stall
	now, err := r.theirs(ctx, newWork(f), p, q, nil)
	if err != nil {
		r.failed(p, err)
		return
	}
	if len(now) == 0 || now[0].Mask&missed == 0 {
		return
	}
	r.memo.settle(bucketTag(p.id, at.chain, at.bucket, now[0].Sum, ours))
	r.mu.Lock()
	r.stats.Failed++
	p.stats.Failed++
	r.mu.Unlock()
	r.distrust(p, fmt.Sprintf("it claims %d segments of %s from seq %d on and does not give them", bits.OnesCount64(missed), at.chain, at.span().First))
}

func (r *Repairer) count(p *peer, d *delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.slow = d.spent > slowAfter && float64(d.bytes) < slowRate*d.spent.Seconds()
	p.stats.Slow = p.slow
	r.stats.Fetched += uint64(d.count)
	r.stats.Bytes += d.bytes
	p.stats.Fetched += uint64(d.count)
	p.stats.Bytes += d.bytes
}
