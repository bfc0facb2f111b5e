// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/transport"
)

const (
	sweepPause = time.Minute
	clockPause = time.Hour // between two clock frames
	maxRaise   = 64        // floors in one write
	// maxPast is how many chains of a device are remembered of which nothing is held any more, the last ones; each incarnation is a chain. What is older could
	// be brought once more, and would be let go once more.
	maxPast = 64
)

// Run sweeps about once a minute until ctx ends or the store is closed.
func (s *Store) Run(ctx context.Context) error {
	for {
		select {
		case <-time.After(sweepPause*3/4 + rand.N(sweepPause/2)):
		case <-ctx.Done():
			return nil
		case <-s.closed:
			return nil
		}
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil && !s.isClosed() {
			s.o.Logger.Error("store: sweeping; it is tried again", "dir", s.dir, "err", err)
		}
	}
}

// Sweep lets go what the fleet's retentions do not want held any longer, and gives its space back. What is let go is durably noted first. Errors are
// the disk's, or ctx.Err(); what is left undone is done by the next Sweep.
func (s *Store) Sweep(ctx context.Context) error {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	if err := s.ready(ctx); err != nil {
		return fmt.Errorf("store: sweeping: %w", err)
	}
	age, err := s.tellTime(ctx)
	if err == nil {
		err = s.raiseAll(ctx, age)
	}
	s.forgetPast()
	s.rates.forget()
	// Cleaning may be what makes room for what just found none.
	if err = errors.Join(err, s.clean(ctx)); err != nil {
		return fmt.Errorf("store: sweeping: %w", err)
	}
	return nil
}

// tellTime returns the time by which ages are judged, and notes what the log should know of it: now and then that it was so late, and where
// receipts are not known or lie in the future that they are not later than this.
func (s *Store) tellTime(ctx context.Context) (age int64, err error) {
	receipt, age := s.clock.read()
	if age == 0 || receipt != age { // in doubt
		return age, nil
	}
	s.mu.Lock()
	dates := s.undated > 0 || s.newest > seconds(age)+uint32(slack/time.Second)
	shows := s.ledger.clock == 0 || s.ledger.clock > age || age-s.ledger.clock >= clockPause.Milliseconds()
	s.mu.Unlock()
	var frames [][]byte
	if dates {
		frames = append(frames, timeFrame(frameDate, age, nil))
	}
	if shows {
		frames = append(frames, timeFrame(frameClock, age, nil))
	}
	if len(frames) == 0 {
		return age, nil
	}
	return age, s.append(ctx, write{frames: frames, room: s.moving(), settle: func(at []wal.Pos) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, p := range at {
			s.written(spotAt(p, frameHead))
		}
		if dates {
			s.dateAll([]dating{{at[0], seconds(age)}})
		}
		if shows {
			s.showed(age, spotAt(at[len(at)-1], frameHead))
		}
	}})
}

// raiseAll raises the floors that may rise.
func (s *Store) raiseAll(ctx context.Context, age int64) error {
	f := s.o.Fleet()
	var batch []raise
	for _, c := range s.sweepOrder(age > 0) {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, ok, err := s.raiseOf(f, c, age)
		if err != nil {
			return err
		}
		if ok {
			batch = append(batch, r)
		}
		if len(batch) == maxRaise {
			if err := s.raiseBatch(ctx, batch); err != nil {
				return err
			}
			batch = nil
		}
	}
	return s.raiseBatch(ctx, batch)
}

// raise is a floor on its way to the disk.
type raise struct {
	chain journal.Chain
	past  past
	frame []byte
}

// swept is a chain to look at.
type swept struct {
	chain journal.Chain
	over  bool // its device has begun another one since
}

// sweepOrder returns the chains that hold something.
func (s *Store) sweepOrder(dated bool) (all []swept) {
	type lane struct {
		device edge.ID
		stream string
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := map[lane]uint32{}
	for c, h := range s.chains {
		l := lane{c.Device, c.Stream}
		newest[l] = max(newest[l], h.newest)
	}
	for c, h := range s.chains {
		if len(h.blocks) > 0 {
			all = append(all, swept{c, dated && newest[lane{c.Device, c.Stream}] > h.newest})
		}
	}
	return all
}

// raiseOf returns how far the floor of a chain may rise, if at all.
func (s *Store) raiseOf(f *fleet.Fleet, c swept, age int64) (r raise, ok bool, err error) {
	_, counts := transport.Extent(f, c.chain)
	s.mu.Lock()
	h := s.chains[c.chain]
	if h == nil {
		s.mu.Unlock()
		return r, false, nil
	}
	rule := s.rule(f, c.chain, age)
	if c.over || !counts {
		rule.quiet = followTime
	}
	floor, why := rule.floor(h)
	seq, last, below := h.below(floor)
	newest := h.newest
	rises := below && floor > h.past.floor
	s.mu.Unlock()
	if !rises {
		return r, false, nil
	}
	raw, _, err := s.read(c.chain, seq, last)
	if err != nil || raw == nil { // damaged: another one is the last
		return r, false, err
	}
	_, _, signed, err := peek(raw)
	if err != nil {
		return r, false, err
	}
	r = raise{chain: c.chain, past: past{floor: floor, why: why, last: journal.Link{Seq: seq, Hash: last.hash}, newest: newest}}
	r.frame, err = r.past.encode(c.chain, signed)
	return r, err == nil, err
}

// raiseBatch makes floors durable, and then lets them count.
func (s *Store) raiseBatch(ctx context.Context, batch []raise) error {
	if len(batch) == 0 {
		return nil
	}
	var frames [][]byte
	for _, r := range batch {
		frames = append(frames, r.frame)
	}
	return s.append(ctx, write{frames: frames, room: s.moving(), settle: func(at []wal.Pos) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, r := range batch {
			r.past.at = spotAt(at[i], len(r.frame))
			s.written(r.past.at)
			h := s.chain(r.chain)
			s.raise(h, r.past)
			s.stats.LetGo[r.past.why] += uint64(s.letGo(h))
		}
	}})
}

// forgetPast bounds what is remembered of what is gone.
func (s *Store) forgetPast() {
	f := s.o.Fleet()
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := map[edge.ID][]*held{}
	for c, h := range s.chains {
		if len(h.blocks) == 0 && len(h.flights) == 0 {
			gone[c.Device] = append(gone[c.Device], h)
		}
	}
	for _, all := range gone {
		slices.SortFunc(all, func(a, b *held) int {
			return cmp.Or(cmp.Compare(b.newest, a.newest), b.past.at.pos().Compare(a.past.at.pos()))
		})
		for _, h := range all[min(len(all), maxPast):] {
			s.dead(h.past.at)
			delete(s.chains, h.chain)
		}
	}
	for id, b := range s.books {
		for c, m := range b.marks {
			h := s.chains[c]
			if !f.Is(id, fleet.Collector) || h != nil && len(h.blocks) == 0 && m.Seq < h.past.floor {
				s.lose(b, m.in)
				delete(b.marks, c)
			}
		}
		if len(b.marks) == 0 {
			delete(s.books, id)
		}
	}
}
