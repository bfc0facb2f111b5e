// SPDX-License-Identifier: Apache-2.0

package store

import (
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// scope is how much of a chain counts in the fleet as it is now.
type scope struct {
	ok   bool       // some of it
	last *fleet.Cut // the last segment; nil = all
}

func (s *Store) scope(c journal.Chain) scope {
	last, ok := transport.Extent(s.o.Fleet(), c)
	return scope{ok, last}
}

// counts reports whether a held segment does.
func (sc scope) counts(seq uint64, hash journal.Hash) bool {
	switch {
	case !sc.ok:
		return false
	case sc.last == nil, seq < sc.last.Seq:
		return true
	}
	return seq == sc.last.Seq && hash == sc.last.Hash
}

// ends reports whether nothing counts after seq.
func (sc scope) ends(seq uint64) bool { return sc.last != nil && seq >= sc.last.Seq }

// clip takes what does not count out of spans of h. Store.mu is held.
func (sc scope) clip(h *held, spans []transport.Span) []transport.Span {
	if sc.ok && sc.last == nil {
		return spans
	}
	end := uint64(0) // one more than the last that counts
	if sc.ok {
		end = sc.last.Seq
		if e, there := h.get(end); there && e.hash == sc.last.Hash {
			end++
		}
	}
	var out []transport.Span
	for _, s := range spans {
		if s.First < end {
			out = append(out, transport.Span{First: s.First, Last: min(s.Last, end-1)})
		}
	}
	return out
}

// count counts the held segments of h that count.
func (sc scope) count(h *held) int {
	if sc.ok && sc.last == nil {
		return h.n
	}
	n := 0
	for _, s := range sc.clip(h, h.spans()) {
		n += int(s.Last - s.First + 1)
	}
	return n
}

// vouches reports whether a revocation names seg, by the hash of the chain's last segment: it is that one, or all between it and that one are
// held, so that its successor tells whether it is the one that belongs there. Of a forked chain the branch of the cut counts, whichever
// came first; repair that brings it must begin with the last segment and go down.
func (sc scope) vouches(h *held, seg *journal.Segment) bool {
	switch {
	case !sc.ok || sc.last == nil || seg.Seq > sc.last.Seq:
		return false
	case seg.Seq == sc.last.Seq:
		return seg.Hash == sc.last.Hash
	}
	if e, ok := h.get(sc.last.Seq); !ok || e.hash != sc.last.Hash {
		return false
	}
	for at := seg.Seq + 1; at < sc.last.Seq; at++ {
		if _, ok := h.get(at); !ok {
			return false
		}
	}
	return true
}
