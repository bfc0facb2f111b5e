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
	chains  map[journal.Chain]map[uint64][]byte
	count   int
	changed chan struct{} // closed and replaced at each change
	log     []place       // what became durable, in order
}

type place struct {
	chain journal.Chain
	seq   uint64
}

// NewStore returns an empty store that is full at limit segments (0 = never).
func NewStore(f func() *fleet.Fleet, limit int) *Store {
	return &Store{fleet: f, limit: limit, chains: map[journal.Chain]map[uint64][]byte{}, changed: make(chan struct{})}
}

// Put keeps a proven segment of an enrolled device.
func (s *Store) Put(_ context.Context, segment []byte) error {
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
	if old, ok := s.chains[seg.Chain][seg.Seq]; ok {
		if bytes.Equal(old, segment) {
			return nil
		}
		return &transport.Refusal{Reason: transport.RefusedFork, Detail: fmt.Sprintf("seq %d", seg.Seq)}
	}
	if s.limit > 0 && s.count >= s.limit {
		return &transport.Refusal{Reason: transport.RefusedFull, Detail: fmt.Sprintf("%d segments", s.count)}
	}
	if s.chains[seg.Chain] == nil {
		s.chains[seg.Chain] = map[uint64][]byte{}
	}
	s.chains[seg.Chain][seg.Seq] = bytes.Clone(segment)
	s.count++
	s.log = append(s.log, place{seg.Chain, seg.Seq})
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

// Has reports whether a segment is held.
func (s *Store) Has(c journal.Chain, seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.chains[c][seq]
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
	for c, segs := range s.chains {
		if device == (edge.ID{}) || device == c.Device {
			out = append(out, transport.Held{Chain: c, Spans: spans(segs)})
		}
	}
	return out, nil
}

func spans(segs map[uint64][]byte) []transport.Span {
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

// Fetch implements transport.Shelf.
func (s *Store) Fetch(ctx context.Context, chain journal.Chain, span transport.Span, visit func([]byte) error) error {
	s.mu.Lock()
	segs := maps.Clone(s.chains[chain])
	s.mu.Unlock()
	for _, seq := range slices.Sorted(maps.Keys(segs)) {
		if seq < span.First || seq > span.Last {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := visit(segs[seq]); err != nil {
			return err
		}
	}
	return nil
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

// Gate is a Store whose Put waits while the gate is shut: a hub with a disk that hangs.
type Gate struct {
	transport.Store
	mu   sync.Mutex
	open chan struct{} // closed = open
}

// NewGate returns an open gate before a store.
func NewGate(s transport.Store) *Gate {
	g := &Gate{Store: s, open: make(chan struct{})}
	close(g.open)
	return g
}

// Shut makes every later Put wait.
func (g *Gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

// Open lets all of them go on. Only after Shut.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
}

// Put waits for the gate, then stores.
func (g *Gate) Put(ctx context.Context, segment []byte) error {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
		return g.Store.Put(ctx, segment)
	case <-ctx.Done():
		return ctx.Err()
	}
}
