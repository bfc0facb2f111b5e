// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"testing"
	"time"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/journal"
)

// FuzzRegap plays batches against a model that counts single segments: after each, the open gaps are exactly the
// missing segments, they do not overlap, and nothing is opened at or before the mark.
func FuzzRegap(f *testing.F) {
	f.Add([]byte{0, 9, 3, 5, 1, 4, 4, 4, 4, 0, 8, 20, 9, 8, 1})
	f.Add([]byte{0, 30, 0, 30, 0, 10, 12, 11, 11, 0, 0, 40, 1, 0, 1, 12, 13, 13, 12, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		missing := map[uint64]bool{}
		var open []collector.Gap
		var mark *journal.Link
		for ; len(in) >= 5; in = in[5:] {
			from, to := uint64(in[0]%64), uint64(in[1]%64)
			first, last := max(from, uint64(in[2]%64)), min(to, uint64(in[3]%64))
			b := collector.Batch{From: from, To: to}
			if first <= last && from <= to {
				b.Gaps = []collector.Gap{{First: first, Last: last, Reason: "lost", Found: time.Unix(int64(len(in)), 0)}}
			}
			if in[4]%2 == 1 && from <= to {
				b.Mark = &journal.Link{Seq: to}
			}
			move, err := b.Advance(mark)
			if err != nil {
				continue
			}
			open = b.Regap(open, mark).Apply(open)
			model(missing, b, mark)
			if move {
				mark = b.Mark
			}
			compare(t, open, missing)
		}
	})
}

// model does what Regap does, one segment at a time.
func model(missing map[uint64]bool, b collector.Batch, mark *journal.Link) {
	for seq := b.From; seq <= b.To && b.From <= b.To; seq++ {
		lost := len(b.Gaps) > 0 && seq >= b.Gaps[0].First && seq <= b.Gaps[0].Last
		switch {
		case !lost:
			delete(missing, seq)
		case mark == nil || seq > mark.Seq:
			missing[seq] = true
		}
	}
}

func compare(t *testing.T, open []collector.Gap, missing map[uint64]bool) {
	t.Helper()
	n := 0
	for i, g := range open {
		if g.First > g.Last || (i > 0 && open[i-1].Last >= g.First) {
			t.Fatalf("gaps out of order: %v", open)
		}
		for seq := g.First; seq <= g.Last; seq++ {
			n++
			if !missing[seq] {
				t.Fatalf("seq %d is in gap %v and not missing", seq, g)
			}
		}
	}
	if n != len(missing) {
		t.Fatalf("%d segments in gaps %v, %d missing", n, open, len(missing))
	}
}
