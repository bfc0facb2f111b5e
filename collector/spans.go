// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// target is one chain to pull: who claims to hold what, and what is proven to exist.
type target struct {
	chain  journal.Chain
	claims []claim
	proven uint64      // number of segments that signed evidence says exist: highest seq + 1
	head   *provenHead // newest signed header that the DHT knew, nil for none
	last   *fleet.Cut  // what a revocation left of the chain; nil = all
	noHead bool        // do not ask the DHT: a hub has just said what is new
}

type claim struct {
	hub   edge.ID
	spans []transport.Span
}

type provenHead struct {
	seq    uint64
	hash   journal.Hash
	signed []byte
}

// maxSeq is the highest seq that is believed to exist: databases count with 63 bits.
const maxSeq = 1<<62 - 1

// add adds what a hub says it holds.
func (t *target) add(hub edge.ID, spans []transport.Span) {
	i := slices.IndexFunc(t.claims, func(c claim) bool { return c.hub == hub })
	if i < 0 {
		t.claims = append(t.claims, claim{hub: hub})
		i = len(t.claims) - 1
	}
	t.claims[i].spans = union(append(slices.Clone(t.claims[i].spans), spans...))
}

// union sorts the spans and joins those that overlap or touch.
func union(spans []transport.Span) []transport.Span {
	spans = slices.DeleteFunc(spans, func(s transport.Span) bool { return s.Last < s.First || s.First > maxSeq })
	slices.SortFunc(spans, func(a, b transport.Span) int { return cmp.Compare(a.First, b.First) })
	out := spans[:0]
	for _, s := range spans {
		s.Last = min(s.Last, maxSeq)
		if n := len(out); n > 0 && s.First <= out[n-1].Last+1 {
			out[n-1].Last = max(out[n-1].Last, s.Last)
			continue
		}
		out = append(out, s)
	}
	return out
}

// next returns the smallest seq not below from that some hub claims.
func (t *target) next(from uint64) (seq uint64, ok bool) {
	for _, c := range t.claims {
		for _, s := range c.spans {
			if s.Last < from {
				continue
			}
			if n := max(s.First, from); !ok || n < seq {
				seq, ok = n, true
			}
			break
		}
	}
	return seq, ok
}

// before returns the highest seq below end that some hub claims.
func (t *target) before(end uint64) (seq uint64, ok bool) {
	for _, c := range t.claims {
		for _, s := range c.spans {
			if s.First < end && (!ok || min(s.Last, end-1) > seq) {
				seq, ok = min(s.Last, end-1), true
			}
		}
	}
	return seq, ok
}

// end returns one more than the highest seq that a hub claims.
func (t *target) end() uint64 {
	var end uint64
	for _, c := range t.claims {
		if n := len(c.spans); n > 0 {
			end = max(end, c.spans[n-1].Last+1)
		}
	}
	return end
}

// holders returns those who claim something of a span, the hubs of its bucket first, closest first.
func (t *target) holders(span transport.Span, hubs []edge.ID) []claim {
	place := transport.Place(t.chain.Bucket(span.First).Key(), hubs)
	rank := func(c claim) int {
		if i := slices.Index(place, c.hub); i >= 0 {
			return i
		}
		return len(place)
	}
	var out []claim
	for _, c := range t.claims {
		if len(c.within(span)) > 0 {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b claim) int { return cmp.Compare(rank(a), rank(b)) })
	return out
}

// within returns the parts of a span that the hub claims.
func (c claim) within(span transport.Span) []transport.Span {
	var out []transport.Span
	for _, s := range c.spans {
		if s.Last >= span.First && s.First <= span.Last {
			out = append(out, transport.Span{First: max(s.First, span.First), Last: min(s.Last, span.Last)})
		}
	}
	return out
}

// check refuses what a revocation took from the chain.
func (t *target) check(seg *journal.Segment) error {
	if t.last == nil || seg.Seq < t.last.Seq || seg.Seq == t.last.Seq && seg.Hash == t.last.Hash {
		return nil
	}
	return fmt.Errorf("collector: seq %d of %s, the last that counts is %d: %w", seg.Seq, t.chain, t.last.Seq, fleet.ErrRevoked)
}

// clip forgets what the hub claims from end on.
func (c *claim) clip(end uint64) {
	if end == 0 {
		c.spans = nil
		return
	}
	c.spans = c.within(transport.Span{First: 0, Last: end - 1})
}

func sortGaps(gaps []Gap) {
	slices.SortFunc(gaps, func(a, b Gap) int { return cmp.Compare(a.First, b.First) })
}

// parallel calls do(0) … do(n-1), at most width at a time, and waits for all.
func parallel(width, n int, do func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(width, n) {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}
