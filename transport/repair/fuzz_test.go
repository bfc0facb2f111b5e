// SPDX-License-Identifier: Apache-2.0

package repair_test

import (
	"encoding/binary"
	"math/bits"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/repair"
)

// FuzzRanges gives a look what a hub may send. The oracle says it another way: an honest store's answer is one that some set of seqs explains.
func FuzzRanges(f *testing.F) {
	f.Add([]byte{}, uint64(0), uint64(63), uint64(0), false)
	f.Add(binary.BigEndian.AppendUint64(nil, 64), uint64(0), uint64(127), uint64(64), true)
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 63, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 7, 1}, uint64(0), uint64(63), uint64(64), true)
	f.Fuzz(func(t *testing.T, in []byte, first, last, width uint64, one bool) {
		first, last, width = first&^63, last|63, width&^63
		if first > last {
			return
		}
		chain := journal.Chain{Fleet: journal.FleetID{1}, Device: edge.ID{2}, Stream: "main"}
		q := transport.RangeQuery{}
		if one {
			q = transport.RangeQuery{Chain: &chain, Span: transport.Span{First: first, Last: last}, Width: width}
		}
		check := repair.NewChecker(chain.Fleet, q)
		var before *transport.Range
		for len(in) >= 33 {
			r := transport.Range{Chain: chain, Span: transport.Span{First: binary.BigEndian.Uint64(in), Last: binary.BigEndian.Uint64(in[8:])},
				Count: binary.BigEndian.Uint64(in[16:]), Mask: binary.BigEndian.Uint64(in[24:])}
			r.Chain.Incarnation[0] = in[32]
			if one {
				r.Chain.Incarnation[0] = 0
			}
			in = in[33:]
			if check(r) != nil {
				return
			}
			explain(t, q, before, r)
			before = &r
		}
	})
}

// explain fails when no store can have said r after before.
func explain(t *testing.T, q transport.RangeQuery, before *transport.Range, r transport.Range) {
	t.Helper()
	if r.Span.First > r.Span.Last || r.Span.Last > journal.MaxSeq || r.Count == 0 || r.Count > r.Span.Last-r.Span.First+1 {
		t.Fatalf("accepted %+v", r)
	}
	if q.Chain == nil {
		if r.Span.First != 0 || before != nil && before.Chain.Incarnation[0] >= r.Chain.Incarnation[0] {
			t.Fatalf("accepted %+v after %+v", r, before)
		}
		return
	}
	// The only run of the question that r.Span.First lies in.
	want := q.Span
	if q.Width > 0 {
		n := (r.Span.First - q.Span.First) / q.Width
		want.First = q.Span.First + n*q.Width
		if q.Span.Last-want.First >= q.Width {
			want.Last = want.First + q.Width - 1
		}
	}
	if r.Span != want || r.Span.First < q.Span.First || before != nil && before.Span.Last >= r.Span.First {
		t.Fatalf("accepted %+v after %+v for %+v", r, before, q)
	}
	if r.Span.Last-r.Span.First+1 == journal.BucketSize && bits.OnesCount64(r.Mask) != int(r.Count) {
		t.Fatalf("accepted %+v", r)
	}
}

// FuzzRuns: the runs of a mask are its bits, in as few pieces as there are.
func FuzzRuns(f *testing.F) {
	f.Add(uint64(0), uint64(0))
	f.Add(uint64(64), ^uint64(0))
	f.Add(uint64(128), uint64(0x8000_0000_0000_0005))
	f.Fuzz(func(t *testing.T, bucket, mask uint64) {
		first := bucket % (1 << 50) * journal.BucketSize
		var again uint64
		n := 0
		for i, s := range repair.Runs(first, mask) {
			if s.First < first || s.Last > first+63 || s.First > s.Last {
				t.Fatalf("run %d of %x: %+v", i, mask, s)
			}
			n++
			for at := s.First; at <= s.Last; at++ {
				again |= 1 << (at - first)
			}
		}
		if starts := bits.OnesCount64(mask &^ (mask << 1)); again != mask || n != starts {
			t.Fatalf("%x became %x in %d runs, want %d", mask, again, n, starts)
		}
		for i := range uint64(64) { // below a floor are the seqs that are smaller
			if got, want := repair.Below(first, first+i)&mask, mask&(1<<i-1); got != want {
				t.Fatalf("below %d: %x, want %x", i, got, want)
			}
		}
	})
}
