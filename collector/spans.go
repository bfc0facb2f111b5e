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
	proven uint64           // number of segments that signed evidence, or a majority of hubs that let them go, says existed: highest seq + 1
	head   *provenHead      // newest signed header that the DHT knew, nil for none
	last   *fleet.Cut       // what a revocation left of the chain; nil = all
	noHead bool             // do not ask the DHT: a hub has just said what is new
	fresh  []transport.Span // what hubs have said since old gaps were tried last; nil = everything counts as new
}

type claim struct {
	hub   edge.ID
	spans []transport.Span
	floor uint64         // the hub held all below once and has let it go …
	past  transport.Past // … for this reason
}

type provenHead struct {
	seq    uint64
	hash   journal.Hash
	signed []byte
}

// maxSeq is the highest seq that is believed to exist: databases count with 63 bits.
const maxSeq = 1<<62 - 1

// add adds what a hub says it holds. Its floor only rises, and takes away what it said of what is below.
func (t *target) add(hub edge.ID, h transport.Held) {
	i := slices.IndexFunc(t.claims, func(c claim) bool { return c.hub == hub })
	if i < 0 {
		t.claims = append(t.claims, claim{hub: hub})
		i = len(t.claims) - 1
	}
	c := &t.claims[i]
	if f := min(h.Floor, maxSeq); f > c.floor {
		c.floor, c.past = f, h.Past
	}
	c.spans = union(append(slices.Clone(c.spans), h.Spans...))
	if c.floor > 0 {
		c.spans = c.within(transport.Span{First: c.floor, Last: maxSeq})
	}
}

// forget drops what is known of a hub.
func (t *target) forget(hub edge.ID) {
	t.claims = slices.DeleteFunc(t.claims, func(c claim) bool { return c.hub == hub })
}

// clone returns a copy that shares nothing that add changes.
func (t *target) clone() *target {
	out := *t
	out.claims = slices.Clone(t.claims) // add replaces spans, it does not change them
	return &out
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
		if i := c.from(from); i < len(c.spans) {
			if n := max(c.spans[i].First, from); !ok || n < seq {
				seq, ok = n, true
			}
		}
	}
	return seq, ok
}

// from returns the index of the first run that does not end before seq.
func (c *claim) from(seq uint64) int {
	i, _ := slices.BinarySearchFunc(c.spans, seq, func(s transport.Span, seq uint64) int { return cmp.Compare(s.Last, seq) })
	return i
}

// before returns the highest seq below end that some hub claims.
func (t *target) before(end uint64) (seq uint64, ok bool) {
	for _, c := range t.claims {
		i := c.from(end)
		if i == len(c.spans) || c.spans[i].First >= end {
			i--
		}
		if i >= 0 && (!ok || min(c.spans[i].Last, end-1) > seq) {
			seq, ok = min(c.spans[i].Last, end-1), true
		}
	}
	return seq, ok
}

// end returns one more than the highest seq that a hub claims.
func (t *target) end() uint64 {
	var end uint64
	for _, c := range t.claims {
		end = max(end, c.end())
	}
	return end
}

// likelyEnd returns the end that two hubs claim, or the only one: for an estimate.
func (t *target) likelyEnd() uint64 {
	var ends [2]uint64
	for _, c := range t.claims {
		if e := c.end(); e > ends[0] {
			ends[0], ends[1] = e, ends[0]
		} else {
			ends[1] = max(ends[1], e)
		}
	}
	if len(t.claims) < 2 {
		return ends[0]
	}
	return ends[1]
}

func (c *claim) end() uint64 {
	if n := len(c.spans); n > 0 {
		return c.spans[n-1].Last + 1
	}
	return 0
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
		if c.claims(span) {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b claim) int { return cmp.Compare(rank(a), rank(b)) })
	return out
}

// within returns the parts of a span that the hub claims.
func (c *claim) within(span transport.Span) []transport.Span {
	var out []transport.Span
	for _, s := range c.spans[c.from(span.First):] {
		if s.First > span.Last {
			break
		}
		out = append(out, transport.Span{First: max(s.First, span.First), Last: min(s.Last, span.Last)})
	}
	return out
}

// claims reports whether the hub claims something of a span.
func (c *claim) claims(span transport.Span) bool {
	i := c.from(span.First)
	return i < len(c.spans) && c.spans[i].First <= span.Last
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
