// SPDX-License-Identifier: Apache-2.0

package repair_test

import (
	"context"
	"fmt"
	"math/bits"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/repair"
	"github.com/streembit/edge/transport/transporttest"
)

// index is what a store knows of its segments, without them: as many as a benchmark likes.
type index struct {
	repair.Local
	chains []journal.Chain
	masks  [][]uint64 // of each chain, by bucket
	asked  int
}

func (x *index) Ranges(_ context.Context, q transport.RangeQuery, visit func(transport.Range) error) error {
	x.asked++
	for i, c := range x.chains {
		if q.Chain != nil && *q.Chain != c {
			continue
		}
		var r transport.Range
		for b, m := range x.masks[i] {
			first := uint64(b) * journal.BucketSize
			if m == 0 || q.Chain != nil && (first < q.Span.First || first > q.Span.Last) {
				continue
			}
			span := transport.Span{Last: first + journal.BucketSize - 1}
			if q.Chain != nil {
				span.First = first - (first-q.Span.First)%q.Width
				span.Last = min(span.First+q.Width-1, q.Span.Last)
			}
			if r.Count > 0 && r.Span.First != span.First {
				if err := visit(r); err != nil {
					return err
				}
				r = transport.Range{}
			}
			r.Chain, r.Span, r.Mask = c, span, m
			if q.Width != journal.BucketSize {
				r.Mask = 0
			}
			r.Count += uint64(bits.OnesCount64(m))
			for at := range uint64(journal.BucketSize) {
				if m&(1<<at) != 0 {
					r.Sum[at%32] ^= byte(first>>6) + byte(at) + 1
				}
			}
		}
		if r.Count > 0 {
			if err := visit(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// other answers for a hub from an index.
type other struct {
	repair.Peers
	index *index
}

func (o other) Ranges(ctx context.Context, _ edge.ID, q transport.RangeQuery, visit func(transport.Range) error) error {
	return o.index.Ranges(ctx, q, visit)
}

// newIndex holds all of so many chains, but for every skip-th segment (0 = none is left out).
func newIndex(w *transporttest.World, chains, each, skip int) *index {
	x := &index{}
	for i := range chains {
		c := journal.Chain{Fleet: w.Fleet().ID(), Device: w.Devices[0].ID(), Stream: "main", Incarnation: journal.Incarnation{byte(i >> 8), byte(i)}}
		masks := make([]uint64, (each+journal.BucketSize-1)/journal.BucketSize)
		for s := range each {
			if skip == 0 || (s+1)%skip != 0 {
				masks[s/journal.BucketSize] |= 1 << (s % journal.BucketSize)
			}
		}
		x.chains, x.masks = append(x.chains, c), append(x.masks, masks)
	}
	return x
}

// compareWith returns a repairer whose store is ours and whose peer holds all.
func compareWith(t testing.TB, w *transporttest.World, ours, theirs *index) *repair.Repairer {
	t.Helper()
	r, err := repair.New(repair.Options{Self: w.Hubs[0].ID(), Fleet: w.Fleet, Local: ours, Peers: other{index: theirs}, Rate: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestCompareFindsExactlyWhatIsMissing in as many questions as it takes and no more.
func TestCompareFindsExactlyWhatIsMissing(t *testing.T) {
	w := transporttest.NewWorld(t, 2, 1)
	for _, c := range []struct{ chains, each, skip, missing, questions int }{
		{10, 1000, 0, 0, 1},
		{10, 1000, 100, 100, 1 + 10},    // short chains: from the chain to its buckets
		{1, 20_000, 7000, 2, 1 + 1 + 2}, // a long one: to the two of five runs of 64 buckets that differ, to their buckets
		{10, 1000, 1, 10_000, 1 + 10},   // nothing is here
	} {
		theirs := newIndex(w, c.chains, c.each, 0)
		n, err := compareWith(t, w, newIndex(w, c.chains, c.each, c.skip), theirs).Compare(t.Context(), w.Hubs[1].ID())
		if err != nil || n != c.missing || theirs.asked != c.questions {
			t.Errorf("%+v: %d missing after %d questions: %v", c, n, theirs.asked, err)
		}
	}
}

// BenchmarkCompare is one look of a hub at another one that holds 100 000 segments.
func BenchmarkCompare(b *testing.B) {
	w := transporttest.NewWorld(b, 2, 1)
	for _, shape := range [][2]int{{1000, 100}, {1, 100_000}} {
		for _, skip := range []int{0, 100, 1} {
			name := fmt.Sprintf("chains=%d/missing=%s", shape[0], map[int]string{0: "none", 100: "1 of 100", 1: "all"}[skip])
			b.Run(name, func(b *testing.B) {
				theirs, ours := newIndex(w, shape[0], shape[1], 0), newIndex(w, shape[0], shape[1], skip)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := compareWith(b, w, ours, theirs).Compare(b.Context(), w.Hubs[1].ID()); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(theirs.asked)/float64(b.N), "questions/op")
			})
		}
	}
}
