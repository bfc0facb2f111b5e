// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
)

// After an error of the disk the log is opened again by the first call that comes after a pause between these.
const (
	minDelay = time.Second
	maxDelay = time.Minute
)

// StartEpoch begins a new epoch of a stream, and the stream itself the first time after Open: with a fresh key that is
// wrapped for the readers. It returns once the epoch's segment is fsynced. The outbox remembers the readers, and begins
// another epoch for them by itself where an error of the disk ends an incarnation.
func (b *Outbox) StartEpoch(ctx context.Context, name string, readers []journal.Reader, at journal.Stamp) (*journal.Segment, error) {
	return b.write(ctx, name, func(s *stream) (*journal.Segment, error) {
		s.readers = slices.Clone(readers)
		return b.startEpoch(s, at)
	})
}

// Seal makes one segment of readings, which must be of one boot and one clock (journal.Writer.Readings), and returns it
// once it is fsynced. After an error the readings are the caller's still; they count as taken out of the spool only
// when there is none. Gaps that the stream's readers do not know of are told first. ErrNoEpoch: StartEpoch comes first.
func (b *Outbox) Seal(ctx context.Context, name string, boot journal.BootID, readings []edge.Reading) (*journal.Segment, error) {
	var at journal.Stamp
	if len(readings) > 0 {
		at = journal.Stamp{Boot: boot, At: readings[len(readings)-1].At}
	}
	return b.write(ctx, name, func(s *stream) (*journal.Segment, error) {
		if err := b.prepare(s, at); err != nil {
			return nil, err
		}
		seg, err := s.writer.Readings(boot, readings)
		if err != nil {
			return nil, err
		}
		return seg, b.commit(s, seg, nil, uint64(len(readings)))
	})
}

// Note makes one segment of a note about the log itself; otherwise as Seal.
func (b *Outbox) Note(ctx context.Context, name string, n journal.Note, at journal.Stamp) (*journal.Segment, error) {
	return b.write(ctx, name, func(s *stream) (*journal.Segment, error) {
		if err := b.prepare(s, at); err != nil {
			return nil, err
		}
		seg, err := s.writer.Note(n, at)
		if err != nil {
			return nil, err
		}
		return seg, b.commit(s, seg, nil, 0)
	})
}

// write runs one write to a stream. ctx counts until it begins: what has begun is seen through, so that nothing is left
// in doubt by a caller who goes away.
func (b *Outbox) write(ctx context.Context, name string, do func(*stream) (*journal.Segment, error)) (*journal.Segment, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := b.ready(ctx); err != nil {
		return nil, fmt.Errorf("outbox: writing stream %s: %w", name, err)
	}
	seg, err := b.writeLocked(name, do)
	if errors.Is(err, wal.ErrFailed) {
		b.fail(err)
	}
	if err != nil {
		return nil, fmt.Errorf("outbox: writing stream %s: %w", name, err)
	}
	b.worked()
	return seg, nil
}

func (b *Outbox) writeLocked(name string, do func(*stream) (*journal.Segment, error)) (*journal.Segment, error) {
	b.life.RLock()
	defer b.life.RUnlock()
	if b.closed {
		return nil, ErrClosed
	}
	if b.failed != nil {
		return nil, b.failed
	}
	b.mu.Lock()
	s := b.streams[name]
	if s == nil {
		s = &stream{name: name}
		b.streams[name] = s
	}
	b.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return do(s)
}

// prepare sees that the stream has an epoch and tells its gaps.
func (b *Outbox) prepare(s *stream, at journal.Stamp) error {
	if !s.open {
		if len(s.readers) == 0 {
			return ErrNoEpoch
		}
		if _, err := b.startEpoch(s, at); err != nil {
			return err
		}
	}
	untold := b.takeGaps(s.name)
	for i, g := range untold {
		if err := b.tell(s, g, at); err != nil {
			b.untold(untold[i:])
			return err
		}
	}
	return nil
}

// takeGaps takes the stream's gaps out, so that none of them grows while it is told.
func (b *Outbox) takeGaps(name string) []gap {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.gaps[name]
	delete(b.gaps, name)
	for _, g := range out {
		b.telling[g.ID] = g
	}
	return out
}

// untold puts gaps back that could not be told.
func (b *Outbox) untold(gaps []gap) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range gaps {
		delete(b.telling, g.ID)
		b.gaps[g.Stream] = append(b.gaps[g.Stream], g)
	}
}

func (b *Outbox) tell(s *stream, g gap, at journal.Stamp) error {
	seg, err := s.writer.Note(journal.Note{Gap: &g.Note}, at)
	if err != nil {
		return err
	}
	return b.commit(s, seg, &g, 0)
}

// startEpoch makes the segment that begins an epoch, in a new incarnation where the old one cannot go on.
func (b *Outbox) startEpoch(s *stream, at journal.Stamp) (*journal.Segment, error) {
	if s.writer == nil {
		if err := b.newWriter(s); err != nil {
			return nil, err
		}
	}
	seg, err := s.writer.Epoch(s.readers, s.after, at)
	if err != nil {
		return nil, err
	}
	if err := b.commit(s, seg, nil, 0); err != nil {
		return nil, err
	}
	s.open, s.after = true, nil
	return seg, nil
}

func (b *Outbox) newWriter(s *stream) error {
	if s.chain != nil && s.resume {
		w, err := journal.ResumeWriter(s.chain.id, s.chain.tip, b.o.Signer)
		if err != nil {
			return err
		}
		s.writer, s.resume = w, false
		return nil
	}
	w, err := journal.NewWriter(b.o.Fleet, s.name, b.o.Signer)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := s.chain; c != nil && c.tip == nil { // nothing of it ever reached the disk; while that is full there is one more with each attempt
		delete(b.chains, c.id.Incarnation)
		b.ring = slices.DeleteFunc(b.ring, func(o *chain) bool { return o == c })
	}
	c := &chain{id: w.Chain()}
	b.chains[c.id.Incarnation] = c
	b.ring = append(b.ring, c)
	s.writer, s.chain = w, c
	return nil
}

// abandon gives an incarnation up whose last segment may or may not be on the disk.
func (s *stream) abandon() {
	s.writer.Abandon()
	if tip := s.writer.Tip(); tip != nil {
		s.after = &journal.Continuation{Incarnation: s.chain.id.Incarnation, Last: *tip}
	}
	s.writer, s.open, s.resume = nil, false, false
}

// commit makes a segment durable and gives it its seq. told is the gap that the segment tells; spooled is how many
// readings went from the spool into it.
func (b *Outbox) commit(s *stream, seg *journal.Segment, told *gap, spooled uint64) error {
	b.mu.Lock()
	b.order++
	m := metaOf(seg, b.order, s.spooled+spooled)
	b.mu.Unlock()
	frame, err := segmentFrame(m, told, seg.Bytes())
	if err != nil {
		s.abandon()
		return err
	}
	if spooled > 0 {
		b.settleDoubts(s)
	}
	pos, unpin, err := b.append(frame)
	if err == nil {
		defer unpin()
		err = s.writer.Commit(seg)
	}
	if errors.Is(err, wal.ErrFailed) {
		b.doubtful(s, seg)
	}
	if err != nil {
		s.abandon()
		return err
	}
	b.index(s, seg, m, told, pos, len(frame))
	b.signal()
	s.spooled = m.spooled
	if spooled > 0 && b.spool != nil {
		if err := b.spool.consumed(s.name, s.spooled); err != nil { // costs room on the disk, nothing else
			b.o.Logger.Warn("outbox: dropping files of the spool", "err", err)
		}
	}
	return nil
}

// doubtful notes a segment that may or may not be on the disk. Its content stays with the caller and is sealed again, so that this one must not be
// published when the log is opened again and it turns up there.
func (b *Outbox) doubtful(s *stream, seg *journal.Segment) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.doubts[seg.Hash] = true
	s.doubts = append(s.doubts, ack{incarnation: seg.Chain.Incarnation, link: seg.Link(), state: givenUp}.frame())
}

// settleDoubts writes with the next segment of readings that what was doubtful is not to be published: only then is its content in another one, should the
// power go.
func (b *Outbox) settleDoubts(s *stream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.acks = append(b.acks, s.doubts...)
	s.doubts = nil
}

// index takes up a segment that is durable at pos.
func (b *Outbox) index(s *stream, seg *journal.Segment, m meta, told *gap, pos wal.Pos, size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	it := item{seq: seg.Seq, epoch: seg.Epoch, order: m.order, hash: seg.Hash, kind: seg.Kind, count: seg.Count,
		file: uint32(pos.File), off: uint32(pos.Off), size: uint32(size), tells: told != nil}
	s.chain.insert(it)
	b.live[it.file]++
	if told != nil {
		b.tellers[it.order] = *told
		delete(b.telling, told.ID)
	}
	s.chain.advance(seg.Link(), seg.Epoch, m.order, m.spooled)
	b.unsent += int64(it.size)
	b.counters.Sealed++
}

// append makes a segment's frame durable, with the acks that wait, and makes room for it where need be. The frame's file
// stays until unpin is called.
func (b *Outbox) append(frame []byte) (at wal.Pos, unpin func(), err error) {
	b.mu.Lock()
	frames := append([][]byte{frame}, b.control()...)
	b.mu.Unlock()
	need := int64(0)
	for _, f := range frames {
		need += int64(len(f)) + 8
	}
	b.makeRoom(need)
	for {
		unpin := b.pin()
		pos, err := b.log.Append(context.Background(), frames...)
		if err == nil {
			return pos[0], unpin, nil
		}
		unpin()
		// The disk is full before the quota is: nothing was written, and the very same bytes may be tried again.
		if !errors.Is(err, wal.ErrFull) || !b.shrink() {
			return wal.Pos{}, nil, err
		}
	}
}

// ready opens a log again that failed, once its pause is over.
func (b *Outbox) ready(ctx context.Context) error {
	b.life.RLock()
	failed := b.failed
	b.life.RUnlock()
	if failed == nil {
		return nil
	}
	b.life.Lock()
	defer b.life.Unlock()
	switch {
	case b.closed:
		return ErrClosed
	case b.failed == nil:
		return nil
	case time.Now().Before(b.retry):
		return b.failed
	}
	if b.log != nil {
		_ = b.log.Close() // its error is the one that brought us here
		b.log = nil
	}
	_, err := b.load(ctx)
	if err == nil {
		err = b.tryDisk()
	}
	if err != nil {
		if !errors.Is(err, wal.ErrFailed) {
			err = fmt.Errorf("%w: %w", wal.ErrFailed, err)
		}
		b.failLocked(err)
		return err
	}
	b.signal()
	return nil
}

// tryDisk writes what does no harm, so that no incarnation is begun for each attempt while a disk can be read and fails at every write. The caller holds
// life for writing.
func (b *Outbox) tryDisk() error {
	b.shrinking.Lock()
	defer b.shrinking.Unlock()
	_, err := b.checkpoint(nil)
	if errors.Is(err, wal.ErrFull) { // that is for the caller's segment to find out
		return nil
	}
	return err
}

// worked ends the alarm of a disk that took a segment again.
func (b *Outbox) worked() {
	b.life.RLock()
	healthy := b.delay == 0
	b.life.RUnlock()
	if healthy {
		return
	}
	b.life.Lock()
	defer b.life.Unlock()
	if b.failed == nil && b.delay != 0 {
		b.delay, b.alarmed = 0, false
		b.o.Logger.Info("outbox: the disk takes segments again, streams have begun a new incarnation", "dir", b.o.Dir)
	}
}

func (b *Outbox) fail(err error) {
	b.life.Lock()
	defer b.life.Unlock()
	if b.failed == nil && !b.closed {
		b.failLocked(err)
	}
}

func (b *Outbox) failLocked(err error) {
	b.delay = min(max(2*b.delay, minDelay), maxDelay)
	b.failed, b.retry = err, time.Now().Add(b.delay)
	if !b.alarmed {
		b.alarmed = true
		b.o.Logger.Error("outbox: disk error, nothing is sealed until the log is opened again", "dir", b.o.Dir, "err", err)
	}
}
