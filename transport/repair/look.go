// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"context"
	"fmt"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

const (
	unitSpan  = 64 * journal.BucketSize // seqs whose buckets are asked for at once
	maxDiffer = 1 << 13                 // runs of one hub that are looked into in a round
	rangeCost = 64                      // bytes that a range is on the wire, for the rate
)

// localError marks what this hub's own disk did.
type localError struct{ err error }

func (e localError) Error() string { return e.err.Error() }
func (e localError) Unwrap() error { return e.err }

// look compares this hub with another one, from the chains down to where they differ, and notes in w what is missing here.
func (r *Repairer) look(ctx context.Context, w *work, p *peer) error {
	ours, err := r.ours(ctx, transport.RangeQuery{Target: r.o.Self})
	if err != nil {
		return err
	}
	mine := make(map[journal.Chain]transport.Range, len(ours))
	for _, o := range ours {
		mine[o.Chain] = o
	}
	differ, err := r.theirs(ctx, w, p, transport.RangeQuery{Target: r.o.Self}, func(t transport.Range) bool {
		_, counts := transport.Extent(w.fleet, t.Chain)
		return counts && !r.memo.same(runTag(p.id, t.Chain, t.Span, true), t, mine[t.Chain])
	})
	if err != nil {
		return err
	}
	for _, t := range differ {
		if err := r.descend(ctx, w, p, t, mine[t.Chain]); err != nil {
			return err
		}
	}
	return nil
}

// theirs asks a hub for ranges and returns those of interest.
func (r *Repairer) theirs(ctx context.Context, w *work, p *peer, q transport.RangeQuery, want func(transport.Range) bool) (out []transport.Range, err error) {
	c := checker{fleet: w.fleet.ID(), query: q}
	t := wait(ctx, r.o.Stall, p.time)
	err = t.done(r.o.Peers.Ranges(t.ctx, p.id, q, func(x transport.Range) error {
		return t.during(func() error {
			if err := c.check(x); err != nil {
				return err
			}
			if want != nil && !want(x) {
				return nil
			}
			if len(out) >= maxDiffer {
				w.more = true
				return nil
			}
			out = append(out, x)
			return r.pace.WaitN(ctx, rangeCost)
		})
	}))
	p.time -= t.spent
	return out, err
}

// ours asks this hub's own store.
func (r *Repairer) ours(ctx context.Context, q transport.RangeQuery) (out []transport.Range, err error) {
	err = r.o.Local.Ranges(ctx, q, func(x transport.Range) error {
		out = append(out, x)
		return nil
	})
	if err != nil && ctx.Err() == nil {
		return nil, localError{fmt.Errorf("repair: reading what is held: %w", err)}
	}
	return out, err
}

// descend looks into one chain.
func (r *Repairer) descend(ctx context.Context, w *work, p *peer, theirs, ours transport.Range) error {
	chain, whole := theirs.Chain, runTag(p.id, theirs.Chain, theirs.Span, true)
	q := transport.RangeQuery{Target: r.o.Self, Chain: &chain, Span: transport.Span{Last: theirs.Span.Last | (journal.BucketSize - 1)}, Width: unitSpan}
	if floor := max(theirs.Floor, ours.Floor); floor <= q.Span.Last {
		q.Span.First = floor - floor%unitSpan
	}
	if q.Span.Last-q.Span.First < unitSpan { // one unit, whose digest is that of the chain
		u := theirs
		u.Span = q.Span
		clean, err := r.unit(ctx, w, p, u, ours.Floor)
		if err == nil && clean {
			r.memo.keep(whole, theirs, ours)
		}
		return err
	}
	mine, err := r.ours(ctx, q)
	if err != nil {
		return err
	}
	have := map[uint64]transport.Range{}
	for _, o := range mine {
		have[o.Span.First] = o
	}
	differ, err := r.theirs(ctx, w, p, q, func(t transport.Range) bool {
		return !r.memo.same(runTag(p.id, chain, t.Span, false), t, have[t.Span.First])
	})
	if err != nil {
		return err
	}
	all := !w.more
	for _, t := range differ {
		clean, err := r.unit(ctx, w, p, t, ours.Floor)
		if err != nil {
			return err
		}
		if clean {
			r.memo.keep(runTag(p.id, chain, t.Span, false), t, have[t.Span.First])
		}
		all = all && clean
	}
	if all {
		r.memo.keep(whole, theirs, ours)
	}
	return nil
}

// unit compares bucket by bucket; clean means that nothing is missing.
func (r *Repairer) unit(ctx context.Context, w *work, p *peer, theirs transport.Range, floor uint64) (clean bool, err error) {
	key := unit{theirs.Chain, theirs.Span.First}
	if a, known := w.units[key]; known && a.sum == theirs.Sum {
		w.again(p, a)
		return len(a.lacks) == 0, nil
	}
	q := transport.RangeQuery{Target: r.o.Self, Chain: &theirs.Chain, Span: theirs.Span, Width: journal.BucketSize}
	buckets, err := r.theirs(ctx, w, p, q, nil)
	if err != nil {
		return false, err
	}
	mine, err := r.ours(ctx, q) // after theirs: what has come meanwhile is not missing
	if err != nil {
		return false, err
	}
	have := map[uint64]transport.Range{}
	for _, o := range mine {
		have[o.Span.First] = o
	}
	a := answered{peer: p, sum: theirs.Sum}
	clean, share := true, !p.suspicious()
	for _, t := range buckets {
		l, found := r.bucket(w, p, t, have[t.Span.First], floor)
		clean = clean && found == nothing
		share = share && found != special
		if l != nil {
			a.lacks = append(a.lacks, l)
		}
	}
	if _, known := w.units[key]; !known && share && len(w.units) < maxLacks {
		w.units[key] = a
	}
	return clean, nil
}

// What a look at a bucket finds.
type finding int

const (
	nothing finding = iota
	missing
	special // of this hub alone, or without room to note it: others that say the same are asked all the same
)

// bucket notes what of one bucket is missing.
func (r *Repairer) bucket(w *work, p *peer, theirs, ours transport.Range, floor uint64) (*lack, finding) {
	at := spot{theirs.Chain, theirs.Span.First / journal.BucketSize}
	c := claim{peer: p, theirs: theirs.Sum, all: theirs.Mask, mask: theirs.Mask &^ ours.Mask &^ below(theirs.Span.First, max(floor, ours.Floor))}
	switch {
	case c.mask != 0:
	case theirs.Mask == ours.Mask && theirs.Sum != ours.Sum:
		c.mask, c.fork = theirs.Mask, true
	default:
		return nil, nothing
	}
	switch {
	case r.memo.isSettled(bucketTag(edge.ID{}, at.chain, at.bucket, theirs.Sum, ours.Sum)):
		return nil, nothing
	case r.memo.isSettled(bucketTag(p.id, at.chain, at.bucket, theirs.Sum, ours.Sum)):
		return nil, special
	}
	if l := w.add(at, ours.Sum, c); l != nil {
		return l, missing
	}
	return nil, special
}
