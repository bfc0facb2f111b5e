// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"sync"

	"github.com/streembit/edge/journal"
)

// shelfBytes bounds what a shelf keeps: sinks that are no further apart than that are fed by one fetch.
const shelfBytes = 16 << 20

// shelf holds the segments that one of several Collectors has fetched and proven, for the others. Safe for concurrent use; nil keeps nothing.
type shelf struct {
	mu    sync.Mutex
	segs  map[place]got
	order []place // oldest first
	size  int
	limit int
	turns map[journal.Bucket]*turn
}

type place struct {
	chain journal.Chain
	seq   uint64
}

// turn lets one at a time fetch a bucket.
type turn struct {
	free  chan struct{}
	users int
}

func newShelf() *shelf {
	return &shelf{segs: map[place]got{}, limit: shelfBytes, turns: map[journal.Bucket]*turn{}}
}

// wait returns when nobody else fetches the bucket, or ctx ends. done must be called in either case.
func (s *shelf) wait(ctx context.Context, b journal.Bucket) (done func()) {
	if s == nil {
		return func() {}
	}
	s.mu.Lock()
	t := s.turns[b]
	if t == nil {
		t = &turn{free: make(chan struct{}, 1)}
		s.turns[b] = t
	}
	t.users++
	s.mu.Unlock()
	got := false
	select {
	case t.free <- struct{}{}:
		got = true
	case <-ctx.Done():
	}
	return func() {
		if got {
			<-t.free
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(s.turns, b)
		}
	}
}

// fill puts into a unit what is here of it, until the unit is full.
func (s *shelf) fill(u *unit, t *target) {
	if s == nil {
		return
	}
	for seq := u.span.First; seq <= u.span.Last; seq++ {
		s.mu.Lock()
		here, ok := s.segs[place{t.chain, seq}]
		s.mu.Unlock()
		if ok && t.check(here.seg) == nil {
			u.put(here, len(here.seg.Bytes()))
		}
		if u.cutIfFull(seq + 1) {
			return
		}
	}
}

// keep takes the segments of a unit, and lets the oldest go.
func (s *shelf) keep(u *unit, chain journal.Chain) {
	if s == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range u.segs {
		if g.seg == nil {
			continue
		}
		at := place{chain, g.seg.Seq}
		if _, there := s.segs[at]; there {
			continue
		}
		s.segs[at] = g
		s.order = append(s.order, at)
		s.size += len(g.seg.Bytes())
	}
	n := 0
	for ; s.size > s.limit; n++ {
		s.size -= len(s.segs[s.order[n]].seg.Bytes())
		delete(s.segs, s.order[n])
	}
	s.order = s.order[n:] // append moves what is left when the room is used up
}
