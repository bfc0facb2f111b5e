// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"cmp"
	"math/bits"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// Bounds of what is known to be missing at a time: the rest is found again when that is here.
const (
	maxLacks     = 1 << 13 // buckets, some 1.5 kB each with twenty claims: half a million segments
	perPeer      = maxLacks / 2
	perSuspect   = 64
	maxLackForks = 256 // buckets of which somebody holds other segments
)

// work is what is missing, as the hubs that were asked say.
type work struct {
	fleet *fleet.Fleet
	lacks map[spot]*lack
	units map[unit]answered
	forks int
	by    map[*peer]int
	last  time.Time // when a lack was seen last
	more  bool      // something did not fit
}

type spot struct {
	chain  journal.Chain
	bucket uint64
}

// lack is a bucket of which somebody holds more than this hub, or something else.
type lack struct {
	spot
	cut    bool // a revocation ends the chain: newest first
	ours   journal.Hash
	claims []claim
}

type claim struct {
	peer   *peer
	mask   uint64       // what is missing here; if fork, what both have
	all    uint64       // what it holds
	theirs journal.Hash // digest of that
	fork   bool         // they differ in something that both have
}

// unit is a run of buckets that is asked for at once.
type unit struct {
	chain journal.Chain
	first uint64
}

// answered is what one hub said of a unit: whoever has the same digest would say the same.
type answered struct {
	peer  *peer
	sum   journal.Hash
	lacks []*lack
}

func newWork(f *fleet.Fleet) *work {
	return &work{fleet: f, lacks: map[spot]*lack{}, units: map[unit]answered{}, by: map[*peer]int{}}
}

func (w *work) empty() bool { return len(w.lacks) == 0 }
func (w *work) full() bool  { return len(w.lacks) >= maxLacks }

// add notes a claim; it returns nil when there is no room for it.
func (w *work) add(at spot, ours journal.Hash, c claim) *lack {
	l := w.lacks[at]
	if l == nil {
		limit := perPeer
		if c.peer.suspicious() {
			limit = perSuspect
		}
		if w.full() || w.by[c.peer] >= limit || c.fork && w.forks >= maxLackForks {
			w.more = w.more || !c.peer.suspicious()
			return nil
		}
		last, _ := transport.Extent(w.fleet, at.chain)
		l = &lack{spot: at, cut: last != nil, ours: ours}
		w.lacks[at] = l
		w.by[c.peer]++
		if c.fork {
			w.forks++
		}
	}
	l.claims = append(l.claims, c)
	w.last = time.Now()
	return l
}

// again notes that a hub says of a unit what another one has said.
func (w *work) again(p *peer, a answered) {
	for _, l := range a.lacks {
		i := slices.IndexFunc(l.claims, func(c claim) bool { return c.peer == a.peer })
		c := l.claims[i]
		c.peer = p
		l.claims = append(l.claims, c)
	}
}

// list returns the lacks in the order in which they are mended. Of a chain that a revocation ends a forked branch gives way only to what is linked to
// its last segment, so that is fetched first. The others are in no order, so that hubs that lack the same do not all turn to the same holder.
func (w *work) list() []*lack {
	out := make([]*lack, 0, len(w.lacks))
	for _, l := range w.lacks {
		out = append(out, l)
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	slices.SortStableFunc(out, func(a, b *lack) int {
		switch {
		case a.cut != b.cut && a.cut:
			return -1
		case a.cut != b.cut:
			return 1
		case !a.cut:
			return 0
		}
		return cmp.Or(compare(a.chain, b.chain), cmp.Compare(b.bucket, a.bucket))
	})
	return out
}

// segments counts what is missing.
func (w *work) segments() (n int) {
	for _, l := range w.lacks {
		n += l.segments()
	}
	return n
}

// lackingBy counts the segments that one hub claims and this one lacks.
func (w *work) lackingBy(p *peer) (n int) {
	for _, l := range w.lacks {
		for _, c := range l.claims {
			if c.peer == p && !c.fork {
				n += bits.OnesCount64(c.mask)
			}
		}
	}
	return n
}

// mask returns what of the bucket somebody claims and this hub lacks.
func (l *lack) mask() (m uint64) {
	for _, c := range l.claims {
		if !c.fork {
			m |= c.mask
		}
	}
	return m
}

func (l *lack) segments() int { return bits.OnesCount64(l.mask()) }

// holders returns the claims in the order in which they are tried: the closest hub first, those no longer of the bucket after them, then those that
// are slow, and those that promised in vain at the end.
func (l *lack) holders(hubs []edge.ID) []claim {
	placed := transport.Place(l.chain.Bucket(l.bucket*journal.BucketSize).Key(), hubs)
	rank := func(c claim) int {
		at := slices.Index(placed, c.peer.id)
		switch {
		case c.peer.suspicious():
			return 3 * transport.MaxCopies
		case c.peer.slow:
			return 2 * transport.MaxCopies
		case at < 0:
			return transport.MaxCopies
		}
		return at
	}
	out := slices.Clone(l.claims)
	slices.SortStableFunc(out, func(a, b claim) int { return cmp.Compare(rank(a), rank(b)) })
	return out
}

// span returns the seqs of a bucket.
func (s spot) span() transport.Span {
	first := s.bucket * journal.BucketSize
	return transport.Span{First: first, Last: first + journal.BucketSize - 1}
}

// below returns the bits of a bucket that begins at first which lie below floor.
func below(first, floor uint64) uint64 {
	switch {
	case floor <= first:
		return 0
	case floor-first >= journal.BucketSize:
		return ^uint64(0)
	}
	return 1<<(floor-first) - 1
}

// runs returns the spans of the set bits of a bucket that begins at first.
func runs(first, mask uint64) (out []transport.Span) {
	for i := range uint64(journal.BucketSize) {
		if mask&(1<<i) == 0 {
			continue
		}
		if n := len(out); n > 0 && out[n-1].Last+1 == first+i {
			out[n-1].Last++
		} else {
			out = append(out, transport.Span{First: first + i, Last: first + i})
		}
	}
	return out
}
