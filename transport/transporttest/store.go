// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// Store is a hub's disk in memory. It refuses what transport/store refuses. Safe for concurrent use.
type Store struct {
	fleet func() *fleet.Fleet
	limit int // segments; 0 = none

	mu      sync.Mutex
	chains  map[journal.Chain]*column
	count   int
	changed chan struct{}        // closed and replaced at each change
	log     []place              // what became durable, in order
	marks   map[edge.ID][][]byte // signed, by collector
	forks   int
}

// column is what is held of one chain.
type column struct {
	segs  map[uint64]kept
	floor uint64 // all below was let go …
	past  transport.Past
}

type kept struct {
	raw      []byte
	sum      journal.Hash // what the segment adds to a transport.Range
	received int64
}

type place struct {
	chain journal.Chain
	seq   uint64
}

// NewStore returns an empty store that is full at limit segments (0 = never).
func NewStore(f func() *fleet.Fleet, limit int) *Store {
	return &Store{fleet: f, limit: limit, chains: map[journal.Chain]*column{}, changed: make(chan struct{}), marks: map[edge.ID][][]byte{}}
}

// Put keeps a proven segment of an enrolled device.
func (s *Store) Put(ctx context.Context, segment []byte) error {
	return s.PutDated(ctx, segment, time.Now().UnixMilli())
}

// PutDated implements transport.Mirror.
func (s *Store) PutDated(_ context.Context, segment []byte, received int64) error {
	seg, err := journal.Open(segment, s.fleet().ID())
	if err != nil {
		return &transport.Refusal{Reason: transport.RefusedInvalid, Detail: err.Error()}
	}
	if err := transport.Admit(s.fleet(), seg); errors.Is(err, fleet.ErrRevoked) {
		return &transport.Refusal{Reason: transport.RefusedRevoked, Detail: err.Error()}
	} else if err != nil {
		return &transport.Refusal{Reason: transport.RefusedNotAllowed, Detail: err.Error()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.column(seg.Chain)
	old, taken := c.segs[seg.Seq]
	switch {
	case taken && bytes.Equal(old.raw, segment):
		return nil
	case taken:
		s.forks++
		return &transport.Refusal{Reason: transport.RefusedFork, Detail: fmt.Sprintf("seq %d", seg.Seq)}
	case seg.Seq < c.floor:
		return &transport.Refusal{Reason: transport.RefusedPast, Detail: fmt.Sprintf("seq %d", seg.Seq)}
	case s.limit > 0 && s.count >= s.limit:
		return &transport.Refusal{Reason: transport.RefusedFull, Detail: fmt.Sprintf("%d segments", s.count)}
	}
	c.segs[seg.Seq] = kept{raw: bytes.Clone(segment), sum: transport.Digest(seg.Seq, seg.Hash), received: received}
	s.count++
	s.log = append(s.log, place{seg.Chain, seg.Seq})
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

// column returns what is held of a chain. Store.mu is held.
func (s *Store) column(c journal.Chain) *column {
	if s.chains[c] == nil {
		s.chains[c] = &column{segs: map[uint64]kept{}}
	}
	return s.chains[c]
}

// Has reports whether a segment is held.
func (s *Store) Has(c journal.Chain, seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, ok := s.chains[c]
	if ok {
		_, ok = h.segs[seq]
	}
	return ok
}

// Len counts the segments held.
func (s *Store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// Held implements transport.Shelf.
func (s *Store) Held(_ context.Context, device edge.ID) ([]transport.Held, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []transport.Held
	for c, h := range s.chains {
		if device == (edge.ID{}) || device == c.Device {
			out = append(out, transport.Held{Chain: c, Spans: spans(h.segs), Floor: h.floor, Past: h.past})
		}
	}
	slices.SortFunc(out, func(a, b transport.Held) int { return compareChains(a.Chain, b.Chain) })
	return out, nil
}

func spans(segs map[uint64]kept) []transport.Span {
	var out []transport.Span
	for _, seq := range slices.Sorted(maps.Keys(segs)) {
		if last := len(out) - 1; last >= 0 && out[last].Last+1 == seq {
			out[last].Last = seq
		} else {
			out = append(out, transport.Span{First: seq, Last: seq})
		}
	}
	return out
}

// Follow implements transport.Shelf.
func (s *Store) Follow(ctx context.Context, visit func(transport.Held) error) error {
	s.mu.Lock()
	told := len(s.log)
	s.mu.Unlock()
	now, err := s.Held(ctx, edge.ID{})
	if err != nil {
		return err
	}
	for _, h := range now {
		if err := visit(h); err != nil {
			return err
		}
	}
	for {
		s.mu.Lock()
		news, changed := slices.Clone(s.log[told:]), s.changed
		s.mu.Unlock()
		for _, p := range news {
			h := transport.Held{Chain: p.chain, Spans: []transport.Span{{First: p.seq, Last: p.seq}}}
			if err := visit(h); err != nil {
				return err
			}
		}
		told += len(news)
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
