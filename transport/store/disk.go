// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/transport"
)

// After an error of the disk the log is opened again by the first Put that comes after a pause between these.
const (
	minDelay = time.Second
	maxDelay = time.Minute
)

// loading is an index while the log is read.
type loading struct {
	store   *Store
	fleet   journal.FleetID
	chains  map[journal.Chain]*held
	forks   []journal.Fork
	forked  map[journal.Chain][]uint64
	used    map[edge.ID]int64
	skipped uint64
}

// load opens the log and builds the index anew. The caller has the store to himself or holds disk for writing.
func (s *Store) load(ctx context.Context) error {
	l := &loading{store: s, fleet: s.o.Fleet().ID(), chains: map[journal.Chain]*held{}, forked: map[journal.Chain][]uint64{},
		used: map[edge.ID]int64{}}
	log, rec, err := wal.Open(s.dir, wal.Options{FileSize: maxFile, MaxFrame: journal.MaxSegment + 1, Quota: s.o.Quota,
		Logger: s.o.Logger, Wrap: s.o.Wrap}, func(p wal.Pos, frame []byte) error {
		l.frame(p, frame)
		return ctx.Err()
	})
	if err != nil {
		return fmt.Errorf("store: opening: %w", err)
	}
	if rec.Dropped > 0 || l.skipped > 0 {
		s.o.Logger.Warn("store: parts of the log are not readable", "dir", s.dir, "bytes", rec.Dropped, "reason", rec.Reason,
			"skipped_frames", l.skipped)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, old := range s.chains { // puts under way go on
		if len(old.flights) > 0 {
			l.chain(c).flights = old.flights
		}
	}
	s.log, s.failed = log, nil
	s.chains, s.forks, s.forked = l.chains, l.forks, l.forked
	s.stats.Skipped = l.skipped
	s.shares.set(l.used)
	for f := range s.followers { // a write that failed may be durable all the same
		for c := range s.chains {
			f.tell(c, transport.Span{}, true)
		}
	}
	return nil
}

func (l *loading) frame(p wal.Pos, frame []byte) {
	if err := l.take(p, frame); err != nil {
		l.skipped++
		l.store.o.Logger.Warn("store: frame skipped", "dir", l.store.dir, "at", p.String(), "err", err)
	}
}

func (l *loading) take(p wal.Pos, frame []byte) error {
	if frame[0] == frameFork {
		var f journal.Fork
		if err := journal.Decode(frame[1:], &f); err != nil {
			return err
		}
		c, seq, err := f.Prove(l.fleet)
		if err != nil {
			return err
		}
		f.A, f.B = slices.Clone(f.A), slices.Clone(f.B)
		l.used[c.Device] += int64(len(frame))
		l.forks, l.forked[c] = append(l.forks, f), append(l.forked[c], seq)
		return nil
	}
	raw, err := segmentOf(frame)
	if err != nil {
		return err
	}
	h, hash, _, err := peek(raw)
	if err != nil {
		return err
	}
	if h.Chain.Fleet != l.fleet {
		return fmt.Errorf("store: segment of fleet %s: %w", h.Chain.Fleet, journal.ErrWrongFleet)
	}
	l.used[h.Chain.Device] += int64(len(frame))
	// Of two in one place the later one counts: it was taken in because the first was damaged, or did not count any more.
	l.chain(h.Chain).replace(h.Seq, entry{hash: hash, file: uint32(p.File), off: uint32(p.Off)})
	return nil
}

func (l *loading) chain(c journal.Chain) *held {
	h := l.chains[c]
	if h == nil {
		h = &held{chain: c, flights: map[uint64]*flight{}}
		l.chains[c] = h
	}
	return h
}

// reopen opens a log again that failed, once its pause is over; other Puts are refused meanwhile.
func (s *Store) reopen(ctx context.Context) error {
	if !s.reopening.CompareAndSwap(false, true) {
		return errors.New("the log is being opened again")
	}
	defer s.reopening.Store(false)
	s.disk.Lock()
	defer s.disk.Unlock()
	if s.failed == nil {
		return nil
	}
	if s.isClosed() {
		return ErrClosed
	}
	if time.Now().Before(s.retry) {
		return s.failed
	}
	if s.log != nil {
		_ = s.log.Close() // its error is the one that brought us here
		s.log = nil
	}
	if err := s.load(ctx); err != nil {
		s.fail(err)
		return err
	}
	s.delay = 0
	s.o.Logger.Info("store: log opened again after a disk error", "dir", s.dir)
	return nil
}

// fail notes why the log takes nothing. The caller holds disk for writing.
func (s *Store) fail(err error) {
	s.delay = min(max(2*s.delay, minDelay), maxDelay)
	s.failed, s.retry = err, time.Now().Add(s.delay)
	s.o.Logger.Error("store: disk error, nothing is taken until the log is opened again", "dir", s.dir, "err", err, "pause", s.delay)
}

// append makes a frame that signer is charged with durable, and calls settle with its place before the log can be replaced.
func (s *Store) append(ctx context.Context, signer edge.ID, frame []byte, reserve int64, settle func(wal.Pos)) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	err := s.tryAppend(ctx, signer, frame, reserve, settle)
	if errors.Is(err, wal.ErrFailed) {
		s.disk.Lock()
		if s.failed == nil && !s.isClosed() {
			s.fail(err)
		}
		s.disk.Unlock()
	}
	return err
}

func (s *Store) ready(ctx context.Context) error {
	if s.reopening.Load() {
		return fmt.Errorf("%w: it is being opened again", wal.ErrFailed)
	}
	s.disk.RLock()
	failed := s.failed
	s.disk.RUnlock()
	if failed == nil {
		return nil
	}
	if err := s.reopen(ctx); err != nil {
		return fmt.Errorf("%w: %w", wal.ErrFailed, err)
	}
	return nil
}

func (s *Store) tryAppend(ctx context.Context, signer edge.ID, frame []byte, reserve int64, settle func(wal.Pos)) error {
	s.disk.RLock()
	defer s.disk.RUnlock()
	if s.isClosed() {
		return ErrClosed
	}
	if s.failed != nil {
		return s.failed
	}
	if s.o.Quota > 0 {
		size, n := s.log.Size(), int64(len(frame))
		if size+n > s.o.Quota-reserve {
			return fmt.Errorf("%w: %d bytes of %d are used", wal.ErrFull, size, s.o.Quota)
		}
		if err := s.shares.take(signer, n, s.o.Quota-reserve-size-n); err != nil {
			return err
		}
	}
	// Once handed to the log the frame may become durable whatever the caller does, so its place must be learnt.
	pos, err := s.log.Append(context.WithoutCancel(ctx), frame)
	if err != nil {
		if s.o.Quota > 0 {
			s.shares.give(signer, int64(len(frame)))
		}
		return err
	}
	settle(pos[0])
	return nil
}

// read returns a segment, or nil when it cannot be read back any more: then it is not held from now on.
func (s *Store) read(chain journal.Chain, seq uint64, e entry) ([]byte, error) {
	frame, err := s.readFrame(e.pos())
	if err == nil {
		return segmentOf(frame)
	}
	if !errors.Is(err, wal.ErrCorrupt) && !errors.Is(err, wal.ErrGone) && !errors.Is(err, syscall.EIO) {
		return nil, fmt.Errorf("store: reading seq %d of %s: %w", seq, chain, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.chains[chain]; h != nil && h.remove(seq, e) {
		s.stats.Damaged++
		s.o.Logger.Error("store: segment is damaged on disk and counts as not held", "chain", chain.String(), "seq", seq, "err", err)
	}
	return nil, nil
}

func (s *Store) readFrame(p wal.Pos) ([]byte, error) {
	s.disk.RLock()
	defer s.disk.RUnlock()
	if s.isClosed() || s.log == nil {
		return nil, ErrClosed
	}
	return s.log.Read(p)
}
