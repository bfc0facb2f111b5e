// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
)

// After an error of the disk the log is opened again by the first Put that comes after a pause between these.
const (
	minDelay = time.Second
	maxDelay = time.Minute
)

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

// write is frames on their way to the log.
type write struct {
	frames [][]byte
	signer edge.ID         // charged for them; the zero ID = nobody
	room   int64           // bytes of the quota that they must leave
	settle func([]wal.Pos) // called with their places before the log can be replaced, or cleaned
}

func (w *write) size() (n int64) {
	for _, f := range w.frames {
		n += int64(len(f))
	}
	return n
}

// append makes frames durable.
func (s *Store) append(ctx context.Context, w write) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	err := s.tryAppend(ctx, &w)
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

func (s *Store) tryAppend(ctx context.Context, w *write) error {
	s.disk.RLock()
	defer s.disk.RUnlock()
	if s.isClosed() {
		return ErrClosed
	}
	if s.failed != nil {
		return s.failed
	}
	n := w.size()
	if s.o.Quota > 0 {
		size := s.log.Size()
		if size+n > s.o.Quota-w.room {
			return fmt.Errorf("%w: %d bytes of %d are used", wal.ErrFull, size, s.o.Quota)
		}
		if w.signer != (edge.ID{}) {
			if err := s.shares.take(w.signer, n, s.o.Quota-w.room-size-n); err != nil {
				return err
			}
		}
	} else if w.signer != (edge.ID{}) {
		s.shares.charge(w.signer, n)
	}
	// Once handed to the log the frames may become durable whatever the caller does, so their places must be learnt.
	pos, err := s.log.Append(context.WithoutCancel(ctx), w.frames...)
	if err != nil {
		if w.signer != (edge.ID{}) {
			s.shares.give(w.signer, n)
		}
		return err
	}
	w.settle(pos)
	return nil
}

// fileSize is how much a file of the log takes, in bytes: space is given back by whole files.
func (s *Store) fileSize() int64 {
	if s.o.Quota == 0 {
		return maxFile
	}
	return min(max(s.o.Quota/64, minFile), maxFile)
}

// Of the quota one file is left for moving what counts out of another one, and one for the words of retention: so that a full hub can let go.
func (s *Store) moving() int64 {
	if s.o.Quota == 0 {
		return 0
	}
	return s.fileSize()
}

// reserve is what of the quota segments may not take.
func (s *Store) reserve() int64 { return 2*s.moving() + min(s.o.Quota/16, 1<<20) }

// read returns a segment and when it was first received, or nil when it is not held any more, or cannot be read back: then it is not held from
// now on.
func (s *Store) read(chain journal.Chain, seq uint64, e entry) ([]byte, int64, error) {
	for {
		frame, err := s.readFrame(e.pos())
		if err == nil {
			received, raw, err := segmentOf(frame)
			if seconds(received) != e.received { // dated later
				received = int64(e.received) * 1000
			}
			return raw, received, err
		}
		if !errors.Is(err, wal.ErrCorrupt) && !errors.Is(err, wal.ErrGone) && !errors.Is(err, syscall.EIO) {
			return nil, 0, fmt.Errorf("store: reading seq %d of %s: %w", seq, chain, err)
		}
		now, moved := s.missing(chain, seq, e, err)
		if !moved {
			return nil, 0, nil
		}
		e = now
	}
}

// missing notes that a segment could not be read, unless it was moved meanwhile.
func (s *Store) missing(chain journal.Chain, seq uint64, e entry, cause error) (now entry, moved bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.chains[chain]
	if h == nil {
		return entry{}, false
	}
	if now, ok := h.get(seq); ok && now.hash == e.hash && now != e {
		return now, true
	}
	if s.remove(h, seq, e) {
		s.stats.Damaged++
		s.o.Logger.Error("store: segment is damaged on disk and counts as not held", "chain", chain.String(), "seq", seq, "err", cause)
	}
	return entry{}, false
}

func (s *Store) readFrame(p wal.Pos) ([]byte, error) {
	s.disk.RLock()
	defer s.disk.RUnlock()
	if s.isClosed() || s.log == nil {
		return nil, ErrClosed
	}
	return s.log.Read(p)
}
