// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// maxBlocks is how many buckets are compared before others may use the store again.
const maxBlocks = 512

var errRange = errors.New("a range begins and ends with a bucket, and is as wide as some of them")

// survey is one call of Ranges.
type survey struct {
	q       transport.RangeQuery
	placing *transport.Placing
	out     []transport.Range // of one chain, not visited yet
}

// Ranges implements transport.Mirror. What a revocation took away is left out, as it is by Held. The digests are kept up to date with each
// segment, so that a call costs one look at each bucket.
func (s *Store) Ranges(ctx context.Context, q transport.RangeQuery, visit func(transport.Range) error) error {
	if err := checkQuery(&q); err != nil {
		return s.refuse(transport.RefusedInvalid, err.Error())
	}
	v := &survey{q: q}
	if q.Target != (edge.ID{}) {
		v.placing = transport.NewPlacing(hubsOf(s.o.Fleet()))
	}
	for _, c := range s.surveyed(q.Chain) {
		span := q.Span
		if q.Chain == nil {
			span = transport.Span{Last: math.MaxUint64}
		}
		for more := true; more; {
			if err := ctx.Err(); err != nil {
				return err
			}
			span.First, more = s.survey(v, c, span)
			n := len(v.out)
			if more { // the last one may grow
				n = max(n-1, 0)
			}
			for _, r := range v.out[:n] {
				if err := visit(r); err != nil {
					return err
				}
			}
			v.out = slices.Delete(v.out, 0, n)
		}
	}
	return nil
}

func checkQuery(q *transport.RangeQuery) error {
	const size = journal.BucketSize
	switch {
	case q.Chain == nil && (q.Span != transport.Span{} || q.Width != 0):
		return fmt.Errorf("%w: of all chains only the whole", errRange)
	case q.Chain != nil && (q.Span.First%size != 0 || q.Span.Last%size != size-1 || q.Span.First > q.Span.Last || q.Width%size != 0):
		return fmt.Errorf("%w: %d to %d by %d", errRange, q.Span.First, q.Span.Last, q.Width)
	}
	return nil
}

// surveyed returns the chains in question, in order.
func (s *Store) surveyed(one *journal.Chain) []journal.Chain {
	s.mu.Lock()
	var all []journal.Chain
	if one != nil {
		all = append(all, *one)
	} else {
		all = make([]journal.Chain, 0, len(s.chains))
		for c, h := range s.chains {
			if len(h.blocks) > 0 {
				all = append(all, c)
			}
		}
	}
	s.mu.Unlock()
	slices.SortFunc(all, compareChains)
	return all
}

// survey adds what is held of a part of a chain to the ranges, up to maxBlocks buckets, and returns where to go on.
func (s *Store) survey(v *survey, c journal.Chain, span transport.Span) (next uint64, more bool) {
	cut := s.scope(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.chains[c]
	if h == nil || !cut.ok {
		return 0, false
	}
	if v.q.Chain == nil && cut.last == nil && len(h.blocks) > 0 && v.everything() {
		last, _ := h.last()
		v.out = append(v.out, transport.Range{Chain: c, Span: transport.Span{Last: last}, Floor: h.past.floor, Count: uint64(h.n), Sum: h.sum})
		return 0, false
	}
	i, _ := h.block(span.First)
	for n := 0; i < len(h.blocks); i, n = i+1, n+1 {
		b := &h.blocks[i]
		first := b.index * journal.BucketSize
		if first > span.Last {
			return 0, false
		}
		if n == maxBlocks {
			return first, true
		}
		if v.wants(h, b) {
			v.add(h, b, cut)
		}
	}
	return 0, false
}

// everything reports whether all buckets are in question.
func (v *survey) everything() bool {
	return v.placing == nil || v.placing.Everyone() && v.placing.Holds(transport.Spot{}, v.q.Target)
}

func (v *survey) wants(h *held, b *block) bool {
	if v.placing == nil {
		return true
	}
	if v.placing.Everyone() {
		return v.placing.Holds(transport.Spot{}, v.q.Target)
	}
	if b.at == nil { // computed once: it takes longer than all the rest
		at := transport.SpotOf(journal.Bucket{Chain: h.chain, Index: b.index}.Key())
		b.at = &at
	}
	return v.placing.Holds(*b.at, v.q.Target)
}

// add counts what counts of a bucket.
func (v *survey) add(h *held, b *block, cut scope) {
	mask, sum := b.mask, b.sum
	if cut.last != nil {
		mask, sum = b.counting(cut)
	}
	if mask == 0 {
		return
	}
	r := v.rangeOf(h, b.index*journal.BucketSize)
	r.Count += uint64(bits.OnesCount64(mask))
	xor(&r.Sum, &sum)
	if v.q.Chain == nil {
		r.Span.Last = b.index*journal.BucketSize + uint64(63-bits.LeadingZeros64(mask))
	} else if r.Span.Last-r.Span.First == journal.BucketSize-1 {
		r.Mask = mask
	}
}

// counting returns what of a bucket counts where a revocation named the last segment of a chain.
func (b *block) counting(cut scope) (mask uint64, sum journal.Hash) {
	rank := 0
	for m := b.mask; m != 0; m &= m - 1 {
		seq, e := b.index*journal.BucketSize+uint64(bits.TrailingZeros64(m)), b.entries[rank]
		rank++
		if !cut.counts(seq, e.hash) {
			continue
		}
		mask |= m & -m
		d := transport.Digest(seq, e.hash)
		xor(&sum, &d)
	}
	return mask, sum
}

// rangeOf returns the range that a bucket lies in, a new one if the last is another.
func (v *survey) rangeOf(h *held, first uint64) *transport.Range {
	span := v.q.Span
	if v.q.Width > 0 {
		span.First = first - (first-span.First)%v.q.Width
		if span.Last-span.First >= v.q.Width {
			span.Last = span.First + v.q.Width - 1
		}
	}
	if n := len(v.out); n == 0 || v.out[n-1].Span.First != span.First {
		v.out = append(v.out, transport.Range{Chain: h.chain, Span: span, Floor: h.past.floor})
	}
	return &v.out[len(v.out)-1]
}

func hubsOf(f *fleet.Fleet) (ids []edge.ID) {
	for _, g := range f.Hubs() {
		ids = append(ids, g.Member)
	}
	return ids
}
