// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/bits"
	"slices"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
	"golang.org/x/time/rate"
)

// The log gives space back by whole files from its beginning. So what counts in its first files is copied to its end where that pays: where of all
// files up to some file at most a half counts, or, when the hub is nearly full, three quarters. Each byte that is copied then frees at least one
// (a third), which had been written once, so that cleaning never more than doubles (quadruples) what is written. Below half of the quota nothing is
// copied, since nobody needs the space; only a hub that has no room left for the words of retention copies whatever gives back anything.
const (
	moveRate  = 4 << 20 // bytes a second
	moveBatch = 1 << 20 // bytes in one write
	maxMove   = maxFile // bytes in one sweep, one file apart
)

// clean gives back the space of what does not count any more.
func (s *Store) clean(ctx context.Context) error {
	pace := rate.NewLimiter(moveRate, moveRate)
	for moved := int64(0); ; {
		if err := s.drop(); err != nil {
			return err
		}
		file, live, pays := s.worst()
		if !pays || moved >= maxMove {
			return nil
		}
		if err := s.empty(ctx, pace, file); err != nil {
			if errors.Is(err, wal.ErrFull) {
				return nil // it waits until more is gone
			}
			return err
		}
		moved += live
	}
}

// drop removes the files at the beginning of the log in which nothing counts. Nobody else uses the log meanwhile: a frame that is durable and not
// yet in the ledger must not be taken for one that does not count.
func (s *Store) drop() error {
	s.disk.RLock()
	_, some := s.droppable()
	s.disk.RUnlock()
	if !some {
		return nil
	}
	s.disk.Lock()
	defer s.disk.Unlock()
	if s.isClosed() {
		return ErrClosed
	}
	before, some := s.droppable()
	if !some {
		return s.failed
	}
	freed, err := s.log.Drop(wal.Pos{File: before})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Freed += uint64(freed)
	if err != nil {
		return err
	}
	for file := range s.space {
		if uint64(file) < before {
			delete(s.space, file)
		}
	}
	return nil
}

// droppable returns the first file that must stay, and whether there is one before it. The caller holds disk.
func (s *Store) droppable() (before uint64, some bool) {
	if s.isClosed() || s.failed != nil {
		return 0, false
	}
	before = s.log.End().File
	s.mu.Lock()
	defer s.mu.Unlock()
	for file, f := range s.space {
		if f.live > 0 {
			before = min(before, uint64(file))
		}
	}
	for file := range s.space {
		some = some || uint64(file) < before
	}
	return before, some
}

// worst returns the first file, and what of it counts, if it pays to copy that.
func (s *Store) worst() (first uint32, bytes int64, pays bool) {
	s.disk.RLock()
	defer s.disk.RUnlock()
	if s.isClosed() || s.failed != nil {
		return 0, 0, false
	}
	active := s.log.End().File
	size := s.log.Size()
	s.mu.Lock()
	defer s.mu.Unlock()
	files := slices.Sorted(maps.Keys(s.space))
	var live, total int64
	for _, file := range files {
		if uint64(file) >= active {
			break
		}
		live, total = live+s.space[file].live, total+s.space[file].total
		if s.pays(live, total, size) {
			bytes = s.space[files[0]].live
			return files[0], bytes, s.o.Quota == 0 || size+bytes <= s.o.Quota
		}
	}
	return 0, 0, false
}

func (s *Store) pays(live, total, size int64) bool {
	switch {
	case s.o.Quota > 0 && size <= s.o.Quota/2:
		return false
	case s.o.Quota > 0 && size > s.o.Quota-s.fileSize()*3/2:
		return live < total
	case s.o.Quota > 0 && size > (s.o.Quota-s.reserve())/8*7:
		return 4*live <= 3*total
	}
	return 2*live <= total
}

// item is a frame that counts: of the kinds that have no more of them, one field is set.
type item struct {
	of    *ledger
	at    spot
	chain journal.Chain // of a segment or a floor
	seq   uint64        // of a segment …
	entry *entry        // … which this is
	proof int           // 1 + its place among the proofs
	mark  *record
	clock bool
}

// empty copies what counts in a file to the end of the log, durably, and lets the copies count instead.
func (s *Store) empty(ctx context.Context, pace *rate.Limiter, file uint32) error {
	var batch []item
	var frames [][]byte
	size := 0
	for _, it := range s.inside(file) {
		frame, err := s.copyOf(&it)
		if err != nil {
			return err
		}
		if frame == nil {
			continue
		}
		batch, frames, size = append(batch, it), append(frames, frame), size+len(frame)
		if size >= int(min(moveBatch, s.fileSize()/2)) {
			if err := s.moveBatch(ctx, pace, batch, frames, size); err != nil {
				return err
			}
			batch, frames, size = nil, nil, 0
		}
	}
	return s.moveBatch(ctx, pace, batch, frames, size)
}

// inside lists what counts in a file, in the order in which it stands there.
func (s *Store) inside(file uint32) (all []item) {
	for _, c := range s.surveyed(nil) {
		s.mu.Lock()
		if h := s.chains[c]; h != nil {
			all = h.inside(all, file)
		}
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, h := range s.chains {
		if h.past.floor > 0 && h.past.at.file == file {
			all = append(all, item{at: h.past.at, chain: c})
		}
	}
	for i := range s.proofs {
		if at := s.proofs[i].at; at.file == file {
			all = append(all, item{at: at, proof: i + 1})
		}
	}
	seen := map[*record]bool{}
	for _, b := range s.books {
		for _, m := range b.marks {
			if m.in.at.file == file && !seen[m.in] {
				seen[m.in] = true
				all = append(all, item{at: m.in.at, mark: m.in})
			}
		}
	}
	if s.ledger.clock > 0 && s.clockAt.file == file {
		all = append(all, item{at: s.clockAt, clock: true})
	}
	for i := range all {
		all[i].of = s.ledger
	}
	slices.SortFunc(all, func(a, b item) int { return cmp.Compare(a.at.off, b.at.off) })
	return all
}

func (h *held) inside(all []item, file uint32) []item {
	for i := range h.blocks {
		b := &h.blocks[i]
		m := b.mask
		for _, e := range b.entries {
			seq := b.index*journal.BucketSize + uint64(bits.TrailingZeros64(m))
			m &= m - 1
			if e.file == file {
				all = append(all, item{at: e.spot, chain: h.chain, seq: seq, entry: &e})
			}
		}
	}
	return all
}

// copyOf returns what to write of an item; nil if it does not count any more.
func (s *Store) copyOf(it *item) ([]byte, error) {
	if it.entry != nil {
		raw, received, err := s.read(it.chain, it.seq, *it.entry)
		if err != nil || raw == nil {
			return nil, err
		}
		return timeFrame(frameDated, received, raw), nil
	}
	frame, err := s.readFrame(it.at.pos())
	if err == nil || s.isClosed() {
		return frame, err
	}
	return s.restore(it, err)
}

// restore returns what memory still has of an item whose frame cannot be read.
func (s *Store) restore(it *item, cause error) ([]byte, error) {
	s.o.Logger.Error("store: frame is damaged on disk", "dir", s.dir, "at", it.at.pos().String(), "err", cause)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case it.of != s.ledger:
		return nil, nil
	case it.proof > 0:
		enc, err := journal.Encode(s.proofs[it.proof-1].fork)
		return frameOf(frameFork, enc), err
	case it.clock:
		return timeFrame(frameClock, s.ledger.clock, nil), nil
	case it.mark != nil:
		for _, b := range s.books {
			s.unsay(b, it.mark)
		}
		return nil, nil
	}
	h := s.chains[it.chain]
	if h == nil || h.past.at != it.at {
		return nil, nil
	}
	return h.past.encode(it.chain, nil)
}

// moveBatch writes copies, and lets those count that still are what was copied.
func (s *Store) moveBatch(ctx context.Context, pace *rate.Limiter, batch []item, frames [][]byte, size int) error {
	if len(batch) == 0 {
		return nil
	}
	if err := pace.WaitN(ctx, size); err != nil {
		return err
	}
	return s.append(ctx, write{frames: frames, settle: func(at []wal.Pos) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i := range batch {
			to := spotAt(at[i], len(frames[i]))
			s.written(to)
			if s.relocate(&batch[i], to) {
				s.stats.Moved += uint64(to.size)
			}
		}
	}})
}

// relocate lets a copy count instead of an item. Store.mu is held.
func (l *ledger) relocate(it *item, to spot) bool {
	h := l.chains[it.chain]
	var from *spot
	switch {
	case it.of != l: // the log was opened again meanwhile, and read
		return false
	case it.entry != nil && h != nil:
		return l.moveSegment(h, it, to)
	case it.entry != nil:
		return false
	case it.proof > 0:
		from = &l.proofs[it.proof-1].at
	case it.mark != nil && it.mark.wins > 0:
		from = &it.mark.at
	case it.mark != nil:
		return false
	case it.clock:
		from = &l.clockAt
	case h != nil:
		from = &h.past.at
	}
	if from == nil || *from != it.at {
		return false
	}
	l.dead(it.at)
	l.alive(to)
	*from = to
	return true
}

func (l *ledger) moveSegment(h *held, it *item, to spot) bool {
	e, ok := h.get(it.seq)
	if !ok || e.spot != it.at {
		return false
	}
	l.shares.charge(h.chain.Device, int64(to.size)-int64(e.size))
	l.dead(e.spot)
	l.alive(to)
	e.spot = to
	h.set(it.seq, e)
	return true
}
