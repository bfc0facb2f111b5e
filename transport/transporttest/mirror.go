// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// Fetch implements transport.Shelf.
func (s *Store) Fetch(ctx context.Context, chain journal.Chain, span transport.Span, visit func([]byte) error) error {
	return s.FetchDated(ctx, chain, span, func(segment []byte, _ int64) error { return visit(segment) })
}

// FetchDated implements transport.Mirror.
func (s *Store) FetchDated(ctx context.Context, chain journal.Chain, span transport.Span, visit func([]byte, int64) error) error {
	for _, k := range s.copyOf(chain, span) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := visit(k.raw, k.received); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) copyOf(chain journal.Chain, span transport.Span) (out []kept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.chains[chain]
	if h == nil {
		return nil
	}
	for _, seq := range slices.Sorted(maps.Keys(h.segs)) {
		if seq >= span.First && seq <= span.Last {
			out = append(out, h.segs[seq])
		}
	}
	return out
}

// Ranges implements transport.Mirror.
func (s *Store) Ranges(ctx context.Context, q transport.RangeQuery, visit func(transport.Range) error) error {
	for _, r := range s.ranges(q) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := visit(r); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) ranges(q transport.RangeQuery) (out []transport.Range) {
	var hubs []edge.ID
	for _, h := range s.fleet().Hubs() {
		hubs = append(hubs, h.Member)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range slices.SortedFunc(maps.Keys(s.chains), compareChains) {
		if q.Chain == nil || *q.Chain == c {
			out = append(out, s.chains[c].ranges(c, q, hubs)...)
		}
	}
	return out
}

func (h *column) ranges(c journal.Chain, q transport.RangeQuery, hubs []edge.ID) (out []transport.Range) {
	ours := map[uint64]bool{} // by bucket
	for _, seq := range slices.Sorted(maps.Keys(h.segs)) {
		b := seq / journal.BucketSize
		if _, judged := ours[b]; !judged {
			ours[b] = q.Target == (edge.ID{}) || slices.Contains(transport.Place(c.Bucket(seq).Key(), hubs), q.Target)
		}
		if !ours[b] || q.Chain != nil && (seq < q.Span.First || seq > q.Span.Last) {
			continue
		}
		span := q.Span
		switch {
		case q.Chain == nil:
			span = transport.Span{Last: seq}
		case q.Width > 0:
			span.First = seq - (seq-q.Span.First)%q.Width
			span.Last = min(span.First+(q.Width-1), q.Span.Last)
		}
		if n := len(out); n == 0 || out[n-1].Span.First != span.First {
			out = append(out, transport.Range{Chain: c, Span: span, Floor: h.floor})
		}
		r := &out[len(out)-1]
		r.Span.Last = span.Last
		r.Count++
		for i, x := range h.segs[seq].sum {
			r.Sum[i] ^= x
		}
		if span.Last-span.First == journal.BucketSize-1 && q.Chain != nil {
			r.Mask |= 1 << (seq - span.First)
		}
	}
	return out
}

func compareChains(a, b journal.Chain) int {
	if c := a.Device.Compare(b.Device); c != 0 {
		return c
	}
	if c := strings.Compare(a.Stream, b.Stream); c != 0 {
		return c
	}
	return bytes.Compare(a.Incarnation[:], b.Incarnation[:])
}

// LetGo forgets all of a chain below floor, as retention does.
func (s *Store) LetGo(c journal.Chain, floor uint64, past transport.Past) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.column(c)
	for seq := range h.segs {
		if seq < floor {
			delete(h.segs, seq)
			s.count--
		}
	}
	h.floor, h.past = max(h.floor, floor), past
}

// Forks counts the segments that another one stood in the place of.
func (s *Store) Forks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.forks
}

// Mark implements transport.Bookkeeper.
func (s *Store) Mark(_ context.Context, signed []byte) error {
	f := s.fleet()
	w, err := journal.OpenWatermarks(signed, f.ID())
	if err != nil {
		return &transport.Refusal{Reason: transport.RefusedInvalid, Detail: err.Error()}
	}
	if !f.Is(w.Collector, fleet.Collector) {
		return &transport.Refusal{Reason: transport.RefusedNotAllowed, Detail: fmt.Sprintf("%s is no collector", w.Collector)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.ContainsFunc(s.marks[w.Collector], func(old []byte) bool { return bytes.Equal(old, signed) }) {
		s.marks[w.Collector] = append(s.marks[w.Collector], bytes.Clone(signed))
	}
	return nil
}

// Marks implements transport.Bookkeeper.
func (s *Store) Marks(_ context.Context, visit func([]byte) error) error {
	s.mu.Lock()
	var all [][]byte
	for _, signed := range s.marks {
		all = append(all, signed...)
	}
	s.mu.Unlock()
	for _, signed := range all {
		if err := visit(signed); err != nil {
			return err
		}
	}
	return nil
}
